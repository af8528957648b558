package rdfxml

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// context is what elements inherit (the specification, section 6.1.2).
type context struct{ base, lang string }

// element is a start tag whose children were not read yet.
type element struct {
	token
	context
	attrs []attribute // those of RDF: what is reserved for XML is left out
}

// Names that may not stand everywhere (section 6.2.2 to 6.2.4).
var (
	coreTerms = map[string]bool{"RDF": true, "ID": true, "about": true, "parseType": true, "resource": true, "nodeID": true, "datatype": true}
	oldTerms  = map[string]bool{"aboutEach": true, "aboutEachPrefix": true, "bagID": true}
	// bare are the attributes that may stand without a prefix (section 6.1.4).
	bare = map[string]bool{"ID": true, "about": true, "resource": true, "parseType": true, "type": true}
)

// document reads a doc (section 7.2.8): rdf:RDF, or a node alone.
func (p *parser) document() {
	root := p.element(p.prolog(), context{base: p.opts.Base})
	if !root.isRDF("RDF") {
		p.node(root)
	} else {
		if len(root.attrs) > 0 {
			p.failAt(root.attrs[0].at, "", "rdf:RDF has no attribute %s", root.attrs[0].raw)
		}
		for {
			if p.between != nil {
				p.between()
			}
			child, ok := p.child("between the nodes of rdf:RDF", root.context)
			if !ok {
				break
			}
			p.node(child)
		}
	}
	p.child("after the end of the document's element", context{})
}

// child returns the next element inside of the current one, or false at its end.
func (p *parser) child(where string, in context) (element, bool) {
	for {
		switch t := p.next(); t.kind {
		case start:
			if len(p.open) == 1 {
				p.failAt(t.at, "put all nodes into one rdf:RDF", "a second element after the document's own")
			}
			return p.element(t, in), true
		case end:
			return element{}, false
		case text:
			if !blank(p.text) {
				p.failAt(t.at, "", "a text may not stand %s", where)
			}
		}
	}
}

// element takes the attributes that XML reserves from a tag.
func (p *parser) element(t token, in context) element {
	e := element{token: t, context: in, attrs: p.attrs[:0]}
	for _, a := range p.attrs {
		switch {
		case a.space == xmlSpace && a.local == "base":
			base, err := graph.ResolveIRI(in.base, a.value)
			if err != nil {
				p.failAt(a.at, "write it in full", "%v", err)
			}
			e.base, _, _ = strings.Cut(base, "#")
		case a.space == xmlSpace && a.local == "lang":
			if a.value != "" && !isLanguage(a.value) {
				p.failAt(a.at, "", "%q is not a language tag", a.value)
			}
			e.lang = a.value
		case a.space == xmlSpace, a.prefix == "" && len(a.local) >= 3 && strings.EqualFold(a.local[:3], "xml"):
			// reserved for XML, and without meaning here
		case a.prefix == "" && bare[a.local]:
			a.space = graph.RDF
			e.attrs = append(e.attrs, a)
		case a.prefix == "":
			p.failAt(a.at, "write it with the prefix of its vocabulary", "the attribute %s is in no namespace", a.raw)
		default:
			e.attrs = append(e.attrs, a)
		}
	}
	if t.space == "" {
		p.failAt(t.at, "write it with the prefix of its vocabulary, or declare xmlns", "the element <%s> is in no namespace", t.name.raw)
	}
	return e
}

// isLanguage tells whether tag has the form that all syntaxes of RDF share
// (Turtle 1.1, production [144s]).
func isLanguage(tag string) bool {
	for i, part := range strings.Split(tag, "-") {
		for _, c := range []byte(part) {
			if !(c|0x20 >= 'a' && c|0x20 <= 'z' || i > 0 && c >= '0' && c <= '9') {
				return false
			}
		}
		if part == "" {
			return false
		}
	}
	return true
}

func (e *element) isRDF(local string) bool { return e.space == graph.RDF && e.name.local == local }

// rdf returns the attribute rdf:local, or nil.
func (e *element) rdf(local string) *attribute {
	for i := range e.attrs {
		if e.attrs[i].local == local && e.attrs[i].space == graph.RDF {
			return &e.attrs[i]
		}
	}
	return nil
}

