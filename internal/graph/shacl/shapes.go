package shacl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Parse reads the shapes of a shapes graph, the default graph of g. What breaks
// a rule of the standard is a Finding that names shape and section; several are
// joined. The shapes are independent of g afterwards.
func Parse(ctx context.Context, g *graph.Graph) (*Shapes, error) {
	l := &loader{
		ctx: ctx, g: g, dict: g.Dictionary(), byNode: map[graph.ID]*shape{},
		words: map[string]graph.ID{}, known: map[graph.Term]constant{}, out: &Shapes{},
	}
	if err := catch(l.refuseBeyond); err != nil {
		return nil, err
	}
	if err := catch(l.discover); err != nil {
		return nil, err
	}
	if err := l.readAll(); err != nil {
		return nil, err
	}
	if err := catch(func() { l.recursion(); l.remark() }); err != nil {
		return nil, err
	}
	return l.out, nil
}

// loader reads a shapes graph. Its methods panic with a failure.
type loader struct {
	ctx    context.Context
	g      *graph.Graph
	dict   *graph.Dictionary
	byNode map[graph.ID]*shape
	words  map[string]graph.ID // numbers of IRIs
	known  map[graph.Term]constant
	out    *Shapes
	steps  int
}

func (l *loader) step() {
	if l.steps++; l.steps%checkEvery == 0 && l.ctx.Err() != nil {
		panic(failure{context.Cause(l.ctx)})
	}
}

// fail ends the reading of a shape with a mistake.
func (l *loader) fail(s *shape, section, hint, format string, args ...any) {
	panic(failure{mistake{"shape " + s.name, fmt.Sprintf(format, args...), section, hint}.err()})
}

// word returns the number of an IRI, or 0 if the graph does not have it.
func (l *loader) word(iri string) graph.ID {
	id, ok := l.words[iri]
	if !ok {
		id = l.dict.Lookup(graph.NewIRI(iri))
		l.words[iri] = id
	}
	return id
}

// objects returns the values of a property at a node.
func (l *loader) objects(node graph.ID, iri string) (out []graph.ID) {
	if p := l.word(iri); p != 0 {
		l.g.Match(node, p, 0, func(_, _, o graph.ID) bool { l.step(); out = append(out, o); return true })
	}
	return out
}

// subjects returns the nodes that have a property, with the given value unless that is 0.
func (l *loader) subjects(iri string, value graph.ID) (out []graph.ID) {
	if p := l.word(iri); p != 0 {
		l.g.Match(0, p, value, func(s, _, _ graph.ID) bool { l.step(); out = append(out, s); return true })
	}
	return out
}

// constant numbers a term that a shape names.
func (l *loader) constant(t graph.Term) constant {
	c, ok := l.known[t]
	if !ok {
		c = constant(len(l.out.constants))
		l.out.constants = append(l.out.constants, t)
		l.known[t] = c
	}
	return c
}

// refuseBeyond refuses what holds for a shapes graph as a whole: entailment
// regimes, none of which is supported (section 1.5), and constraint components
// of the graph's own, which need SPARQL or JavaScript (section 6).
func (l *loader) refuseBeyond() {
	if p := l.word(SH + "entailment"); p != 0 {
		l.g.Match(0, p, 0, func(_, _, o graph.ID) bool {
			panic(failure{mistake{"the shapes graph", "sh:entailment asks for " + l.dict.Term(o).String() + "; nothing is inferred here", "1.5",
				"remove it, and validate a graph in which the inferences have been made"}.err()})
		})
	}
	for _, of := range l.subjects(SH+"parameter", 0) {
		for _, parameter := range l.objects(of, SH+"parameter") {
			for _, property := range l.objects(parameter, SH+"path") {
				term := l.dict.Term(property)
				if term.Kind != graph.IRI || strings.HasPrefix(term.Value, SH) || l.g.Count(0, property, 0) == 0 {
					continue
				}
				panic(failure{mistake{"the shapes graph", fmt.Sprintf("%s uses a constraint component of its own, %s; only those of the core are known", term, l.dict.Term(of)), "6",
					"say it with the constraints of the core"}.err()})
			}
		}
	}
}

// instances returns the SHACL instances of a class in the shapes graph: of the
// class or of one below it (section 1.1).
func (l *loader) instances(class string) (out []graph.ID) {
	var classes distinct
	if id := l.word(class); id != 0 {
		classes.add(id)
	}
	for i := 0; i < len(classes.list); i++ {
		classes.add(l.subjects(rdfs+"subClassOf", classes.list[i])...)
		out = append(out, l.subjects(graph.RDF+"type", classes.list[i])...)
	}
	return out
}

