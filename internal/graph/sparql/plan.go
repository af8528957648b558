package sparql

import (
	"fmt"
	"math"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// This file decides how the algebra is executed against one graph: in which
// order the parts of a join run, where filters are tested, and which parts are
// evaluated once, on their own, and joined by hash.

// runner produces solutions. run calls k once per solution, with the
// execution's row holding it, until k returns false; it returns false if k
// did or if the execution failed, and leaves the row as it found it. What is
// bound in the row when run is called takes part: solutions are those that
// agree with it.
type runner interface {
	run(k func() bool) bool
	explain(e *explainer)
}

// planner turns operators into runners of one execution.
type planner struct {
	x     *execution
	prog  *program
	stats *graph.Index // the graph that estimates are taken from
	// budget bounds the estimates and rewritings of one plan: those of nested
	// operators multiply.
	budget int
	// apart evaluates every part on its own and tests conditions last, as
	// section 18 is written. It is slow, and what tests compare plans with.
	apart bool
}

// env is what is known of the row when a runner is called.
type env struct {
	possible slotSet // may be bound
	certain  slotSet // are bound
	// pushed are those that parts evaluated before may have bound: whoever is
	// evaluated with them must be safe for them.
	pushed slotSet
	// constant are the variables that stand for values by substitution: inside
	// EXISTS, those of the solution that is tested (section 18.6). Every part
	// of the pattern sees them, also those evaluated on their own.
	constant        slotSet
	constantCertain slotSet
}

func (e env) with(f *facts) env {
	e.possible, e.certain = e.possible.or(f.possible), e.certain.or(f.certain)
	e.pushed = e.pushed.or(f.possible.minus(e.constantCertain))
	return e
}

// maxReorder bounds the parts of one join that are put in order; what is
// beyond stays in the order of the text.
const maxReorder = 200

// plan returns a runner for op in a row as e says.
func (pl *planner) plan(op operator, e env) runner {
	if _, sub := op.(*opSelect); sub || pl.apart || pl.unsafe(op, e) {
		return pl.isolate(op, e)
	}
	return pl.here(op, e)
}

// unsafe tells whether op may not be evaluated with the bindings of e.
func (pl *planner) unsafe(op operator, e env) bool {
	return op.about().unsafe.meets(e.pushed)
}

// here returns a runner that takes part in the row, which has to be safe.
func (pl *planner) here(op operator, e env) runner {
	switch op := op.(type) {
	case *opScan:
		return newScanRunner(pl.x, op)
	case *opPath:
		return newPathRunner(pl.x, op)
	case *opTable:
		if len(op.rows) > 4 && op.certain.meets(e.certain) {
			return pl.isolate(op, e)
		}
		return newTableRunner(pl.x, op)
	case *opJoin:
		return pl.join(op.items, nil, e)
	case *opFilter:
		return pl.conditions(op.input, op.conds, e)
	case *opLeftJoin:
		return pl.leftJoin(op, e)
	case *opUnion:
		r := &unionRunner{}
		for _, b := range op.branches {
			r.branches = append(r.branches, pl.plan(b, e))
		}
		return r
	case *opMinus:
		return pl.minus(op, e)
	case *opExtend:
		input := pl.plan(op.input, e)
		after := e.with(op.input.about())
		return &extendRunner{x: pl.x, input: input, slot: op.slot, expr: pl.numberer(op.expr, after), text: pl.exprText(op.expr)}
	case *opGraph:
		return pl.inGraph(op, e)
	}
	panic(fmt.Sprintf("sparql: no plan for %T", op))
}

// isolate returns a runner that evaluates op once, in a row with nothing but
// constants, and joins its solutions by hash.
func (pl *planner) isolate(op operator, e env) runner {
	f := op.about()
	alone := env{possible: e.constant, certain: e.constantCertain, constant: e.constant, constantCertain: e.constantCertain}
	r := &hashRunner{x: pl.x, slots: f.possible.list(), keys: f.certain.and(e.certain).list(),
		depends: f.all.and(e.constant).list()}
	switch op := op.(type) {
	case *opSelect:
		r.input = pl.selection(op, alone)
	case *opTable:
		r.input = newTableRunner(pl.x, op)
	default:
		r.input = pl.here(op, alone)
	}
	if pl.apart {
		r.keys = nil
	}
	return r
}

// join orders the items of a join and puts each condition behind the first
// item after which its variables have their final values.
func (pl *planner) join(items []operator, conds []*scalar, e env) runner {
	left := make([]operator, len(items))
	var pending []*scalar
	copy(left, items)
	for _, c := range conds {
		if pl.apart || !pl.pushInto(left, c) {
			pending = append(pending, c)
		}
	}
	j := &joinRunner{x: pl.x}
	j.entry, pending = pl.ready(pending, left, e)
	for len(left) > 0 {
		window := left
		if len(window) > maxReorder {
			window = window[:maxReorder]
		}
		best, _ := pl.cheapest(window, e.certain, &e)
		item := left[best]
		left = append(left[:best], left[best+1:]...)
		s := joinStep{runner: pl.plan(item, e)}
		e = e.with(item.about())
		s.conds, pending = pl.ready(pending, left, e)
		j.steps = append(j.steps, s)
	}
	if len(j.steps) == 1 && len(j.entry) == 0 && len(j.steps[0].conds) == 0 {
		return j.steps[0].runner
	}
	return j
}

// ready takes those conditions whose variables no remaining item can change.
func (pl *planner) ready(conds []*scalar, left []operator, e env) (now []condition, later []*scalar) {
	if len(conds) == 0 {
		return nil, nil
	}
	var open slotSet
	for _, item := range left {
		open.merge(item.about().possible)
	}
	open = open.minus(e.certain)
	if pl.apart && len(left) > 0 {
		return nil, conds
	}
	for _, c := range conds {
		if c.vars.meets(open) {
			later = append(later, c)
		} else {
			now = append(now, pl.condition(c, e))
		}
	}
	return now, later
}

// cheapest returns the item to run next: the one that gives the fewest rows
// per row, those that share a variable with what is bound before others. With
// an env, an item that has to be evaluated on its own is charged for it.
func (pl *planner) cheapest(items []operator, bound slotSet, e *env) (best int, rows float64) {
	least := math.Inf(1)
	for i, item := range items {
		f := item.about()
		n := pl.estimate(item, bound)
		cost := n
		alone := e != nil && pl.unsafe(item, *e)
		switch {
		case alone && f.certain.meets(bound):
			cost = math.Sqrt(n)
		case n > 1 && !bound.empty() && !f.all.empty() && !f.all.meets(bound):
			cost *= 100 // a Cartesian product
		}
		if cost < least {
			best, least, rows = i, cost, n
		}
	}
	return best, rows
}

// pushInto moves a condition into the item whose certain variables it is
// about, if that item has a use for it.
func (pl *planner) pushInto(items []operator, c *scalar) bool {
	for i, item := range items {
		if _, scan := item.(*opScan); scan || !c.vars.within(item.about().certain) {
			continue
		}
		if pushed := pl.push(item, c); pushed != nil {
			items[i] = pushed
			return true
		}
	}
	return false
}

// push returns op with the condition tested further inside, or nil.
func (pl *planner) push(op operator, c *scalar) operator {
	if pl.budget--; pl.budget < 0 {
		return nil
	}
	switch op := op.(type) {
	case *opLeftJoin:
		if c.vars.within(op.left.about().certain) {
			return newLeftJoin(pl.filtered(op.left, c), op.right, op.conds)
		}
	case *opMinus:
		if c.vars.within(op.left.about().certain) {
			return newMinus(pl.filtered(op.left, c), op.right)
		}
	case *opExtend:
		if c.vars.within(op.input.about().certain) {
			return newExtend(pl.filtered(op.input, c), op.slot, op.expr)
		}
	case *opFilter:
		return newFilter(op.input, append(append([]*scalar(nil), op.conds...), c))
	case *opUnion:
		var branches []operator
		for _, b := range op.branches {
			branches = append(branches, pl.filtered(b, c))
		}
		return newUnion(branches)
	}
	return nil
}

func (pl *planner) filtered(op operator, c *scalar) operator {
	if pushed := pl.push(op, c); pushed != nil {
		return pushed
	}
	return newFilter(op, []*scalar{c})
}

// conditions plans op with conditions on its solutions.
func (pl *planner) conditions(op operator, conds []*scalar, e env) runner {
	if j, ok := op.(*opJoin); ok {
		return pl.join(j.items, conds, e)
	}
	return pl.join([]operator{op}, conds, e)
}

// leftJoin plans OPTIONAL. Its conditions see the solution of the left side.
func (pl *planner) leftJoin(op *opLeftJoin, e env) runner {
	r := &leftJoinRunner{x: pl.x, left: pl.plan(op.left, e)}
	e = e.with(op.left.about())
	right := op.right.about()
	if pl.apart || pl.unsafe(op.right, e) || !right.all.meets(e.possible) {
		r.right = pl.isolate(op.right, e)
		for _, c := range op.conds {
			r.conds = append(r.conds, pl.condition(c, e.with(right)))
		}
		return r
	}
	r.right = pl.conditions(op.right, op.conds, e)
	return r
}

// minus plans MINUS (section 8.3): a solution is removed if one of the right
// side agrees with it and shares a variable with it.
func (pl *planner) minus(op *opMinus, e env) runner {
	left := pl.plan(op.left, e)
	l, r := op.left.about(), op.right.about()
	shared := r.possible.and(l.possible)
	if shared.empty() {
		return left
	}
	m := &minusRunner{x: pl.x, left: left, shared: shared.list()}
	// With all shared variables certain on both sides, and nothing else of the
	// row mentioned on the right, it is enough to look for one solution.
	inside := e.with(l)
	probe := shared.within(l.certain.and(r.certain)) && r.all.and(inside.pushed).within(shared) &&
		!r.unsafe.meets(inside.pushed)
	if _, sub := op.right.(*opSelect); probe && !sub && !pl.apart {
		m.probe = pl.plan(op.right, inside)
		return m
	}
	inside.certain = l.certain // of the keys, only those of the left side proper
	m.table = pl.isolate(op.right, inside).(*hashRunner)
	return m
}

// inGraph plans GRAPH (section 13.3).
func (pl *planner) inGraph(op *opGraph, e env) runner {
	r := &graphRunner{x: pl.x, name: op.name}
	if op.name.slot < 0 {
		r.id = pl.x.dict.Intern(op.name.term)
	}
	name := slotsOf(op.name.slot)
	inner := e.with(&facts{possible: name, certain: name})
	before := pl.stats
	if x := pl.x.g.Named(r.id); x != nil {
		pl.stats = x
	} else if ids := pl.x.g.Names(); len(ids) > 0 {
		pl.stats = pl.x.g.Named(ids[0])
	}
	r.input = pl.plan(op.input, inner)
	pl.stats = before
	return r
}

// selection plans a query or sub-query.
func (pl *planner) selection(op *opSelect, e env) *selectRunner {
	r := &selectRunner{x: pl.x, op: op, input: pl.plan(op.input, e)}
	after := e.with(op.input.about())
	if op.group != nil {
		r.group = pl.grouping(op, after)
		after = e
		for _, k := range op.group.keys {
			after.possible = after.possible.or(slotsOf(k.slot))
		}
		for _, a := range op.group.aggregates {
			after.possible = after.possible.or(slotsOf(a.slot))
		}
	}
	for _, c := range op.having {
		r.having = append(r.having, pl.condition(c, after))
	}
	if op.values != nil {
		r.values = newTableRunner(pl.x, op.values)
		after = after.with(op.values.about())
	}
	for _, ext := range op.extends {
		r.extends = append(r.extends, assignment{ext.slot, pl.numberer(ext.expr, after)})
		after.possible = after.possible.or(slotsOf(ext.slot))
	}
	for _, k := range op.orderBy {
		r.orderBy = append(r.orderBy, pl.compile(k.expr, after))
	}
	return r
}

func (pl *planner) grouping(op *opSelect, e env) *groupRunner {
	r := &groupRunner{x: pl.x}
	for _, k := range op.group.keys {
		r.keys = append(r.keys, assignment{k.slot, pl.numberer(k.expr, e)})
	}
	for _, a := range op.group.aggregates {
		spec := aggregateSpec{aggregate: a}
		if a.arg != nil {
			spec.eval, spec.number = pl.compile(a.arg, e), pl.numberer(a.arg, e)
		} else {
			spec.columns = op.group.columns
		}
		r.aggregates = append(r.aggregates, spec)
	}
	return r
}

// condition compiles a filter.
func (pl *planner) condition(c *scalar, e env) condition {
	return condition{eval: pl.compile(c, e), text: pl.exprText(c)}
}

// explainer writes a plan as indented lines.
type explainer struct {
	b     strings.Builder
	depth int
	names []string
}

func (e *explainer) line(format string, args ...any) {
	fmt.Fprintf(&e.b, "%s%s\n", strings.Repeat("  ", e.depth), fmt.Sprintf(format, args...))
}

func (e *explainer) child(r runner) {
	e.depth++
	r.explain(e)
	e.depth--
}

func (e *explainer) slots(slots []int) string {
	var out []string
	for _, s := range slots {
		out = append(out, e.slot(s))
	}
	return strings.Join(out, " ")
}

func (e *explainer) slot(s int) string {
	switch name := e.names[s]; {
	case name == "":
		return fmt.Sprintf("?#%d", s)
	case strings.HasPrefix(name, "_:"):
		return name + fmt.Sprintf("#%d", s)
	default:
		return "?" + name
	}
}

func (e *explainer) ref(r ref) string {
	if r.slot >= 0 {
		return e.slot(r.slot)
	}
	return r.term.String()
}
