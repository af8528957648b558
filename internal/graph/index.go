package graph

import (
	"slices"
	"sort"
)

// Index holds the triples of one graph in three orders. In each order the
// triples are grouped by their first component; a group is a run of pairs of
// the other two, packed into one word each and sorted, so the triples that
// match any pattern are one run found by at most two binary searches, and
// counting them is exact and costs no more.
type Index struct {
	spo, pos, osp ordering
	predicates    map[ID]PredicateStats
}

// ordering is one of the three orders.
type ordering struct {
	keys  []ID     // nil if dense: then start is indexed by the first component
	start []uint32 // start[i] … start[i+1] is the run of key i
	pairs []uint64 // second<<32 | third
}

// PredicateStats are exact counts of the triples with one predicate.
type PredicateStats struct{ Triples, Subjects, Objects int }

// triple is a subject, a predicate and an object.
type triple [3]ID

// newIndex sorts the triples and drops duplicates. It uses ts as scratch
// space. highest is the largest number that occurs.
//
// Numbers are dense, so each order is one or three passes of a stable counting
// sort: by object, predicate and subject for the first order; that order
// stably sorted by object is the third; the third by predicate is the second.
func newIndex(ts []triple, highest ID) *Index {
	x := &Index{predicates: map[ID]PredicateStats{}}
	other := make([]triple, len(ts))
	if len(ts) < int(highest)/4 {
		slices.SortFunc(ts, compareSPO)
	} else {
		count := make([]uint32, highest+2)
		for _, component := range []int{2, 1, 0} {
			countingSort(other, ts, component, count)
			ts, other = other, ts
		}
	}
	ts = slices.Compact(ts)
	other = other[:len(ts)]
	x.spo = newOrdering(ts, 0, 1, 2, highest)
	stableSort(other, ts, 2, highest)
	x.osp = newOrdering(other, 2, 0, 1, highest)
	stableSort(ts, other, 1, highest)
	x.pos = newOrdering(ts, 1, 2, 0, highest)
	x.countPredicates()
	return x
}

func compareSPO(a, b triple) int { return slices.Compare(a[:], b[:]) }

func stableSort(dst, src []triple, component int, highest ID) {
	if len(src) < int(highest)/4 {
		copy(dst, src)
		slices.SortStableFunc(dst, func(a, b triple) int { return int(int64(a[component]) - int64(b[component])) })
		return
	}
	countingSort(dst, src, component, make([]uint32, highest+2))
}

func countingSort(dst, src []triple, component int, count []uint32) {
	clear(count)
	for i := range src {
		count[src[i][component]+1]++
	}
	for i := 1; i < len(count); i++ {
		count[i] += count[i-1]
	}
	for i := range src {
		k := src[i][component]
		dst[count[k]] = src[i]
		count[k]++
	}
}

func newOrdering(ts []triple, first, second, third int, highest ID) ordering {
	o := ordering{pairs: make([]uint64, len(ts))}
	for i := range ts {
		o.pairs[i] = uint64(ts[i][second])<<32 | uint64(ts[i][third])
	}
	groups := 0
	for i := range ts {
		if i == 0 || ts[i][first] != ts[i-1][first] {
			groups++
		}
	}
	if groups < int(highest)/4 { // a small graph beside large ones, or few predicates
		o.keys, o.start = make([]ID, 0, groups), make([]uint32, 0, groups+1)
		for i := range ts {
			if i == 0 || ts[i][first] != ts[i-1][first] {
				o.keys, o.start = append(o.keys, ts[i][first]), append(o.start, uint32(i))
			}
		}
		o.start = append(o.start, uint32(len(ts)))
		return o
	}
	o.start = make([]uint32, highest+2)
	for i := range ts {
		o.start[ts[i][first]+1]++
	}
	for i := 1; i < len(o.start); i++ {
		o.start[i] += o.start[i-1]
	}
	return o
}

// run returns the pairs of one first component.
func (o *ordering) run(key ID) []uint64 {
	i := int(key)
	if o.keys != nil {
		n, ok := slices.BinarySearch(o.keys, key)
		if !ok {
			return nil
		}
		i = n
	} else if i+1 >= len(o.start) {
		return nil
	}
	return o.pairs[o.start[i]:o.start[i+1]]
}

// each calls f with every first component and its run, in ascending order.
func (o *ordering) each(f func(key ID, pairs []uint64) bool) bool {
	for i := 0; i+1 < len(o.start); i++ {
		if o.start[i] == o.start[i+1] {
			continue
		}
		key := ID(i)
		if o.keys != nil {
			key = o.keys[i]
		}
		if !f(key, o.pairs[o.start[i]:o.start[i+1]]) {
			return false
		}
	}
	return true
}

// sub returns the part of a run whose second component is the given one.
func sub(pairs []uint64, second ID) []uint64 {
	lo := searchPairs(pairs, uint64(second)<<32)
	pairs = pairs[lo:]
	return pairs[:searchPairs(pairs, (uint64(second)+1)<<32)]
}

// searchPairs is sort.Search over packed pairs; short runs are the rule, so
// it walks those.
func searchPairs(pairs []uint64, from uint64) int {
	if len(pairs) <= fewPairs {
		for i, p := range pairs {
			if p >= from {
				return i
			}
		}
		return len(pairs)
	}
	return sort.Search(len(pairs), func(i int) bool { return pairs[i] >= from })
}

