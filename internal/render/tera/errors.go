package tera

import (
	"fmt"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// errorAt returns a finding with the place of offset i.
func (p *parser) errorAt(i int, hint, format string, args ...any) error {
	return finding(place2error(p.name, p.src, i, fmt.Sprintf(format, args...), hint))
}

func place2error(name, src string, offset int, message, hint string) *render.Error {
	line, column, text := render.Position(src, offset)
	return &render.Error{File: name, Line: line, Column: column, Source: text, Message: message, Hint: hint}
}

func finding(e *render.Error) error {
	return &fault.Error{Kind: fault.Finding, Hint: e.Hint, Err: e}
}

// syntaxError reports what was expected at the furthest place that was
// reached in the tag that starts at start.
func (p *parser) syntaxError(start int, where string) error {
	if p.fatal != nil {
		return p.fatal
	}
	if p.far <= start || len(p.missing) == 0 {
		return p.errorAt(start, "", "this tag cannot be read %s", where)
	}
	hint := ""
	if p.farNamed {
		hint = `arguments have names, as in default(value="x")`
	}
	return p.errorAt(p.far, hint, "expected %s %s, found %s", list(p.missing), where, p.found())
}

func list(items []string) string {
	if len(items) == 1 {
		return items[0]
	}
	return strings.Join(items[:len(items)-1], ", ") + " or " + items[len(items)-1]
}

// found quotes the text at the furthest place.
func (p *parser) found() string {
	rest := p.src[min(p.far, len(p.src)):]
	if rest == "" {
		return "the end of the template"
	}
	n := 0
	for n < len(rest) && n < 20 && isIdent(rest[n]) {
		n++
	}
	if n == 0 {
		for i, c := range rest {
			if i > 0 {
				break
			}
			n = len(string(c))
		}
	}
	if strings.HasPrefix(rest, "%}") || strings.HasPrefix(rest, "}}") || strings.HasPrefix(rest, "{%") || strings.HasPrefix(rest, "{{") {
		n = 2
	}
	return fmt.Sprintf("%q", rest[:min(n, len(rest))])
}

func nearest(word string, known []string) (string, bool) { return fault.Nearest(word, known) }
