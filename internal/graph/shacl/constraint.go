package shacl

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// constraint is one constraint of a shape. check reports what the value nodes
// of a focus node violate.
type constraint interface{ check(c *checking) }

// valueConstraint is a constraint on each value node by itself. If the node
// violates it, test returns what is wrong with the node; fix may be empty.
type valueConstraint struct {
	component string
	test      func(c *checking, id graph.ID) (wrong, fix string)
}

func (k valueConstraint) check(c *checking) {
	for _, id := range c.values {
		if c.full() {
			return
		}
		if wrong, fix := k.test(c, id); wrong != "" {
			c.report(Result{Component: k.component, Value: c.v.term(id), Text: wrong, Fix: fix})
		}
	}
}

// setConstraint is a constraint on the value nodes together.
type setConstraint func(c *checking)

func (k setConstraint) check(c *checking) { k(c) }

func (l *loader) each(s *shape, parameter string, test func(c *checking, id graph.ID) (wrong, fix string)) {
	s.constraints = append(s.constraints, valueConstraint{component(parameter), test})
}

// term is each for a test that needs nothing but the term.
func (l *loader) term(s *shape, parameter, wrong string, ok func(graph.Term) bool) {
	l.each(s, parameter, func(c *checking, id graph.ID) (string, string) {
		if ok(c.v.term(id)) {
			return "", ""
		}
		return wrong, ""
	})
}

// minCount is section 4.2.1.
func (l *loader) minCount(s *shape, p string, v graph.ID) {
	least := l.integer(s, p, v, "4.2.1")
	s.constraints = append(s.constraints, setConstraint(func(c *checking) {
		if n := int64(len(c.values)); n < least {
			c.report(Result{
				Component: component(p), Text: fmt.Sprintf("has %s; at least %d needed", count(int(n), "value"), least),
				Fix: "add " + count(int(least-n), "value"),
			})
		}
	}))
}

// maxCount is section 4.2.2.
func (l *loader) maxCount(s *shape, p string, v graph.ID) {
	most := l.integer(s, p, v, "4.2.2")
	s.constraints = append(s.constraints, setConstraint(func(c *checking) {
		if n := int64(len(c.values)); n > most {
			c.report(Result{
				Component: component(p), Text: fmt.Sprintf("has %s; at most %d allowed", count(int(n), "value"), most),
				Fix: "remove all but " + count(int(max(most, 0)), "value"),
			})
		}
	}))
}

// class is section 4.1.1.
func (l *loader) class(s *shape, p string, v graph.ID) {
	iri := l.iri(s, p, v, "4.1.1")
	class := l.constant(graph.NewIRI(iri))
	wrong := "is no instance of " + l.dict.Term(v).String()
	l.each(s, p, func(c *checking, id graph.ID) (string, string) {
		if c.v.isInstance(id, c.v.ids[class]) {
			return "", ""
		}
		return wrong, ""
	})
}

// datatype is section 4.1.2: a literal of the datatype, and of its lexical
// space for datatypes that SPARQL knows.
func (l *loader) datatype(s *shape, p string, v graph.ID) {
	iri := l.iri(s, p, v, "4.1.2")
	wrong := "is no literal of datatype " + l.dict.Term(v).String()
	l.each(s, p, func(c *checking, id graph.ID) (string, string) {
		t := c.v.term(id)
		switch {
		case t.Kind != graph.Literal || t.Datatype != iri:
			return wrong, ""
		case sparql.IllTyped(t):
			return "is not a valid form of datatype " + l.shorten(iri), ""
		}
		return "", ""
	})
}

// shorten returns an IRI as messages write it.
func (*loader) shorten(iri string) string { return graph.NewIRI(iri).String() }

// nodeKinds are the values of sh:nodeKind (section 4.1.3).
var nodeKinds = map[string]struct {
	kinds []graph.Kind
	wrong string
}{
	"BlankNode":          {[]graph.Kind{graph.Blank}, "is no blank node"},
	"IRI":                {[]graph.Kind{graph.IRI}, "is no IRI"},
	"Literal":            {[]graph.Kind{graph.Literal}, "is no literal"},
	"BlankNodeOrIRI":     {[]graph.Kind{graph.Blank, graph.IRI}, "is neither a blank node nor an IRI"},
	"BlankNodeOrLiteral": {[]graph.Kind{graph.Blank, graph.Literal}, "is neither a blank node nor a literal"},
	"IRIOrLiteral":       {[]graph.Kind{graph.IRI, graph.Literal}, "is neither an IRI nor a literal"},
}

