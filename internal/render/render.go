// Package render holds what every template language of the project shares:
// the engine interface, the value model with its ordered map, the limits, and
// the error that shows a place.
//
// It never reads a file, a clock, the environment or a source of randomness:
// sources come through a [Loader], query results through a [Querier], and a
// language takes its clock and its seed from its options.
package render

import (
	"context"
	"io"
)

// Engine is a template language. Implementations are safe for concurrent use.
type Engine interface {
	// Render parses source and writes what it gives for vars to w. Nothing is
	// written unless the whole template was rendered. The name stands for the
	// template in messages and is what a [Loader] resolves includes against.
	Render(ctx context.Context, w io.Writer, name, source string, vars *Map) error
	// Variables parses source and returns the names it reads without setting
	// them itself, sorted.
	Variables(name, source string) ([]string, error)
}

// Loader finds the source of a template that another one names.
type Loader interface {
	// Load returns the source of the template called name, as written in the
	// template called from, and the name under which it is known from then on.
	// The error of a missing template satisfies errors.Is(err, fs.ErrNotExist).
	Load(name, from string) (resolved, source string, err error)
}

// Querier answers a SPARQL query with a value: a bool for ASK, an array of
// rows (see [NewRow]) for SELECT, and an array of maps with subject, predicate
// and object for CONSTRUCT and DESCRIBE.
type Querier interface {
	Query(ctx context.Context, query string) (any, error)
}

// Limits bound one parse and one render. A field that is zero or negative
// takes its value from [DefaultLimits].
type Limits struct {
	// SourceBytes bounds the length of one template source.
	SourceBytes int
	// ParseDepth bounds how deep tags and expressions nest in a source.
	ParseDepth int
	// RenderDepth bounds how deep includes and macro calls nest.
	RenderDepth int
	// ValueDepth bounds how deep an array or map nests when it is printed,
	// encoded or compared.
	ValueDepth int
	// Steps bounds the work of one render: nodes, iterations, calls, array
	// elements touched by a filter.
	Steps int64
	// Range bounds the number of elements that range() returns.
	Range int
	// OutputBytes bounds the length of the output.
	OutputBytes int
	// StringBytes bounds the bytes of all strings and arrays created during one
	// render, whether they are still in use or not.
	StringBytes int64
}

// DefaultLimits returns the limits of a render whose caller sets none. The
// largest step count takes about a second on one core.
func DefaultLimits() Limits {
	return Limits{
		SourceBytes: 8 << 20,
		ParseDepth:  200,
		RenderDepth: 100,
		ValueDepth:  128,
		Steps:       20_000_000,
		Range:       1_000_000,
		OutputBytes: 64 << 20,
		StringBytes: 256 << 20,
	}
}

// WithDefaults returns l with every unset field taken from [DefaultLimits].
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	set(&l.SourceBytes, d.SourceBytes)
	set(&l.ParseDepth, d.ParseDepth)
	set(&l.RenderDepth, d.RenderDepth)
	set(&l.ValueDepth, d.ValueDepth)
	set(&l.Steps, d.Steps)
	set(&l.Range, d.Range)
	set(&l.OutputBytes, d.OutputBytes)
	set(&l.StringBytes, d.StringBytes)
	return l
}

func set[T int | int64](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}
