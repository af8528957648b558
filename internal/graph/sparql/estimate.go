package sparql

import (
	"math"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// Estimates steer the order of joins and nothing else: a wrong one costs time,
// never a row. They come from exact counts of the graph for constants, and
// from the average number of triples per subject and object for variables that
// are bound by then.

// estimate returns how many solutions an operator is expected to give for one
// row in which the bound slots have values.
func (pl *planner) estimate(op operator, bound slotSet) float64 {
	if pl.budget--; pl.budget < 0 {
		return 1000
	}
	switch op := op.(type) {
	case *opScan:
		return pl.estimateScan(op, bound)
	case *opPath:
		return pl.estimatePath(op, bound)
	case *opTable:
		n := float64(len(op.rows))
		if op.certain.meets(bound) {
			n = math.Max(1, n/10)
		}
		return n
	case *opJoin:
		return pl.estimateJoin(op, bound)
	case *opLeftJoin:
		left := pl.estimate(op.left, bound)
		return left * math.Max(1, pl.estimate(op.right, bound.or(op.left.about().certain)))
	case *opUnion:
		sum := 0.0
		for _, b := range op.branches {
			sum += pl.estimate(b, bound)
		}
		return sum
	case *opMinus:
		return pl.estimate(op.left, bound)
	case *opFilter:
		return pl.estimate(op.input, bound) / 2
	case *opExtend:
		return pl.estimate(op.input, bound)
	case *opGraph:
		n := 1.0
		if op.name.slot >= 0 && !bound.has(op.name.slot) {
			n = float64(len(pl.x.g.Names()))
		}
		return n * pl.estimate(op.input, bound)
	case *opSelect:
		n := pl.estimate(op.input, nil)
		if op.group != nil {
			n /= 2
			if len(op.group.keys) == 0 {
				n = 1
			}
		}
		if op.limit >= 0 {
			n = math.Min(n, float64(op.limit))
		}
		return n
	}
	return 1
}

// estimateJoin multiplies what each item adds, cheapest first.
func (pl *planner) estimateJoin(op *opJoin, bound slotSet) float64 {
	total := 1.0
	left := append([]operator(nil), op.items...)
	if len(left) > maxReorder {
		left = left[:maxReorder]
	}
	for len(left) > 0 {
		best, cost := pl.cheapest(left, bound, nil)
		total *= cost
		bound = bound.or(left[best].about().certain)
		left = append(left[:best], left[best+1:]...)
	}
	return total
}

// id returns the number that a constant has in the graph, or 0.
func (pl *planner) id(r ref) graph.ID {
	if r.slot >= 0 {
		return 0
	}
	return pl.x.g.Dictionary().Lookup(r.term)
}

func (pl *planner) estimateScan(op *opScan, bound slotSet) float64 {
	refs := [3]ref{op.s, op.p, op.o}
	var ids [3]graph.ID
	var held [3]bool // a variable that is bound by then
	for i, r := range refs {
		ids[i] = pl.id(r)
		if r.slot < 0 && ids[i] == 0 {
			return 0
		}
		held[i] = r.slot >= 0 && bound.has(r.slot)
	}
	x := pl.stats
	n := float64(x.Count(ids[0], ids[1], ids[2]))
	if n == 0 {
		return 0
	}
	st := x.Predicate(ids[1])
	subjects, objects, predicates := float64(st.Subjects), float64(st.Objects), float64(x.Predicates())
	if ids[1] == 0 { // any predicate
		subjects, objects = float64(x.Len())/4+1, float64(x.Len())/2+1
	}
	if held[0] {
		n /= math.Max(1, subjects)
	}
	if held[1] {
		n /= math.Max(1, predicates)
	}
	if held[2] {
		n /= math.Max(1, objects)
	}
	return n
}

// estimatePath takes a path with an end given to reach ten nodes, and one
// without to reach them from every node.
func (pl *planner) estimatePath(op *opPath, bound slotSet) float64 {
	given := func(r ref) bool { return r.slot < 0 || bound.has(r.slot) }
	switch {
	case given(op.s) && given(op.o):
		return 1
	case given(op.s) || given(op.o):
		return 10
	}
	return 10 * float64(pl.stats.Len()+1)
}
