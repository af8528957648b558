package tera

import (
	"fmt"
	"sort"
	"strconv"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// eval returns the value of an expression. Only the filter default in first
// place looks at undefined variables and null; anywhere else default and safe
// do nothing.
func (r *run) eval(e *expr) (any, error) {
	v, done, err := r.operandValue(e)
	if done || err != nil {
		return v, err
	}
	for _, c := range e.filters {
		if c.name == "default" || c.name == "safe" {
			continue
		}
		if v, err = r.filter(c, v); err != nil {
			return nil, err
		}
	}
	if e.negated {
		return !truthy(v), nil
	}
	return v, nil
}

// operandValue returns the value before filters; done tells that it is final.
func (r *run) operandValue(e *expr) (v any, done bool, err error) {
	switch e.kind {
	case exprLiteral:
		return e.value, false, nil
	case exprPath:
		return r.pathValue(e)
	case exprMath:
		n, err := r.math(e)
		return n.value(), false, err
	case exprLogic:
		v, err := r.evalBool(e)
		return v, false, err
	case exprIn:
		v, err := r.contains(e)
		return v, false, err
	case exprTest:
		v, err := r.test(e.test)
		return v, false, err
	case exprCall:
		v, err := r.function(e.call)
		return v, false, err
	case exprMacro:
		start := len(r.out)
		if err := r.macro(e.macro); err != nil {
			return nil, false, err
		}
		v, err := r.cut(start)
		return v, false, err
	case exprArray:
		v, err := r.array(e)
		return v, false, err
	default:
		v, err := r.concat(e)
		return v, false, err
	}
}

func (r *run) pathValue(e *expr) (v any, done bool, err error) {
	v, err = r.find(e.path)
	if r.engine.options.Lenient && isUndefined(err) {
		v, err = nil, nil
	}
	if err == nil && (v != nil || !e.hasDefault) {
		return v, false, nil
	}
	if e.hasDefault {
		fallback := e.filters[0].arg("value")
		if fallback == nil {
			return nil, false, r.failf(e.filters[0].pos, "filter default needs the argument %q", "value")
		}
		v, err = r.eval(fallback)
		return v, false, err
	}
	if e.negated && !isLimit(err) {
		return true, true, nil // what is not defined counts as false
	}
	return nil, false, err
}

// array evaluates the elements of an array literal.
func (r *run) array(e *expr) (any, error) {
	if err := r.create(16 * len(e.list)); err != nil {
		return nil, r.fail(e.pos, err)
	}
	list := make([]any, len(e.list))
	for i, item := range e.list {
		v, err := r.eval(item)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

// concat joins strings and numbers with ~.
func (r *run) concat(e *expr) (any, error) {
	var small [128]byte
	buf := small[:0]
	for _, item := range e.list {
		v, _, err := r.operandValue(item)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case string:
			if err := r.create(len(v)); err != nil {
				return nil, r.fail(e.pos, err)
			}
			buf = append(buf, v...)
		case int64:
			buf = strconv.AppendInt(buf, v, 10)
		case uint64:
			buf = strconv.AppendUint(buf, v, 10)
		case float64:
			if item.kind == exprLiteral {
				buf = strconv.AppendFloat(buf, v, 'f', -1, 64)
			} else {
				buf = render.AppendFloat(buf, v) // as Tera: a variable keeps its .0
			}
		default:
			return nil, r.failf(item.pos, "~ joins strings and numbers, this is %s", render.KindOf(v))
		}
	}
	return string(buf), nil
}

// evalBool returns the truth of an expression in a condition. Filters count
// only behind a variable, where an error counts as false.
func (r *run) evalBool(e *expr) (bool, error) {
	var res bool
	switch e.kind {
	case exprPath:
		return r.evalBoolPath(e)
	case exprLogic:
		v, final, err := r.logic(e)
		if err != nil || final {
			return v, err
		}
		res = v
	case exprMath:
		n, err := r.math(e)
		if err != nil {
			return false, err
		}
		res = !n.nan() && n.float() != 0
	case exprIn:
		v, err := r.contains(e)
		if err != nil {
			return false, err
		}
		res = v
	case exprTest:
		v, err := r.test(e.test)
		if err != nil {
			return false, err
		}
		res = v
	case exprCall:
		v, err := r.function(e.call)
		if err != nil {
			return false, err
		}
		b, ok := v.(bool)
		if !ok {
			return false, r.failf(e.pos, "function %q returns %s, a condition needs a bool", e.call.name, render.KindOf(v))
		}
		res = b
	case exprArray:
		return false, r.failf(e.pos, "an array cannot be a condition")
	case exprConcat, exprMacro:
		plain := *e
		plain.negated = false
		v, err := r.eval(&plain)
		if err != nil {
			return false, err
		}
		res = truthy(v)
	default:
		res = truthy(e.value)
	}
	return res != e.negated, nil
}

func (r *run) evalBoolPath(e *expr) (bool, error) {
	frames, stack, out, calls, blocks, inside, at := len(r.frames), len(r.stack), len(r.out), r.calls, r.blocks, r.inside, r.at
	v, err := r.eval(e)
	if err == nil {
		return truthy(v), nil
	}
	if ctxErr := r.ctx.Err(); ctxErr != nil {
		return false, ctxErr // not err, which a render that goes on would swallow
	}
	if isLimit(err) {
		return false, err
	}
	// The error may have left a macro half-way.
	for len(r.frames) > frames {
		r.pop()
	}
	r.stack, r.out, r.calls, r.blocks, r.inside, r.at = r.stack[:stack], r.out[:out], calls, blocks, inside, at
	return false, nil
}

func isUndefined(err error) bool {
	f, ok := err.(*failure)
	return ok && f.undef != nil
}

func isLimit(err error) bool {
	if f, ok := err.(*failure); ok {
		err = f.err
	}
	_, ok := err.(*limit)
	return ok
}

// logic evaluates and, or and the comparisons. final tells that a not in front
// is not to be applied: Tera forgets it where a number meets another kind.
func (r *run) logic(e *expr) (v, final bool, err error) {
	switch e.op {
	case opAnd, opOr:
		left, err := r.evalBool(e.lhs)
		if err != nil || left == (e.op == opOr) {
			return left, false, err
		}
		right, err := r.evalBool(e.rhs)
		return right, false, err
	case opEqual, opNotEqual:
		return r.equality(e)
	}
	left, err := r.number(e.lhs)
	if err != nil {
		return false, false, err
	}
	right, err := r.number(e.rhs)
	if err != nil {
		return false, false, err
	}
	if left.nan() || right.nan() {
		return false, false, r.failf(e.pos, "comparison with NaN")
	}
	a, b := left.float(), right.float()
	switch e.op {
	case opLess:
		return a < b, false, nil
	case opLessEqual:
		return a <= b, false, nil
	case opGreater:
		return a > b, false, nil
	default:
		return a >= b, false, nil
	}
}

func (r *run) equality(e *expr) (v, final bool, err error) {
	left, err := r.eval(e.lhs)
	if err != nil {
		return false, false, err
	}
	right, err := r.eval(e.rhs)
	if err != nil {
		return false, false, err
	}
	a, aIs := toFloat(left)
	b, bIs := toFloat(right)
	if aIs || bIs {
		if !aIs || !bIs {
			return false, true, nil
		}
		return (a == b) == (e.op == opEqual), false, nil
	}
	same, err := r.equal(left, right, 0)
	if err != nil {
		return false, false, r.fail(e.pos, err)
	}
	return same == (e.op == opEqual), false, nil
}

func (r *run) test(t *test) (bool, error) {
	if t.fn == nil {
		return false, r.unknown(t.pos, "test", "", t.name, keys(tests))
	}
	var room [2]any
	args := room[:0]
	for _, e := range t.args {
		v, err := r.eval(e)
		if err != nil {
			return false, err
		}
		args = append(args, v)
	}
	v, err := r.find(t.path)
	if isLimit(err) {
		return false, err
	}
	subject := subject{value: v, defined: err == nil}
	ok, err := t.fn(r, subject, args)
	if err != nil {
		return false, r.fail(t.pos, fmt.Errorf("test %q: %w", t.name, err))
	}
	return ok != t.negated, nil
}

func keys[T any](m map[string]T) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	sort.Strings(list)
	return list
}
