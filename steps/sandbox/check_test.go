package sandbox_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func TestLimits(t *testing.T) {
	t.Parallel()
	defaults := sandbox.Limits{Memory: 1, CPUs: 2, PIDs: 3, Disk: 4, Files: 5, Wall: 6 * time.Second, Output: 7}
	outer := sandbox.Limits{Memory: 100, PIDs: 10}.Or(defaults)
	if want := (sandbox.Limits{Memory: 100, CPUs: 2, PIDs: 10, Disk: 4, Files: 5, Wall: 6 * time.Second, Output: 7}); outer != want {
		t.Errorf("%+v, want %+v", outer, want)
	}
	inner := outer.Narrow(sandbox.Limits{Memory: 200, CPUs: 1, PIDs: 5, Disk: 9, Files: 1, Wall: time.Second})
	if want := (sandbox.Limits{Memory: 100, CPUs: 1, PIDs: 5, Disk: 4, Files: 1, Wall: time.Second, Output: 7}); inner != want {
		t.Errorf("%+v, want %+v: a container has at most what its environment has", inner, want)
	}
	for _, l := range []sandbox.Limits{{Memory: -1}, {CPUs: -1}, {CPUs: math.NaN()}, {PIDs: -1}, {Wall: -1}, {Output: -1}, {Files: -1}, {Disk: -1}} {
		if fault.KindOf(l.Check()) != fault.Usage {
			t.Errorf("%+v is accepted", l)
		}
	}
}

func TestCheckEnvironment(t *testing.T) {
	t.Parallel()
	good := sandbox.EnvironmentSpec{Name: "a-1", Network: sandbox.NetworkNone, Hosts: map[string]string{"db.example": "127.0.1.1"}}
	for name, c := range map[string]struct {
		change func(*sandbox.EnvironmentSpec)
		want   string
	}{
		"good": {func(*sandbox.EnvironmentSpec) {}, ""}, "no name": {func(s *sandbox.EnvironmentSpec) { s.Name = "" }, "not a host name"},
		"slash": {func(s *sandbox.EnvironmentSpec) { s.Name = "../x" }, "not a host name"}, "hyphen": {func(s *sandbox.EnvironmentSpec) { s.Name = "-x" }, "not a host name"},
		"long":    {func(s *sandbox.EnvironmentSpec) { s.Name = strings.Repeat("x", 64) }, "not a host name"},
		"limits":  {func(s *sandbox.EnvironmentSpec) { s.Limits.Disk = -1 }, "limit disk"},
		"host":    {func(s *sandbox.EnvironmentSpec) { s.Hosts = map[string]string{"a b": "127.0.0.1"} }, "not a host name"},
		"address": {func(s *sandbox.EnvironmentSpec) { s.Hosts = map[string]string{"a": "x\n127.0.0.1 b"} }, "resolve host a"},
		"network": {func(s *sandbox.EnvironmentSpec) { s.Network = "host" }, `network "host" is unknown`},
	} {
		s := good
		c.change(&s)
		wants(t, name, s.Check(), c.want)
	}
}

