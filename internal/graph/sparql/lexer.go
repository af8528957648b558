package sparql

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// tokenKind names the terminals of the grammar (SPARQL 1.1 Query, section
// 19.8, productions [139] to [173]).
type tokenKind uint8

const (
	tokenEnd     tokenKind = iota
	tokenIRI               // <…>
	tokenName              // prefix:local, prefix:
	tokenBlank             // _:label
	tokenVar               // ?x $x
	tokenString            // any of the four forms, with its quotation marks
	tokenInteger           // without sign
	tokenDecimal
	tokenDouble
	tokenLang // @en
	tokenWord // keyword, a, true
	tokenMark // punctuation
)

// token is a piece of the query text: text[from:to].
type token struct {
	kind     tokenKind
	from, to int32
}

// lexer cuts a query into tokens. It is run to the end before parsing, which
// the bound on the length of a query makes cheap.
type lexer struct {
	file, text string
	pos        int
	tokens     []token
}

// failure carries a syntax error up to [Parse].
type failure struct{ err error }

// failAt ends the parsing with an error at a position of the text.
func (l *lexer) failAt(pos int, hint, format string, args ...any) {
	start := strings.LastIndexByte(l.text[:pos], '\n') + 1
	line := l.text[start:]
	if i := strings.IndexAny(line[pos-start:], "\r\n"); i >= 0 {
		line = line[:pos-start+i]
	}
	e := &graph.SyntaxError{
		File: l.file, Line: strings.Count(l.text[:pos], "\n") + 1,
		Column: utf8.RuneCountInString(l.text[start:pos]) + 1,
		Source: line, Offset: pos - start, Message: fmt.Sprintf(format, args...),
	}
	if e.File == "" {
		e.File = "query"
	}
	panic(failure{e.Fault(hint)})
}

// unescape replaces \uXXXX and \UXXXXXXXX wherever they stand (section 19.2).
// A backslash that is itself escaped does not start such an escape.
func (l *lexer) unescape() {
	if !strings.Contains(l.text, `\u`) && !strings.Contains(l.text, `\U`) {
		return
	}
	var out bytes.Buffer
	for i := 0; i < len(l.text); i++ {
		c := l.text[i]
		if c != '\\' || i+1 == len(l.text) {
			out.WriteByte(c)
			continue
		}
		digits := map[byte]int{'u': 4, 'U': 8}[l.text[i+1]]
		if digits == 0 {
			out.WriteString(l.text[i : i+2])
			i++
			continue
		}
		r := l.codePoint(i, digits)
		out.WriteRune(r)
		i += 1 + digits
	}
	l.text = out.String()
}

func (l *lexer) codePoint(at, digits int) rune {
	var r uint64
	for i := at + 2; i < at+2+digits; i++ {
		if i >= len(l.text) || !isHex(l.text[i]) {
			l.failAt(at, "", "%s needs %d hexadecimal digits", l.text[at:at+2], digits)
		}
		r = r<<4 | uint64(hexDigit(l.text[i]))
	}
	if r > utf8.MaxRune || !utf8.ValidRune(rune(r)) {
		l.failAt(at, "", "the escape is not a Unicode character")
	}
	return rune(r)
}

