package generate

import (
	"errors"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Engines count lines in the text they are given, which is a part of a template:
// its body, or one string of its front matter. What follows turns their places
// into places of the template.

// relocate gives an error in the string n its line in the template. skip is the
// number of lines that were put before the string.
func (t *template) relocate(err error, n *document.Node, skip int) error {
	if err == nil {
		return nil
	}
	if !positioned(err) {
		return fault.New(fault.KindOf(err), fault.HintOf(err), "%s: %w", n.Place, err)
	}
	line, column := n.Line, n.Column-1
	if i := n.Line - 1; i >= 0 && i < len(t.lines) {
		// A block begins on the line after its sign, indented; how far does not matter.
		if at := strings.TrimLeft(t.lines[i][min(max(column, 0), len(t.lines[i])):], " "); strings.HasPrefix(at, "|") || strings.HasPrefix(at, ">") {
			line, column = line+1, 0
		} else if strings.HasPrefix(at, `"`) || strings.HasPrefix(at, "'") {
			column++
		}
	}
	return t.shift(err, line-1-skip, column)
}

// shift moves the places of an error that are in this template by so many lines;
// those on the first line of the text by columns too.
func (t *template) shift(err error, lines, columns int) error {
	if err == nil || lines == 0 && columns == 0 {
		return err
	}
	move := func(line, column *int) {
		if *line == 1 {
			*column += columns
		}
		*line = max(1, *line+lines)
	}
	var inTemplate *render.Error
	if errors.As(err, &inTemplate) {
		moved := *inTemplate
		if moved.File == t.name {
			move(&moved.Line, &moved.Column)
		}
		moved.Chain = append([]render.Call(nil), moved.Chain...)
		for i := range moved.Chain {
			if call := &moved.Chain[i]; call.File == t.name {
				move(&call.Line, &call.Column)
			}
		}
		// The caret is placed by the column of the excerpt, which stays.
		return &fault.Error{Kind: fault.KindOf(err), Hint: fault.HintOf(err), Err: placed(&moved, inTemplate.Column)}
	}
	var inText *graph.SyntaxError
	if errors.As(err, &inText) {
		moved := *inText
		moved.File = t.name
		move(&moved.Line, &moved.Column)
		return &fault.Error{Kind: fault.KindOf(err), Hint: fault.HintOf(err), Err: &moved}
	}
	return err
}

// positioned reports whether the error of an engine has a place.
func positioned(err error) bool {
	var inTemplate *render.Error
	var inText *graph.SyntaxError
	return errors.As(err, &inTemplate) || errors.As(err, &inText)
}

// placed drops the excerpt if its column no longer is that of the message: a
// caret under the wrong character misleads.
func placed(e *render.Error, column int) *render.Error {
	if e.Column != column {
		e.Source = ""
	}
	return e
}

// errorFile returns the file that a syntax error names.
func errorFile(err error) string {
	var inText *graph.SyntaxError
	if errors.As(err, &inText) {
		return inText.File
	}
	return ""
}
