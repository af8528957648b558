package generate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/shacl"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Rules of [Step.Lint]. Those of severity high are mistakes that rendering would
// stop at; the others are warnings.
const (
	ruleFrontMatter = "template-front-matter" // high
	ruleSyntax      = "template-syntax"       // high
	ruleQuery       = "template-query"        // high
	ruleGraph       = "template-graph"        // high
	ruleUndefined   = "template-undefined-variable"
	ruleUnused      = "template-unused-variable"
	ruleNoTarget    = "template-no-to"
)

// Lint looks for mistakes in the templates that the references or patterns name
// without rendering them: in front matter, body, queries, graphs and shapes, and
// among the variables. Of the variables it knows those of the options and units.
// Findings are sorted by place.
func (s *Step) Lint(ctx context.Context, in state.State, blobs state.Blobs, references []string) ([]finding.Finding, error) {
	lib, err := s.library(ctx, in, blobs)
	if err != nil {
		return nil, err
	}
	var out []finding.Finding
	for _, reference := range references {
		refs, home, err := lib.expand(s, &Unit{Template: reference})
		if err != nil {
			return nil, err
		}
		words, err := home.words()
		if err != nil {
			return nil, err
		}
		for _, ref := range refs {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			l := &linter{step: s, lib: lib, pack: home, words: words}
			if err := l.template(ctx, ref.file); err != nil {
				return nil, err
			}
			out = append(out, l.found...)
		}
		out = append(out, home.unusedDeclarations(words)...)
	}
	slices.SortStableFunc(out, func(a, b finding.Finding) int {
		if c := strings.Compare(a.Where.File, b.Where.File); c != 0 {
			return c
		}
		return a.Where.Line - b.Where.Line
	})
	return slices.CompactFunc(out, func(a, b finding.Finding) bool { return a.Rule == b.Rule && a.Where == b.Where && a.What == b.What }), nil
}

// linter looks at one template.
type linter struct {
	step  *Step
	lib   *library
	pack  *pack
	words map[string]int
	t     *template
	set   settings
	found []finding.Finding
}

func (l *linter) add(rule string, severity finding.Severity, where finding.Place, fix, format string, a ...any) {
	l.found = append(l.found, finding.Finding{Rule: rule, Severity: severity, Where: where, What: fmt.Sprintf(format, a...), Fix: fix})
}

// mistake adds an error as a finding, at its own place or else at where.
func (l *linter) mistake(rule string, where finding.Place, err error) {
	what := err.Error()
	var inTemplate *render.Error
	var inText *graph.SyntaxError
	switch {
	case errors.As(err, &inTemplate):
		where = finding.Place{File: inTemplate.File, Line: inTemplate.Line, Column: inTemplate.Column}
		what = inTemplate.Message
	case errors.As(err, &inText):
		where = finding.Place{File: inText.File, Line: inText.Line, Column: inText.Column}
	}
	what = strings.TrimPrefix(strings.TrimPrefix(what, "front matter: "), where.String()+": ")
	what, _, _ = strings.Cut(what, "\n")
	l.add(rule, finding.High, where, fault.HintOf(err), "%s", what)
}

func (l *linter) template(ctx context.Context, file string) error {
	engine, err := l.load(file)
	if err != nil || engine == nil {
		return err
	}
	if l.t.header.to == nil {
		l.add(ruleNoTarget, finding.Low, l.t.place(1), "name the file under to", "the template does not say what it writes")
	}
	reads := l.front(engine)
	l.graph(ctx)
	l.queries()
	l.variables(append(reads, l.body(engine)...))
	return nil
}

// load reads a template and returns its engine, or nil after a mistake.
func (l *linter) load(file string) (render.Engine, error) {
	t, err := l.pack.load(file)
	if err != nil {
		if fault.KindOf(err) != fault.Finding {
			return nil, err
		}
		l.mistake(ruleFrontMatter, placeOf(err, finding.Place{File: l.pack.name(file), Line: 1}), err)
		return nil, nil
	}
	l.t = t
	l.found = append(l.found, t.warnings...)
	dialect, err := l.step.Options.Dialect.of(&t.header)
	if err != nil {
		l.mistake(ruleFrontMatter, t.header.engine.Place, err)
		return nil, nil
	}
	return dialect.engine(surroundings{loader: loader{l.lib, l.pack}}), nil
}

