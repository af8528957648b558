package rdfxml

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// entity is a declared general entity.
type entity struct {
	text     string
	external bool
}

// predefined are the entities that need no declaration (XML 1.0, section 4.6).
var predefined = map[string]byte{"lt": '<', "gt": '>', "amp": '&', "apos": '\'', "quot": '"'}

// Bounds of entities. What they expand to may be as long as freeExpansion, and
// beyond that maxExpansion times as long as what was read of the document.
const (
	maxEntities   = 10_000
	maxEntityText = 1 << 20 // bytes of all declarations
	maxNesting    = 16      // of references in entities
	freeExpansion = 1 << 20
	maxExpansion  = 16
)

// xmlDeclaration is what follows <?xml (XML 1.0, section 2.8, production [23]).
var xmlDeclaration = regexp.MustCompile(`^\s+version\s*=\s*("1\.\d+"|'1\.\d+')` +
	`(\s+encoding\s*=\s*("[A-Za-z][\w.-]*"|'[A-Za-z][\w.-]*'))?(\s+standalone\s*=\s*("(yes|no)"|'(yes|no)'))?\s*$`)

// prolog reads what stands before the first element: the XML declaration,
// comments, processing instructions, and the document type declaration.
func (s *scanner) prolog() token {
	s.begin()
	if s.looking("<?xml") && !nameByte[s.peekAt(5)] {
		at := s.place()
		s.pos += len("<?xml")
		s.until("?>", at, "XML declaration")
		if !xmlDeclaration.Match(s.text) {
			s.failAt(at, `write <?xml version="1.0" encoding="UTF-8"?>`, "an XML declaration that is not well-formed")
		}
	}
	seen := false
	for {
		s.finish()
		s.space()
		if s.looking("<!DOCTYPE") && !seen {
			seen = true
			s.doctype()
			continue
		}
		switch t := s.next(); t.kind {
		case comment, procedure:
		case text:
			s.failAt(t.at, "", "a text may not stand outside of the document's element")
		case end:
			s.fail("the document has no element")
		default:
			return t
		}
	}
}

// doctype reads a doctypedecl (XML 1.0, section 2.8, production [28]). Of its
// declarations only those of entities count.
func (s *scanner) doctype() {
	at := s.begin()
	s.pos += len("<!DOCTYPE")
	s.needSpace()
	s.name("the document type")
	s.space()
	s.externalID()
	s.space()
	if s.take("[") {
		for s.space(); !s.take("]"); s.space() {
			if s.atEnd() {
				s.failAt(at, "", "a document type declaration that does not end")
			}
			s.declaration()
		}
		s.space()
	}
	if !s.take(">") {
		s.fail("expected \">\" to end the document type declaration, found %s", s.found())
	}
}

func (s *scanner) needSpace() {
	if !s.space() {
		s.fail("expected white space, found %s", s.found())
	}
}

// externalID reads an ExternalID (production [75]) if there is one. What it
// names is never fetched.
func (s *scanner) externalID() bool {
	switch {
	case s.take("SYSTEM"):
		s.needSpace()
	case s.take("PUBLIC"):
		s.needSpace()
		s.quoted("a public identifier")
		s.needSpace()
	default:
		return false
	}
	s.quoted("a system identifier")
	return true
}

// quoted reads a text in quotation marks as it is.
func (s *scanner) quoted(what string) string {
	at, quote := s.place(), s.peek()
	if quote != '"' && quote != '\'' {
		s.fail("expected %s in quotation marks, found %s", what, s.found())
	}
	s.pos++
	var b []byte
	for s.peek() != quote {
		if s.atEnd() {
			s.failAt(at, "", "%s that does not end", what)
		}
		b = s.char(b)
		s.bound(b)
	}
	s.pos++
	return string(b)
}

// declaration reads one declaration of the internal subset.
func (s *scanner) declaration() {
	at := s.place()
	switch {
	case s.take("<!--"):
		s.text = s.text[:0]
		s.until("-->", at, "comment")
	case s.take("<?"):
		s.text = s.text[:0]
		s.until("?>", at, "processing instruction")
	case s.take("<!ENTITY"):
		s.entityDeclaration()
	case s.take("<!ELEMENT"), s.take("<!NOTATION"):
		s.skipDeclaration(at, false)
	case s.take("<!ATTLIST"):
		s.skipDeclaration(at, true)
	case s.peek() == '%':
		s.failHint("write the declarations out", "parameter entities are not expanded")
	default:
		s.fail("expected a declaration, found %s", s.found())
	}
}

// skipDeclaration skips to the end of a declaration. Default values of
// attributes, which would add to the data, are refused.
func (s *scanner) skipDeclaration(at place, attributes bool) {
	for !s.take(">") {
		switch c := s.peek(); {
		case c == 0 && s.atEnd():
			s.failAt(at, "", "a declaration that does not end")
		case (c == '"' || c == '\'') && attributes:
			s.failHint("write the attribute where it is meant", "default values of attributes are not read")
		case c == '"', c == '\'':
			s.quoted("a value")
		default:
			s.text = s.char(s.text[:0])
		}
	}
}