// nodeKind is section 4.1.3.
func (l *loader) nodeKind(s *shape, p string, v graph.ID) {
	name, ok := strings.CutPrefix(l.iri(s, p, v, "4.1.3"), SH)
	kind, known := nodeKinds[name]
	if !ok || !known {
		names := slices.Sorted(maps.Keys(nodeKinds))
		hint := fault.DidYouMean(name, names)
		if hint == "" {
			hint = "it is one of sh:" + strings.Join(names, ", sh:")
		}
		l.fail(s, "4.1.3", hint, "sh:nodeKind is %s, which is no kind of node", l.dict.Term(v))
	}
	l.term(s, p, kind.wrong, func(t graph.Term) bool { return slices.Contains(kind.kinds, t.Kind) })
}

// valueRange is sections 4.3.1 to 4.3.4. What SPARQL cannot compare is out of range.
func (l *loader) valueRange(s *shape, p string, v graph.ID) {
	var section, wrong string
	var within func(order int) bool
	switch p {
	case "minExclusive":
		section, wrong, within = "4.3.1", "is not greater than ", func(order int) bool { return order > 0 }
	case "minInclusive":
		section, wrong, within = "4.3.2", "is not greater than or equal to ", func(order int) bool { return order >= 0 }
	case "maxExclusive":
		section, wrong, within = "4.3.3", "is not less than ", func(order int) bool { return order < 0 }
	default:
		section, wrong, within = "4.3.4", "is not less than or equal to ", func(order int) bool { return order <= 0 }
	}
	limit := l.dict.Term(v)
	if limit.Kind != graph.Literal {
		l.fail(s, section, "", "sh:%s is %s, not a literal", p, limit)
	}
	l.term(s, p, wrong+limit.String(), func(t graph.Term) bool {
		order, ok := sparql.Compare(t, limit)
		return ok && within(order)
	})
}

// length is sections 4.4.1 and 4.4.2: of the string that STR gives, in
// characters; blank nodes have none.
func (l *loader) length(s *shape, p string, v graph.ID) {
	section, wrong := "4.4.1", "is shorter than %s"
	if p == "maxLength" {
		section, wrong = "4.4.2", "is longer than %s"
	}
	limit := l.integer(s, p, v, section)
	l.term(s, p, fmt.Sprintf(wrong, count(int(limit), "character")), func(t graph.Term) bool {
		n := int64(utf8.RuneCountInString(t.Value))
		return t.Kind != graph.Blank && (p == "minLength" && n >= limit || p == "maxLength" && n <= limit)
	})
}

// pattern is section 4.4.3.
func (l *loader) pattern(s *shape, p string, v graph.ID) {
	pattern := l.text(s, p, v, "4.4.3")
	flags := ""
	if f := l.objects(l.dict.Lookup(s.node), SH+"flags"); len(f) == 1 {
		flags = l.text(s, "flags", f[0], "4.4.3")
	}
	re, ok := sparql.Pattern(pattern, flags)
	if !ok {
		l.fail(s, "4.4.3", "write it as the REGEX of SPARQL has it; flags are of i, m, s, x and q; references to groups are not supported",
			"sh:pattern %q with flags %q is not valid", pattern, flags)
	}
	l.term(s, p, fmt.Sprintf("does not match %q", pattern), func(t graph.Term) bool {
		if t.Kind == graph.Blank {
			return false
		}
		matched, err := re.Match(t.Value)
		if err != nil {
			panic(failure{err})
		}
		return matched
	})
}

func (l *loader) text(s *shape, name string, v graph.ID, section string) string {
	t := l.dict.Term(v)
	if t.Kind != graph.Literal || t.Datatype != graph.XSDString {
		l.fail(s, section, "write it in quotes", "sh:%s is %s, not a string", name, t)
	}
	return t.Value
}

// languageIn is section 4.4.4.
func (l *loader) languageIn(s *shape, p string, v graph.ID) {
	var ranges []string
	for _, m := range l.list(s, v, "4.4.4", p) {
		ranges = append(ranges, l.text(s, p, m, "4.4.4"))
	}
	wrong := "has no language of: " + strings.Join(ranges, ", ")
	l.term(s, p, wrong, func(t graph.Term) bool {
		return t.Lang != "" && slices.ContainsFunc(ranges, func(r string) bool { return sparql.LangMatches(t.Lang, r) })
	})
}

// uniqueLang is section 4.4.5: one result for each language that several value
// nodes have. Tags that differ in case name one language (BCP 47, section 2.1.1).
func (l *loader) uniqueLang(s *shape, p string, v graph.ID) {
	if !l.boolean(s, p, v, "4.4.5") {
		return
	}
	s.constraints = append(s.constraints, setConstraint(func(c *checking) {
		uses := map[string]int{}
		for _, id := range c.values {
			c.v.step()
			lang := strings.ToLower(c.v.term(id).Lang)
			if uses[lang]++; lang != "" && uses[lang] == 2 {
				c.report(Result{
					Component: component(p), Text: fmt.Sprintf("has several values in language %q; at most one allowed", lang),
					Fix: "keep one value in that language",
				})
			}
		}
	}))
}

