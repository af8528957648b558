package generate

import (
	"context"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
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
	// Defaults are the variables that it sets itself, Needs those that whoever renders
	// it has to set, both sorted. NeedsGraph says that it queries a graph and has none.
	Defaults   []string `json:"defaults,omitempty"`
	Needs      []string `json:"needs,omitempty"`
	NeedsGraph bool     `json:"needsGraph,omitempty"`
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

// List describes every template of the project's folder templates, and then those of
// every known package, sorted by reference. What is wrong with a template is among its
// findings.
func (s *Step) List(ctx context.Context, in state.State, blobs state.Blobs) ([]Info, error) {
	lib, err := s.library(ctx, in, blobs)
	if err != nil {
		return nil, err
	}
	var packs []*pack
	if s.Files != nil {
		own, err := s.localFolder(reference{file: path.Join(templatesDir, "*")})
		if err != nil {
			return nil, err
		}
		packs = append(packs, own)
	}
	for _, id := range slices.Sorted(maps.Keys(lib.packs)) {
		packs = append(packs, lib.packs[id])
	}
	var out []Info
	for _, p := range packs {
		names, err := p.templates()
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			info, err := s.describe(lib, p, name)
			if err != nil {
				return nil, err
			}
			out = append(out, info)
		}
	}
	return out, nil
}

// Show describes the templates that a reference, or a pattern, names. One that does
// not parse is an error.
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
		info, err := s.describe(lib, home, ref.file)
		if err != nil {
			return nil, err
		}
		for _, f := range info.Findings {
			if f.Severity.Gates() {
				return nil, fault.New(fault.Finding, f.Fix, "%s: %s", f.Where, f.What)
			}
		}
		out = append(out, info)
	}
	return out, nil
}

// describe reads one template without rendering it.
func (s *Step) describe(lib *library, home *pack, file string) (Info, error) {
	l := &linter{step: s, lib: lib, pack: home}
	engine, err := l.load(file)
	if err != nil || engine == nil {
		return Info{Reference: home.name(file), Findings: l.found}, err
	}
	info := l.t.info()
	reads := append(l.front(engine), l.body(engine)...)
	info.Needs, info.NeedsGraph = l.needs(reads), l.needsGraph()
	info.Findings = l.found
	return info, nil
}

// needs returns those of the variables that are read which whoever renders the
// template has to set, sorted.
func (l *linter) needs(reads []string) []string {
	set := append(l.ownVariables(), "sparql_results", "results", "row", "locals", "loop")
	for _, v := range l.pack.variables {
		if v.Default != nil {
			set = append(set, v.Name)
		} else if v.Required {
			reads = append(reads, v.Name)
		}
	}
	var out []string
	for _, name := range reads {
		if name == "Name" { // is made of it
			name = "name"
		}
		if !slices.Contains(set, name) && !guarded(l.t, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// asksGraph finds the function sparql of both languages.
var asksGraph = regexp.MustCompile("\\bsparql\\s*[(\"`]")

// needsGraph reports whether the template asks a graph and brings none.
func (l *linter) needsGraph() bool {
	h := &l.t.header
	asks := h.sparql != nil || h.construct != nil || h.matrix != nil || h.forEach != nil || asksGraph.MatchString(l.t.body) ||
		h.when != nil && askQuery.MatchString(h.when.Text)
	return asks && h.rdf == nil && h.inline == nil
}

func (t *template) info() Info {
	h := t.header
	info := Info{Reference: t.name, Variables: t.pack.variables}
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
