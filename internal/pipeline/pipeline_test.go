package pipeline_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/pipeline"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// step is a phase whose key, content and end are what a test says.
type step struct {
	name    phase.Name
	key     string // empty: never cached
	content string
	err     error
	noEntry bool
	runs    int
}

func (s *step) Phase() phase.Name { return s.name }

func (s *step) Key(context.Context, state.State) (map[string]string, error) {
	if s.key == "" {
		return nil, nil
	}
	return map[string]string{"input": s.key}, nil
}

func (s *step) Run(ctx context.Context, _ state.State, blobs state.Blobs) (state.Result, error) {
	s.runs++
	if s.noEntry {
		return state.Result{}, s.err
	}
	a, err := state.WriteBlob(ctx, blobs, "out", state.MediaTypeLog, []byte(s.content))
	if err != nil {
		return state.Result{}, err
	}
	r := state.Result{Entry: state.Entry{Outcome: state.Passed, Artifacts: []state.Artifact{a}}, Evidence: state.Evidence{Summary: s.content}}
	if s.err != nil {
		r.Entry.Outcome = state.Failed
	}
	switch s.name {
	case phase.Market:
		r.Entry.Market = &state.Market{}
	case phase.Generate:
		r.Entry.Generate = &state.Generate{}
	}
	return r, s.err
}

type silent struct{}

func (silent) Started(phase.Name)   {}
func (silent) Done(pipeline.Report) {}

func newRunner(t *testing.T) *pipeline.Runner {
	t.Helper()
	s, err := store.Open(t.Context(), "layout:"+t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Unix(1000, 0)
	return &pipeline.Runner{Store: s, Version: "v1", Code: code("c1"), Scope: "local", Observer: silent{}, Now: func() time.Time {
		clock = clock.Add(time.Second)
		return clock
	}}
}

// code is that of a program with a digest.
func code(digest string) func() (string, error) {
	return func() (string, error) { return digest, nil }
}

func TestResume(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	market, generate := &step{name: phase.Market, key: "a", content: "m"}, &step{name: phase.Generate, key: "a", content: "g"}
	run := func() (state.State, []pipeline.Report) {
		t.Helper()
		chain, reports, err := r.Run(t.Context(), nil, market, generate)
		if err != nil {
			t.Fatal(err)
		}
		if err := chain.Verify(); err != nil {
			t.Fatal(err)
		}
		return chain, reports
	}
	expect := func(why string, reports []pipeline.Report, marketCached, generateCached bool) {
		t.Helper()
		if reports[0].Cached != marketCached || reports[1].Cached != generateCached {
			t.Errorf("%s: cached %v %v, want %v %v", why, reports[0].Cached, reports[1].Cached, marketCached, generateCached)
		}
	}
	first, reports := run()
	expect("first", reports, false, false)
	second, reports := run()
	expect("unchanged", reports, true, true)
	if first.Head() != second.Head() || reports[0].Saved != time.Second || reports[0].Summary != "m" {
		t.Errorf("%+v", reports)
	}
	generate.key = "b"
	_, reports = run()
	expect("later input changed", reports, true, false)
	market.key, market.content = "b", "m2"
	_, reports = run()
	expect("earlier result changed", reports, false, false)
	r.NoCache = true
	_, reports = run()
	expect("asked not to", reports, false, false)
	r.NoCache = false
	r.From = phase.Generate
	_, reports = run()
	expect("from a phase on", reports, true, false)
	r.From = ""
	for _, change := range []func(){func() { r.Version += "x" }, func() { r.Code = code("c1x") }, func() { r.Scope += "x" }} {
		change()
		_, reports = run()
		expect("version, code or scope changed", reports, false, false)
	}
	generate.key = ""
	run()
	_, reports = run()
	expect("no key", reports, true, false)
}

// TestKeyAfterRun: a phase that makes its own key by running is found the next time.
func TestKeyAfterRun(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	s := &locking{step{name: phase.Market, content: "m"}}
	for i, want := range []bool{false, true} {
		_, reports, err := r.Run(t.Context(), nil, s)
		if err != nil || reports[0].Cached != want {
			t.Errorf("run %d: cached %v, want %v, %v", i+1, reports[0].Cached, want, err)
		}
	}
}

type locking struct{ step }

func (l *locking) Run(ctx context.Context, in state.State, blobs state.Blobs) (state.Result, error) {
	l.key = "lock file written"
	return l.step.Run(ctx, in, blobs)
}

// TestFacts: the evidence says what a run depended on, for whoever replays it.
func TestFacts(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	long := strings.Repeat("x", 1000)
	market, generate := &locking{step{name: phase.Market, content: "m"}}, &step{name: phase.Generate, key: long, content: "g"}
	chain, _, err := r.Run(t.Context(), nil, market, generate)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"lock file written", string(state.DigestOf([]byte(long)))} {
		facts := chain[i].Evidence[0].Facts
		if facts[pipeline.FactKey+"input"] != want || facts[pipeline.FactProgram] != "c1" || facts[pipeline.FactPlatform] != runtime.GOOS+"/"+runtime.GOARCH {
			t.Errorf("%s: %v", chain[i].Entry.Phase, facts)
		}
	}
}

func TestSameInputsSameDigests(t *testing.T) {
	t.Parallel()
	var heads [2]state.Digest
	for i := range heads {
		chain, _, err := newRunner(t).Run(t.Context(), nil, &step{name: phase.Market, content: "m"})
		if err != nil {
			t.Fatal(err)
		}
		heads[i] = chain.Head()
	}
	if heads[0] != heads[1] {
		t.Errorf("%v", heads)
	}
}

func TestFailure(t *testing.T) {
	t.Parallel()
	finding := fault.New(fault.Finding, "fix it", "test failed")
	for name, c := range map[string]struct {
		step *step
		len  int
	}{
		"with an entry":    {&step{name: phase.Market, key: "a", content: "m", err: finding}, 1},
		"without an entry": {&step{name: phase.Market, key: "a", err: finding, noEntry: true}, 0},
	} {
		r := newRunner(t)
		next := &step{name: phase.Generate, content: "g"}
		for attempt := range 2 { // a failure is never remembered
			chain, reports, err := r.Run(t.Context(), nil, c.step, next)
			if fault.KindOf(err) != fault.Finding || len(chain) != c.len || len(reports) != 1 || reports[0].Outcome != state.Failed {
				t.Errorf("%s: %v %d entries %+v", name, err, len(chain), reports)
			}
			if c.step.runs != attempt+1 || next.runs != 0 {
				t.Errorf("%s: ran %d times, the next phase %d", name, c.step.runs, next.runs)
			}
		}
	}
}

func TestFailedWithoutReasonIsABug(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	_, _, err := r.Run(t.Context(), nil, failedSilently{&step{name: phase.Market, content: "m"}})
	if fault.KindOf(err) != fault.Internal || !strings.Contains(err.Error(), "did not say why") {
		t.Errorf("%v", err)
	}
}

type failedSilently struct{ *step }

func (f failedSilently) Run(ctx context.Context, in state.State, blobs state.Blobs) (state.Result, error) {
	r, err := f.step.Run(ctx, in, blobs)
	r.Entry.Outcome = state.Failed
	return r, err
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &step{name: phase.Market, content: "m"}
	if _, _, err := newRunner(t).Run(ctx, nil, s); fault.KindOf(err) != fault.Interrupted || s.runs != 0 {
		t.Errorf("%v, ran %d times", err, s.runs)
	}
}
