package graph

import (
	"hash/maphash"
	"strings"
)

// ID is the number of a term in a [Dictionary]. Numbers start at 1 and grow in
// order of first appearance; 0 is no term.
type ID uint32

// maxTerms leaves room below the largest ID for the terms that a query computes.
const maxTerms = 1<<32 - 1<<24

// entry is a term in compact form. aux is the ID of the datatype IRI or of the
// language tag of a literal, and 0 for a literal of type xsd:string.
type entry struct {
	value  string
	aux    ID
	kind   Kind
	tagged bool
}

// Dictionary maps terms to numbers and back. It is not safe for concurrent
// use while it grows; a dictionary that no longer grows may be read freely.
//
// It is an open-addressing hash table whose slots hold the upper half of a
// term's hash and its number, so that a miss rarely touches a string. The
// hash is seeded per process, which no number depends on.
type Dictionary struct {
	parent  *Dictionary
	first   ID // number of the last term of parent
	entries []entry
	slots   []uint64 // hash<<32 | number-first; 0 is free
	seed    maphash.Seed
	arena   strings.Builder
	bytes   int64 // that the terms take, about
}

// entryBytes is what a term takes beside its text: its entry and its slots.
const entryBytes = 56

const arenaChunk = 1 << 16

// NewDictionary returns an empty dictionary.
func NewDictionary() *Dictionary {
	return &Dictionary{seed: maphash.MakeSeed(), slots: make([]uint64, 64)}
}

// Extend returns an empty dictionary whose numbers go on where d's end and
// that finds the terms of d under their numbers. d must not grow any more.
func (d *Dictionary) Extend() *Dictionary {
	return &Dictionary{parent: d, first: d.first + ID(len(d.entries)), seed: d.seed, slots: make([]uint64, 64)}
}

// Len returns the largest number in use.
func (d *Dictionary) Len() int { return int(d.first) + len(d.entries) }

func (d *Dictionary) entry(id ID) *entry {
	for id <= d.first {
		d = d.parent
	}
	return &d.entries[id-d.first-1]
}

// Term returns the term with the given number; the zero Term for 0.
func (d *Dictionary) Term(id ID) Term {
	if id == 0 {
		return Term{}
	}
	e := d.entry(id)
	t := Term{Kind: e.kind, Value: e.value}
	if e.kind == Literal {
		switch {
		case e.aux == 0:
			t.Datatype = XSDString
		case e.tagged:
			t.Datatype, t.Lang = RDFLangString, d.entry(e.aux).value
		default:
			t.Datatype = d.entry(e.aux).value
		}
	}
	return t
}

// Text returns the text of a string, with a language or without; ok is false for
// a term that is none.
func (d *Dictionary) Text(id ID) (text string, ok bool) {
	if id == 0 {
		return "", false
	}
	e := d.entry(id)
	return e.value, e.kind == Literal && (e.aux == 0 || e.tagged)
}

// Terms writes the terms with the given numbers into out, which is as long as
// ids; a 0 gives the zero Term.
//
// It is more than a loop around Term: it first reads all entries, then a byte
// or two of every string. None of these reads waits for another, so in a graph
// larger than the caches of the processor they overlap, where term by term
// each would cost a whole round to memory. A few hundred terms at a time are
// what a cache holds until they are used.
func (d *Dictionary) Terms(ids []ID, out []Term) {
	var touched byte
	for _, id := range ids {
		if id != 0 {
			touched |= byte(d.entry(id).kind)
		}
	}
	for i, id := range ids {
		out[i] = d.Term(id)
	}
	for i := range out {
		if s := out[i].Value; s != "" {
			touched |= s[0] | s[len(s)-1]
		}
	}
	d.touched(touched)
}

// touched keeps the compiler from dropping the reads of Terms.
//
//go:noinline
func (d *Dictionary) touched(byte) {}

// Kind returns the kind of the term with the given number.
func (d *Dictionary) Kind(id ID) Kind {
	if id == 0 {
		return Unbound
	}
	return d.entry(id).kind
}

// Intern returns the number of a term, giving it the next one if it is new.
func (d *Dictionary) Intern(t Term) ID {
	switch {
	case t.Kind != Literal:
		return internAs(d, t.Kind, 0, false, t.Value)
	case t.Lang != "":
		return internAs(d, Literal, internAs(d, tag, 0, false, t.Lang), true, t.Value)
	case t.Datatype == XSDString:
		return internAs(d, Literal, 0, false, t.Value)
	}
	return internAs(d, Literal, internAs(d, IRI, 0, false, t.Datatype), false, t.Value)
}