// node reads a nodeElement (section 7.2.11) that is nobody's object.
func (p *parser) node(e element) { p.describe(e, p.subject(e)) }

// subject returns the node that an element stands for.
func (p *parser) subject(e element) graph.ID {
	if e.space == graph.RDF && (coreTerms[e.name.local] || oldTerms[e.name.local] || e.name.local == "li") {
		p.failAt(e.at, "", "<%s> may not stand for a node", e.name.raw)
	}
	var named *attribute
	for _, local := range []string{"about", "ID", "nodeID"} {
		a := e.rdf(local)
		if a != nil && named != nil {
			p.failAt(a.at, "", "%s and %s both name the node", named.raw, a.raw)
		}
		if a != nil {
			named = a
		}
	}
	switch {
	case named == nil:
		return p.fresh('b', e.at)
	case named.local == "about":
		return p.resolve(e.context, named.value, named.at)
	case named.local == "ID":
		return p.identifier(e.context, named)
	}
	return p.nodeID(named)
}

// describe emits what an element says of its node, and reads its children.
func (p *parser) describe(e element, subject graph.ID) {
	if !e.isRDF("Description") {
		p.triple(subject, p.known(&p.voc.typ, "type"), p.expand(e.space, e.name.local, e.at))
	}
	for i := range e.attrs {
		a := &e.attrs[i]
		if a.space == graph.RDF && (a.local == "about" || a.local == "ID" || a.local == "nodeID") {
			continue
		}
		p.propertyAttribute(e.context, subject, a)
	}
	p.properties(e.context, subject)
}

// propertyAttribute emits the triple of a propertyAttr (section 7.2.25).
func (p *parser) propertyAttribute(in context, subject graph.ID, a *attribute) {
	if a.space == graph.RDF && (coreTerms[a.local] || oldTerms[a.local] || a.local == "Description" || a.local == "li") {
		p.failAt(a.at, "", "the attribute %s may not stand here", a.raw)
	}
	if a.space == graph.RDF && a.local == "type" {
		p.triple(subject, p.known(&p.voc.typ, "type"), p.resolve(in, a.value, a.at))
		return
	}
	predicate := p.expand(a.space, a.local, a.at)
	p.triple(subject, predicate, p.plainLiteral(in, []byte(a.value)))
}

func (p *parser) plainLiteral(in context, value []byte) graph.ID {
	if in.lang != "" {
		return p.dict.Tagged(value, []byte(in.lang))
	}
	return p.dict.Literal(value, 0)
}

// properties reads a propertyEltList (section 7.2.13) up to the end of the
// element that it is in.
func (p *parser) properties(in context, subject graph.ID) {
	for members := 0; ; {
		e, ok := p.child("between the properties of a node", in)
		if !ok {
			return
		}
		var predicate graph.ID
		switch {
		case e.isRDF("li"):
			members++
			predicate = p.expand(graph.RDF, "_"+strconv.Itoa(members), e.at)
		case e.space == graph.RDF && (coreTerms[e.name.local] || oldTerms[e.name.local] || e.name.local == "Description"):
			p.failAt(e.at, "", "<%s> may not stand for a property", e.name.raw)
		default:
			predicate = p.expand(e.space, e.name.local, e.at)
		}
		p.property(e, subject, predicate)
	}
}

// statement is a triple that may be reified.
type statement struct{ subject, predicate, id graph.ID }

// state emits the triple with its object, and if the property has an rdf:ID,
// what describes it as a statement (section 7.3).
func (p *parser) state(s statement, object graph.ID) {
	p.triple(s.subject, s.predicate, object)
	if s.id == 0 {
		return
	}
	p.triple(s.id, p.known(&p.voc.typ, "type"), p.known(&p.voc.statement, "Statement"))
	p.triple(s.id, p.known(&p.voc.subject, "subject"), s.subject)
	p.triple(s.id, p.known(&p.voc.predicate, "predicate"), s.predicate)
	p.triple(s.id, p.known(&p.voc.object, "object"), object)
}

