package door

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
)

// merging sets what --merge and --merge-base ask for.
func (t *Template) merging(ctx context.Context, a *app.App, project *config.Project, out *Tree) error {
	switch t.Merge {
	case "":
		if t.MergeBase != "" {
			return fault.New(fault.Usage, "give --merge too", "--merge-base is the base of a merge, and none is asked for")
		}
		return nil
	case app.ChoiceAlone:
	case app.Choice(generate.PreferGenerated), app.Choice(generate.PreferManual):
		out.prefer = generate.Prefer(t.Merge)
	default:
		return fault.New(fault.Usage, fault.DidYouMean(string(t.Merge), []string{string(generate.PreferGenerated), string(generate.PreferManual)}),
			"--merge=%s: it stands alone, or is %s or %s", t.Merge, generate.PreferGenerated, generate.PreferManual)
	}
	switch {
	case t.Force:
		return fault.New(fault.Usage, "give one of them", "--merge keeps what was changed by hand, and --force overwrites it")
	case out.Dir == "":
		return fault.New(fault.Usage, "give --output-dir", "--merge merges into a directory, and none is named")
	}
	out.merge = true
	if t.MergeBase == "" {
		return nil
	}
	var err error
	out.base, err = mergeBase(ctx, a, project, t.MergeBase)
	return err
}

// mergeBase returns the tree that ref names: that of a state, or a directory.
func mergeBase(ctx context.Context, a *app.App, project *config.Project, ref string) (fs.FS, error) {
	if !strings.Contains(ref, "@sha256:") {
		base, err := openDir(a, a.Abs(ref))
		if errors.Is(err, fs.ErrNotExist) {
			err = fault.New(fault.Usage, "name a directory, or a state, <store>@sha256:<digest>", "--merge-base: there is no directory %s", ref)
		}
		return base, err
	}
	chain, err := a.OpenState(ctx, ref, project.Dir)
	if err != nil {
		return nil, fault.Wrap(err, fault.KindOf(err), "", "--merge-base")
	}
	link, ok := chain.State.Last(phase.Generate)
	if !ok {
		return nil, fault.New(fault.Usage, "name a state of generate, or of a phase behind it", "--merge-base %s: nothing was generated in it", ref)
	}
	return generate.TreeOf(ctx, link, chain.Store)
}
