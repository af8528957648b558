// Package door is the command line of the validate phase and the wiring behind it.
package door

import (
	"context"
	"path/filepath"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/policy"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/validate"
)

// CLI is the command line of the binary.
type CLI struct {
	app.Globals
	Commands
}

// Commands are the verbs of the phase.
type Commands struct {
	Run    Run    `cmd:"" help:"Judge the image of the chain and the tree it was built from."`
	Sign   Sign   `cmd:"" help:"Sign the verdict; nothing is run."`
	Verify Verify `cmd:"" help:"Say whether a trusted key signed a passing verdict."`
	Checks Checks `cmd:"" help:"List the checks."`
	Keygen Keygen `cmd:"" help:"Make a signing key and the trust root that names it."`
}

// New returns the door.
func New() app.Door {
	return app.Door{
		Name:        "ultrafast-validate",
		Description: "Judge an image by what it does, with evidence for every check, and sign the verdict.",
		CLI:         &CLI{},
	}
}

// Options are what a caller may say besides the project file.
type Options struct {
	MinIsolation string `enum:",full,reduced,none" default:"" placeholder:"LEVEL" help:"Weakest isolation in which the service is started: full, reduced or none. Default: as the project says, else full."`
	TrustRoot    string `type:"path" placeholder:"FILE" help:"Policy to judge by: a file outside the workspace. Default: every check that gates."`
}

// Run is the phase.
type Run struct{ Options }

// Help shows how it is called.
func (*Run) Help() string {
	return "Examples:\n  ultrafast-validate run --state \"$STATE\"\n  ultrafast-validate run --state \"$STATE\" --trust-root /etc/ultrafast/trust.toml"
}

// Run judges.
func (r *Run) Run(ctx context.Context, a *app.App) error {
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
	return a.RunSteps(ctx, chain, app.Run{Verdict: "validated", Failed: "validate: the image must not be released"}, step)
}

// NewStep returns the phase as project and options ask for it.
func NewStep(a *app.App, project *config.Project, o Options) (*validate.Step, error) {
	name := o.MinIsolation
	if name == "" {
		name = project.Cleanroom.MinIsolation
	}
	level, err := sandbox.ParseLevel(name)
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, "", "minimum isolation")
	}
	cache, err := a.CacheDir()
	if err != nil {
		return nil, err
	}
	step := &validate.Step{
		Backend:      embedded.New(embedded.Options{StateDir: filepath.Join(cache, "environments"), Log: a.Log}),
		MinIsolation: level, Images: oci.Client{},
		Limits: sandbox.Limits{Memory: int64(project.Cleanroom.MemoryMB) << 20, CPUs: project.Cleanroom.CPUs, PIDs: project.Cleanroom.PIDs},
		Service: validate.Service{
			Command: project.Service.Command, Port: project.Service.Port, Health: project.Service.Health,
			StartTimeout: time.Duration(project.Deploy.HealthTimeoutSeconds) * time.Second,
			StopTimeout:  time.Duration(project.Service.StopTimeoutSeconds) * time.Second,
		},
		Log: a.Log, Progress: a.ProgressOf(phase.Validate),
	}
	if o.TrustRoot != "" {
		root, err := readTrustRoot(a, project, o.TrustRoot)
		if err != nil {
			return nil, err
		}
		step.Policy = root.Policy
	}
	return step, nil
}

func readTrustRoot(a *app.App, project *config.Project, path string) (policy.TrustRoot, error) {
	if err := a.CheckOutside(project, "trust root", path); err != nil {
		return policy.TrustRoot{}, err
	}
	b, err := a.ReadFile("trust root", path)
	if err != nil {
		return policy.TrustRoot{}, err
	}
	return policy.ParseTrustRoot(path, b)
}

// Checks lists the checks.
type Checks struct{}

// Help shows how it is called.
func (*Checks) Help() string {
	return "Example:\n  ultrafast-validate checks --output json"
}

// Run prints the table of checks.
func (*Checks) Run(_ context.Context, a *app.App) error {
	type row struct {
		ID       string `json:"id"`
		Severity string `json:"severity"`
		Needs    string `json:"needs"`
		Doc      string `json:"doc"`
	}
	var rows []row
	for _, c := range validate.Checks() {
		rows = append(rows, row{c.ID, string(c.Severity), string(c.Needs), c.Doc})
	}
	if a.Output == "json" {
		return a.PrintJSON(rows)
	}
	table := [][]any{{"CHECK", "SEVERITY", "NEEDS", "WHAT"}}
	for _, r := range rows {
		table = append(table, []any{r.ID, r.Severity, r.Needs, r.Doc})
	}
	return a.Table(table...)
}
