package sandboxtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func (s *suite) exitCodes(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	for _, code := range []int{0, 1, 7, 125, 255} {
		r := s.payload(t, e, "exit", strconv.Itoa(code))
		if r.Code != code || r.OK() != (code == 0) || r.Signal != "" {
			t.Errorf("%+v, want code %d", r.ExitStatus, code)
		}
		if r.Wall <= 0 {
			t.Errorf("wall time %s", r.Wall)
		}
	}
}

func (s *suite) streams(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	spec := s.spec(e, "echo", "copy", "to stderr", "$HOME `id` ; exit 3")
	spec.Stdin = strings.NewReader("to stdout\n")
	r := run(t, e, spec)
	r.want(t, "to stdout")
	if want := "to stderr $HOME `id` ; exit 3"; r.err != want {
		t.Errorf("standard error %q, want %q", r.err, want)
	}

	spec = s.spec(e, "environment", "read", "/proc/self/environ")
	spec.Env = []string{"A=1", "EMPTY=", "B=two words"}
	if r = run(t, e, spec); !s.OnlyImages {
		r.want(t, "A=1\x00EMPTY=\x00B=two words\x00")
	}

	one := &bytes.Buffer{}
	spec = s.spec(e, "joined", "copy", "err")
	spec.Stdin, spec.Stdout, spec.Stderr = strings.NewReader("out"), one, one
	run(t, e, spec)
	if len(one.String()) != len("errout") {
		t.Errorf("one writer for both streams got %q", one)
	}

	spec = s.spec(e, "nothing", "copy", "x")
	r = run(t, e, spec)
	r.want(t, "")

	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	spec = s.spec(e, "file", "copy")
	spec.Stdin = f
	run(t, e, spec).want(t, "")
}

func (s *suite) workingDirectory(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	m := sandbox.Mount{Kind: sandbox.Scratch, Target: "/work"}
	spec := s.spec(e, "dir", "directory")
	spec.Mounts = append(spec.Mounts, m)
	spec.Dir = e.Path("dir", m)
	run(t, e, spec).want(t, spec.Dir)
}

func (s *suite) cannotStart(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	for name, change := range map[string]func(*sandbox.ContainerSpec){
		"missing command":   func(c *sandbox.ContainerSpec) { c.Argv = []string{"/no/such/command"} },
		"missing in PATH":   func(c *sandbox.ContainerSpec) { c.Argv = []string{"no-such-command"} },
		"missing directory": func(c *sandbox.ContainerSpec) { c.Dir = "/no/such/directory" },
		"not executable":    func(c *sandbox.ContainerSpec) { c.Argv = []string{"/etc/passwd"} },
	} {
		spec := s.spec(e, "payload", "exit", "0")
		change(&spec)
		c, err := e.Start(deadline(t), spec)
		if err == nil {
			_, _ = c.Wait(deadline(t))
			t.Errorf("%s: started", name)
			continue
		}
		if fault.KindOf(err) != fault.Finding || fault.HintOf(err) == "" {
			t.Errorf("%s: %v (%s), hint %q", name, err, fault.KindOf(err), fault.HintOf(err))
		}
	}
	// A start that went wrong leaves the environment and the name usable.
	s.payload(t, e, "exit", "0").want(t, "")
}

func (s *suite) badSpecifications(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	for name, change := range map[string]func(*sandbox.ContainerSpec){
		"no command":       func(c *sandbox.ContainerSpec) { c.Argv = []string{""} },
		"bad name":         func(c *sandbox.ContainerSpec) { c.Name = "../x" },
		"relative source":  func(c *sandbox.ContainerSpec) { c.Mounts[0].Source = "x" },
		"relative target":  func(c *sandbox.ContainerSpec) { c.Mounts[0].Target = "x" },
		"root as target":   func(c *sandbox.ContainerSpec) { c.Mounts[0].Target = "/x/.." },
		"two of one place": func(c *sandbox.ContainerSpec) { c.Mounts = append(c.Mounts, c.Mounts[0]) },
		"unknown kind":     func(c *sandbox.ContainerSpec) { c.Mounts[0].Kind = "bind" },
		"negative limit":   func(c *sandbox.ContainerSpec) { c.Limits.PIDs = -1 },
		"zero byte":        func(c *sandbox.ContainerSpec) { c.Argv = append(c.Argv, "a\x00b") },
	} {
		spec := s.spec(e, "payload", "exit", "0")
		change(&spec)
		if _, err := e.Start(deadline(t), spec); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v, want a usage error", name, err)
		}
	}
}

func (s *suite) signals(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	c := s.running(t, e, s.spec(e, "handled", "hold"))
	if err := c.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(deadline(t)); err != nil || st.Code != 42 {
		t.Errorf("after SIGTERM: %v, %v; want the handler's code 42", st, err)
	}
	if err := c.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal after the end: %v", err)
	}
	// What handles no signal is ended by it, as anywhere.
	c = s.running(t, e, s.spec(e, "unhandled", "hold"))
	if err := c.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(deadline(t)); err != nil || st.Code != 137 || st.Signal != "SIGKILL" {
		t.Errorf("after SIGKILL: %+v, %v", st, err)
	}
	spec := s.spec(e, "itself")
	spec.Argv = []string{"sh", "-c", "kill -TERM $$; exit 9"}
	if r := run(t, e, spec); r.Code != 143 || r.Signal != "SIGTERM" {
		t.Errorf("a command that sends itself SIGTERM: %+v", r.ExitStatus)
	}
}

