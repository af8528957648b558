package rdfxml

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

const (
	xmlSpace   = "http://www.w3.org/XML/1998/namespace"
	xmlnsSpace = "http://www.w3.org/2000/xmlns/"
)

// name is a qualified name (Namespaces in XML 1.0, section 4).
type name struct{ raw, prefix, local string }

// attribute is one attribute, with its value normalised.
type attribute struct {
	name
	space string // its namespace; empty if it has no prefix
	value string
	at    place
}

// frame is an open element.
type frame struct {
	raw   string
	undo  int // length of scanner.undo before its declarations
	stack int // entities that were open where it began
}

// binding is what a prefix meant before.
type binding struct {
	prefix, space string
	had           bool
}

// kind is the kind of a token.
type kind uint8

const (
	end       kind = iota // of an element, or of the document
	start                 // of an element; its attributes are in scanner.attrs
	text                  // in scanner.text
	comment               // in scanner.text
	procedure             // a processing instruction; its target is the name, its data scanner.text
)

// token is one piece of the document.
type token struct {
	kind  kind
	name  name
	space string
	at    place
}

// next returns the next piece. Texts that only references and CDATA sections
// part are one.
func (s *scanner) next() token {
	s.finish()
	if s.closed {
		s.closed = false
		s.pop()
		return token{kind: end, at: s.place()}
	}
	s.text = s.text[:0]
	at, white := s.place(), true
	for {
		if s.pos >= s.end && !s.fill() {
			if s.leaveEntity() {
				continue
			}
			if len(s.text) > 0 {
				return token{kind: text, at: at}
			}
			if len(s.open) > 0 {
				s.fail("%s, before <%s> is closed", s.found(), s.open[len(s.open)-1].raw)
			}
			return token{kind: end, at: at}
		}
		if s.buf[s.pos] == '<' && !s.looking("<![CDATA[") {
			if len(s.text) > 0 {
				return token{kind: text, at: at}
			}
			return s.markup()
		}
		if white { // an error is shown where the first letter stands
			at = s.begin()
		}
		from := len(s.text)
		s.characters()
		white = white && blank(s.text[from:])
	}
}

// characters appends the next piece of character data, reference or CDATA
// section to s.text.
func (s *scanner) characters() {
	inside := len(s.open) > 0
	switch c := s.buf[s.pos]; {
	case c == '<' && !inside, c == '&' && !inside:
		s.fail("only white space, comments and one element may stand here, found %s", s.found())
	case c == '<':
		s.cdata()
	case c == '&':
		s.reference()
	case c == ']' && s.looking("]]>"):
		s.failHint("write it as ]]&gt;", `"]]>" may not stand in a text`)
	case c >= ' ' && c < utf8.RuneSelf:
		from := s.pos
		// A first letter begins a piece of its own: it is where errors point to.
		for s.pos++; s.pos < s.end && plain[s.buf[s.pos]] && (c != ' ' || s.buf[s.pos] == ' '); s.pos++ {
		}
		s.text = append(s.text, s.buf[from:s.pos]...)
	default:
		s.text = s.char(s.text)
	}
	s.bound(s.text)
}

// plain are the bytes that stand for themselves in character data.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '<' && c != '&' && c != ']'
	}
	return t
}()

func (s *scanner) bound(b []byte) {
	if len(b) > s.maxToken {
		s.fail("a text longer than %d bytes", s.maxToken)
	}
}

func blank(b []byte) bool {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return false
		}
	}
	return true
}

func (s *scanner) cdata() {
	at := s.place()
	s.pos += len("<![CDATA[")
	for !s.take("]]>") {
		if s.atEnd() {
			s.failAt(at, "", "a CDATA section that does not end")
		}
		s.text = s.char(s.text)
		s.bound(s.text)
	}
}

// markup reads what begins with "<".
func (s *scanner) markup() token {
	at := s.begin()
	switch {
	case s.take("<!--"):
		s.until("-->", at, "comment")
		return token{kind: comment, at: at}
	case s.take("<?"):
		target := s.name("a processing instruction")
		if strings.EqualFold(target.raw, "xml") {
			s.failAt(at, "put it at the very beginning of the file", "an XML declaration may not stand here")
		}
		if strings.Contains(target.raw, ":") {
			s.failAt(at, "", "the name of a processing instruction has no colon")
		}
		if !s.space() && !s.looking("?>") {
			s.fail("expected white space, found %s", s.found())
		}
		s.until("?>", at, "processing instruction")
		return token{kind: procedure, name: target, at: at}
	case s.looking("<!DOCTYPE"):
		s.fail("a document type declaration stands before the first element, once")
	case s.looking("<!"):
		s.fail("unknown markup; expected a tag, a comment or a CDATA section")
	case s.take("</"):
		return s.endTag(at)
	}
	s.pos++
	return s.startTag(at)
}

