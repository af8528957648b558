// Package notation chooses the parser of a graph file by the end of its name:
// the one place that knows all notations of RDF that are read. It never looks
// into a file to guess.
package notation

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/jsonld"
	"github.com/ultrafast-ci/ultrafast/internal/graph/rdfxml"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Notation is one way to write a graph down.
type Notation struct {
	// Name is what the standard calls it.
	Name string
	// Ends are the ends of names, in lower case; the first is the usual one.
	Ends []string

	load func(context.Context, io.Reader, graph.ReadOptions, *graph.Builder) error
}

// parser makes a loader of a parser that reads a stream.
func parser(load func(io.Reader, graph.ReadOptions, *graph.Builder) error) func(context.Context, io.Reader, graph.ReadOptions, *graph.Builder) error {
	return func(_ context.Context, r io.Reader, opts graph.ReadOptions, b *graph.Builder) error {
		return load(r, opts, b)
	}
}

// Turtle is what people write by hand.
var Turtle = Notation{"Turtle", []string{".ttl", ".turtle"}, parser(turtle.Load)}

var all = []Notation{
	Turtle,
	{"N-Triples", []string{".nt"}, parser(turtle.LoadNTriples)},
	{"RDF/XML", []string{".rdf"}, parser(rdfxml.Load)},
	{"JSON-LD", []string{".jsonld"}, jsonld.Load},
}

// Of returns the notation of a file of the given name. A name with another end is
// a Finding that lists those that are known.
func Of(name string) (Notation, error) {
	end := strings.ToLower(path.Ext(name))
	for _, n := range all {
		if slices.Contains(n.Ends, end) {
			return n, nil
		}
	}
	return Notation{}, fault.New(fault.Finding, "convert it, or name it by its notation", "graph %s is in an unknown notation; known are %s", name, Known())
}

// Known lists the notations with the ends of their names.
func Known() string {
	var out []string
	for _, n := range all {
		out = append(out, fmt.Sprintf("%s (%s)", n.Ends[0], n.Name))
	}
	return strings.Join(out[:len(out)-1], ", ") + " and " + out[len(out)-1]
}

// Load reads a document into a builder, until the context ends. After an error
// the builder is to be dropped. A syntax error is a Finding that wraps a
// *graph.SyntaxError.
func (n Notation) Load(ctx context.Context, r io.Reader, opts graph.ReadOptions, b *graph.Builder) error {
	err := n.load(ctx, reader{ctx, r}, opts, b)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// reader ends with the context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
