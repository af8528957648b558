package graph

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// MaxTriples is the bound of a [Builder] that sets no other: about 40 bytes
// each while building.
const MaxTriples = 50_000_000

// tripleBytes is what a triple takes while its graph is built, without its terms.
const tripleBytes = 64

// Builder collects the triples of a graph, or of several files into one. It
// is not safe for concurrent use. A Builder whose Add failed is to be dropped.
type Builder struct {
	// MaxTriples bounds the number of triples over all graphs, counting
	// repeated ones; 0 means [MaxTriples].
	MaxTriples int
	// MaxMemory bounds what the graphs take in memory, in bytes, by an estimate
	// from their triples and the texts of their terms; 0 means no bound.
	MaxMemory int64

	dict  *Dictionary
	deflt []triple
	named map[ID][]triple
	names []ID // in order of first mention
	added int
}

// NewBuilder returns an empty builder.
func NewBuilder() *Builder {
	return &Builder{dict: NewDictionary(), named: map[ID][]triple{}}
}

// Dictionary returns the dictionary that numbers the terms of the graph. Who
// fills it, as the parsers do, adds triples by [Builder.AddIDs].
func (b *Builder) Dictionary() *Dictionary { return b.dict }

// Add adds one triple to the default graph. Blank nodes are the same node if
// their labels are: labels must be unique over all that is added, as those
// given by the parsers are.
func (b *Builder) Add(t rdf.Triple) error { return b.AddTo("", t) }

// AddTo adds one triple to the named graph with the given IRI, or to the
// default graph if it is empty.
func (b *Builder) AddTo(name string, t rdf.Triple) error {
	var ids triple
	for i, part := range []rdf.Term{t.Subj, t.Pred, t.Obj} {
		term, err := FromRDF(part)
		if err != nil {
			return fmt.Errorf("add a triple to a graph: %w", err)
		}
		ids[i] = b.dict.Intern(term)
	}
	return b.AddIDs(b.Graph(name), ids[0], ids[1], ids[2])
}

// Graph declares a named graph, which may stay empty, and returns its number
// for AddIDs. The empty name is the default graph, number 0.
func (b *Builder) Graph(name string) ID {
	if name == "" {
		return 0
	}
	return b.GraphOf(b.dict.Intern(NewIRI(name)))
}

// GraphOf is [Builder.Graph] for a name that has a number in the dictionary,
// which may be that of a blank node.
func (b *Builder) GraphOf(name ID) ID {
	if _, ok := b.named[name]; !ok {
		b.named[name] = nil
		b.names = append(b.names, name)
	}
	return name
}

// AddIDs adds a triple of numbers of this builder's dictionary to the graph
// with the given number.
func (b *Builder) AddIDs(graph, s, p, o ID) error {
	limit := b.MaxTriples
	if limit == 0 {
		limit = MaxTriples
	}
	if b.added++; b.added > limit {
		return fault.New(fault.Finding, "raise the limit of triples, or load less",
			"the data has more than %d triples", limit)
	}
	if need := int64(b.added)*tripleBytes + b.dict.bytes; b.MaxMemory > 0 && need > b.MaxMemory {
		return fault.New(fault.Finding, "raise the memory limit, or load less",
			"the data needs more than %d MiB of memory", b.MaxMemory>>20)
	}
	if b.dict.Len() > maxTerms {
		return fault.New(fault.Finding, "load less", "the data has more than %d terms", uint32(maxTerms))
	}
	if graph == 0 {
		b.deflt = append(b.deflt, triple{s, p, o})
	} else {
		b.named[graph] = append(b.named[graph], triple{s, p, o})
	}
	return nil
}

// Build returns the graph. The builder is empty afterwards.
func (b *Builder) Build() *Graph {
	highest := ID(b.dict.Len())
	g := &Graph{dict: b.dict, Index: newIndex(b.deflt, highest), named: map[ID]*Index{}}
	for _, name := range b.names {
		g.named[name] = newIndex(b.named[name], highest)
	}
	g.names = slices.Sorted(slices.Values(b.names))
	*b = Builder{MaxTriples: b.MaxTriples, MaxMemory: b.MaxMemory, dict: NewDictionary(), named: map[ID][]triple{}}
	return g
}

