package door

import (
	"context"
	"fmt"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// parseShard reads "I/N"; nothing is no shard.
func parseShard(s string) (*state.Shard, error) {
	if s == "" {
		return nil, nil
	}
	var shard state.Shard
	_, err := fmt.Sscanf(s, "%d/%d", &shard.Index, &shard.Count)
	if err != nil || s != fmt.Sprintf("%d/%d", shard.Index, shard.Count) {
		err = fmt.Errorf("%q is not INDEX/COUNT", s)
	}
	if err == nil {
		err = shard.Check()
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, "write INDEX/COUNT, for example 1/3", "--shard")
	}
	return &shard, nil
}

// Merge is the phase where shards have done the work.
type Merge struct {
	Refs   []string `arg:"" optional:"" name:"state" twin:"shards" help:"State that a shard handed on, <store>@sha256:<digest>."`
	Shards []string `help:"The same as a flag; may be repeated."`
}

// Help shows how it is called.
func (*Merge) Help() string {
	return `The states must follow the same state and be a whole set; a missing one ends with
exit code 1. The result is that of a run of all tests, and lies in the store of the
state that is named first.

Examples:
  ultrafast-cleanroom-test merge "$STATE_1" "$STATE_2" "$STATE_3"`
}

// Run merges.
func (m *Merge) Run(ctx context.Context, a *app.App) error {
	refs := append(m.Refs, m.Shards...)
	if len(refs) == 0 {
		return fault.New(fault.Usage, "name the states of all shards", "no shard was named")
	}
	if len(refs) > state.MaxShards {
		return fault.New(fault.Usage, "", "%d states were named; at most %d are taken", len(refs), state.MaxShards)
	}
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	var step cleanroom.Merge
	var into *app.Chain
	for _, ref := range refs {
		a.State = ref
		chain, err := a.OpenChain(ctx, project.Dir)
		if err != nil {
			return fmt.Errorf("shard %s: %w", ref, err)
		}
		step.Shards = append(step.Shards, chain.State)
		if into == nil {
			into = chain
		}
	}
	into.State = into.State[:max(0, len(into.State)-1)]
	return a.RunSteps(ctx, into, app.Run{Verdict: "merged", Failed: "cleanroom-test: the shards make no result"}, step)
}
