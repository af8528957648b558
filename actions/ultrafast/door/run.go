package door

import (
	"context"
	"fmt"
	"slices"

	cleanroom "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	deploy "github.com/ultrafast-ci/ultrafast/actions/deploy/door"
	generate "github.com/ultrafast-ci/ultrafast/actions/generate/door"
	market "github.com/ultrafast-ci/ultrafast/actions/market/door"
	validate "github.com/ultrafast-ci/ultrafast/actions/validate/door"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/pipeline"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Run runs all phases.
type Run struct {
	From         string `placeholder:"PHASE" help:"Run this phase and those after it again, also when nothing changed."`
	Until        string `placeholder:"PHASE" default:"deploy" help:"Stop after this phase."`
	Locked       bool   `help:"Install exactly what the lock file says."`
	Force        bool   `help:"Overwrite generated files that were changed by hand."`
	AllowHooks   bool   `help:"Run the commands that templates name, in a sandbox. Default: as allow_hooks of .ggen/config.toml says, else not."`
	MinIsolation string `enum:",full,reduced,none" default:"" placeholder:"LEVEL" help:"Weakest isolation that is accepted: full, reduced or none. Default: as the project says, else full."`
	Key          string `type:"path" placeholder:"FILE" help:"Private key that signs the verdict; without it the verdict stays unsigned."`
	TrustRoot    string `type:"path" placeholder:"FILE" help:"Keys and policy that deploy trusts: a file outside the workspace."`
	Env          string `aliases:"environment" placeholder:"NAME" help:"Environment. Default: as the project says."`
}

// Help shows how it is called.
func (*Run) Help() string {
	return `Phases whose inputs did not change come from the chain; deploy always looks at what is live.
A project without [packages] begins at generate. With --state, --from runs nothing of what is before it: the state has that.

Examples:
  ultrafast run --key ~/keys/signing.pem --trust-root ~/keys/trust.toml
  ultrafast run --until validate
  ultrafast run --from deploy --trust-root ~/keys/trust.toml
  ultrafast run --from validate --until validate --state "$STATE"   # of cleanroom-test`
}

// Run runs the phases in order.
func (r *Run) Run(ctx context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	until, from, err := r.bounds()
	if err != nil {
		return err
	}
	phases, err := r.phases(a, project, from, until)
	if err != nil {
		return err
	}
	steps, err := r.steps(ctx, a, project, phases)
	if err != nil {
		return err
	}
	if r.Key == "" && !until.Before(phase.Validate) {
		a.WithoutSecret("signing", "key")
	}
	signer, err := validate.NewSigner(a, r.Key)
	if err != nil {
		return err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil {
		return err
	}
	tree := generate.NewTree(a, project, r.generate())
	run := app.Run{
		Title:   project.Name + " " + project.Version,
		Verdict: fmt.Sprintf("%s %s passed up to %s", project.Name, project.Version, until),
		Failed:  fmt.Sprintf("%s %s is not deployed", project.Name, project.Version),
		From:    from,
		After: func(ctx context.Context, s state.State, name phase.Name) (state.State, error) {
			switch name {
			case phase.Generate:
				return s, tree.Write(ctx, s, chain.Store)
			case phase.Validate:
				return signer.Sign(ctx, s, chain.Store)
			}
			return s, nil
		},
	}
	if until == phase.Deploy {
		run.Verdict = deploy.Verdict(project)
		run.Below = func() [][2]string { return deploy.Serves(chain.State, project, r.deploy()) }
	}
	return a.RunSteps(ctx, chain, run, steps...)
}

func (r *Run) bounds() (until, from phase.Name, err error) {
	if until, err = parsePhase("--until", r.Until); err != nil {
		return "", "", err
	}
	if r.From == "" {
		return until, "", nil
	}
	if from, err = parsePhase("--from", r.From); err == nil && until.Before(from) {
		err = fault.New(fault.Usage, "name a phase behind it with --until, or leave that out", "--from %s is behind --until %s: nothing would run", from, until)
	}
	return until, from, err
}

func parsePhase(flag, name string) (phase.Name, error) {
	p, err := phase.Parse(name)
	if err != nil {
		var known []string
		for _, n := range phase.All() {
			known = append(known, string(n))
		}
		return "", fault.Wrap(err, fault.Usage, fault.DidYouMean(name, known), flag)
	}
	return p, nil
}

// phases returns what runs. A state that is given has what is before --from, and a
// project that names no package has nothing for market to install.
func (r *Run) phases(a *app.App, project *config.Project, from, until phase.Name) ([]phase.Name, error) {
	all := phase.All()
	all = all[:slices.Index(all, until)+1]
	switch {
	case from != "" && a.State != "":
		return all[slices.Index(all, from):], nil
	case len(project.Packages) > 0 || until == phase.Market:
		return all, nil
	case len(project.Generate) == 0:
		return nil, fault.New(fault.Usage, "write one of them into "+config.FileName+", or begin with code: `ultrafast cleanroom-test run --source .`, then `ultrafast run --from validate` with its --state",
			"the project has no [packages] and no [[generate]]: there is nothing to begin with")
	}
	a.ProgressOf(phase.Market)("skipped: the project names no [packages]")
	return all[1:], nil
}

// steps builds every phase before the first of them runs, so that a mistake in the
// configuration of the last stops the first.
func (r *Run) steps(ctx context.Context, a *app.App, project *config.Project, names []phase.Name) ([]pipeline.Step, error) {
	build := map[phase.Name]func() (pipeline.Step, error){
		phase.Market: func() (pipeline.Step, error) {
			return market.NewStep(a, project, market.Options{Locked: r.Locked})
		},
		phase.Generate: func() (pipeline.Step, error) { return generate.NewStep(a, project, r.generate()) },
		phase.Cleanroom: func() (pipeline.Step, error) {
			return cleanroom.NewStep(ctx, a, project, cleanroom.Options{MinIsolation: r.MinIsolation})
		},
		phase.Validate: func() (pipeline.Step, error) { return validate.NewStep(a, project, r.validate()) },
		phase.Deploy:   func() (pipeline.Step, error) { return deploy.NewStep(a, project, r.deploy()) },
	}
	var steps []pipeline.Step
	for _, name := range names {
		step, err := build[name]()
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func (r *Run) generate() generate.Options {
	return generate.Options{Force: r.Force, AllowHooks: r.AllowHooks, MinIsolation: r.MinIsolation}
}

func (r *Run) validate() validate.Options {
	return validate.Options{MinIsolation: r.MinIsolation, TrustRoot: r.TrustRoot}
}

func (r *Run) deploy() deploy.Options { return deploy.Options{Env: r.Env, TrustRoot: r.TrustRoot} }