// property reads a propertyElt (section 7.2.14).
func (p *parser) property(e element, subject, predicate graph.ID) {
	s := statement{subject: subject, predicate: predicate}
	if id := e.rdf("ID"); id != nil {
		s.id = p.identifier(e.context, id)
	}
	if t := e.rdf("parseType"); t != nil {
		p.parseType(e, s, t)
		return
	}
	resource, node, datatype := e.rdf("resource"), e.rdf("nodeID"), e.rdf("datatype")
	for _, pair := range [][2]*attribute{{resource, node}, {resource, datatype}, {node, datatype}} {
		if pair[0] != nil && pair[1] != nil {
			p.failAt(pair[1].at, "", "%s and %s both tell the value", pair[0].raw, pair[1].raw)
		}
	}
	properties := 0
	for i := range e.attrs {
		if a := &e.attrs[i]; a.space != graph.RDF || a.local != "ID" && a.local != "resource" && a.local != "nodeID" && a.local != "datatype" {
			properties++
		}
	}
	if resource != nil || node != nil || properties > 0 {
		p.emptyProperty(e, s, resource, node)
		return
	}
	var kind graph.ID
	if datatype != nil {
		kind = p.datatype(e.context, datatype)
	}
	p.content(e, s, kind, datatype != nil)
}

// emptyProperty reads an emptyPropertyElt (section 7.2.21) with attributes.
// White space in it is let pass.
func (p *parser) emptyProperty(e element, s statement, resource, node *attribute) {
	var object graph.ID
	switch {
	case resource != nil:
		object = p.resolve(e.context, resource.value, resource.at)
	case node != nil:
		object = p.nodeID(node)
	default:
		object = p.fresh('b', e.at)
	}
	p.state(s, object)
	for i := range e.attrs {
		a := &e.attrs[i]
		if a.space == graph.RDF && (a.local == "ID" || a.local == "resource" || a.local == "nodeID" || a.local == "datatype") {
			continue
		}
		p.propertyAttribute(e.context, object, a)
	}
	if inner, ok := p.child("in a property whose attributes tell its value", e.context); ok {
		p.failAt(inner.at, "", "a node may not stand in a property whose attributes tell its value")
	}
}

// content reads what stands in a property that has no attributes: a node
// (section 7.2.15), or a text (section 7.2.16).
func (p *parser) content(e element, s statement, datatype graph.ID, typed bool) {
	var value []byte
	var at place // of the text
	nodes := 0
	for {
		t := p.next()
		switch t.kind {
		case text:
			if at.line == 0 && !blank(p.text) {
				at = t.at
			}
			if nodes == 0 {
				value = append(value, p.text...)
			}
			p.bound(value)
		case start:
			if nodes++; nodes > 1 {
				p.failAt(t.at, `write the property twice, or use rdf:parseType="Collection"`, "a property with two nodes")
			}
			if typed {
				p.failAt(t.at, "", "a node may not stand in a property with rdf:datatype")
			}
			if at.line == 0 {
				inner := p.element(t, e.context)
				object := p.subject(inner)
				p.state(s, object)
				p.describe(inner, object)
			}
		case end:
			if nodes == 0 && typed {
				p.state(s, p.dict.Literal(value, datatype))
			} else if nodes == 0 {
				p.state(s, p.plainLiteral(e.context, value))
			}
			return
		}
		if nodes > 0 && at.line > 0 {
			p.failAt(t.at, `for markup use rdf:parseType="Literal"`, "a text and a node in one property")
		}
	}
}

// datatype returns the number of a datatype, 0 for xsd:string.
func (p *parser) datatype(in context, a *attribute) graph.ID {
	p.resolveInto(in, a.value, a.at)
	switch string(p.iri) {
	case graph.XSDString:
		return 0
	case graph.RDFLangString:
		p.failAt(a.at, "", "a literal of type rdf:langString has xml:lang instead")
	}
	return p.dict.IRI(p.iri)
}

// parseType reads a property with rdf:parseType (sections 7.2.17 to 7.2.20).
func (p *parser) parseType(e element, s statement, t *attribute) {
	for i := range e.attrs {
		if a := &e.attrs[i]; a.space != graph.RDF || a.local != "ID" && a.local != "parseType" {
			p.failAt(a.at, "", "the attribute %s may not stand beside %s", a.raw, t.raw)
		}
	}
	switch t.value {
	case "Resource":
		node := p.fresh('b', e.at)
		p.state(s, node)
		p.properties(e.context, node)
	case "Collection":
		p.collection(e, s)
	default: // every other value means Literal (section 7.2.20)
		p.literal()
		p.state(s, p.dict.Literal(p.text, p.known(&p.voc.xmlLiteral, "XMLLiteral")))
	}
}

