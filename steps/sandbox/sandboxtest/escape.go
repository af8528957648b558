package sandboxtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// outside is what a payload that tries to leave is told of the world outside, so that
// it need not guess.
type outside struct {
	// Secret is a file of the host, Dir a directory that anyone may write, Other the
	// path of a file in another environment.
	Secret, Dir, Other string
	// Listener is the port of a server on every interface of the host, Addresses are
	// the host's; Abstract is a server's name.
	Listener  string
	Addresses []string
	Abstract  string
	// PIDs are processes of the host.
	PIDs []int
	// Setuid is a program of root's with the set-user-ID bit, as a path inside.
	Setuid string
}

// outcome is what became of one attempt.
type outcome struct {
	Name string
	// Refused says in what words; empty if it was not.
	Refused string
	// Got is what an attempt that was not refused got hold of.
	Got string
}

// escape runs every attempt to leave that the level promises to refuse. Each must fail,
// and the world outside must be as it was.
func (s *suite) escape(t *testing.T) {
	if escapes == nil {
		t.Skip("the attempts are written for Linux on amd64 and arm64")
	}
	e := s.environment(t, sandbox.Limits{})
	world, check := s.outside(t)
	var list []outcome
	notPromised := 0
	run := func(name string, from sandbox.Level, attempt func(t *testing.T) outcome) {
		if s.Level < from {
			notPromised++
			return
		}
		t.Run(name, func(t *testing.T) {
			o := attempt(t)
			list = append(list, o)
			switch why, known := s.Exceptions[name]; {
			case o.Refused == "" && known:
				t.Logf("not refused: %s; %s", o.Got, why)
			case o.Refused == "":
				t.Errorf("ESCAPED: %s", o.Got)
			case known:
				t.Errorf("refused (%s), so it is no exception", o.Refused)
			}
		})
	}
	outcomes := s.attempts(t, e, world)
	for _, a := range escapes {
		run(a.name, a.from, func(t *testing.T) outcome {
			if a.name == seeProcesses {
				seesOthers(t, e)
			}
			i := slices.IndexFunc(outcomes, func(o outcome) bool { return o.Name == a.name })
			if i < 0 {
				t.Fatal("the payload ended without a word on it")
			}
			return outcomes[i]
		})
	}
	run("signals to every process", sandbox.Full, func(t *testing.T) outcome { return s.signalEveryone(t, e, world) })
	run("input into the terminal", sandbox.Full, func(t *testing.T) outcome { return s.typeAhead(t, e) })
	run("fork bomb", sandbox.Full, s.forkBomb)
	for _, how := range []string{"heap", "shared memory", "memory files", "pipes"} {
		run("memory bomb: "+how, sandbox.Full, func(t *testing.T) outcome { return s.memoryBomb(t, how) })
	}
	run("disk fill of every writable mount", sandbox.Full, s.diskFill)
	check(t)
	// The supervisor is there, and does its work.
	s.payload(t, e, "exit", "0").want(t, "")
	s.report(t, list, notPromised)
}

// seeProcesses is the attempt that a back end may say it does not refuse.
const seeProcesses = "see processes of the host"

// seesOthers skips a test about processes outside where the back end says that they
// can be seen.
func seesOthers(t *testing.T, e sandbox.Environment) {
	t.Helper()
	for _, en := range e.Effective().Enforced {
		if en.Name == "processes" && en.By == notEnforced {
			t.Skipf("the back end says so: %s", en.Value)
		}
	}
}

// report lists the attempts with what refused them.
func (s *suite) report(t *testing.T, list []outcome, notPromised int) {
	t.Helper()
	var b strings.Builder
	refused := 0
	for _, o := range list {
		verdict := "not refused: " + o.Got
		if o.Refused != "" {
			refused++
			verdict = o.Refused
		}
		fmt.Fprintf(&b, "\n  %-38s %s", o.Name, verdict)
	}
	t.Logf("%s, level %s: %d attempts to leave, %d refused; %d more the level does not promise to refuse%s",
		s.backend.Name(), s.Level, len(list), refused, notPromised, &b)
}

