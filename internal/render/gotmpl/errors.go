package gotmpl

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func finding(e *render.Error) error {
	return &fault.Error{Kind: fault.Finding, Hint: e.Hint, Err: e}
}

// place returns an error at a byte of a source.
func (t *Template) place(file, source string, offset int, message string) *render.Error {
	line, column, text := render.Position(source, offset)
	return &render.Error{File: file, Line: line, Column: column, Source: text, Message: message}
}

func (t *Template) refuse(file, source string, offset int, format string, a ...any) error {
	return finding(t.place(file, source, offset, fmt.Sprintf("limit reached: "+format, a...)))
}

// syntax gives an error of the parser, which knows the line, the first tag of that
// line as its column.
func (t *Template) syntax(file, source string, err error) error {
	line, _, message := located(file, err.Error())
	e := atLine(file, source, line, -1, message)
	if message == "unexpected EOF" {
		e.Message = "an if, a range, a with, a block or a define is never closed"
		e.Hint = "add {{ end }}"
	}
	return finding(e)
}

// atLine returns an error in a line, at a byte of it from 0; -1 is its first tag.
func atLine(file, source string, line, column int, message string) *render.Error {
	start := 0
	for range line - 1 {
		next := strings.IndexByte(source[start:], '\n')
		if next < 0 {
			break
		}
		start += next + 1
	}
	if column < 0 {
		text, _, _ := strings.Cut(source[start:], "\n")
		column = max(strings.Index(text, "{{"), 0)
	}
	l, c, text := render.Position(source, start+column)
	return &render.Error{File: file, Line: l, Column: c, Source: text, Message: message}
}

// located takes the place from the text of an error: "template: file:1:2: message".
// A column of -1 is none.
func located(file, text string) (line, column int, message string) {
	rest, ok := strings.CutPrefix(text, "template: "+file+":")
	if !ok {
		return 1, 0, strings.TrimPrefix(text, "template: ")
	}
	digits, rest, _ := strings.Cut(rest, ":")
	line, _ = strconv.Atoi(digits)
	digits, after, found := strings.Cut(rest, ":")
	if column, err := strconv.Atoi(digits); found && err == nil {
		return line, column, strings.TrimSpace(after)
	}
	return line, -1, strings.TrimSpace(rest)
}

var (
	executing = regexp.MustCompile(`^executing ".*?" at <(?s:.*?)>: `)
	noEntry   = regexp.MustCompile(`map has no entry for key "(.*)"$`)
)

// report makes the error that a caller sees.
func (r *run) report(err error) error {
	if ctxErr := r.ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
		return fmt.Errorf("rendering %s: %w", r.t.name, ctxErr)
	}
	var inner *fault.Error
	if errors.As(err, &inner) && inner.Kind != fault.Finding {
		return fault.Wrap(inner, inner.Kind, inner.Hint, "rendering "+r.t.name)
	}
	file, text := r.t.name, innermost(err.Error())
	for _, name := range slices.Sorted(maps.Keys(r.t.sources)) { // the longest that fits comes last
		if strings.HasPrefix(text, "template: "+name+":") {
			file = name
		}
	}
	line, column, message := located(file, text)
	message = executing.ReplaceAllString(message, "")
	var bound *limit
	if errors.As(err, &bound) {
		message = bound.Error()
	}
	e := atLine(file, r.t.sources[file], line, column, message)
	e.Err = err
	if key := noEntry.FindStringSubmatch(message); key != nil {
		e.Message = fmt.Sprintf("variable %q is not defined", key[1])
		if e.Hint = fault.DidYouMean(key[1], slices.Collect(maps.Keys(r.vars))); e.Hint == "" {
			e.Hint = fmt.Sprintf(`set it, in --vars-file for example, or write {{ get . %q | default "…" }}`, key[1])
		}
	}
	for _, number := range slices.Backward(r.calls) {
		if number < 0 {
			continue
		}
		c := r.t.calls[number]
		line, column, _ := render.Position(r.t.sources[c.file], int(c.pos))
		e.Chain = append(e.Chain, render.Call{What: fmt.Sprintf("template %q", c.name), File: c.file, Line: line, Column: column})
	}
	return finding(e)
}

// innermost drops what includes put before the error of what they include.
func innermost(text string) string {
	const sign = "error calling include: "
	if i := strings.LastIndex(text, sign); i >= 0 && strings.HasPrefix(text[i+len(sign):], "template: ") {
		return text[i+len(sign):]
	}
	return text
}
