package door

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// Lint looks for mistakes in templates.
type Lint struct {
	Refs    []string          `arg:"" optional:"" name:"ref" twin:"template" help:"Templates: <package>:<file>, where the file may be a pattern, or the path of one of the project. Default: [[generate]] of the project, else all templates of the packages."`
	Ref     []string          `name:"template" placeholder:"REF" help:"The same as a flag, for CI inputs."`
	Vars    map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Variable that will be set; may be repeated."`
	Package []string          `type:"existingdir" placeholder:"DIR" help:"Package in a local directory, used when no --state is given; may be repeated."`
	Strict  bool              `help:"Fail for warnings too."`
}

// Help shows how it is called.
func (*Lint) Help() string {
	return `Nothing is rendered. Mistakes at which rendering would stop end with exit code 1, warnings
only with --strict. --report-dir writes them as SARIF too.

Examples:
  ultrafast-generate lint 'go-http-service:*'
  ultrafast-generate lint templates/main.go.tmpl --strict --report-dir reports`
}

// Run prints the findings.
func (l *Lint) Run(ctx context.Context, a *app.App) error {
	a.Checked()
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil {
		return err
	}
	step := &generate.Step{Options: generate.Options{Dialect: dialect(project, false), Vars: project.Vars, Flags: l.Vars}}
	for _, g := range project.Generate {
		step.Units = append(step.Units, generate.Unit{Template: g.Template, Vars: g.Vars})
	}
	if step.Packages, step.PackageDirs, err = localPackages(a, project.Dir, l.Package); err != nil {
		return err
	}
	if step.Files, err = openDir(a, project.Dir); err != nil {
		return err
	}
	refs := append(l.Refs, l.Ref...)
	if len(refs) == 0 {
		if refs, err = l.all(ctx, step, chain); err != nil {
			return err
		}
	}
	findings, err := step.Lint(ctx, chain.State, chain.Store, refs)
	if err != nil {
		return err
	}
	for i := range findings {
		findings[i].Where.File = fileOf(findings[i].Where.File, step.PackageDirs)
	}
	return l.show(a, findings, len(refs))
}

// below is dir relative to the project, if it lies in it.
func below(project, dir string) string {
	if rel, err := filepath.Rel(project, dir); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(dir)
}

// fileOf turns the name of a template of a local package into the path of its file.
func fileOf(name string, dirs map[string]string) string {
	if id, file, ok := strings.Cut(name, ":"); ok && dirs[id] != "" {
		return path.Join(dirs[id], "templates", file)
	}
	return name
}

// all are the references to look at where none is given.
func (*Lint) all(ctx context.Context, step *generate.Step, chain *app.Chain) ([]string, error) {
	var refs []string
	for _, u := range step.Units {
		refs = append(refs, u.Template)
	}
	if len(refs) > 0 {
		return refs, nil
	}
	infos, err := step.List(ctx, chain.State, chain.Store)
	if err != nil {
		return nil, err
	}
	for _, i := range infos {
		refs = append(refs, i.Reference)
	}
	if len(refs) == 0 {
		return nil, fault.New(fault.Usage, "name a template, or a package with --package", "there is no template to look at")
	}
	return refs, nil
}

func (l *Lint) show(a *app.App, findings []finding.Finding, refs int) error {
	mistakes := 0
	for _, f := range findings {
		if f.Severity.Gates() || l.Strict {
			mistakes++
		}
		a.Note(f)
	}
	if a.Output == "json" {
		if findings == nil {
			findings = []finding.Finding{}
		}
		if err := a.PrintJSON(findings); err != nil {
			return err
		}
	}
	if mistakes > 0 {
		err := fault.New(fault.Finding, "", "%s in the templates", count(mistakes, "mistake"))
		if a.Output == "json" {
			return app.ExitError{Code: fault.Finding.ExitCode(), Why: err}
		}
		return err
	}
	if a.Output == "json" {
		return nil
	}
	_, err := fmt.Fprintf(a.Stdout, "%s, no mistake, %s\n", count(refs, "reference"), count(len(findings), "warning"))
	return err
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
