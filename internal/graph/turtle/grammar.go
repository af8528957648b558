package turtle

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// document reads a turtleDoc (Turtle 1.1, section 6.5, production [1]).
func (p *parser) document() {
	for {
		p.space()
		if p.atEnd() {
			return
		}
		if p.statement != nil {
			p.statement()
		}
		if !p.directive() {
			p.triples()
			p.expect('.', "to end the statement")
		}
	}
}

// expect skips white space and consumes c.
func (p *parser) expect(c byte, why string) {
	p.space()
	if p.peek() != c {
		p.fail("expected %q %s, found %s", c, why, p.found())
	}
	p.pos++
}

// directive reads a directive (productions [3] to [6s]) if there is one.
func (p *parser) directive() bool {
	switch {
	case p.peek() == '@':
		switch {
		case p.keyword("@prefix", false):
			p.prefix()
		case p.keyword("@base", false):
			p.baseIRI()
		default:
			p.fail("expected @prefix or @base")
		}
		p.expect('.', "to end the directive")
	case p.keyword("prefix", true):
		p.prefix()
	case p.keyword("base", true):
		p.baseIRI()
	default:
		return false
	}
	return true
}

// keyword consumes a word if it stands here and is not the start of a longer
// name. Those of SPARQL are written in any case.
func (p *parser) keyword(word string, anyCase bool) bool {
	if c := p.peek(); c != word[0] && !(anyCase && c|0x20 == word[0]) {
		return false
	}
	p.peekAt(len(word))
	if p.pos+len(word) > p.end {
		return false
	}
	got := p.buf[p.pos : p.pos+len(word)]
	if string(got) != word && !(anyCase && strings.EqualFold(string(got), word)) {
		return false
	}
	p.pos += len(word)
	if p.peek() == ':' || p.nameChar() > 0 || p.peek() == '.' && class[p.peekAt(1)]&className != 0 {
		p.pos -= len(word)
		return false
	}
	return true
}

func (p *parser) prefix() {
	p.space()
	p.begin()
	name := p.prefixName()
	p.mark = -1
	p.space()
	if p.peek() != '<' {
		p.fail("expected <IRI> of the prefix, found %s", p.found())
	}
	p.iriRef()
	if _, again := p.prefixes[name]; !again {
		p.declared = append(p.declared, name)
	}
	p.prefixes[name] = p.resolve()
}

func (p *parser) baseIRI() {
	p.space()
	if p.peek() != '<' {
		p.fail("expected <IRI> of the base, found %s", p.found())
	}
	p.iriRef()
	p.base = p.resolve()
}

// resolve returns the IRI reference in p.text against the base.
func (p *parser) resolve() string {
	iri, err := graph.ResolveIRI(p.base, string(p.text))
	if err != nil {
		p.failHint("declare a base with `@base <…> .`", "%v", err)
	}
	return iri
}

// prefixName reads a PNAME_NS (production [139s]) without its colon.
func (p *parser) prefixName() string {
	from := p.pos - p.mark
	if n := p.nameStart(0, false); n > 0 {
		p.pos += n
		for {
			if n := p.nameChar(); n > 0 {
				p.pos += n
			} else if p.peek() == '.' {
				p.pos++
			} else {
				break
			}
		}
	}
	name := p.buf[p.mark+from : p.pos]
	if p.peek() != ':' || len(name) > 0 && name[len(name)-1] == '.' {
		if len(name) > 0 {
			p.failToken("an IRI is written <…> or prefix:name, a text in quotation marks", "unexpected %q", strings.TrimRight(string(name), "."))
		}
		p.fail("expected a name, found %s", p.found())
	}
	p.pos++
	return string(name)
}

// prefixedName reads a PrefixedName (production [136s]) into p.text as an IRI.
func (p *parser) prefixedName() {
	p.begin()
	ns, ok := p.prefixes[p.prefixName()]
	if !ok {
		name := strings.TrimSuffix(string(p.buf[p.mark:p.pos]), ":")
		p.failToken(graph.PrefixHint(name, p.declared, "@prefix"), "prefix %q is not declared", name+":")
	}
	p.text = append(p.text[:0], ns...)
	p.localName()
	p.mark = -1
}

