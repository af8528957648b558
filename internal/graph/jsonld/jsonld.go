// Package jsonld reads JSON-LD 1.1 with contexts that are part of the document.
//
// decode.go reads JSON with places and bounds, budget.go refuses contexts that
// would blow a document up, definitions.go terms that may not be, piprate/json-gold expands it (JSON-LD 1.1 Processing
// Algorithms and API, section 5.1), and emit.go makes triples of the expanded form
// in the order of their properties' names (section 8.1). This package is the only
// importer of that library.
//
// Nothing is ever fetched: a context that is only named is refused, with its
// place. A relative IRI without a base, and what else section 8 calls not
// well-formed, gives no triple, as that section says.
package jsonld

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/piprate/json-gold/ld"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// MaxBytes bounds a document where Options.MaxBytes does not. The whole document
// is held in memory.
const MaxBytes = 64 << 20

// Options say what is read and how far. MaxDepth counts open objects and arrays,
// MaxToken the bytes of a string.
type Options = graph.ReadOptions

// Load reads a JSON-LD document into a builder. Its named graphs become graphs of
// the builder, which Options.Graph must leave to them by being empty. After an
// error the builder holds a part of the document and is to be dropped. A syntax
// error is a Finding that wraps a *graph.SyntaxError.
//
// A cancelled context ends the reading at once; the expansion, whose work is
// bounded, may then go on for a moment in the background.
func Load(ctx context.Context, r io.Reader, opts Options, b *graph.Builder) error {
	if opts.MaxBytes == 0 {
		opts.MaxBytes = MaxBytes
	}
	opts = opts.WithDefaults()
	doc, err := decode(r, opts)
	if err != nil {
		return err
	}
	if err := doc.affordable(); err != nil {
		return err
	}
	if err := doc.define(doc.root); err != nil {
		return err
	}
	expanded, err := doc.expand(ctx)
	if err != nil {
		return err
	}
	e := &emitter{ctx: ctx, opts: doc.opts, b: b, dict: b.Dictionary(), named: map[string]graph.ID{}}
	return e.run(expanded)
}

// expand applies the expansion algorithm.
func (d *document) expand(ctx context.Context) ([]any, error) {
	type outcome struct {
		expanded []any
		err      error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if v := recover(); v != nil { // the library asserts types that a document need not have
				o = outcome{err: d.wrong("the document is not JSON-LD: %v", v)}
			}
			done <- o
		}()
		o.expanded, o.err = d.apply()
	}()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case o := <-done:
		return o.expanded, o.err
	}
}

// apply expands the document, if possible with relative IRIs left as they are: they
// are then resolved as in all other notations, where the library writes é as %C3%A9.
func (d *document) apply() ([]any, error) {
	// A document that is a string alone would be taken for the address of one.
	if _, ok := d.root.(string); ok {
		return nil, nil
	}
	refusing := &refusing{}
	opts := ld.NewJsonLdOptions("")
	opts.DocumentLoader = refusing
	var expanded []any
	err := errBases
	if d.plainBase() {
		expanded, err = ld.NewJsonLdProcessor().Expand(d.root, opts)
	}
	if err != nil && refusing.asked == "" { // it may be for want of a base
		opts.Base, d.opts.Base = d.opts.Base, "" // what is relative now stays so
		expanded, err = ld.NewJsonLdProcessor().Expand(d.root, opts)
	}
	// The library passes over some errors inside of lists and sets.
	if refusing.asked != "" {
		return nil, d.remote(refusing.asked)
	}
	if err != nil {
		message := err.Error()
		if e := (*ld.JsonLdError)(nil); errors.As(err, &e) {
			message = fmt.Sprintf("%v: %v", e.Code, e.Details)
		}
		return nil, d.wrong("%s", strings.TrimSuffix(message, ": <nil>"))
	}
	return expanded, nil
}

var errBases = errors.New("the base is not one for all")

// plainBase tells whether all relative IRIs of the document have one base, and
// makes that the base of the options: the given one, or that which the first
// context declares.
func (d *document) plainBase() bool {
	if d.awkward || d.bases > 1 {
		return false
	}
	if d.bases == 0 {
		return true
	}
	root, _ := d.root.(map[string]any)
	declared, _ := root["@context"].(map[string]any)
	base, ok := declared["@base"].(string)
	if !ok {
		return false
	}
	resolved, err := graph.ResolveIRI(d.opts.Base, base)
	if err != nil {
		return false
	}
	delete(declared, "@base")
	d.opts.Base = resolved
	return true
}

func (d *document) wrong(format string, args ...any) error {
	return fault.New(fault.Finding, "", "%s: %w", d.opts.File, fmt.Errorf(format, args...))
}

// remote is the error of a context that is in another file.
func (d *document) remote(asked string) error {
	const hint = "write the context into the document"
	for _, r := range d.remotes {
		if iri, err := graph.ResolveIRI(d.opts.Base, r.iri); r.iri == asked || err == nil && iri == asked {
			return d.errorAt(r.at, fmt.Sprintf("the context %q is in another file, which is never fetched", r.iri)).Fault(hint)
		}
	}
	return fault.New(fault.Finding, hint, "%s: the context %q is in another file, which is never fetched", d.opts.File, asked)
}

// refusing loads nothing and keeps what it was first asked for.
type refusing struct{ asked string }

// LoadDocument implements ld.DocumentLoader.
func (r *refusing) LoadDocument(u string) (*ld.RemoteDocument, error) {
	if r.asked == "" {
		r.asked = u
	}
	return nil, errors.New("documents are never fetched")
}