// discover finds the shapes: what section 2.1 says that a shape is.
func (l *loader) discover() {
	var nodes distinct
	nodes.add(l.instances(SH + "NodeShape")...)
	nodes.add(l.instances(SH + "PropertyShape")...)
	for _, t := range targetParameters {
		nodes.add(l.subjects(SH+t.name, 0)...)
	}
	for _, p := range parameters {
		for _, name := range append([]string{p.name}, p.also...) {
			nodes.add(l.subjects(SH+name, 0)...)
		}
		switch p.name {
		case "node", "property", "not", "qualifiedValueShape":
			nodes.add(l.all(SH + p.name)...)
		case "and", "or", "xone":
			for _, list := range l.all(SH + p.name) {
				nodes.add(l.members(list)...)
			}
		}
	}
	slices.Sort(nodes.list)
	for _, node := range nodes.list {
		term := l.dict.Term(node)
		if term.Kind == graph.Literal {
			continue // whoever refers to it is told so
		}
		if len(l.out.all) == MaxShapes {
			panic(failure{fault.New(fault.Finding, "validate in parts", "the shapes graph has more than %d shapes", MaxShapes)})
		}
		s := &shape{index: len(l.out.all), node: term, severity: Violation}
		l.byNode[node] = s
		l.out.all = append(l.out.all, s)
	}
	for node, s := range l.byNode {
		s.name = l.describe(node, 0)
	}
}

// all returns every value of a property.
func (l *loader) all(iri string) (out []graph.ID) {
	if p := l.word(iri); p != 0 {
		l.g.Match(0, p, 0, func(_, _, o graph.ID) bool { l.step(); out = append(out, o); return true })
	}
	return out
}

// members returns the members of a list as far as it is one.
func (l *loader) members(list graph.ID) (out []graph.ID) {
	var seen distinct
	for list != 0 && !seen.has(list) {
		l.step()
		seen.add(list)
		out = append(out, l.objects(list, graph.RDF+"first")...)
		rest := l.objects(list, graph.RDF+"rest")
		if len(rest) != 1 {
			break
		}
		list = rest[0]
	}
	return out
}

// describe names a shape: an IRI by itself, a blank node by where it hangs.
func (l *loader) describe(node graph.ID, depth int) string {
	term := l.dict.Term(node)
	if term.Kind != graph.Blank || depth == 8 {
		return term.String()
	}
	own := ""
	if paths := l.objects(node, SH+"path"); len(paths) == 1 && l.dict.Kind(paths[0]) == graph.IRI {
		own = " " + l.dict.Term(paths[0]).String()
	}
	var parent, via graph.ID
	l.g.Match(0, 0, node, func(s, p, _ graph.ID) bool { parent, via = s, p; return false })
	if parent == 0 {
		return term.String() + own
	}
	name := strings.TrimPrefix(l.dict.Term(via).Value, SH)
	if name == graph.RDF+"first" || name == graph.RDF+"rest" {
		return l.describe(parent, depth+1) + own
	}
	return l.describe(parent, depth+1) + " " + name + own
}

// readAll reads every shape, and tells of the mistakes of all of them.
func (l *loader) readAll() error {
	var mistakes []error
	for _, s := range l.out.all {
		err := catch(func() { l.read(s) })
		if err != nil && l.ctx.Err() != nil {
			return err
		}
		if err != nil {
			mistakes = append(mistakes, err)
		}
		if len(mistakes) == maxMistakes {
			break
		}
	}
	return errors.Join(mistakes...)
}

// read reads what the graph says of a shape.
func (l *loader) read(s *shape) {
	node := l.dict.Lookup(s.node)
	l.checkWords(s, node)
	l.readKind(s, node)
	l.readTargets(s, node)
	if v := l.single(s, node, "severity", "2.1.4"); v != 0 {
		s.severity = l.iri(s, "severity", v, "2.1.4")
	}
	for _, v := range l.objects(node, SH+"message") {
		t := l.dict.Term(v)
		if t.Kind != graph.Literal || t.Datatype != graph.XSDString && t.Lang == "" {
			l.fail(s, "2.1.5", "write it in quotes", "sh:message is %s, not a text", t)
		}
		s.messages = append(s.messages, t)
	}
	if v := l.single(s, node, "deactivated", "2.1.6"); v != 0 {
		s.deactivated = l.boolean(s, "deactivated", v, "2.1.6")
	}
	for _, p := range parameters {
		values := l.objects(node, SH+p.name)
		if p.single && len(values) > 1 {
			l.fail(s, p.section, "say it once, or in a shape each under sh:and", "sh:%s has %s; at most one is allowed", p.name, count(len(values), "value"))
		}
		if p.scope && s.path == nil && len(values) > 0 {
			l.fail(s, p.section, "give the shape an sh:path, or move it into one under sh:property", "sh:%s is for property shapes; this is a node shape", p.name)
		}
		for _, name := range p.also {
			if n := len(l.objects(node, SH+name)); n > 1 {
				l.fail(s, p.section, "say it once", "sh:%s has %s; at most one is allowed", name, count(n, "value"))
			}
		}
		for _, v := range values {
			p.read(l, s, p.name, v)
		}
	}
}

