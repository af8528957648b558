package graph

import (
	"fmt"
	"hash/fnv"
	"slices"
)

// Isomorphic tells whether the default graphs of a and b are the same graph up
// to the labels of blank nodes (RDF 1.1 Concepts, section 3.6).
//
// Blank nodes are coloured by what is around them until the colours no longer
// separate more; where several share a colour, one is paired with each
// candidate in turn. That is quick for graphs that people write and
// exponential for graphs made to be hard; steps bounds the attempts, after
// which an error says that the question is open.
func Isomorphic(a, b *Graph) (bool, error) {
	ta, tb := termTriples(a), termTriples(b)
	if len(ta) != len(tb) {
		return false, nil
	}
	m := matcher{a: ta, b: tb, left: maxIsomorphismSteps}
	same := m.match(colouring{}, colouring{})
	if m.left < 0 {
		return false, fmt.Errorf("graphs of %d triples: too symmetric to compare in %d steps", len(ta), maxIsomorphismSteps)
	}
	return same, nil
}

const maxIsomorphismSteps = 10_000

func termTriples(g *Graph) [][3]Term {
	var out [][3]Term
	g.Match(0, 0, 0, func(s, p, o ID) bool {
		out = append(out, [3]Term{g.dict.Term(s), g.dict.Term(p), g.dict.Term(o)})
		return true
	})
	return out
}

// colouring gives each blank node a number that depends on its surroundings only.
type colouring map[string]uint64

type matcher struct {
	a, b [][3]Term
	left int
}

func (m *matcher) match(ca, cb colouring) bool {
	if m.left--; m.left < 0 {
		return false
	}
	ca, cb = refine(m.a, ca), refine(m.b, cb)
	classesA, classesB := classes(ca), classes(cb)
	if len(classesA) != len(classesB) {
		return false
	}
	var pick uint64
	for colour, nodes := range classesA {
		if len(classesB[colour]) != len(nodes) {
			return false
		}
		if len(nodes) > 1 && (pick == 0 || colour < pick) {
			pick = colour
		}
	}
	if pick == 0 {
		return slices.Equal(coloured(m.a, ca), coloured(m.b, cb))
	}
	const single = 0x5851F42D4C957F2D
	fixed := ca.with(classesA[pick][0], pick^single)
	for _, candidate := range classesB[pick] {
		if m.match(fixed, cb.with(candidate, pick^single)) {
			return true
		}
	}
	return false
}

func (c colouring) with(node string, colour uint64) colouring {
	out := make(colouring, len(c))
	for k, v := range c {
		out[k] = v
	}
	out[node] = colour
	return out
}

func classes(c colouring) map[uint64][]string {
	out := map[uint64][]string{}
	for node, colour := range c {
		out[colour] = append(out[colour], node)
	}
	for _, nodes := range out {
		slices.Sort(nodes)
	}
	return out
}

// refine mixes into each node's colour those of its triples until the number
// of colours stays the same.
func refine(ts [][3]Term, c colouring) colouring {
	for count := -1; ; {
		around := map[string][]uint64{}
		for _, t := range ts {
			for i, x := range t {
				if x.Kind == Blank {
					around[x.Value] = append(around[x.Value], tripleColour(t, c, i))
				}
			}
		}
		next, seen := make(colouring, len(around)), map[uint64]bool{}
		for node, hs := range around {
			slices.Sort(hs)
			h := fnv.New64a()
			fmt.Fprint(h, c[node], hs)
			next[node] = h.Sum64()
			seen[next[node]] = true
		}
		c = next
		if len(seen) == count {
			return c
		}
		count = len(seen)
	}
}

func tripleColour(t [3]Term, c colouring, self int) uint64 {
	h := fnv.New64a()
	for i, x := range t {
		if x.Kind == Blank {
			fmt.Fprint(h, "_", c[x.Value], i == self || self >= 0 && x == t[self], " ")
		} else {
			fmt.Fprintf(h, "%q%q%q ", x.String(), x.Datatype, x.Lang)
		}
	}
	return h.Sum64()
}

func coloured(ts [][3]Term, c colouring) []uint64 {
	out := make([]uint64, len(ts))
	for i, t := range ts {
		out[i] = tripleColour(t, c, -1)
	}
	slices.Sort(out)
	return out
}
