package sparql

import (
	"slices"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// selectRunner gives the solutions of a query or sub-query: groups, HAVING,
// VALUES, expressions, ORDER BY, DISTINCT, OFFSET and LIMIT, in this order
// (sections 18.2.4 and 18.2.5). Without ORDER BY and groups it streams, so a
// LIMIT ends the matching.
type selectRunner struct {
	x       *execution
	op      *opSelect
	input   runner
	group   *groupRunner
	having  []condition
	values  *tableRunner
	extends []assignment
	orderBy []evaluator
}

func (r *selectRunner) run(k func() bool) bool {
	out := newModifier(r, k)
	if out.done() {
		return true
	}
	emit := out.add
	for i := len(r.extends) - 1; i >= 0; i-- {
		next, a := emit, r.extends[i]
		emit = func() bool { return r.x.assign(a, next) }
	}
	if r.values != nil {
		next := emit
		emit = func() bool { return r.values.run(next) }
	}
	if len(r.having) > 0 {
		next := emit
		emit = func() bool {
			if r.x.pass(r.having) {
				return next()
			}
			return r.x.err == nil
		}
	}
	start := func() bool {
		ok := emit()
		clear(r.x.labels) // BNODE("x") is one node per solution
		return ok
	}
	if r.group == nil {
		return r.finish(r.input.run(start), out)
	}
	groups := r.group.start()
	if !r.input.run(groups.add) {
		return false
	}
	return r.finish(groups.each(start), out)
}

func (r *selectRunner) finish(ok bool, out *modifier) bool {
	if out.full {
		ok = r.x.err == nil // the limit ended it
	}
	if !ok || out.stopped {
		return false
	}
	return out.flush()
}

func (r *selectRunner) explain(e *explainer) {
	if len(r.op.slots) > 0 {
		e.line("select %s", e.slots(r.op.slots))
	}
	r.input.explain(e)
	if r.group != nil {
		var keys []int
		for _, k := range r.group.keys {
			keys = append(keys, k.slot)
		}
		e.line("group by %s", e.slots(keys))
		for _, a := range r.group.aggregates {
			e.line("let %s = %s", e.slot(a.slot), a.name)
		}
	}
	explainConditions(e, r.having)
	for _, a := range r.extends {
		e.line("let %s = …", e.slot(a.slot))
	}
	if len(r.orderBy) > 0 {
		e.line("order by %d keys", len(r.orderBy))
	}
	if r.op.distinct {
		e.line("distinct")
	}
	if r.op.limit >= 0 || r.op.offset > 0 {
		e.line("offset %d limit %d", r.op.offset, r.op.limit)
	}
}

// modifier applies ORDER BY, DISTINCT, OFFSET and LIMIT to a sequence of rows.
type modifier struct {
	r       *selectRunner
	k       func() bool
	left    int64 // rows still to give; negative for all
	skip    int64
	full    bool // the limit is reached
	stopped bool // k returned false
	set     *rowSet
	row     []graph.ID
	sorted  sorter
}

func newModifier(r *selectRunner, k func() bool) *modifier {
	m := &modifier{r: r, k: k, left: r.op.limit, skip: r.op.offset, row: make([]graph.ID, len(r.op.slots))}
	if r.op.distinct {
		m.set = &rowSet{x: r.x, width: len(r.op.slots)}
	}
	m.sorted = sorter{x: r.x, width: len(r.op.slots), keys: len(r.orderBy)}
	for _, key := range r.op.orderBy {
		m.sorted.descending = append(m.sorted.descending, key.descending)
	}
	if r.op.limit >= 0 && !r.op.distinct && r.op.limit < 1<<20 && r.op.offset < 1<<20 {
		m.sorted.keep = int(r.op.limit + r.op.offset)
	} else {
		m.sorted.keep = -1
	}
	return m
}

func (m *modifier) done() bool { return m.left == 0 }

// add takes the current row of the execution.
func (m *modifier) add() bool {
	for j, slot := range m.r.op.slots {
		m.row[j] = m.r.x.row[slot]
	}
	if len(m.r.orderBy) == 0 {
		return m.emit(m.r.x.row)
	}
	return m.sorted.add(m.row, m.r.orderBy)
}

// emit gives m.row on, unless DISTINCT, OFFSET or LIMIT is against it.
// in is the row of the execution if the solution is still there, else nil.
func (m *modifier) emit(in []graph.ID) bool {
	if m.set != nil {
		if _, isNew := m.set.add(m.row); !isNew {
			return m.r.x.tick()
		}
	}
	if m.skip > 0 {
		m.skip--
		return true
	}
	ok := true
	if in != nil {
		ok = m.k()
	} else {
		ok = m.r.x.merge(m.r.op.slots, m.row, m.k)
	}
	if !ok {
		m.stopped = true
		return false
	}
	if m.left > 0 {
		m.left--
	}
	if m.left == 0 {
		m.full = true
		return false
	}
	return true
}

// flush gives on what ORDER BY held back.
func (m *modifier) flush() bool {
	if len(m.r.orderBy) == 0 || m.full {
		return true
	}
	for _, row := range m.sorted.sort() {
		copy(m.row, row)
		if !m.emit(nil) {
			return m.full && m.r.x.err == nil
		}
	}
	return m.r.x.err == nil
}

// sorter collects rows with their keys.
type sorter struct {
	x          *execution
	width      int
	keys       int
	descending []bool
	keep       int // rows that will be needed at most; -1 for all
	items      []sortItem
}

type sortItem struct {
	row  []graph.ID
	keys []value
}

func (s *sorter) add(row []graph.ID, keys []evaluator) bool {
	item := sortItem{row: slices.Clone(row), keys: make([]value, len(keys))}
	for i, eval := range keys {
		if v, ok := eval(); ok {
			item.keys[i] = v
		}
	}
	s.items = append(s.items, item)
	if s.keep >= 0 && len(s.items) > 2*s.keep+1024 {
		surplus := s.sortItems()[s.keep:]
		for i := range surplus {
			s.x.memory -= int64(surplus[i].size())
		}
		clear(surplus) // what it points to may go
		s.items = s.items[:s.keep]
	}
	return s.x.tick() && s.x.charge(item.size())
}

// size is the memory that an item takes, in bytes.
func (s *sortItem) size() int {
	n := 48 + 4*len(s.row) + 96*len(s.keys)
	for i := range s.keys {
		n += s.keys[i].size()
	}
	return n
}

func (s *sorter) sortItems() []sortItem {
	slices.SortStableFunc(s.items, func(a, b sortItem) int {
		for i := range a.keys {
			if c := compareForOrder(&a.keys[i], &b.keys[i]); c != 0 {
				if s.descending[i] {
					return -c
				}
				return c
			}
		}
		return 0
	})
	return s.items
}

// sort yields the rows in order.
func (s *sorter) sort() func(yield func(int, []graph.ID) bool) {
	return func(yield func(int, []graph.ID) bool) {
		for i, item := range s.sortItems() {
			if !yield(i, item.row) {
				return
			}
		}
	}
}

// groupRunner is the plan of GROUP BY and the aggregates (section 18.5.1).
type groupRunner struct {
	x          *execution
	keys       []assignment
	aggregates []aggregateSpec
}

type aggregateSpec struct {
	aggregate
	eval    evaluator // nil for COUNT(*)
	number  numberer  // the same as eval
	columns []int     // of the solutions, for COUNT(DISTINCT *)
	scratch []graph.ID
}

// groups are the groups of one run, in order of first appearance.
type groups struct {
	*groupRunner
	set  rowSet
	key  []graph.ID
	accs []accumulator // len(aggregates) for each group
}

func (r *groupRunner) start() *groups {
	return &groups{groupRunner: r, set: rowSet{x: r.x, width: len(r.keys)}, key: make([]graph.ID, len(r.keys))}
}

// add puts the current row into its group.
func (g *groups) add() bool {
	for i, k := range g.keys {
		g.key[i] = 0 // a key in error is a key of its own: unbound
		if id, ok := k.eval(); ok {
			g.key[i] = id
		}
	}
	n, isNew := g.set.add(g.key)
	if isNew {
		g.open()
	}
	for i := range g.aggregates {
		g.accs[n*len(g.aggregates)+i].add(g.x, &g.aggregates[i])
	}
	return g.x.tick()
}

func (g *groups) open() {
	for range g.aggregates {
		g.accs = append(g.accs, accumulator{})
	}
	g.x.charge(len(g.aggregates) * 32)
}

// each calls k for every group with its keys and aggregates bound.
func (g *groups) each(k func() bool) bool {
	if len(g.keys) == 0 && g.set.count == 0 { // no rows are one empty group
		g.set.add(g.key)
		g.open()
	}
	var slots []int
	for _, key := range g.keys {
		slots = append(slots, key.slot)
	}
	for _, a := range g.aggregates {
		slots = append(slots, a.slot)
	}
	values := make([]graph.ID, len(slots))
	for n := range g.set.count {
		copy(values, g.set.at(n))
		for i := range g.aggregates {
			values[len(g.keys)+i] = 0
			if v, ok := g.accs[n*len(g.aggregates)+i].result(&g.aggregates[i]); ok {
				values[len(g.keys)+i] = g.x.intern(v)
			}
		}
		if !g.x.tick() || !g.x.merge(slots, values, k) {
			return false
		}
	}
	return true
}
