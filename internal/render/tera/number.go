package tera

import (
	"math"
	"strconv"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// number is an operand of arithmetic, or NaN.
type number struct {
	kind numberKind
	i    int64
	u    uint64 // above the largest int64
	f    float64
}

type numberKind uint8

const (
	numberNaN numberKind = iota
	numberInt
	numberUint
	numberFloat
)

func (n number) nan() bool { return n.kind == numberNaN }

func (n number) float() float64 {
	switch n.kind {
	case numberInt:
		return float64(n.i)
	case numberUint:
		return float64(n.u)
	default:
		return n.f
	}
}

func (n number) value() any {
	switch n.kind {
	case numberInt:
		return n.i
	case numberUint:
		return n.u
	case numberFloat:
		return n.f
	default:
		return "NaN"
	}
}

func fromFloat(f float64) number {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return number{}
	}
	return number{kind: numberFloat, f: f}
}

func fromUint(u uint64) number {
	if u <= math.MaxInt64 {
		return number{kind: numberInt, i: int64(u)}
	}
	return number{kind: numberUint, u: u}
}

func toNumber(v any) (number, bool) {
	switch v := v.(type) {
	case int64:
		return number{kind: numberInt, i: v}, true
	case float64:
		return number{kind: numberFloat, f: v}, true
	case uint64:
		return number{kind: numberUint, u: v}, true
	default:
		return number{}, false
	}
}

func toFloat(v any) (float64, bool) {
	n, ok := toNumber(v)
	return n.float(), ok
}

// numberText is a number as serde_json writes it.
func numberText(v any) string {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	default:
		return string(render.AppendFloat(nil, v.(float64)))
	}
}

// number evaluates an operand of arithmetic or of an ordering.
func (r *run) number(e *expr) (number, error) {
	if len(e.filters) > 0 {
		v, err := r.eval(e)
		if err != nil {
			return number{}, err
		}
		n, ok := toNumber(v)
		if !ok {
			return number{}, r.failf(e.pos, "a number is needed, this is %s", render.KindOf(v))
		}
		return n, nil
	}
	var v any
	var err error
	switch e.kind {
	case exprMath:
		return r.math(e)
	case exprLiteral:
		v = e.value
	case exprPath:
		v, err = r.find(e.path)
	case exprCall:
		v, err = r.function(e.call)
	case exprConcat:
		v = ""
	default:
		return number{}, r.failf(e.pos, "a number is needed here")
	}
	if err != nil {
		return number{}, err
	}
	n, ok := toNumber(v)
	if !ok {
		return number{}, r.failf(e.pos, "a number is needed, this is %s", render.KindOf(v))
	}
	return n, nil
}

// math evaluates one arithmetic operation. Integers stay integers except in a
// division; what does not fit 64 bits is an error.
func (r *run) math(e *expr) (number, error) {
	a, err := r.number(e.lhs)
	if err != nil {
		return number{}, err
	}
	b, err := r.number(e.rhs)
	if err != nil || a.nan() || b.nan() {
		return number{}, err
	}
	if e.op == opDiv {
		return quotient(a.float() / b.float()), nil
	}
	switch {
	case a.kind == numberInt && b.kind == numberInt:
		n, ok := mathInt(e.op, a.i, b.i)
		if !ok {
			return number{}, r.mathError(e, b.i == 0)
		}
		return number{kind: numberInt, i: n}, nil
	case a.unsigned() && b.unsigned():
		n, ok := mathUint(e.op, a.uint(), b.uint())
		if !ok {
			return number{}, r.mathError(e, b.uint() == 0)
		}
		return fromUint(n), nil
	default:
		return fromFloat(mathFloat(e.op, a.float(), b.float())), nil
	}
}

// quotient is a result of a division: what is whole becomes an integer, the nearest
// that exists.
func quotient(f float64) number {
	if f == math.Trunc(f) && !math.IsInf(f, 0) {
		return number{kind: numberInt, i: saturate(f)}
	}
	return fromFloat(f)
}

func (r *run) mathError(e *expr, zero bool) error {
	if e.op == opMod && zero {
		return r.failf(e.pos, "the remainder of a division by zero is not defined")
	}
	return r.failf(e.pos, "the result does not fit 64 bits")
}

func (n number) unsigned() bool { return n.kind == numberUint || n.kind == numberInt && n.i >= 0 }

func (n number) uint() uint64 {
	if n.kind == numberInt {
		return uint64(n.i)
	}
	return n.u
}

func mathInt(o op, a, b int64) (int64, bool) {
	switch o {
	case opAdd:
		c := a + b
		return c, (c > a) == (b > 0)
	case opSub:
		c := a - b
		return c, (c < a) == (b > 0)
	case opMul:
		if a == 0 || b == 0 {
			return 0, true
		}
		c := a * b
		return c, c/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64)
	default:
		if b == 0 || a == math.MinInt64 && b == -1 {
			return 0, false
		}
		return a % b, true
	}
}

func mathUint(o op, a, b uint64) (uint64, bool) {
	switch o {
	case opAdd:
		return a + b, a+b >= a
	case opSub:
		return a - b, a >= b
	case opMul:
		if a == 0 || b == 0 {
			return 0, true
		}
		return a * b, (a*b)/b == a
	default:
		if b == 0 {
			return 0, false
		}
		return a % b, true
	}
}

func mathFloat(o op, a, b float64) float64 {
	switch o {
	case opAdd:
		return a + b
	case opSub:
		return a - b
	case opMul:
		return a * b
	default:
		return math.Mod(a, b)
	}
}
