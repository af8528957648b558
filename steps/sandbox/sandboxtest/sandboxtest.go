// Package sandboxtest is the contract suite of package sandbox: what every back
// end promises, tried on a real one.
//
// The payload is the test binary itself, started inside the sandbox. The TestMain
// of a back end's test hands over to it:
//
//	func TestMain(m *testing.M) {
//		if code, ok := sandboxtest.Main(os.Args, os.Stdin, os.Stdout, os.Stderr); ok {
//			syscall.Exit(code) // no exit hook: the race detector's waits a second
//		}
//		os.Exit(m.Run())
//	}
//
//	func TestContract(t *testing.T) {
//		sandboxtest.Run(t, newBackend, sandboxtest.Options{Level: sandbox.Full})
//	}
//
// The suite uses no network but the loopback interface and waits for events, never
// for time to pass.
package sandboxtest

import (
	"bytes"
	"context"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Patience bounds every wait of the suite. Where a processor is emulated, tests set more.
var Patience = time.Minute

// Options say what a back end promises and how to look at it from outside.
type Options struct {
	// Level is the level that the back end reaches; the suite expects what that
	// level promises, no more and no less.
	Level sandbox.Level
	// Executable is the test binary, or a copy that the container's user can run.
	Executable string
	// Root is the root of containers, as of [sandbox.ContainerSpec]; it has to have
	// what Executable needs.
	Root string
	// Image is that of an [Images], for the cases about images; empty if the back end
	// was given none. OnlyImages says that it is the root of every container: of a
	// back end without access to the host's files. The image then has to have a
	// busybox, see [NewImages].
	Image      string
	OnlyImages bool
	// Measured says what [sandbox.Container.Usage] measures: "cpu", "memory", "pids", "io".
	Measured []string
	// Limited says which limits are enforced on a whole tree, beside those of wall
	// time and output: "memory" and "pids". Without "memory" one process is limited.
	Limited []string
	// Exceptions are attempts to leave, by name, that the engine behind the back end
	// does not refuse, each with the reason why that is accepted.
	Exceptions map[string]string
	// Leftovers returns what is left on this machine of environments whose names
	// have mark in them: control groups, directories, mounts. Nil if that cannot be
	// seen. Processes the suite finds itself.
	Leftovers func(t *testing.T, mark string) []string
	// Creator returns a command that calls [Hold] with the given mark and a name that
	// has the mark in it, and a back end that sees this environment and no other. It
	// is nil if the back end has no creators to kill.
	Creator func(t *testing.T, mark string) (*exec.Cmd, sandbox.Backend)
	// Only are the names of the cases to run; none means all.
	Only []string
}

// suite is what the cases share.
type suite struct {
	Options
	backend sandbox.Backend
	new     func(t *testing.T) sandbox.Backend
}

// Run tries everything that the contract promises at o.Level. Environments of
// different cases exist at the same time.
func Run(t *testing.T, newBackend func(t *testing.T) sandbox.Backend, o Options) {
	t.Helper()
	s := &suite{Options: o, backend: newBackend(t), new: newBackend}
	s.probe(t)
	for _, c := range []struct {
		name string
		from sandbox.Level // the weakest level that promises it
		run  func(*testing.T)
	}{
		{"exit codes", sandbox.None, s.exitCodes},
		{"streams and environment", sandbox.None, s.streams},
		{"working directory", sandbox.None, s.workingDirectory},
		{"commands that cannot start", sandbox.None, s.cannotStart},
		{"bad specifications", sandbox.None, s.badSpecifications},
		{"signals", sandbox.None, s.signals},
		{"kill", sandbox.None, s.kill},
		{"mounts", sandbox.None, s.mounts},
		{"read-only mounts", sandbox.Reduced, s.readOnlyMounts},
		{"temporary space", sandbox.None, s.temporary},
		{"dial", sandbox.None, s.dial},
		{"ports", sandbox.None, s.ports},
		{"listen", sandbox.None, s.listen},
		{"addresses", sandbox.None, s.addresses},
		{"no network", sandbox.None, s.noNetwork},
		{"exec", sandbox.None, s.execs},
		{"end of exec", sandbox.None, s.execEnds},
		{"time of exec", sandbox.None, s.execWall},
		{"exec is confined", sandbox.Reduced, s.execConfined},
		{"usage", sandbox.None, s.usage},
		{"image", sandbox.None, s.image},
		{"wall limit", sandbox.None, s.wallLimit},
		{"output limit", sandbox.None, s.outputLimit},
		{"memory limit", sandbox.Reduced, s.memoryLimit},
		{"process limit", sandbox.Full, s.processLimit},
		{"disk limit", sandbox.Full, s.diskLimit},
		{"privileges", sandbox.Full, s.privileges},
		{"no new privileges", sandbox.Reduced, s.noNewPrivileges},
		{"namespaces are refused", sandbox.Full, s.namespaces},
		{"network", sandbox.Full, s.network},
		{"files of the host", sandbox.Reduced, s.hostFiles},
		{"read-only root", sandbox.Full, s.readOnlyRoot},
		{"processes of others", sandbox.Full, s.otherProcesses},
		{"escape attempts", sandbox.None, s.escape},
		{"names", sandbox.None, s.names},
		{"list and delete", sandbox.None, s.listDelete},
		{"effective", sandbox.None, s.effective},
		{"close leaves nothing", sandbox.None, s.closeLeavesNothing},
		{"close after cancel", sandbox.None, s.closeAfterCancel},
		{"killed creator", sandbox.None, s.killedCreator},
	} {
		t.Run(c.name, func(t *testing.T) {
			if len(s.Only) > 0 && !slices.Contains(s.Only, c.name) {
				t.Skip("not one of those asked for")
			}
			if s.Level < c.from {
				t.Skipf("level %s does not promise it", s.Level)
			}
			c.run(t)
		})
	}
}

// probe checks that the back end says it reaches the level it is tried at.
func (s *suite) probe(t *testing.T) {
	t.Helper()
	c, err := s.backend.Probe(deadline(t))
	if err != nil {
		t.Fatalf("probe: %v", err)
	}
	if c.Level != s.Level {
		t.Fatalf("probe says level %s, not %s: %q", c.Level, s.Level, c.Refused)
	}
	if (c.Level < sandbox.Full) != (len(c.Refused) > 0) {
		t.Errorf("level %s, refused %q", c.Level, c.Refused)
	}
}

// deadline is a context that fails a test that hangs.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// environment makes an environment that is closed at the end of the test.
func (s *suite) environment(t *testing.T, l sandbox.Limits) sandbox.Environment {
	t.Helper()
	return s.create(t, sandbox.EnvironmentSpec{
		Name: nameOf(t), MinIsolation: s.Level, Limits: l, Hosts: map[string]string{"service": "127.0.0.1"},
	})
}

func (s *suite) create(t *testing.T, spec sandbox.EnvironmentSpec) sandbox.Environment {
	t.Helper()
	e, err := s.backend.Create(deadline(t), spec)
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return e
}

// nameOf is a name for an environment of this test.
func nameOf(t *testing.T) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '-'
	}, t.Name())
	return strings.Trim(name[max(0, len(name)-50):], "-")
}

