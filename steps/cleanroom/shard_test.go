package cleanroom_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// digest is that of the entry as it is kept after prev.
func digest(t *testing.T, e state.Entry, prev state.Digest) state.Digest {
	t.Helper()
	e.Prev, e.Phase = prev, "cleanroom-test"
	e.Normalize()
	if err := e.Check(); err != nil {
		t.Fatal(err)
	}
	d, err := e.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// shards runs files in n parts, with one more than there are packages.
func shards(t *testing.T, files map[string]string, n int) (before state.State, chains []state.State) {
	t.Helper()
	l := newLab(t)
	before = l.state(t, files)
	for i := 1; i <= n; i++ {
		l.step.Shard = &state.Shard{Index: i, Count: n}
		res, err := l.run(t, files)
		if err != nil && res.Entry.Outcome == "" {
			t.Fatal(err)
		}
		res.Entry.Prev = before.Head()
		if res.Entry.Cleanroom.Image != "" {
			t.Errorf("shard %d claims an image of its own", i)
		}
		if _, ok := res.Entry.Artifact(state.ArtifactImage); ok {
			t.Errorf("shard %d has the artifact of a whole run", i)
		}
		chains = append(chains, append(before[:1:1], state.Link{Digest: digest(t, res.Entry, before.Head()), Entry: res.Entry}))
	}
	return before, chains
}

// TestShards merges shards into the very claim of a run of all tests.
func TestShards(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	whole, err := l.run(t, shop)
	if err != nil {
		t.Fatal(err)
	}
	before, chains := shards(t, shop, 3)
	chains[0], chains[2] = chains[2], chains[0] // in any order
	merged, err := cleanroom.Merge{Shards: chains}.Run(t.Context(), before, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := digest(t, merged.Entry, before.Head()), digest(t, whole.Entry, before.Head()); got != want {
		t.Errorf("merged %+v\nwhole %+v", merged.Entry, whole.Entry)
	}
	if n := len(chains[1][1].Entry.Checks); n == 0 || n == len(whole.Entry.Checks) {
		t.Errorf("a shard has %d of %d checks", n, len(whole.Entry.Checks))
	}
	for says, wrong := range map[string][]state.State{
		"of 3 shards these are missing: 2": {chains[0], chains[2]},
		"occurs twice":                     {chains[0], chains[1], chains[1], chains[2]},
		"does not end with a shard":        {chains[0], before},
		"no shard was named":               nil,
	} {
		res, err := cleanroom.Merge{Shards: wrong}.Run(t.Context(), before, nil)
		if err == nil || !strings.Contains(err.Error(), says) || res.Entry.Outcome != "" {
			t.Errorf("got %v, want %q and no result", err, says)
		}
		if kind := fault.KindOf(err); wrong != nil && kind != fault.Finding {
			t.Errorf("%s: %v", says, kind)
		}
	}
}

// TestShardsDiffer changes one shard of a set.
func TestShardsDiffer(t *testing.T) {
	t.Parallel()
	before, chains := shards(t, shop, 2)
	for says, change := range map[string]func(e *state.Entry){
		"follows another entry": func(e *state.Entry) { e.Prev = state.DigestOf([]byte("x")) },
		"of different sets":     func(e *state.Entry) { e.Cleanroom.Shard.Count = 3 },
		"has built":             func(e *state.Entry) { e.Cleanroom.Toolchain = "go1.0 plan9/mips" },
		"made the image":        func(e *state.Entry) { e.Cleanroom.Shard.Image = state.DigestOf([]byte("x")) },
		"is in shard 1 of 2":    func(e *state.Entry) { e.Checks = chains[0][1].Entry.Checks },
	} {
		link := chains[1][1]
		claim := *link.Entry.Cleanroom
		shard := *claim.Shard
		claim.Shard, link.Entry.Cleanroom = &shard, &claim
		change(&link.Entry)
		_, err := cleanroom.Merge{Shards: []state.State{chains[0], {before[0], link}}}.Run(t.Context(), before, nil)
		if err == nil || !strings.Contains(err.Error(), says) || fault.KindOf(err) != fault.Finding {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}

// TestShardFails has a failing test in one shard: the result has failed and no image.
func TestShardFails(t *testing.T) {
	t.Parallel()
	broken := with(map[string]string{"store/put.go": "package store\n\n// Put puts.\nfunc Put(n int) int { return n }\n"})
	before, chains := shards(t, broken, 2)
	res, err := cleanroom.Merge{Shards: chains}.Run(t.Context(), before, nil)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "shard 2 of 2 failed") {
		t.Errorf("got %v", err)
	}
	digest(t, res.Entry, before.Head()) // checks it
	if res.Entry.Outcome != state.Failed || res.Entry.Cleanroom.Image != "" || len(res.Entry.Artifacts) > 0 || len(res.Entry.Checks) != 3 {
		t.Errorf("%+v", res.Entry)
	}
}

// TestShardNotes merges what shards found that does not gate: what is flaky, what is in
// quarantine, and what each of them says once.
func TestShardNotes(t *testing.T) {
	t.Parallel()
	before, chains := shards(t, shop, 2)
	note := func(rule string, severity finding.Severity, what string) finding.Finding {
		return finding.Finding{Rule: rule, Severity: severity, What: what}
	}
	unused := note(cleanroom.RuleQuarantine, finding.Low, "nothing failed of a")
	everywhere := note(cleanroom.RuleQuarantine, finding.Low, "nothing failed of b")
	waived := note(cleanroom.RuleQuarantine, finding.Medium, "test a failed, in quarantine")
	flaky := note(cleanroom.RuleFlaky, finding.Medium, "test c is flaky")
	first, second := &chains[0][1], &chains[1][1]
	old := state.Evidence{Kind: state.KindRun, Facts: map[string]string{cleanroom.FactFlaky: "7"}, Findings: []finding.Finding{note("old", finding.Info, "of an older run")}}
	first.Evidence = []state.Evidence{old, {
		Kind: state.KindRun, Facts: map[string]string{cleanroom.FactRetries: "2", cleanroom.FactFlaky: "1"}, Findings: []finding.Finding{flaky, unused, everywhere},
	}, {Kind: state.KindSignature}}
	second.Evidence = []state.Evidence{{
		Kind: state.KindRun, Facts: map[string]string{cleanroom.FactRetries: "3", cleanroom.FactFlaky: "-4"}, Findings: []finding.Finding{waived, everywhere},
	}}
	second.Entry.Checks[0].Outcome = state.Waived
	res, err := cleanroom.Merge{Shards: chains}.Run(t.Context(), before, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []finding.Finding{flaky, everywhere, waived}; !slices.Equal(res.Evidence.Findings, want) {
		t.Errorf("findings %v, want %v", res.Evidence.Findings, want)
	}
	if want := "1 of 3 tests passed, 1 skipped, 1 in quarantine, 1 flaky in 2 shards"; res.Evidence.Summary != want {
		t.Errorf("summary %q, want %q", res.Evidence.Summary, want)
	}
	if want := map[string]string{cleanroom.FactRetries: "3", cleanroom.FactFlaky: "1"}; !maps.Equal(res.Evidence.Facts, want) {
		t.Errorf("facts %v, want %v", res.Evidence.Facts, want)
	}
}

func TestShardRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, s := range []state.Shard{{Index: 0, Count: 2}, {Index: 3, Count: 2}, {Index: 1, Count: state.MaxShards + 1}, {Index: -1, Count: -1}} {
		l.step.Shard = &s
		if _, err := l.run(t, shop); fault.KindOf(err) != fault.Usage {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