// front looks at the strings of the front matter, and returns the variables they read.
func (l *linter) front(engine render.Engine) []string {
	var reads []string
	h := l.t.header // a copy: what is not known before rendering is left out of it
	look := func(n *document.Node, source string, before int) {
		names, err := engine.Variables(l.t.name, source)
		if err != nil {
			l.mistake(ruleFrontMatter, n.Place, l.t.relocate(l.t.shift(err, 0, -before), n, 0))
		}
		reads = append(reads, names...)
	}
	for _, field := range h.fields() {
		eachString(*field, func(n *document.Node) {
			if tagged(n) {
				look(n, n.Text, 0)
			}
		})
	}
	if n := h.when; n != nil && n.Kind == document.String && !tagged(n) && !askQuery.MatchString(n.Text) {
		dialect, _ := l.step.Options.Dialect.of(&h)
		source, before := dialect.condition(n.Text)
		look(n, source, before)
	}
	for _, field := range []**document.Node{
		&h.force, &h.unlessExists, &h.skipEmpty, &h.backup, &h.inject, &h.prepend, &h.appendTo, &h.determinism, &h.freezePolicy, &h.freezeSlots, &h.prefixes,
	} {
		if n := *field; n != nil && (tagged(n) || n.Kind == document.Map && slices.ContainsFunc(n.Entries, func(e document.Entry) bool { return tagged(e.Value) })) {
			*field = nil
		}
	}
	var err error
	raw := func(n *document.Node) (string, error) { return n.Text, nil }
	if l.set, err = h.settings(raw); err == nil && l.set.edits && !tagged(h.atLine) {
		_, _, _, err = h.mode(raw)
	}
	asIs := func(_ *document.Node, text string) (string, error) { return text, nil }
	for _, n := range []*document.Node{h.shBefore, h.shAfter} {
		_, hookErr := commandsOf(n, asIs)
		err = errors.Join(err, hookErr)
	}
	if err != nil {
		l.mistake(ruleFrontMatter, placeOf(err, l.t.place(1)), err)
	}
	return reads
}

// placeOf takes the place from the beginning of a message about front matter.
func placeOf(err error, otherwise finding.Place) finding.Place {
	m := regexp.MustCompile(`^(?:front matter: )?(.+?):(\d+):(\d+): `).FindStringSubmatch(err.Error())
	if m == nil {
		return otherwise
	}
	place := finding.Place{File: m[1]}
	if _, err := fmt.Sscan(m[2], &place.Line); err != nil {
		return otherwise
	}
	if _, err := fmt.Sscan(m[3], &place.Column); err != nil {
		return otherwise
	}
	return place
}

func tagged(n *document.Node) bool {
	return n != nil && n.Kind == document.String && (strings.Contains(n.Text, "{{") || strings.Contains(n.Text, "{%"))
}

// eachString calls f for every string below n.
func eachString(n *document.Node, f func(*document.Node)) {
	if n == nil {
		return
	}
	if n.Kind == document.String {
		f(n)
	}
	for _, item := range n.Items {
		eachString(item, f)
	}
	for _, e := range n.Entries {
		eachString(e.Value, f)
	}
}

// body looks at what is rendered, and returns the variables it reads.
func (l *linter) body(engine render.Engine) []string {
	j := &job{template: l.t, lib: l.lib, set: l.set}
	if tagged(l.t.header.from) {
		return nil
	}
	b, err := j.source()
	if err != nil {
		l.mistake(ruleFrontMatter, l.t.header.from.Place, err)
		return nil
	}
	names, err := engine.Variables(b.name, b.text)
	if err != nil {
		l.mistake(ruleSyntax, l.t.place(l.t.bodyLine), l.t.shift(err, b.shift, 0))
	}
	return names
}

// queries looks at those whose text is known.
func (l *linter) queries() {
	j := &job{options: &l.step.Options, template: l.t, set: l.set}
	for _, q := range slices.Concat(l.set.construct, l.set.queries) {
		if tagged(q.node) {
			continue
		}
		if _, err := sparql.Parse(q.text, j.queryOptions()); err != nil {
			l.mistake(ruleQuery, q.node.Place, l.t.relocate(err, q.node, 0))
		}
	}
	name, n := l.set.forEach, l.t.header.forEach
	if n == nil || tagged(n) || strings.ContainsAny(name, "{ \n") {
		return
	}
	var names []string
	for _, q := range l.set.queries {
		names = append(names, q.name)
	}
	if !slices.Contains(names, name) {
		l.add(ruleQuery, finding.High, n.Place, fault.DidYouMean(name, names), "for_each names query %q, which the template does not have", clip(name))
	}
}

// graph reads the graphs and shapes that are named.
func (l *linter) graph(ctx context.Context) {
	read := func(files []inlineGraph) *graph.Graph {
		var sources []source
		for i := range files {
			if tagged(files[i].node) {
				return nil
			}
			s, err := packageGraph(l.t, &l.set, &files[i])
			if err != nil {
				l.mistake(ruleGraph, files[i].node.Place, err)
				return nil
			}
			sources = append(sources, s)
		}
		g, err := load(ctx, sources, l.step.Options.Limits.withDefaults())
		if err != nil {
			l.mistake(ruleGraph, files[0].node.Place, err)
			return nil
		}
		return g
	}
	if len(l.set.rdf) > 0 {
		read(l.set.rdf)
	}
	if len(l.set.shapes) == 0 {
		return
	}
	if shapes := read(l.set.shapes); shapes != nil {
		if _, err := shacl.Parse(ctx, shapes); err != nil {
			l.mistake(ruleGraph, l.set.shapes[0].node.Place, err)
		}
	}
}

