package door

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// State looks into a chain.
type State struct {
	Show    StateShow    `cmd:"" help:"Show the entries of a chain and what they hold."`
	Verify  StateVerify  `cmd:"" help:"Read every artifact of a chain and compare its digest."`
	Extract StateExtract `cmd:"" help:"Unpack a tree or copy a file out of a chain."`
}

// StateShow prints a chain.
type StateShow struct{}

// Help shows how it is called.
func (*StateShow) Help() string {
	return "Example:\n  ultrafast state show --state layout:.ggen/state@sha256:3f0c…"
}

// Run prints the chain of --state.
func (*StateShow) Run(ctx context.Context, a *app.App) error {
	chain, err := openGiven(ctx, a)
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(chain.State)
	}
	rows := [][]any{{"PHASE", "ENTRY", "OUTCOME", "ARTIFACT", "DIGEST", "BYTES"}}
	for _, link := range chain.State {
		rows = append(rows, []any{link.Entry.Phase, link.Digest.Short(), link.Entry.Outcome})
		for _, artifact := range link.Entry.Artifacts {
			rows = append(rows, []any{"", "", "", artifact.Name, artifact.Digest.Short(), artifact.Size})
		}
	}
	return a.Table(rows...)
}

// StateVerify reads everything.
type StateVerify struct{}

// Help shows how it is called.
func (*StateVerify) Help() string {
	return "Example:\n  ultrafast state verify --state layout:.ggen/state@sha256:3f0c…"
}

// Run reads every artifact of the chain of --state, evidence included.
func (*StateVerify) Run(ctx context.Context, a *app.App) error {
	chain, err := openGiven(ctx, a)
	if err != nil {
		return err
	}
	var errs []error
	count := 0
	for _, link := range chain.State {
		artifacts := link.Entry.Artifacts
		for _, ev := range link.Evidence {
			artifacts = append(artifacts[:len(artifacts):len(artifacts)], ev.Artifacts...)
		}
		for _, artifact := range artifacts {
			r, err := chain.Store.Open(ctx, artifact) // verifies all bytes
			if err != nil {
				errs = append(errs, fmt.Errorf("entry %s (%s): %w", link.Digest.Short(), link.Entry.Phase, err))
				continue
			}
			errs = append(errs, r.Close())
			count++
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	fmt.Fprintf(a.Stdout, "%d entries, %d artifacts, chain whole\n", len(chain.State), count)
	return nil
}

// StateExtract takes an artifact out.
type StateExtract struct {
	Artifact string `arg:"" help:"Name of the artifact as 'state show' prints it; the latest entry that has it counts."`
	To       string `required:"" type:"path" placeholder:"PATH" help:"An empty or new directory for a tree or package, a new file for anything else."`
}

// Help shows how it is called.
func (*StateExtract) Help() string {
	return "Example:\n  ultrafast state extract tree --to ./generated --state layout:.ggen/state@sha256:3f0c…"
}

// Run copies the artifact.
func (s *StateExtract) Run(ctx context.Context, a *app.App) error {
	chain, err := openGiven(ctx, a)
	if err != nil {
		return err
	}
	artifact, err := s.find(chain.State)
	if err != nil {
		return err
	}
	if artifact.MediaType == state.MediaTypeTree || artifact.MediaType == state.MediaTypePackage {
		return extractTree(ctx, chain.Store, artifact, s.To)
	}
	b, err := state.ReadBlob(ctx, chain.Store, artifact)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.To, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fault.Wrap(err, fault.Usage, "name a file that does not exist yet", "extract "+s.Artifact)
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

func (s *StateExtract) find(chain state.State) (state.Artifact, error) {
	var known []string
	for i := len(chain) - 1; i >= 0; i-- {
		artifacts := chain[i].Entry.Artifacts
		for _, ev := range chain[i].Evidence {
			artifacts = append(artifacts[:len(artifacts):len(artifacts)], ev.Artifacts...)
		}
		for _, artifact := range artifacts {
			if artifact.Name == s.Artifact {
				return artifact, nil
			}
			known = append(known, artifact.Name)
		}
	}
	return state.Artifact{}, fault.New(fault.Finding, fault.DidYouMean(s.Artifact, known), "no entry of the chain has an artifact %q", s.Artifact)
}

func extractTree(ctx context.Context, from *store.Store, artifact state.Artifact, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fault.Wrap(err, fault.Usage, "name a directory that can be made", "extract "+artifact.Name)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		return errors.Join(fault.New(fault.Usage, "name an empty or a new directory", "extract %s: %s is not empty", artifact.Name, path.Base(dir)), err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	r, err := from.Open(ctx, artifact)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return state.Extract(ctx, r, root, state.Limits{})
}

// openGiven opens the chain of --state, which must be given.
func openGiven(ctx context.Context, a *app.App) (*app.Chain, error) {
	if a.Globals.State == "" {
		return nil, fault.New(fault.Usage, "give --state <store>@sha256:<digest>, as every run prints it", "no state was given")
	}
	project, err := a.LoadProject()
	if err != nil {
		return nil, err
	}
	return a.OpenChain(ctx, project.Dir)
}
