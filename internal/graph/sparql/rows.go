package sparql

import "github.com/ultrafast-ci/ultrafast/internal/graph"

// rowSet is a set of rows of equal width that remembers their order: the
// distinct rows of DISTINCT, and the keys of groups.
type rowSet struct {
	x     *execution
	width int
	rows  []graph.ID
	count int
	slots []int32 // row+1, open addressing
}

// add returns the place of a row in the set, and whether it was new.
func (s *rowSet) add(row []graph.ID) (int, bool) {
	if 2*s.count >= len(s.slots) {
		s.grow()
	}
	mask := uint64(len(s.slots) - 1)
	i := hashRow(row) & mask
	for ; s.slots[i] != 0; i = (i + 1) & mask {
		if n := int(s.slots[i]) - 1; equalRows(s.at(n), row) {
			return n, false
		}
	}
	s.rows = append(s.rows, row...)
	s.count++
	s.slots[i] = int32(s.count)
	s.x.charge(4*s.width + 16)
	return s.count - 1, true
}

func (s *rowSet) at(i int) []graph.ID { return s.rows[i*s.width : (i+1)*s.width] }

func (s *rowSet) grow() {
	s.slots = make([]int32, max(16, 2*len(s.slots)))
	mask := uint64(len(s.slots) - 1)
	for n := range s.count {
		i := hashRow(s.at(n)) & mask
		for s.slots[i] != 0 {
			i = (i + 1) & mask
		}
		s.slots[i] = int32(n + 1)
	}
}

func equalRows(a, b []graph.ID) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func hashRow(row []graph.ID) uint64 {
	h := uint64(0x9E3779B97F4A7C15)
	for _, id := range row {
		h = mixID(h, id)
	}
	return h ^ h>>32
}

func mixID(h uint64, id graph.ID) uint64 {
	h = (h ^ uint64(id)) * 0xFF51AFD7ED558CCD
	return h ^ h>>29
}

// hashRunner evaluates its input once, in a row of constants only, and joins
// what it gave with the row by hash. Solutions that share a key come in the
// order in which the input gave them.
type hashRunner struct {
	x       *execution
	input   runner
	slots   []int // that its solutions may bind
	keys    []int // that are bound in every solution and in the row
	depends []int // constants that its input sees

	built  bool
	in     *graph.Index // the active graph that it was built in
	seen   []graph.ID   // the values of depends that it was built with
	rows   []graph.ID
	count  int
	heads  []int32 // first row+1 of a hash
	next   []int32 // next row+1 of the same hash
	column []int   // of each key in slots
}

// ready builds the table unless it is there already.
func (r *hashRunner) ready() bool {
	if r.built && r.in == r.x.active && r.current() {
		return true
	}
	x := r.x
	r.x.memory -= int64(r.count * r.rowBytes()) // of the table before
	r.rows, r.count, r.seen = r.rows[:0], 0, r.seen[:0]
	outer := x.row
	x.row = make([]graph.ID, len(outer))
	copy(x.row, x.base)
	for _, slot := range r.depends {
		r.seen = append(r.seen, x.row[slot])
	}
	ok := r.input.run(func() bool {
		for _, slot := range r.slots {
			r.rows = append(r.rows, x.row[slot])
		}
		r.count++
		return x.tick() && x.charge(r.rowBytes())
	})
	x.row = outer
	if !ok {
		return false
	}
	r.index()
	r.built, r.in = true, x.active
	return true
}

// rowBytes is the memory of a row, with its place in the index.
func (r *hashRunner) rowBytes() int { return 4*len(r.slots) + 16 }

func (r *hashRunner) current() bool {
	for i, slot := range r.depends {
		if r.x.base[slot] != r.seen[i] {
			return false
		}
	}
	return true
}

func (r *hashRunner) index() {
	if len(r.keys) == 0 {
		return
	}
	r.column = r.column[:0]
	for _, key := range r.keys {
		for j, slot := range r.slots {
			if slot == key {
				r.column = append(r.column, j)
			}
		}
	}
	size := 16
	for size < 2*r.count {
		size *= 2
	}
	r.heads, r.next = make([]int32, size), make([]int32, r.count)
	for i := r.count - 1; i >= 0; i-- {
		h := uint64(0)
		for _, j := range r.column {
			h = mixID(h, r.rows[i*len(r.slots)+j])
		}
		h &= uint64(size - 1)
		r.next[i], r.heads[h] = r.heads[h], int32(i+1)
	}
}

// first and after walk the rows that may agree with the current row.
func (r *hashRunner) first() int {
	if len(r.keys) == 0 {
		if r.count == 0 {
			return -1
		}
		return 0
	}
	h := uint64(0)
	for _, key := range r.keys {
		h = mixID(h, r.x.row[key])
	}
	return int(r.heads[h&uint64(len(r.heads)-1)]) - 1
}

func (r *hashRunner) after(i int) int {
	if len(r.keys) > 0 {
		return int(r.next[i]) - 1
	}
	if i+1 < r.count {
		return i + 1
	}
	return -1
}

func (r *hashRunner) at(i int) []graph.ID { return r.rows[i*len(r.slots) : (i+1)*len(r.slots)] }

func (r *hashRunner) run(k func() bool) bool {
	if !r.ready() {
		return false
	}
	for i := r.first(); i >= 0; i = r.after(i) {
		if !r.x.tick() || !r.x.merge(r.slots, r.at(i), k) {
			return false
		}
	}
	return true
}

// excludes tells whether a solution agrees with the row and shares one of the
// given variables with it (section 18.5, Minus).
func (r *hashRunner) excludes(shared []int) bool {
	for i := r.first(); i >= 0; i = r.after(i) {
		if !r.x.tick() {
			return false
		}
		common, agree := false, true
		for j, slot := range r.slots {
			v, have := r.at(i)[j], r.x.row[slot]
			if v == 0 || have == 0 || !contains(shared, slot) {
				continue
			}
			common, agree = true, agree && v == have
		}
		if common && agree {
			return true
		}
	}
	return false
}

func contains(list []int, n int) bool {
	for _, v := range list {
		if v == n {
			return true
		}
	}
	return false
}

func (r *hashRunner) explain(e *explainer) {
	if len(r.keys) > 0 {
		e.line("hash join on %s", e.slots(r.keys))
	} else {
		e.line("evaluate once")
	}
	e.child(r.input)
}
