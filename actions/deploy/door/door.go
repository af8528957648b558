// Package door is the command line of the deploy phase and the wiring behind it.
package door

import (
	"context"
	"fmt"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/steps/deploy"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// CLI is the command line of the binary.
type CLI struct {
	app.Globals
	Commands
}

// Commands are the verbs of the phase.
type Commands struct {
	Run       Run       `cmd:"" help:"Deploy the image of the chain, if a trusted verdict passed it."`
	Plan      Plan      `cmd:"" help:"Show what run would do; nothing is changed."`
	Status    Status    `cmd:"" help:"Show what serves in an environment."`
	History   History   `cmd:"" help:"Show what was deployed, oldest first."`
	Rollback  Rollback  `cmd:"" help:"Roll out the good release before the present one again."`
	Resume    Resume    `cmd:"" help:"Finish or take back a rollout that was interrupted."`
	Abort     Abort     `cmd:"" help:"Take back a rollout that was interrupted."`
	Down      Down      `cmd:"" help:"Stop everything in an environment. The history stays."`
	Router    Router    `cmd:"" help:"The router of a local environment."`
	Supervise Supervise `cmd:"" hidden:"" help:"Keep one service process running."`
}

// New returns the door.
func New() app.Door {
	return app.Door{
		Name:        "ultrafast-deploy",
		Description: "Bring a judged image into an environment and move the traffic to it, or leave everything as it was.",
		CLI:         &CLI{},
		KeepRoot:    true,
	}
}

// Options are what a caller may say besides the project file.
type Options struct {
	Env         string `aliases:"environment" placeholder:"NAME" help:"Environment. Default: as the project says."`
	TrustRoot   string `type:"path" placeholder:"FILE" help:"Keys and policy that are trusted: a file outside the workspace."`
	Listen      string `placeholder:"ADDRESS" help:"Address of the router, host:port. Default: as the project says."`
	Strategy    string `placeholder:"NAME" help:"How the traffic moves: blue-green."`
	Destination string `placeholder:"URL" help:"Where the image is pushed with its referrers, by digest: layout:DIR or oci://host/path. Default: layout:.ggen/images below the project."`
}

// Run is the phase.
type Run struct {
	Options
	DryRun bool `help:"Show the plan and change nothing."`
}

// Help shows how it is called.
func (*Run) Help() string {
	return `Examples:
  ultrafast-deploy run --state "$STATE" --trust-root /etc/ultrafast/trust.toml
  ultrafast-deploy run --state "$STATE" --trust-root trust.toml --dry-run`
}

// Run deploys.
func (r *Run) Run(ctx context.Context, a *app.App) error {
	if r.DryRun {
		return (&Plan{r.Options}).Run(ctx, a)
	}
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil {
		return err
	}
	step, err := NewStep(a, project, r.Options)
	if err != nil {
		return err
	}
	return a.RunSteps(ctx, chain, app.Run{
		Verdict: Verdict(project), Failed: "deploy: what served before serves on",
		Below: func() [][2]string { return Serves(chain.State, project, r.Options) },
	}, step)
}

// Verdict is the headline of a deploy that passed.
func Verdict(project *config.Project) string {
	return fmt.Sprintf("%s %s is live", project.Name, project.Version)
}

// Serves are the lines under the timeline of a deploy that passed: the address is
// the one that the router has, as the chain's last entry says.
func Serves(chain state.State, project *config.Project, o Options) [][2]string {
	if n := len(chain); n > 0 {
		for _, ev := range chain[n-1].Evidence {
			if address := ev.Facts["router.address"]; address != "" {
				return [][2]string{{"serves", "http://" + address}}
			}
		}
	}
	return Below(project, o)
}

// Below are the same lines by what was asked for, where no chain says better.
func Below(project *config.Project, o Options) [][2]string {
	listen := project.Deploy.Listen
	if o.Listen != "" {
		listen = o.Listen
	}
	return [][2]string{{"serves", "http://" + listen}}
}

// Plan shows what would be done.
type Plan struct{ Options }

// Help shows how it is called.
func (*Plan) Help() string {
	return "Example:\n  ultrafast-deploy plan --state \"$STATE\" --env production"
}

// Run prints the plan.
func (p *Plan) Run(ctx context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil {
		return err
	}
	step, err := newStep(a, project, p.Options)
	if err != nil {
		return err
	}
	preview, err := step.Plan(ctx, chain.State)
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(preview)
	}
	return table(a, [][2]string{
		{"environment", preview.Plan.Environment}, {"target", preview.Plan.Target}, {"strategy", preview.Plan.Strategy},
		{"image", string(preview.Plan.Image)}, {"plan", string(preview.Digest)},
		{"action", preview.Action}, {"replaces", preview.Replaces}, {"recovers", string(preview.Recovers)},
	})
}

