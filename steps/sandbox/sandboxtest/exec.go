package sandboxtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// execSpec describes a process beside the payload of c that runs another with args.
func (s *suite) execSpec(e sandbox.Environment, c sandbox.Container, args ...string) sandbox.ExecSpec {
	return sandbox.ExecSpec{Argv: s.spec(e, c.Name(), args...).Argv}
}

// exec runs a payload with args beside that of c.
func (s *suite) exec(t *testing.T, e sandbox.Environment, c sandbox.Container, args ...string) result {
	t.Helper()
	return execute(t, c, s.execSpec(e, c, args...))
}

func execute(t *testing.T, c sandbox.Container, spec sandbox.ExecSpec) result {
	t.Helper()
	var out, err lockedBuffer
	spec.Stdout, spec.Stderr = &out, &err
	st, xerr := c.Exec(deadline(t), spec)
	if xerr != nil {
		t.Fatalf("exec %q: %v", spec.Argv, xerr)
	}
	return result{st, out.String(), err.String()}
}

// execs runs processes in a running container, each with streams of its own.
func (s *suite) execs(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	spec := s.spec(e, "main", "hold")
	m := sandbox.Mount{Kind: sandbox.Scratch, Target: "/work"}
	spec.Mounts = append(spec.Mounts, m)
	spec.Env, spec.Dir = append(spec.Env, "MARK=of the container"), e.Path("main", m)
	c := s.running(t, e, spec)
	for _, code := range []int{0, 1, 42, 255} {
		if r := s.exec(t, e, c, "exit", itoa(code)); r.Code != code || r.Signal != "" {
			t.Errorf("%+v, want code %d", r.ExitStatus, code)
		}
	}
	in := s.execSpec(e, c, "copy", "to stderr")
	in.Stdin = strings.NewReader("to stdout")
	r := execute(t, c, in)
	r.want(t, "to stdout")
	if r.err != "to stderr" {
		t.Errorf("standard error %q", r.err)
	}
	// Environment and directory are the container's, unless others are given.
	s.exec(t, e, c, "environment", "MARK").want(t, "of the container")
	s.exec(t, e, c, "directory").want(t, spec.Dir)
	own := s.execSpec(e, c, "environment", "MARK", "OWN")
	own.Env = []string{"OWN=yes"}
	execute(t, c, own).want(t, "yes")
	own = s.execSpec(e, c, "directory")
	own.Dir = "/usr"
	if s.Image == "" || !s.OnlyImages {
		execute(t, c, own).want(t, "/usr")
	}
	// Files are shared with the container, and so between these two.
	s.exec(t, e, c, "write", "file", "content").want(t, "")
	s.exec(t, e, c, "read", "file").want(t, "content")

	s.execErrors(t, e, c)
	s.manyExecs(t, e, c)
	if st, err := c.Exec(deadline(t), sandbox.ExecSpec{Argv: []string{"sh", "-c", "kill -KILL $$"}}); err != nil || st.Signal != "SIGKILL" || st.Code != 137 {
		t.Errorf("a command that kills itself: %+v, %v", st, err)
	}
	// All this was nothing to the container.
	if err := c.Kill(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(deadline(t), s.execSpec(e, c, "exit", "0")); err == nil || fault.KindOf(err) == fault.Internal {
		t.Errorf("exec in a container that ended: %v (%s)", err, fault.KindOf(err))
	}
}

func (s *suite) execErrors(t *testing.T, e sandbox.Environment, c sandbox.Container) {
	for name, x := range map[string]struct {
		spec sandbox.ExecSpec
		kind fault.Kind
	}{
		"no command":        {sandbox.ExecSpec{}, fault.Usage},
		"zero byte":         {sandbox.ExecSpec{Argv: []string{"sh", "a\x00b"}}, fault.Usage},
		"missing command":   {sandbox.ExecSpec{Argv: []string{"/no/such/command"}}, fault.Finding},
		"missing in PATH":   {sandbox.ExecSpec{Argv: []string{"no-such-command"}}, fault.Finding},
		"missing directory": {sandbox.ExecSpec{Argv: s.execSpec(e, c, "exit", "0").Argv, Dir: "/no/such/directory"}, fault.Finding},
	} {
		if st, err := c.Exec(deadline(t), x.spec); fault.KindOf(err) != x.kind || err == nil {
			t.Errorf("%s: %v, %v (%s), want %s", name, st, err, fault.KindOf(err), x.kind)
		}
	}
	s.exec(t, e, c, "exit", "0").want(t, "")
}

// manyExecs runs several at once.
func (s *suite) manyExecs(t *testing.T, e sandbox.Environment, c sandbox.Container) {
	const many = 8
	results := make(chan error, many)
	for i := range many {
		go func() {
			var out lockedBuffer
			spec := s.execSpec(e, c, "copy")
			spec.Stdin, spec.Stdout = strings.NewReader(itoa(i)), &out
			st, err := c.Exec(context.Background(), spec)
			if err == nil && (!st.OK() || out.String() != itoa(i)) {
				err = errors.New(st.String() + ": " + out.String())
			}
			results <- err
		}()
	}
	for range many {
		if err := <-results; err != nil {
			t.Errorf("one of many: %v", err)
		}
	}
}

// execEnds ends processes by their context, and by the end of the container.
func (s *suite) execEnds(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	begin := func(c sandbox.Container, ctx context.Context, mark string) chan error {
		ready := newAwait(readyLine)
		spec := s.execSpec(e, c, "tree", mark)
		spec.Stdout = ready
		ended := make(chan error, 1)
		go func() {
			st, err := c.Exec(ctx, spec)
			if err == nil && st.OK() {
				err = errors.New("it ended well")
			} else if err == nil {
				err = &endedBy{st}
			}
			ended <- err
		}()
		select {
		case <-ready.seen:
		case err := <-ended:
			t.Fatalf("exec ended before it was ready: %v", err)
		case <-deadline(t).Done():
			t.Fatal("exec is not ready")
		}
		return ended
	}
	wait := func(ended chan error) error {
		select {
		case err := <-ended:
			return err
		case <-deadline(t).Done():
			t.Fatal("exec does not end")
			return nil
		}
	}

	c := s.running(t, e, s.spec(e, "main", "hold"))
	mark := markOf(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := begin(c, ctx, mark)
	cancel()
	if err := wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
	none(t, mark)
	s.exec(t, e, c, "exit", "3")

	mark = markOf(t)
	ended = begin(c, context.Background(), mark)
	if err := c.Kill(deadline(t)); err != nil {
		t.Fatal(err)
	}
	var by *endedBy
	if err := wait(ended); !errors.As(err, &by) || by.st.Code != 137 {
		t.Errorf("after the end of its container: %v", err)
	}
	none(t, mark)

	// It may not write more than a container may.
	spec := s.spec(e, "quiet", "hold")
	spec.Limits.Output = 10_000
	c = s.running(t, e, spec)
	if r := s.exec(t, e, c, "flood"); !r.OutputLimit || r.OK() || len(r.out) > 10_000 {
		t.Errorf("%+v after %d bytes", r.ExitStatus, len(r.out))
	}
}

// execWall has the time of a container end what runs beside its payload: the clock
// does not begin anew.
func (s *suite) execWall(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	spec := s.spec(e, "short", "hold")
	mark := markOf(t)
	// A busy machine needs more time until the process is there.
	for wall := time.Second; ; wall *= 2 {
		spec.Limits.Wall = wall
		c := start(t, e, spec)
		ready := newAwait(readyLine)
		inside := s.execSpec(e, c, "tree", mark)
		inside.Stdout = ready
		st, err := c.Exec(deadline(t), inside)
		whole, werr := c.Wait(deadline(t))
		if werr != nil || !whole.TimedOut {
			t.Fatalf("the container: %+v, %v", whole, werr)
		}
		none(t, mark)
		if strings.Contains(ready.String(), readyLine) {
			if err != nil || st.OK() || !st.TimedOut || st.Wall > wall+Patience/2 {
				t.Errorf("after the time of its container: %+v, %v", st, err)
			}
			return
		}
		if wall > Patience/4 {
			t.Fatalf("nothing runs beside the payload after %s: %v", wall, err)
		}
	}
}

// endedBy is an end as an error.
type endedBy struct{ st sandbox.ExitStatus }

func (e *endedBy) Error() string { return e.st.String() }

// execConfined compares the walls of a process with those of its container.
func (s *suite) execConfined(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	spec := s.spec(e, "main", "hold")
	spec.UID, spec.GID = 1234, 4321
	c := s.running(t, e, spec)
	main, beside := statusFields(s.exec(t, e, c, "read", "/proc/self/status")), s.status(t, e)
	for _, field := range []string{"CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"} {
		if main[field] == "" || main[field] != beside[field] {
			t.Errorf("%s of a process is %s, of a container %s", field, main[field], beside[field])
		}
	}
	secret := t.TempDir() + "/secret"
	keep(t, secret, "secret")
	if r := s.exec(t, e, c, "read", secret); r.OK() {
		t.Error("a file of the host can be read")
	}
	if s.Level < sandbox.Full {
		return
	}
	s.exec(t, e, c, "ids").want(t, "1234 4321")
	s.exec(t, e, c, "namespaces").want(t, "")
	s.exec(t, e, c, "interfaces").want(t, "lo")
	if r := s.exec(t, e, c, "write", "/etc/passwd", "x"); r.OK() {
		t.Error("the root can be written")
	}
}
