package auto_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/auto"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// fake is a back end that reaches a level, or does not answer.
type fake struct {
	name   string
	level  sandbox.Level
	silent bool
	fails  error // of every creation
	keeps  error // what a collection says
	made   []string
	gone   int
	probed int
	sure   bool // without a probe
}

func (f *fake) Remembers() bool { return f.sure }

func (f *fake) Name() string { return f.name }

func (f *fake) Probe(context.Context) (sandbox.Capabilities, error) {
	f.probed++
	if f.silent {
		return sandbox.Capabilities{}, fault.New(fault.Unavailable, "", "nobody listens")
	}
	c := sandbox.Capabilities{Level: f.level}
	if f.level < sandbox.Full {
		c.Refused = []string{"the kernel of " + f.name}
	}
	return c, nil
}

func (f *fake) Create(_ context.Context, s sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	switch {
	case f.silent || f.level < s.MinIsolation:
		return nil, fault.New(fault.Unavailable, "", "%s cannot", f.name)
	case f.fails != nil:
		return nil, f.fails
	}
	f.made = append(f.made, s.Name)
	return nil, nil
}

func (f *fake) List(context.Context) ([]sandbox.Info, error) {
	if f.silent {
		return nil, fault.New(fault.Unavailable, "", "nobody listens")
	}
	var list []sandbox.Info
	for _, n := range f.made {
		list = append(list, sandbox.Info{Name: n, Backend: f.name})
	}
	return list, nil
}

func (f *fake) Delete(_ context.Context, name string) error {
	f.made = nil
	return nil
}

func (f *fake) GC(context.Context) ([]string, error) {
	if f.silent {
		return nil, fault.New(fault.Unavailable, "", "nobody listens")
	}
	f.gone++
	return []string{"of-" + f.name}, f.keeps
}

func TestChoice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		backends []*fake
		min      sandbox.Level
		want     string // the one that creates, or part of the error
		fails    bool
	}{
		{"the first", []*fake{{name: "a", level: sandbox.Full}, {name: "b", level: sandbox.Full}}, sandbox.Full, "a", false},
		{"weaker first", []*fake{{name: "a", level: sandbox.Reduced}, {name: "b", level: sandbox.Full}}, sandbox.Full, "b", false},
		{"weak is enough", []*fake{{name: "a", level: sandbox.Reduced}, {name: "b", level: sandbox.Full}}, sandbox.Reduced, "a", false},
		{"silent second", []*fake{{name: "a", level: sandbox.None}, {name: "b", silent: true}, {name: "c", level: sandbox.Full}}, sandbox.Full, "c", false},
		{"none", []*fake{{name: "a", level: sandbox.Reduced}, {name: "b", silent: true}}, sandbox.Full, "the kernel of a", true},
		{"nobody", []*fake{{name: "a", silent: true}}, sandbox.None, "nobody listens", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var all []sandbox.Backend
			for _, f := range c.backends {
				all = append(all, f)
			}
			back := auto.New(all...)
			_, err := back.Create(t.Context(), sandbox.EnvironmentSpec{Name: "x", MinIsolation: c.min})
			if c.fails {
				if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.HintOf(err), "install Docker") {
					t.Errorf("%v, hint %q", err, fault.HintOf(err))
				}
				return
			}
			if used := back.Used("x"); used != c.want || back.Used("y") != "" {
				t.Errorf("used %q", used)
			}
			for _, f := range c.backends {
				if (len(f.made) > 0) != (f.name == c.want) || err != nil {
					t.Errorf("%s made %q, %v", f.name, f.made, err)
				}
			}
		})
	}
}

// TestSecondFails: why the first was not taken is said beside why the second failed.
func TestSecondFails(t *testing.T) {
	t.Parallel()
	second := &fake{name: "b", level: sandbox.Full, fails: fault.New(fault.Usage, "do that", "no image")}
	_, err := auto.New(&fake{name: "a", silent: true}, second).Create(t.Context(), sandbox.EnvironmentSpec{Name: "x", MinIsolation: sandbox.Full})
	if fault.KindOf(err) != fault.Usage || fault.HintOf(err) != "do that" || !strings.Contains(err.Error(), "no image") || !strings.Contains(err.Error(), "a cannot") {
		t.Errorf("%v", err)
	}
}

// TestFirst has a first back end that can: neither it nor another is probed, and what it
// says of a failure is said.
func TestFirst(t *testing.T) {
	t.Parallel()
	for _, fails := range []error{
		nil, fault.New(fault.Finding, "", "the name is taken"), fault.New(fault.Unavailable, "", "no space left"),
	} {
		first, second := &fake{name: "a", level: sandbox.Full, fails: fails}, &fake{name: "b", level: sandbox.Full}
		_, err := auto.New(first, second).Create(t.Context(), sandbox.EnvironmentSpec{Name: "x", MinIsolation: sandbox.Full})
		if !errors.Is(err, fails) || len(second.made) > 0 || second.probed > 0 {
			t.Errorf("%v instead of %v; the second was probed %d times and made %q", err, fails, second.probed, second.made)
		}
		if fault.KindOf(fails) != fault.Unavailable && first.probed > 0 {
			t.Errorf("the first was probed %d times", first.probed)
		}
	}
}

// TestCollectUnprobed: a collection costs no probe of a back end that is known to work,
// and one that is not known is asked whether it would be used.
func TestCollectUnprobed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		first fake
		want  string
		probe int
	}{
		{fake{name: "a", level: sandbox.Full, sure: true}, "of-a", 0},
		{fake{name: "a", level: sandbox.Full}, "of-a", 1},
		{fake{name: "a", level: sandbox.Reduced}, "of-b", 1},
	} {
		first, second := c.first, &fake{name: "b", level: sandbox.Full}
		removed, err := auto.New(&first, second).GC(t.Context())
		if err != nil || strings.Join(removed, " ") != c.want || first.probed != c.probe {
			t.Errorf("%+v: %q, %v, %d probes", c.first, removed, err, first.probed)
		}
	}
}

func TestAllOfThem(t *testing.T) {
	t.Parallel()
	first, silent, last := &fake{name: "a", level: sandbox.Full}, &fake{name: "b", silent: true}, &fake{name: "c", level: sandbox.Full, made: []string{"early"}}
	b := auto.New(first, silent, last)
	first.made = []string{"late"}
	list, err := b.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "early" || list[1].Backend != "a" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := b.Delete(t.Context(), "early"); err != nil || len(last.made) != 0 || len(first.made) != 1 {
		t.Errorf("%v, %q, %q", err, first.made, last.made)
	}
	if err := b.Delete(t.Context(), "lat"); fault.KindOf(err) != fault.Finding || !strings.Contains(fault.HintOf(err), "late") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	if removed, err := b.GC(t.Context()); err != nil || strings.Join(removed, " ") != "of-a" || last.gone != 0 {
		t.Errorf("%q, %v", removed, err)
	}
	if removed, err := b.CollectAll(t.Context()); err != nil || strings.Join(removed, " ") != "of-a of-c" {
		t.Errorf("%q, %v", removed, err)
	}
	// One that is there, and could not remove all, does not pass for one that is not.
	first.keeps = fault.New(fault.Unavailable, "", "a mount is busy")
	if removed, err := b.CollectAll(t.Context()); !errors.Is(err, first.keeps) || strings.Join(removed, " ") != "of-a of-c" {
		t.Errorf("%q, %v", removed, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("probe after a cancel: %v", err)
	}
}