// Lookup returns the number of a term, or 0 if the dictionary does not have it.
func (d *Dictionary) Lookup(t Term) ID {
	var aux ID
	switch {
	case t.Kind != Literal || t.Lang == "" && t.Datatype == XSDString:
	case t.Lang != "":
		if aux = find(d, tag, 0, false, t.Lang, d.hash(tag, 0, t.Lang)); aux == 0 {
			return 0
		}
	default:
		if aux = find(d, IRI, 0, false, t.Datatype, d.hash(IRI, 0, t.Datatype)); aux == 0 {
			return 0
		}
	}
	return find(d, t.Kind, aux, t.Lang != "", t.Value, d.hash(t.Kind, aux, t.Value))
}

// IRI returns the number of an IRI, copying b only if it is new.
func (d *Dictionary) IRI(b []byte) ID { return internAs(d, IRI, 0, false, b) }

// Blank returns the number of the blank node with the given label.
func (d *Dictionary) Blank(label []byte) ID { return internAs(d, Blank, 0, false, label) }

// Literal returns the number of a literal; datatype is the number of an IRI,
// or 0 for xsd:string. To keep one number per term it must not be the number
// of xsd:string or rdf:langString itself.
func (d *Dictionary) Literal(lexical []byte, datatype ID) ID {
	return internAs(d, Literal, datatype, false, lexical)
}

// Tagged returns the number of a language-tagged literal.
func (d *Dictionary) Tagged(lexical, lang []byte) ID {
	return internAs(d, Literal, internAs(d, tag, 0, false, lang), true, lexical)
}

func (d *Dictionary) hash(kind Kind, aux ID, value string) uint64 {
	return mix(maphash.String(d.seed, value), kind, aux)
}

func mix(h uint64, kind Kind, aux ID) uint64 {
	h ^= (uint64(aux)<<3 | uint64(kind)) * 0x9E3779B97F4A7C15
	return h ^ h>>29
}

func find[T string | []byte](d *Dictionary, kind Kind, aux ID, tagged bool, value T, h uint64) ID {
	for ; d != nil; d = d.parent {
		mask := uint64(len(d.slots) - 1)
		for i := h & mask; d.slots[i] != 0; i = (i + 1) & mask {
			slot := d.slots[i]
			if slot>>32 != h>>32 {
				continue
			}
			e := &d.entries[uint32(slot)-1]
			if e.kind == kind && e.aux == aux && e.tagged == tagged && e.value == string(value) {
				return d.first + ID(uint32(slot))
			}
		}
	}
	return 0
}

func internAs[T string | []byte](d *Dictionary, kind Kind, aux ID, tagged bool, value T) ID {
	var h uint64
	switch v := any(value).(type) {
	case string:
		h = maphash.String(d.seed, v)
	case []byte:
		h = maphash.Bytes(d.seed, v)
	}
	h = mix(h, kind, aux)
	if id := find(d, kind, aux, tagged, value, h); id != 0 {
		return id
	}
	if d.Len() >= 1<<32-2 {
		panic("graph: more terms than a dictionary can number") // Builder and query limits are far below
	}
	if 2*len(d.entries) >= len(d.slots) {
		d.grow()
	}
	d.entries = append(d.entries, entry{value: keep(d, value), aux: aux, kind: kind, tagged: tagged})
	d.bytes += entryBytes + int64(len(value))
	d.insert(h, uint32(len(d.entries)))
	return d.first + ID(len(d.entries))
}

// keep returns a copy of value that shares a large allocation with others.
func keep[T string | []byte](d *Dictionary, value T) string {
	if len(value) > arenaChunk/8 {
		return strings.Clone(string(value))
	}
	if d.arena.Cap()-d.arena.Len() < len(value) {
		d.arena = strings.Builder{}
		// A dictionary of few terms, such as that of a query, stays small.
		d.arena.Grow(min(arenaChunk, max(len(value), 512+32*len(d.entries))))
	}
	from := d.arena.Len()
	d.arena.WriteString(string(value))
	return d.arena.String()[from:]
}

func (d *Dictionary) insert(h uint64, n uint32) {
	mask := uint64(len(d.slots) - 1)
	i := h & mask
	for d.slots[i] != 0 {
		i = (i + 1) & mask
	}
	d.slots[i] = h>>32<<32 | uint64(n)
}

func (d *Dictionary) grow() {
	d.slots = make([]uint64, 2*len(d.slots))
	for i := range d.entries {
		e := &d.entries[i]
		d.insert(d.hash(e.kind, e.aux, e.value), uint32(i+1))
	}
}
