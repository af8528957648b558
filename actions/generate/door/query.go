package door

import (
	"context"
	"errors"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
)

// Limits are the flags that bound a query; each wins over its key of [query] in the
// project file.
type Limits struct {
	MaxRows       int           `placeholder:"N" help:"Most rows or triples of a query's result. Default: as the project says, else 1000000."`
	QueryTimeout  time.Duration `placeholder:"TIME" help:"Longest time of a query. Default: as the project says, else 2m."`
	MaxMemory     int64         `placeholder:"MB" help:"Most memory of a query, and of its graph, in MiB. Default: as the project says, else 1024."`
	MaxDepth      int           `placeholder:"N" help:"Deepest nesting of a query, and of a graph file. Default: as the project says, else 256."`
	MaxPathLength int           `placeholder:"N" help:"Most steps of a property path with * or +. Default: as the project says, else 1000000."`
}

func (l Limits) limits(project *config.Project) generate.Limits {
	q := project.Query
	limits := generate.Limits{
		Rows: q.MaxRows, Time: time.Duration(q.TimeoutSeconds) * time.Second, Memory: int64(q.MaxMemoryMB) << 20,
		Depth: q.MaxDepth, PathLength: q.MaxPathLength,
	}
	if l.MaxRows > 0 {
		limits.Rows = l.MaxRows
	}
	if l.QueryTimeout > 0 {
		limits.Time = l.QueryTimeout
	}
	if l.MaxMemory > 0 {
		limits.Memory = min(l.MaxMemory, 1<<32) << 20
	}
	if l.MaxDepth > 0 {
		limits.Depth = l.MaxDepth
	}
	if l.MaxPathLength > 0 {
		limits.PathLength = l.MaxPathLength
	}
	return limits
}

// Query runs queries.
type Query struct {
	Query  []string `required:"" type:"existingfile" placeholder:"FILE" help:"SPARQL query; may be repeated: the graphs are loaded once."`
	Data   []string `type:"existingfile" placeholder:"FILE" help:"Graph file, .ttl, .nt, .rdf or .jsonld, for the default graph; may be repeated."`
	Graph  []string `sep:"none" placeholder:"IRI=FILE" help:"Graph file for a named graph; may be repeated, also for one graph."`
	Base   string   `placeholder:"IRI" help:"Base IRI of queries and files. Default: each file's own URL."`
	Format string   `enum:"json,csv,tsv,table,nt" default:"table" help:"Syntax of the result: ${enum}; a graph is always N-Triples."`
	Plan   bool     `help:"Print how the queries would be executed."`
	Check  bool     `help:"Only parse the queries."`
	Seed   uint64   `help:"Seed of RAND, UUID and STRUUID."`
	Limits
}

// Help shows how it is called.
func (*Query) Help() string {
	return `NOW() is the time of SOURCE_DATE_EPOCH where that is set, else of the clock.

Examples:
  ultrafast-generate query --data model.ttl --query entities.rq
  ultrafast-generate query --data model.ttl --query entities.rq --format json
  ultrafast-generate query --graph http://example.com/g=a.ttl --query named.rq
  ultrafast-generate query --data model.ttl --query entities.rq --plan`
}

// Run prints the results.
func (q *Query) Run(ctx context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	now, err := present(a)
	if err != nil {
		return err
	}
	query := generate.Query{Limits: q.limits(project), Seed: q.Seed, Now: now}
	for _, file := range q.Query {
		text, err := readQuery(a, file)
		if err != nil {
			return err
		}
		query.Questions = append(query.Questions, generate.Question{Name: file, Text: string(text), Base: baseOf(a, q.Base, file)})
	}
	if q.Check {
		return query.Check()
	}
	if query.Documents, err = documents(a, q.Data, q.Base); err != nil {
		return err
	}
	for _, graph := range q.Graph {
		i := strings.LastIndexByte(graph, '=') // an IRI may have one in its query
		if i <= 0 {
			return fault.New(fault.Usage, "write --graph IRI=FILE", "--graph %q names no graph and file", graph)
		}
		named, err := documents(a, []string{graph[i+1:]}, q.Base)
		if err != nil {
			return err
		}
		named[0].Graph = graph[:i]
		query.Documents = append(query.Documents, named...)
	}
	if q.Plan {
		return query.Explain(ctx, a.Stdout)
	}
	return query.Run(ctx, a.Stdout, q.Format)
}

// readQuery reads no more of a file than shows that it is too long.
func readQuery(a *app.App, file string) (_ []byte, err error) {
	f, err := a.OpenFile("query", file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err := io.ReadAll(io.LimitReader(f, sparql.MaxQuery+1))
	return text, fault.Wrap(err, fault.Unavailable, "name a file that can be read", "read query "+file)
}

// present returns what NOW() is: SOURCE_DATE_EPOCH, for results that can be
// repeated, else the clock.
func present(a *app.App) (time.Time, error) {
	now, err := fixed(a)
	if now.IsZero() && err == nil {
		now = a.Now()
	}
	return now, err
}

// lastSecond is the end of the year 9999, after which dates have no four digits.
const lastSecond = 253402300799

// fixed returns the time of SOURCE_DATE_EPOCH, as reproducible-builds.org specifies
// it; the zero time where it is not set.
func fixed(a *app.App) (time.Time, error) {
	text, ok := a.Lookup("SOURCE_DATE_EPOCH")
	if !ok || text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 || seconds > lastSecond {
		return time.Time{}, fault.New(fault.Usage, "set it to the seconds since 1970, as SOURCE_DATE_EPOCH=1700000000, or unset it",
			"the environment has SOURCE_DATE_EPOCH=%.40q, which is not a number from 0 to %d", text, int64(lastSecond))
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// documents opens graph files, which are closed when the command ends.
func documents(a *app.App, files []string, base string) ([]generate.Document, error) {
	var out []generate.Document
	for _, file := range files {
		f, err := a.OpenFile("graph", file)
		if err != nil {
			return nil, err
		}
		a.AtEnd(f.Close)
		out = append(out, generate.Document{Name: file, Base: baseOf(a, base, file), URL: fileURL(a, file), Text: f})
	}
	return out, nil
}

// baseOf returns the base IRI of a file: the one given, else its own URL.
func baseOf(a *app.App, base, file string) string {
	if base != "" {
		return base
	}
	return fileURL(a, file)
}

func fileURL(a *app.App, file string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(a.Abs(file))}).String()
}