// localName appends a PN_LOCAL (production [168s]), which may be empty, to p.text.
func (p *parser) localName() {
	dots := 0
	for first := true; ; first = false {
		c := p.peek()
		switch {
		case c < utf8.RuneSelf && class[c]&className != 0 && !(first && c == '-'), c == ':':
			p.text = append(p.text, c)
			p.pos++
		case c == '.' && !first:
			p.text = append(p.text, c)
			p.pos++
			dots++
			continue
		case c == '%':
			if class[p.peekAt(1)]&classHex == 0 || class[p.peekAt(2)]&classHex == 0 {
				p.fail("%% in a name is followed by two hexadecimal digits")
			}
			p.text = append(p.text, p.buf[p.pos:p.pos+3]...)
			p.pos += 3
		case c == '\\':
			e := p.peekAt(1)
			if class[e]&classEscape == 0 {
				p.fail("this character has no escape in a name")
			}
			p.text = append(p.text, e)
			p.pos += 2
		case c >= utf8.RuneSelf:
			r, n := p.rune()
			if !graph.IsNameChar(r) || first && !graph.IsNameStart(r) {
				p.trimDots(dots)
				return
			}
			p.text = append(p.text, p.buf[p.pos:p.pos+n]...)
			p.pos += n
		default:
			p.trimDots(dots)
			return
		}
		dots = 0
	}
}

// trimDots gives back the dots that a name may not end with.
func (p *parser) trimDots(n int) {
	p.pos -= n
	p.text = p.text[:len(p.text)-n]
}

// iri reads an iri (production [135s]); its text stays in p.text.
func (p *parser) iri() graph.ID {
	if p.peek() == '<' {
		p.iriRef()
		if !graph.IsAbsoluteIRI(string(p.text)) {
			p.text = append(p.text[:0], p.resolve()...)
		}
	} else {
		p.prefixedName()
	}
	return p.dict.IRI(p.text)
}

// triples reads a triples (production [6]).
func (p *parser) triples() {
	var subject graph.ID
	switch p.peek() {
	case '[':
		var alone bool
		subject, alone = p.blankPropertyList()
		p.space()
		// [ … ] with properties may stand for a whole statement.
		if alone && p.peek() == '.' {
			return
		}
	case '(':
		subject = p.collection()
	case '_':
		subject = p.blankLabel()
	default:
		if c := p.peek(); c == '"' || c == '\'' || class[c]&classDigit != 0 || c == '+' || c == '-' {
			p.fail("a literal may not be a subject")
		}
		subject = p.iri()
	}
	p.space()
	p.predicateObjectList(subject)
}

// predicateObjectList reads a predicateObjectList (production [7]).
func (p *parser) predicateObjectList(subject graph.ID) {
	for {
		predicate := p.verb()
		for {
			p.space()
			p.triple(subject, predicate, p.object())
			p.space()
			if p.peek() != ',' {
				break
			}
			p.pos++
		}
		if p.peek() != ';' {
			return
		}
		for p.peek() == ';' {
			p.pos++
			p.space()
		}
		if c := p.peek(); c == '.' || c == ']' || p.atEnd() {
			return
		}
	}
}

// verb reads a verb (production [9]): an IRI, or "a" for rdf:type.
func (p *parser) verb() graph.ID {
	switch c := p.peek(); {
	case c == 'a' && p.keyword("a", false):
		return p.known(&p.ids.typ, graph.RDF+"type")
	case c == '<', c == ':', p.nameStart(0, false) > 0:
		return p.iri()
	}
	p.fail("expected a property, found %s", p.found())
	return 0
}