// checkWords refuses every word of SHACL that is none of the core's, so that
// a misspelt or unsupported constraint is never passed over.
func (l *loader) checkWords(s *shape, node graph.ID) {
	l.g.Match(node, 0, 0, func(_, p, _ graph.ID) bool {
		l.step()
		word, ok := strings.CutPrefix(l.dict.Term(p).Value, SH)
		if !ok || slices.Contains(known, word) {
			return true
		}
		if what, ok := beyond[word]; ok {
			panic(failure{fault.New(fault.Finding, "say it with the constraints of the core", "shape %s: sh:%s is %s, which is beyond the core and not supported", s.name, word, what)})
		}
		hint := fault.DidYouMean(word, known)
		if hint == "" {
			hint = "remove it; only the constraints of SHACL's core are checked"
		}
		panic(failure{fault.New(fault.Finding, hint, "shape %s: sh:%s is no word of SHACL's core for shapes", s.name, word)})
	})
}

// readKind tells node shapes from property shapes (sections 2.2 and 2.3).
func (l *loader) readKind(s *shape, node graph.ID) {
	paths := l.objects(node, SH+"path")
	switch {
	case len(paths) > 1:
		l.fail(s, "2.3.1", "use sh:alternativePath, or a property shape for each", "sh:path has %s; at most one is allowed", count(len(paths), "value"))
	case len(paths) == 1 && l.is(node, SH+"NodeShape"):
		l.fail(s, "2.2", "make it an sh:PropertyShape, or remove its sh:path", "a node shape has no sh:path")
	case len(paths) == 0 && l.is(node, SH+"PropertyShape"):
		l.fail(s, "2.3", "add sh:path", "a property shape has an sh:path; this one has none")
	case len(paths) == 1:
		s.path = l.path(s, paths[0], nil)
	}
}

// is tells whether a node is a SHACL instance of a class (section 1.1).
func (l *loader) is(node graph.ID, class string) bool {
	wanted := l.word(class)
	if wanted == 0 {
		return false
	}
	var classes distinct
	classes.add(l.objects(node, graph.RDF+"type")...)
	for i := 0; i < len(classes.list); i++ {
		if classes.list[i] == wanted {
			return true
		}
		classes.add(l.objects(classes.list[i], rdfs+"subClassOf")...)
	}
	return false
}

func (l *loader) readTargets(s *shape, node graph.ID) {
	for _, t := range targetParameters {
		for _, v := range l.objects(node, SH+t.name) {
			term := l.dict.Term(v)
			if term.Kind != graph.IRI && (t.kind != targetNode || term.Kind != graph.Literal) {
				what := "an IRI"
				if t.kind == targetNode {
					what = "an IRI or a literal"
				}
				l.fail(s, t.section, "", "sh:%s is %s, not %s", t.name, term, what)
			}
			s.targets = append(s.targets, target{t.kind, l.constant(term)})
		}
	}
	if l.is(node, rdfs+"Class") { // implicit class targets
		if s.node.Kind != graph.IRI {
			l.fail(s, "2.1.3.3", "name the class by an IRI", "a shape that is a class is an IRI; this one is a blank node")
		}
		s.targets = append(s.targets, target{targetClass, l.constant(s.node)})
	}
}

// single returns the only value of a property, or 0.
func (l *loader) single(s *shape, node graph.ID, name, section string) graph.ID {
	values := l.objects(node, SH+name)
	if len(values) > 1 {
		l.fail(s, section, "say it once", "sh:%s has %s; at most one is allowed", name, count(len(values), "value"))
	}
	if len(values) == 0 {
		return 0
	}
	return values[0]
}

func (l *loader) iri(s *shape, name string, v graph.ID, section string) string {
	t := l.dict.Term(v)
	if t.Kind != graph.IRI {
		l.fail(s, section, "", "sh:%s is %s, not an IRI", name, t)
	}
	return t.Value
}

func (l *loader) boolean(s *shape, name string, v graph.ID, section string) bool {
	t := l.dict.Term(v)
	if t.Datatype != graph.XSD+"boolean" || !slices.Contains([]string{"true", "false", "1", "0"}, t.Value) {
		l.fail(s, section, "write true or false, without quotes", "sh:%s is %s, not a boolean", name, t)
	}
	return t.Value == "true" || t.Value == "1"
}

