package sparql

import (
	"fmt"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// pathRunner evaluates a path that patterns cannot express: * + ? and negated
// sets (sections 9.3 and 18.4). The first three give each pair of ends once.
type pathRunner struct {
	x        *execution
	op       *opPath
	ids      [2]graph.ID // of constant ends
	step     pathStep
	distinct bool
}

// pathStep walks one element of a path from a node, in either direction, and
// calls f with every node reached until f returns false.
type pathStep interface {
	walk(from graph.ID, back bool, f func(graph.ID) bool) bool
}

func newPathRunner(x *execution, op *opPath) *pathRunner {
	r := &pathRunner{x: x, op: op, step: newPathStep(x, op.path), distinct: op.path.op != pathNegated}
	for i, end := range []ref{op.s, op.o} {
		if end.slot < 0 {
			r.ids[i] = x.dict.Intern(end.term)
		}
	}
	return r
}

func (r *pathRunner) end(i int, of ref) graph.ID {
	if of.slot < 0 {
		return r.ids[i]
	}
	return r.x.row[of.slot]
}

func (r *pathRunner) run(k func() bool) bool {
	s, o := r.end(0, r.op.s), r.end(1, r.op.o)
	if !r.possible(r.op.s, s, r.ids[1]) || !r.possible(r.op.o, o, r.ids[0]) {
		return true
	}
	switch {
	case s != 0:
		return r.from(s, o, r.op.o.slot, false, k)
	case o != 0:
		return r.from(o, 0, r.op.s.slot, true, k)
	}
	slot := r.op.s.slot
	return r.starts(func(start graph.ID) bool {
		r.x.row[slot] = start
		// The other end may be the same variable.
		ok := r.from(start, r.x.row[r.op.o.slot], r.op.o.slot, false, k)
		r.x.row[slot] = 0
		return ok
	})
}

// possible tells whether a variable may have the value that it brings along.
// On its own, a path gives it nodes of the graph only, and of the terms of the
// query only the constant at the other end: a value from elsewhere is none,
// although no step has to be taken from it.
func (r *pathRunner) possible(end ref, id, other graph.ID) bool {
	return end.slot < 0 || id == 0 || id == other || r.x.active.IsNode(id) || r.x.base[end.slot] == id
}

// starts calls f with every node at which a path may start.
func (r *pathRunner) starts(f func(graph.ID) bool) bool {
	if c, ok := r.step.(*pathClosure); ok && !c.zero {
		if link, ok := c.inner.(*pathLinkStep); ok && !link.inverse {
			before := graph.ID(0)
			seen := c.seen(&c.starts)
			return r.x.active.Match(0, link.id, 0, func(s, _, _ graph.ID) bool {
				if s == before || !seen.add(s) {
					return true
				}
				before = s
				return f(s)
			})
		}
	}
	return r.x.active.Nodes(f)
}

// from walks from one end. If to is given it is the only end wanted, else each
// end is put into the slot.
func (r *pathRunner) from(start, to graph.ID, slot int, back bool, k func() bool) bool {
	found := false
	ok := r.step.walk(start, back, func(end graph.ID) bool {
		if !r.x.tick() {
			return false
		}
		if to != 0 {
			if end != to {
				return true
			}
			if r.distinct {
				found = true
				return false
			}
			return k()
		}
		r.x.row[slot] = end
		ok := k()
		r.x.row[slot] = 0
		return ok
	})
	if found {
		return k()
	}
	return ok
}

func (r *pathRunner) explain(e *explainer) {
	e.line("path %s %s %s", e.ref(r.op.s), r.op.path, e.ref(r.op.o))
}

func newPathStep(x *execution, p *path) pathStep {
	switch p.op {
	case pathLink:
		return &pathLinkStep{x: x, id: x.dict.Intern(graph.NewIRI(p.iri))}
	case pathInverse:
		if p.args[0].op == pathLink {
			return &pathLinkStep{x: x, id: x.dict.Intern(graph.NewIRI(p.args[0].iri)), inverse: true}
		}
		return &pathInverseStep{newPathStep(x, p.args[0])}
	case pathSequence:
		return &pathSequenceStep{pathSteps(x, p.args)}
	case pathAlternative:
		return &pathAlternativeStep{pathSteps(x, p.args)}
	case pathNegated:
		return newPathNegatedStep(x, p)
	}
	return &pathClosure{x: x, inner: newPathStep(x, p.args[0]), zero: p.op != pathOneOrMore, once: p.op == pathZeroOrOne}
}

func pathSteps(x *execution, args []*path) []pathStep {
	var out []pathStep
	for _, a := range args {
		out = append(out, newPathStep(x, a))
	}
	return out
}

type pathLinkStep struct {
	x       *execution
	id      graph.ID
	inverse bool
}

func (s *pathLinkStep) walk(from graph.ID, back bool, f func(graph.ID) bool) bool {
	if back != s.inverse {
		return s.x.active.Match(0, s.id, from, func(n, _, _ graph.ID) bool { return s.x.tick() && f(n) })
	}
	return s.x.active.Match(from, s.id, 0, func(_, _, n graph.ID) bool { return s.x.tick() && f(n) })
}

type pathInverseStep struct{ inner pathStep }

func (s *pathInverseStep) walk(from graph.ID, back bool, f func(graph.ID) bool) bool {
	return s.inner.walk(from, !back, f)
}

type pathSequenceStep struct{ steps []pathStep }

func (s *pathSequenceStep) walk(from graph.ID, back bool, f func(graph.ID) bool) bool {
	return walkSequence(s.steps, from, back, f)
}

func walkSequence(steps []pathStep, from graph.ID, back bool, f func(graph.ID) bool) bool {
	n := len(steps)
	switch {
	case n == 1:
		return steps[0].walk(from, back, f)
	case back:
		return steps[n-1].walk(from, back, func(next graph.ID) bool { return walkSequence(steps[:n-1], next, back, f) })
	}
	return steps[0].walk(from, back, func(next graph.ID) bool { return walkSequence(steps[1:], next, back, f) })
}

type pathAlternativeStep struct{ steps []pathStep }

func (s *pathAlternativeStep) walk(from graph.ID, back bool, f func(graph.ID) bool) bool {
	for _, step := range s.steps {
		if !step.walk(from, back, f) {
			return false
		}
	}
	return true
}

// pathNegatedStep is !(…): any property but those listed, and, if an inverse
// one is listed, any property backwards but those listed so.
type pathNegatedStep struct {
	x                     *execution
	forward, backward     map[graph.ID]bool
	goForward, goBackward bool
}

func newPathNegatedStep(x *execution, p *path) *pathNegatedStep {
	s := &pathNegatedStep{x: x, forward: map[graph.ID]bool{}, backward: map[graph.ID]bool{}}
	for _, a := range p.args {
		if a.op == pathInverse {
			s.backward[x.dict.Intern(graph.NewIRI(a.args[0].iri))] = true
		} else {
			s.forward[x.dict.Intern(graph.NewIRI(a.iri))] = true
		}
	}
	s.goBackward = len(s.backward) > 0
	s.goForward = len(s.forward) > 0 || !s.goBackward
	return s
}

func (s *pathNegatedStep) walk(from graph.ID, back bool, f func(graph.ID) bool) bool {
	along, against := s.forward, s.backward // subject to object, object to subject
	goAlong, goAgainst := s.goForward, s.goBackward
	if back {
		along, against, goAlong, goAgainst = against, along, goAgainst, goAlong
	}
	if goAlong && !s.x.active.Match(from, 0, 0, func(_, p, n graph.ID) bool { return along[p] || s.x.tick() && f(n) }) {
		return false
	}
	return !goAgainst || s.x.active.Match(0, 0, from, func(n, p, _ graph.ID) bool { return against[p] || s.x.tick() && f(n) })
}

// pathClosure is * + or ?: it reaches each node once (section 18.4, ALP).
type pathClosure struct {
	x      *execution
	inner  pathStep
	zero   bool // reaches the start itself without a step
	once   bool // takes one step at most
	marks  nodeSet
	starts nodeSet
	queue  []graph.ID
}

func (c *pathClosure) seen(s *nodeSet) *nodeSet {
	s.reset(c.x)
	return s
}

func (c *pathClosure) walk(from graph.ID, back bool, f func(graph.ID) bool) bool {
	seen := c.seen(&c.marks)
	// The queue is taken away while f runs, in case f leads back here.
	queue := c.queue[:0]
	c.queue = nil
	ok := true
	if c.zero {
		seen.add(from)
		ok = f(from)
	}
	visit := func(n graph.ID) bool {
		if !c.x.tick() {
			return false
		}
		if !seen.add(n) {
			return true
		}
		if !c.once {
			queue = append(queue, n)
		}
		return f(n)
	}
	ok = ok && c.inner.walk(from, back, visit)
	level, end := 1, len(queue)
	for i := 0; ok && i < len(queue); i++ {
		if i == end {
			level, end = level+1, len(queue)
			if level > c.x.limits.PathLength {
				ok = c.x.fail(fault.New(fault.Finding, "raise the limit of path length",
					"a property path is longer than %d steps", c.x.limits.PathLength))
				break
			}
		}
		ok = c.inner.walk(queue[i], back, visit)
	}
	c.queue = queue
	return ok
}

// nodeSet is a set of numbers that is emptied in no time. A small one is a hash
// table; one that has grown to a part of the graph is an array with a place
// for every term.
type nodeSet struct {
	x     *execution
	round uint32   // in which a place was taken: those of other rounds are free
	count int      // of the current round, while it is a table
	table []uint64 // round<<32 | number, open addressing
	marks []uint32 // round in which a number was added; nil while it is a table
}

const smallNodeSet = 64

func (s *nodeSet) reset(x *execution) {
	if s.round++; s.round == 0 {
		clear(s.table)
		clear(s.marks)
		s.round = 1
	}
	s.x, s.count = x, 0
}

// add tells whether n was not in the set.
func (s *nodeSet) add(n graph.ID) bool {
	if s.marks == nil {
		if 2*s.count < len(s.table) || s.grow() {
			return s.put(n)
		}
	}
	if int(n) >= len(s.marks) { // a term that the query made
		s.extend(max(int(n)+1, s.x.dict.Len()+1))
	}
	if s.marks[n] == s.round {
		return false
	}
	s.marks[n] = s.round
	return true
}

func (s *nodeSet) put(n graph.ID) bool {
	mask := uint64(len(s.table) - 1)
	entry := uint64(s.round)<<32 | uint64(n)
	i := mixID(0, n) & mask
	for ; s.table[i]>>32 == uint64(s.round); i = (i + 1) & mask {
		if s.table[i] == entry {
			return false
		}
	}
	s.table[i] = entry
	s.count++
	return true
}

// grow doubles the table, or returns false if marks take its place.
func (s *nodeSet) grow() bool {
	old := s.table
	size := max(smallNodeSet, 2*len(old))
	table := 16*size < s.x.dict.Len() || size == smallNodeSet
	if table {
		s.x.charge(8 * (size - len(old)))
		s.table, s.count = make([]uint64, size), 0
	} else {
		s.extend(s.x.dict.Len() + 1)
		s.table = nil
	}
	for _, entry := range old {
		if entry>>32 != uint64(s.round) {
			continue
		}
		if n := graph.ID(uint32(entry)); table {
			s.put(n)
		} else {
			s.marks[n] = s.round
		}
	}
	return table
}

// extend makes room for marks of the numbers below size.
func (s *nodeSet) extend(size int) {
	s.x.charge(4 * (size - len(s.marks)))
	s.marks = append(s.marks, make([]uint32, size-len(s.marks))...)
}

// String returns the path in the syntax of queries, with full IRIs.
func (p *path) String() string {
	var args []string
	for _, a := range p.args {
		args = append(args, a.String())
	}
	switch p.op {
	case pathLink:
		return "<" + p.iri + ">"
	case pathInverse:
		return "^" + args[0]
	case pathSequence:
		return "(" + strings.Join(args, "/") + ")"
	case pathAlternative:
		return "(" + strings.Join(args, "|") + ")"
	case pathNegated:
		return "!(" + strings.Join(args, "|") + ")"
	}
	return fmt.Sprintf("(%s)%c", args[0], "*+?"[p.op-pathZeroOrMore])
}
