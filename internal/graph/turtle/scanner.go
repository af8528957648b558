package turtle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// scanner is a window over the input: buf[pos:end] is read and not yet
// consumed. What lies before pos is kept from the start of the current token
// and, as far as it is not too far away, of the current line, for errors.
type scanner struct {
	r    io.Reader
	file string
	buf  []byte
	pos  int
	end  int
	done bool // r is exhausted

	mark  int   // start of the token being read; -1 between tokens
	place       // of pos
	start place // of mark

	maxBytes, total int64
	maxToken        int
}

// place is a line, and where it is in the window.
type place struct {
	line      int // from 1
	lineStart int // index in buf of the start of the line, or of what is left of it
	gone      int // characters of the line that are gone from buf
	goneBytes int // and bytes
}

// drop takes note that n bytes went from the front of the window.
func (p *place) drop(buf []byte, n int) {
	if p.lineStart < n {
		p.gone += utf8.RuneCount(buf[p.lineStart:n])
		p.goneBytes += n - p.lineStart
	}
	p.lineStart = max(p.lineStart-n, 0)
}

// begin marks the start of a token at the current position.
func (s *scanner) begin() { s.mark, s.start = s.pos, s.place }

const (
	windowSize = 64 << 10
	lineKept   = 4 << 10 // bytes of the current line kept for errors
)

func (s *scanner) init(r io.Reader, opts Options) {
	s.r, s.file = r, opts.File
	s.buf = make([]byte, windowSize)
	s.mark, s.line = -1, 1
	s.maxBytes, s.maxToken = opts.MaxBytes, opts.MaxToken
}

// byteOrderMark skips a byte order mark, which is not part of the text.
func (s *scanner) byteOrderMark() {
	if s.peekAt(2) == 0xBF && s.buf[0] == 0xEF && s.buf[1] == 0xBB {
		s.pos, s.lineStart = 3, 3
	}
}

// peek returns the next byte, or 0 at the end of the input. A NUL byte in the
// input is refused wherever it stands, by not being part of any token.
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

// fill reads more into the window and tells whether it got any.
func (s *scanner) fill() bool {
	if s.done {
		return false
	}
	keep, line := s.pos, s.lineStart
	if s.mark >= 0 {
		keep, line = s.mark, s.start.lineStart
	}
	if keep = min(keep, max(line, keep-lineKept)); keep > 0 {
		s.drop(s.buf, keep)
		if s.mark >= 0 {
			s.start.drop(s.buf, keep)
			s.mark -= keep
		}
		copy(s.buf, s.buf[keep:s.end])
		s.pos, s.end = s.pos-keep, s.end-keep
	}
	if s.end == len(s.buf) {
		if s.mark >= 0 && s.pos-s.mark > s.maxToken {
			s.fail("a token longer than %d bytes", s.maxToken)
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

// newline is called after a line feed was consumed.
func (s *scanner) newline() {
	s.line++
	s.lineStart, s.gone, s.goneBytes = s.pos, 0, 0
}

// space skips white space and comments.
func (s *scanner) space() {
	for {
		for s.pos < s.end {
			switch s.buf[s.pos] {
			case ' ', '\t', '\r':
				s.pos++
			case '\n':
				s.pos++
				s.newline()
			case '#':
				s.comment()
			default:
				return
			}
		}
		if !s.fill() {
			return
		}
	}
}

// comment skips to the end of the line.
func (s *scanner) comment() {
	for {
		if i := bytes.IndexAny(s.buf[s.pos:s.end], "\n\r"); i >= 0 {
			s.pos += i
			return
		}
		s.pos = s.end
		if !s.fill() {
			return
		}
	}
}

// fail ends the reading with an error at the current position.
func (s *scanner) fail(format string, args ...any) { s.failHint("", format, args...) }

func (s *scanner) failHint(hint, format string, args ...any) {
	panic(failure{s.errorAt(s.pos, s.place, fmt.Sprintf(format, args...)).Fault(hint)})
}

// failToken ends the reading with an error at the start of the current token.
func (s *scanner) failToken(hint, format string, args ...any) {
	at, line := s.pos, s.place
	if s.mark >= 0 {
		at, line = s.mark, s.start
	}
	panic(failure{s.errorAt(at, line, fmt.Sprintf(format, args...)).Fault(hint)})
}

func (s *scanner) errorAt(at int, line place, message string) *graph.SyntaxError {
	stop := s.end
	if i := bytes.IndexAny(s.buf[at:s.end], "\n\r"); i >= 0 {
		stop = at + i
	}
	start := line.lineStart
	return &graph.SyntaxError{
		File: s.file, Line: line.line, Column: line.gone + utf8.RuneCount(s.buf[start:at]) + 1,
		Source: string(s.buf[start:stop]), Offset: at - start, Message: message,
	}
}

// found describes what stands at the current position, for an error.
func (s *scanner) found() string {
	if s.atEnd() {
		return "the end of the file"
	}
	s.peekAt(utf8.UTFMax - 1)
	r, _ := utf8.DecodeRune(s.buf[s.pos:s.end])
	return fmt.Sprintf("%q", string(r))
}

// rune returns the next character and its length, or 0, 0 at the end. It
// fails on bytes that are not UTF-8.
func (s *scanner) rune() (rune, int) {
	c := s.peek()
	if c < utf8.RuneSelf {
		if c == 0 && s.atEnd() {
			return 0, 0
		}
		return rune(c), 1
	}
	s.peekAt(utf8.UTFMax - 1)
	r, n := utf8.DecodeRune(s.buf[s.pos:s.end])
	if r == utf8.RuneError && n == 1 {
		s.fail("a byte that is not UTF-8")
	}
	return r, n
}