func isHex(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func hexDigit(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

// run cuts the whole text.
func (l *lexer) run() {
	if !utf8.ValidString(l.text) {
		for i, r := range l.text {
			if r == utf8.RuneError {
				l.failAt(i, "save the file as UTF-8", "a byte that is not UTF-8")
			}
		}
	}
	l.text = strings.TrimPrefix(l.text, "\uFEFF") // the mark of an editor, not of the grammar
	l.unescape()
	for {
		l.space()
		from := l.pos
		kind := l.scan()
		l.tokens = append(l.tokens, token{kind, int32(from), int32(l.pos)})
		if kind == tokenEnd {
			return
		}
	}
}

// space skips white space and comments.
func (l *lexer) space() {
	for l.pos < len(l.text) {
		switch l.text[l.pos] {
		case ' ', '\t', '\r', '\n':
			l.pos++
		case '#':
			n := strings.IndexAny(l.text[l.pos:], "\r\n")
			if n < 0 {
				n = len(l.text) - l.pos
			}
			l.pos += n
		default:
			return
		}
	}
}

// at returns the byte n after the current one, or 0 beyond the end.
func (l *lexer) at(n int) byte {
	if l.pos+n < len(l.text) {
		return l.text[l.pos+n]
	}
	return 0
}

func (l *lexer) scan() tokenKind {
	if l.pos == len(l.text) {
		return tokenEnd
	}
	switch c := l.text[l.pos]; {
	case c == '<':
		if n := iriLength(l.text[l.pos:]); n > 0 {
			l.pos += n
			return tokenIRI
		}
		return l.mark()
	case c == '?' || c == '$':
		if n := l.varName(l.pos + 1); n > 0 {
			l.pos += 1 + n
			return tokenVar
		}
		return l.mark()
	case c == '"' || c == '\'':
		l.quoted(c)
		return tokenString
	case c == '@':
		return l.language()
	case c == '_' && l.at(1) == ':':
		l.blank()
		return tokenBlank
	case isDigit(c), c == '.' && isDigit(l.at(1)):
		return l.number()
	case isLetter(c), c == ':', c >= utf8.RuneSelf:
		return l.word()
	}
	return l.mark()
}

// iriLength returns the length of the IRIREF (production [139]) that text
// starts with, or 0 if its "<" is an operator.
func iriLength(text string) int {
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '>':
			return i + 1
		case c <= ' ', c == '<', c == '"', c == '{', c == '}', c == '|', c == '^', c == '`', c == '\\':
			return 0
		}
	}
	return 0
}

// marks are the punctuation marks, longer ones first.
var marks = []string{"^^", "&&", "||", "!=", "<=", ">=",
	"{", "}", "(", ")", "[", "]", ".", ";", ",", "*", "/", "+", "-", "!", "=", "<", ">", "^", "|", "?"}

func (l *lexer) mark() tokenKind {
	for _, m := range marks {
		if strings.HasPrefix(l.text[l.pos:], m) {
			l.pos += len(m)
			return tokenMark
		}
	}
	r, _ := utf8.DecodeRuneInString(l.text[l.pos:])
	l.failAt(l.pos, "", "%q may not stand here", r)
	return tokenEnd
}

// varName returns the length of the VARNAME (production [166]) at a position.
func (l *lexer) varName(at int) int {
	from := at
	for at < len(l.text) {
		r, n := utf8.DecodeRuneInString(l.text[at:])
		if !(r == '_' || graph.IsNameStart(r) || r >= '0' && r <= '9' ||
			at > from && (r == 0xB7 || r >= 0x300 && r <= 0x36F || r == 0x203F || r == 0x2040)) {
			break
		}
		at += n
	}
	return at - from
}