// outside makes something to reach for, and returns a check that nobody did.
func (s *suite) outside(t *testing.T) (outside, func(*testing.T)) {
	t.Helper()
	// Not in the system's temporary directory, which a container has its own of.
	dir, err := os.MkdirTemp("/var/tmp", "sandboxtest-outside-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	secret := filepath.Join(dir, "secret")
	keep(t, secret, "secret")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	w := outside{Secret: secret, Dir: dir, PIDs: []int{os.Getpid(), os.Getppid()}}
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w.Listener = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	go greet(l)
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil {
			w.Addresses = append(w.Addresses, ip.IP.String())
		}
	}
	w.Abstract = "@sandboxtest-" + markOf(t)
	u, err := net.Listen("unix", w.Abstract)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	go greet(u)
	w.Other = s.neighbour(t)
	witness := s.witness(t)
	w.PIDs = append(w.PIDs, witness.Process.Pid)
	before := hostState()
	return w, func(t *testing.T) {
		t.Helper()
		if got := readFile(t, secret); got != "secret" {
			t.Errorf("the host's file has %q", got)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
			t.Errorf("the host's directory has %v, %v", entries, err)
		}
		if now := hostState(); now != before {
			t.Errorf("the host was changed: %s, it was %s", now, before)
		}
		if !alive(witness) {
			t.Error("a process of the host was ended")
		}
	}
}

func greet(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "hello")
		c.Close()
	}
}

// neighbour is another environment, in which a container keeps a file; it returns where
// that would be for one who could get at it.
func (s *suite) neighbour(t *testing.T) string {
	t.Helper()
	other, err := s.new(t).Create(deadline(t), sandbox.EnvironmentSpec{Name: "neighbour-" + markOf(t), MinIsolation: s.Level})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	m := sandbox.Mount{Kind: sandbox.Scratch, Target: "/neighbour"}
	spec := s.spec(other, "neighbour")
	spec.Mounts = append(spec.Mounts, m)
	path := other.Path(spec.Name, m) + "/secret"
	spec.Argv = append(s.spec(other, "neighbour", "keep", path).Argv, "secret")
	s.running(t, other, spec)
	return path
}

// witness is a process of the host.
func (s *suite) witness(t *testing.T) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, payloadArg, "hold")
	ready := newAwait(readyLine)
	cmd.Stdout = ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	select {
	case <-ready.seen:
	case <-deadline(t).Done():
		t.Fatal("the witness does not start")
	}
	return cmd
}

// attempts runs those that can share a container, each in a process of its own.
func (s *suite) attempts(t *testing.T, e sandbox.Environment, w outside) []outcome {
	t.Helper()
	spec := s.spec(e, "attempts")
	if m, ok := s.setuid(t); ok {
		w.Setuid = e.Path(spec.Name, m)
		spec.Mounts = append(spec.Mounts, m)
	}
	names := []string{}
	for _, a := range escapes {
		if s.Level >= a.from {
			names = append(names, a.name)
		}
	}
	told, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	spec.Argv = append(s.spec(e, spec.Name, "attempts", string(told)).Argv, names...)
	r := run(t, e, spec)
	if !r.OK() {
		t.Errorf("%s: %s", r.ExitStatus, r.err)
	}
	var list []outcome
	for line := range strings.Lines(r.out) {
		var o outcome
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, o)
	}
	return list
}

// setuid is a mount with a copy of the payload that would run as root.
func (s *suite) setuid(t *testing.T) (sandbox.Mount, bool) {
	t.Helper()
	if os.Geteuid() != 0 {
		return sandbox.Mount{}, false
	}
	path := filepath.Join(t.TempDir(), "setuid")
	b, err := os.ReadFile(s.Executable)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	return sandbox.Mount{Kind: sandbox.ReadOnly, Source: path, Target: "/opt/setuid"}, true
}

// signalEveryone has a container of its own, which it may end: it must end no other.
func (s *suite) signalEveryone(t *testing.T, e sandbox.Environment, w outside) outcome {
	o := outcome{Name: "signals to every process"}
	bystander := s.running(t, e, s.spec(e, "bystander", "hold"))
	var pids []string
	for _, pid := range w.PIDs {
		pids = append(pids, strconv.Itoa(pid))
	}
	r := run(t, e, s.spec(e, "signals", append([]string{"signals"}, pids...)...))
	if !strings.Contains(r.out, readyLine) {
		t.Errorf("it did not begin: %s %s", r.ExitStatus, r.err)
	}
	// A container that was ended answers at once; one that was not ends by our signal.
	if err := bystander.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if st, err := bystander.Wait(deadline(t)); err != nil || st.Code != 42 {
		o.Got = fmt.Sprintf("another container ended: %s %v", st, err)
		return o
	}
	o.Refused = "nobody else was reached; it ended with " + r.ExitStatus.String()
	return o
}