// executable is where the payload is mounted.
var executable = sandbox.Mount{Kind: sandbox.ReadOnly, Target: "/opt/payload"}

// spec describes a container that runs the payload with args.
func (s *suite) spec(e sandbox.Environment, name string, args ...string) sandbox.ContainerSpec {
	m := executable
	m.Source = s.Executable
	spec := sandbox.ContainerSpec{
		Name: name, Root: s.Root, Mounts: []sandbox.Mount{m},
		Argv: append([]string{e.Path(name, m), payloadArg}, args...),
		Env:  []string{"PATH=/usr/bin:/bin"},
	}
	if s.OnlyImages {
		spec.Image = s.Image
	}
	return spec
}

// result is what came out of a container.
type result struct {
	sandbox.ExitStatus
	out, err string
}

// run runs a container to its end.
func run(t *testing.T, e sandbox.Environment, spec sandbox.ContainerSpec) result {
	t.Helper()
	var out, err lockedBuffer
	if spec.Stdout == nil {
		spec.Stdout = &out
	}
	if spec.Stderr == nil {
		spec.Stderr = &err
	}
	c := start(t, e, spec)
	st, werr := c.Wait(deadline(t))
	if werr != nil {
		t.Fatalf("wait for %s: %v", spec.Name, werr)
	}
	return result{st, out.String(), err.String()}
}

