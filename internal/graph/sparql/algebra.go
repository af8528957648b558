package sparql

import (
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// This file turns the syntax tree into the algebra of section 18.2. Variables
// become slots of one row that the whole query shares: the same name in the
// same scope is the same slot, and a variable that a sub-query does not
// project has a slot of its own.

// ref is a slot or, if slot is negative, a term.
type ref struct {
	slot int
	term graph.Term
}

// operator is a node of the algebra.
type operator interface{ about() *facts }

// facts is what the planner has to know about an operator's variables.
type facts struct {
	possible slotSet // may be bound in a solution
	certain  slotSet // are bound in every solution
	all      slotSet // are mentioned anywhere inside, in this scope
	// unsafe are the variables whose value from outside, put into the
	// operator's row, would change its result otherwise than joining with it
	// afterwards does: section 18 evaluates from the inside out, and the
	// executor pushes bindings in only where that is the same.
	unsafe slotSet
}

func (f *facts) about() *facts { return f }

type (
	// opScan is one triple pattern.
	opScan struct {
		facts
		s, p, o ref
	}
	// opPath is a path that patterns cannot express (section 18.1.7).
	opPath struct {
		facts
		s, o ref
		path *path
	}
	// opJoin joins any number of operators; none is the identity.
	opJoin struct {
		facts
		items []operator
	}
	opLeftJoin struct {
		facts
		left, right operator
		conds       []*scalar
	}
	opUnion struct {
		facts
		branches []operator
	}
	opMinus struct {
		facts
		left, right operator
	}
	opFilter struct {
		facts
		input operator
		conds []*scalar
	}
	opExtend struct {
		facts
		input operator
		slot  int
		expr  *scalar
	}
	opGraph struct {
		facts
		name  ref
		input operator
	}
	// opTable is inline data.
	opTable struct {
		facts
		slots []int
		rows  [][]graph.Term
	}
	// opSelect is a query or sub-query with its modifiers (section 18.2.4, 18.2.5).
	opSelect struct {
		facts
		input    operator
		group    *grouping // nil if there is none
		having   []*scalar
		values   *opTable
		extends  []extension
		orderBy  []sortKey
		slots    []int // of the columns; -1 for one that nothing binds
		distinct bool
		limit    int64
		offset   int64
	}
)

type extension struct {
	slot int
	expr *scalar
}

type sortKey struct {
	expr       *scalar
	descending bool
}

type grouping struct {
	keys       []extension
	aggregates []aggregate
	columns    []int // of the solutions in the groups: what COUNT(DISTINCT *) is about
}

// aggregate is a set function and the slot of its result.
type aggregate struct {
	name      string
	arg       *scalar // nil for COUNT(*)
	distinct  bool
	separator string
	slot      int
}

// scalar is an expression over slots.
type scalar struct {
	op      exprOp
	name    string
	term    graph.Term
	slot    int
	args    []*scalar
	pattern operator
	vars    slotSet // mentioned in it, also in its pattern
}

// program is a translated query.
type program struct {
	root     *opSelect
	names    []string // of the slots; blank nodes have names that start with "_:"
	template []templateTriple
	describe []ref
}

type templateTriple struct{ s, p, o ref }

// scope maps the names of one scope to slots.
type scope struct {
	prog  *program
	slots map[string]int
	// aggregates of the selection being translated, by expression.
	aggregates *[]aggregate
}

func (s *scope) slot(name string) int {
	if i, ok := s.slots[name]; ok {
		return i
	}
	i := s.fresh(name)
	s.slots[name] = i
	return i
}

func (s *scope) fresh(name string) int {
	s.prog.names = append(s.prog.names, name)
	return len(s.prog.names) - 1
}

func (s *scope) ref(n node) ref {
	if n.name != "" {
		return ref{slot: s.slot(n.name)}
	}
	return ref{slot: -1, term: n.term}
}

// translate returns the algebra of a query.
func translate(q *selection) *program {
	prog := &program{}
	s := &scope{prog: prog, slots: map[string]int{}}
	// Columns come first, so that their slots are in order.
	for _, name := range q.projected() {
		s.slot(name)
	}
	prog.root = s.selection(q)
	for _, t := range q.template {
		prog.template = append(prog.template, templateTriple{s.ref(t.s), s.ref(t.p), s.ref(t.o)})
	}
	for _, n := range q.describe {
		prog.describe = append(prog.describe, s.ref(n))
	}
	if q.form == formDescribe && q.star {
		for _, name := range q.projected() {
			prog.describe = append(prog.describe, ref{slot: s.slot(name)})
		}
	}
	if q.form != formSelect {
		prog.root.slots = prog.needed().list()
		prog.root.setFacts()
	}
	return prog
}

// isBlank tells whether a slot is that of a blank node of the query.
func (p *program) isBlank(slot int) bool { return strings.HasPrefix(p.names[slot], "_:") }

// needed are the slots that a template or DESCRIBE reads.
func (p *program) needed() slotSet {
	var out slotSet
	for _, t := range p.template {
		for _, r := range []ref{t.s, t.p, t.o} {
			// A blank node of a template is made anew for every solution.
			if r.slot >= 0 && !p.isBlank(r.slot) {
				out.add(r.slot)
			}
		}
	}
	for _, r := range p.describe {
		out.add(r.slot)
	}
	return out
}

// selection translates a SELECT and its modifiers; sub-queries come here with
// a scope of their own.
func (s *scope) selection(q *selection) *opSelect {
	op := &opSelect{limit: q.limit, offset: q.offset, distinct: q.distinct || q.reduced}
	op.input = s.group(q.where)
	var aggregates []aggregate
	s.aggregates = &aggregates
	if q.grouped() {
		op.group = &grouping{}
		var visible names
		q.where.visible(&visible)
		for _, name := range visible.order {
			op.group.columns = append(op.group.columns, s.slot(name))
		}
		for _, c := range q.groupBy {
			slot := -1
			if c.name != "" {
				slot = s.slot(c.name)
			} else {
				slot = s.fresh("")
			}
			op.group.keys = append(op.group.keys, extension{slot, s.scalar(c.expr)})
		}
	}
	for _, e := range q.having {
		op.having = append(op.having, s.scalar(e))
	}
	if q.values != nil {
		// VALUES at the end joins with the groups, or else with the pattern.
		if op.values = s.table(q.values); op.group == nil {
			op.input, op.values = newJoin(op.values, op.input), nil
		}
	}
	for _, c := range q.columns {
		if c.expr != nil {
			e := s.scalar(c.expr)
			op.extends = append(op.extends, extension{s.slot(c.name), e})
		}
	}
	for _, k := range q.orderBy {
		op.orderBy = append(op.orderBy, sortKey{s.scalar(k.expr), k.descending})
	}
	if op.group != nil {
		op.group.aggregates = aggregates
	}
	s.aggregates = nil
	for _, name := range q.projected() {
		op.slots = append(op.slots, s.slot(name))
	}
	op.setFacts()
	return op
}

func (op *opSelect) setFacts() {
	bound := op.input.about().certain
	if op.group != nil {
		bound = nil
		for _, k := range op.group.keys {
			if k.expr.op == exprVar && op.input.about().certain.has(k.expr.slot) {
				bound.add(k.slot)
			}
		}
		for _, a := range op.group.aggregates {
			if a.name == "COUNT" {
				bound.add(a.slot)
			}
		}
	}
	if op.values != nil {
		bound = bound.or(op.values.certain)
	}
	for _, e := range op.extends { // COUNT and constants are bound; other expressions may fail
		if e.expr.op == exprVar && bound.has(e.expr.slot) || e.expr.op == exprTerm {
			bound = bound.or(slotsOf(e.slot))
		}
	}
	op.possible = slotsOf(op.slots...)
	op.certain = bound.and(op.possible)
	op.all = op.possible
	op.unsafe = op.possible
}

// simple tells whether a sub-query only renames and computes, so that it can
// be evaluated as part of the pattern around it.
func (op *opSelect) simple() bool {
	return op.group == nil && op.having == nil && op.values == nil && op.orderBy == nil &&
		!op.distinct && op.limit < 0 && op.offset == 0
}

// subquery translates a sub-query. The variables that it projects are those of
// the scope around it; all others are its own (section 12).
func (s *scope) subquery(q *selection) operator {
	inner := &scope{prog: s.prog, slots: map[string]int{}}
	for _, name := range q.projected() {
		inner.slots[name] = s.slot(name)
	}
	op := inner.selection(q)
	if !op.simple() {
		return op
	}
	out := op.input
	for _, e := range op.extends {
		out = newExtend(out, e.slot, e.expr)
	}
	return out
}

// group translates a GroupGraphPattern (section 18.2.2.6).
func (s *scope) group(g *group) operator {
	var out operator = newJoin()
	var filters []*scalar
	for _, e := range g.elements {
		switch e := e.(type) {
		case *triples:
			var items []operator
			for _, t := range e.patterns {
				items = append(items, s.pattern(t)...)
			}
			out = newJoin(append([]operator{out}, items...)...)
		case *filter:
			filters = append(filters, conjuncts(s.scalar(e.expr))...)
		case *optional:
			right := s.group(e.group)
			var conds []*scalar
			if f, ok := right.(*opFilter); ok {
				right, conds = f.input, f.conds
			}
			out = newLeftJoin(out, right, conds)
		case *without:
			out = newMinus(out, s.group(e.group))
		case *bind:
			out = newExtend(out, s.slot(e.name), s.scalar(e.expr))
		default:
			out = newJoin(out, s.element(e))
		}
	}
	if len(filters) > 0 {
		return newFilter(out, filters)
	}
	return out
}

func (s *scope) element(e element) operator {
	switch e := e.(type) {
	case *union:
		if len(e.branches) == 1 {
			return s.group(e.branches[0])
		}
		var branches []operator
		for _, b := range e.branches {
			branches = append(branches, s.group(b))
		}
		return newUnion(branches)
	case *inGraph:
		return newGraph(s.ref(e.name), s.group(e.group))
	case *inlineData:
		return s.table(e)
	case *subquery:
		return s.subquery(e.query)
	}
	panic("sparql: unknown element") // the parser makes no other
}

// conjuncts splits a && b: a solution passes if it passes both.
func conjuncts(e *scalar) []*scalar {
	if e.op != exprAnd {
		return []*scalar{e}
	}
	var out []*scalar
	for _, a := range e.args {
		out = append(out, conjuncts(a)...)
	}
	return out
}

// pattern translates a triple pattern or path pattern (sections 18.2.2.3, 18.2.2.4).
func (s *scope) pattern(t pattern) []operator {
	if t.path == nil {
		return []operator{newScan(s.ref(t.s), s.ref(t.p), s.ref(t.o))}
	}
	return s.path(s.ref(t.s), t.path, s.ref(t.o))
}

func (s *scope) path(from ref, p *path, to ref) []operator {
	switch p.op {
	case pathLink:
		return []operator{newScan(from, ref{slot: -1, term: graph.NewIRI(p.iri)}, to)}
	case pathInverse:
		return s.path(to, p.args[0], from)
	case pathSequence:
		var out []operator
		for i, elt := range p.args {
			next := to
			if i+1 < len(p.args) {
				next = ref{slot: s.fresh("_:path")}
			}
			out = append(out, s.path(from, elt, next)...)
			from = next
		}
		return out
	case pathAlternative:
		var branches []operator
		for _, elt := range p.args {
			branches = append(branches, newJoin(s.path(from, elt, to)...))
		}
		return []operator{newUnion(branches)}
	}
	op := &opPath{s: from, o: to, path: p}
	op.possible = slotsOf(from.slot, to.slot)
	op.certain, op.all = op.possible, op.possible
	return []operator{op}
}

func (s *scope) table(d *inlineData) *opTable {
	t := &opTable{rows: d.rows}
	for i, name := range d.names {
		slot := s.slot(name)
		t.slots = append(t.slots, slot)
		t.possible.add(slot)
		always := true
		for _, row := range d.rows {
			always = always && row[i].Kind != graph.Unbound
		}
		if always {
			t.certain.add(slot)
		}
	}
	t.all = t.possible
	return t
}

func newScan(s, p, o ref) operator {
	op := &opScan{s: s, p: p, o: o}
	op.possible = slotsOf(s.slot, p.slot, o.slot)
	op.certain, op.all = op.possible, op.possible
	return op
}

// newJoin joins operators, taking nested joins apart.
func newJoin(items ...operator) *opJoin {
	op := &opJoin{}
	for _, item := range items {
		if j, ok := item.(*opJoin); ok {
			op.items = append(op.items, j.items...)
		} else {
			op.items = append(op.items, item)
		}
		f := item.about()
		op.possible = op.possible.or(f.possible)
		op.certain = op.certain.or(f.certain)
		op.all = op.all.or(f.all)
	}
	return op
}

func varsOf(conds []*scalar) slotSet {
	var out slotSet
	for _, c := range conds {
		out = out.or(c.vars)
	}
	return out
}

func newLeftJoin(left, right operator, conds []*scalar) operator {
	l, r, vars := left.about(), right.about(), varsOf(conds)
	op := &opLeftJoin{left: left, right: right, conds: conds}
	op.possible, op.certain = l.possible.or(r.possible), l.certain
	op.all = l.all.or(r.all).or(vars)
	op.unsafe = r.all.or(vars).minus(l.certain)
	return op
}

func newUnion(branches []operator) operator {
	op := &opUnion{branches: branches}
	for i, b := range branches {
		f := b.about()
		op.possible, op.all = op.possible.or(f.possible), op.all.or(f.all)
		if i == 0 {
			op.certain = f.certain
		} else {
			op.certain = op.certain.and(f.certain)
		}
	}
	return op
}

func newMinus(left, right operator) operator {
	l, r := left.about(), right.about()
	op := &opMinus{left: left, right: right}
	op.possible, op.certain, op.all = l.possible, l.certain, l.all.or(r.all)
	op.unsafe = r.possible.minus(l.certain)
	return op
}

func newFilter(input operator, conds []*scalar) operator {
	f, vars := input.about(), varsOf(conds)
	op := &opFilter{input: input, conds: conds}
	op.possible, op.certain, op.all = f.possible, f.certain, f.all.or(vars)
	op.unsafe = vars.minus(f.certain)
	return op
}

func newExtend(input operator, slot int, e *scalar) operator {
	f, own := input.about(), slotsOf(slot)
	op := &opExtend{input: input, slot: slot, expr: e}
	op.possible, op.certain, op.all = f.possible.or(own), f.certain, f.all.or(own).or(e.vars)
	if e.op == exprTerm {
		op.certain = op.certain.or(own)
	}
	op.unsafe = e.vars.minus(f.certain).or(own)
	return op
}

func newGraph(name ref, input operator) operator {
	f, own := input.about(), slotsOf(name.slot)
	op := &opGraph{name: name, input: input}
	op.possible, op.certain, op.all = f.possible.or(own), f.certain.or(own), f.all.or(own)
	return op
}

// scalar translates an expression. An aggregate becomes the slot of its result.
func (s *scope) scalar(e *expr) *scalar {
	out := &scalar{op: e.op, name: e.name, term: e.term, slot: -1}
	switch e.op {
	case exprVar:
		out.slot = s.slot(e.name)
		out.vars.add(out.slot)
		return out
	case exprAggregate:
		return s.aggregate(e)
	case exprExists, exprNotExists:
		out.pattern = s.group(e.pattern)
		out.vars = out.pattern.about().all
	}
	for _, a := range e.args {
		arg := s.scalar(a)
		out.args = append(out.args, arg)
		out.vars = out.vars.or(arg.vars)
	}
	return out
}

func (s *scope) aggregate(e *expr) *scalar {
	a := aggregate{name: e.name, distinct: e.distinct, separator: e.separator, slot: s.fresh("")}
	if len(e.args) > 0 {
		a.arg = s.scalar(e.args[0])
	}
	*s.aggregates = append(*s.aggregates, a)
	return &scalar{op: exprVar, slot: a.slot, vars: slotsOf(a.slot)}
}
