package rollout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/rollout"
)

// world is a target and a journal in memory that can fail or be killed.
type world struct {
	running        map[string]bool
	route, stable  string
	outcomes       []rollout.State
	journal        []rollout.Record
	fail           map[string]error // by effect, as "health new"
	effects        []string
	bad            []string // broken rules, seen as they happen
	points, killAt int
}

type killed struct{}

func newWorld(old string) *world {
	w := &world{running: map[string]bool{}, fail: map[string]error{}, route: old, stable: old}
	if old != "" {
		w.running[old] = true
	}
	return w
}

func (w *world) effect(name, release string, do func()) error {
	w.effects = append(w.effects, name+" "+release)
	if err := w.fail[name+" "+release]; err != nil {
		return err
	}
	do()
	if w.route != "" && !w.running[w.route] {
		w.bad = append(w.bad, fmt.Sprintf("after %s %s traffic goes to %s, which does not run", name, release, w.route))
	}
	return nil
}

func (w *world) Prepare(_ context.Context, r string) error {
	return w.effect("prepare", r, func() {})
}
func (w *world) Start(_ context.Context, r string) error {
	return w.effect("start", r, func() { w.running[r] = true })
}
func (w *world) Health(_ context.Context, r string) error { return w.effect("health", r, func() {}) }
func (w *world) Smoke(_ context.Context, r string) error  { return w.effect("smoke", r, func() {}) }
func (w *world) Switch(_ context.Context, r string) error {
	return w.effect("switch", r, func() { w.route = r })
}
func (w *world) Verify(_ context.Context, r string) error { return w.effect("verify", r, func() {}) }
func (w *world) Drain(_ context.Context, r string) error  { return w.effect("drain", r, func() {}) }
func (w *world) Commit(context.Context) error {
	return w.effect("commit", "", func() { w.stable = w.route })
}
func (w *world) Retire(_ context.Context, r string) error {
	return w.effect("retire", r, func() { delete(w.running, r) })
}

// Record is written once for each rollout: there is one in a world.
func (w *world) Record(_ context.Context, _ rollout.Plan, outcome rollout.State, _ string) error {
	return w.effect("record", string(outcome), func() {
		if len(w.outcomes) == 0 {
			w.outcomes = append(w.outcomes, outcome)
		}
		if w.outcomes[0] != outcome {
			w.bad = append(w.bad, fmt.Sprintf("outcome %s after %s", outcome, w.outcomes[0]))
		}
	})
}

// Append encodes, as a file would.
func (w *world) Append(_ context.Context, r rollout.Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var again rollout.Record
	if err := json.Unmarshal(b, &again); err != nil {
		return err
	}
	w.journal = append(w.journal, again)
	return nil
}

func (w *world) Now() time.Time { return time.Time{} }

func (w *world) machine() *rollout.Machine {
	return &rollout.Machine{Target: w, Journal: w, Clock: w, Boundary: func(string) {
		if w.points++; w.points == w.killAt {
			panic(killed{})
		}
	}}
}

// survives runs do and reports whether it was not killed.
func survives(do func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, is := p.(killed); !is {
				panic(p)
			}
		}
	}()
	do()
	return true
}

func (w *world) check(t *testing.T, want string, promoted bool) {
	t.Helper()
	outcome := rollout.Reverted
	if promoted {
		outcome = rollout.Promoted
	}
	if len(w.outcomes) != 1 || w.outcomes[0] != outcome {
		t.Errorf("outcomes are %v, not %s", w.outcomes, outcome)
	}
	if w.route != want || w.stable != want {
		t.Errorf("route is %q and stable %q, not %q", w.route, w.stable, want)
	}
	for r := range w.running {
		if r != want {
			t.Errorf("%s still runs", r)
		}
	}
	if last := w.journal[len(w.journal)-1].State; last != outcome {
		t.Errorf("journal ends with %s", last)
	}
	for _, b := range w.bad {
		t.Error(b)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	gate := errors.New("no")
	for _, old := range []string{"", "old"} {
		for _, effect := range []string{"", "prepare", "start", "health", "smoke", "switch", "verify"} {
			t.Run(old+"/"+effect, func(t *testing.T) {
				t.Parallel()
				w := newWorld(old)
				w.fail[effect+" new"] = gate
				rep, err := w.machine().Run(t.Context(), rollout.Plan{New: "new", Old: old})
				if effect == "" {
					if err != nil || rep.Outcome != rollout.Promoted {
						t.Fatalf("%v, %v", rep.Outcome, err)
					}
					w.check(t, "new", true)
					return
				}
				if !errors.Is(err, gate) || rep.Outcome != rollout.Reverted || string(rep.Failed) != effect {
					t.Fatalf("%+v, %v", rep, err)
				}
				w.check(t, old, false)
			})
		}
	}
}

// TestKilledAnywhere kills the run at every point, and the recovery at every
// point again, until both survive. Traffic never goes to what does not run, and
// one more recovery ends it wholly on one side.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, old := range []string{"", "old"} {
		for _, fails := range []string{"", "verify new"} {
			runs := 0
			for first := 1; ; first++ {
				w := newWorld(old)
				if fails != "" {
					w.fail[fails] = errors.New("no")
				}
				w.killAt = first
				done := survives(func() { _, _ = w.machine().Run(t.Context(), rollout.Plan{New: "new", Old: old}) })
				if done {
					break
				}
				for second := 1; ; second++ {
					again := w.clone()
					again.killAt = again.points + second
					done := survives(func() { again.settle(t) })
					again.killAt = 0
					again.settle(t)
					promoted := len(again.outcomes) == 1 && again.outcomes[0] == rollout.Promoted
					if promoted && fails != "" {
						t.Errorf("promoted although %s fails", fails)
					}
					want := old
					if promoted {
						want = "new"
					}
					again.check(t, want, promoted)
					runs++
					if done {
						break
					}
					if second > 100 {
						t.Fatal("recovery does not end")
					}
				}
			}
			if runs < 40 {
				t.Errorf("only %d kills with old %q", runs, old)
			}
		}
	}
}

