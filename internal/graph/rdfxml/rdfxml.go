// Package rdfxml reads RDF 1.1 XML Syntax (the W3C recommendation of 25 February
// 2014, "the specification" below).
//
// It reads a stream, with a tokenizer of its own for XML 1.0 and Namespaces 1.0,
// and gives triples away as soon as they are complete. scanner.go is the window
// over the input, xml.go cuts it into tags and text, doctype.go reads entity
// declarations, grammar.go builds triples, literal.go writes XML literals.
//
// Blank nodes get labels made of the file and of their rdf:nodeID or position in
// it. Nothing is ever fetched: an external entity is an error where it is used,
// and entities of the document itself may not blow it up.
package rdfxml

import (
	"fmt"
	"io"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// Options say what is read and how far. MaxDepth counts open elements, MaxToken
// the bytes of a tag, a text or an XML literal.
type Options = graph.ReadOptions

// Load reads an RDF/XML document into a builder. After an error the builder
// holds a part of the document and is to be dropped. A syntax error is a
// Finding that wraps a *graph.SyntaxError. The memory it needs itself grows only
// with the number of rdf:ID attributes, which must be unique in a document.
func Load(r io.Reader, opts Options, b *graph.Builder) error {
	g := b.Graph(opts.Graph)
	p := newParser(opts, b.Dictionary())
	p.emit = func(s, pred, o graph.ID) error { return b.AddIDs(g, s, pred, o) }
	return p.run(r)
}

// Parse reads an RDF/XML document and calls emit with every triple as soon as it
// is complete; an error of emit ends the reading and is returned.
func Parse(r io.Reader, opts Options, emit func(rdf.Triple) error) error {
	p := newParser(opts, graph.NewDictionary())
	p.emit = func(s, pred, o graph.ID) error {
		return emit(graph.NewTriple(p.dict.Term(s), p.dict.Term(pred), p.dict.Term(o)))
	}
	p.between = func() {
		if p.dict.Len() > renewDictionary {
			p.dict, p.voc = graph.NewDictionary(), vocabulary{}
		}
	}
	return p.run(r)
}

// renewDictionary is the number of terms after which Parse forgets those it has seen.
const renewDictionary = 1 << 14

// parser is the state of one reading. Its methods panic with a failure, which
// run turns into an error: the grammar is then readable as such.
type parser struct {
	scanner
	opts    Options
	dict    *graph.Dictionary
	emit    func(s, p, o graph.ID) error
	between func() // called between the nodes of the document, may renew the dictionary

	voc     vocabulary
	ids     map[string]struct{} // IRIs made by rdf:ID
	iri     []byte              // scratch
	label   []byte              // scratch
	unnamed int                 // blank nodes made inside of entities
}

// vocabulary are the numbers of the IRIs that the syntax itself stands for.
type vocabulary struct {
	typ, first, rest, null, statement, subject, predicate, object, xmlLiteral graph.ID
}

func newParser(opts Options, dict *graph.Dictionary) *parser {
	return &parser{opts: opts.WithDefaults(), dict: dict, ids: map[string]struct{}{}}
}

// known returns *id, interning the name the first time: a graph numbers only
// the terms that occur in it.
func (p *parser) known(id *graph.ID, name string) graph.ID {
	if *id == 0 {
		*id = p.dict.Intern(graph.NewIRI(graph.RDF + name))
	}
	return *id
}

// failure carries an error up to run.
type failure struct{ err error }

func (p *parser) run(r io.Reader) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failure:
			err = v.err
		default:
			panic(v)
		}
	}()
	p.scanner.init(r, p.opts)
	p.document()
	return nil
}

func (p *parser) triple(s, pred, o graph.ID) {
	if err := p.emit(s, pred, o); err != nil {
		panic(failure{fmt.Errorf("%s:%d: %w", p.opts.File, p.place().line, err)})
	}
}
