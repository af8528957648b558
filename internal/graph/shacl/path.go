package shacl

import (
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// pathKind is the form of a property path.
type pathKind uint8

// The property paths of section 2.3.1.
const (
	pathPredicate pathKind = iota
	pathSequence
	pathAlternative
	pathInverse
	pathZeroOrMore
	pathOneOrMore
	pathZeroOrOne
)

type path struct {
	kind      pathKind
	predicate constant
	parts     []*path
	text      string // as a SPARQL property path
}

// unaryPaths are the paths made of one other.
var unaryPaths = []struct {
	name, section string
	kind          pathKind
	before, after string
}{
	{"inversePath", "2.3.1.4", pathInverse, "^", ""},
	{"zeroOrMorePath", "2.3.1.5", pathZeroOrMore, "", "*"},
	{"oneOrMorePath", "2.3.1.6", pathOneOrMore, "", "+"},
	{"zeroOrOnePath", "2.3.1.7", pathZeroOrOne, "", "?"},
}

// path reads the path that a node stands for (section 2.3.1). within are the
// nodes that it is a part of: a path is never part of itself.
func (l *loader) path(s *shape, node graph.ID, within []graph.ID) *path {
	l.step()
	term := l.dict.Term(node)
	switch {
	case term.Kind == graph.IRI:
		return &path{kind: pathPredicate, predicate: l.constant(term), text: term.String()}
	case term.Kind == graph.Literal:
		l.fail(s, "2.3.1", "name a property", "sh:path is the literal %s", term)
	case len(within) >= MaxDepth:
		l.fail(s, "2.3.1", "", "sh:path is nested deeper than %d levels", MaxDepth)
	}
	for _, outer := range within {
		if outer == node {
			l.fail(s, "2.3.1", "", "sh:path is a part of itself")
		}
	}
	within = append(within, node)
	if len(l.objects(node, graph.RDF+"first")) > 0 {
		return l.pathOf(s, pathSequence, node, within, "2.3.1.2", "/")
	}
	// The other forms are one triple each, so that no node stands for two paths.
	if l.g.Count(node, 0, 0) != 1 {
		l.fail(s, "2.3.1", "a path is a property, a list, or one of sh:inversePath, sh:alternativePath, sh:zeroOrMorePath, sh:oneOrMorePath, sh:zeroOrOnePath",
			"sh:path is a blank node with %s; a path that is no list has exactly one", count(l.g.Count(node, 0, 0), "property value"))
	}
	if alternatives := l.objects(node, SH+"alternativePath"); len(alternatives) == 1 {
		return l.pathOf(s, pathAlternative, alternatives[0], within, "2.3.1.3", "|")
	}
	for _, u := range unaryPaths {
		if inner := l.objects(node, SH+u.name); len(inner) == 1 {
			part := l.path(s, inner[0], within)
			return &path{kind: u.kind, parts: []*path{part}, text: u.before + part.grouped() + u.after}
		}
	}
	l.fail(s, "2.3.1", "a path is a property, a list, or one of sh:inversePath, sh:alternativePath, sh:zeroOrMorePath, sh:oneOrMorePath, sh:zeroOrOnePath",
		"sh:path is a blank node that is no path")
	return nil
}

// pathOf reads a path made of the members of a list, of which there are two or more.
func (l *loader) pathOf(s *shape, kind pathKind, list graph.ID, within []graph.ID, section, sign string) *path {
	members := l.list(s, list, section, "path")
	if len(members) < 2 {
		l.fail(s, section, "use the member itself", "a list of paths has %s; it needs two", count(len(members), "member"))
	}
	p := &path{kind: kind}
	var texts []string
	for _, m := range members {
		part := l.path(s, m, within)
		p.parts = append(p.parts, part)
		texts = append(texts, part.grouped())
	}
	p.text = strings.Join(texts, sign)
	return p
}

// grouped returns the text for use within another path.
func (p *path) grouped() string {
	if p.kind == pathPredicate {
		return p.text
	}
	return "(" + p.text + ")"
}

// values returns the nodes that a path leads to, or if inverse comes from, each
// once, in an order that depends on the graph alone (section 3.7: value nodes
// are a set).
func (v *validation) values(p *path, from graph.ID, inverse bool) []graph.ID {
	v.step()
	switch p.kind {
	case pathPredicate:
		return v.along(from, v.ids[p.predicate], inverse)
	case pathInverse:
		return v.values(p.parts[0], from, !inverse)
	case pathAlternative:
		var out distinct
		for _, part := range p.parts {
			out.add(v.values(part, from, inverse)...)
		}
		return out.list
	case pathSequence:
		return v.sequence(p, from, inverse)
	case pathZeroOrOne:
		var out distinct
		out.add(from)
		out.add(v.values(p.parts[0], from, inverse)...)
		return out.list
	}
	var out distinct
	if p.kind == pathZeroOrMore {
		out.add(from)
	} else {
		out.add(v.values(p.parts[0], from, inverse)...)
	}
	for i := 0; i < len(out.list); i++ {
		out.add(v.values(p.parts[0], out.list[i], inverse)...)
	}
	return out.list
}

func (v *validation) sequence(p *path, from graph.ID, inverse bool) []graph.ID {
	reached := []graph.ID{from}
	for i := range p.parts {
		part := p.parts[i]
		if inverse {
			part = p.parts[len(p.parts)-1-i]
		}
		if len(reached) == 1 {
			reached = v.values(part, reached[0], inverse)
			continue
		}
		var next distinct
		for _, node := range reached {
			next.add(v.values(part, node, inverse)...)
		}
		reached = next.list
	}
	return reached
}

// along returns the objects of a subject and a predicate, or if inverse the
// subjects of an object.
func (v *validation) along(node, predicate graph.ID, inverse bool) []graph.ID {
	var out []graph.ID
	if inverse {
		v.data.Match(0, predicate, node, func(s, _, _ graph.ID) bool { v.step(); out = append(out, s); return true })
	} else {
		v.data.Match(node, predicate, 0, func(_, _, o graph.ID) bool { v.step(); out = append(out, o); return true })
	}
	return out
}

// distinct is a set that keeps the order in which its members came.
type distinct struct {
	list []graph.ID
	seen map[graph.ID]struct{} // nil while the list is short
}

const shortList = 8

func (d *distinct) add(ids ...graph.ID) {
	for _, id := range ids {
		if d.has(id) {
			continue
		}
		d.list = append(d.list, id)
		switch {
		case d.seen != nil:
			d.seen[id] = struct{}{}
		case len(d.list) > shortList:
			d.seen = make(map[graph.ID]struct{}, 4*shortList)
			for _, known := range d.list {
				d.seen[known] = struct{}{}
			}
		}
	}
}

func (d *distinct) has(id graph.ID) bool {
	if d.seen != nil {
		_, ok := d.seen[id]
		return ok
	}
	for _, known := range d.list {
		if known == id {
			return true
		}
	}
	return false
}
