package graph

import (
	"fmt"
	"strings"

	"github.com/knakk/rdf"
)

// Datatype IRIs that the RDF data model itself needs.
const (
	XSD           = "http://www.w3.org/2001/XMLSchema#"
	XSDString     = XSD + "string"
	RDF           = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
	RDFLangString = RDF + "langString"
)

// Kind says what a [Term] is.
type Kind uint8

// The kinds of terms. The zero Kind is no term at all: an unbound variable.
const (
	Unbound Kind = iota
	IRI
	Blank
	Literal
	tag // a language tag: lives in the dictionary, is never a term
)

// Term is an RDF term as a plain value, the form in which engines compute.
// Two terms are the same term (RDF 1.1 Concepts, section 3) exactly if they
// are equal by ==.
type Term struct {
	Kind Kind
	// Value is the IRI, the label of the blank node without "_:", or the
	// lexical form of the literal.
	Value string
	// Datatype is the IRI of a literal's datatype, never empty for a literal.
	Datatype string
	// Lang is the language tag of a literal of type rdf:langString.
	Lang string
}

// NewIRI returns the term for an IRI. It does not check it; see [CheckIRI].
func NewIRI(iri string) Term { return Term{Kind: IRI, Value: iri} }

// NewBlank returns the blank node with the given label.
func NewBlank(label string) Term { return Term{Kind: Blank, Value: label} }

// NewString returns a literal of type xsd:string.
func NewString(s string) Term { return Term{Kind: Literal, Value: s, Datatype: XSDString} }

// NewTyped returns a literal of the given datatype.
func NewTyped(lexical, datatype string) Term {
	return Term{Kind: Literal, Value: lexical, Datatype: datatype}
}

// NewTagged returns a language-tagged literal.
func NewTagged(lexical, lang string) Term {
	return Term{Kind: Literal, Value: lexical, Datatype: RDFLangString, Lang: lang}
}

// String returns the term in N-Triples, or the empty string for the zero Term.
func (t Term) String() string { return string(t.AppendNTriples(nil)) }

// AppendNTriples appends the term in canonical N-Triples form (RDF 1.1
// N-Triples, section 4): only the characters that must be escaped are.
func (t Term) AppendNTriples(b []byte) []byte {
	switch t.Kind {
	case IRI:
		b = append(b, '<')
		b = append(b, t.Value...)
		return append(b, '>')
	case Blank:
		b = append(b, "_:"...)
		return append(b, t.Value...)
	case Literal:
		b = appendQuoted(b, t.Value)
		switch {
		case t.Lang != "":
			b = append(b, '@')
			return append(b, t.Lang...)
		case t.Datatype != XSDString:
			b = append(b, "^^<"...)
			b = append(b, t.Datatype...)
			return append(b, '>')
		}
	}
	return b
}

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '"':
			b = append(b, `\"`...)
		case '\\':
			b = append(b, `\\`...)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// Tagged is a language-tagged literal whose tag has more than one hyphen
// ("zh-Hant-TW"), which rdf.NewLangLiteral refuses although RDF allows it.
// It stands wherever an rdf.Object may; use [Lang] to read any literal's tag.
type Tagged struct {
	rdf.Literal
	tag string
}

// Lang returns the language tag.
func (t Tagged) Lang() string { return t.tag }

// Serialize returns the literal in N-Triples, which is also its Turtle form.
func (t Tagged) Serialize(rdf.Format) string {
	return NewTagged(t.Literal.String(), t.tag).String()
}

// Lang returns the language tag of a term, or the empty string if it has none.
func Lang(t rdf.Term) string {
	if l, ok := t.(interface{ Lang() string }); ok {
		return l.Lang()
	}
	return ""
}

// RDF returns the term as the knakk/rdf value that other packages speak; nil
// for the zero Term. Its Serialize(rdf.NTriples) is the N-Triples form.
func (t Term) RDF() rdf.Term {
	switch t.Kind {
	case IRI:
		return rdfIRI(t.Value)
	case Blank:
		b, err := rdf.NewBlank(t.Value)
		if err != nil {
			panic(fmt.Sprintf("graph: blank node without label: %v", err))
		}
		return b
	case Literal:
		if t.Lang == "" {
			return rdf.NewTypedLiteral(t.Value, rdfIRI(t.Datatype))
		}
		// Languages without or with one hyphen are knakk's own type.
		if strings.Count(t.Lang, "-") <= 1 {
			if l, err := rdf.NewLangLiteral(t.Value, t.Lang); err == nil {
				return l
			}
		}
		return Tagged{rdf.NewTypedLiteral(t.Value, rdfIRI(RDFLangString)), t.Lang}
	}
	return nil
}

// rdfIRI converts an IRI that is already in a graph. The parsers and [FromRDF]
// let no other than valid ones in, so a refusal is a bug of this package.
func rdfIRI(iri string) rdf.IRI {
	v, err := rdf.NewIRI(iri)
	if err != nil {
		panic(fmt.Sprintf("graph: IRI %q in a graph: %v", iri, err))
	}
	return v
}

// FromRDF returns the plain value of a knakk/rdf term. It fails for a value
// that is no RDF term, such as a zero rdf.IRI.
func FromRDF(t rdf.Term) (Term, error) {
	switch t := t.(type) {
	case rdf.IRI:
		if err := CheckIRI(t.String()); err != nil {
			return Term{}, err
		}
		return NewIRI(t.String()), nil
	case rdf.Blank:
		if len(t.Serialize(rdf.NTriples)) < len("_:x") {
			return Term{}, fmt.Errorf("blank node without label")
		}
		return NewBlank(t.String()), nil
	case rdf.Literal:
		if t.Lang() != "" {
			return NewTagged(t.String(), t.Lang()), nil
		}
		if t.DataType.String() == "" {
			return NewString(t.String()), nil
		}
		return NewTyped(t.String(), t.DataType.String()), CheckIRI(t.DataType.String())
	case Tagged:
		return NewTagged(t.String(), t.tag), nil
	}
	return Term{}, fmt.Errorf("%T is not an RDF term", t)
}
