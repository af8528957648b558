package turtle

import "github.com/ultrafast-ci/ultrafast/internal/graph"

// lines reads an ntriplesDoc (RDF 1.1 N-Triples, section 7, production [1]):
// one triple a line, all IRIs absolute, one kind of string, no abbreviations.
func (p *parser) lines() {
	for {
		p.space()
		if p.atEnd() {
			return
		}
		if p.statement != nil {
			p.statement()
		}
		s := p.node("a subject")
		p.blanks()
		predicate := p.absoluteIRI("a property")
		p.blanks()
		o := p.ntObject()
		p.blanks()
		if p.peek() != '.' {
			p.fail("expected '.' to end the triple, found %s", p.found())
		}
		p.pos++
		p.triple(s, predicate, o)
		p.endOfLine()
	}
}

// blanks skips white space within a line.
func (s *scanner) blanks() {
	for c := s.peek(); c == ' ' || c == '\t'; c = s.peek() {
		s.pos++
	}
}

func (p *parser) endOfLine() {
	p.blanks()
	switch c := p.peek(); {
	case c == '#', c == '\n', c == '\r', p.atEnd():
	default:
		p.failHint("write one triple a line", "expected the end of the line, found %s", p.found())
	}
}

func (p *parser) absoluteIRI(what string) graph.ID {
	if p.peek() != '<' {
		p.fail("expected %s as <IRI>, found %s", what, p.found())
	}
	p.iriRef()
	if !graph.IsAbsoluteIRI(string(p.text)) {
		p.failHint("write it in full", "<%s> is a relative IRI, which N-Triples does not have", p.text)
	}
	return p.dict.IRI(p.text)
}

func (p *parser) node(what string) graph.ID {
	if p.peek() == '_' {
		return p.blankLabel()
	}
	return p.absoluteIRI(what)
}

func (p *parser) ntObject() graph.ID {
	if p.peek() != '"' {
		return p.node("an object")
	}
	p.stringLiteral(false)
	return p.literal(func() graph.ID { return p.absoluteIRI("a datatype") })
}