func (x *Index) countPredicates() {
	x.pos.each(func(p ID, pairs []uint64) bool {
		st := PredicateStats{Triples: len(pairs)}
		for i, pair := range pairs {
			if i == 0 || pair>>32 != pairs[i-1]>>32 {
				st.Objects++
			}
		}
		x.predicates[p] = st
		return true
	})
	subjects := make(map[ID]int, len(x.predicates))
	x.spo.each(func(_ ID, pairs []uint64) bool {
		for i, pair := range pairs {
			if i == 0 || pair>>32 != pairs[i-1]>>32 {
				subjects[ID(pair>>32)]++
			}
		}
		return true
	})
	for p, n := range subjects {
		st := x.predicates[p]
		st.Subjects = n
		x.predicates[p] = st
	}
}

// Len returns the number of triples.
func (x *Index) Len() int { return len(x.spo.pairs) }

// Predicate returns the counts for one predicate.
func (x *Index) Predicate(p ID) PredicateStats { return x.predicates[p] }

// Predicates returns how many predicates there are.
func (x *Index) Predicates() int { return len(x.predicates) }

// Has tells whether the triple is in the graph.
func (x *Index) Has(s, p, o ID) bool {
	_, ok := slices.BinarySearch(x.spo.run(s), uint64(p)<<32|uint64(o))
	return ok
}

// Count returns how many triples match; 0 stands for any term.
func (x *Index) Count(s, p, o ID) int {
	switch {
	case s != 0 && p != 0 && o != 0:
		if x.Has(s, p, o) {
			return 1
		}
		return 0
	case s == 0 && p == 0 && o == 0:
		return x.Len()
	}
	pairs, in := x.find(s, p, o)
	if in == orderOSP && p != 0 {
		n := 0
		for _, pair := range pairs {
			if ID(uint32(pair)) == p {
				n++
			}
		}
		return n
	}
	return len(pairs)
}

// order names the components of a run: the first is fixed by the run.
type order uint8

const (
	orderSPO order = iota
	orderPOS
	orderOSP
)

// fewPairs is the length up to which a run is rather walked than searched.
const fewPairs = 8

// find returns the run of a pattern with at least one and at most two
// components given, and the order that it is in. The run of a predicate and an
// object may be in the order of the object and have other predicates in it:
// an object that few triples have is found in two steps, which a search among
// all objects of the predicate, with a cache miss at every turn, is far from.
func (x *Index) find(s, p, o ID) ([]uint64, order) {
	switch {
	case s != 0 && p != 0:
		return sub(x.spo.run(s), p), orderSPO
	case p != 0 && o != 0:
		if x.osp.keys == nil {
			if pairs := x.osp.run(o); len(pairs) <= fewPairs {
				return pairs, orderOSP
			}
		}
		return sub(x.pos.run(p), o), orderPOS
	case s != 0 && o != 0:
		return sub(x.osp.run(o), s), orderOSP
	case s != 0:
		return x.spo.run(s), orderSPO
	case p != 0:
		return x.pos.run(p), orderPOS
	default:
		return x.osp.run(o), orderOSP
	}
}

// Match calls f for every triple that matches, 0 standing for any term, in an
// order that depends on nothing but the graph and the pattern, until f returns
// false. It returns false if f did.
func (x *Index) Match(s, p, o ID, f func(s, p, o ID) bool) bool {
	switch {
	case s != 0 && p != 0 && o != 0:
		return !x.Has(s, p, o) || f(s, p, o)
	case s == 0 && p == 0 && o == 0:
		return x.spo.each(func(s ID, pairs []uint64) bool {
			for _, pair := range pairs {
				if !f(s, ID(pair>>32), ID(uint32(pair))) {
					return false
				}
			}
			return true
		})
	}
	pairs, in := x.find(s, p, o)
	switch in {
	case orderSPO:
		for _, pair := range pairs {
			if !f(s, ID(pair>>32), ID(uint32(pair))) {
				return false
			}
		}
	case orderPOS:
		for _, pair := range pairs {
			if !f(ID(uint32(pair)), p, ID(pair>>32)) {
				return false
			}
		}
	case orderOSP:
		for _, pair := range pairs {
			if p != 0 && p != ID(uint32(pair)) {
				continue
			}
			if !f(ID(pair>>32), ID(uint32(pair)), o) {
				return false
			}
		}
	}
	return true
}

// IsNode tells whether the term is a subject or an object.
func (x *Index) IsNode(id ID) bool { return len(x.spo.run(id)) > 0 || len(x.osp.run(id)) > 0 }

// Nodes calls f once for every term that is a subject or an object, in
// ascending order of their numbers, until f returns false.
func (x *Index) Nodes(f func(ID) bool) bool {
	var pending []ID // objects below the next subject
	x.osp.each(func(o ID, _ []uint64) bool { pending = append(pending, o); return true })
	ok := x.spo.each(func(s ID, _ []uint64) bool {
		for len(pending) > 0 && pending[0] < s {
			if !f(pending[0]) {
				return false
			}
			pending = pending[1:]
		}
		if len(pending) > 0 && pending[0] == s {
			pending = pending[1:]
		}
		return f(s)
	})
	for ok && len(pending) > 0 {
		ok, pending = f(pending[0]), pending[1:]
	}
	return ok
}
