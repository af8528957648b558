package rdfxml

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// scanner is a window over the document: buf[pos:end] is read and not yet
// consumed. What lies before pos is kept from the start of the current token
// and, as far as it is not too far away, of the current line, for errors.
//
// While the text of an entity is read, buf is that text, and the window waits
// at the bottom of the stack.
type scanner struct {
	window
	file string
	r    io.Reader
	done bool // r is exhausted

	front int64 // bytes of the document before the window
	mark  int   // start of the token being read, in the window; -1 between tokens
	markLine,
	thisLine line

	stack      []opened // entities being read, below them the document
	entities   map[string]entity
	entityText int   // bytes of their declarations
	expanded   int64 // bytes of entities that were read

	maxBytes, total int64
	maxToken        int
	maxDepth        int

	open   []frame           // elements
	spaces map[string]string // namespaces in scope, by prefix; "" is the default one
	undo   []binding         // what the namespaces were before
	names  map[string]name   // names by their spelling
	closed bool              // the last tag was <a/>, whose end comes next
	text   []byte            // of the last token
	attrs  []attribute
}

type window struct {
	buf      []byte
	pos, end int
}

// opened is an entity that is being read, or the document at index 0, with the
// window to return to.
type opened struct {
	window
	name string
	at   place // of the outermost reference
}

// line is a line of the document.
type line struct {
	line int   // from 1
	from int64 // its first byte, from the start of the document
	gone int   // characters of it that are gone from the window
}

// place is a position in the document.
type place struct {
	at, from int64 // the position and the start of its line, in bytes
	line     int
}

const (
	windowSize = 64 << 10
	lineKept   = 4 << 10 // bytes of the current line kept for errors
)

func (s *scanner) init(r io.Reader, opts Options) {
	*s = scanner{
		file: opts.File, maxBytes: opts.MaxBytes, maxToken: opts.MaxToken, maxDepth: opts.MaxDepth,
		window: window{buf: make([]byte, windowSize)}, mark: -1, thisLine: line{line: 1},
		entities: map[string]entity{}, spaces: map[string]string{"xml": xmlSpace}, names: map[string]name{},
	}
	var err error
	if s.r, err = decode(r); err != nil {
		s.fail("%v", err)
	}
}

// place returns the position of the next byte; inside of an entity that of the
// reference to it.
func (s *scanner) place() place {
	if len(s.stack) > 0 {
		return s.stack[0].at
	}
	return place{at: s.front + int64(s.pos), from: s.thisLine.from, line: s.thisLine.line}
}

// begin marks the start of a token at the current position and returns it.
func (s *scanner) begin() place {
	if len(s.stack) == 0 {
		s.mark, s.markLine = s.pos, s.thisLine
	}
	return s.place()
}

// finish ends the token.
func (s *scanner) finish() {
	if len(s.stack) == 0 {
		s.mark = -1
	}
}

// peek returns the next byte, or 0 at the end of the document or the entity.
func (s *scanner) peek() byte {
	if s.pos < s.end || s.fill() {
		return s.buf[s.pos]
	}
	return 0
}

// peekAt returns the byte n after the next one, or 0 beyond the end.
func (s *scanner) peekAt(n int) byte {
	for s.pos+n >= s.end {
		if !s.fill() {
			return 0
		}
	}
	return s.buf[s.pos+n]
}

func (s *scanner) atEnd() bool { return s.pos >= s.end && !s.fill() }

// looking tells whether text comes next.
func (s *scanner) looking(text string) bool {
	if s.peek() != text[0] {
		return false
	}
	s.peekAt(len(text) - 1)
	return bytes.HasPrefix(s.buf[s.pos:s.end], []byte(text))
}

// take consumes text if it comes next. It has no line end in it.
func (s *scanner) take(text string) bool {
	if !s.looking(text) {
		return false
	}
	s.pos += len(text)
	return true
}

