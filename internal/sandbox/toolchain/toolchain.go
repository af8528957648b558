// Package toolchain finds the installations of languages on the host, and keeps the
// standard library of Go compiled, so that a clean room that starts empty still builds
// fast.
//
// It asks the host's own programs what they are, and runs its go command on the standard
// library alone: never on code that is to be tested. It never downloads a toolchain.
package toolchain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const hintInstall = "install Go from https://go.dev/dl and put its bin directory in PATH"

// Toolchain is an installation of Go or another language.
type Toolchain struct {
	// Root is its GOROOT, or the prefix of the installation: an absolute path without
	// symbolic links.
	Root string
	// Program is its main program, below Root; empty for Go, see [Toolchain.Go].
	Program string
	// Version is as `go env GOVERSION` has it, "go1.26.0", or the name of the language
	// with its version, "python 3.12.1".
	Version string
	// OS and Arch are what it builds for unless told otherwise.
	OS, Arch string
	// Target is the platform as rustc names it; empty for other languages.
	Target string
	// build tells builds of one version apart; empty if the program's digest does.
	build string
	// Digest names the version and the content of the programs that make code:
	// equal installations have equal digests wherever they are.
	Digest state.Digest
}

// Platform returns OS and Arch as "linux/amd64".
func (t Toolchain) Platform() string { return t.OS + "/" + t.Arch }

// Go returns the path of the go command below root, which is [Toolchain.Root] or
// the place where that directory is mounted.
func (t Toolchain) Go(root string) string { return filepath.Join(root, "bin", "go"+exe()) }

// Find returns the installation whose go command is first in PATH. No go command,
// or one that does not work, is an error of kind fault.Unavailable.
func Find(ctx context.Context) (Toolchain, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return Toolchain{}, fault.New(fault.Unavailable, hintInstall, "find the go command: %w", err)
	}
	return At(ctx, path)
}

// At returns the installation of the go command at path.
func At(ctx context.Context, path string) (Toolchain, error) {
	t, tools, err := ask(ctx, path)
	if err != nil {
		return Toolchain{}, fault.Wrap(err, fault.Unavailable, hintInstall, "ask "+path+" about its installation")
	}
	if t.Digest, err = digest(ctx, t, tools); err != nil {
		return Toolchain{}, fault.Wrap(err, fault.Unavailable, hintInstall, "read the Go installation in "+t.Root)
	}
	return t, nil
}

func ask(ctx context.Context, path string) (t Toolchain, tools string, err error) {
	var answer struct{ GOROOT, GOVERSION, GOOS, GOARCH, GOTOOLDIR string }
	// In the root directory no go.mod can ask for another toolchain. Nothing of
	// the caller's Go settings counts: they would make two machines differ.
	out, err := run(ctx, string(filepath.Separator), []string{"GOENV=off", "GOTOOLCHAIN=local", "GOWORK=off"},
		path, "env", "-json", "GOROOT", "GOVERSION", "GOOS", "GOARCH", "GOTOOLDIR")
	if err != nil {
		return t, "", err
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return t, "", fmt.Errorf("go env answers %.200q: %w", out, err)
	}
	if answer.GOROOT == "" || answer.GOVERSION == "" || answer.GOTOOLDIR == "" {
		return t, "", fmt.Errorf("go env answers %.200q, which names no installation", out)
	}
	root, err := filepath.EvalSymlinks(answer.GOROOT)
	if err != nil {
		return t, "", err
	}
	return Toolchain{Root: root, Version: answer.GOVERSION, OS: answer.GOOS, Arch: answer.GOARCH}, answer.GOTOOLDIR, nil
}

// digest hashes what decides over the bytes that a build gives, about 60 MB.
func digest(ctx context.Context, t Toolchain, tools string) (state.Digest, error) {
	h := state.NewHasher()
	fmt.Fprintf(h, "toolchain 1\n%s\n%s\n", t.Version, t.Platform())
	for _, file := range []string{
		t.Go(t.Root), filepath.Join(tools, "asm"+exe()), filepath.Join(tools, "compile"+exe()),
		filepath.Join(tools, "link"+exe()), filepath.Join(tools, "vet"+exe()),
	} {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		sum, err := digestFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %s\n", strings.TrimSuffix(filepath.Base(file), ".exe"), sum)
	}
	return h.Digest(), nil
}

func digestFile(path string) (_ state.Digest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := state.NewHasher()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return h.Digest(), nil
}

func exe() string {
	if runtime.GOOS == "windows" {
		return ".exe"
	}
	return ""
}
