package sparql

import (
	"context"
	"errors"
	"math/big"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// execution is the state of one run of a query over one graph. It is used by
// one goroutine.
//
// All runners share one row of slots. A runner binds slots, calls its
// continuation and unbinds them, so a solution exists only while the
// continuation runs and nothing is copied that nobody keeps. No runner is
// entered again before it has returned; each keeps its continuation in itself.
type execution struct {
	ctx    context.Context
	limits Limits
	g      *graph.Graph
	active *graph.Index      // the active graph (section 13.1)
	dict   *graph.Dictionary // extends that of g by computed terms
	row    []graph.ID
	base   []graph.ID // the row in which isolated parts start: constants only
	err    error

	steps    int // left until the context is looked at
	memory   int64
	patterns map[string]*matcher // nil for one that is not valid
	order    []string            // keys of patterns, oldest first
	labels   map[string]value    // BNODE(label) of the current solution
	blanks   int
	random   uint64
	baseIRI  string
	now      time.Time
}

// fail ends the execution; the first error stays.
func (x *execution) fail(err error) bool {
	if x.err == nil {
		x.err = err
	}
	return false
}

// tick is called for every step of the execution and returns false when it
// has to end. It looks at the context now and then.
func (x *execution) tick() bool {
	if x.steps--; x.steps < 0 {
		x.steps = stepsPerCheck
		return x.checkContext()
	}
	return x.err == nil
}

const stepsPerCheck = 1024

// spend counts work on a text of n bytes, of which a few thousand take as long
// as a step.
func (x *execution) spend(n int) { x.steps -= n >> 12 }

func (x *execution) checkContext() bool {
	if x.ctx.Err() != nil {
		err := context.Cause(x.ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = fault.New(fault.Finding, "raise the time limit, or make the query more selective",
				"the query did not end within its time limit: %w", err)
		}
		return x.fail(err)
	}
	return x.err == nil
}

// charge counts memory that grows with the data.
func (x *execution) charge(bytes int) bool {
	if x.memory += int64(bytes); x.memory > x.limits.Memory {
		return x.fail(fault.New(fault.Finding, "raise the memory limit, or make the query more selective",
			"the query needs more than %d MiB of memory", x.limits.Memory>>20))
	}
	return true
}

// size is the memory that a value takes beside the dictionary, in bytes.
func (v *value) size() int {
	n := 0
	if v.id == 0 {
		n = len(v.text)
	}
	switch x := v.x.(type) {
	case *big.Int:
		n += 64 + x.BitLen()/8
	case *big.Rat:
		n += 128 + (x.Num().BitLen()+x.Denom().BitLen())/8
	case *moment:
		n += 320
	}
	return n
}

// intern returns the number of a value.
func (x *execution) intern(v value) graph.ID {
	if v.id != 0 || v.kind == kindNone {
		return v.id
	}
	before := x.dict.Len()
	t := v.term()
	id := x.dict.Intern(t)
	if x.dict.Len() != before {
		x.charge(64 + len(t.Value))
	}
	return id
}

// value returns the value of a number.
func (x *execution) value(id graph.ID) value { return valueOf(x.dict.Term(id), id) }

// condition is a compiled filter.
type condition struct {
	eval evaluator
	text string
}

// pass tells whether the row passes all conditions: an error is a no (section 17.2).
func (x *execution) pass(conds []condition) bool {
	for i := range conds {
		v, ok := conds[i].eval()
		if !ok {
			return false
		}
		if truth, ok := v.ebv(); !ok || !truth {
			return false
		}
	}
	return true
}

// scanRunner matches a triple pattern against the active graph.
type scanRunner struct {
	x     *execution
	op    *opScan
	refs  [3]ref
	ids   [3]graph.ID // of the constants
	free  [3]bool     // of the current run: variables to bind
	k     func() bool
	found func(s, p, o graph.ID) bool
}

func newScanRunner(x *execution, op *opScan) *scanRunner {
	r := &scanRunner{x: x, op: op, refs: [3]ref{op.s, op.p, op.o}}
	for i, ref := range r.refs {
		if ref.slot < 0 {
			r.ids[i] = x.dict.Intern(ref.term)
		}
	}
	r.found = r.match
	return r
}

func (r *scanRunner) run(k func() bool) bool {
	var ids [3]graph.ID
	for i := range r.refs {
		ids[i] = r.ids[i]
		if slot := r.refs[i].slot; slot >= 0 {
			ids[i] = r.x.row[slot]
			r.free[i] = ids[i] == 0
		}
	}
	r.k = k
	if !r.x.tick() {
		return false
	}
	return r.x.active.Match(ids[0], ids[1], ids[2], r.found)
}

func (r *scanRunner) match(s, p, o graph.ID) bool {
	if !r.x.tick() {
		return false
	}
	row, refs := r.x.row, &r.refs
	if r.free[0] {
		row[refs[0].slot] = s
	}
	same := true
	if r.free[1] { // ?x ?x ?y: the second must agree with the first
		if v := &row[refs[1].slot]; *v == 0 {
			*v = p
		} else {
			same = *v == p
		}
	}
	if r.free[2] {
		if v := &row[refs[2].slot]; *v == 0 {
			*v = o
		} else {
			same = same && *v == o
		}
	}
	ok := !same || r.k()
	for i := range r.free {
		if r.free[i] {
			row[refs[i].slot] = 0
		}
	}
	return ok
}

func (r *scanRunner) explain(e *explainer) {
	e.line("match %s %s %s (%d triples)", e.ref(r.op.s), e.ref(r.op.p), e.ref(r.op.o), r.x.active.Count(r.ids[0], r.ids[1], r.ids[2]))
}

// tableRunner gives the rows of inline data.
type tableRunner struct {
	x     *execution
	slots []int
	rows  []graph.ID // len(slots) each
	count int
}

func newTableRunner(x *execution, op *opTable) *tableRunner {
	r := &tableRunner{x: x, slots: op.slots, count: len(op.rows)}
	for _, row := range op.rows {
		for _, t := range row {
			id := graph.ID(0)
			if t.Kind != graph.Unbound {
				id = x.dict.Intern(t)
			}
			r.rows = append(r.rows, id)
		}
	}
	return r
}

func (r *tableRunner) run(k func() bool) bool {
	n := len(r.slots)
	for i := range r.count {
		if !r.x.tick() || !r.x.merge(r.slots, r.rows[i*n:(i+1)*n], k) {
			return false
		}
	}
	return true
}

func (r *tableRunner) explain(e *explainer) { e.line("values %s (%d rows)", e.slots(r.slots), r.count) }

// merge calls k with the row joined with the given values, if they agree.
func (x *execution) merge(slots []int, values []graph.ID, k func() bool) bool {
	for j, slot := range slots {
		if v, have := values[j], x.row[slot]; v != 0 && have != 0 && v != have {
			return true
		}
	}
	var few [8]int
	bound := few[:0]
	for j, slot := range slots {
		if values[j] != 0 && x.row[slot] == 0 {
			x.row[slot] = values[j]
			bound = append(bound, slot)
		}
	}
	ok := k()
	for _, slot := range bound {
		x.row[slot] = 0
	}
	return ok
}

// joinRunner runs its steps nested in each other: each finds what agrees with
// those before it.
type joinRunner struct {
	x     *execution
	entry []condition // those that need no step
	steps []joinStep
	k     func() bool
}

type joinStep struct {
	runner runner
	conds  []condition // tested after it
	next   func() bool
}

func (j *joinRunner) run(k func() bool) bool {
	if len(j.steps) > 0 && j.steps[0].next == nil {
		for i := range j.steps {
			j.steps[i].next = j.continuation(i)
		}
	}
	if !j.x.pass(j.entry) {
		return j.x.err == nil
	}
	if len(j.steps) == 0 {
		return k()
	}
	j.k = k
	return j.steps[0].runner.run(j.steps[0].next)
}

func (j *joinRunner) continuation(i int) func() bool {
	conds := j.steps[i].conds
	if i+1 == len(j.steps) {
		return func() bool {
			if len(conds) > 0 && !j.x.pass(conds) {
				return j.x.err == nil
			}
			return j.k()
		}
	}
	after := &j.steps[i+1]
	return func() bool {
		if len(conds) > 0 && !j.x.pass(conds) {
			return j.x.err == nil
		}
		return after.runner.run(after.next)
	}
}

func (j *joinRunner) explain(e *explainer) {
	explainConditions(e, j.entry)
	if len(j.steps) == 0 && len(j.entry) == 0 {
		e.line("nothing to match")
	}
	for _, s := range j.steps {
		s.runner.explain(e)
		explainConditions(e, s.conds)
	}
}

func explainConditions(e *explainer, conds []condition) {
	for _, c := range conds {
		e.line("filter %s", c.text)
	}
}

// leftJoinRunner gives the solutions of its left side, each joined with those
// of the right side, or alone if there are none (section 6.1).
type leftJoinRunner struct {
	x           *execution
	left, right runner
	conds       []condition
	matched     bool
	k           func() bool
	onLeft      func() bool
	onRight     func() bool
}

func (r *leftJoinRunner) run(k func() bool) bool {
	r.k = k
	if r.onLeft == nil {
		r.onRight = func() bool {
			if len(r.conds) > 0 && !r.x.pass(r.conds) {
				return r.x.err == nil
			}
			r.matched = true
			return r.k()
		}
		r.onLeft = func() bool {
			r.matched = false
			if !r.right.run(r.onRight) {
				return false
			}
			return r.matched || r.k()
		}
	}
	return r.left.run(r.onLeft)
}

func (r *leftJoinRunner) explain(e *explainer) {
	r.left.explain(e)
	e.line("optional")
	e.child(r.right)
	explainConditions(e, r.conds)
}

type unionRunner struct{ branches []runner }

func (r *unionRunner) run(k func() bool) bool {
	for _, b := range r.branches {
		if !b.run(k) {
			return false
		}
	}
	return true
}

func (r *unionRunner) explain(e *explainer) {
	for i, b := range r.branches {
		e.line("union branch %d", i+1)
		e.child(b)
	}
}

// minusRunner drops solutions of its left side (section 8.3). Either probe
// looks for one solution of the right side that agrees, or table holds all.
type minusRunner struct {
	x      *execution
	left   runner
	probe  runner
	table  *hashRunner
	shared []int
}

func (r *minusRunner) run(k func() bool) bool {
	found := false
	stop := func() bool { found = true; return false }
	return r.left.run(func() bool {
		found = false
		if r.probe != nil {
			r.probe.run(stop)
		} else if !r.table.ready() {
			return false
		} else {
			found = r.table.excludes(r.shared)
		}
		if r.x.err != nil {
			return false
		}
		return found || k()
	})
}

func (r *minusRunner) explain(e *explainer) {
	r.left.explain(e)
	e.line("minus")
	if r.probe != nil {
		e.child(r.probe)
	} else {
		e.child(r.table)
	}
}

// assignment is a slot and what it is set to.
type assignment struct {
	slot int
	eval numberer
}

// assign calls k with the slot set to the value of the expression, or as it is
// if that is an error (section 18.5, Extend).
func (x *execution) assign(a assignment, k func() bool) bool {
	id, ok := a.eval()
	if x.err != nil {
		return false
	}
	if !ok {
		return k()
	}
	if have := x.row[a.slot]; have != 0 { // a constant of EXISTS
		return have != id || k()
	}
	x.row[a.slot] = id
	ok = k()
	x.row[a.slot] = 0
	return ok
}

type extendRunner struct {
	x     *execution
	input runner
	slot  int
	expr  numberer
	text  string
}

func (r *extendRunner) run(k func() bool) bool {
	a := assignment{r.slot, r.expr}
	return r.input.run(func() bool { return r.x.assign(a, k) })
}

func (r *extendRunner) explain(e *explainer) {
	r.input.explain(e)
	e.line("let %s = %s", e.slot(r.slot), r.text)
}

// graphRunner makes each named graph in turn, or the one that is named, the
// active graph of its input.
type graphRunner struct {
	x     *execution
	name  ref
	id    graph.ID // of a constant name
	input runner
}

func (r *graphRunner) run(k func() bool) bool {
	id := r.id
	if r.name.slot >= 0 {
		id = r.x.row[r.name.slot]
	}
	if id != 0 {
		return r.in(id, k)
	}
	for _, id := range r.x.g.Names() {
		r.x.row[r.name.slot] = id
		ok := r.in(id, k)
		r.x.row[r.name.slot] = 0
		if !ok {
			return false
		}
	}
	return true
}

func (r *graphRunner) in(id graph.ID, k func() bool) bool {
	index := r.x.g.Named(id)
	if index == nil {
		return true
	}
	outer := r.x.active
	r.x.active = index
	ok := r.input.run(func() bool {
		r.x.active = outer
		ok := k()
		r.x.active = index
		return ok
	})
	r.x.active = outer
	return ok
}

func (r *graphRunner) explain(e *explainer) {
	e.line("graph %s (%d named graphs)", e.ref(r.name), len(r.x.g.Names()))
	e.child(r.input)
}

// text of an expression, for plans.
func (pl *planner) exprText(s *scalar) string {
	var args []string
	for _, a := range s.args {
		args = append(args, pl.exprText(a))
	}
	switch s.op {
	case exprTerm:
		return s.term.String()
	case exprVar:
		e := explainer{names: pl.prog.names}
		return e.slot(s.slot)
	case exprOr, exprAnd, exprCompare, exprArith:
		return "(" + strings.Join(args, " "+s.name+" ") + ")"
	case exprNot:
		return "!" + args[0]
	case exprMinus, exprPlus:
		return "-+"[s.op-exprMinus:][:1] + args[0]
	case exprIn:
		return args[0] + " in (" + strings.Join(args[1:], ", ") + ")"
	case exprNotIn:
		return args[0] + " not in (" + strings.Join(args[1:], ", ") + ")"
	case exprExists:
		return "exists {…}"
	case exprNotExists:
		return "not exists {…}"
	}
	return s.name + "(" + strings.Join(args, ", ") + ")"
}
