package rdfxml

import (
	"slices"
	"strings"
)

// writer writes an XML literal in Exclusive XML Canonicalization with comments
// (the specification, section 7.2.17, names its form).
type writer struct {
	out  []byte
	tags []written // open elements of the literal
	// rendered are the namespaces that were written and are in scope.
	rendered map[string]string
}

// written is an element whose start was written.
type written struct {
	name string
	undo []binding
}

// literal reads the children of the current element up to its end and leaves
// them in p.text.
func (p *parser) literal() {
	w := writer{rendered: map[string]string{}}
	for {
		t := p.next()
		switch t.kind {
		case text:
			w.escape(p.text, false)
		case comment:
			w.out = append(append(append(w.out, "<!--"...), p.text...), "-->"...)
		case procedure:
			w.out = append(append(w.out, "<?"...), t.name.raw...)
			if len(p.text) > 0 {
				w.out = append(append(w.out, ' '), p.text...)
			}
			w.out = append(w.out, "?>"...)
		case start:
			w.start(t, p.attrs)
		case end:
			if len(w.tags) == 0 {
				p.text = w.out
				return
			}
			w.end()
		}
		p.bound(w.out)
	}
}

// start writes a start tag: the namespaces that it visibly uses and that are not
// in scope, by prefix, and the attributes by namespace and name (Exclusive XML
// Canonicalization 1.0, section 3; Canonical XML 1.0, section 2.2 and 2.3).
func (w *writer) start(t token, attrs []attribute) {
	tag := written{name: t.name.raw}
	uses := []binding{{prefix: t.name.prefix, space: t.space}}
	for _, a := range attrs {
		if a.prefix != "" {
			uses = append(uses, binding{prefix: a.prefix, space: a.space})
		}
	}
	slices.SortFunc(uses, func(a, b binding) int { return strings.Compare(a.prefix, b.prefix) })
	w.out = append(append(w.out, '<'), tag.name...)
	for _, u := range uses {
		old, had := w.rendered[u.prefix]
		if old == u.space || u.prefix == "xml" {
			continue
		}
		tag.undo = append(tag.undo, binding{u.prefix, old, had})
		w.rendered[u.prefix] = u.space
		if u.prefix == "" {
			w.attribute("xmlns", u.space)
		} else {
			w.attribute("xmlns:"+u.prefix, u.space)
		}
	}
	sorted := slices.Clone(attrs)
	slices.SortFunc(sorted, func(a, b attribute) int {
		if c := strings.Compare(a.space, b.space); c != 0 {
			return c
		}
		return strings.Compare(a.local, b.local)
	})
	for _, a := range sorted {
		w.attribute(a.raw, a.value)
	}
	w.out = append(w.out, '>')
	w.tags = append(w.tags, tag)
}

func (w *writer) end() {
	tag := w.tags[len(w.tags)-1]
	w.tags = w.tags[:len(w.tags)-1]
	w.out = append(append(append(w.out, "</"...), tag.name...), '>')
	for _, b := range tag.undo {
		if b.had {
			w.rendered[b.prefix] = b.space
		} else {
			delete(w.rendered, b.prefix)
		}
	}
}

func (w *writer) attribute(name, value string) {
	w.out = append(append(append(w.out, ' '), name...), `="`...)
	w.escape([]byte(value), true)
	w.out = append(w.out, '"')
}

// escape appends a text as Canonical XML 1.0, section 2.3, writes it.
func (w *writer) escape(text []byte, attribute bool) {
	for _, c := range text {
		switch {
		case c == '&':
			w.out = append(w.out, "&amp;"...)
		case c == '<':
			w.out = append(w.out, "&lt;"...)
		case c == '>' && !attribute:
			w.out = append(w.out, "&gt;"...)
		case c == '"' && attribute:
			w.out = append(w.out, "&quot;"...)
		case c == '\t' && attribute:
			w.out = append(w.out, "&#x9;"...)
		case c == '\n' && attribute:
			w.out = append(w.out, "&#xA;"...)
		case c == '\r':
			w.out = append(w.out, "&#xD;"...)
		default:
			w.out = append(w.out, c)
		}
	}
}
