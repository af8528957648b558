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
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/notation"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// source is one document of a graph.
type source struct {
	name     string // for messages, and to keep blank nodes of documents apart
	base     string
	notation notation.Notation
	data     []byte
	inline   *inlineGraph
}

// GraphCache keeps loaded graphs between runs of one process, by the digests of
// their files. Several runs may use one at the same time.
type GraphCache struct{ graphs *graph.Cache }

// NewGraphCache returns a cache that keeps graphs for the given time by the given
// clock (spec K-13). A time of 0 keeps none. Without a clock they stay.
func NewGraphCache(ttl time.Duration, now func() time.Time) *GraphCache {
	return &GraphCache{graph.NewCache(ttl, now)}
}

// graphCache gives the templates of one run their graphs: those of one unit
// usually share theirs (spec G-27).
type graphCache struct {
	shared   *GraphCache
	limits   Limits
	verdicts verdicts
}

// newGraphCache returns the cache of a run; without a shared one it keeps what the
// run loads.
func newGraphCache(shared *GraphCache, limits Limits) *graphCache {
	if shared == nil {
		shared = NewGraphCache(0, nil)
	}
	return &graphCache{shared: shared, limits: limits.withDefaults()}
}

// get returns the graph of the sources; those of equal names, bases and bytes are loaded once.
func (c *graphCache) get(ctx context.Context, sources []source) (*graph.Graph, error) {
	var key strings.Builder
	fmt.Fprintf(&key, "%d %d\n", c.limits.Memory, c.limits.Depth)
	for _, s := range sources {
		fmt.Fprintf(&key, "%q %q %s %s\n", s.name, s.base, s.notation.Name, state.DigestOf(s.data))
	}
	return c.shared.graphs.Get(ctx, key.String(), func(ctx context.Context) (*graph.Graph, error) {
		return load(ctx, sources, c.limits)
	})
}

func load(ctx context.Context, sources []source, limits Limits) (*graph.Graph, error) {
	builder := limits.builder()
	for _, s := range sources {
		opts := graph.ReadOptions{
			File: s.name, Base: s.base, Scope: graph.ScopeOf(path.Clean(s.name)), MaxDepth: limits.Depth, MaxMemory: limits.Memory,
		}
		if err := s.notation.Load(ctx, bytes.NewReader(s.data), opts, builder); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
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
		n, err := notation.Of(g.Name)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source{name: g.Name, base: baseOf(set.base, g.Name), notation: n, data: g.Data})
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
			name: name, base: baseOf(set.base, t.name), notation: notation.Turtle,
			data: []byte(prolog + set.inline[i].text), inline: &set.inline[i],
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
	n, err := notation.Of(file.text)
	if err != nil {
		return source{}, fmt.Errorf("%s: %w", at, err)
	}
	data, err := t.pack.read(inside, maxGraphSize)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse("paths are relative to the template", "does not exist")
	}
	if err != nil {
		var why *fs.PathError // its path is below a folder that the message does not name
		if errors.As(err, &why) {
			err = why.Err
		}
		return source{}, fault.New(fault.Finding, "make it a file that this user may read, beside the template or below", "%s: graph %q cannot be read: %w", at, file.text, err)
	}
	name := t.pack.name(inside)
	return source{name: name, base: baseOf(set.base, name), notation: n, data: data}, nil
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