func TestCheckContainer(t *testing.T) {
	t.Parallel()
	good := sandbox.ContainerSpec{
		Name: "a", Argv: []string{"true"}, Aliases: []string{"b"},
		Mounts: []sandbox.Mount{{Kind: sandbox.ReadOnly, Source: "/usr", Target: "/x"}, {Kind: sandbox.Scratch, Target: "/y"}},
	}
	mount := func(m sandbox.Mount) func(*sandbox.ContainerSpec) {
		return func(s *sandbox.ContainerSpec) { s.Mounts = append(slices.Clone(s.Mounts), m) }
	}
	for name, c := range map[string]struct {
		change func(*sandbox.ContainerSpec)
		want   string
	}{
		"good":           {func(*sandbox.ContainerSpec) {}, ""},
		"name":           {func(s *sandbox.ContainerSpec) { s.Name = "a.b" }, "not a host name"},
		"alias":          {func(s *sandbox.ContainerSpec) { s.Aliases = []string{"_"} }, "not a host name"},
		"limits":         {func(s *sandbox.ContainerSpec) { s.Limits.Memory = -1 }, "limit memory"},
		"both":           {func(s *sandbox.ContainerSpec) { s.Root, s.Image = "/r", "i" }, "both an image and a root"},
		"relative root":  {func(s *sandbox.ContainerSpec) { s.Root = "r" }, "is relative"},
		"arguments":      {func(s *sandbox.ContainerSpec) { s.Image, s.Args = "i", []string{"x"} }, "both a command and arguments"},
		"no image":       {func(s *sandbox.ContainerSpec) { s.Argv, s.Args = nil, []string{"x"} }, "and no image"},
		"user":           {func(s *sandbox.ContainerSpec) { s.UID = -1 }, "negative user"},
		"no command":     {func(s *sandbox.ContainerSpec) { s.Argv = nil }, "no command"},
		"zero byte":      {func(s *sandbox.ContainerSpec) { s.Env = []string{"A=\x00"} }, "a zero byte"},
		"kind of mount":  {mount(sandbox.Mount{Kind: "x", Target: "/z"}), "unknown kind"},
		"source":         {mount(sandbox.Mount{Kind: sandbox.ReadOnly, Source: "z", Target: "/z"}), "is not absolute"},
		"target":         {mount(sandbox.Mount{Kind: sandbox.Scratch, Target: "z"}), "nothing can be mounted"},
		"root as target": {mount(sandbox.Mount{Kind: sandbox.Scratch, Target: "/x/.."}), "nothing can be mounted"},
		"taken":          {mount(sandbox.Mount{Kind: sandbox.Scratch, Target: "/taken/"}), "nothing can be mounted"},
		"twice":          {mount(sandbox.Mount{Kind: sandbox.Scratch, Target: "/x/"}), "two mounts"},
		"size":           {mount(sandbox.Mount{Kind: sandbox.Scratch, Target: "/z", Size: -1}), "negative size"},
	} {
		s := good
		c.change(&s)
		err := s.Check()
		if err == nil {
			err = s.CheckInside(func(target string) bool { return target == "/taken" })
		}
		wants(t, name, err, c.want)
	}
}

func wants(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && (fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: %v of kind %s, want %q", name, err, fault.KindOf(err), want)
	}
}

// TestFrom has what a specification sets in place of what its image does.
func TestFrom(t *testing.T) {
	t.Parallel()
	c := sandbox.ImageConfig{
		Entrypoint: []string{"run"}, Cmd: []string{"it"}, Env: []string{"A=1", "B=2", "AB=3", "C"}, WorkingDir: "/w", UID: 7, GID: 8, Volumes: []string{"/v", "/d/"},
	}
	s := sandbox.ContainerSpec{Env: []string{"B=", "D=4", "C=5"}, UID: 9, Mounts: []sandbox.Mount{{Kind: sandbox.ReadOnly, Target: "/d"}}}
	got := s.From(c)
	if want := []string{"A=1", "AB=3", "B=", "D=4", "C=5"}; !slices.Equal(got.Env, want) {
		t.Errorf("%q, want %q", got.Env, want)
	}
	if !slices.Equal(got.Argv, []string{"run", "it"}) || got.Dir != "/w" || got.UID != 9 || got.GID != 8 || len(got.Mounts) != 2 || got.Mounts[1].Target != "/v" || len(s.Mounts) != 1 {
		t.Errorf("%+v", got)
	}
	s.Args, s.Dir = []string{"that"}, "/x"
	if got := s.From(c); !slices.Equal(got.Argv, []string{"run", "that"}) || got.Dir != "/x" {
		t.Errorf("%+v", got)
	}
	s.Args, s.Argv = nil, []string{"mine"}
	if got := s.From(c); !slices.Equal(got.Argv, []string{"mine"}) {
		t.Errorf("%+v", got)
	}
}
