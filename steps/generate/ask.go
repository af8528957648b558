package generate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Document is a graph file that a [Query] reads.
type Document struct {
	// Name tells the notation by its end, .ttl or .nt, and stands for the file in messages.
	Name string
	// Base is the IRI that relative IRIs in it are resolved against.
	Base string
	// Graph is the IRI of the named graph it fills; empty is the default graph.
	Graph string
	Text  io.Reader
}

// Query is one SPARQL query over documents, for whoever wants to see what the
// engine answers.
type Query struct {
	// Name stands for the query in messages.
	Name, Text, Base string
	Documents        []Document
	Seed             uint64
	// Now is what NOW() returns; zero is the Unix epoch.
	Now time.Time
}

// Check parses the query and reads no document.
func (q Query) Check() error {
	_, err := q.parse()
	return err
}

// Run writes the result: "json", "csv", "tsv" or "table", and N-Triples, "nt",
// for a query that makes a graph.
func (q Query) Run(ctx context.Context, w io.Writer, format string) error {
	parsed, err := q.parse()
	if err != nil {
		return err
	}
	g, err := q.load(ctx)
	if err != nil {
		return err
	}
	result, err := parsed.Run(ctx, g, sparql.Limits{})
	if err != nil {
		return fault.Wrap(err, fault.Finding, "", "query "+q.Name)
	}
	return result.Write(w, format)
}

// Explain writes how the query would be executed over the documents.
func (q Query) Explain(ctx context.Context, w io.Writer) error {
	parsed, err := q.parse()
	if err != nil {
		return err
	}
	g, err := q.load(ctx)
	if err != nil {
		return err
	}
	plan, err := parsed.Explain(g)
	if err != nil {
		return fault.Wrap(err, fault.Finding, "", "query "+q.Name)
	}
	_, err = io.WriteString(w, strings.TrimRight(plan, "\n")+"\n")
	return err
}

func (q Query) parse() (*sparql.Query, error) {
	return sparql.Parse(q.Text, sparql.Options{File: q.Name, Base: q.Base, Now: (&Options{Now: q.Now}).now(), Seed: q.Seed})
}

func (q Query) load(ctx context.Context) (*graph.Graph, error) {
	builder := graph.NewBuilder()
	for i, d := range q.Documents {
		triples, err := notation(d.Name)
		if err != nil {
			return nil, err
		}
		read := turtle.Load
		if triples {
			read = turtle.LoadNTriples
		}
		opts := turtle.Options{File: d.Name, Base: d.Base, Graph: d.Graph, Scope: fmt.Sprintf("f%d", i)}
		err = read(reader{ctx, d.Text}, opts, builder)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
			return nil, fault.Wrap(err, fault.Unavailable, "", "load graph "+d.Name)
		}
	}
	return builder.Build(), nil
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
	if r.r == nil {
		return 0, errors.New("no text was given")
	}
	return r.r.Read(p)
}
