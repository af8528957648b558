package door

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// List lists templates.
type List struct {
	Package []string `type:"existingdir" placeholder:"DIR" help:"Package in a local directory, used when no --state is given; may be repeated."`
}

// Run prints the templates of the chain's packages, or of local ones.
func (l *List) Run(ctx context.Context, a *app.App) error {
	return describe(ctx, a, l.Package, func(step *generate.Step, chain *app.Chain) ([]generate.Info, error) {
		return step.List(ctx, chain.State, chain.Store)
	})
}

// Show describes templates.
type Show struct {
	Ref     string   `arg:"" help:"Template, <package>:<file>; the file may be a pattern."`
	Package []string `type:"existingdir" placeholder:"DIR" help:"Package in a local directory, used when no --state is given; may be repeated."`
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
	step := &generate.Step{}
	if step.Packages, err = localPackages(a, packages); err != nil {
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
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TEMPLATE\tWRITES\tQUERIES\tNEEDS")
	for _, i := range infos {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", i.Reference, i.To, strings.Join(i.Queries, " "), strings.Join(i.Needs, " "))
	}
	return w.Flush()
}

// Query runs a query.
type Query struct {
	Query  string            `required:"" type:"existingfile" placeholder:"FILE" help:"SPARQL query."`
	Data   []string          `type:"existingfile" placeholder:"FILE" help:"Graph file, .ttl or .nt, for the default graph; may be repeated."`
	Graph  map[string]string `mapsep:"none" placeholder:"IRI=FILE" help:"Graph file for a named graph; may be repeated."`
	Base   string            `placeholder:"IRI" help:"Base IRI of query and files. Default: each file's own URL."`
	Format string            `enum:"json,csv,tsv,table,nt" default:"table" help:"Syntax of the result: ${enum}."`
	Plan   bool              `help:"Print how the query would be executed."`
	Check  bool              `help:"Only parse the query."`
}

// Help shows how it is called.
func (*Query) Help() string {
	return `Examples:
  ultrafast-generate query --data model.ttl --query entities.rq
  ultrafast-generate query --data model.ttl --query entities.rq --plan`
}

// Run prints the result.
func (q *Query) Run(ctx context.Context, a *app.App) error {
	text, err := a.ReadFile("query", q.Query)
	if err != nil {
		return err
	}
	query := generate.Query{Name: q.Query, Text: string(text), Base: q.base(a, q.Query)}
	if q.Check {
		return query.Check()
	}
	add := func(graph, file string) error {
		data, err := a.ReadFile("graph", file)
		query.Documents = append(query.Documents, generate.Document{Name: file, Text: bytes.NewReader(data), Base: q.base(a, file), Graph: graph})
		return err
	}
	for _, file := range q.Data {
		if err := add("", file); err != nil {
			return err
		}
	}
	for _, graph := range slices.Sorted(maps.Keys(q.Graph)) { // the order of loading is that of the rows
		if err := add(graph, q.Graph[graph]); err != nil {
			return err
		}
	}
	if q.Plan {
		return query.Explain(ctx, a.Stdout)
	}
	return query.Run(ctx, a.Stdout, q.Format)
}

// base returns the base IRI of a file: the one given, else its own URL.
func (q *Query) base(a *app.App, file string) string {
	if q.Base != "" {
		return q.Base
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(a.Abs(file))}).String()
}

// Render renders a body.
type Render struct {
	Template   string `required:"" type:"existingfile" placeholder:"FILE" help:"Template without front matter."`
	Engine     string `enum:"tera" default:"tera" help:"Template language: ${enum}."`
	IncludeDir string `type:"existingdir" placeholder:"DIR" help:"Where included templates are found."`
	VarsFile   string `type:"existingfile" placeholder:"FILE" help:"Variables, a JSON object."`
}

// Run prints what the template gives, byte for byte.
func (r *Render) Run(ctx context.Context, a *app.App) error {
	source, err := a.ReadFile("template", r.Template)
	if err != nil {
		return err
	}
	body := generate.Body{Name: filepath.Base(r.Template), Source: string(source)}
	if r.VarsFile != "" {
		if body.Vars, err = a.ReadFile("variables", r.VarsFile); err != nil {
			return err
		}
	}
	if r.IncludeDir != "" {
		if body.Includes, err = openDir(a, a.Abs(r.IncludeDir)); err != nil {
			return err
		}
	}
	return body.Render(ctx, a.Stdout)
}
