package reference

import (
	"context"
	"os"
	"path/filepath"

	generate "github.com/ultrafast-ci/ultrafast/actions/generate/door"
	market "github.com/ultrafast-ci/ultrafast/actions/market/door"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/registry"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	stepmarket "github.com/ultrafast-ci/ultrafast/steps/market"
)

// Ggen is the command line of ggen.
type Ggen struct {
	Globals
	Market    Market    `cmd:"" help:"Find and install template packages."`
	Template  Template  `cmd:"" help:"Generate from templates."`
	Lifecycle Lifecycle `cmd:"" help:"Run phases and judge readiness."`
}

// Market are the verbs for packages.
type Market struct {
	Search MarketSearch `cmd:"" help:"Search marketplace."`
	Add    MarketAdd    `cmd:"" help:"Install package."`
	List   MarketList   `cmd:"" help:"List packages."`
}

// MarketSearch searches.
type MarketSearch struct {
	Query      string   `arg:"" help:"Words; a package must have all of them."`
	Tags       []string `placeholder:"TAGS" help:"Filter by tags (comma-separated)."`
	Category   string   `placeholder:"CATEGORY" help:"Filter by category."`
	MinQuality int      `placeholder:"SCORE" help:"Minimum quality score (0-100)."`
	Format
}

// Help shows how it is called.
func (*MarketSearch) Help() string {
	return "Example:\n  ggen market search \"go service\" --tags go,http --min-quality 80 --output json"
}

// Run searches.
func (m *MarketSearch) Run(ctx context.Context, a *app.App) error {
	m.apply(a)
	search := market.Search{Text: []string{m.Query}, Tags: m.Tags, Category: m.Category, MinQuality: m.MinQuality, Sort: "relevance", Limit: 10}
	return search.Run(ctx, a)
}

// MarketAdd installs.
type MarketAdd struct {
	Package string `arg:"" name:"package-id" help:"Package."`
	Version string `placeholder:"VERSION" help:"Specific version to install."`
	Force   bool   `help:"Force reinstall."`
	NoDeps  bool   `help:"Don't install dependencies."`
}

// Help shows how it is called.
func (*MarketAdd) Help() string {
	return "Example:\n  ggen market add go-http-service --version 1.0.0"
}

// Run installs.
func (m *MarketAdd) Run(ctx context.Context, a *app.App) error {
	add := market.Add{Options: market.Options{Packages: []string{m.Package}, Version: m.Version, Force: m.Force, NoDeps: m.NoDeps}}
	return add.Run(ctx, a)
}

// MarketList lists.
type MarketList struct {
	Installed bool `help:"Show only installed packages."`
	Updates   bool `help:"Show available updates."`
	Format
}

// Help shows how it is called.
func (*MarketList) Help() string {
	return "No others than installed packages are listed: `ggen market search` shows those of the index.\n\nExample:\n  ggen market list --updates --output json"
}

// Run lists.
func (m *MarketList) Run(ctx context.Context, a *app.App) error {
	m.apply(a)
	list := market.List{Updates: m.Updates}
	return list.Run(ctx, a)
}

// Template are the verbs for templates.
type Template struct {
	Generate TemplateGenerate `cmd:"" help:"Generate from template."`
	Batch    TemplateBatch    `cmd:"" name:"batch-generate" help:"Batch generate."`
}

// TemplateGenerate renders.
type TemplateGenerate struct {
	Template  string            `arg:"" help:"Template, <package>:<file>; the file may be a pattern."`
	Vars      map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Template variables (can be repeated)."`
	VarsFile  string            `type:"existingfile" placeholder:"FILE" help:"Load variables from file."`
	OutputDir string            `type:"path" default:"." placeholder:"DIR" help:"Output directory."`
	Force     bool              `help:"Overwrite existing files."`
	DryRun    bool              `help:"Preview without writing files."`
}

// Help shows how it is called.
func (*TemplateGenerate) Help() string {
	return `Packages are those that are installed, each verified first. As in the reference, the
variables of a template's own front matter win over --vars; in ` + "`ultrafast generate`" + `
those of the command line win.

Example:
  ggen template generate go-http-service:main.go.tmpl --vars port=9090 --output-dir out --dry-run`
}

// Run renders from the installed packages.
func (t *TemplateGenerate) Run(ctx context.Context, a *app.App) error {
	return render(ctx, a, t.DryRun, generate.Options{
		Templates: []string{t.Template}, Vars: t.Vars, VarsFile: t.VarsFile, OutputDir: t.OutputDir, Force: t.Force,
	})
}

func render(ctx context.Context, a *app.App, dryRun bool, o generate.Options) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	o.TemplateVarsWin = true
	if a.Globals.State == "" {
		if o.Package, err = installed(project); err != nil {
			return err
		}
	}
	template := generate.Template{Options: o, DryRun: dryRun}
	return template.Run(ctx, a)
}

