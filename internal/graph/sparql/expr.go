package sparql

import (
	"math"
	"math/big"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// evaluator computes an expression over the current row; ok is false for an
// error, which is what an unbound variable is too (section 17.2).
type evaluator func() (v value, ok bool)

// numberer computes an expression like an evaluator, as the number of a term.
// For a variable that is no work, however little of the term is at hand.
type numberer func() (id graph.ID, ok bool)

func (pl *planner) numberer(s *scalar, e env) numberer {
	x := pl.x
	if s.op == exprVar {
		return func() (graph.ID, bool) { id := x.row[s.slot]; return id, id != 0 }
	}
	eval := pl.compile(s, e)
	return func() (graph.ID, bool) {
		v, ok := eval()
		if !ok {
			return 0, false
		}
		return x.intern(v), true
	}
}

// compile turns an expression into an evaluator. e says what is known of the
// row at the place where it will be evaluated.
func (pl *planner) compile(s *scalar, e env) evaluator {
	x := pl.x
	switch s.op {
	case exprTerm:
		// Not a number of the graph yet: most constants never meet the row.
		v := valueOf(s.term, x.g.Dictionary().Lookup(s.term))
		return func() (value, bool) { return v, true }
	case exprVar:
		slot := s.slot
		var last value // rows with the same term tend to come together
		return func() (value, bool) {
			id := x.row[slot]
			if id == 0 {
				return value{}, false
			}
			if id != last.id {
				last = x.value(id)
			}
			return last, true
		}
	case exprExists, exprNotExists:
		return pl.exists(s, e)
	case exprOr, exprAnd:
		return logical(pl.compileAll(s.args, e), s.op == exprOr)
	case exprIn, exprNotIn:
		return membership(pl.compileAll(s.args, e), s.op == exprIn)
	case exprCompare:
		return pl.comparison(s, e)
	case exprArith:
		a, b, op := pl.compile(s.args[0], e), pl.compile(s.args[1], e), s.name
		return func() (value, bool) {
			va, ok := a()
			if !ok {
				return value{}, false
			}
			vb, ok := b()
			if !ok {
				return value{}, false
			}
			return arithmetic(op, va, vb)
		}
	case exprNot, exprMinus, exprPlus:
		return unary(s.op, pl.compile(s.args[0], e))
	case exprCall:
		return pl.call(s, e)
	}
	return pl.builtin(s, e)
}

func (pl *planner) compileAll(args []*scalar, e env) []evaluator {
	var out []evaluator
	for _, a := range args {
		out = append(out, pl.compile(a, e))
	}
	return out
}

// exists evaluates its pattern with the variables of the row as constants
// (section 17.4.1.4 and the definition of substitution in section 18.6).
func (pl *planner) exists(s *scalar, e env) evaluator {
	x := pl.x
	inside := env{possible: e.possible, certain: e.certain, constant: e.possible, constantCertain: e.certain}
	pattern := pl.plan(s.pattern, inside)
	want := s.op == exprExists
	var base []graph.ID
	found := false
	stop := func() bool { found = true; return false }
	return func() (value, bool) {
		outer := x.base
		base = append(base[:0], x.row...)
		x.base, found = base, false
		pattern.run(stop)
		x.base = outer
		if x.err != nil {
			return value{}, false
		}
		return newBoolean(found == want), true
	}
}

// logical is || and && with their truth tables for errors (section 17.2).
func logical(args []evaluator, or bool) evaluator {
	return func() (value, bool) {
		failed := false
		for _, arg := range args {
			v, ok := arg()
			truth := false
			if ok {
				truth, ok = v.ebv()
			}
			switch {
			case !ok:
				failed = true
			case truth == or:
				return newBoolean(or), true
			}
		}
		return newBoolean(!or), !failed
	}
}

// membership is IN and NOT IN (sections 17.4.1.9 and 17.4.1.10).
func membership(args []evaluator, in bool) evaluator {
	return func() (value, bool) {
		left, ok := args[0]()
		if !ok {
			return value{}, false
		}
		failed := false
		for _, arg := range args[1:] {
			v, ok := arg()
			if !ok {
				failed = true
				continue
			}
			same, ok := equal(&left, &v)
			switch {
			case !ok:
				failed = true
			case same:
				return newBoolean(in), true
			}
		}
		return newBoolean(!in), !failed
	}
}

func (pl *planner) comparison(s *scalar, e env) evaluator {
	a, b := pl.compile(s.args[0], e), pl.compile(s.args[1], e)
	var test func(a, b *value) (bool, bool)
	switch s.name {
	case "=":
		test = equal
	case "!=":
		test = func(a, b *value) (bool, bool) {
			same, ok := equal(a, b)
			return !same, ok
		}
	default:
		test = inequality(s.name)
	}
	// The operands outlive a call so that taking their addresses costs nothing;
	// an evaluator is never entered again before it has returned.
	var va, vb value
	return pl.remember(s.args, func() (_ value, ok bool) {
		if va, ok = a(); !ok {
			return value{}, false
		}
		if vb, ok = b(); !ok {
			return value{}, false
		}
		truth, ok := test(&va, &vb)
		return newBoolean(truth), ok
	})
}

// remember returns eval, a test of two arguments, without evaluating it again
// as long as both are variables or constants and have the same terms as before,
// which they tend to have in rows that follow each other.
func (pl *planner) remember(args []*scalar, eval evaluator) evaluator {
	for _, arg := range args {
		if arg.op != exprVar && arg.op != exprTerm {
			return eval
		}
	}
	x, a, b := pl.x, args[0].slot, args[1].slot
	var of [2]graph.ID
	var truth, ok, known bool
	return func() (value, bool) {
		var now [2]graph.ID // 0 for a constant
		if a >= 0 {
			now[0] = x.row[a]
		}
		if b >= 0 {
			now[1] = x.row[b]
		}
		if !known || now != of {
			var v value
			v, ok = eval()
			truth, known, of = v.n != 0, true, now
		}
		return newBoolean(truth), ok
	}
}

func inequality(op string) func(a, b *value) (bool, bool) {
	return func(a, b *value) (bool, bool) {
		order, ordered, ok := less(a, b)
		truth := false
		switch op {
		case "<":
			truth = order < 0
		case ">":
			truth = order > 0
		case "<=":
			truth = order <= 0
		case ">=":
			truth = order >= 0
		}
		return truth && ordered, ok
	}
}

func unary(op exprOp, arg evaluator) evaluator {
	return func() (value, bool) {
		v, ok := arg()
		if !ok {
			return value{}, false
		}
		if op == exprNot {
			truth, ok := v.ebv()
			return newBoolean(!truth), ok
		}
		if !v.numeric() {
			return value{}, false
		}
		if op == exprMinus {
			switch v.kind {
			case kindFloat:
				return newFloat(-v.f), true
			case kindDouble:
				return newDouble(-v.f), true
			}
			return arithmetic("-", newInteger(0), v)
		}
		return v, true
	}
}

// maxBits bounds computed integers and the terms of computed decimals.
const maxBits = 4 * maxDigits

// arithmetic is + - * / (section 17.3): operands are promoted to the wider of
// their types; integers and decimals are exact; the quotient of two integers
// is a decimal.
func arithmetic(op string, a, b value) (value, bool) {
	if !a.numeric() || !b.numeric() {
		return value{}, false
	}
	kind := max(a.kind, b.kind)
	if kind >= kindFloat {
		f, ok := floatArithmetic(op, a.float(), b.float())
		if kind == kindFloat {
			return newFloat(f), ok
		}
		return newDouble(f), ok
	}
	if kind == kindInteger && op != "/" {
		if a.x == nil && b.x == nil {
			if n, ok := smallArithmetic(op, a.n, b.n); ok {
				return newInteger(n), true
			}
		}
		n := new(big.Int)
		switch op {
		case "+":
			n.Add(a.bigInt(), b.bigInt())
		case "-":
			n.Sub(a.bigInt(), b.bigInt())
		default:
			n.Mul(a.bigInt(), b.bigInt())
		}
		return newBigInt(n), n.BitLen() <= maxBits
	}
	r := new(big.Rat)
	switch op {
	case "+":
		r.Add(a.rat(), b.rat())
	case "-":
		r.Sub(a.rat(), b.rat())
	case "*":
		r.Mul(a.rat(), b.rat())
	default:
		if b.rat().Sign() == 0 {
			return value{}, false
		}
		r = roundQuotient(r.Quo(a.rat(), b.rat()))
	}
	return newDecimal(r), r.Num().BitLen() <= maxBits && r.Denom().BitLen() <= maxBits
}

func floatArithmetic(op string, a, b float64) (float64, bool) {
	switch op {
	case "+":
		return a + b, true
	case "-":
		return a - b, true
	case "*":
		return a * b, true
	}
	return a / b, true // division by zero is an infinity or NaN
}

// smallArithmetic works on int64; ok is false if the result does not fit.
func smallArithmetic(op string, a, b int64) (int64, bool) {
	switch op {
	case "+":
		n := a + b
		return n, (n > a) == (b > 0)
	case "-":
		n := a - b
		return n, (n < a) == (b > 0)
	}
	if a == 0 || b == 0 {
		return 0, true
	}
	n := a * b
	return n, n/b == a && !(a == -1 && b == math.MinInt64) && !(b == -1 && a == math.MinInt64)
}

// quotientDigits is the number of fractional digits that the quotient of two
// decimals keeps if it has no end; XPath asks for some bound, 18 at least.
const quotientDigits = 18

func roundQuotient(r *big.Rat) *big.Rat {
	if _, exact := r.FloatPrec(); exact {
		if digits, _ := r.FloatPrec(); digits <= 2*quotientDigits {
			return r
		}
	}
	out, _ := new(big.Rat).SetString(r.FloatString(quotientDigits))
	return out
}