// entityDeclaration reads an EntityDecl (productions [70] to [76]). The first
// declaration of a name counts.
func (s *scanner) entityDeclaration() {
	s.needSpace()
	parameter := s.take("%")
	if parameter {
		s.needSpace()
	}
	at := s.place()
	n := s.name("an entity")
	if strings.Contains(n.raw, ":") {
		s.failAt(at, "", "the name of an entity has no colon")
	}
	s.needSpace()
	var e entity
	if e.external = s.externalID(); e.external {
		if s.space() && s.take("NDATA") {
			s.needSpace()
			s.name("a notation")
		}
	} else {
		e.text = s.entityValue()
	}
	s.space()
	if !s.take(">") {
		s.fail("expected \">\" to end the declaration, found %s", s.found())
	}
	if _, again := s.entities[n.raw]; again || parameter || predefined[n.raw] != 0 {
		return
	}
	s.entityText += len(e.text)
	if len(s.entities) == maxEntities || s.entityText > maxEntityText {
		s.failAt(at, "", "more than %d entities, or more than %d bytes of them", maxEntities, maxEntityText)
	}
	s.entities[n.raw] = e
}

// entityValue reads an EntityValue (production [9]): character references are
// expanded now, others when the entity is used (section 4.4).
func (s *scanner) entityValue() string {
	at, quote := s.place(), s.peek()
	if quote != '"' && quote != '\'' {
		s.fail("expected the text of the entity in quotation marks, found %s", s.found())
	}
	s.pos++
	var b []byte
	for s.peek() != quote {
		switch {
		case s.atEnd():
			s.failAt(at, "", "an entity that does not end")
		case s.looking("&#"):
			b = utf8.AppendRune(b, s.characterReference())
		case s.peek() == '%':
			s.fail("parameter entities may not be used here")
		default:
			b = s.char(b)
		}
		s.bound(b)
	}
	s.pos++
	return string(b)
}

// characterReference reads &#…; or &#x…; (production [66]).
func (s *scanner) characterReference() rune {
	at, base, digits, r := s.place(), rune(10), 0, rune(0)
	s.pos += len("&#")
	if s.take("x") {
		base = 16
	}
	for ; s.peek() != ';'; s.pos++ {
		d := digit(s.peek())
		if d >= base {
			s.fail("expected a digit or \";\" in a character reference, found %s", s.found())
		}
		digits++
		r = min(r*base+d, utf8.MaxRune+1)
	}
	s.pos++
	if digits == 0 || !isChar(r) {
		s.failAt(at, "", "a reference to a character that XML does not have")
	}
	return r
}

func digit(c byte) rune {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return rune(c|0x20-'a') + 10
	}
	return 99
}

// entityName reads the rest of &name;.
func (s *scanner) entityName() (string, place) {
	at := s.place()
	s.pos++
	n := s.name("an entity")
	if !s.take(";") {
		s.failHint("write & as &amp;", "expected \";\" after &%s, found %s", n.raw, s.found())
	}
	return n.raw, at
}

// reference reads a reference in a text: a character is appended to s.text, an
// entity is entered.
func (s *scanner) reference() {
	if s.looking("&#") {
		s.text = utf8.AppendRune(s.text, s.characterReference())
		return
	}
	n, at := s.entityName()
	if c := predefined[n]; c != 0 {
		s.text = append(s.text, c)
		return
	}
	s.enterEntity(n, at)
}

// valueReference reads a reference in the value of an attribute, where an entity
// is a text without tags.
func (s *scanner) valueReference(value []byte) []byte {
	if s.looking("&#") {
		return utf8.AppendRune(value, s.characterReference())
	}
	n, at := s.entityName()
	if c := predefined[n]; c != 0 {
		return append(value, c)
	}
	s.enterEntity(n, at)
	for !s.atEnd() {
		value = s.valueChar(value, at)
		s.bound(value)
	}
	s.leaveEntity()
	return value
}

// enterEntity goes on with the text of an entity.
func (s *scanner) enterEntity(n string, at place) {
	e, ok := s.entities[n]
	switch {
	case !ok:
		s.failAt(at, "declare it in the document type declaration, or write & as &amp;", "the entity &%s; is not declared", n)
	case e.external:
		s.failAt(at, "put its text into the file", "the entity &%s; is in another file, which is never fetched", n)
	case len(s.stack) == maxNesting:
		s.failAt(at, "", "entities nested deeper than %d levels", maxNesting)
	}
	for _, o := range s.stack {
		if o.name == n {
			s.failAt(at, "", "the entity &%s; contains itself", n)
		}
	}
	// The price of a reference is the text and a little, so that empty ones end too.
	s.expanded += int64(len(e.text)) + 1
	if s.expanded > freeExpansion+maxExpansion*s.total {
		s.failAt(at, "write the text out", "entities that expand to more than %d bytes and %d times the file", freeExpansion, maxExpansion)
	}
	s.stack = append(s.stack, opened{window: s.window, name: n, at: at})
	s.window = window{buf: []byte(e.text), end: len(e.text)}
}

// leaveEntity returns from an entity whose text was read, if one is open.
func (s *scanner) leaveEntity() bool {
	n := len(s.stack)
	if n == 0 {
		return false
	}
	if e := len(s.open); e > 0 && s.open[e-1].stack == n {
		s.fail("<%s> is not closed in it", s.open[e-1].raw)
	}
	s.window = s.stack[n-1].window
	s.stack = s.stack[:n-1]
	return true
}
