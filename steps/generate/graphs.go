package generate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// maxTriples bounds the graph of one template.
const maxTriples = 10_000_000

// source is one document of a graph.
type source struct {
	name    string // for messages, and to keep blank nodes of documents apart
	base    string
	triples bool // N-Triples rather than Turtle
	data    []byte
	inline  *inlineGraph
}

// graphCache keeps graphs by what they were made of: templates of one unit
// usually share theirs (spec G-27).
type graphCache struct {
	mu     sync.Mutex
	graphs map[string]*cachedGraph
}

type cachedGraph struct {
	once  sync.Once
	graph *graph.Graph
	err   error
}

func newGraphCache() *graphCache { return &graphCache{graphs: map[string]*cachedGraph{}} }

// get returns the graph of the sources; those of equal names, bases and bytes are loaded once.
func (c *graphCache) get(ctx context.Context, sources []source) (*graph.Graph, error) {
	var key strings.Builder
	for _, s := range sources {
		fmt.Fprintf(&key, "%q %q %s\n", s.name, s.base, state.DigestOf(s.data))
	}
	c.mu.Lock()
	entry := c.graphs[key.String()]
	if entry == nil {
		entry = &cachedGraph{}
		c.graphs[key.String()] = entry
	}
	c.mu.Unlock()
	entry.once.Do(func() { entry.graph, entry.err = load(ctx, sources) })
	return entry.graph, entry.err
}

func load(ctx context.Context, sources []source) (*graph.Graph, error) {
	builder := graph.NewBuilder()
	builder.MaxTriples = maxTriples
	for _, s := range sources {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		read := turtle.Load
		if s.triples {
			read = turtle.LoadNTriples
		}
		opts := turtle.Options{File: s.name, Base: s.base}
		if err := read(bytes.NewReader(s.data), opts, builder); err != nil {
			return nil, fault.Wrap(err, fault.Finding, "", "load graph")
		}
	}
	return builder.Build(), nil
}

// graphSources returns the documents of a template's graph: those of the unit,
// then its own files, then its inline ones. Blank nodes of two files never meet.
func graphSources(unit *Unit, t *template, set *settings) ([]source, error) {
	var sources []source
	for _, g := range unit.Graphs {
		triples, err := notation(g.Name)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source{name: g.Name, base: baseOf(set.base, g.Name), triples: triples, data: g.Data})
	}
	for i := range set.rdf {
		s, err := packageGraph(t, set, &set.rdf[i])
		if err != nil {
			return nil, err
		}
		sources = append(sources, s)
	}
	prolog := turtleProlog(set)
	for i := range set.inline {
		name := t.name
		if i > 0 {
			name = fmt.Sprintf("%s#%d", t.name, i) // keeps the blank nodes apart
		}
		sources = append(sources, source{
			name: name, base: baseOf(set.base, t.name), data: []byte(prolog + set.inline[i].text), inline: &set.inline[i],
		})
	}
	return sources, nil
}

// packageGraph reads a graph file beside the template or below it.
func packageGraph(t *template, set *settings, file *inlineGraph) (source, error) {
	at := file.node.Place
	refuse := func(hint, why string) (source, error) {
		return source{}, fault.New(fault.Finding, hint, "%s: graph %q %s", at, file.text, why)
	}
	folder := path.Dir(t.file)
	inside := path.Join(folder, file.text)
	switch {
	case strings.Contains(file.text, "://"):
		return refuse("put the file into the package", "is remote; graphs are never fetched while rendering")
	case path.IsAbs(file.text) || strings.ContainsAny(file.text, "\\:"):
		return refuse("name a file relative to the template", "is not a relative path")
	case folder != "." && !strings.HasPrefix(inside, folder+"/"), strings.HasPrefix(inside, "../"), inside == "..":
		return refuse("move it beside the template or below", "is outside of the template's folder")
	}
	triples, err := notation(file.text)
	if err != nil {
		return source{}, fmt.Errorf("%s: %w", at, err)
	}
	data, err := t.pack.read(inside, maxGraphSize)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse("paths are relative to the template", "does not exist")
	}
	if err != nil {
		return source{}, fmt.Errorf("%s: %w", at, err)
	}
	name := t.pack.name(inside)
	return source{name: name, base: baseOf(set.base, name), triples: triples, data: data}, nil
}

// notation tells N-Triples from Turtle by the end of a name.
func notation(name string) (triples bool, err error) {
	switch strings.ToLower(path.Ext(name)) {
	case ".ttl", ".turtle":
		return false, nil
	case ".nt":
		return true, nil
	default:
		return false, fault.New(fault.Finding, "convert it to Turtle and name it .ttl", "graph %s is in an unknown notation; .ttl and .nt are read", name)
	}
}

// baseOf returns the base IRI of a file: that of the front matter, or one made of
// its name in the project or package, which is the same on every machine.
func baseOf(base, name string) string {
	if base != "" {
		return base
	}
	return (&url.URL{Scheme: "file", Path: "/" + strings.ReplaceAll(name, ":", "/")}).String()
}

func turtleProlog(set *settings) string {
	var b strings.Builder
	for _, p := range set.prefixes {
		fmt.Fprintf(&b, "@prefix %s: <%s> .\n", p.name, p.iri)
	}
	return b.String()
}
