package generate

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Info describes a template without rendering it: strings of its front matter are
// as they were written.
type Info struct {
	// Reference is what a unit names it by.
	Reference string `json:"reference"`
	// To is the path it writes, unrendered.
	To string `json:"to,omitempty"`
	// Defaults are the variables that it sets itself, Needs those that its body
	// reads and nobody has set before rendering, both sorted.
	Defaults []string `json:"defaults,omitempty"`
	Needs    []string `json:"needs,omitempty"`
	// Variables are those that its package declares.
	Variables []Variable `json:"variables,omitempty"`
	Graphs    []string   `json:"graphs,omitempty"`
	// Shapes are the files that its graph is held against.
	Shapes []string `json:"shapes,omitempty"`
	// Queries are the names of its queries, in the order of the file.
	Queries []string `json:"queries,omitempty"`
	ForEach string   `json:"forEach,omitempty"`
	// Hooks are its commands, with their keys.
	Hooks []string `json:"hooks,omitempty"`
	// Seed is the template's own seed, if it has one.
	Seed     string            `json:"seed,omitempty"`
	Findings []finding.Finding `json:"findings,omitempty"`
}

// List describes every template of every known package, sorted by reference.
func (s *Step) List(ctx context.Context, in state.State, blobs state.Blobs) ([]Info, error) {
	lib, err := s.library(ctx, in, blobs)
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, id := range slices.Sorted(maps.Keys(lib.packs)) {
		names, err := lib.packs[id].templates()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			t, err := lib.packs[id].load(name)
			if err != nil {
				return nil, err
			}
			out = append(out, t.info())
		}
	}
	return out, nil
}

// Show describes the templates that a reference, or a pattern, names. A body that
// does not parse is an error.
func (s *Step) Show(ctx context.Context, in state.State, blobs state.Blobs, reference string) ([]Info, error) {
	lib, err := s.library(ctx, in, blobs)
	if err != nil {
		return nil, err
	}
	references, home, err := lib.expand(s, &Unit{Template: reference})
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, ref := range references {
		t, err := home.load(ref.file)
		if err != nil {
			return nil, err
		}
		info := t.info()
		dialect, err := s.Options.Dialect.of(&t.header)
		if err != nil {
			return nil, err
		}
		names, err := dialect.engine(surroundings{loader: loader{lib, home}}).Variables(t.name, t.body)
		if err != nil {
			return nil, t.shift(err, t.bodyLine-1, 0)
		}
		info.Needs = slices.DeleteFunc(names, func(name string) bool {
			return name == "sparql_results" || name == "row" || name == "locals" ||
				slices.Contains(info.Defaults, name) || slices.Contains(info.Queries, name)
		})
		out = append(out, info)
	}
	return out, nil
}

func (t *template) info() Info {
	h := t.header
	info := Info{Reference: t.name, Findings: t.warnings, Variables: t.pack.variables}
	if h.to != nil {
		info.To = h.to.Text
	}
	if h.forEach != nil {
		info.ForEach = h.forEach.Text
	}
	raw := func(n *document.Node) (string, error) { return n.Text, nil }
	// What is malformed is told by rendering; a description leaves it out.
	if own, err := defaults(h.vars, raw); err == nil {
		info.Defaults = slices.Sorted(slices.Values(own.Keys(0)))
	}
	if graphs, err := texts(h.rdf, raw, ""); err == nil {
		for _, g := range graphs {
			info.Graphs = append(info.Graphs, g.text)
		}
	}
	if shapes, err := texts(h.shape, raw, ""); err == nil {
		for _, s := range shapes {
			info.Shapes = append(info.Shapes, s.text)
		}
	}
	if named, err := queries(h.sparql, raw); err == nil {
		for _, q := range named {
			info.Queries = append(info.Queries, q.name)
		}
	}
	asIs := func(_ *document.Node, text string) (string, error) { return text, nil }
	for _, n := range []*document.Node{h.shBefore, h.shAfter} {
		if commands, err := commandsOf(n, asIs); err == nil {
			for _, argv := range commands {
				info.Hooks = append(info.Hooks, map[bool]string{true: "sh_before: ", false: "sh_after: "}[n == h.shBefore]+line(argv))
			}
		}
	}
	if number, ok, err := seed(h.determinism, raw); err == nil && ok {
		info.Seed = strconv.FormatUint(number, 10)
	}
	return info
}
