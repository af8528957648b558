package sparql

import (
	"math/big"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// accumulator is one aggregate over one group (section 18.5.1). It takes rows
// one by one and keeps only what its function needs.
type accumulator struct {
	count  int64
	failed bool // a value was an error: so is the aggregate
	best   value
	sum    value
	text   *strings.Builder
	seen   *rowSet
}

// add takes the current row.
func (a *accumulator) add(x *execution, spec *aggregateSpec) {
	if spec.eval == nil { // COUNT(*)
		if spec.distinct {
			row := make([]graph.ID, len(spec.columns))
			for i, slot := range spec.columns {
				row[i] = x.row[slot]
			}
			if !a.isNew(x, row) {
				return
			}
		}
		a.count++
		return
	}
	v, ok := spec.eval()
	if !ok {
		// COUNT and SAMPLE pass over errors, which are no values; the others fail.
		a.failed = true
		return
	}
	if spec.distinct && !a.isNew(x, []graph.ID{x.intern(v)}) {
		return
	}
	a.count++
	switch spec.name {
	case "SUM", "AVG":
		if a.count == 1 {
			a.sum = newInteger(0)
		}
		if sum, ok := arithmetic("+", a.sum, v); ok {
			a.sum = sum
		} else {
			a.failed = true
		}
	case "MIN":
		if a.count == 1 || compareForOrder(&v, &a.best) < 0 {
			a.best = v
		}
	case "MAX":
		if a.count == 1 || compareForOrder(&v, &a.best) > 0 {
			a.best = v
		}
	case "SAMPLE":
		if a.count == 1 {
			a.best = v
		}
	case "GROUP_CONCAT":
		a.concat(x, spec, v)
	}
}

func (a *accumulator) isNew(x *execution, row []graph.ID) bool {
	if a.seen == nil {
		a.seen = &rowSet{x: x, width: len(row)}
	}
	_, isNew := a.seen.add(row)
	return isNew
}

func (a *accumulator) concat(x *execution, spec *aggregateSpec, v value) {
	s, ok := v.str()
	if !ok {
		a.failed = true
		return
	}
	if a.text == nil {
		a.text = &strings.Builder{}
	} else {
		a.text.WriteString(spec.separator)
	}
	if x.charge(len(s) + len(spec.separator)) {
		a.text.WriteString(s)
	}
}

// result returns the value of the aggregate; ok is false for an error.
func (a *accumulator) result(spec *aggregateSpec) (value, bool) {
	switch spec.name {
	case "COUNT":
		return newInteger(a.count), true
	case "SAMPLE":
		return a.best, a.count > 0
	case "SUM":
		if a.count == 0 {
			a.sum = newInteger(0)
		}
		return a.sum, !a.failed
	case "AVG":
		if a.count == 0 {
			return newInteger(0), !a.failed
		}
		if a.failed {
			return value{}, false
		}
		return arithmetic("/", a.sum, newBigInt(big.NewInt(a.count)))
	case "GROUP_CONCAT":
		if a.text == nil {
			return newString(""), !a.failed
		}
		return newString(a.text.String()), !a.failed
	}
	return a.best, a.count > 0 && !a.failed // MIN, MAX
}
