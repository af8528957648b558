package door

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	cleanroom "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	deploy "github.com/ultrafast-ci/ultrafast/actions/deploy/door"
	generate "github.com/ultrafast-ci/ultrafast/actions/generate/door"
	market "github.com/ultrafast-ci/ultrafast/actions/market/door"
	validate "github.com/ultrafast-ci/ultrafast/actions/validate/door"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/pipeline"
	"github.com/ultrafast-ci/ultrafast/internal/registry"
	stepcleanroom "github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	steps "github.com/ultrafast-ci/ultrafast/steps/generate"
	stepmarket "github.com/ultrafast-ci/ultrafast/steps/market"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// step returns the phase as it ran when it made the entry, as far as that is
// recorded, and as the project and the flags say for the rest.
func (r *Replay) step(ctx context.Context, a *app.App, before state.State, recorded *state.Link, work *scratch) (pipeline.Step, error) {
	project, err := a.LoadProject()
	if err != nil {
		return nil, err
	}
	switch recorded.Entry.Phase {
	case phase.Market:
		return r.market(a, project, recorded, work)
	case phase.Generate:
		return r.generate(ctx, a, project, before, recorded)
	case phase.Cleanroom:
		return r.cleanroom(ctx, a, project, recorded, work)
	case phase.Validate:
		return validate.NewStep(a, project, validate.Options{MinIsolation: r.MinIsolation, TrustRoot: r.TrustRoot})
	default:
		return nil, fault.New(fault.Internal, "", "phase %s cannot be replayed", recorded.Entry.Phase)
	}
}

// market installs what was installed, from the registry into a temporary directory:
// the claim and its evidence hold all that the lock file said. Where they do not,
// the project's lock file counts.
func (r *Replay) market(a *app.App, project *config.Project, recorded *state.Link, work *scratch) (pipeline.Step, error) {
	lock := lockOf(recorded)
	options := market.Options{Locked: lock != nil}
	for _, p := range recorded.Entry.Market.Packages {
		options.Packages = append(options.Packages, p.ID+"@="+p.Version)
	}
	if lock != nil {
		only := *project // the packages that the project asks for now may be others
		only.Packages = nil
		project = &only
	}
	step, err := market.NewStep(a, project, options)
	if err != nil {
		return nil, err
	}
	step.Store = registry.NewStore(work.packages)
	step.Lock = pinned{bytes: lock, file: filepath.Join(project.Dir, stepmarket.LockName)}
	return step, nil
}

// lockOf returns the lock file as it was, or nil if it cannot be told.
func lockOf(recorded *state.Link) []byte {
	facts := recorded.Run().Facts
	var entries []stepmarket.Locked
	for _, p := range recorded.Entry.Market.Packages {
		entries = append(entries, stepmarket.Locked{
			ID: p.ID, Version: p.Version, Sum: p.Sum, Source: facts["package."+p.ID+".source"], Dependencies: p.Dependencies,
		})
	}
	lock := stepmarket.FormatLock(entries)
	for _, in := range recorded.Entry.Inputs {
		if in.Name == stepmarket.LockName && in.Digest == state.DigestOf(lock) && len(entries) > 0 {
			return lock
		}
	}
	return nil
}

// pinned is a lock file that is not written.
type pinned struct {
	bytes []byte
	file  string
}

// Read returns what was recorded, or what the project has.
func (p pinned) Read() ([]byte, error) {
	if p.bytes != nil {
		return p.bytes, nil
	}
	return registry.LockFile(p.file).Read()
}

// Write does nothing.
func (p pinned) Write([]byte) error { return nil }

// generate renders as the flags and the project say, with the seed of the entry. The
// names of templates and the switches that were given on a command line are found by
// the digests of the inputs.
func (r *Replay) generate(ctx context.Context, a *app.App, project *config.Project, before state.State, recorded *state.Link) (pipeline.Step, error) {
	build := func(templates []string, switches int) (*steps.Step, error) {
		on := func(n int) bool { return switches>>n&1 == 1 }
		return generate.NewStep(a, project, generate.Options{
			Template: templates, Vars: r.Vars, VarsFile: r.VarsFile, Graph: r.Graph, Package: r.Package,
			AllowShellChars: true, // what was accepted once is accepted again
			AllowHooks:      r.AllowHooks, MinIsolation: r.MinIsolation,
			Seed:   recorded.Entry.Generate.Seed,
			Strict: on(0), AllowCI: on(1), KeepMapOrder: on(2), TemplateVarsWin: on(3),
		})
	}
	templates := r.Template
	step, err := build(templates, 0)
	if len(templates) == 0 && (err != nil || !agrees(ctx, step, before, recorded, "units")) {
		for _, named := range namedBy(recorded.Entry.Generate.Templates) {
			other, otherErr := build(named, 0)
			if otherErr != nil {
				continue
			}
			if fits := agrees(ctx, other, before, recorded, "units"); fits || err != nil {
				templates, step, err = named, other, nil
				if fits {
					break
				}
			}
		}
	}
	if err != nil {
		return nil, err
	}
	if agrees(ctx, step, before, recorded, "options") {
		return step, nil
	}
	for switches := 1; switches < 16; switches++ {
		if other, err := build(templates, switches); err == nil && agrees(ctx, other, before, recorded, "options") {
			return other, nil
		}
	}
	return step, nil
}

