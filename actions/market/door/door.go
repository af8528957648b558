// Package door is the command line of the market phase and the wiring behind it.
package door

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/registry"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/market"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
)

// CLI is the command line of the binary.
type CLI struct {
	app.Globals
	Commands
}

// Commands are the verbs of the phase.
type Commands struct {
	Add        Add        `cmd:"" help:"Resolve, verify and install packages."`
	Search     Search     `cmd:"" help:"Search the index."`
	List       List       `cmd:"" help:"List installed packages, or those with updates."`
	Info       Info       `cmd:"" help:"Show a package of the index."`
	Categories Categories `cmd:"" help:"Count the packages of each category."`
}

// New returns the door.
func New() app.Door {
	return app.Door{
		Name:        "ultrafast-market",
		Description: "Find template packages, verify their digests and install them, pinned by a lock file.",
		CLI:         &CLI{},
	}
}

// Index says which registry is asked.
type Index struct {
	Index string `placeholder:"URL" help:"Registry index, a path or URL. Default: as the project says."`
}

// open returns the registry that the flag or the project names.
func (i Index) open(a *app.App, project *config.Project) (*registry.Registry, error) {
	location := project.Market.Index
	if i.Index != "" {
		location = i.Index
	}
	options := registry.Options{
		TTL: time.Duration(project.Market.CacheTTLSeconds) * time.Second, Now: a.Now, Log: a.Log,
		Notice: a.ProgressOf(phase.Market),
	}
	if project.Market.CacheEnabled {
		options.CacheDir = project.Market.CacheDir
	}
	return registry.Open(location, options)
}

// Options are what a caller may say besides the project file.
type Options struct {
	Index
	Packages []string `arg:"" optional:"" name:"package" help:"Packages, <id> or <id>@<range>, besides [packages] of the project."`
	Package  []string `placeholder:"ID" help:"The same as a flag, for CI inputs."`
	Version  string   `name:"package-version" aliases:"range" placeholder:"RANGE" help:"Version or range, if one package is named."`
	Force    bool     `help:"Fetch and install again what is installed."`
	NoDeps   bool     `help:"Leave dependencies out."`
	Locked   bool     `help:"Install exactly what the lock file says; refuse any difference."`
	Lock     string   `type:"path" placeholder:"FILE" help:"Lock file. Default: ggen.lock of the project."`
}

// Add installs packages.
type Add struct{ Options }

// Help shows how it is called.
func (*Add) Help() string {
	return `Packages that are named come to those of the project; a range that is named wins.

Examples:
  ultrafast-market add                      # what the project file names
  ultrafast-market add go-http-service
  ultrafast-market add go-http-service@^1.2 --index https://example.com/registry/index.json
  ultrafast-market add --locked             # in CI`
}

// Run installs, and starts the chain.
func (c *Add) Run(ctx context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil {
		return err
	}
	step, err := NewStep(a, project, c.Options)
	if err != nil {
		return err
	}
	return a.RunSteps(ctx, chain, app.Run{Verdict: "installed", Failed: "market: nothing was installed"}, step)
}

// NewStep returns the phase as project and options ask for it.
func NewStep(a *app.App, project *config.Project, o Options) (*market.Step, error) {
	requests, err := requests(project, o)
	if err != nil {
		return nil, err
	}
	source, err := o.open(a, project)
	if err != nil {
		return nil, err
	}
	lockFile := filepath.Join(project.Dir, market.LockName)
	if o.Lock != "" {
		lockFile = a.Abs(o.Lock)
	}
	return &market.Step{
		Requests: requests, Registry: source, Store: registry.NewStore(project.Market.InstallDir), Lock: registry.LockFile(lockFile),
		NoDeps: o.NoDeps, Force: o.Force, Locked: o.Locked, AllowPrerelease: project.Market.AllowPrerelease,
		Log: a.Log, Progress: a.ProgressOf(phase.Market),
	}, nil
}

// requests returns the packages of the project and those that are named. The lock
// file holds what they come to, so none of the project's may be missing. A range
// that is named wins over the project's.
func requests(project *config.Project, o Options) ([]market.Request, error) {
	named := append(o.Packages[:len(o.Packages):len(o.Packages)], o.Package...)
	if o.Version != "" && len(named) != 1 {
		return nil, fault.New(fault.Usage, "write <id>@<range> for each package", "--package-version goes with exactly one package, not %d", len(named))
	}
	var out []market.Request
	for _, spec := range named {
		r, err := market.ParseRequest(spec)
		if err != nil {
			return nil, err
		}
		if o.Version != "" {
			r.Range = o.Version
		}
		if r.Range == "" {
			r.Range = project.Packages[r.ID]
		}
		out = append(out, r)
	}
	for _, id := range slices.Sorted(maps.Keys(project.Packages)) {
		if !slices.ContainsFunc(out, func(r market.Request) bool { return r.ID == id }) {
			out = append(out, market.Request{ID: id, Range: project.Packages[id]})
		}
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Usage, "name one, or write [packages] into "+config.FileName+"; a chain without packages begins at generate", "no package was named")
	}
	return out, nil
}
