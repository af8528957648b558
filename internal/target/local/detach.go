package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// report is the one line that a started process writes on its standard output.
type report struct {
	Ready bool   `json:"ready"`
	Kind  string `json:"kind,omitempty"`
	Hint  string `json:"hint,omitempty"`
	Error string `json:"error,omitempty"`
}

// Report returns the function by which a router's or a supervisor's process tells
// whoever started it how that went: in one line on w, its standard output. It is
// meant for the Ready option of both. It fails if nobody reads any more.
func Report(w io.Writer) func(error) error {
	return func(err error) error {
		line := report{Ready: err == nil}
		if err != nil {
			line.Kind, line.Hint, line.Error = fault.KindOf(err).String(), fault.HintOf(err), err.Error()
		}
		return json.NewEncoder(w).Encode(line)
	}
}

const (
	startTimeout = 10 * time.Second
	maxReport    = 64 << 10
)

// detach starts a process that outlives this one and returns when it reports to
// be ready. If it does not, it has ended when detach returns.
func (t *Target) detach(ctx context.Context, what, logFile string, argv []string) error {
	if err := t.makeSocketDir(); err != nil {
		return err
	}
	log, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fault.New(fault.Unavailable, "", "start %s: %w", what, err)
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return fault.New(fault.Unavailable, "", "start %s: %w", what, err)
	}
	defer read.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = t.dir, append(inherited(), t.o.Env...)
	cmd.Stdout, cmd.Stderr = write, log
	cmd.SysProcAttr = detached()
	err = cmd.Start()
	if err = errors.Join(err, write.Close()); err != nil {
		return fault.New(fault.Unavailable, "", "start %s: %w", what, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	said := make(chan report, 1)
	go func() { said <- readReport(read) }()
	limit := time.NewTimer(startTimeout)
	defer limit.Stop()
	select {
	case r := <-said:
		if r.Ready {
			return nil
		}
		<-ended
		return r.err(what, log.Name())
	case <-limit.C:
		err = fault.New(fault.Unavailable, "see "+log.Name(), "%s does not report within %s", what, startTimeout)
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	_ = cmd.Process.Kill() // it is our child and not waited for, so it is the one meant
	<-ended
	return err
}

// readReport reads the line; the zero report if the process ended without one.
func readReport(r io.Reader) (line report) {
	b, err := bufio.NewReader(io.LimitReader(r, maxReport)).ReadBytes('\n')
	if err != nil || json.Unmarshal(b, &line) != nil {
		return report{}
	}
	return line
}

// err returns what the process reported, with its kind.
func (r report) err(what, log string) error {
	if r.Error == "" {
		return fault.New(fault.Internal, "see "+log, "%s ended before it was ready: %s", what, tail(log, 5))
	}
	for _, k := range []fault.Kind{fault.Finding, fault.Usage, fault.Unavailable, fault.Interrupted} {
		if k.String() == r.Kind {
			return fault.New(k, r.Hint, "%s", r.Error)
		}
	}
	return fault.New(fault.Internal, r.Hint, "%s", r.Error)
}

// inherited is the part of our environment that a long-lived process may have.
// The rest, with the tokens of a CI job in it, ends with the job.
func inherited() []string {
	names := []string{"PATH", "HOME", "TMPDIR", "TMP", "TEMP", "LANG", "SYSTEMROOT", "GODEBUG"}
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains(names, strings.ToUpper(name)) {
			env = append(env, kv)
		}
	}
	return env
}

// maxTail bounds how much of the end of a log is read, in bytes.
const maxTail = 8 << 10

// tail returns the last lines of a log file, in one line if there is one.
func tail(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return "no log"
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxTail {
		if _, err := f.Seek(-maxTail, io.SeekEnd); err != nil {
			return "no log"
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTail))
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	if err != nil || all[0] == "" {
		return "it wrote nothing"
	}
	all = all[max(0, len(all)-lines):]
	if len(all) == 1 {
		return fmt.Sprintf("it wrote %q", all[0])
	}
	return "its last lines:\n  " + strings.Join(all, "\n  ")
}