// quoted reads a string (productions [156] to [159]).
func (l *lexer) quoted(quote byte) {
	from := l.pos
	long := l.at(1) == quote && l.at(2) == quote
	l.pos++
	if long {
		l.pos += 2
	}
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == '\\':
			if !strings.ContainsRune(`tbnrf"'\`, rune(l.at(1))) || l.at(1) == 0 {
				l.failAt(l.pos, `write a backslash as \\`, "unknown escape in a string")
			}
			l.pos++
		case c == quote && !long:
			l.pos++
			return
		case c == quote && l.at(1) == quote && l.at(2) == quote:
			l.pos += 3
			return
		case (c == '\n' || c == '\r') && !long:
			l.failAt(from, "close it on the same line, or use three quotation marks", "a string that does not end")
		}
		l.pos++
	}
	l.pos = len(l.text)
	l.failAt(from, "", "a string that does not end")
}

// language reads a LANGTAG (production [145]).
func (l *lexer) language() tokenKind {
	from := l.pos
	for part := 0; ; part++ {
		l.pos++
		n := l.pos
		for isLetter(l.at(0)) || part > 0 && isDigit(l.at(0)) {
			l.pos++
		}
		if n == l.pos {
			l.failAt(from, "", "a language tag looks like @en or @en-GB")
		}
		if l.at(0) != '-' {
			return tokenLang
		}
	}
}

// blank reads a BLANK_NODE_LABEL (production [142]).
func (l *lexer) blank() {
	from := l.pos
	l.pos += 2
	r, n := utf8.DecodeRuneInString(l.text[l.pos:])
	if !(graph.IsNameStart(r) || r == '_' || r >= '0' && r <= '9') {
		l.failAt(from, "", "a blank node label starts with a letter, a digit or _")
	}
	l.pos += n
	l.nameRest()
}

// nameRest reads what may follow the first character of a name: characters
// and dots, of which the last is a character.
func (l *lexer) nameRest() {
	end := l.pos
	for l.pos < len(l.text) {
		r, n := utf8.DecodeRuneInString(l.text[l.pos:])
		if r != '.' && !graph.IsNameChar(r) {
			break
		}
		l.pos += n
		if r != '.' {
			end = l.pos
		}
	}
	l.pos = end
}

// number reads an unsigned number (productions [146] to [148]). A dot without
// a digit or an exponent behind it is not part of it.
func (l *lexer) number() tokenKind {
	kind := tokenInteger
	for isDigit(l.at(0)) {
		l.pos++
	}
	if l.at(0) == '.' && (isDigit(l.at(1)) || l.exponentLength(1) > 0) {
		kind = tokenDecimal
		l.pos++
		for isDigit(l.at(0)) {
			l.pos++
		}
	}
	if n := l.exponentLength(0); n > 0 {
		l.pos += n
		return tokenDouble
	}
	return kind
}

// exponentLength returns the length of the EXPONENT (production [155]) n bytes on.
func (l *lexer) exponentLength(n int) int {
	from := n
	if l.at(n)|0x20 != 'e' {
		return 0
	}
	n++
	if c := l.at(n); c == '+' || c == '-' {
		n++
	}
	if !isDigit(l.at(n)) {
		return 0
	}
	for isDigit(l.at(n)) {
		n++
	}
	return n - from
}

// word reads a keyword or a prefixed name (productions [140], [141]).
func (l *lexer) word() tokenKind {
	from := l.pos
	if l.at(0) != ':' {
		r, n := utf8.DecodeRuneInString(l.text[l.pos:])
		if !graph.IsNameStart(r) {
			return l.mark()
		}
		l.pos += n
		l.nameRest()
	}
	if l.at(0) == ':' {
		l.pos++
		l.local()
		return tokenName
	}
	// A keyword has letters, digits and underscores only.
	l.pos = from
	for isLetter(l.at(0)) || isDigit(l.at(0)) || l.at(0) == '_' {
		l.pos++
	}
	if l.pos == from {
		return l.mark()
	}
	return tokenWord
}

// local reads a PN_LOCAL (production [169]), which may be empty.
func (l *lexer) local() {
	from, end := l.pos, l.pos
	for l.pos < len(l.text) {
		r, n := utf8.DecodeRuneInString(l.text[l.pos:])
		first := l.pos == from
		switch {
		case r == '%' && isHex(l.at(1)) && isHex(l.at(2)):
			n = 3
		case r == '\\' && l.at(1) != 0 && strings.IndexByte("_~.-!$&'()*+,;=/?#@%", l.at(1)) >= 0:
			n = 2
		case r == '%', r == '\\':
			l.failAt(l.pos, "", "%q in a name starts an escape, which this is not", r)
		case r == ':':
		case r == '.' && !first:
			l.pos++
			continue
		case first && (graph.IsNameStart(r) || r == '_' || r >= '0' && r <= '9'), !first && graph.IsNameChar(r):
		default:
			l.pos = end
			return
		}
		l.pos += n
		end = l.pos
	}
	l.pos = end
}
