package jsonld

import (
	"maps"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Bounds of what contexts make of a document.
const (
	// maxContextWork bounds the bytes of contexts that are gone through: each
	// context anew, with all that is in scope, wherever one is used.
	maxContextWork = 1 << 28
	// maxExpanded bounds the bytes of all names and strings, each as long as the
	// longest IRI that its contexts can make.
	maxExpanded = 1 << 30
	// maxTermDepth bounds how many terms of a context build on each other.
	maxTermDepth = 32
)

// budget adds up what an expansion may cost at most. The library is not to be
// stopped once it runs, and its work is not linear in the size of a document.
type budget struct {
	work, expanded int64
	tooDeep        string // a term
	nested         string // a term for @nest with a context of its own
}

// scope is what the contexts around a value amount to.
type scope struct {
	bytes, longest             int64 // of all, and of the longest IRI that they make
	scopedBytes, scopedLongest int64 // of contexts that are attached to terms
}

// affordable refuses a document whose contexts are out of proportion.
func (d *document) affordable() error {
	var b budget
	b.value(d.root, scope{longest: int64(len(d.opts.Base))})
	switch {
	case b.nested != "":
		return fault.New(fault.Finding, "write the properties beside the others", "%s: the term %.100q for @nest has a context of its own, which is not read", d.opts.File, b.nested)
	case b.tooDeep != "":
		return fault.New(fault.Finding, "write the IRI of the term in full", "%s: the term %.100q builds on more than %d others", d.opts.File, b.tooDeep, maxTermDepth)
	case b.work > maxContextWork:
		return fault.New(fault.Finding, "use one context for the whole document", "%s: its contexts take more than %d bytes of reading", d.opts.File, maxContextWork)
	case b.expanded > maxExpanded:
		return fault.New(fault.Finding, "convert it to Turtle or N-Triples", "%s: it may expand to more than %d bytes", d.opts.File, maxExpanded)
	}
	return nil
}

// spent tells whether it is pointless to go on.
func (b *budget) spent() bool {
	return b.work > maxContextWork || b.expanded > maxExpanded || b.tooDeep != ""
}

func (b *budget) value(v any, in scope) {
	if b.spent() {
		return
	}
	switch v := v.(type) {
	case string:
		b.expanded += in.longest + int64(len(v))
	case []any:
		for _, item := range v {
			b.value(item, in)
		}
	case map[string]any:
		if local, ok := v["@context"]; ok {
			b.enter(local, &in)
		}
		if in.scopedBytes > 0 {
			// A property and every type may bring a context of their own.
			b.work += (in.bytes + in.scopedBytes) * int64(1+strs(v))
			in.longest += in.scopedLongest
		}
		for key, member := range v {
			b.expanded += in.longest + int64(len(key))
			if key != "@context" {
				b.value(member, in)
			}
		}
	}
}

// strs counts the strings that may be types of a node.
func strs(m map[string]any) int {
	n := 0
	for _, v := range m {
		switch v := v.(type) {
		case string:
			n++
		case []any:
			n += len(v)
		}
	}
	return n
}

// enter adds local contexts to the scope.
func (b *budget) enter(local any, in *scope) {
	items, ok := local.([]any)
	if !ok {
		items = []any{local}
	}
	for _, item := range items {
		if b.spent() {
			return
		}
		definitions, ok := item.(map[string]any)
		if !ok {
			b.work += 16
			continue
		}
		in.bytes += size(definitions)
		in.longest += b.longest(definitions)
		b.scoped(definitions, in)
		b.work += in.bytes
	}
}

// scoped adds the contexts that are attached to terms.
func (b *budget) scoped(definitions map[string]any, in *scope) {
	for term, definition := range definitions {
		m, _ := definition.(map[string]any)
		local, ok := m["@context"]
		if !ok {
			continue
		}
		if m["@id"] == "@nest" {
			b.nested = term
		}
		inner := scope{}
		b.enter(local, &inner)
		in.scopedBytes += inner.bytes + inner.scopedBytes
		in.scopedLongest += inner.longest + inner.scopedLongest
	}
}

// size is the bytes of a context.
func size(v any) int64 {
	switch v := v.(type) {
	case string:
		return int64(len(v)) + 16
	case []any:
		n := int64(16)
		for _, item := range v {
			n += size(item)
		}
		return n
	case map[string]any:
		n := int64(64)
		for key, member := range v {
			n += int64(len(key)) + 16 + size(member)
		}
		return n
	}
	return 16
}

// longest returns the length of the longest IRI that the definitions of one
// context make of a term.
func (b *budget) longest(definitions map[string]any) int64 {
	lengths := make(map[string]int64, len(definitions))
	most := int64(0)
	for _, term := range slices.Sorted(maps.Keys(definitions)) {
		most = max(most, b.length(definitions, lengths, term, 0))
	}
	vocabulary, _ := definitions["@vocab"].(string)
	base, _ := definitions["@base"].(string)
	return most + int64(len(vocabulary)+len(base))
}

// length returns how long the IRI of a term may be: its definition, and what the
// terms in that stand for. A circle, which the expansion reports, counts as
// nothing.
func (b *budget) length(definitions map[string]any, lengths map[string]int64, term string, depth int) int64 {
	if n, known := lengths[term]; known {
		return n
	}
	if depth > maxTermDepth {
		b.tooDeep = term
		return 0
	}
	lengths[term] = 0 // while it is being computed
	most := int64(0)
	texts := []string{term}
	switch v := definitions[term].(type) {
	case string:
		texts = append(texts, v)
	case map[string]any:
		for _, member := range v {
			if text, ok := member.(string); ok {
				texts = append(texts, text)
			}
		}
	}
	for _, text := range texts {
		n := int64(0)
		prefix, _, _ := strings.Cut(text, ":")
		for _, other := range []string{text, prefix} {
			if _, ok := definitions[other]; ok && other != term && b.tooDeep == "" {
				n = max(n, b.length(definitions, lengths, other, depth+1))
			}
		}
		most = max(most, n+int64(len(text)))
	}
	lengths[term] = most
	return most
}