// given are the variables that every template has.
var given = []string{"sparql_results", "results", "row", "locals", "Name", "name", "loop"}

// variables compares what is read with what is set.
func (l *linter) variables(reads []string) {
	known := slices.Clone(given)
	for _, layer := range l.step.Options.layers(&Unit{}) {
		for name := range layer {
			known = append(known, name)
		}
	}
	for i := range l.step.Units {
		for name := range l.step.Units[i].Vars {
			known = append(known, name)
		}
	}
	for _, v := range l.pack.variables {
		known = append(known, v.Name)
	}
	known = append(known, l.ownVariables()...)
	slices.Sort(reads)
	for _, name := range slices.Compact(reads) {
		if !slices.Contains(known, name) && !guarded(l.t, name) {
			l.add(ruleUndefined, finding.Medium, l.where(name), fault.DidYouMean(name, known), "nothing sets variable %q; whoever renders the template has to", name)
		}
	}
	if n := l.t.header.vars; n != nil && n.Kind == document.Map {
		for _, e := range n.Entries {
			if l.words[e.Key] < 2 { // the first is where it is set
				l.add(ruleUnused, finding.Low, e.Place, "remove it", "nothing reads variable %q", e.Key)
			}
		}
	}
}

// ownVariables are those that the template sets itself, by its queries too.
func (l *linter) ownVariables() []string {
	var out []string
	for _, q := range l.set.queries {
		out = append(out, q.name)
		out = append(out, columns(q.text)...)
	}
	out = append(out, columns(l.set.forEach)...)
	for _, b := range l.set.bind {
		out = append(out, b.variable)
	}
	raw := func(n *document.Node) (string, error) { return n.Text, nil }
	if own, err := defaults(l.t.header.vars, raw); err == nil { // else it is told of already
		out = append(out, own.Keys(render.SortedOrder)...)
	}
	return out
}

var column = regexp.MustCompile(`[?$](\w+)`)

// columns are the names of the variables of a query: for_each makes them variables.
func columns(query string) []string {
	var out []string
	for _, m := range column.FindAllStringSubmatch(query, -1) {
		out = append(out, m[1])
	}
	return out
}

// guarded reports whether the template itself sees to a variable that is not set.
func guarded(t *template, name string) bool {
	guard := regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b[\w.]*\s*(\|\s*default\b|is\s+(not\s+)?(un)?defined\b)`)
	return guard.MatchString(strings.Join(t.lines, "\n")) || guard.MatchString(t.body)
}

// where is the first place at which the body, or else the front matter, has a name.
func (l *linter) where(name string) finding.Place {
	word := regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`)
	text, line := l.t.body, l.t.bodyLine
	at := word.FindStringIndex(text)
	if at == nil {
		text, line = strings.Join(l.t.lines, "\n"), 1
		if at = word.FindStringIndex(text); at == nil {
			return l.t.place(1)
		}
	}
	row, col, _ := render.Position(text, at[0])
	return finding.Place{File: l.t.name, Line: line + row - 1, Column: col}
}

var identifier = regexp.MustCompile(`[A-Za-z_]\w*`)

// words counts the identifiers in all files of the package's templates: what an
// include reads is read too.
func (p *pack) words() (map[string]int, error) {
	counts := map[string]int{}
	if p.flat {
		return counts, nil
	}
	files := 0
	err := fs.WalkDir(p.fsys, p.base, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || slices.Contains([]string{".ttl", ".nt", ".rdf", ".jsonld"}, path.Ext(name)) {
			return err
		}
		if files++; files > maxEntries {
			return fault.New(fault.Finding, "", "more than %d templates", maxEntries)
		}
		text, err := readFile(p.fsys, name, maxSourceSize)
		for _, word := range identifier.FindAll(text, -1) {
			counts[string(word)]++
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read templates of %s: %w", p.name("*"), err)
	}
	return counts, nil
}

// unusedDeclarations tells of variables of the manifest that no template names.
func (p *pack) unusedDeclarations(words map[string]int) []finding.Finding {
	var out []finding.Finding
	for _, v := range p.variables {
		if words[v.Name] == 0 {
			out = append(out, finding.Finding{
				Rule: ruleUnused, Severity: finding.Low, Where: v.where, What: fmt.Sprintf("no template of the package reads variable %q", v.Name), Fix: "remove it",
			})
		}
	}
	return out
}
