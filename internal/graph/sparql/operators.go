package sparql

import (
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// What follows are operators of SPARQL on single terms, for languages that are
// defined by them, as SHACL is.

// Compare orders two terms as the operators < and > do (section 17.3). ok is
// false if they cannot be compared: for terms that are no literals of types
// with an order, for NaN, and for times of which only one has a zone and the
// order depends on the other's.
func Compare(a, b graph.Term) (order int, ok bool) {
	x, y := valueOf(a, 0), valueOf(b, 0)
	order, ordered, ok := less(&x, &y)
	return order, ordered && ok
}

// IllTyped tells whether a literal is of a datatype that the operators know but
// its lexical form is not one of that datatype's (section 17.1).
func IllTyped(t graph.Term) bool { return valueOf(t, 0).ill }

// LangMatches tells whether a language tag is within a basic range (section
// 17.4.3.13; RFC 4647, section 3.3.1).
func LangMatches(tag, pattern string) bool {
	tag, pattern = strings.ToLower(tag), strings.ToLower(pattern)
	if pattern == "*" {
		return tag != ""
	}
	return tag == pattern || strings.HasPrefix(tag, pattern+"-")
}

// Regex is a regular expression of REGEX (section 17.4.3.14).
type Regex struct{ m *matcher }

// Pattern returns the regular expression that REGEX would match with, and false
// for one that is not valid, longer than 4096 bytes or too large when repetitions
// are written out, or refers back to its own groups, which cannot be matched in
// linear time.
func Pattern(pattern, flags string) (Regex, bool) {
	if strings.ContainsRune(pattern, 0) {
		return Regex{}, false // which XML, and so the language of patterns, does not have
	}
	re := compilePattern(pattern + "\x00" + flags)
	if re == nil {
		return Regex{}, false
	}
	m := newMatcher(re)
	return Regex{m}, m != nil
}

// Match tells whether the expression matches a part of the text. Texts that would
// take more than some seconds are an error.
func (r Regex) Match(text string) (bool, error) {
	if err := r.m.tooLong(text); err != nil {
		return false, err
	}
	return r.m.match(text), nil
}