func (l *loader) integer(s *shape, name string, v graph.ID, section string) int64 {
	t := l.dict.Term(v)
	n, err := strconv.ParseInt(t.Value, 10, 64)
	if t.Kind != graph.Literal || t.Datatype != graph.XSD+"integer" || err != nil {
		l.fail(s, section, "write a whole number, without quotes", "sh:%s is %s, not an xsd:integer", name, t)
	}
	return n
}

// list returns the members of a list that must be a SHACL list: one first and
// one rest everywhere, and an end (section 1.1).
func (l *loader) list(s *shape, head graph.ID, section, name string) (out []graph.ID) {
	var seen distinct
	end := l.word(graph.RDF + "nil")
	for at := head; at != end; {
		l.step()
		first, rest := l.objects(at, graph.RDF+"first"), l.objects(at, graph.RDF+"rest")
		switch {
		case len(first) != 1 || len(rest) != 1 || l.dict.Kind(at) == graph.Literal:
			l.fail(s, section, "write it as ( … )", "sh:%s is no list", name)
		case seen.has(at):
			l.fail(s, section, "write it as ( … )", "sh:%s is a list without end", name)
		}
		seen.add(at)
		out = append(out, first[0])
		at = rest[0]
	}
	return out
}

// refer returns a shape that another one refers to.
func (l *loader) refer(s *shape, name string, v graph.ID, section string) *shape {
	to := l.byNode[v]
	if to == nil {
		l.fail(s, section, "", "sh:%s is %s, not a shape", name, l.dict.Term(v))
	}
	to.used = true
	s.refers = append(s.refers, to)
	return to
}

// recursion refuses shapes that refer to themselves, directly or through
// others. What such shapes mean is left open by the standard (section 3.4.3).
// A deactivated shape refers to nothing: it is never followed.
func (l *loader) recursion() {
	for _, s := range l.out.all {
		l.visit(s, nil)
	}
}

func (l *loader) visit(s *shape, chain []*shape) {
	if s.visited || s.deactivated {
		s.height = max(s.height, 1)
		return
	}
	chain = append(chain, s)
	if s.visiting {
		var names []string
		for _, c := range chain[slices.Index(chain, s):] {
			names = append(names, c.name)
		}
		l.fail(s, "3.4.3", "break the cycle: what it means is left open by the standard", "shapes refer to themselves: %s", strings.Join(names, " → "))
	}
	if len(chain) > MaxDepth {
		l.fail(chain[0], "3.4.3", "", "refers to more than %d shapes in a row", MaxDepth)
	}
	s.visiting = true
	for _, to := range s.refers {
		l.visit(to, chain)
		s.height = max(s.height, to.height)
	}
	s.visiting, s.visited = false, true
	if s.height++; s.height > MaxDepth {
		l.fail(s, "3.4.3", "", "refers to more than %d shapes in a row", MaxDepth)
	}
}

// remark notes what has no effect.
func (l *loader) remark() {
	add := func(r remark) { l.out.remarks = append(l.out.remarks, r) }
	for _, o := range l.all(owl + "imports") {
		add(remark{
			"shape-import", "owl:imports " + l.dict.Term(o).String() + " was not followed",
			"graphs are never fetched (SHACL, section 3.1)", "supply the file as one more shapes file, if it is not there yet",
		})
	}
	for _, s := range l.out.all {
		node := l.dict.Lookup(s.node)
		switch {
		case strings.HasPrefix(s.node.Value, SH): // the vocabulary of SHACL itself
		case len(s.targets) == 0 && !s.used:
			add(remark{
				"shape-unused", "shape " + s.name + " is applied to nothing",
				"it has no target and no shape refers to it (SHACL, section 2.1.3)", "give it a target, such as sh:targetClass",
			})
		case l.g.Count(node, 0, 0) == 0:
			add(remark{
				"shape-empty", "shape " + s.name + " says nothing, so everything conforms to it",
				"a shape refers to it and the shapes graph has no statement about it", "check its name, or supply the file that has it",
			})
		}
		for _, p := range parameters {
			for _, name := range p.also {
				if len(l.objects(node, SH+name)) > 0 && len(l.objects(node, SH+p.name)) == 0 {
					add(remark{
						"shape-incomplete", "shape " + s.name + ": sh:" + name + " has no effect",
						"it belongs to sh:" + p.name + ", which the shape does not have (SHACL, section " + p.section + ")", "add sh:" + p.name + ", or remove it",
					})
				}
			}
		}
	}
}