// pair is sections 4.5.1 to 4.5.4: constraints between the value nodes and the
// values of another property of the focus node.
func (l *loader) pair(s *shape, p string, v graph.ID) {
	section := map[string]string{"equals": "4.5.1", "disjoint": "4.5.2", "lessThan": "4.5.3", "lessThanOrEquals": "4.5.4"}[p]
	iri := l.iri(s, p, v, section)
	other, name := l.constant(graph.NewIRI(iri)), l.dict.Term(v).String()
	report := func(c *checking, id graph.ID, text string) {
		c.report(Result{Component: component(p), Value: c.v.term(id), Text: text})
	}
	var check setConstraint
	switch p {
	case "equals":
		check = func(c *checking) {
			var here, there distinct
			here.add(c.values...)
			there.add(c.v.along(c.focus, c.v.ids[other], false)...)
			for _, id := range here.list {
				if !there.has(id) {
					report(c, id, "is no value of "+name)
				}
			}
			for _, id := range there.list {
				if !here.has(id) {
					report(c, id, "is a value of "+name+" only")
				}
			}
		}
	case "disjoint":
		check = func(c *checking) {
			for _, id := range c.values {
				c.v.step()
				if c.v.data.Has(c.focus, c.v.ids[other], id) {
					report(c, id, "is a value of "+name+" too")
				}
			}
		}
	default:
		check = func(c *checking) {
			limits := c.v.along(c.focus, c.v.ids[other], false)
			for _, id := range c.values {
				for _, limit := range limits {
					c.v.step()
					order, ok := sparql.Compare(c.v.term(id), c.v.term(limit))
					if !ok || order > 0 || order == 0 && p == "lessThan" {
						report(c, id, fmt.Sprintf("is not %s %s, a value of %s",
							map[bool]string{true: "less than", false: "less than or equal to"}[p == "lessThan"], c.v.term(limit), name))
					}
				}
			}
		}
	}
	s.constraints = append(s.constraints, check)
}

// hasValue is section 4.8.2.
func (l *loader) hasValue(s *shape, p string, v graph.ID) {
	wanted := l.constant(l.dict.Term(v))
	name := l.dict.Term(v).String()
	s.constraints = append(s.constraints, setConstraint(func(c *checking) {
		c.v.work(len(c.values))
		if !slices.Contains(c.values, c.v.ids[wanted]) {
			c.report(Result{Component: component(p), Text: "lacks the value " + name, Fix: "add the value " + name})
		}
	}))
}

// maxListed bounds the members of a list that a message shows.
const maxListed = 12

// in is section 4.8.3.
func (l *loader) in(s *shape, p string, v graph.ID) {
	allowed := map[constant]bool{}
	var values, names []string
	for _, m := range l.list(s, v, "4.8.3", p) {
		t := l.dict.Term(m)
		allowed[l.constant(t)] = true
		values = append(values, t.Value)
		names = append(names, t.String())
	}
	wrong := "is none of: " + listed(names)
	l.each(s, p, func(c *checking, id graph.ID) (string, string) {
		if k, ok := c.v.constants[id]; ok && allowed[k] {
			return "", ""
		}
		return wrong, fault.DidYouMean(c.v.term(id).Value, values)
	})
}

func listed(names []string) string {
	if len(names) > maxListed {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" … (%d in all)", len(names))
	}
	return strings.Join(names, ", ")
}

// closed is section 4.8.1: the value nodes have no properties but those that
// are paths of the shape's own property shapes, and sh:ignoredProperties.
func (l *loader) closed(s *shape, p string, v graph.ID) {
	node := l.dict.Lookup(s.node)
	allowed, names := map[constant]bool{}, []string(nil)
	allow := func(t graph.Term) {
		allowed[l.constant(t)] = true
		names = append(names, t.Value)
	}
	for _, list := range l.objects(node, SH+"ignoredProperties") {
		for _, m := range l.list(s, list, "4.8.1", "ignoredProperties") {
			allow(graph.NewIRI(l.iri(s, "ignoredProperties", m, "4.8.1")))
		}
	}
	for _, property := range l.objects(node, SH+"property") {
		for _, path := range l.objects(property, SH+"path") {
			if t := l.dict.Term(path); t.Kind == graph.IRI {
				allow(t)
			}
		}
	}
	if !l.boolean(s, p, v, "4.8.1") {
		return
	}
	s.constraints = append(s.constraints, setConstraint(func(c *checking) {
		for _, id := range c.values {
			c.v.data.Match(id, 0, 0, func(_, property, o graph.ID) bool {
				c.v.step()
				if k, ok := c.v.constants[property]; !ok || !allowed[k] {
					t := c.v.term(property)
					c.report(Result{
						Component: component(p), Path: t.String(), Value: c.v.term(o),
						Text: "is of a property that the closed shape does not have", Fix: fault.DidYouMean(t.Value, names),
					})
				}
				return !c.full()
			})
		}
	}))
}