// until reads into s.text up to stop.
func (s *scanner) until(stop string, at place, what string) {
	for !s.take(stop) {
		if s.atEnd() {
			s.failAt(at, "", "a %s that does not end", what)
		}
		if what == "comment" && s.looking("--") {
			s.fail(`"--" may not stand in a comment`)
		}
		s.text = s.char(s.text)
		s.bound(s.text)
	}
}

// name reads a QName. what says whose name it is.
func (s *scanner) name(what string) name {
	for n := 0; ; {
		c := s.peekAt(n)
		switch {
		case c < utf8.RuneSelf:
			if !nameByte[c] {
				return s.named(n, what)
			}
			n++
		default:
			s.peekAt(n + utf8.UTFMax - 1)
			r, size := utf8.DecodeRune(s.buf[s.pos+n : s.end])
			if r == utf8.RuneError && size == 1 {
				s.pos += n
				s.failUTF8()
			}
			if !graph.IsNameChar(r) {
				return s.named(n, what)
			}
			n += size
		}
	}
}

// nameByte are the bytes below 0x80 of a NameChar (XML 1.0, production [4a]).
var nameByte = func() (t [256]bool) {
	for c := range rune(utf8.RuneSelf) {
		t[c] = graph.IsNameChar(c) || c == ':' || c == '.'
	}
	return t
}()

const maxNames = 1 << 12 // spellings that are remembered

// named consumes a name of n bytes and takes it apart.
func (s *scanner) named(n int, what string) name {
	b := s.buf[s.pos : s.pos+n]
	known, ok := s.names[string(b)]
	if !ok {
		known.raw = string(b)
		known.prefix, known.local, ok = strings.Cut(known.raw, ":")
		if !ok {
			known.prefix, known.local = "", known.raw
		}
		switch {
		case n == 0:
			s.fail("expected the name of %s, found %s", what, s.found())
		case !isNCName(known.local) || ok && !isNCName(known.prefix):
			s.fail("%q is not a name", known.raw)
		}
		if len(s.names) >= maxNames {
			clear(s.names)
		}
		s.names[known.raw] = known
	}
	s.pos += n
	return known
}

// isNCName tells whether text is a name without a colon (Namespaces in XML 1.0,
// production [4]).
func isNCName(text string) bool {
	for i, r := range text {
		if !(graph.IsNameStart(r) || r == '_' || i > 0 && (graph.IsNameChar(r) || r == '.')) {
			return false
		}
	}
	return text != ""
}

const maxAttributes = 4096 // of one tag

func (s *scanner) startTag(at place) token {
	if len(s.open) == s.maxDepth {
		s.failAt(at, "raise the limit of depth", "nested deeper than %d levels", s.maxDepth)
	}
	n := s.name("an element")
	s.attrs = s.attrs[:0]
	for {
		spaced := s.space()
		if s.take(">") {
			break
		}
		if s.take("/>") {
			s.closed = true
			break
		}
		if !spaced {
			s.fail("expected white space, \">\" or \"/>\" in the tag <%s>, found %s", n.raw, s.found())
		}
		if len(s.attrs) == maxAttributes {
			s.fail("a tag with more than %d attributes", maxAttributes)
		}
		s.attribute()
	}
	s.open = append(s.open, frame{raw: n.raw, undo: len(s.undo), stack: len(s.stack)})
	s.declare()
	return token{kind: start, name: n, space: s.spaceOf(n, at), at: at}
}

func (s *scanner) attribute() {
	a := attribute{at: s.place(), name: s.name("an attribute")}
	s.space()
	if !s.take("=") {
		s.fail("expected \"=\" after the attribute %s, found %s", a.raw, s.found())
	}
	s.space()
	quote := s.peek()
	if quote != '"' && quote != '\'' {
		s.failHint("put the value into quotation marks", "expected the value of %s, found %s", a.raw, s.found())
	}
	s.pos++
	var value []byte
	for s.peek() != quote {
		value = s.valueChar(value, a.at)
		s.bound(value)
	}
	s.pos++
	a.value = string(value)
	s.attrs = append(s.attrs, a)
}