// fill reads more into the window and tells whether it got any.
func (s *scanner) fill() bool {
	if s.done || len(s.stack) > 0 {
		return false
	}
	s.slide()
	if s.end == len(s.buf) {
		if s.mark >= 0 && s.end-s.mark > s.maxToken {
			s.fail("a tag or text longer than %d bytes", s.maxToken)
		}
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	for range 100 { // a reader that gives nothing a hundred times is broken
		n, err := s.r.Read(s.buf[s.end:])
		s.end += n
		if s.total += int64(n); s.total > s.maxBytes {
			s.fail("the input is longer than %d bytes", s.maxBytes)
		}
		if err != nil {
			s.done = true
			if !errors.Is(err, io.EOF) {
				panic(failure{fault.Wrap(err, fault.Unavailable, "", "read "+s.file)})
			}
		}
		if n > 0 || s.done {
			return n > 0
		}
	}
	panic(failure{fault.Wrap(io.ErrNoProgress, fault.Unavailable, "", "read "+s.file)})
}

// slide drops what is no longer needed from the front of the window.
func (s *scanner) slide() {
	at, of := s.pos, s.thisLine
	if s.mark >= 0 {
		at, of = s.mark, s.markLine
	}
	keep := max(int(of.from-s.front), at-lineKept, 0)
	if keep == 0 {
		return
	}
	s.thisLine.drop(s, keep)
	if s.mark >= 0 {
		s.markLine.drop(s, keep)
	}
	copy(s.buf, s.buf[keep:s.end])
	s.front += int64(keep)
	s.pos, s.end = s.pos-keep, s.end-keep
	if s.mark >= 0 {
		s.mark -= keep
	}
}

// drop takes note that n bytes go from the front of the window.
func (l *line) drop(s *scanner, n int) {
	if from := max(int(l.from-s.front), 0); from < n {
		l.gone += utf8.RuneCount(s.buf[from:n])
	}
}

// newline is called after a line end was consumed.
func (s *scanner) newline() {
	if len(s.stack) == 0 {
		s.thisLine = line{line: s.thisLine.line + 1, from: s.front + int64(s.pos)}
	}
}

// space skips white space and tells whether there was any.
func (s *scanner) space() bool {
	any := false
	for {
		switch s.peek() {
		case ' ', '\t':
			s.pos++
		case '\n', '\r':
			s.lineEnd()
		default:
			return any
		}
		any = true
	}
}

// lineEnd consumes a line end in any of its forms (XML 1.0, section 2.11).
func (s *scanner) lineEnd() {
	if s.buf[s.pos] == '\r' && s.peekAt(1) == '\n' {
		s.pos++
	}
	s.pos++
	s.newline()
}

// char consumes the next character and appends it to b. It fails on what is not
// a Char of XML (section 2.2, production [2]) and at the end.
func (s *scanner) char(b []byte) []byte {
	c := s.peek()
	switch {
	case c == '\n', c == '\r':
		s.lineEnd()
		return append(b, '\n')
	case c >= ' ' && c < utf8.RuneSelf, c == '\t':
		s.pos++
		return append(b, c)
	case c == 0 && s.atEnd():
		s.fail("%s inside of markup", s.found())
	case c < ' ':
		s.fail("the control character %q may not stand in XML", c)
	}
	s.peekAt(utf8.UTFMax - 1)
	r, n := utf8.DecodeRune(s.buf[s.pos:s.end])
	if r == utf8.RuneError && n == 1 {
		s.failUTF8()
	}
	if !isChar(r) {
		s.fail("the character %U may not stand in XML", r)
	}
	s.pos += n
	return utf8.AppendRune(b, r)
}

func isChar(r rune) bool {
	return r >= 0x20 && r <= 0xD7FF || r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF || r == '\t' || r == '\n' || r == '\r'
}

// fail ends the reading with an error at the current position.
func (s *scanner) fail(format string, args ...any) { s.failHint("", format, args...) }

func (s *scanner) failHint(hint, format string, args ...any) {
	s.failAt(s.place(), hint, format, args...)
}

// failUTF8 is for a name too: U+FFFD, which the byte would pass for, may stand in one.
func (s *scanner) failUTF8() {
	s.failHint("save the file as UTF-8, or declare its encoding", "a byte that is not UTF-8")
}

// failAt ends the reading with an error at a place of the current token.
func (s *scanner) failAt(at place, hint, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if n := len(s.stack); n > 0 {
		message = fmt.Sprintf("in the entity &%s;: %s", s.stack[n-1].name, message)
	}
	panic(failure{s.errorAt(at, message).Fault(hint)})
}

func (s *scanner) errorAt(at place, message string) *graph.SyntaxError {
	w, gone := s.window, 0
	if len(s.stack) > 0 {
		w = s.stack[0].window
	}
	switch at.line {
	case s.thisLine.line:
		gone = s.thisLine.gone
	case s.markLine.line:
		gone = s.markLine.gone
	}
	here := min(max(int(at.at-s.front), 0), w.end)
	start := min(max(int(at.from-s.front), 0), here)
	stop := w.end
	if i := bytes.IndexAny(w.buf[here:w.end], "\n\r"); i >= 0 {
		stop = here + i
	}
	return &graph.SyntaxError{
		File: s.file, Line: at.line, Column: gone + utf8.RuneCount(w.buf[start:here]) + 1,
		Source: string(w.buf[start:stop]), Offset: here - start, Message: message,
	}
}

// found describes what stands at the current position, for an error.
func (s *scanner) found() string {
	if s.atEnd() {
		if len(s.stack) > 0 {
			return "the end of the entity"
		}
		return "the end of the file"
	}
	s.peekAt(utf8.UTFMax - 1)
	r, _ := utf8.DecodeRune(s.buf[s.pos:s.end])
	return fmt.Sprintf("%q", string(r))
}