// object reads an object (production [12]).
func (p *parser) object() graph.ID {
	switch c := p.peek(); {
	case c == '<', c == ':':
		return p.iri()
	case c == '"', c == '\'':
		p.stringLiteral(true)
		return p.literal(p.iri)
	case c == '_':
		return p.blankLabel()
	case c == '[':
		id, _ := p.blankPropertyList()
		return id
	case c == '(':
		return p.collection()
	case class[c]&classDigit != 0, c == '+', c == '-', c == '.' && class[p.peekAt(1)]&classDigit != 0:
		return p.number()
	case c == 't' && p.keyword("true", false):
		return p.dict.Literal([]byte("true"), p.known(&p.ids.boolean, graph.XSD+"boolean"))
	case c == 'f' && p.keyword("false", false):
		return p.dict.Literal([]byte("false"), p.known(&p.ids.boolean, graph.XSD+"boolean"))
	case p.nameStart(0, false) > 0:
		return p.iri()
	}
	p.fail("expected an object, found %s", p.found())
	return 0
}

// number reads a NumericLiteral (productions [16], [19] to [21]).
func (p *parser) number() graph.ID {
	p.begin()
	if c := p.peek(); c == '+' || c == '-' {
		p.pos++
	}
	datatype, iri := &p.ids.integer, graph.XSD+"integer"
	digits := p.digits()
	// A dot belongs to the number only if a digit or an exponent follows.
	if p.peek() == '.' && (class[p.peekAt(1)]&classDigit != 0 || digits > 0 && p.exponentAt(1)) {
		p.pos++
		digits += p.digits()
		datatype, iri = &p.ids.decimal, graph.XSD+"decimal"
	}
	if digits == 0 {
		p.fail("expected a digit, found %s", p.found())
	}
	if p.exponentAt(0) {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		p.digits()
		datatype, iri = &p.ids.double, graph.XSD+"double"
	}
	lexical := p.buf[p.mark:p.pos]
	p.mark = -1
	return p.dict.Literal(lexical, p.known(datatype, iri))
}

func (p *parser) digits() int {
	n := 0
	for class[p.peek()]&classDigit != 0 {
		p.pos++
		n++
	}
	return n
}

// exponentAt tells whether an EXPONENT (production [154s]) stands n bytes on.
func (p *parser) exponentAt(n int) bool {
	if p.peekAt(n)|0x20 != 'e' {
		return false
	}
	if c := p.peekAt(n + 1); c == '+' || c == '-' {
		n++
	}
	return class[p.peekAt(n+1)]&classDigit != 0
}

// blankPropertyList reads a blankNodePropertyList or ANON (productions [14],
// [162s]) and tells whether it has properties.
func (p *parser) blankPropertyList() (id graph.ID, properties bool) {
	p.enter()
	defer p.leave()
	id = p.fresh('b')
	p.pos++
	p.space()
	if p.peek() != ']' {
		properties = true
		p.predicateObjectList(id)
	}
	p.expect(']', "to close the blank node")
	return id, properties
}

// collection reads a collection (production [15]) and returns its first node.
func (p *parser) collection() graph.ID {
	p.enter()
	defer p.leave()
	p.pos++
	var head, last graph.ID
	for {
		p.space()
		if p.peek() == ')' {
			break
		}
		node := p.fresh('l')
		if last == 0 {
			head = node
		} else {
			p.triple(last, p.known(&p.ids.rest, graph.RDF+"rest"), node)
		}
		last = node
		p.triple(node, p.known(&p.ids.first, graph.RDF+"first"), p.object())
	}
	p.pos++
	null := p.known(&p.ids.null, graph.RDF+"nil")
	if last == 0 {
		return null
	}
	p.triple(last, p.known(&p.ids.rest, graph.RDF+"rest"), null)
	return head
}

// fresh returns the blank node of the current position. kind tells the node of
// a list from the node of [ ] at the same place.
func (p *parser) fresh(kind byte) graph.ID {
	at := p.goneBytes + p.pos - p.lineStart
	p.label = append(append(p.label[:0], kind), p.scope...)
	p.label = append(p.label, '_')
	p.label = strconv.AppendInt(p.label, int64(p.line), 10)
	p.label = append(p.label, '_')
	p.label = strconv.AppendInt(p.label, int64(at), 10)
	return p.dict.Blank(p.label)
}