// valueChar reads one character of an attribute's value, or a reference in it
// (XML 1.0, section 3.3.3).
func (s *scanner) valueChar(value []byte, at place) []byte {
	switch c := s.peek(); {
	case c == 0 && s.atEnd():
		s.failAt(at, "", "a value that does not end")
	case c == '<':
		s.failHint("write it as &lt;", `"<" may not stand in the value of an attribute`)
	case c == '&':
		return s.valueReference(value)
	case c == '\t':
		s.pos++
		return append(value, ' ')
	case c == '\n', c == '\r':
		s.lineEnd()
		return append(value, ' ')
	}
	return s.char(value)
}

// declare takes the declarations of namespaces out of s.attrs and resolves the
// prefixes of the other attributes.
func (s *scanner) declare() {
	rest := s.attrs[:0]
	for _, a := range s.attrs {
		switch {
		case a.raw == "xmlns":
			s.bind("", a)
		case a.prefix == "xmlns":
			s.bind(a.local, a)
		default:
			rest = append(rest, a)
		}
	}
	declared := s.undo[s.open[len(s.open)-1].undo:]
	if len(declared) > 1 {
		seen := make(map[string]bool, len(declared))
		for _, b := range declared {
			if seen[b.prefix] {
				s.fail("the prefix %q is declared twice in one tag", b.prefix)
			}
			seen[b.prefix] = true
		}
	}
	s.attrs = rest
	for i := range s.attrs {
		if a := &s.attrs[i]; a.prefix != "" {
			a.space = s.spaceOf(a.name, a.at)
		}
	}
	s.unique()
}

func (s *scanner) bind(prefix string, a attribute) {
	switch {
	case prefix == "xmlns", a.value == xmlnsSpace:
		s.failAt(a.at, "", "the prefix xmlns and its namespace may not be declared")
	case (prefix == "xml") != (a.value == xmlSpace):
		s.failAt(a.at, "", "the prefix xml belongs to the namespace %s, and only to it", xmlSpace)
	case prefix != "" && a.value == "":
		s.failAt(a.at, "", "the prefix %q is declared without a namespace", prefix)
	}
	old, had := s.spaces[prefix]
	s.undo = append(s.undo, binding{prefix, old, had})
	s.spaces[prefix] = a.value
}

// unique refuses two attributes of one name in a tag.
func (s *scanner) unique() {
	type expanded struct{ space, local string }
	var seen map[expanded]bool
	if len(s.attrs) > 16 {
		seen = make(map[expanded]bool, len(s.attrs))
	}
	for i, a := range s.attrs {
		twice := seen[expanded{a.space, a.local}]
		for j := 0; seen == nil && j < i; j++ {
			twice = twice || s.attrs[j].local == a.local && s.attrs[j].space == a.space
		}
		if twice {
			s.failAt(a.at, "", "the attribute %s stands twice in one tag", a.raw)
		}
		if seen != nil {
			seen[expanded{a.space, a.local}] = true
		}
	}
}

// spaceOf returns the namespace of a name. Only elements have the default one,
// and only attributes with a prefix are asked for.
func (s *scanner) spaceOf(n name, at place) string {
	space, ok := s.spaces[n.prefix]
	if !ok && n.prefix != "" {
		s.failAt(at, graph.PrefixHint(n.prefix, slices.Sorted(maps.Keys(s.spaces)), "xmlns"), "prefix %q is not declared", n.prefix+":")
	}
	return space
}

func (s *scanner) endTag(at place) token {
	n := s.name("an element")
	s.space()
	if !s.take(">") {
		s.fail("expected \">\" in the tag </%s>, found %s", n.raw, s.found())
	}
	if len(s.open) == 0 {
		s.failAt(at, "", "</%s> closes nothing", n.raw)
	}
	if top := s.open[len(s.open)-1]; top.raw != n.raw || top.stack != len(s.stack) {
		s.failAt(at, "close elements in the opposite order of their opening", "</%s> stands where <%s> is to be closed", n.raw, top.raw)
	}
	s.pop()
	return token{kind: end, at: at}
}

// pop closes the innermost element.
func (s *scanner) pop() {
	top := len(s.open) - 1
	from := s.open[top].undo
	s.open = s.open[:top]
	for i := len(s.undo) - 1; i >= from; i-- {
		if b := s.undo[i]; b.had {
			s.spaces[b.prefix] = b.space
		} else {
			delete(s.spaces, b.prefix)
		}
	}
	s.undo = s.undo[:from]
}