// Graph is an immutable RDF dataset (RDF 1.1 Concepts, section 4): a default
// graph, which is what Len, Triples and the embedded index speak of, and named
// graphs beside it. It is safe for concurrent use.
type Graph struct {
	*Index // the default graph
	dict   *Dictionary
	named  map[ID]*Index
	names  []ID // ascending
}

// Dictionary returns the dictionary of the graph, which is only to be read.
func (g *Graph) Dictionary() *Dictionary { return g.dict }

// Names returns the numbers of the IRIs of the named graphs, ascending.
func (g *Graph) Names() []ID { return g.names }

// Named returns the index of a named graph, or nil if there is none.
func (g *Graph) Named(name ID) *Index { return g.named[name] }

// Dataset returns the dataset that FROM and FROM NAMED describe (SPARQL 1.1
// Query, section 13.2): its default graph is the merge of the graphs in from,
// its named graphs are those in named. It fails with the first IRI that names
// no graph of g.
func (g *Graph) Dataset(from, named []string) (*Graph, error) {
	d := &Graph{dict: g.dict, named: map[ID]*Index{}}
	var merged []triple
	for _, iri := range from {
		x := g.named[g.dict.Lookup(NewIRI(iri))]
		if x == nil {
			return nil, g.unknownGraph(iri)
		}
		x.Match(0, 0, 0, func(s, p, o ID) bool { merged = append(merged, triple{s, p, o}); return true })
	}
	d.Index = newIndex(merged, ID(g.dict.Len()))
	for _, iri := range named {
		id := g.dict.Lookup(NewIRI(iri))
		x := g.named[id]
		if x == nil {
			return nil, g.unknownGraph(iri)
		}
		if d.named[id] == nil {
			d.names = append(d.names, id)
		}
		d.named[id] = x
	}
	slices.Sort(d.names)
	return d, nil
}

func (g *Graph) unknownGraph(iri string) error {
	var known []string
	for _, id := range g.names {
		known = append(known, g.dict.Term(id).Value)
	}
	hint := fault.DidYouMean(iri, known)
	if hint == "" {
		hint = "supply a graph of that name; remote graphs are never fetched"
	}
	return fault.New(fault.Finding, hint, "graph <%s> was not supplied", iri)
}

// Triples returns the triples of the default graph, by subject, predicate and
// object in order of first appearance.
func (g *Graph) Triples() iter.Seq[rdf.Triple] {
	return func(yield func(rdf.Triple) bool) {
		g.Match(0, 0, 0, func(s, p, o ID) bool {
			return yield(NewTriple(g.dict.Term(s), g.dict.Term(p), g.dict.Term(o)))
		})
	}
}

// NewTriple returns the knakk/rdf value of a triple. The terms must be of the
// kinds that RDF allows in their places, as those of a graph are.
func NewTriple(s, p, o Term) rdf.Triple {
	return rdf.Triple{Subj: s.RDF().(rdf.Subject), Pred: p.RDF().(rdf.Predicate), Obj: o.RDF().(rdf.Object)}
}

// WriteNTriples writes the default graph as N-Triples, one triple a line,
// lines sorted by bytes: equal graphs with equal blank-node labels give equal
// bytes, whatever the order in which they were read.
func (g *Graph) WriteNTriples(w io.Writer) error {
	lines := make([]string, 0, g.Len())
	var buf []byte
	g.Match(0, 0, 0, func(s, p, o ID) bool {
		buf = AppendTriple(buf[:0], g.dict.Term(s), g.dict.Term(p), g.dict.Term(o))
		lines = append(lines, string(buf))
		return true
	})
	slices.Sort(lines)
	out := bufio.NewWriter(w)
	for _, line := range lines {
		out.WriteString(line) // the first error is kept and returned by Flush
	}
	return out.Flush()
}

// AppendTriple appends a triple and a line end in canonical N-Triples.
func AppendTriple(b []byte, s, p, o Term) []byte {
	b = append(s.AppendNTriples(b), ' ')
	b = append(p.AppendNTriples(b), ' ')
	return append(o.AppendNTriples(b), " .\n"...)
}
