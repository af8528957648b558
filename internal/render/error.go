package render

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Error is a mistake in a template or in what it was given, with its place.
type Error struct {
	// File is the name of the template, Line and Column (in characters) count from one.
	File         string
	Line, Column int
	// Source is the line of the template, without its end.
	Source string
	// Message says what is wrong, in one line and without the place.
	Message string
	// Hint says what to do; may be empty.
	Hint string
	// Chain says how the render came to this template, innermost first.
	Chain []Call
	// Err is the cause, if something outside of the template failed.
	Err error
}

// Call is an include or a macro call on the way to an error.
type Call struct {
	// What is for example `include "header"` or `macro forms::input`.
	What         string
	File         string
	Line, Column int
}

// Error returns the place and the message, the source line with a caret under
// the place, and the chain of includes and macros.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Short())
	if e.Source != "" {
		line, caret := excerpt(e.Source, e.Column)
		fmt.Fprintf(&b, "\n    %s\n    %s^", line, strings.Repeat(" ", caret))
	}
	for _, c := range e.Chain {
		fmt.Fprintf(&b, "\n  in %s at %s:%d:%d", c.What, c.File, c.Line, c.Column)
	}
	return b.String()
}

// Short returns the place and the message in one line.
func (e *Error) Short() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

const maxExcerpt = 120 // characters of a source line in a message

// excerpt returns the part of a line around column, tabs as one space, and how
// far right of its start the column is.
func excerpt(line string, column int) (string, int) {
	runes := []rune(strings.ReplaceAll(line, "\t", " "))
	at := min(max(column-1, 0), len(runes))
	from := 0
	if at > maxExcerpt*2/3 {
		from = at - maxExcerpt/2
	}
	to := min(len(runes), from+maxExcerpt)
	return string(runes[from:to]), at - from
}

// Position returns the line and the column (in characters) of a byte offset,
// both from one, and the text of that line.
func Position(source string, offset int) (line, column int, text string) {
	offset = min(max(offset, 0), len(source))
	line = 1 + strings.Count(source[:offset], "\n")
	start := strings.LastIndexByte(source[:offset], '\n') + 1
	text = source[start:]
	if end := strings.IndexByte(text, '\n'); end >= 0 {
		text = text[:end]
	}
	return line, 1 + utf8.RuneCountInString(source[start:offset]), strings.TrimSuffix(text, "\r")
}
