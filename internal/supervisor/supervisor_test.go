//go:build unix

package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// start runs a supervisor of a shell script in this process.
func start(t *testing.T, script string, stopTimeout time.Duration) (*Client, Spec, <-chan error) {
	t.Helper()
	sockets, err := os.MkdirTemp("", "supervisor-")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := Spec{
		Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: dir,
		Log: filepath.Join(dir, "log"), LogLimit: 4096, Socket: filepath.Join(sockets, "s.sock"),
		Record: filepath.Join(dir, "process.json"), StopTimeout: stopTimeout,
	}
	ready, ended := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ended <- Run(ctx, Options{Spec: s, Ready: func(err error) error { ready <- err; return nil }})
		close(ended)
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		for range ended {
		}
		_ = os.RemoveAll(sockets)
	})
	return NewClient(s.Socket, s.Record), s, ended
}

// await returns the state as soon as ok holds.
func await(t *testing.T, c *Client, ok func(pid, ends int) bool) (pid, ends int, lastEnd string) {
	t.Helper()
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	limit := time.After(10 * time.Second)
	for {
		pid, ends, lastEnd, running, err := c.State(t.Context())
		if err != nil || !running {
			t.Fatalf("running %v, %v", running, err)
		}
		if ok(pid, ends) {
			return pid, ends, lastEnd
		}
		select {
		case <-every.C:
		case <-limit:
			t.Fatalf("pid %d, %d ends, last %q", pid, ends, lastEnd)
		}
	}
}

func log(t *testing.T, s Spec) string {
	t.Helper()
	b, err := os.ReadFile(s.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRestartsWithBackOff(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	c, s, _ := start(t, "echo hello; exit 3", time.Second)
	_, ends, last := await(t, c, func(_, ends int) bool { return ends == 3 })
	if d := time.Since(begun); d < firstBackOff+2*firstBackOff {
		t.Errorf("three ends within %s: no back-off", d)
	}
	if last != "exit status 3" || strings.Count(log(t, s), "hello") < ends {
		t.Errorf("last end %q, log %q", last, log(t, s))
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	c, s, ended := start(t, "trap 'echo bye; exit 0' TERM; echo set; while :; do sleep 0.01; done", 10*time.Second)
	pid, _, _ := await(t, c, func(pid, _ int) bool { return pid != 0 && strings.Contains(log(t, s), "set") })
	if err := c.Stop(t.Context(), s.StopTimeout); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log(t, s), "bye") {
		t.Errorf("it was not asked: %q", log(t, s))
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
	if err := c.Stop(t.Context(), s.StopTimeout); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if _, _, _, running, err := c.State(t.Context()); running || err != nil {
		t.Errorf("running %v, %v", running, err)
	}
	for _, path := range []string{s.Socket, s.Record} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
}

// TestStopForces: a service that does not listen is killed with its children.
func TestStopForces(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("process groups are ended on Linux only")
	}
	c, s, _ := start(t, "trap '' TERM; sleep 1000 & echo child $!; while :; do sleep 0.01; done", 50*time.Millisecond)
	await(t, c, func(pid, _ int) bool {
		b, _ := os.ReadFile(s.Log)
		return pid != 0 && bytes.Contains(b, []byte("child"))
	})
	var child int
	if _, err := fmt.Sscanf(log(t, s), "child %d", &child); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), s.StopTimeout); err != nil {
		t.Fatal(err)
	}
	every := time.NewTicker(5 * time.Millisecond)
	defer every.Stop()
	limit := time.After(5 * time.Second)
	for {
		if _, err := birth(child); err != nil {
			return
		}
		select {
		case <-every.C:
		case <-limit:
			t.Fatalf("child %d still runs", child)
		}
	}
}

func TestCannotBeStarted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := &supervisor{spec: Spec{Argv: []string{filepath.Join(dir, "nothing")}, Log: filepath.Join(dir, "log"), LogLimit: 100}}
	if how := s.once(t.Context()); !strings.Contains(how, "cannot be started") {
		t.Errorf("%q", how)
	}
	if b, err := os.ReadFile(s.spec.Log); err != nil || !bytes.Contains(b, []byte("no such file")) {
		t.Errorf("%q, %v", b, err)
	}
}

func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l, err := openLog(path, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		if _, err := fmt.Fprintf(l, "line %d\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var kept string
	for _, p := range []string{path + ".1", path} {
		b, err := os.ReadFile(p)
		if err != nil || len(b) > 1000 {
			t.Errorf("%s has %d bytes, %v", p, len(b), err)
		}
		kept += string(b)
	}
	if !strings.HasSuffix(kept, "line 498\nline 499\n") {
		t.Errorf("the end is lost: %q", kept[max(0, len(kept)-40):])
	}
}

// TestReap: what a killed supervisor left is ended, but only with proof.
func TestReap(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("processes are told apart on Linux only")
	}
	cmd := exec.Command("/bin/sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	path := filepath.Join(t.TempDir(), "process.json")
	other := fmt.Sprintf(`{"pid":%d,"born":"another boot 1"}`, cmd.Process.Pid)
	for _, content := range []string{other, "{", `{"pid":1,"born":""}`, fmt.Sprintf(`{"pid":%d}`, cmd.Process.Pid)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Reap(path); err != nil {
			t.Errorf("%s: %v", content, err)
		}
		select {
		case <-ended:
			t.Fatalf("%s ended a process that it does not name", content)
		default:
		}
	}
	if err := writeRecord(path, cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if err := Reap(path); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := Reap(path); err != nil {
		t.Errorf("without a record: %v", err)
	}
}

func TestStarterGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	gone := errors.New("gone")
	s := Spec{Argv: []string{"/bin/sh", "-c", "echo ran"}, Log: filepath.Join(dir, "log"), LogLimit: 100, Socket: filepath.Join(dir, "s"), Record: filepath.Join(dir, "r")}
	if err := Run(t.Context(), Options{Spec: s, Ready: func(error) error { return gone }}); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(s.Log); err == nil {
		t.Error("the service was started")
	}
}

func TestReadSpec(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spec.json")
	want := Spec{Argv: []string{"/x"}, Log: "l", LogLimit: 1, Socket: "s", Record: "r"}
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for content, ok := range map[string]bool{string(b): true, "{}": false, "": false, `{"argc":1}`: false} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSpec(path); (err == nil) != ok || err != nil && fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", content, err)
		}
	}
}
