package generate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/notation"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Document is a graph file that a [Query] reads.
type Document struct {
	// Name tells the notation by its end, as [notation.Of] does, and stands for the
	// file in messages.
	Name string
	// Base is the IRI that relative IRIs in it are resolved against.
	Base string
	// Graph is the IRI of the named graph it fills; empty is the default graph.
	Graph string
	// URL is the IRI by which FROM and FROM NAMED find a document without Graph;
	// empty if they cannot.
	URL  string
	Text io.Reader
}

// Question is the text of a SPARQL query.
type Question struct {
	// Name stands for the query in messages.
	Name, Text, Base string
}

// Query is SPARQL queries over documents, for whoever wants to see what the engine
// answers.
type Query struct {
	// Questions are answered in order, over documents that are loaded once.
	Questions []Question
	Documents []Document
	Limits    Limits
	Seed      uint64
	// Now is what NOW() returns; zero is the Unix epoch.
	Now time.Time
}

// asked is a question that was parsed.
type asked struct {
	name  string
	query *sparql.Query
	// picks tells that it has FROM or FROM NAMED.
	picks bool
}

// Check parses the queries and reads no document.
func (q Query) Check() error {
	_, err := q.parse()
	return err
}

// Run writes the results, with an empty line between two, as "json", "csv", "tsv",
// "table" or "nt"; a graph is N-Triples in every format.
func (q Query) Run(ctx context.Context, w io.Writer, format string) error {
	limits := q.Limits.withDefaults()
	return q.each(ctx, w, func(query *sparql.Query, g *graph.Graph) error {
		ctx, cancel := limits.within(ctx, "the query")
		defer cancel()
		result, err := query.Run(ctx, g, limits.engine())
		if err != nil {
			return err
		}
		return result.Write(w, format)
	})
}

// Explain writes how the queries would be executed over the documents.
func (q Query) Explain(ctx context.Context, w io.Writer) error {
	return q.each(ctx, w, func(query *sparql.Query, g *graph.Graph) error {
		plan, err := query.Explain(g)
		if err == nil {
			_, err = io.WriteString(w, strings.TrimRight(plan, "\n")+"\n")
		}
		return err
	})
}

// each parses all queries, loads the documents and calls answer for each query,
// with the graph that is its default dataset.
func (q Query) each(ctx context.Context, w io.Writer, answer func(*sparql.Query, *graph.Graph) error) error {
	parsed, err := q.parse()
	if err != nil {
		return err
	}
	all, plain, err := q.datasets(ctx, parsed)
	if err != nil {
		return err
	}
	for i, a := range parsed {
		if i > 0 {
			if _, err := io.WriteString(w, "\n"); err != nil {
				return err
			}
		}
		g := plain
		if a.picks {
			g = all
		}
		if err := answer(a.query, g); err != nil {
			return fault.Wrap(err, fault.Finding, "", "query "+a.name)
		}
	}
	return nil
}

func (q Query) parse() ([]asked, error) {
	var out []asked
	for _, question := range q.Questions {
		parsed, err := sparql.Parse(question.Text, sparql.Options{
			File: question.Name, Base: question.Base, Now: (&Options{Now: q.Now}).now(), Seed: q.Seed, MaxDepth: q.Limits.withDefaults().Depth,
		})
		if err != nil {
			return nil, err
		}
		from, named := parsed.Dataset()
		out = append(out, asked{question.Name, parsed, len(from)+len(named) > 0})
	}
	return out, nil
}

// datasets loads the documents for queries that pick graphs of all that there are,
// and for those that do not.
func (q Query) datasets(ctx context.Context, parsed []asked) (all, plain *graph.Graph, err error) {
	picks := func(a asked) bool { return a.picks }
	if !slices.ContainsFunc(parsed, picks) {
		plain, err = q.load(ctx)
		return nil, plain, err
	}
	// The documents of the default graph become graphs of their own names, and
	// the default graph is the merge of these.
	byURL := q
	byURL.Documents = slices.Clone(q.Documents)
	var merged, named []string
	for i := range byURL.Documents {
		d := &byURL.Documents[i]
		switch {
		case d.Graph != "":
			named = append(named, d.Graph)
		case d.URL != "":
			d.Graph = d.URL
			merged = append(merged, d.URL)
		}
	}
	if all, err = byURL.load(ctx); err != nil {
		return nil, nil, err
	}
	if !slices.ContainsFunc(parsed, func(a asked) bool { return !a.picks }) {
		return all, nil, nil
	}
	plain, err = all.Dataset(merged, named)
	return all, plain, err
}

// load reads the documents into one dataset.
func (q Query) load(ctx context.Context) (*graph.Graph, error) {
	limits := q.Limits.withDefaults()
	builder := limits.builder()
	for i, d := range q.Documents {
		n, err := notation.Of(d.Name)
		if err != nil {
			return nil, err
		}
		if d.Text == nil {
			return nil, fault.Wrap(errors.New("no text was given"), fault.Internal, "", "load graph "+d.Name)
		}
		opts := graph.ReadOptions{File: d.Name, Base: d.Base, Graph: d.Graph, Scope: fmt.Sprintf("f%d", i), MaxDepth: limits.Depth, MaxMemory: limits.Memory}
		if err := n.Load(ctx, d.Text, opts, builder); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			return nil, fault.Wrap(err, fault.Unavailable, "", "load graph "+d.Name)
		}
	}
	return builder.Build(), nil
}
