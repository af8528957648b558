package cleanroom

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// tasks returns the test processes that are to run: of all units, or those of the
// shard.
func (t *trial) tasks(ctx context.Context) ([]task, error) {
	var all []share
	for _, s := range t.suites {
		units, err := s.runner.units(ctx, t, s)
		if err != nil {
			return nil, err
		}
		for _, unit := range units {
			if t.selected(s, unit) {
				all = append(all, share{suite: s, unit: unit, seconds: t.step.Tests.Durations[s.results.label(unit)]})
			}
		}
	}
	if t.step.Tests.selects() && len(all) == 0 {
		return nil, fault.New(fault.Finding, "name test files relative to the root of the tree, or patterns such as \"tests/**/*_test.sh\"",
			"no test of the tree matches %s", strings.Join(t.step.Tests.Files, ", "))
	}
	if t.step.Shard != nil {
		all, t.plan = cut(all, *t.step.Shard)
	}
	var tasks []task
	for _, one := range all {
		if n := len(tasks); one.suite.runner.whole() && n > 0 && tasks[n-1].suite == one.suite {
			tasks[n-1].units = append(tasks[n-1].units, one.unit)
			continue
		}
		tasks = append(tasks, task{suite: one.suite, units: []string{one.unit}, number: len(tasks) + 1})
	}
	return tasks, nil
}

// selected reports that the unit is among the tests that were asked for.
func (t *trial) selected(s *suite, unit string) bool {
	if !t.step.Tests.selects() {
		return true
	}
	return slices.ContainsFunc(t.step.Tests.Files, func(pattern string) bool {
		if s.runner.whole() { // its units are directories
			return match(pattern, s.results.relative(unit)) || match(path.Dir(pattern), s.results.relative(unit)) && strings.HasSuffix(pattern, ".go")
		}
		return match(pattern, unit)
	})
}

// share is a unit that a shard may get.
type share struct {
	suite   *suite
	unit    string
	seconds float64
}

// cut returns the units of a shard, in their order, and the digest of the plan. Where
// it is known how long units took, the longest goes first, each to the shard that has
// the least to do until then (longest processing time first: R. L. Graham, Bounds on
// Multiprocessing Timing Anomalies, 1969, at most 4/3 of the best); a unit that is not
// known counts as the median. Where nothing is known every Count-th unit goes to a
// shard, and the plan is empty.
func cut(all []share, shard state.Shard) (own []share, plan state.Digest) {
	var known []float64
	for _, one := range all {
		if one.seconds > 0 {
			known = append(known, one.seconds)
		}
	}
	if len(known) == 0 {
		for i := shard.Index - 1; i < len(all); i += shard.Count {
			own = append(own, all[i])
		}
		return own, ""
	}
	slices.Sort(known)
	order, loads, to := make([]int, len(all)), make([]float64, shard.Count), make([]int, len(all))
	h := state.NewHasher()
	fmt.Fprintf(h, "shards 1\n%d\n", shard.Count)
	for i := range all {
		order[i] = i
		if all[i].seconds <= 0 {
			all[i].seconds = known[len(known)/2]
		}
		fmt.Fprintf(h, "%s\x00%s\x00%g\n", all[i].suite.name, all[i].unit, all[i].seconds)
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(all[j].seconds, all[i].seconds) })
	for _, i := range order {
		least := 0
		for k, load := range loads {
			if load < loads[least] {
				least = k
			}
		}
		loads[least] += all[i].seconds
		to[i] = least + 1
	}
	for i, one := range all {
		if to[i] == shard.Index {
			own = append(own, one)
		}
	}
	return own, h.Digest()
}

// listing keeps the first bytes that are written to it.
type listing struct {
	most int
	kept bytes.Buffer
	left int
}

func (l *listing) Write(p []byte) (int, error) {
	n := min(len(p), l.most-l.kept.Len())
	l.kept.Write(p[:n])
	l.left += len(p) - n
	return len(p), nil
}

// markShard makes the entry of a whole run that of a shard.
func (t *trial) markShard(e *state.Entry) {
	if t.step.Shard == nil {
		return
	}
	shard := *t.step.Shard
	shard.Plan = t.plan
	shard.Image, e.Cleanroom.Image = e.Cleanroom.Image, ""
	e.Cleanroom.Shard = &shard
	for i := range e.Artifacts {
		e.Artifacts[i].Name = state.ShardPrefix + e.Artifacts[i].Name
	}
}

