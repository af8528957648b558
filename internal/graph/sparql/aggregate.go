package sparql

import (
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// accumulator is one aggregate over one group (section 18.5.1). It takes rows
// one by one and keeps only what its function needs: counting needs no more
// than a number, and there may be a group for every row.
type accumulator struct {
	count  int64
	failed bool // a value was an error: so is the aggregate
	kept   *kept
}

// kept is what functions other than COUNT keep of the values so far, and what
// DISTINCT keeps.
type kept struct {
	value value // sum, or least, largest or first value
	text  strings.Builder
	seen  rowSet
}

// keep returns what a keeps, making room for it the first time.
func (a *accumulator) keep(x *execution) *kept {
	if a.kept == nil {
		a.kept = &kept{}
		x.charge(256)
	}
	return a.kept
}

// add takes the current row.
func (a *accumulator) add(x *execution, spec *aggregateSpec) {
	switch {
	case spec.eval == nil: // COUNT(*)
		if !spec.distinct || a.isNew(x, spec.columnsOf(x.row)) {
			a.count++
		}
		return
	case spec.name != "COUNT" && !spec.distinct:
		v, ok := spec.eval()
		a.take(x, spec, v, ok)
		return
	}
	// Whose values do not matter, or matter once, is known by its number.
	id, ok := spec.number()
	if ok && spec.distinct {
		spec.scratch = append(spec.scratch[:0], id)
		if !a.isNew(x, spec.scratch) {
			return
		}
	}
	if spec.name != "COUNT" {
		a.take(x, spec, x.value(id), ok)
	} else if ok {
		a.count++
	}
}

// columnsOf returns the columns of a row that COUNT(DISTINCT *) is about.
func (spec *aggregateSpec) columnsOf(row []graph.ID) []graph.ID {
	spec.scratch = spec.scratch[:0]
	for _, slot := range spec.columns {
		spec.scratch = append(spec.scratch, row[slot])
	}
	return spec.scratch
}

// take takes a value; ok is false for an error, which SAMPLE passes over and
// which makes the other functions fail.
func (a *accumulator) take(x *execution, spec *aggregateSpec, v value, ok bool) {
	if !ok {
		a.failed = true
		return
	}
	a.count++
	k := a.keep(x)
	switch spec.name {
	case "SUM", "AVG":
		if a.count == 1 {
			k.value = newInteger(0)
		}
		if sum, ok := arithmetic("+", k.value, v); ok {
			k.value = sum
		} else {
			a.failed = true
		}
	case "MIN":
		if a.count == 1 || compareForOrder(&v, &k.value) < 0 {
			k.hold(x, v)
		}
	case "MAX":
		if a.count == 1 || compareForOrder(&v, &k.value) > 0 {
			k.hold(x, v)
		}
	case "SAMPLE":
		if a.count == 1 {
			k.hold(x, v)
		}
	case "GROUP_CONCAT":
		a.concat(x, spec, v)
	}
}

// hold keeps v instead of the value before it.
func (k *kept) hold(x *execution, v value) {
	x.charge(v.size() - k.value.size())
	k.value = v
}

func (a *accumulator) isNew(x *execution, row []graph.ID) bool {
	k := a.keep(x)
	k.seen.x, k.seen.width = x, len(row)
	_, isNew := k.seen.add(row)
	return isNew
}

func (a *accumulator) concat(x *execution, spec *aggregateSpec, v value) {
	s, ok := v.str()
	if !ok {
		a.failed = true
		return
	}
	text := &a.kept.text
	if a.count > 1 {
		text.WriteString(spec.separator)
	}
	if x.charge(len(s)+len(spec.separator)) && x.shortEnough(text.Len()+len(s)) {
		text.WriteString(s)
	}
}

// result returns the value of the aggregate; ok is false for an error.
func (a *accumulator) result(spec *aggregateSpec) (value, bool) {
	if spec.name == "COUNT" {
		return newInteger(a.count), true
	}
	if a.count == 0 { // of no values, some functions have one nevertheless
		switch spec.name {
		case "SUM", "AVG":
			return newInteger(0), !a.failed
		case "GROUP_CONCAT":
			return newString(""), !a.failed
		}
		return value{}, false
	}
	switch spec.name {
	case "SAMPLE":
		return a.kept.value, true
	case "AVG":
		if a.failed {
			return value{}, false
		}
		return arithmetic("/", a.kept.value, newInteger(a.count))
	case "GROUP_CONCAT":
		return newString(a.kept.text.String()), !a.failed
	}
	return a.kept.value, !a.failed // SUM, MIN, MAX
}