func (w *world) clone() *world {
	c := *w
	c.running = map[string]bool{}
	for r := range w.running {
		c.running[r] = true
	}
	c.journal, c.outcomes = slices.Clone(w.journal), slices.Clone(w.outcomes)
	// The router took back what was not committed, as when a lease lapses.
	c.route = c.stable
	return &c
}

func (w *world) settle(t *testing.T) {
	found, err := rollout.Read(w.journal)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.machine().Recover(t.Context(), found); err != nil {
		t.Fatal(err)
	}
}

func TestInterruptedContextGoesBack(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld("old")
	m := w.machine()
	m.Progress = func(s rollout.State) {
		if s == rollout.Switch {
			cancel()
		}
	}
	rep, err := m.Run(ctx, rollout.Plan{New: "new", Old: "old"})
	if !errors.Is(err, context.Canceled) || rep.Outcome != rollout.Reverted {
		t.Fatalf("%+v, %v", rep, err)
	}
	w.check(t, "old", false)
}

// TestForwardThatDoesNotComeUp: past the commit point a new release that died is
// taken back while the old one is there.
func TestForwardThatDoesNotComeUp(t *testing.T) {
	t.Parallel()
	w := newWorld("old")
	m := w.machine()
	m.Boundary = func(p string) {
		if p == "journalled commit" {
			panic(killed{})
		}
	}
	survives(func() { _, _ = m.Run(t.Context(), rollout.Plan{New: "new", Old: "old"}) })
	found, err := rollout.Read(w.journal)
	if err != nil || found.Direction != rollout.Onward {
		t.Fatalf("%+v, %v", found, err)
	}
	if _, err := w.machine().Abort(t.Context(), found); !errors.Is(err, rollout.ErrCommitted) {
		t.Errorf("abort past the commit point: %v", err)
	}
	w.fail["health new"] = errors.New("dead")
	rep, err := w.machine().Recover(t.Context(), found)
	if err == nil || rep.Outcome != rollout.Reverted {
		t.Fatalf("%+v, %v", rep, err)
	}
	w.check(t, "old", false)
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	plan := &rollout.Plan{New: "new"}
	for _, states := range [][]rollout.State{
		{rollout.Prepare},
		{rollout.Begun, rollout.Start},
		{rollout.Begun, rollout.Prepare, rollout.Prepare},
		{rollout.Begun, rollout.Promoted},
		{rollout.Begun, rollout.Begun},
		{rollout.Begun, "dance"},
		{rollout.Begun, rollout.Revert, rollout.Prepare},
	} {
		var records []rollout.Record
		for _, s := range states {
			records = append(records, rollout.Record{State: s})
		}
		records[0].Plan = plan
		if f, err := rollout.Read(records); err == nil {
			t.Errorf("%v was read as %+v", states, f)
		}
	}
	won := []rollout.Record{{State: rollout.Begun, Plan: plan}, {State: rollout.Revert}, {State: rollout.Reverted}, {State: rollout.Commit}}
	if f, err := rollout.Read(won); err != nil || f.Direction != rollout.Nowhere {
		t.Errorf("a terminal state did not win: %+v, %v", f, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`[{"state":"begun","plan":{"new":"a"}},{"state":"prepare"}]`))
	f.Add([]byte(`[{"state":"revert"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var records []rollout.Record
		if json.Unmarshal(b, &records) != nil {
			return
		}
		found, err := rollout.Read(records)
		if err == nil && len(records) > 0 && found.Plan.New == "" {
			t.Errorf("%s has no plan", b)
		}
	})
}
