package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// tool is the built program with the arguments that the demo gives it; no other
// file knows its command line.
type tool struct {
	program string
	project string
	// trust is outside the project: whoever can change the project must not be
	// able to change whom deploy trusts.
	trust string
	out   io.Writer
}

// The files that keygen writes into its output directory.
const (
	keyFile   = "signing.pem"
	trustFile = "trust.toml"
)

func newTool(bin, dir, project string, out io.Writer) (*tool, error) {
	program, err := filepath.Abs(filepath.Join(bin, "ultrafast"))
	if err != nil {
		return nil, err
	}
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w; run make build first", err)
	}
	return &tool{program: program, project: project, trust: filepath.Join(dir, "trust"), out: out}, nil
}

// keygen makes the signing key and the trust root that names it, unless they
// are there from an earlier demo.
func (t *tool) keygen(ctx context.Context) (made bool, err error) {
	_, err = os.Stat(filepath.Join(t.trust, keyFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, t.call(ctx, runTimeout, t.out, os.Stderr, "validate", "keygen", "--output-dir", t.trust)
}

// run takes the project through all phases. The code is ours, so the demo may
// run it on kernels that refuse to isolate it; the program says what it got.
func (t *tool) run(ctx context.Context) error {
	return t.call(ctx, runTimeout, t.out, os.Stderr, "run",
		"--min-isolation", "none",
		"--key", filepath.Join(t.trust, keyFile),
		"--trust-root", filepath.Join(t.trust, trustFile))
}

// down stops everything the project runs; nothing to stop is no error. What the
// program says is shown only if it fails.
func (t *tool) down(ctx context.Context) error {
	var said bytes.Buffer
	err := t.call(ctx, downTimeout, &said, &said, "deploy", "down")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// call runs the program in the project. An interruption is passed on, so that
// the program can clean up, and only then enforced.
func (t *tool) call(ctx context.Context, timeout time.Duration, stdout, stderr io.Writer, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.program, args...)
	cmd.Dir = t.project
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ultrafast %s: %w", strings.Join(args[:min(2, len(args))], " "), err)
	}
	return nil
}
