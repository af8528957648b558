package door

import (
	"context"
	"fmt"
	"path"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// Create makes a template to start from.
type Create struct {
	Name         string `arg:"" optional:"" twin:"template-name" help:"Name of the template: letters, digits, - and _."`
	TemplateName string `placeholder:"NAME" help:"The same as a flag, for CI inputs."`
	TemplateType string `enum:"file,graph,inject" default:"file" help:"What it makes: one file, one for every row of a query, or an edit of a file (${enum})."`
	Package      string `type:"existingdir" placeholder:"DIR" help:"Package whose templates it joins. Default: the project."`
}

// Help shows how it is called.
func (*Create) Help() string {
	return `Writes templates/NAME.tmpl and what it needs beside it. Nothing is overwritten.

Examples:
  ultrafast-generate new handler
  ultrafast-generate new handler --template-type graph --package packages/service`
}

// Run writes it and prints the paths.
func (n *Create) Run(_ context.Context, a *app.App) error {
	dir := n.Package
	if dir == "" {
		project, err := a.LoadProject()
		if err != nil {
			return err
		}
		dir = project.Dir
	}
	name := n.Name
	if name == "" {
		name = n.TemplateName
	}
	paths, err := generate.NewTemplate(a.Abs(dir), name, n.TemplateType)
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
