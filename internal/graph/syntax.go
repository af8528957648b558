package graph

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// SyntaxError is a place in a file where it cannot be read, and why.
type SyntaxError struct {
	File   string
	Line   int // from 1
	Column int // from 1, in characters
	// Source is the line, without its end, possibly shortened.
	Source string
	// Offset is how many bytes of Source stand before the place.
	Offset  int
	Message string
}

// Error returns "file:line:column: message", the line itself and a caret below it.
func (e *SyntaxError) Error() string {
	file := e.File
	if file == "" {
		file = "input"
	}
	head := fmt.Sprintf("%s:%d:%d: %s", file, e.Line, e.Column, e.Message)
	source, offset := excerpt(e.Source, e.Offset)
	if strings.TrimSpace(source) == "" {
		return head
	}
	number := fmt.Sprintf("%5d | ", e.Line)
	return fmt.Sprintf("%s\n%s%s\n%s| %s^", head, number, source, strings.Repeat(" ", len(number)-2), blanks(source[:offset]))
}

// Fault returns the error as a finding with a hint, which may be empty.
func (e *SyntaxError) Fault(hint string) error {
	return fault.New(fault.Finding, hint, "%w", e)
}

const maxExcerpt = 160 // bytes

// excerpt shortens a long line around the place and makes every byte of it printable.
func excerpt(line string, offset int) (string, int) {
	offset = min(max(offset, 0), len(line))
	from := max(0, offset-maxExcerpt/2)
	to := min(len(line), from+maxExcerpt)
	for from > 0 && from < len(line) && !utf8.RuneStart(line[from]) {
		from--
	}
	for to < len(line) && !utf8.RuneStart(line[to]) {
		to++
	}
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if r == '\t' {
				return r
			}
			if r < ' ' || r == 0x7f || r == utf8.RuneError {
				return '?'
			}
			return r
		}, strings.ToValidUTF8(s, "?"))
	}
	before := clean(line[from:offset])
	return before + clean(line[offset:to]), len(before)
}

// blanks returns as many blanks as s has characters, keeping tabs.
func blanks(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, s)
}

// IsNameStart is PN_CHARS_BASE of the grammars of Turtle and SPARQL (Turtle 1.1,
// section 6.5, production [163s]).
func IsNameStart(r rune) bool {
	switch {
	case r < utf8.RuneSelf:
		return r|0x20 >= 'a' && r|0x20 <= 'z'
	case r < 0xC0:
		return false
	case r <= 0x2FF:
		return r != 0xD7 && r != 0xF7
	case r < 0x2000:
		return r >= 0x370 && r != 0x37E
	case r < 0x3001:
		return r == 0x200C || r == 0x200D || r >= 0x2070 && r <= 0x218F || r >= 0x2C00 && r <= 0x2FEF
	case r <= 0xD7FF:
		return true
	}
	return r >= 0xF900 && r <= 0xFDCF || r >= 0xFDF0 && r <= 0xFFFD || r >= 0x10000 && r <= 0xEFFFF
}

// IsNameChar is PN_CHARS of the same grammars (production [166s]).
func IsNameChar(r rune) bool {
	return IsNameStart(r) || r == '_' || r == '-' || r >= '0' && r <= '9' ||
		r == 0xB7 || r >= 0x300 && r <= 0x36F || r == 0x203F || r == 0x2040
}

// wellKnown are the prefixes that prefix.cc and the W3C's own documents give
// one meaning to. They are never declared silently: they are only suggested.
var wellKnown = map[string]string{
	"rdf":     RDF,
	"rdfs":    "http://www.w3.org/2000/01/rdf-schema#",
	"xsd":     XSD,
	"owl":     "http://www.w3.org/2002/07/owl#",
	"sh":      "http://www.w3.org/ns/shacl#",
	"skos":    "http://www.w3.org/2004/02/skos/core#",
	"foaf":    "http://xmlns.com/foaf/0.1/",
	"dc":      "http://purl.org/dc/elements/1.1/",
	"dcterms": "http://purl.org/dc/terms/",
	"dct":     "http://purl.org/dc/terms/",
	"dcat":    "http://www.w3.org/ns/dcat#",
	"prov":    "http://www.w3.org/ns/prov#",
	"schema":  "http://schema.org/",
	"vann":    "http://purl.org/vocab/vann/",
	"void":    "http://rdfs.org/ns/void#",
	"time":    "http://www.w3.org/2006/time#",
	"fn":      "http://www.w3.org/2005/xpath-functions#",
	"doap":    "http://usefulinc.com/ns/doap#",
	"org":     "http://www.w3.org/ns/org#",
	"vcard":   "http://www.w3.org/2006/vcard/ns#",
}

// PrefixHint says how to declare a prefix that is used without declaration:
// with its usual IRI if it has one, or with the nearest declared prefix.
// keyword is "PREFIX", "@prefix" or "xmlns", as the language at hand spells it.
func PrefixHint(prefix string, declared []string, keyword string) string {
	declaration := func(iri string) string {
		switch keyword {
		case "xmlns":
			return fmt.Sprintf("`xmlns:%s=%q`", prefix, iri)
		case "@prefix":
			return fmt.Sprintf("`@prefix %s: <%s> .`", prefix, iri)
		}
		return fmt.Sprintf("`%s %s: <%s>`", keyword, prefix, iri)
	}
	if iri, ok := wellKnown[prefix]; ok {
		return "add " + declaration(iri)
	}
	if near, ok := fault.Nearest(prefix, declared); ok {
		return fmt.Sprintf("did you mean %q?", near+":")
	}
	return "declare it with " + declaration("…")
}
