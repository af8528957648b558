package runner

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
)

// Syntax is what a runner takes for a command in the output of a step.
type Syntax struct {
	// Start begins a command at the start of a line, after white space.
	Start string
	// Anywhere begin a command wherever they stand in a line.
	Anywhere []string
}

// Stream is a writer between a step and its runner. Text that passes through it is
// never a command: a space is put before the last character of what would begin
// one, so that a person can still read it. Secrets come out as "***".
//
// GitHub's runner compares strings by the rules of a language and not byte by byte
// (ActionCommand.cs calls StartsWith and IndexOf without StringComparison.Ordinal),
// so that characters without a weight, such as U+200B, may stand between the
// characters of a command. Stream therefore looks through every control character
// and through everything that is not ASCII.
//
// It is safe for use by several goroutines.
type Stream struct {
	mu       sync.Mutex
	w        io.Writer
	start    string
	anywhere []matcher
	secrets  [][]byte
	held     []byte // the tail of what was written, if it may be the head of a secret

	atStart bool // only white space in this line up to now
	matched int  // characters of start that were seen in this line
	midLine bool // the last byte that went out was no line feed
}

// NewStream returns a Stream that writes to w.
func NewStream(w io.Writer, syntax Syntax) *Stream {
	s := &Stream{w: w, start: syntax.Start, atStart: true}
	for _, p := range syntax.Anywhere {
		s.anywhere = append(s.anywhere, newMatcher(p))
	}
	return s
}

// Hide has value shown as "***" from now on. Values of less than four bytes are not
// hidden: they would be found in every other word.
func (s *Stream) Hide(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range Lines(value) {
		if b := []byte(line); len(b) >= 4 && !slices.ContainsFunc(s.secrets, func(o []byte) bool { return bytes.Equal(o, b) }) {
			s.secrets = append(s.secrets, b)
		}
	}
	// The longest first: a secret may be the beginning of another.
	slices.SortStableFunc(s.secrets, func(a, b []byte) int { return len(b) - len(a) })
}

// Write writes p. What may be the beginning of a secret is kept back until the next
// call or [Stream.Flush] decides it.
func (s *Stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.emit(s.redact(p, false)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush writes what was kept back.
func (s *Stream) Flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

func (s *Stream) flush() error {
	return s.emit(s.redact(nil, true))
}

// Command writes line as it is, on a line of its own: it is for the runner.
func (s *Stream) Command(line string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.flush(); err != nil {
		return err
	}
	if s.midLine {
		line = "\n" + line
	}
	s.newLine()
	s.midLine = false
	_, err := io.WriteString(s.w, line+"\n")
	return err
}

// redact returns what may be written now of the text that was kept back and p. When
// it is the last, the beginning of a secret at its end is none.
func (s *Stream) redact(p []byte, last bool) []byte {
	if len(s.secrets) == 0 {
		return p
	}
	text := append(s.held, p...)
	s.held = nil
	var out []byte
next:
	for i := 0; i < len(text); i++ {
		for _, secret := range s.secrets {
			if text[i] != secret[0] {
				continue
			}
			rest := text[i:]
			if bytes.HasPrefix(rest, secret) {
				out = append(out, "***"...)
				i += len(secret) - 1
				continue next
			}
			if !last && len(rest) < len(secret) && bytes.HasPrefix(secret, rest) {
				s.held = bytes.Clone(rest)
				return out
			}
		}
		out = append(out, text[i])
	}
	return out
}

// emit writes text with its commands broken.
func (s *Stream) emit(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	out := make([]byte, 0, len(text)+8)
	for _, c := range text {
		if s.completes(c) {
			out = append(out, ' ')
		}
		out = append(out, c)
	}
	s.midLine = out[len(out)-1] != '\n'
	_, err := s.w.Write(out)
	return err
}

// completes reports whether c is the last character of the beginning of a command.
func (s *Stream) completes(c byte) bool {
	if c == '\n' || c == '\r' { // both end a line for a runner
		s.newLine()
		return false
	}
	if c != ' ' && c != '\t' && (c < 0x20 || c >= 0x7f) {
		return false // may have no weight, or be white space
	}
	whole := s.completesStart(c)
	for i := range s.anywhere {
		whole = s.anywhere[i].next(c) || whole
	}
	if whole {
		s.atStart = false
		for i := range s.anywhere {
			s.anywhere[i].matched = 0
		}
	}
	return whole
}

func (s *Stream) completesStart(c byte) bool {
	switch {
	case s.start == "" || !s.atStart:
		return false
	case s.matched == 0 && (c == ' ' || c == '\t'):
		return false
	case c != s.start[s.matched]:
		s.atStart = false
		return false
	}
	s.matched++
	return s.matched == len(s.start)
}

func (s *Stream) newLine() {
	s.atStart, s.matched = true, 0
	for i := range s.anywhere {
		s.anywhere[i].matched = 0
	}
}

// matcher finds one pattern in a stream (Knuth, Morris and Pratt).
type matcher struct {
	pattern string
	back    []int // back[n] is the longest border of pattern[:n]
	matched int
}

func newMatcher(pattern string) matcher {
	back := make([]int, len(pattern)+1)
	for n := 2; n <= len(pattern); n++ {
		for k := n - 1; k > 0; k-- {
			if strings.HasPrefix(pattern, pattern[n-k:n]) {
				back[n] = k
				break
			}
		}
	}
	return matcher{pattern: pattern, back: back}
}

func (m *matcher) next(c byte) bool {
	for m.matched > 0 && m.pattern[m.matched] != c {
		m.matched = m.back[m.matched]
	}
	if m.pattern[m.matched] == c {
		m.matched++
	}
	if m.matched < len(m.pattern) {
		return false
	}
	m.matched = 0
	return true
}