// Status shows what serves.
type Status struct{ Options }

// Help shows how it is called.
func (*Status) Help() string {
	return "Example:\n  ultrafast-deploy status --env production --output json"
}

// Run prints the status.
func (s *Status) Run(ctx context.Context, a *app.App) error {
	step, err := stepFor(a, s.Options)
	if err != nil {
		return err
	}
	status, err := step.Status(ctx)
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(status)
	}
	rows := [][2]string{{"environment", status.Environment}, {"serving", orNothing(status.Serving)}}
	if t := status.Live.Traffic; t != nil {
		rows = append(rows, [2]string{"address", "http://" + t.Address})
	}
	for _, i := range status.Live.Instances {
		rows = append(rows, [2]string{"release", fmt.Sprintf("%s  image %s  running %t", i.Release, i.Image.Short(), i.Running)})
	}
	if status.Interrupted != nil {
		rows = append(rows, [2]string{"interrupted", fmt.Sprintf("%s at %s; resume would go %s", status.Interrupted.Release, status.Interrupted.State, status.Interrupted.Direction)})
	}
	return table(a, rows)
}

// History shows what was deployed.
type History struct{ Options }

// Help shows how it is called.
func (*History) Help() string {
	return "Example:\n  ultrafast-deploy history --env production"
}

// Run prints the history.
func (h *History) Run(_ context.Context, a *app.App) error {
	step, err := stepFor(a, h.Options)
	if err != nil {
		return err
	}
	records, err := step.History()
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(records)
	}
	rows := [][]any{{"TIME", "ACTION", "OUTCOME", "RELEASE", "IMAGE", "WHO"}}
	for _, r := range records {
		rows = append(rows, []any{r.Time.Format(time.RFC3339), r.Action, r.Outcome, r.Release, r.Image.Short(), r.Who})
	}
	return a.Table(rows...)
}

// Rollback goes back.
type Rollback struct{ Options }

// Help shows how it is called.
func (*Rollback) Help() string {
	return "No state is needed: the release before is in the environment's history.\n\nExample:\n  ultrafast-deploy rollback --env production"
}

// Run rolls back.
func (r *Rollback) Run(ctx context.Context, a *app.App) error {
	return outcome(ctx, a, r.Options, deploy.Step.Rollback)
}

// Resume settles an interrupted rollout.
type Resume struct{ Options }

// Help shows how it is called.
func (*Resume) Help() string {
	return "Example:\n  ultrafast-deploy resume --env production"
}

// Run resumes.
func (r *Resume) Run(ctx context.Context, a *app.App) error {
	return outcome(ctx, a, r.Options, deploy.Step.Resume)
}

// Abort takes an interrupted rollout back.
type Abort struct{ Options }

// Help shows how it is called.
func (*Abort) Help() string {
	return "Example:\n  ultrafast-deploy abort --env production"
}

// Run aborts.
func (r *Abort) Run(ctx context.Context, a *app.App) error {
	return outcome(ctx, a, r.Options, deploy.Step.Abort)
}

func outcome(ctx context.Context, a *app.App, o Options, verb func(deploy.Step, context.Context) (deploy.Outcome, error)) error {
	step, err := stepFor(a, o)
	if err != nil {
		return err
	}
	done, err := verb(*step, ctx)
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(done)
	}
	if done.Release == "" {
		fmt.Fprintln(a.Stdout, "nothing was interrupted")
		return nil
	}
	return table(a, [][2]string{{"release", done.Release}, {"outcome", string(done.Outcome)}, {"serving", orNothing(done.Serving)}})
}

// Down stops an environment.
type Down struct{ Options }

// Help shows how it is called.
func (*Down) Help() string {
	return "No state is needed, and where nothing runs nothing is done.\n\nExample:\n  ultrafast-deploy down --env staging"
}

// Run stops everything; done twice it does nothing more.
func (d *Down) Run(ctx context.Context, a *app.App) error {
	step, err := stepFor(a, d.Options)
	if err != nil {
		return err
	}
	if err := step.Down(ctx); err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(downed{Environment: step.Environment})
	}
	return nil
}

// downed is what a program hears of an environment that was stopped.
type downed struct {
	Environment string `json:"environment"`
	// Serving is empty: nothing serves.
	Serving string `json:"serving"`
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

// table prints names with values, those without left out.
func table(a *app.App, rows [][2]string) error {
	var out [][]any
	for _, r := range rows {
		if r[1] != "" {
			out = append(out, []any{r[0], r[1]})
		}
	}
	return a.Table(out...)
}
