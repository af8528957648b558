package turtle

import (
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// Character classes of the Turtle grammar, section 6.5. Letters beyond ASCII
// are found by [graph.IsNameStart].
const (
	classStart  = 1 << iota // PN_CHARS_U in ASCII
	classDigit              // 0-9
	classHex                // HEX
	className               // PN_CHARS in ASCII
	classIRI                // may stand in <…> as it is
	classEscape             // may follow \ in a local name
)

var class = func() (t [256]uint8) {
	for c := 'a'; c <= 'z'; c++ {
		t[c] |= classStart | className
		t[c-'a'+'A'] |= classStart | className
	}
	t['_'] |= classStart | className
	for c := '0'; c <= '9'; c++ {
		t[c] |= classDigit | className | classHex
	}
	t['-'] |= className
	for _, c := range "abcdefABCDEF" {
		t[c] |= classHex
	}
	for c := 0x21; c < 0x80; c++ {
		t[c] |= classIRI
	}
	for _, c := range "<>\"{}|^`\\" {
		t[c] &^= classIRI
	}
	for _, c := range "_~.-!$&'()*+,;=/?#@%" {
		t[c] |= classEscape
	}
	return t
}()

// nameChar returns the length of the PN_CHARS at the current position, or 0.
func (s *scanner) nameChar() int {
	c := s.peek()
	if c < utf8.RuneSelf {
		if class[c]&className != 0 {
			return 1
		}
		return 0
	}
	if r, n := s.rune(); graph.IsNameChar(r) {
		return n
	}
	return 0
}

// nameStart returns the length of the PN_CHARS_BASE at the current position,
// or of a "_" or a digit if other allows them, or 0.
func (s *scanner) nameStart(other uint8, underscore bool) int {
	c := s.peek()
	if c < utf8.RuneSelf {
		if c == '_' && !underscore {
			return 0
		}
		if class[c]&(classStart|other) != 0 {
			return 1
		}
		return 0
	}
	if r, n := s.rune(); graph.IsNameStart(r) {
		return n
	}
	return 0
}

// iriRef reads an IRIREF (production [18]) into p.text, not resolved.
func (p *parser) iriRef() {
	p.begin()
	p.pos++
	p.text = p.text[:0]
	for {
		from := p.pos
		for p.pos < p.end && class[p.buf[p.pos]]&classIRI != 0 {
			p.pos++
		}
		p.text = append(p.text, p.buf[from:p.pos]...)
		if p.pos == p.end && p.fill() {
			continue
		}
		switch c := p.peek(); {
		case c == '>':
			p.pos++
			p.mark = -1
			return
		case c == '\\':
			r := p.codePoint()
			if r < 0x21 || r < utf8.RuneSelf && class[r]&classIRI == 0 {
				p.failToken("", "%q may not stand in an IRI", r)
			}
			p.text = utf8.AppendRune(p.text, r)
		case c >= utf8.RuneSelf:
			r, n := p.rune()
			p.text = utf8.AppendRune(p.text, r)
			p.pos += n
		case p.atEnd() || c == '\n':
			p.failToken("close it with >", "an IRI that does not end")
		default:
			p.failHint("write it as %XX", "%s may not stand in an IRI", p.found())
		}
	}
}

// codePoint reads \uXXXX or \UXXXXXXXX (production [26]).
func (p *parser) codePoint() rune {
	digits := 0
	switch p.peekAt(1) {
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		p.fail("only \\u and \\U may stand here")
	}
	var r rune
	for i := range digits {
		c := p.peekAt(2 + i)
		if class[c]&classHex == 0 {
			p.fail("\\%c needs %d hexadecimal digits", p.buf[p.pos+1], digits)
		}
		if r <= utf8.MaxRune {
			r = r<<4 | rune(hexValue(c))
		}
	}
	if !utf8.ValidRune(r) {
		p.fail("the escape is not a Unicode character")
	}
	p.pos += 2 + digits
	return r
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// stringLiteral reads one of the four forms of quoted strings (productions
// [22] to [25]) into p.text. In N-Triples there is only the first.
func (p *parser) stringLiteral(long bool) {
	quote := p.peek()
	p.begin()
	p.text = p.text[:0]
	p.pos++
	if p.peek() == quote && p.peekAt(1) == quote && long {
		p.pos += 2
		p.longString(quote)
		p.mark = -1
		return
	}
	for {
		from := p.pos
		for p.pos < p.end {
			if c := p.buf[p.pos]; c == quote || c == '\\' || c == '\n' || c == '\r' || c >= utf8.RuneSelf {
				break
			}
			p.pos++
		}
		p.text = append(p.text, p.buf[from:p.pos]...)
		if p.pos == p.end && p.fill() {
			continue
		}
		switch c := p.peek(); {
		case c == quote:
			p.pos++
			p.mark = -1
			return
		case c == '\\':
			p.escape()
		case c >= utf8.RuneSelf:
			r, n := p.rune()
			p.text = utf8.AppendRune(p.text, r)
			p.pos += n
		default:
			p.failToken("close it on the same line, or use three quotation marks", "a string that does not end")
		}
	}
}

// longString reads the rest of a string in three quotation marks.
func (p *parser) longString(quote byte) {
	for {
		if p.atEnd() {
			p.failToken("close it with three quotation marks", "a string that does not end")
		}
		switch c := p.buf[p.pos]; {
		case c == quote && p.peekAt(1) == quote && p.peekAt(2) == quote:
			p.pos += 3
			return
		case c == '\\':
			p.escape()
		case c >= utf8.RuneSelf:
			r, n := p.rune()
			p.text = utf8.AppendRune(p.text, r)
			p.pos += n
		default:
			p.text = append(p.text, c)
			p.pos++
			if c == '\n' {
				p.newline()
			}
		}
		if len(p.text) > p.maxToken {
			p.failToken("", "a string longer than %d bytes", p.maxToken)
		}
	}
}

// escape reads an ECHAR or UCHAR (productions [159s], [26]).
func (p *parser) escape() {
	c := p.peekAt(1)
	switch c {
	case 't':
		c = '\t'
	case 'b':
		c = '\b'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 'f':
		c = '\f'
	case '"', '\'', '\\':
	case 'u', 'U':
		p.text = utf8.AppendRune(p.text, p.codePoint())
		return
	default:
		p.failHint(`write a backslash as \\`, `unknown escape in a string`)
	}
	p.text = append(p.text, c)
	p.pos += 2
}

// literal reads what may follow a string, a language tag or a datatype, and
// returns the literal whose lexical form is in p.text.
func (p *parser) literal(datatype func() graph.ID) graph.ID {
	switch {
	case p.peek() == '@':
		p.languageTag()
		return p.dict.Tagged(p.text, p.label)
	case p.peek() == '^' && p.peekAt(1) == '^':
		p.pos += 2
		lexical := append([]byte(nil), p.text...)
		dt := datatype()
		switch string(p.text) { // the datatype's IRI
		case graph.XSDString:
			return p.dict.Literal(lexical, 0)
		case graph.RDFLangString:
			p.fail("a literal of type rdf:langString has a language tag instead")
		}
		return p.dict.Literal(lexical, dt)
	}
	return p.dict.Literal(p.text, 0)
}

// languageTag reads a LANGTAG (production [144s]) into p.label.
func (p *parser) languageTag() {
	p.begin()
	p.pos++
	p.label = p.label[:0]
	for part := 0; ; part++ {
		n := 0
		for {
			c := p.peek()
			if !(c|0x20 >= 'a' && c|0x20 <= 'z' || part > 0 && class[c]&classDigit != 0) {
				break
			}
			p.label = append(p.label, c)
			p.pos++
			n++
		}
		if n == 0 {
			p.fail("a language tag has letters here, found %s", p.found())
		}
		if p.peek() != '-' {
			p.mark = -1
			return
		}
		p.label = append(p.label, '-')
		p.pos++
	}
}

// blankLabel reads a BLANK_NODE_LABEL (production [141s]).
func (p *parser) blankLabel() graph.ID {
	p.begin()
	if p.peekAt(1) != ':' {
		p.fail(`expected ":" after "_"`)
	}
	p.pos += 2
	from := p.pos - p.mark
	n := p.nameStart(classDigit, true)
	if n == 0 {
		p.fail("a blank node label starts with a letter, a digit or _, found %s", p.found())
	}
	p.pos += n
	dots := 0
	for {
		if p.peek() == '.' {
			dots++
			p.pos++
		} else if n := p.nameChar(); n > 0 {
			dots = 0
			p.pos += n
		} else {
			break
		}
	}
	p.pos -= dots // a label does not end with a dot
	p.label = append(append(append(p.label[:0], 'u'), p.scope...), '_')
	p.label = append(p.label, p.buf[p.mark+from:p.pos]...)
	p.mark = -1
	return p.dict.Blank(p.label)
}
