package sparql

import (
	"fmt"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// group reads a GroupGraphPattern (productions [53], [54]).
func (p *parser) group() *group {
	p.enter()
	defer p.leave()
	p.expect("{", "to open a pattern")
	g := &group{}
	p.newBGP()
	if p.isWord("SELECT") {
		q := p.selectQuery(false)
		p.trailingValues(q)
		p.expect("}", "to close the sub-query")
		g.elements = append(g.elements, &subquery{q})
		p.newBGP()
		return g
	}
	for !p.take("}") {
		p.count()
		if p.startsTriples() {
			g.elements = append(g.elements, &triples{p.triplesBlock(true)})
			if p.startsTriples() {
				p.fail("expected \".\" between triples, found %s", p.found())
			}
			continue
		}
		g.elements = append(g.elements, p.notTriples())
		p.take(".")
	}
	p.newBGP()
	return g
}

// newBGP starts another basic graph pattern, in which the blank nodes of those
// before may not be used (section 5.1.1).
func (p *parser) newBGP() {
	p.lastBGP++
	p.bgp = p.lastBGP
}

// startsTriples tells whether a subject stands here.
func (p *parser) startsTriples() bool {
	switch p.kind() {
	case tokenIRI, tokenName, tokenBlank, tokenVar, tokenString, tokenInteger, tokenDecimal, tokenDouble:
		return true
	case tokenWord:
		return p.isWord("true") || p.isWord("false")
	}
	return p.is("[") || p.is("(") || p.is("+") || p.is("-")
}

// notTriples reads a GraphPatternNotTriples or a Filter (productions [56], [68]).
func (p *parser) notTriples() element {
	if p.takeWord("FILTER") { // does not end the basic graph pattern that it stands in
		bgp := p.bgp
		defer func() { p.bgp = bgp }()
		return &filter{p.constraintIn(false)}
	}
	p.newBGP()
	defer p.newBGP()
	switch {
	case p.is("{"):
		u := &union{branches: []*group{p.group()}}
		for p.takeWord("UNION") {
			p.count()
			p.expectGroup()
			u.branches = append(u.branches, p.group())
		}
		return u
	case p.takeWord("OPTIONAL"):
		return &optional{p.group()}
	case p.takeWord("MINUS"):
		return &without{p.group()}
	case p.takeWord("GRAPH"):
		name := p.varOrIRI()
		return &inGraph{name, p.group()}
	case p.isWord("SERVICE"):
		p.failAt(p.pos(), "supply the remote data as a file", "SERVICE is refused: a query never leaves this process")
	case p.takeWord("BIND"):
		p.expect("(", "after BIND")
		b := &bind{expr: p.noAggregates()}
		p.expectWord("AS")
		b.name = p.variable()
		p.expect(")", "after the variable")
		return b
	case p.takeWord("VALUES"):
		return p.dataBlock()
	}
	p.refuseQuoted()
	p.fail("expected a pattern or \"}\", found %s", p.found())
	return nil
}

// refuseQuoted names what is SPARQL, but not of version 1.1.
func (p *parser) refuseQuoted() {
	if p.is("<") && strings.HasPrefix(p.lexer.text[p.pos():], "<<") {
		p.failAt(p.pos(), "describe the statement with a node of its own, such as an rdf:Statement",
			"<< >> is a triple term of SPARQL 1.2; this is SPARQL 1.1")
	}
}

func (p *parser) noAggregates() *expr {
	before := p.aggregates
	p.aggregates = false
	defer func() { p.aggregates = before }()
	return p.expression()
}

func (p *parser) constraintIn(aggregates bool) *expr {
	before := p.aggregates
	p.aggregates = aggregates
	defer func() { p.aggregates = before }()
	return p.constraint()
}

// dataBlock reads a DataBlock (productions [62] to [65]).
func (p *parser) dataBlock() *inlineData {
	d := &inlineData{}
	one := p.kind() == tokenVar
	if one {
		d.names = []string{p.variable()}
	} else {
		p.expect("(", "or a variable after VALUES")
		for p.kind() == tokenVar {
			at, name := p.pos(), p.variable()
			for _, other := range d.names {
				if other == name {
					p.failAt(at, "", "?%s stands twice", name)
				}
			}
			d.names = append(d.names, name)
		}
		p.expect(")", "after the variables")
	}
	p.expect("{", "to open the values")
	for !p.take("}") {
		if one {
			d.rows = append(d.rows, []graph.Term{p.dataValue()})
			continue
		}
		at := p.pos()
		p.expect("(", "to open a row")
		row := make([]graph.Term, 0, len(d.names))
		for !p.take(")") {
			row = append(row, p.dataValue())
		}
		if len(row) != len(d.names) {
			p.failAt(at, "", "%d values for %d variables", len(row), len(d.names))
		}
		d.rows = append(d.rows, row)
	}
	return d
}

func (p *parser) dataValue() graph.Term {
	if p.takeWord("UNDEF") {
		return graph.Term{}
	}
	if p.isIRI() {
		return graph.NewIRI(p.iri())
	}
	return p.literal()
}

// triplesBlock reads a TriplesBlock or TriplesTemplate (productions [52],
// [55]): triples with dots between them. Paths are part of the former only.
func (p *parser) triplesBlock(paths bool) []pattern {
	b := &block{p: p, paths: paths}
	for p.startsTriples() {
		p.count()
		b.subject()
		if !p.take(".") {
			break
		}
	}
	return b.out
}

// block collects the patterns of one block of triples.
type block struct {
	p     *parser
	paths bool
	out   []pattern
}

func (b *block) add(s node, verb pattern, o node) {
	b.p.count()
	verb.s, verb.o = s, o
	b.out = append(b.out, verb)
}

// subject reads a TriplesSameSubjectPath (production [81]).
func (b *block) subject() {
	p := b.p
	switch {
	case p.is("["):
		s, properties := b.blankPropertyList()
		if b.startsVerb() || !properties {
			b.propertyList(s)
		}
	case p.is("("):
		s, items := b.collection()
		if b.startsVerb() || !items {
			b.propertyList(s)
		}
	default:
		b.propertyList(p.term())
	}
}

func (b *block) startsVerb() bool {
	p := b.p
	if p.kind() == tokenVar || p.isIRI() || p.isA() {
		return true
	}
	return b.paths && (p.is("^") || p.is("!") || p.is("("))
}

// isA tells whether the current token is the keyword "a", which has no
// upper-case form.
func (p *parser) isA() bool { return p.kind() == tokenWord && p.current() == "a" }

// propertyList reads a PropertyListPathNotEmpty (production [83]).
func (b *block) propertyList(s node) {
	p := b.p
	for {
		verb := b.verb()
		for {
			b.add(s, verb, b.object())
			if !p.take(",") {
				break
			}
		}
		if !p.is(";") {
			return
		}
		for p.take(";") {
		}
		if !b.startsVerb() {
			return
		}
	}
}

// verb reads a VerbPath, VerbSimple or Verb (productions [84], [85], [78]).
func (b *block) verb() pattern {
	p := b.p
	if p.kind() == tokenVar {
		return pattern{p: node{name: p.variable()}}
	}
	if !b.startsVerb() {
		p.fail("expected a property, found %s", p.found())
	}
	if !b.paths {
		return pattern{p: node{term: graph.NewIRI(p.pathIRI())}}
	}
	at := p.path()
	if at.op == pathLink {
		return pattern{p: node{term: graph.NewIRI(at.iri)}}
	}
	return pattern{path: at}
}

// pathIRI reads an iri or "a".
func (p *parser) pathIRI() string {
	if p.isA() {
		p.advance()
		return graph.RDF + "type"
	}
	if !p.isIRI() {
		p.fail("expected a property, found %s", p.found())
	}
	return p.iri()
}

// object reads an ObjectPath (production [87]).
func (b *block) object() node {
	switch {
	case b.p.is("["):
		n, _ := b.blankPropertyList()
		return n
	case b.p.is("("):
		n, _ := b.collection()
		return n
	}
	return b.p.term()
}

// blankPropertyList reads a BlankNodePropertyListPath or ANON (productions
// [101], [163]) and tells whether it has properties.
func (b *block) blankPropertyList() (n node, properties bool) {
	p := b.p
	p.enter()
	defer p.leave()
	p.expect("[", "")
	n = p.fresh()
	if !p.is("]") {
		b.propertyList(n)
		properties = true
	}
	p.expect("]", "to close the blank node")
	return n, properties
}

// collection reads a CollectionPath or NIL (productions [103], [161]) and
// tells whether it has items.
func (b *block) collection() (head node, items bool) {
	p := b.p
	p.enter()
	defer p.leave()
	p.expect("(", "")
	null := node{term: graph.NewIRI(graph.RDF + "nil")}
	first := pattern{p: node{term: graph.NewIRI(graph.RDF + "first")}}
	rest := pattern{p: node{term: graph.NewIRI(graph.RDF + "rest")}}
	var last node
	for !p.take(")") {
		n := p.fresh()
		if !items {
			head, items = n, true
		} else {
			b.add(last, rest, n)
		}
		b.add(n, first, b.object())
		last = n
	}
	if !items {
		return null, false
	}
	b.add(last, rest, null)
	return head, true
}

// fresh returns a blank node that is written nowhere.
func (p *parser) fresh() node {
	p.blanks++
	return node{name: fmt.Sprintf("_:.%d", p.blanks)} // no label starts with a dot
}

// term reads a VarOrTerm (production [106]).
func (p *parser) term() node {
	switch {
	case p.kind() == tokenVar:
		return node{name: p.variable()}
	case p.isIRI():
		return node{term: graph.NewIRI(p.iri())}
	case p.kind() == tokenBlank:
		label := p.current()
		if !p.template {
			if seen, ok := p.labels[label]; ok && seen != p.bgp {
				p.failAt(p.pos(), "use a variable", "%s stands in two basic graph patterns", label)
			}
			p.labels[label] = p.bgp
		}
		p.advance()
		return node{name: label}
	}
	return node{term: p.literal()}
}

// isSignedNumber tells whether a sign and, with nothing between, a number stand
// here (productions [132], [133]).
func (p *parser) isSignedNumber() bool {
	if !p.is("+") && !p.is("-") {
		return false
	}
	next := p.tokens[p.at+1] // a mark is never the last token
	return next.from == p.tokens[p.at].to && next.kind >= tokenInteger && next.kind <= tokenDouble
}

// literal reads an RDFLiteral, NumericLiteral or BooleanLiteral (productions
// [129] to [134]).
func (p *parser) literal() graph.Term {
	sign := ""
	if p.isSignedNumber() {
		sign = p.current()
		p.advance()
	}
	text := p.current()
	switch kind := p.kind(); {
	case kind == tokenString:
		p.advance()
		return p.stringLiteral(text)
	case kind == tokenInteger:
		p.advance()
		return graph.NewTyped(sign+text, xsdInteger)
	case kind == tokenDecimal:
		p.advance()
		return graph.NewTyped(sign+text, xsdDecimal)
	case kind == tokenDouble:
		p.advance()
		return graph.NewTyped(sign+text, xsdDouble)
	case p.isWord("true"), p.isWord("false"):
		p.advance()
		return graph.NewTyped(strings.ToLower(text), xsdBoolean)
	}
	p.refuseQuoted()
	p.fail("expected a term, found %s", p.found())
	return graph.Term{}
}

// stringLiteral reads what may follow a string.
func (p *parser) stringLiteral(quoted string) graph.Term {
	value := unquote(quoted)
	if p.kind() == tokenLang {
		lang := p.current()[1:]
		p.advance()
		return graph.NewTagged(value, lang)
	}
	if p.take("^^") {
		if !p.isIRI() {
			p.fail("expected a datatype, found %s", p.found())
		}
		return graph.NewTyped(value, p.iri())
	}
	return graph.NewString(value)
}

// unquote returns the value of a string token.
func unquote(s string) string {
	n := 1
	if len(s) >= 6 && s[1] == s[0] && s[2] == s[0] {
		n = 3
	}
	s = s[n : len(s)-n]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	escapes := map[byte]byte{'t': '\t', 'b': '\b', 'n': '\n', 'r': '\r', 'f': '\f'}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '\\' {
			i++
			c = s[i]
			if e, ok := escapes[c]; ok {
				c = e
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}

// path reads a Path (productions [88] to [96]): alternatives of sequences.
func (p *parser) path() *path {
	p.enter()
	defer p.leave()
	return p.pathList(pathAlternative, "|", func() *path {
		return p.pathList(pathSequence, "/", p.pathEltOrInverse)
	})
}

func (p *parser) pathList(op pathOp, mark string, elt func() *path) *path {
	first := elt()
	if !p.is(mark) {
		return first
	}
	all := &path{op: op, args: []*path{first}}
	for p.take(mark) {
		p.count()
		all.args = append(all.args, elt())
	}
	return all
}

func (p *parser) pathEltOrInverse() *path {
	if p.take("^") {
		return &path{op: pathInverse, args: []*path{p.pathElt()}}
	}
	return p.pathElt()
}

func (p *parser) pathElt() *path {
	var out *path
	switch {
	case p.take("("):
		out = p.path()
		p.expect(")", "to close the path")
	case p.take("!"):
		out = p.negatedSet()
	default:
		out = &path{op: pathLink, iri: p.pathIRI()}
	}
	switch {
	case p.take("*"):
		return &path{op: pathZeroOrMore, args: []*path{out}}
	case p.take("+"):
		return &path{op: pathOneOrMore, args: []*path{out}}
	case p.take("?"):
		return &path{op: pathZeroOrOne, args: []*path{out}}
	}
	return out
}

// negatedSet reads a PathNegatedPropertySet (productions [95], [96]).
func (p *parser) negatedSet() *path {
	out := &path{op: pathNegated}
	one := func() {
		p.count()
		inverse := p.take("^")
		elt := &path{op: pathLink, iri: p.pathIRI()}
		if inverse {
			elt = &path{op: pathInverse, args: []*path{elt}}
		}
		out.args = append(out.args, elt)
	}
	if !p.take("(") {
		one()
		return out
	}
	if p.take(")") {
		return out
	}
	for one(); p.take("|"); {
		one()
	}
	p.expect(")", "to close the set of properties")
	return out
}
