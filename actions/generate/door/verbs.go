package door

import (
	"context"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// List lists templates.
type List struct {
	Package []string `type:"existingdir" placeholder:"DIR" help:"Package in a local directory, used when no --state is given; may be repeated."`
}

// Help shows how it is called.
func (*List) Help() string {
	return "Examples:\n  ultrafast-generate list\n  ultrafast-generate list --state \"$STATE\"\n  ultrafast-generate list --package ./my-package"
}

// Run prints the templates of the project, and those of the chain's packages or of local ones.
func (l *List) Run(ctx context.Context, a *app.App) error {
	return describe(ctx, a, l.Package, func(step *generate.Step, chain *app.Chain) ([]generate.Info, error) {
		return step.List(ctx, chain.State, chain.Store)
	})
}

// Show describes templates.
type Show struct {
	Ref     string   `arg:"" help:"Template: <package>:<file>, where the file may be a pattern, or the path of one of the project."`
	Package []string `type:"existingdir" placeholder:"DIR" help:"Package in a local directory, used when no --state is given; may be repeated."`
}

// Help shows how it is called.
func (*Show) Help() string {
	return "Example:\n  ultrafast-generate show go-http-service:main.go.tmpl --state \"$STATE\""
}

// Run prints what the templates write, read and need.
func (s *Show) Run(ctx context.Context, a *app.App) error {
	return describe(ctx, a, s.Package, func(step *generate.Step, chain *app.Chain) ([]generate.Info, error) {
		return step.Show(ctx, chain.State, chain.Store, s.Ref)
	})
}

func describe(ctx context.Context, a *app.App, packages []string, ask func(*generate.Step, *app.Chain) ([]generate.Info, error)) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil {
		return err
	}
	step := &generate.Step{Options: generate.Options{Dialect: dialect(project, false)}}
	if step.Packages, step.PackageDirs, err = localPackages(a, project.Dir, packages); err != nil {
		return err
	}
	if step.Files, err = openDir(a, project.Dir); err != nil {
		return err
	}
	infos, err := ask(step, chain)
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(infos)
	}
	if len(infos) == 0 {
		return a.Table([]any{"No templates."})
	}
	rows := [][]any{{"TEMPLATE", "WRITES", "QUERIES", "NEEDS", "RUNS"}}
	runs, broken := false, 0
	for _, i := range infos {
		needs := i.Needs
		if i.NeedsGraph {
			needs = append([]string{"(graph)"}, needs...)
		}
		if slices.ContainsFunc(i.Findings, func(f finding.Finding) bool { return f.Severity.Gates() }) {
			needs, broken = []string{"?"}, broken+1
		}
		runs = runs || len(i.Hooks) > 0
		rows = append(rows, []any{i.Reference, i.To, strings.Join(i.Queries, " "), strings.Join(needs, " "), strings.Join(i.Hooks, "; ")})
	}
	if !runs {
		for i := range rows {
			rows[i] = rows[i][:4]
		}
	}
	if broken > 0 {
		a.Log.Warn("the needs of "+count(broken, "template")+" are not known; lint says what is wrong", "needs", "?")
	}
	return a.Table(rows...)
}

// Render renders a body.
type Render struct {
	Template     string `required:"" type:"existingfile" placeholder:"FILE" help:"Template without front matter."`
	Engine       string `enum:"tera,gotmpl" default:"tera" help:"Template language: ${enum}."`
	IncludeDir   string `type:"existingdir" placeholder:"DIR" help:"Where included templates are found."`
	VarsFile     string `type:"existingfile" placeholder:"FILE" help:"Variables, a JSON object."`
	Seed         uint64 `help:"Seed of everything random."`
	Lenient      bool   `help:"Print nothing for an undefined variable. By default it is an error."`
	TrimBlocks   bool   `help:"Drop the newline behind a tag (tera)."`
	LstripBlocks bool   `help:"Drop the blanks before a tag on its line (tera)."`
	KeepMapOrder bool   `help:"Visit maps in the order of their keys in the file (tera). By default keys are sorted."`
	WordFilters  bool   `help:"Have title, pluralize, upper and lower as in templates of packages (tera). By default they are Tera's own."`
}

// Help shows how it is called.
func (*Render) Help() string {
	return `The time that templates see is SOURCE_DATE_EPOCH where that is set, else 1970-01-01T00:00:00Z.

Examples:
  ultrafast-generate render --template page.tera --vars-file context.json
  ultrafast-generate render --template deployment.yaml.tmpl --engine gotmpl --vars-file values.json`
}

// Run prints what the template gives, byte for byte.
func (r *Render) Run(ctx context.Context, a *app.App) error {
	source, err := a.ReadFile("template", r.Template)
	if err != nil {
		return err
	}
	body := generate.Body{
		Name: below(a.Dir, r.Template), Source: string(source), Seed: r.Seed,
		Dialect: generate.Dialect{
			Engine: r.Engine, Lenient: r.Lenient, TrimBlocks: r.TrimBlocks, LstripBlocks: r.LstripBlocks, KeepMapOrder: r.KeepMapOrder,
			PlainFilters: !r.WordFilters,
		},
	}
	if body.Now, err = fixed(a); err != nil {
		return err
	}
	if r.VarsFile != "" {
		if body.Vars, err = a.ReadFile("variables", r.VarsFile); err != nil {
			return err
		}
		body.VarsName = below(a.Dir, r.VarsFile)
	}
	if r.IncludeDir != "" {
		if body.Includes, err = openDir(a, a.Abs(r.IncludeDir)); err != nil {
			return err
		}
	}
	return body.Render(ctx, a.Stdout)
}