func (s *suite) kill(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	mark := markOf(t)
	c := s.running(t, e, s.spec(e, "tree", "tree", mark))
	if err := c.Kill(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(deadline(t)); err != nil || st.Code != 137 {
		t.Errorf("%+v, %v", st, err)
	}
	none(t, mark)
	// A main process that ends takes its children along.
	spec := s.spec(e, "orphans")
	spec.Argv = []string{"sh", "-c", "setsid sleep 1000000" + mark + " & exit 5"}
	if r := run(t, e, spec); r.Code != 5 {
		t.Errorf("%+v: %s", r.ExitStatus, r.err)
	}
	none(t, "1000000"+mark)

	ctx, cancel := context.WithCancel(context.Background())
	c = s.running(t, e, s.spec(e, "waiting", "hold"))
	cancel()
	if _, err := c.Wait(ctx); err == nil {
		t.Error("a cancelled wait has no error")
	}
	if err := c.Kill(deadline(t)); err != nil {
		t.Error(err)
	}
}

func (s *suite) mounts(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	source := t.TempDir()
	keep(t, filepath.Join(source, "file"), "host")
	for _, c := range []struct {
		kind sandbox.MountKind
		want string // what the host has afterwards
	}{{sandbox.ReadWrite, "inside"}, {sandbox.Overlay, "host"}} {
		keep(t, filepath.Join(source, "file"), "host")
		m := sandbox.Mount{Kind: c.kind, Source: source, Target: "/data/deep"}
		spec := s.spec(e, "writer")
		spec.Mounts = append(spec.Mounts, m)
		dir := e.Path(spec.Name, m)
		spec.Argv = []string{"sh", "-ec", `cat "$0/file"; printf inside >"$0/file"; mkdir "$0/new"; printf x >"$0/new/x"; rm -r "$0/new"; printf y >"$0/y"; cat "$0/file"`, dir}
		run(t, e, spec).want(t, "hostinside")
		if got := readFile(t, filepath.Join(source, "file")); got != c.want {
			t.Errorf("%s: the host has %q, want %q", c.kind, got, c.want)
		}
		if _, err := os.Stat(filepath.Join(source, "y")); (err == nil) != (c.kind == sandbox.ReadWrite) {
			t.Errorf("%s: a new file: %v", c.kind, err)
		}
		_ = os.Remove(filepath.Join(source, "y"))
	}
	// An overlay begins anew in every container.
	spec := s.spec(e, "writer")
	m := sandbox.Mount{Kind: sandbox.Overlay, Source: source, Target: "/data/deep"}
	spec.Mounts = append(spec.Mounts, m)
	spec.Argv = []string{"cat", filepath.Join(e.Path(spec.Name, m), "file")}
	run(t, e, spec).want(t, "host")
}

func (s *suite) readOnlyMounts(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	source := t.TempDir()
	keep(t, filepath.Join(source, "file"), "host")
	m := sandbox.Mount{Kind: sandbox.ReadOnly, Source: source, Target: "/data"}
	for name, script := range map[string]string{
		"write": `printf x >"$0/file"`, "create": `printf x >"$0/new"`, "remove": `rm "$0/file"`, "chmod": `chmod 777 "$0/../data/file" && test -w "$0/file" && printf x >"$0/file"`,
	} {
		spec := s.spec(e, "writer")
		spec.Mounts = append(spec.Mounts, m)
		spec.Argv = []string{"sh", "-c", script, e.Path("writer", m)}
		if r := run(t, e, spec); r.OK() {
			t.Errorf("%s in a read-only mount succeeds", name)
		}
	}
	if got := readFile(t, filepath.Join(source, "file")); got != "host" {
		t.Errorf("the host has %q", got)
	}
	spec := s.spec(e, "reader")
	spec.Mounts = append(spec.Mounts, m)
	spec.Argv = []string{"cat", filepath.Join(e.Path("reader", m), "file")}
	run(t, e, spec).want(t, "host")
}

func (s *suite) temporary(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	scratch := sandbox.Mount{Kind: sandbox.Scratch, Target: "/scratch", Size: 1 << 20}
	for _, m := range []sandbox.Mount{scratch, {Kind: sandbox.Scratch, Target: "/tmp"}} {
		for range 2 { // the second container must not see the first one's file
			spec := s.spec(e, "temporary")
			spec.Mounts = append(spec.Mounts, scratch)
			spec.Argv = []string{"sh", "-ec", `ls -A "$0"; printf x >"$0/x"; mkdir "$0/d"; cat "$0/x"`, e.Path(spec.Name, m)}
			run(t, e, spec).want(t, "x")
		}
	}
}

// markOf is an argument by which the processes of this test are found.
func markOf(t *testing.T) string {
	return fmt.Sprintf("%d%d", os.Getpid(), time.Now().UnixNano())
}

// none checks that no process of this machine has mark among its arguments.
func none(t *testing.T, mark string) {
	t.Helper()
	for _, l := range marked(t, mark) {
		t.Errorf("a process is left: %s", l)
	}
}

// monitors are programs of container engines that name what they look after, and end
// a little later.
var monitors = []string{"conmon", "podman", "runc", "crun", "containerd-shim-runc-v2"}

// marked returns the arguments of the processes that have mark among them.
func marked(t *testing.T, mark string) []string {
	t.Helper()
	lines, err := commandLines()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(lines, func(l string) bool {
		program, _, _ := strings.Cut(l, " ")
		return !strings.Contains(l, mark) || slices.Contains(monitors, filepath.Base(program))
	})
}

func keep(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
