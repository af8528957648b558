// Package fault says whose turn it is when something fails.
//
// An error carries a [Kind], which decides the exit code and tells the reader
// what to do next, and a hint, one sentence that says how. An error without a
// kind is a bug in this program ([Internal]). Errors are reported once, by the
// main that every binary shares; everything below returns them.
//
//	return fault.New(fault.Finding, "run `market search` to see what there is",
//		"package %q is not in the index", id)
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind says whose turn it is after a failure.
type Kind int

const (
	// Internal is a bug in this program; exit code 4. It is the kind of every
	// error that was not given another.
	Internal Kind = iota
	// Finding means that what was checked is wrong: fix it and run again; exit code 1.
	Finding
	// Usage means that the call or its configuration is wrong: fix the call; exit code 2.
	Usage
	// Unavailable means that something outside was missing: run again, or
	// elsewhere; exit code 3. It is the only kind worth retrying unchanged.
	Unavailable
	// Interrupted means that the run was cancelled from outside; exit code 130.
	Interrupted
)

// String returns the name of the kind as it appears in JSON errors.
func (k Kind) String() string {
	switch k {
	case Finding:
		return "finding"
	case Usage:
		return "usage"
	case Unavailable:
		return "unavailable"
	case Interrupted:
		return "interrupted"
	default:
		return "internal"
	}
}

// ExitCode returns the exit code of a process that ends with this kind.
func (k Kind) ExitCode() int {
	switch k {
	case Finding:
		return 1
	case Usage:
		return 2
	case Unavailable:
		return 3
	case Interrupted:
		return 130
	default:
		return 4
	}
}

// Error is an error with a kind and a hint.
type Error struct {
	Kind Kind
	// Hint says what to do next, in one sentence; empty if the message says it.
	Hint string
	// Err is what happened. It is never nil.
	Err error
}

// Error returns the message without the hint.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the given kind. The message is formatted as by
// [fmt.Errorf], so %w wraps; hint may be empty.
func New(kind Kind, hint, format string, args ...any) error {
	return &Error{Kind: kind, Hint: hint, Err: fmt.Errorf(format, args...)}
}

// Wrap gives err a kind and a hint and puts "doing: " before its message. An
// err that has a kind already keeps it, and keeps its own hint if it has one:
// whoever was nearest to the failure knows best. Wrap(nil) is nil.
func Wrap(err error, kind Kind, hint, doing string) error {
	if err == nil {
		return nil
	}
	var inner *Error
	if errors.As(err, &inner) {
		kind = inner.Kind
		if inner.Hint != "" {
			hint = inner.Hint
		}
	}
	return &Error{Kind: kind, Hint: hint, Err: fmt.Errorf("%s: %w", doing, err)}
}

// Also adds another way out to the hint of err. Also(nil) is nil.
func Also(err error, hint string) error {
	if err == nil {
		return nil
	}
	if first := HintOf(err); first != "" {
		hint = first + "; " + hint
	}
	return &Error{Kind: KindOf(err), Hint: hint, Err: err}
}

// KindOf returns the kind of err. A cancelled context is [Interrupted], a
// deadline [Unavailable]; of several joined errors the first with a kind counts.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	default:
		return Internal
	}
}

// HintOf returns the first hint found in err, or the empty string.
func HintOf(err error) string {
	var e *Error
	for errors.As(err, &e) {
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
