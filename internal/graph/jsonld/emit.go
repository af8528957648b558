package jsonld

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// emitter makes triples of an expanded document (JSON-LD 1.1 Processing
// Algorithms and API, section 8).
type emitter struct {
	ctx   context.Context
	opts  Options
	b     *graph.Builder
	dict  *graph.Dictionary
	named map[string]graph.ID // blank nodes by their identifiers
	fresh int                 // blank nodes without
	count int                 // triples
	label []byte              // scratch
}

func (e *emitter) run(expanded []any) error {
	target := e.b.Graph(e.opts.Graph)
	for _, item := range expanded {
		if m, ok := item.(map[string]any); ok {
			if err := e.node(m, e.id(m), target); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *emitter) triple(g, s, p, o graph.ID) error {
	if s == 0 || p == 0 || o == 0 {
		return nil // not well-formed, which section 8.1 leaves out
	}
	if e.count++; e.count%1024 == 0 && e.ctx.Err() != nil {
		return context.Cause(e.ctx)
	}
	if err := e.b.AddIDs(g, s, p, o); err != nil {
		return fmt.Errorf("%s: %w", e.opts.File, err)
	}
	return nil
}

// known returns the number of a name of RDF.
func (e *emitter) known(name string) graph.ID { return e.dict.Intern(graph.NewIRI(graph.RDF + name)) }

// id returns the node that an object describes: a new one if it has no @id, and 0
// if its @id is not well-formed.
func (e *emitter) id(m map[string]any) graph.ID {
	id, ok := m["@id"].(string)
	if !ok {
		return e.blank('b')
	}
	return e.resource(id)
}

// blank returns a new blank node. kind tells cells of lists from other nodes.
func (e *emitter) blank(kind byte) graph.ID {
	e.fresh++
	return e.labelled(kind, e.fresh)
}

func (e *emitter) labelled(kind byte, number int) graph.ID {
	e.label = append(append(e.label[:0], kind), e.opts.Scope...)
	e.label = strconv.AppendInt(append(e.label, '_'), int64(number), 10)
	return e.dict.Blank(e.label)
}

// resource returns the number of an IRI or a blank node identifier, 0 if the text
// is neither.
func (e *emitter) resource(text string) graph.ID {
	if strings.HasPrefix(text, "_:") {
		id, ok := e.named[text]
		if !ok {
			id = e.labelled('u', len(e.named)+1)
			e.named[text] = id
		}
		return id
	}
	return e.iri(text)
}

// iri returns the number of an IRI, resolved; 0 if that is not well-formed.
func (e *emitter) iri(text string) graph.ID {
	iri, err := graph.ResolveIRI(e.opts.Base, text)
	if err != nil || graph.CheckIRI(iri) != nil || strings.Count(iri, "#") > 1 {
		return 0
	}
	return e.dict.Intern(graph.NewIRI(iri))
}

// property returns the number of a property, 0 for a blank node, which RDF does
// not have as one.
func (e *emitter) property(text string) graph.ID {
	if strings.HasPrefix(text, "_:") || !graph.IsAbsoluteIRI(text) {
		return 0
	}
	return e.iri(text)
}

// node emits what an object says of a node.
func (e *emitter) node(m map[string]any, subject, g graph.ID) error {
	for _, t := range list(m["@type"]) {
		if text, ok := t.(string); ok {
			if err := e.triple(g, subject, e.known("type"), e.resource(text)); err != nil {
				return err
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(key, "@") {
			continue
		}
		predicate := e.property(key)
		for _, item := range list(m[key]) {
			if err := e.object(item, g, func(o graph.ID) error { return e.triple(g, subject, predicate, o) }); err != nil {
				return err
			}
		}
	}
	if err := e.reverse(m, subject, g); err != nil {
		return err
	}
	for _, item := range list(m["@included"]) {
		if err := e.object(item, g, func(graph.ID) error { return nil }); err != nil {
			return err
		}
	}
	return e.graph(m, subject)
}

// reverse emits the triples whose object is the node.
func (e *emitter) reverse(m map[string]any, object, g graph.ID) error {
	properties, _ := m["@reverse"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		predicate := e.property(key)
		for _, item := range list(properties[key]) {
			if err := e.object(item, g, func(s graph.ID) error { return e.triple(g, s, predicate, object) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// graph emits the graph that is named by the node.
func (e *emitter) graph(m map[string]any, name graph.ID) error {
	content, ok := m["@graph"]
	if !ok || name == 0 {
		return nil
	}
	if e.opts.Graph != "" {
		return fault.New(fault.Finding, "load the file into the default graph", "%s: it has a named graph, and is to fill the graph <%s>", e.opts.File, e.opts.Graph)
	}
	inner := e.b.GraphOf(name)
	for _, item := range list(content) {
		if err := e.object(item, inner, func(graph.ID) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// object converts an item (section 8.2), tells use its number, and then emits what
// the item itself says. In this order terms are numbered as they appear.
func (e *emitter) object(item any, g graph.ID, use func(graph.ID) error) error {
	m, ok := item.(map[string]any)
	if !ok {
		return fault.New(fault.Finding, "", "%s: a list has an item that cannot be expanded", e.opts.File)
	}
	if _, ok := m["@value"]; ok {
		id, err := e.literal(m)
		if err != nil || id == 0 {
			return err
		}
		return use(id)
	}
	if items, ok := m["@list"]; ok {
		return e.list(list(items), g, use)
	}
	id := e.id(m)
	if err := use(id); err != nil {
		return err
	}
	return e.node(m, id, g)
}

// list emits an RDF list (section 8.3).
func (e *emitter) list(items []any, g graph.ID, use func(graph.ID) error) error {
	if len(items) == 0 {
		return use(e.known("nil"))
	}
	cell := e.blank('l')
	if err := use(cell); err != nil {
		return err
	}
	for i, item := range items {
		first := func(o graph.ID) error { return e.triple(g, cell, e.known("first"), o) }
		if err := e.object(item, g, first); err != nil {
			return err
		}
		next := e.known("nil")
		if i+1 < len(items) {
			next = e.blank('l')
		}
		if err := e.triple(g, cell, e.known("rest"), next); err != nil {
			return err
		}
		cell = next
	}
	return nil
}

func list(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// language is the form of a language tag that all syntaxes of RDF share.
var language = regexp.MustCompile(`^[a-zA-Z]+(-[a-zA-Z0-9]+)*$`)

// literal converts a value object (section 8.2, steps 4 to 13). The number 0
// stands for a value that is not well-formed.
func (e *emitter) literal(m map[string]any) (graph.ID, error) {
	datatype := ""
	if types := list(m["@type"]); len(types) > 0 {
		text, ok := types[0].(string)
		if !ok || len(types) > 1 {
			return 0, fault.New(fault.Finding, "", "%s: a value with a type that is not one IRI", e.opts.File)
		}
		datatype = text
	}
	if datatype == "@json" {
		text, err := canonical(m["@value"])
		if err != nil {
			return 0, fault.New(fault.Finding, "", "%s: %w", e.opts.File, err)
		}
		return e.typed(text, graph.RDF+"JSON"), nil
	}
	if err := graph.CheckIRI(datatype); datatype != "" && (err != nil || !graph.IsAbsoluteIRI(datatype)) {
		return 0, fault.New(fault.Finding, "", "%s: %q is not the IRI of a type", e.opts.File, datatype)
	}
	switch v := m["@value"].(type) {
	case string:
		tag, tagged := m["@language"].(string)
		switch {
		case datatype == graph.RDFLangString:
			return 0, fault.New(fault.Finding, "write @language instead", "%s: a value of type rdf:langString has no language", e.opts.File)
		case tagged && !language.MatchString(tag):
			return 0, nil
		case tagged:
			return e.dict.Intern(graph.NewTagged(v, tag)), nil
		case datatype == "":
			return e.dict.Intern(graph.NewString(v)), nil
		}
		return e.typed(v, datatype), nil
	case bool:
		return e.typed(strconv.FormatBool(v), or(datatype, graph.XSD+"boolean")), nil
	case json.Number:
		return e.number(v, datatype)
	case float64: // a number that was read as @version
		return e.number(json.Number(strconv.FormatFloat(v, 'g', -1, 64)), datatype)
	}
	return 0, nil
}

func (e *emitter) typed(text, datatype string) graph.ID {
	return e.dict.Intern(graph.NewTyped(text, datatype))
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// number converts a number: integers exactly, others as canonical doubles.
func (e *emitter) number(n json.Number, datatype string) (graph.ID, error) {
	f, err := n.Float64()
	if err != nil {
		return 0, fault.New(fault.Finding, "write it as a string with a type", "%s: the number %.100s is beyond the range of xsd:double", e.opts.File, n)
	}
	if f != math.Trunc(f) || math.Abs(f) >= 1e21 || datatype == graph.XSD+"double" {
		return e.typed(double(f), or(datatype, graph.XSD+"double")), nil
	}
	text := strconv.FormatFloat(f, 'f', 0, 64)
	if !strings.ContainsAny(n.String(), ".eE") {
		text = n.String()
	}
	if text == "-0" {
		text = "0"
	}
	return e.typed(text, or(datatype, graph.XSD+"integer")), nil
}

// double is the canonical form of section 8.6: sixteen digits at most.
func double(f float64) string {
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'E', 15, 64), "E")
	mantissa = strings.TrimRight(mantissa, "0")
	if strings.HasSuffix(mantissa, ".") {
		mantissa += "0"
	}
	n, err := strconv.Atoi(exponent)
	if err != nil {
		panic(fmt.Sprintf("jsonld: exponent %q of a number", exponent))
	}
	return mantissa + "E" + strconv.Itoa(n)
}
