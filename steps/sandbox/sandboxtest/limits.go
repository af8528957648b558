package sandboxtest

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func (s *suite) wallLimit(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	mark := markOf(t)
	spec := s.spec(e, "endless", "tree", mark)
	// A busy machine needs more time until the child of the tree is there.
	for wall := time.Second / 2; ; wall *= 2 {
		spec.Limits.Wall = wall
		r := run(t, e, spec)
		if !r.TimedOut || r.OK() || r.Code != 137 {
			t.Errorf("%+v: %s", r.ExitStatus, r.err)
		}
		if r.Wall < wall || r.Wall > Patience/2 {
			t.Errorf("ended after %s, with a limit of %s", r.Wall, wall)
		}
		none(t, mark)
		if strings.Contains(r.out, readyLine) {
			break
		}
		if wall > Patience/4 {
			t.Fatalf("the child of the tree was not there after %s: %q", wall, r.out)
		}
	}
	// The shortest time that there is: the payload may not even start.
	spec.Limits.Wall = 1
	if r := run(t, e, spec); !r.TimedOut || r.OK() {
		t.Errorf("%+v", r.ExitStatus)
	}
	none(t, mark)
}

func (s *suite) outputLimit(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	spec := s.spec(e, "flood", "flood")
	spec.Limits.Output = 100_000
	r := run(t, e, spec)
	if !r.OutputLimit || r.OK() {
		t.Errorf("%+v", r.ExitStatus)
	}
	if int64(len(r.out)) != spec.Limits.Output {
		t.Errorf("%d bytes were kept, want %d", len(r.out), spec.Limits.Output)
	}
}

func (s *suite) memoryLimit(t *testing.T) {
	const limit = 128 << 20
	e := s.environment(t, sandbox.Limits{Memory: 2 * limit})
	// A line is kept until it ends: so much memory is used and no runtime's besides.
	hog := func(name string, bytes int) result {
		spec := s.spec(e, name)
		spec.Argv = []string{"sh", "-c", `head -c "$0" /dev/zero | tail -n 1 >/dev/null && echo kept`, strconv.Itoa(bytes)}
		spec.Limits.Memory = limit
		return run(t, e, spec)
	}
	r := hog("within", limit/4)
	r.want(t, "kept")
	if r.PeakMemory < limit/4 || r.PeakMemory > limit {
		t.Errorf("peak memory is %d, and %d was used", r.PeakMemory, limit/4)
	}
	if r.CPU <= 0 {
		t.Errorf("processor time %s", r.CPU)
	}
	r = hog("beyond", 2*limit)
	if r.ExitStatus.OK() || strings.Contains(r.out, "kept") {
		t.Errorf("%+v after twice the limit", r.ExitStatus)
	}
	if tree := slices.Contains(s.Limited, "memory"); tree && !r.OOM {
		t.Errorf("%+v, want the memory limit as the reason", r.ExitStatus)
	}
	// A limit that is small must not be in the way of the back end itself.
	spec := s.spec(e, "small")
	spec.Argv = []string{"sh", "-c", "exit 3"}
	spec.Limits.Memory = 8 << 20
	if r := run(t, e, spec); r.Code != 3 {
		t.Errorf("under a limit of 8 MiB: %s %s", r.ExitStatus, r.err)
	}
}

func (s *suite) processLimit(t *testing.T) {
	if !slices.Contains(s.Limited, "pids") {
		t.Skip("the back end cannot limit the processes of a tree here")
	}
	e := s.environment(t, sandbox.Limits{PIDs: 64})
	spec := s.spec(e, "spawn", "spawn", "200")
	spec.Limits.PIDs = 40
	r := run(t, e, spec)
	// A runtime that gets no thread any more ends the payload: what counts is how far
	// it came.
	if n := strings.Count(r.out, "\n"); n < 5 || n >= 40 {
		t.Errorf("%d processes under a limit of 40: %s %s", n, r.ExitStatus, r.err)
	}
}

func (s *suite) diskLimit(t *testing.T) {
	e := s.environment(t, sandbox.Limits{Disk: 4 << 20})
	source := t.TempDir()
	mounts := []sandbox.Mount{
		{Kind: sandbox.Scratch, Target: "/tmp"},
		{Kind: sandbox.Scratch, Target: "/small", Size: 1 << 20},
		{Kind: sandbox.Overlay, Source: source, Target: "/overlay"},
	}
	for _, m := range mounts {
		spec := s.spec(e, "fill")
		if m.Target != "/tmp" {
			spec.Mounts = append(spec.Mounts, m)
		}
		path := e.Path(spec.Name, m) + "/file"
		spec.Argv = s.spec(e, "fill", "fill", path, strconv.Itoa(512<<10)).Argv
		run(t, e, spec).want(t, "")
		spec.Argv[len(spec.Argv)-1] = strconv.Itoa(5 << 20)
		if r := run(t, e, spec); r.OK() || !strings.Contains(r.err, "no space") {
			t.Errorf("%s: %s %s, want no space", m.Target, r.ExitStatus, r.err)
		}
	}
}
