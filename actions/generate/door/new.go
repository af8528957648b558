package door

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// Create makes a template to start from.
type Create struct {
	Name         string `arg:"" optional:"" twin:"template-name" help:"Name of the template: letters, digits, - and _."`
	TemplateName string `placeholder:"NAME" help:"The same as a flag, for CI inputs."`
	TemplateType string `enum:"file,graph,inject" default:"file" help:"What it makes: one file, one for every row of a query, or an edit of a file (${enum})."`
	To           string `placeholder:"PATH" help:"Path that the template writes; it may have tags. Default: after the name."`
	Package      string `placeholder:"DIR" help:"Package whose templates it joins; one that is not there is made. Default: the project."`
	Interactive  bool   `short:"i" help:"Ask at the terminal for the name, the kind and the path."`
}

// Help shows how it is called.
func (*Create) Help() string {
	return `Writes templates/NAME.tmpl and what it needs beside it, and says how it is used. Nothing is
overwritten.

Examples:
  ultrafast-generate new handler
  ultrafast-generate new --interactive
  ultrafast-generate new handler --template-type graph --package packages/service`
}

// Run writes it, prints the paths and says how it is used.
func (n *Create) Run(ctx context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	starter := generate.Starter{Name: cmp.Or(n.Name, n.TemplateName), Kind: n.TemplateType, To: n.To}
	if n.Interactive {
		if err := n.ask(ctx, a, &starter); err != nil {
			return err
		}
	}
	dir, shown := project.Dir, ""
	if n.Package != "" {
		dir, shown = a.Abs(n.Package), filepath.ToSlash(n.Package)
		if starter.Package, err = packageIn(a, dir); err != nil {
			return err
		}
	}
	paths, err := generate.NewTemplate(dir, starter)
	if err != nil {
		return err
	}
	for _, at := range paths {
		if _, err := fmt.Fprintln(a.Stdout, path.Join(shown, at)); err != nil {
			return err
		}
	}
	_, err = io.WriteString(a.Stderr, nextSteps(a, starter, shown))
	return err
}

// packageIn returns the id of the package in dir, which is made if there is none: its
// manifest's, or that which it will get, the name of the folder.
func packageIn(a *app.App, dir string) (string, error) {
	if _, err := os.Lstat(filepath.Join(dir, manifestName)); errors.Is(err, fs.ErrNotExist) {
		return filepath.Base(dir), os.MkdirAll(dir, 0o755)
	}
	packages, _, err := localPackages(a, dir, []string{dir})
	for id := range packages {
		return id, nil
	}
	return "", err
}

// nextSteps says how a template that was made is rendered, by hand and by the project.
func nextSteps(a *app.App, s generate.Starter, packageDir string) string {
	tool, from := a.Tool, ""
	if !strings.HasSuffix(tool, "generate") {
		tool = "ultrafast generate"
	}
	if packageDir != "" {
		from = " --package " + packageDir
	}
	before := ""
	if s.Kind == "inject" {
		before = fmt.Sprintf(", once out/%s has the line that it looks for", cmp.Or(s.To, s.DefaultTo()))
	}
	return fmt.Sprintf(`
next, to see what it gives%[5]s:
  %[1]s template %[2]s%[3]s --output-dir out

or for every run, in %[4]s:
  [[generate]]
  template = %[2]q
and then:
  %[1]s template%[3]s --output-dir out
`, tool, s.Reference(), from, config.FileName, before)
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