// typeAhead types a command into the terminal that is its standard input.
func (s *suite) typeAhead(t *testing.T, e sandbox.Environment) outcome {
	o := outcome{Name: "input into the terminal"}
	terminal, master, err := openTerminal()
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	defer terminal.Close()
	spec := s.spec(e, "terminal", "type")
	spec.Stdin = terminal
	r := run(t, e, spec)
	if o.Refused = strings.TrimSpace(r.err); r.OK() {
		o.Refused, o.Got = "", "the terminal took it"
	}
	return o
}

// forkBomb starts processes that start processes.
func (s *suite) forkBomb(t *testing.T) outcome {
	o := outcome{Name: "fork bomb"}
	if !slices.Contains(s.Limited, "pids") {
		t.Skip("the back end cannot limit the processes of a tree here")
	}
	const limit = 48
	e := s.environment(t, sandbox.Limits{PIDs: limit})
	mark := markOf(t)
	ready := newAwait(readyLine)
	spec := s.spec(e, "bomb", "bomb", mark)
	spec.Stdout = ready
	c := start(t, e, spec)
	select {
	case <-ready.seen: // some process was refused another
	case <-deadline(t).Done():
		t.Errorf("nothing refuses a process: %s", ready)
	}
	// Threads count as well, so there are fewer processes.
	if n := len(marked(t, mark)); n > limit {
		o.Got = fmt.Sprintf("%d processes under a limit of %d", n, limit)
	} else {
		o.Refused = fmt.Sprintf("no more than %d processes, resource temporarily unavailable", n)
	}
	if err := c.Kill(deadline(t)); err != nil {
		t.Error(err)
	}
	none(t, mark)
	return o
}

// memoryBomb takes four times the limit, in one of the ways there are.
func (s *suite) memoryBomb(t *testing.T, how string) outcome {
	o := outcome{Name: "memory bomb: " + how}
	if !slices.Contains(s.Limited, "memory") {
		t.Skip("the back end cannot limit the memory of a tree here")
	}
	const limit = 64 << 20
	e := s.environment(t, sandbox.Limits{Memory: limit, Files: 4096})
	r := run(t, e, s.spec(e, "bomb", "hoard", how, strconv.Itoa(4*limit)))
	switch {
	case r.OK():
		o.Got = fmt.Sprintf("four times the limit of %d bytes", limit)
	case r.OOM:
		o.Refused = "killed: out of memory"
	default:
		o.Refused = strings.TrimSpace(r.ExitStatus.String() + " " + r.err)
	}
	return o
}

// diskFill writes into every mount that can be written.
func (s *suite) diskFill(t *testing.T) outcome {
	o := outcome{Name: "disk fill of every writable mount"}
	const limit = 8 << 20
	e := s.environment(t, sandbox.Limits{Disk: limit, Memory: 512 << 20})
	spec := s.spec(e, "fill")
	spec.Mounts = append(spec.Mounts,
		sandbox.Mount{Kind: sandbox.Scratch, Target: "/scratch"},
		sandbox.Mount{Kind: sandbox.Overlay, Source: t.TempDir(), Target: "/overlay"})
	spec.Argv = s.spec(e, "fill", "fill-all", strconv.Itoa(4*limit)).Argv
	r := run(t, e, spec)
	if o.Refused = strings.TrimSpace(r.out); !r.OK() || o.Refused == "" {
		o.Refused, o.Got = "", r.ExitStatus.String()+" "+r.err
	}
	return o
}

// hostState is what must not change outside, in words.
func hostState() string {
	var b bytes.Buffer
	for _, file := range []string{"/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper", "/proc/sys/kernel/domainname"} {
		content, err := os.ReadFile(file)
		fmt.Fprintf(&b, "%s %q %v, ", file, content, err)
	}
	return b.String()
}

// alive reports whether a payload that holds was not ended by anybody else: it ends by
// our signal, and says so.
func alive(cmd *exec.Cmd) bool {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return false
	}
	code := make(chan int, 1)
	go func() {
		st, err := cmd.Process.Wait()
		if err != nil {
			code <- -1
			return
		}
		code <- st.ExitCode()
	}()
	select {
	case c := <-code:
		return c == 42
	case <-time.After(Patience):
		return false // it was stopped
	}
}
