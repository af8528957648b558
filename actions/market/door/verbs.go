package door

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/registry"
	"github.com/ultrafast-ci/ultrafast/steps/market"
)

// read returns the decoded index and the project.
func (i Index) read(ctx context.Context, a *app.App) (*market.Index, *config.Project, error) {
	project, err := a.LoadProject()
	if err != nil {
		return nil, nil, err
	}
	source, err := i.open(a, project)
	if err != nil {
		return nil, nil, err
	}
	data, err := source.Index(ctx)
	if err != nil {
		return nil, nil, err
	}
	index, err := market.DecodeIndex(source.Name(), data)
	return index, project, err
}

// Search looks for packages.
type Search struct {
	Index
	Text       []string `arg:"" optional:"" name:"query" help:"Words; a package must have all of them."`
	Query      string   `placeholder:"WORDS" help:"The same as a flag, for CI inputs."`
	Tags       []string `placeholder:"TAG" help:"Packages with all of these tags."`
	Category   string   `help:"Packages of this category."`
	License    string   `help:"Packages under this licence."`
	MinQuality int      `placeholder:"N" help:"Quality score of at least N, 0 to 100."`
	Sort       string   `enum:"relevance,stars,downloads,updated,name" default:"relevance" help:"Order: ${enum}."`
	Fuzzy      bool     `help:"Also find words with up to two letters wrong."`
	Limit      int      `default:"10" help:"At most so many, up to 100."`
}

// Help shows how it is called.
func (*Search) Help() string {
	return "Examples:\n  ultrafast-market search \"go service\"\n  ultrafast-market search --tags go,http --min-quality 80 --output json"
}

// Run prints what was found; nothing found is no error.
func (s *Search) Run(ctx context.Context, a *app.App) error {
	index, project, err := s.read(ctx, a)
	if err != nil {
		return err
	}
	text := strings.TrimSpace(strings.Join(append(s.Text, s.Query), " "))
	found, err := market.Search(index, market.Query{
		Text: text, Tags: s.Tags, Category: s.Category, License: s.License, MinQuality: s.MinQuality,
		Prerelease: project.Market.AllowPrerelease, Fuzzy: s.Fuzzy, Sort: s.Sort, Limit: s.Limit,
	})
	switch {
	case err != nil:
		return err
	case a.Output == "json":
		return a.PrintJSON(found)
	case len(found) == 0:
		_, err := fmt.Fprintf(a.Stdout, "No packages found matching %q\n", text)
		return err
	}
	rows := [][]any{{"PACKAGE", "VERSION", "QUALITY", "DESCRIPTION"}}
	for _, m := range found {
		rows = append(rows, []any{m.ID, m.Latest, m.QualityScore, m.Description})
	}
	rows = append(rows, []any{}, []any{fmt.Sprintf("%d of %d packages", len(found), len(index.Packages))})
	return a.Table(rows...)
}

// List shows installed packages.
type List struct {
	Index
	Updates bool `help:"Only packages of which the index has a newer version."`
}

// Help shows how it is called.
func (*List) Help() string {
	return "Examples:\n  ultrafast-market list\n  ultrafast-market list --updates --output json"
}

// Run prints what the lock file of the project holds.
func (l *List) Run(ctx context.Context, a *app.App) error {
	index, project, err := l.read(ctx, a)
	if err != nil {
		return err
	}
	data, err := registry.LockFile(filepath.Join(project.Dir, market.LockName)).Read()
	if err != nil {
		return err
	}
	var pinned []market.Locked
	if data != nil {
		if pinned, err = market.ParseLock(data); err != nil {
			return err
		}
	}
	rows := market.List(pinned, index, project.Market.AllowPrerelease)
	if l.Updates {
		rows = withUpdates(rows)
	}
	if a.Output == "json" {
		return a.PrintJSON(rows)
	}
	table := [][]any{{"PACKAGE", "VERSION", "NEWER", "DIGEST"}}
	for _, r := range rows {
		table = append(table, []any{r.ID, r.Version, r.Update, r.Sum.Short()})
	}
	return a.Table(table...)
}

func withUpdates(rows []market.Installed) []market.Installed {
	var out []market.Installed
	for _, r := range rows {
		if r.Update != "" {
			out = append(out, r)
		}
	}
	return out
}

// Info shows one package.
type Info struct {
	Index
	ID string `arg:"" name:"package" help:"Package id."`
}

// Help shows how it is called.
func (*Info) Help() string {
	return "Example:\n  ultrafast-market info go-http-service"
}

// Run prints what the index says of the package.
func (i *Info) Run(ctx context.Context, a *app.App) error {
	index, _, err := i.read(ctx, a)
	if err != nil {
		return err
	}
	p, err := market.Find(index, i.ID)
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(p)
	}
	rows := [][]any{
		{p.ID, p.Description}, {"quality", p.QualityScore}, {"licence", p.License},
		{"tags", strings.Join(p.Tags, ", ")}, {"versions", strings.Join(p.Versions(), ", ")},
	}
	for _, t := range p.Templates {
		rows = append(rows, []any{"template", p.ID + ":" + t.Name, t.Description})
	}
	return a.Table(rows...)
}

// Categories counts.
type Categories struct{ Index }

// Help shows how it is called.
func (*Categories) Help() string {
	return "Example:\n  ultrafast-market categories --output json"
}

// Run prints each category with its number of packages, most first.
func (c *Categories) Run(ctx context.Context, a *app.App) error {
	index, _, err := c.read(ctx, a)
	if err != nil {
		return err
	}
	rows := market.Categories(index)
	if a.Output == "json" {
		return a.PrintJSON(rows)
	}
	table := [][]any{{"CATEGORY", "PACKAGES"}}
	for _, r := range rows {
		table = append(table, []any{r.Name, r.Packages})
	}
	return a.Table(table...)
}