// namedBy returns what may have been written on a command line for the templates of
// an entry: each of them, or all of each package.
func namedBy(templates []string) [][]string {
	var whole []string
	for _, ref := range templates {
		pack, _, ok := strings.Cut(ref, ":")
		if all := pack + ":*"; ok && !slices.Contains(whole, all) {
			whole = append(whole, all)
		}
	}
	var out [][]string
	for _, named := range [][]string{templates, whole} {
		if len(named) > 0 {
			out = append(out, named)
		}
	}
	return out
}

// agrees reports whether an input of the step is the one that was recorded.
func agrees(ctx context.Context, step *steps.Step, before state.State, recorded *state.Link, name string) bool {
	inputs, err := step.Key(ctx, before)
	return err == nil && slices.Contains(recorded.Entry.Inputs, state.Input{Name: name, Digest: state.Digest(inputs[name])})
}

// cleanroom tests the tree of the chain, or the source that began it: those tests that
// the entry is of, with the retries that they had. How long tests had taken, by which shards may have been cut, is not
// recorded.
func (r *Replay) cleanroom(ctx context.Context, a *app.App, project *config.Project, recorded *state.Link, work *scratch) (pipeline.Step, error) {
	step, err := cleanroom.NewStep(ctx, a, project, cleanroom.Options{MinIsolation: r.MinIsolation})
	if err != nil {
		return nil, err
	}
	step.Tests.ResultsDir = "" // a replay changes nothing of the project
	claim := recorded.Entry.Cleanroom
	step.Tests.Files = claim.Selected
	if text, ok := recorded.Run().Facts[stepcleanroom.FactRetries]; ok {
		if step.Tests.Retries, err = strconv.Atoi(text); err != nil {
			return nil, fault.Wrap(err, fault.Finding, "restore the store", "read "+stepcleanroom.FactRetries+" in the evidence of the entry")
		}
	}
	if claim.Shard != nil {
		step.Shard = &state.Shard{Index: claim.Shard.Index, Count: claim.Shard.Count}
	}
	if step.Source, err = work.source(ctx, recorded); err != nil {
		return nil, err
	}
	return step, nil
}

// source unpacks the source that began the chain with the entry; nil if none did.
func (s *scratch) source(ctx context.Context, recorded *state.Link) (*stepcleanroom.Source, error) {
	at := slices.IndexFunc(recorded.Entry.Inputs, func(in state.Input) bool { return in.Name == stepcleanroom.SourceInput })
	if at < 0 {
		return nil, nil
	}
	digest := recorded.Entry.Inputs[at].Digest
	for _, artifact := range recorded.Entry.Artifacts {
		if artifact.Digest != digest {
			continue
		}
		if err := s.recorded.Verify(ctx, &state.Entry{Artifacts: []state.Artifact{artifact}}); err != nil {
			return nil, err
		}
		dir := filepath.Join(s.dir, "source")
		return &stepcleanroom.Source{Dir: dir}, extractTree(ctx, s.recorded, artifact, dir)
	}
	return nil, fault.New(fault.Finding, "", "the entry claims no artifact for its source %s", digest.Short())
}

// plan makes the plan of a deploy again. What else the entry claims, that a verdict
// was trusted and a release became healthy, is about a moment and is taken as it is.
func (r *Replay) plan(ctx context.Context, a *app.App, before state.State, recorded *state.Link, work *scratch) (*state.Link, error) {
	project, err := a.LoadProject()
	if err != nil {
		return nil, err
	}
	for i := range before {
		if err := work.Verify(ctx, &before[i].Entry); err != nil {
			return nil, err
		}
	}
	was := recorded.Entry.Deploy
	step, err := deploy.NewPlanner(a, project, deploy.Options{Env: was.Environment, Strategy: was.Strategy})
	if err != nil {
		return nil, err
	}
	start := a.Now()
	preview, err := step.Plan(ctx, before)
	if err != nil {
		return nil, err
	}
	encoded, err := preview.Plan.Encode()
	if err != nil {
		return nil, err
	}
	artifact, err := state.WriteBlob(ctx, work, "plan", state.MediaTypeJSON, encoded)
	if err != nil {
		return nil, err
	}
	link := &state.Link{Entry: recorded.Entry}
	link.Entry.Tool.Version = app.Version()
	link.Entry.Artifacts = []state.Artifact{artifact}
	link.Entry.Deploy = &state.Deploy{
		Environment: preview.Plan.Environment, Strategy: preview.Plan.Strategy, Image: preview.Plan.Image, Plan: artifact.Digest,
	}
	ev := *recorded.Run()
	ev.Duration = a.Now().Sub(start)
	link.Evidence = []state.Evidence{ev}
	link.Digest, err = link.Entry.Digest()
	return link, err
}