// installed returns the directories of the packages that the lock file pins, after
// their files were compared with its digests.
func installed(project *config.Project) ([]string, error) {
	lock, err := registry.LockFile(filepath.Join(project.Dir, stepmarket.LockName)).Read()
	if err != nil || lock == nil {
		return nil, err
	}
	pinned, err := stepmarket.ParseLock(lock)
	if err != nil {
		return nil, err
	}
	store := registry.NewStore(project.Market.InstallDir)
	var dirs []string
	for _, p := range pinned {
		const hint = "install it again: ggen market add <package-id> --force"
		dir := store.Dir(p.Sum)
		if _, err := os.Stat(dir); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, hint, "package "+p.ID+" "+p.Version+" is not installed here")
		}
		sum, err := stepmarket.Sum(os.DirFS(dir))
		if err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, hint, "package "+p.ID+" "+p.Version)
		}
		if sum != p.Sum {
			return nil, fault.New(fault.Finding, hint, "package %s %s: installed files have digest %s, not %s", p.ID, p.Version, sum, p.Sum)
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// TemplateBatch renders several templates.
type TemplateBatch struct {
	Templates   []string `arg:"" optional:"" help:"Templates. Default: as the project says."`
	VarsFile    string   `type:"existingfile" placeholder:"FILE" help:"Shared variables file."`
	Parallel    bool     `negatable:"" default:"true" help:"Generate in parallel."`
	MaxParallel int      `placeholder:"N" help:"Max parallel generations, 1 to 64. Default: as the project says, else 8."`
}

// Help shows how it is called.
func (*TemplateBatch) Help() string {
	return `All templates are written into the current directory, or none.

Example:
  ggen template batch-generate service:main.go.tmpl service:go.mod.tmpl --vars-file shared.yaml --parallel --max-parallel 4`
}

const maxParallel = 64

// Run renders them all, or nothing.
func (t *TemplateBatch) Run(ctx context.Context, a *app.App) error {
	if t.MaxParallel < 0 || t.MaxParallel > maxParallel {
		return fault.New(fault.Usage, "", "--max-parallel %d: it may be 1 to %d", t.MaxParallel, maxParallel)
	}
	workers := t.MaxParallel
	if !t.Parallel {
		workers = 1
	}
	return render(ctx, a, false, generate.Options{Templates: t.Templates, VarsFile: t.VarsFile, OutputDir: ".", Workers: workers})
}

// Lifecycle are the verbs for phases.
type Lifecycle struct {
	Run             LifecycleRun             `cmd:"" help:"Run lifecycle phase."`
	Validate        LifecycleValidate        `cmd:"" help:"Validate readiness."`
	Readiness       LifecycleReadiness       `cmd:"" help:"Check readiness."`
	ReadinessUpdate LifecycleReadinessUpdate `cmd:"" help:"Update readiness."`
}

// LifecycleRun runs a phase with its hooks.
type LifecycleRun struct {
	Phase   string `arg:"" help:"Phase."`
	Env     string `placeholder:"ENV" help:"Target environment."`
	Profile string `placeholder:"PROFILE" help:"Deployment profile."`
	DryRun  bool   `help:"Preview without executing."`
	Verbose bool   `help:"Detailed output."`
}

// Help shows how it is called.
func (*LifecycleRun) Help() string {
	return "Example:\n  ggen lifecycle run deploy --env production --profile standard --dry-run"
}

// Run says that it is not built.
func (*LifecycleRun) Run() error {
	return unbuilt("ggen lifecycle run", "use `ultrafast run --until <phase> --env <env>`, or `ultrafast deploy run --dry-run` to preview")
}

// LifecycleValidate judges.
type LifecycleValidate struct {
	Env           string   `placeholder:"ENV" help:"Target environment."`
	Check         []string `placeholder:"CHECKS" help:"Specific checks (comma-separated)."`
	FailOnWarning bool     `help:"Exit 1 on warnings."`
}

// Help shows how it is called.
func (*LifecycleValidate) Help() string {
	return "Example:\n  ggen lifecycle validate --env production --check security,errors --fail-on-warning"
}

// Run says that it is not built.
func (*LifecycleValidate) Run() error {
	return unbuilt("ggen lifecycle validate", "use `ultrafast validate run --state <state>`; `ultrafast validate checks` lists the checks")
}

// LifecycleReadiness shows requirements.
type LifecycleReadiness struct {
	ShowUnmet bool `help:"Show only unmet requirements."`
	Format
}

// Help shows how it is called.
func (*LifecycleReadiness) Help() string {
	return "Example:\n  ggen lifecycle readiness --show-unmet --output table"
}

// Run says that it is not built.
func (*LifecycleReadiness) Run() error {
	return unbuilt("ggen lifecycle readiness", "use `ultrafast validate run --state <state>`, whose checks are decided by doing")
}

// LifecycleReadinessUpdate writes the status of a requirement.
type LifecycleReadinessUpdate struct {
	RequirementID string `arg:"" name:"requirement-id" help:"Requirement identifier."`
	Status        string `arg:"" enum:"complete,incomplete,not-applicable" help:"Status: ${enum}."`
}

// Help shows how it is called.
func (*LifecycleReadinessUpdate) Help() string {
	return "Example:\n  ggen lifecycle readiness-update error-handling complete"
}

// Run says that it is not built.
func (*LifecycleReadinessUpdate) Run() error {
	return unbuilt("ggen lifecycle readiness-update", "use `ultrafast validate run --state <state>`, whose checks are decided by doing")
}
