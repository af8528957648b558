package cleanroom

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// packages returns what `go test` is given: the packages of the shard, or all.
func (t *trial) packages(ctx context.Context) ([]string, error) {
	shard := t.step.Shard
	if shard == nil {
		return []string{"./..."}, nil
	}
	var list listing
	status, err := t.run(ctx, "list", &list, &t.testText, []sandbox.Mount{}, []string{"list", "./..."})
	switch {
	case err != nil:
		return nil, err
	case !status.OK():
		return nil, fault.New(fault.Finding, "run `go list ./...` in the tree", "list the packages: %s: %s", status, t.testText.String())
	case list.left > 0:
		return nil, fault.New(fault.Finding, "run the tests in one piece", "the packages of the tree are more than %d bytes of names", maxListing)
	}
	all := strings.Fields(list.kept.String())
	slices.Sort(all)
	var own []string
	for i := shard.Index - 1; i < len(all); i += shard.Count {
		own = append(own, all[i])
	}
	return own, nil
}

// maxListing bounds the names of all packages, in bytes.
const maxListing = 4 << 20

// listing keeps the first maxListing bytes that are written to it.
type listing struct {
	kept bytes.Buffer
	left int
}

func (l *listing) Write(p []byte) (int, error) {
	n := min(len(p), maxListing-l.kept.Len())
	l.kept.Write(p[:n])
	l.left += len(p) - n
	return len(p), nil
}

// markShard makes the entry of a whole run that of a shard.
func (s Step) markShard(e *state.Entry) {
	if s.Shard == nil {
		return
	}
	shard := *s.Shard
	shard.Image, e.Cleanroom.Image = e.Cleanroom.Image, ""
	e.Cleanroom.Shard = &shard
	for i := range e.Artifacts {
		e.Artifacts[i].Name = state.ShardPrefix + e.Artifacts[i].Name
	}
}

// Merge is the cleanroom-test phase where other runs have done the work: it makes one
// entry of the last ones of the chains of all shards, the entry that a run of all
// tests makes. Nothing is run.
type Merge struct{ Shards []state.State }

// Phase returns phase.Cleanroom.
func (Merge) Phase() phase.Name { return phase.Cleanroom }

// Key returns nil: to merge is cheaper than to look.
func (Merge) Key(context.Context, state.State) (map[string]string, error) { return nil, nil }

// Run merges. Shards that do not belong together, one that is missing and one that
// occurs twice are a fault.Finding without a result; a shard whose tests failed is one
// beside a result whose outcome is Failed.
func (m Merge) Run(_ context.Context, in state.State, _ state.Blobs) (state.Result, error) {
	entries, err := m.entries(in.Head())
	if err != nil {
		return state.Result{}, err
	}
	first := entries[0]
	claim := *first.Cleanroom
	claim.Shard, claim.Image = nil, first.Cleanroom.Shard.Image
	out := state.Entry{Phase: phase.Cleanroom, Outcome: state.Passed, Cleanroom: &claim}
	var failed []string
	for _, e := range entries {
		out.Checks = append(out.Checks, e.Checks...)
		if e.Outcome != state.Passed {
			failed = append(failed, name(e))
		}
	}
	passed := 0
	for _, c := range out.Checks {
		if c.Outcome == state.Passed {
			passed++
		}
	}
	evidence := state.Evidence{Summary: fmt.Sprintf("%d of %d tests passed in %d shards", passed, len(out.Checks), len(entries))}
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

func name(e *state.Entry) string {
	return fmt.Sprintf("shard %d of %d", e.Cleanroom.Shard.Index, e.Cleanroom.Shard.Count)
}

// entries returns the entries of the shards, in order, if they are a whole set that
// follows the entry prev.
func (m Merge) entries(prev state.Digest) ([]*state.Entry, error) {
	const hint = "merge the states of all jobs of one run, each once"
	var entries []*state.Entry
	for i, chain := range m.Shards {
		if len(chain) == 0 || chain[len(chain)-1].Entry.Cleanroom == nil || chain[len(chain)-1].Entry.Cleanroom.Shard == nil {
			return nil, fault.New(fault.Finding, "name states that `cleanroom-test run --shard` made", "state %d of %d does not end with a shard", i+1, len(m.Shards))
		}
		entries = append(entries, &chain[len(chain)-1].Entry)
	}
	if len(entries) == 0 {
		return nil, fault.New(fault.Usage, hint, "no shard was named")
	}
	slices.SortFunc(entries, func(a, b *state.Entry) int { return a.Cleanroom.Shard.Index - b.Cleanroom.Shard.Index })
	first := entries[0].Cleanroom
	have := map[int]bool{}
	for _, e := range entries {
		c := e.Cleanroom
		switch {
		case e.Prev != prev:
			return nil, fault.New(fault.Finding, hint, "%s follows another entry (%s) than the first one named (%s)", name(e), e.Prev.Short(), prev.Short())
		case c.Shard.Count != first.Shard.Count:
			return nil, fault.New(fault.Finding, hint, "%s and %s are of different sets", name(e), name(entries[0]))
		case have[c.Shard.Index]:
			return nil, fault.New(fault.Finding, hint, "%s occurs twice", name(e))
		case c.Tree != first.Tree || c.Toolchain != first.Toolchain:
			return nil, fault.New(fault.Finding, hint, "%s has built %s with %s, %s %s with %s", name(e), c.Tree.Short(), c.Toolchain, name(entries[0]), first.Tree.Short(), first.Toolchain)
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
	return entries, same(entries)
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