// markSelection makes the entry of a whole run that of some tests.
func (t *trial) markSelection(e *state.Entry) {
	if t.step.Tests.selects() {
		e.Cleanroom.Selected = slices.Sorted(slices.Values(t.step.Tests.Files))
	}
}

// Merge is the cleanroom-test phase where other runs have done the work: it makes one
// entry of the last ones of the chains of all shards, the entry that a run of all
// tests makes, with what the shards have found. Nothing is run.
type Merge struct{ Shards []state.State }

// Phase returns phase.Cleanroom.
func (Merge) Phase() phase.Name { return phase.Cleanroom }

// Key returns nil: to merge is cheaper than to look.
func (Merge) Key(context.Context, state.State) (map[string]string, error) { return nil, nil }

// Run merges. Shards that do not belong together, one that is missing and one that
// occurs twice are a fault.Finding without a result; a shard whose tests failed is one
// beside a result whose outcome is Failed.
func (m Merge) Run(_ context.Context, in state.State, _ state.Blobs) (state.Result, error) {
	links, err := m.links(in.Head())
	if err != nil {
		return state.Result{}, err
	}
	entries := make([]*state.Entry, 0, len(links))
	for _, l := range links {
		entries = append(entries, &l.Entry)
	}
	if err := same(entries); err != nil {
		return state.Result{}, err
	}
	first := entries[0]
	claim := *first.Cleanroom
	claim.Shard, claim.Image = nil, first.Cleanroom.Shard.Image
	out := state.Entry{Phase: phase.Cleanroom, Outcome: state.Passed, Inputs: first.Inputs, Cleanroom: &claim}
	var failed []string
	for _, e := range entries {
		out.Checks = append(out.Checks, e.Checks...)
		if e.Outcome != state.Passed {
			failed = append(failed, name(e))
		}
	}
	evidence := mergedEvidence(links, out.Checks)
	if failed != nil {
		out.Outcome, claim.Image = state.Failed, ""
		err := fault.New(fault.Finding, "look at its job, mend what fails, and run all shards again", "%s failed", strings.Join(failed, ", "))
		return state.Result{Entry: out, Evidence: evidence}, err
	}
	for _, a := range first.Artifacts {
		a.Name = strings.TrimPrefix(a.Name, state.ShardPrefix)
		out.Artifacts = append(out.Artifacts, a)
	}
	return state.Result{Entry: out, Evidence: evidence}, nil
}

// mergedEvidence is what the newest runs of the shards say besides their claims, as a
// run of all tests says it. The reports stay with the shards.
func mergedEvidence(shards []*state.Link, checks []state.Check) state.Evidence {
	ends := map[state.Outcome]int{}
	for _, c := range checks {
		ends[c.Outcome]++
	}
	ev := state.Evidence{Facts: map[string]string{}}
	sum := 0
	said := map[finding.Finding]int{}
	var found []finding.Finding
	for _, shard := range shards {
		run := shard.Run()
		retries, ok := fact(run, FactRetries)
		if before, _ := fact(&ev, FactRetries); ok && retries >= before {
			ev.Facts[FactRetries] = strconv.Itoa(retries)
		}
		flaky, _ := fact(run, FactFlaky)
		sum += flaky
		for _, f := range run.Findings {
			if said[f]++; said[f] == 1 {
				found = append(found, f)
			}
		}
	}
	if sum > 0 {
		ev.Facts[FactFlaky] = strconv.Itoa(sum)
	}
	for _, f := range found {
		// That nothing failed of a test is said by each shard that it is not in.
		if f.Severity.Gates() || f.Rule == RuleQuarantine && f.Severity == finding.Low && said[f] < len(shards) {
			continue
		}
		ev.Findings = append(ev.Findings, f)
	}
	ev.Findings = ev.Findings[:min(len(ev.Findings), maxFindings)]
	ev.Summary = fmt.Sprintf("%d of %d tests passed", ends[state.Passed], len(checks)) +
		besides(ends[state.Skipped], ends[state.Waived], sum) + fmt.Sprintf(" in %d shards", len(shards))
	return ev
}

