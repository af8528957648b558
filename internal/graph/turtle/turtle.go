// Package turtle reads RDF 1.1 Turtle and N-Triples.
//
// It reads a stream through a window, gives triples away as soon as they are
// complete, and accepts exactly the two languages: a file that it refuses is
// refused by the standard. Blank nodes get labels made of the file and of
// their label or position in it, so that the same file gives the same labels
// on every run and several files never share one by accident.
//
// It never opens a file or fetches anything, and never guesses: an undeclared
// prefix is an error that names it.
package turtle

import (
	"fmt"
	"io"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// Options say what is read and how far. MaxDepth counts [ ] and ( ), MaxToken the
// bytes of a literal, an IRI or a comment.
type Options = graph.ReadOptions

// Load reads a Turtle document into a builder. After an error the builder
// holds a part of the document and is to be dropped. A syntax error is a
// Finding that wraps a *graph.SyntaxError.
func Load(r io.Reader, opts Options, b *graph.Builder) error {
	return load(r, opts, b, (*parser).document)
}

// LoadNTriples is [Load] for an N-Triples document.
func LoadNTriples(r io.Reader, opts Options, b *graph.Builder) error {
	return load(r, opts, b, (*parser).lines)
}

func load(r io.Reader, opts Options, b *graph.Builder, read func(*parser)) error {
	g := b.Graph(opts.Graph)
	p := newParser(r, opts, b.Dictionary())
	p.emit = func(s, pred, o graph.ID) error { return b.AddIDs(g, s, pred, o) }
	return p.run(read)
}

// Parse reads a Turtle document and calls emit with every triple as soon as it
// is complete; an error of emit ends the reading and is returned. Its memory
// does not grow with the document.
func Parse(r io.Reader, opts Options, emit func(rdf.Triple) error) error {
	return parse(r, opts, emit, (*parser).document)
}

// ParseNTriples is [Parse] for an N-Triples document.
func ParseNTriples(r io.Reader, opts Options, emit func(rdf.Triple) error) error {
	return parse(r, opts, emit, (*parser).lines)
}

// renewDictionary is the number of terms after which Parse forgets those it has seen.
const renewDictionary = 1 << 14

func parse(r io.Reader, opts Options, emit func(rdf.Triple) error, read func(*parser)) error {
	p := newParser(r, opts, graph.NewDictionary())
	p.emit = func(s, pred, o graph.ID) error {
		return emit(graph.NewTriple(p.dict.Term(s), p.dict.Term(pred), p.dict.Term(o)))
	}
	p.statement = func() {
		if p.dict.Len() > renewDictionary {
			p.setDictionary(graph.NewDictionary())
		}
	}
	return p.run(read)
}

// parser is the state of one reading. Its methods panic with a failure, which
// run turns into an error: the grammar is then readable as such.
type parser struct {
	scanner
	opts      Options
	dict      *graph.Dictionary
	emit      func(s, p, o graph.ID) error
	statement func() // called between statements, may renew the dictionary

	base     string
	prefixes map[string]string
	declared []string // prefixes in order of declaration, for suggestions
	scope    string
	depth    int
	ids      vocabulary
	text     []byte // scratch: the term being read, unescaped
	label    []byte // scratch: blank-node label or language tag
}

// vocabulary are the numbers of the IRIs that the syntax itself stands for.
type vocabulary struct{ typ, first, rest, null, integer, decimal, double, boolean graph.ID }

func newParser(r io.Reader, opts Options, dict *graph.Dictionary) *parser {
	opts = opts.WithDefaults()
	p := &parser{opts: opts, base: opts.Base, prefixes: map[string]string{}, scope: opts.Scope}
	p.scanner.init(r, opts)
	p.setDictionary(dict)
	return p
}

func (p *parser) setDictionary(d *graph.Dictionary) {
	p.dict = d
	p.ids = vocabulary{}
}

// known returns *id, interning iri the first time: a graph numbers only the
// terms that occur in it.
func (p *parser) known(id *graph.ID, iri string) graph.ID {
	if *id == 0 {
		*id = p.dict.Intern(graph.NewIRI(iri))
	}
	return *id
}

// failure carries an error up to run.
type failure struct{ err error }

func (p *parser) run(read func(*parser)) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case failure:
			err = v.err
		default:
			panic(v)
		}
	}()
	p.byteOrderMark()
	read(p)
	return nil
}

func (p *parser) triple(s, pred, o graph.ID) {
	if err := p.emit(s, pred, o); err != nil {
		panic(failure{fmt.Errorf("%s:%d: %w", p.opts.File, p.line, err)})
	}
}

// enter counts one level of nesting; leave undoes it.
func (p *parser) enter() {
	if p.depth++; p.depth > p.opts.MaxDepth {
		p.failHint("raise the limit of depth", "nested deeper than %d levels", p.opts.MaxDepth)
	}
}

func (p *parser) leave() { p.depth-- }