// payload runs the payload with args.
func (s *suite) payload(t *testing.T, e sandbox.Environment, args ...string) result {
	t.Helper()
	return run(t, e, s.spec(e, "payload", args...))
}

func start(t *testing.T, e sandbox.Environment, spec sandbox.ContainerSpec) sandbox.Container {
	t.Helper()
	c, err := e.Start(deadline(t), spec)
	if err != nil {
		t.Fatalf("start %s %q: %v", spec.Name, spec.Argv, err)
	}
	return c
}

// running starts a container and waits until it says that it is ready.
func (s *suite) running(t *testing.T, e sandbox.Environment, spec sandbox.ContainerSpec) sandbox.Container {
	t.Helper()
	ready := newAwait(readyLine)
	spec.Stdout = ready
	c := start(t, e, spec)
	ended := make(chan result, 1)
	go func() {
		st, _ := c.Wait(context.Background())
		ended <- result{ExitStatus: st}
	}()
	select {
	case <-ready.seen:
	case r := <-ended:
		t.Fatalf("%q ended before it was ready: %s: %s", spec.Argv[2:], r.ExitStatus, ready)
	case <-deadline(t).Done():
		t.Fatalf("%q is not ready: %s", spec.Argv[2:], ready)
	}
	return c
}

// want checks that r ended well, with out on standard output.
func (r result) want(t *testing.T, out string) {
	t.Helper()
	if !r.OK() || strings.TrimSpace(r.out) != out {
		t.Errorf("%s, output %q, want %q; errors: %s", r.ExitStatus, r.out, out, r.err)
	}
}

// wantFailure checks that r ended badly, with text among its errors.
func (r result) wantFailure(t *testing.T, text string) {
	t.Helper()
	if r.OK() || !strings.Contains(r.err, text) {
		t.Errorf("%s, errors %q, want a failure and %q", r.ExitStatus, r.err, text)
	}
}

// lockedBuffer is a buffer for writers in other goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await is a writer that notices a text.
type await struct {
	lockedBuffer
	text string
	once sync.Once
	seen chan struct{}
}

func newAwait(text string) *await { return &await{text: text, seen: make(chan struct{})} }

func (a *await) Write(p []byte) (int, error) {
	n, err := a.lockedBuffer.Write(p)
	if strings.Contains(a.String(), a.text) {
		a.once.Do(func() { close(a.seen) })
	}
	return n, err
}

// Hold creates an environment called name on backend, runs a payload in it that
// never ends and has mark among its arguments, says so on stdout, and waits. It is
// the body of the program that [Options.Creator] starts.
func Hold(ctx context.Context, backend sandbox.Backend, name, exe, mark string, stdout io.Writer) error {
	return HoldImage(ctx, backend, "", name, exe, mark, stdout)
}

// HoldImage is [Hold] for a back end whose containers have an image as their root.
func HoldImage(ctx context.Context, backend sandbox.Backend, image, name, exe, mark string, stdout io.Writer) error {
	e, err := backend.Create(ctx, sandbox.EnvironmentSpec{Name: name})
	if err != nil {
		return err
	}
	s := &suite{Options: Options{Executable: filepath.Clean(exe), Image: image, OnlyImages: image != ""}}
	spec := s.spec(e, "held", "tree", mark)
	spec.Stdout = stdout
	c, err := e.Start(ctx, spec)
	if err != nil {
		return err
	}
	_, err = c.Wait(ctx)
	return err
}