// fact returns a count of the evidence, which another machine may have written: what
// is none is absent.
func fact(ev *state.Evidence, name string) (n int, ok bool) {
	n, err := strconv.Atoi(ev.Facts[name])
	if err != nil || n < 0 || n > maxTests {
		return 0, false
	}
	return n, true
}

func name(e *state.Entry) string {
	return fmt.Sprintf("shard %d of %d", e.Cleanroom.Shard.Index, e.Cleanroom.Shard.Count)
}

// links returns the entries of the shards with their evidence, in order, if they are a
// whole set that follows the entry prev.
func (m Merge) links(prev state.Digest) ([]*state.Link, error) {
	const hint = "merge the states of all jobs of one run, each once"
	var links []*state.Link
	for i, chain := range m.Shards {
		if len(chain) == 0 || chain[len(chain)-1].Entry.Cleanroom == nil || chain[len(chain)-1].Entry.Cleanroom.Shard == nil {
			return nil, fault.New(fault.Finding, "name states that `cleanroom-test run --shard` made", "state %d of %d does not end with a shard", i+1, len(m.Shards))
		}
		links = append(links, &chain[len(chain)-1])
	}
	if len(links) == 0 {
		return nil, fault.New(fault.Usage, hint, "no shard was named")
	}
	slices.SortFunc(links, func(a, b *state.Link) int { return a.Entry.Cleanroom.Shard.Index - b.Entry.Cleanroom.Shard.Index })
	first := links[0].Entry.Cleanroom
	have := map[int]bool{}
	for _, l := range links {
		e := &l.Entry
		c := e.Cleanroom
		switch {
		case e.Prev != prev:
			return nil, fault.New(fault.Finding, hint, "%s follows another entry (%s) than the first one named (%s)", name(e), e.Prev.Short(), prev.Short())
		case c.Shard.Count != first.Shard.Count:
			return nil, fault.New(fault.Finding, hint, "%s and %s are of different sets", name(e), name(&links[0].Entry))
		case c.Shard.Plan != first.Shard.Plan:
			return nil, fault.New(fault.Finding, "give all shards the same file of durations", "%s and %s were cut by different durations: a test may be in none", name(e), name(&links[0].Entry))
		case have[c.Shard.Index]:
			return nil, fault.New(fault.Finding, hint, "%s occurs twice", name(e))
		case c.Tree != first.Tree || c.Toolchain != first.Toolchain:
			return nil, fault.New(fault.Finding, hint, "%s has built %s with %s, %s %s with %s", name(e), c.Tree.Short(), c.Toolchain, name(&links[0].Entry), first.Tree.Short(), first.Toolchain)
		}
		have[c.Shard.Index] = true
	}
	var missing []string
	for i := 1; i <= first.Shard.Count; i++ {
		if !have[i] {
			missing = append(missing, fmt.Sprint(i))
		}
	}
	if missing != nil {
		return nil, fault.New(fault.Finding, hint, "of %d shards these are missing: %s", first.Shard.Count, strings.Join(missing, ", "))
	}
	return links, nil
}

// same checks what shards that passed must agree on: the image, and that no test ran
// in two of them.
func same(entries []*state.Entry) error {
	in := map[string]*state.Entry{}
	var passed *state.Entry
	for _, e := range entries {
		for _, c := range e.Checks {
			if other := in[c.Name]; other != nil {
				return fault.New(fault.Finding, "run all shards again from one state", "the test %s is in %s and in %s", c.Name, name(other), name(e))
			}
			in[c.Name] = e
		}
		if e.Outcome != state.Passed {
			continue
		}
		if passed != nil && (e.Cleanroom.Shard.Image != passed.Cleanroom.Shard.Image || !slices.Equal(e.Artifacts, passed.Artifacts)) {
			return fault.New(fault.Finding, "look what differs between the two machines: equal trees and toolchains give equal images",
				"%s made the image %s, %s the image %s", name(e), e.Cleanroom.Shard.Image.Short(), name(passed), passed.Cleanroom.Shard.Image.Short())
		}
		passed = e
	}
	return nil
}
