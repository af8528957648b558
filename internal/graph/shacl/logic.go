package shacl

import (
	"fmt"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// Constraints that are made of other shapes (sections 4.6 and 4.7).

// not is section 4.6.1.
func (l *loader) not(s *shape, p string, v graph.ID) {
	other := l.refer(s, p, v, "4.6.1")
	l.each(s, p, func(c *checking, id graph.ID) (string, string) {
		if c.v.conforms(other, id) {
			return "conforms to " + other.name + ", which it must not", ""
		}
		return "", ""
	})
}

// logical is sections 4.6.2 to 4.6.4. A shape that is listed twice counts twice.
func (l *loader) logical(s *shape, p string, v graph.ID) {
	section := map[string]string{"and": "4.6.2", "or": "4.6.3", "xone": "4.6.4"}[p]
	var parts []*shape
	for _, m := range l.list(s, v, section, p) {
		parts = append(parts, l.refer(s, p, m, section))
	}
	s.constraints = append(s.constraints, setConstraint(func(c *checking) {
		for _, id := range c.values {
			if c.full() {
				return
			}
			n := 0
			for _, part := range parts {
				if c.v.conforms(part, id) {
					n++
				} else if p == "and" {
					break
				}
				if p == "or" && n == 1 {
					break
				}
			}
			wrong := ""
			switch {
			case p == "and" && n < len(parts):
				wrong = "does not conform to " + parts[n].name
			case p == "or" && n == 0:
				wrong = fmt.Sprintf("conforms to none of %s", count(len(parts), "alternative"))
			case p == "xone" && n != 1:
				wrong = fmt.Sprintf("conforms to %d of %s; to exactly one needed", n, count(len(parts), "alternative"))
			}
			if wrong == "" {
				continue
			}
			r := Result{Component: component(p), Value: c.v.term(id), Text: wrong}
			if p == "and" {
				r.Details = c.explain(id, parts[n])
			} else if n == 0 {
				r.Details = c.explain(id, parts...)
			}
			c.report(r)
		}
	}))
}

// nodeShape is section 4.7.1.
func (l *loader) nodeShape(s *shape, p string, v graph.ID) {
	other := l.refer(s, p, v, "4.7.1")
	if len(l.objects(v, SH+"path")) > 0 {
		l.fail(s, "4.7.1", "use sh:property", "sh:node is %s, a property shape", other.name)
	}
	s.constraints = append(s.constraints, setConstraint(func(c *checking) {
		for _, id := range c.values {
			if c.full() {
				return
			}
			if !c.v.conforms(other, id) {
				c.report(Result{
					Component: component(p), Value: c.v.term(id), Text: "does not conform to " + other.name,
					Details: c.explain(id, other),
				})
			}
		}
	}))
}

// property is section 4.7.2: the results are those of the property shape.
func (l *loader) property(s *shape, p string, v graph.ID) {
	other := l.refer(s, p, v, "4.7.2")
	if len(l.objects(v, SH+"path")) == 0 {
		l.fail(s, "4.7.2", "add sh:path, or use sh:node", "sh:property is %s, which has no sh:path", other.name)
	}
	s.constraints = append(s.constraints, setConstraint(func(c *checking) {
		for _, id := range c.values {
			if c.full() {
				return
			}
			c.v.run(other, id, c.out)
		}
	}))
}

// qualified is section 4.7.3: so many value nodes conform to a shape and, if
// that is asked for, to none of its siblings.
func (l *loader) qualified(s *shape, p string, v graph.ID) {
	const section = "4.7.3"
	other := l.refer(s, p, v, section)
	node := l.dict.Lookup(s.node)
	var siblings []*shape
	if d := l.objects(node, SH+"qualifiedValueShapesDisjoint"); len(d) == 1 && l.boolean(s, "qualifiedValueShapesDisjoint", d[0], section) {
		siblings = l.siblings(s, node, v)
	}
	add := func(name, wrong string, broken func(n, limit int64) bool) {
		for _, value := range l.objects(node, SH+name) {
			limit := l.integer(s, name, value, section)
			s.constraints = append(s.constraints, setConstraint(func(c *checking) {
				n := int64(0)
				for _, id := range c.values {
					if c.v.conforms(other, id) && !c.v.conformsToAny(siblings, id) {
						n++
					}
				}
				if broken(n, limit) {
					c.report(Result{
						Component: component(name), Text: fmt.Sprintf("has %s conforming to %s; "+wrong, count(int(n), "value"), other.name, limit),
					})
				}
			}))
		}
	}
	add("qualifiedMinCount", "at least %d needed", func(n, limit int64) bool { return n < limit })
	add("qualifiedMaxCount", "at most %d allowed", func(n, limit int64) bool { return n > limit })
}

// siblings are the qualified value shapes of the other property shapes of all
// shapes that have this one, without its own.
func (l *loader) siblings(s *shape, node, own graph.ID) (out []*shape) {
	var found distinct
	for _, parent := range l.subjects(SH+"property", node) {
		for _, property := range l.objects(parent, SH+"property") {
			found.add(l.objects(property, SH+"qualifiedValueShape")...)
		}
	}
	for _, id := range found.list {
		if id != own {
			out = append(out, l.refer(s, "qualifiedValueShape", id, "4.7.3"))
		}
	}
	return out
}
