package door

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// Create makes a template to start from.
type Create struct {
	Name         string `arg:"" optional:"" twin:"template-name" help:"Name of the template: letters, digits, - and _."`
	TemplateName string `placeholder:"NAME" help:"The same as a flag, for CI inputs."`
	TemplateType string `enum:"file,graph,inject" default:"file" help:"What it makes: one file, one for every row of a query, or an edit of a file (${enum})."`
	To           string `placeholder:"PATH" help:"Path that the template writes; it may have tags. Default: after the name."`
	Package      string `type:"existingdir" placeholder:"DIR" help:"Package whose templates it joins. Default: the project."`
	Interactive  bool   `short:"i" help:"Ask at the terminal for the name, the kind and the path."`
}

// Help shows how it is called.
func (*Create) Help() string {
	return `Writes templates/NAME.tmpl and what it needs beside it. Nothing is overwritten.

Examples:
  ultrafast-generate new handler
  ultrafast-generate new --interactive
  ultrafast-generate new handler --template-type graph --package packages/service`
}

// Run writes it and prints the paths.
func (n *Create) Run(ctx context.Context, a *app.App) error {
	dir := n.Package
	if dir == "" {
		project, err := a.LoadProject()
		if err != nil {
			return err
		}
		dir = project.Dir
	}
	starter := generate.Starter{Name: cmp.Or(n.Name, n.TemplateName), Kind: n.TemplateType, To: n.To}
	if n.Interactive {
		if err := n.ask(ctx, a, &starter); err != nil {
			return err
		}
	}
	paths, err := generate.NewTemplate(a.Abs(dir), starter)
	if err != nil {
		return err
	}
	for _, at := range paths {
		if n.Package != "" {
			at = path.Join(n.Package, at)
		}
		if _, err := fmt.Fprintln(a.Stdout, at); err != nil {
			return err
		}
	}
	return nil
}

// ask asks for what the call does not say; nothing typed is what stands in brackets.
func (n *Create) ask(ctx context.Context, a *app.App, s *generate.Starter) error {
	if !a.Interactive() {
		return fault.New(fault.Usage, "leave out --interactive, and give the name", "there is no terminal to ask at")
	}
	var err error
	if s.Name == "" {
		if s.Name, err = askUntil(ctx, a, "Name of the template:", func(answer string) error {
			return generate.Starter{Name: answer}.CheckName()
		}); err != nil {
			return err
		}
	}
	kinds := generate.Starters()
	kind, err := askUntil(ctx, a, fmt.Sprintf("What it makes, %s [%s]:", strings.Join(kinds, ", "), s.Kind), func(answer string) error {
		if answer != "" && !slices.Contains(kinds, answer) {
			return fmt.Errorf("%q is not one of %s", answer, strings.Join(kinds, ", "))
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Kind = cmp.Or(kind, s.Kind)
	to, err := askUntil(ctx, a, fmt.Sprintf("Path that it writes [%s]:", cmp.Or(s.To, s.DefaultTo())), func(answer string) error {
		return generate.Starter{To: answer}.CheckTo()
	})
	s.To = cmp.Or(to, s.To)
	return err
}
