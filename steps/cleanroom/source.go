package cleanroom

import (
	"context"
	"io/fs"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Source is a directory that is built in place of a tree that was generated.
type Source struct {
	// Files are the directory.
	Files fs.FS
	// Seed decides over the order of tests.
	Seed uint64
}

// findTree returns the tree to build, and notes what else is known of it.
func (t *trial) findTree(_ context.Context, in state.State, _ state.Blobs) (tree state.Artifact, err error) {
	tree, t.seed, err = generated(in)
	return tree, err
}

// generated returns the tree to build and the seed of its generation.
func generated(in state.State) (tree state.Artifact, seed uint64, err error) {
	const hint = "run `generate` first and hand on its state"
	link, ok := in.Last(phase.Generate)
	if !ok {
		return tree, 0, fault.New(fault.Usage, hint, "the state has no generate entry, so no tree to build")
	}
	if link.Entry.Outcome != state.Passed {
		return tree, 0, fault.New(fault.Finding, hint, "the generate entry %s did not pass", link.Digest.Short())
	}
	tree, ok = link.Entry.Artifact(state.ArtifactTree)
	if !ok || tree.MediaType != state.MediaTypeTree {
		return tree, 0, fault.New(fault.Finding, hint, "the generate entry %s has no artifact %q of type %s", link.Digest.Short(), state.ArtifactTree, state.MediaTypeTree)
	}
	return tree, link.Entry.Generate.Seed, nil
}