// collection reads the nodes of a list (section 7.2.19).
func (p *parser) collection(e element, s statement) {
	var last graph.ID
	for {
		child, ok := p.child("between the nodes of a collection", e.context)
		if !ok {
			break
		}
		cell := p.fresh('l', child.at)
		if last == 0 {
			p.state(s, cell)
		} else {
			p.triple(last, p.known(&p.voc.rest, "rest"), cell)
		}
		node := p.subject(child)
		p.triple(cell, p.known(&p.voc.first, "first"), node)
		p.describe(child, node)
		last = cell
	}
	null := p.known(&p.voc.null, "nil")
	if last == 0 {
		p.state(s, null)
		return
	}
	p.triple(last, p.known(&p.voc.rest, "rest"), null)
}

// expand returns the IRI of a name: namespace and local name, joined.
func (p *parser) expand(space, local string, at place) graph.ID {
	p.iri = append(append(p.iri[:0], space...), local...)
	p.checkIRI(at)
	return p.dict.IRI(p.iri)
}

func (p *parser) checkIRI(at place) {
	if !graph.IsAbsoluteIRI(string(p.iri)) {
		p.failAt(at, "declare the namespace with an absolute IRI", "<%s> is a relative IRI", p.iri)
	}
	if err := graph.CheckIRI(string(p.iri)); err != nil {
		p.failAt(at, "write it as %XX", "<%s>: %v", p.iri, err)
	}
}

// resolve returns the IRI that a reference means (section 5.3).
func (p *parser) resolve(in context, reference string, at place) graph.ID {
	p.resolveInto(in, reference, at)
	return p.dict.IRI(p.iri)
}

func (p *parser) resolveInto(in context, reference string, at place) {
	iri, err := graph.ResolveIRI(in.base, reference)
	if err != nil {
		p.failAt(at, "declare a base with xml:base", "%v", err)
	}
	p.iri = append(p.iri[:0], iri...)
	p.checkIRI(at)
}

// identifier returns the IRI of an rdf:ID, which may be given once in a
// document (section 7.2.22).
func (p *parser) identifier(in context, a *attribute) graph.ID {
	if !isNCName(a.value) {
		p.failAt(a.at, "for other names use rdf:about", "%q may not be the value of %s: it is not a name", a.value, a.raw)
	}
	p.resolveInto(in, "#"+a.value, a.at)
	if _, again := p.ids[string(p.iri)]; again {
		p.failAt(a.at, "use rdf:about to say more of the same node", "%s=%q was given before", a.raw, a.value)
	}
	p.ids[string(p.iri)] = struct{}{}
	return p.dict.IRI(p.iri)
}

// nodeID returns the blank node of an rdf:nodeID.
func (p *parser) nodeID(a *attribute) graph.ID {
	if !isNCName(a.value) {
		p.failAt(a.at, "", "%q may not be the value of %s: it is not a name", a.value, a.raw)
	}
	p.label = append(append(append(p.label[:0], 'u'), p.opts.Scope...), '_')
	p.label = append(p.label, a.value...)
	if bytes.HasSuffix(p.label, []byte(".")) { // which N-Triples does not allow
		p.label[0] = 'v'
		p.label = append(p.label, '_')
	}
	return p.dict.Blank(p.label)
}

// fresh returns the blank node of a place. kind tells the cell of a list from
// the node in it. Elements of one entity are at one place: they are numbered.
func (p *parser) fresh(kind byte, at place) graph.ID {
	p.label = append(append(p.label[:0], kind), p.opts.Scope...)
	p.label = append(p.label, '_')
	p.label = strconv.AppendInt(p.label, int64(at.line), 10)
	p.label = append(p.label, '_')
	p.label = strconv.AppendInt(p.label, at.at-at.from, 10)
	if len(p.stack) > 0 {
		p.unnamed++
		p.label = append(p.label, '_')
		p.label = strconv.AppendInt(p.label, int64(p.unnamed), 10)
	}
	return p.dict.Blank(p.label)
}
