package tera

import (
	"slices"
	"strings"
)

// maxHeight bounds the tree of an expression, which a chain of operators makes
// as high as it is long. A render goes that deep in every macro.
const maxHeight = 1000

// rule names a memoised rule of the grammar. Without memory an expression of n
// nested calls would take 2^n steps, since its alternatives start alike.
type rule uint8

const (
	ruleBasic rule = iota
	ruleCall
	ruleConcat
	ruleLogicValue
	rulePath
	ruleArray
)

type memoKey struct {
	rule rule
	pos  int
}

type memoValue struct {
	end  int
	e    *expr
	path *path
}

// clear forgets what was remembered for the tag before.
func (p *parser) clear() {
	if p.memo == nil {
		p.memo = map[memoKey]memoValue{}
		return
	}
	clear(p.memo)
}

func (p *parser) remember(r rule, i int, parse func(*parser, int) (int, *expr)) (int, *expr) {
	key := memoKey{r, i}
	if m, ok := p.memo[key]; ok {
		return m.end, m.e
	}
	if !p.enter(i) {
		return -1, nil
	}
	end, e := parse(p, i)
	p.leave()
	p.memo[key] = memoValue{end: end, e: e}
	return end, e
}

// enter goes one level deeper, or fails for good.
func (p *parser) enter(i int) bool {
	if p.fatal != nil {
		return false
	}
	// A level of parentheses takes up to three rules, a tag takes one.
	if p.depth++; p.depth > 3*p.limits.ParseDepth {
		p.fatal = p.errorAt(i, "", "nested deeper than the limit of %d", p.limits.ParseDepth)
		return false
	}
	return true
}

func (p *parser) leave() { p.depth-- }

// logicOrArray = logic | arrayFiltered
func (p *parser) logicOrArray(i int) (int, *expr) {
	if end, e := p.logic(i); end >= 0 {
		return end, e
	}
	return p.arrayFiltered(i)
}

// logic = logicValue ((or | and) logicValue)*, and binding tighter than or.
func (p *parser) logic(i int) (int, *expr) {
	end, first := p.logicValue(i)
	if end < 0 {
		return -1, nil
	}
	var or, and *expr = nil, first
	for {
		at := p.ws(end)
		o, next := opOr, p.word(at, "or")
		if next < 0 {
			o, next = opAnd, p.word(at, "and")
		}
		if next < 0 {
			break
		}
		next, value := p.logicValue(p.ws(next))
		if next < 0 {
			break
		}
		end = next
		if o == opAnd {
			and = p.grow(&expr{kind: exprLogic, op: opAnd, pos: and.pos, lhs: and, rhs: value}, and, value)
			continue
		}
		or, and = p.join(or, and), value
	}
	return end, p.join(or, and)
}

func (p *parser) join(or, and *expr) *expr {
	if or == nil {
		return and
	}
	return p.grow(&expr{kind: exprLogic, op: opOr, pos: or.pos, lhs: or, rhs: and}, or, and)
}

// grow puts e on top of its parts.
func (p *parser) grow(e *expr, parts ...*expr) *expr {
	for _, part := range parts {
		if part != nil && part.height >= e.height {
			e.height = part.height + 1
		}
	}
	if e.height > maxHeight && p.fatal == nil {
		p.fatal = p.errorAt(int(e.pos), "use several `set` tags", "the expression has more than %d operators on top of each other", maxHeight)
	}
	return e
}

func (p *parser) growArgs(e *expr, args []arg) *expr {
	for _, a := range args {
		p.grow(e, a.e)
	}
	return e
}

// word matches an operator word and one whitespace character behind it.
func (p *parser) word(i int, w string) int {
	if strings.HasPrefix(p.src[i:], w) && i+len(w) < len(p.src) && isBlank(p.src[i+len(w)]) {
		return i + len(w) + 1
	}
	return -1
}

func (p *parser) logicValue(i int) (int, *expr) {
	return p.remember(ruleLogicValue, i, (*parser).logicValueAt)
}

// logicValue = not? (in | comparison) | "(" logic ")"
func (p *parser) logicValueAt(i int) (int, *expr) {
	at, negated := i, false
	if next := p.word(i, "not"); next >= 0 {
		at, negated = p.ws(next), true
	}
	end, e := p.in(at)
	if end < 0 {
		end, e = p.comparison(at)
	}
	if end >= 0 {
		if negated {
			// The expression may be remembered by another rule, without the not.
			c := *e
			c.negated, c.pos, e = true, int32(i), &c
		}
		return end, e
	}
	if i < len(p.src) && p.src[i] == '(' {
		if end, e = p.logic(p.ws(i + 1)); end >= 0 {
			end = p.ws(end)
			if end < len(p.src) && p.src[end] == ')' {
				c := *e
				c.negated = false // as in Tera, which forgets the sign: (not a) is a
				return end + 1, &c
			}
			p.miss(end, "`)`")
		}
	}
	return -1, nil
}

// in = (stringFiltered | basicFiltered) not? "in" (stringFiltered | arrayFiltered | path)
func (p *parser) in(i int) (int, *expr) {
	end, lhs := p.stringFiltered(i)
	if end < 0 {
		if end, lhs = p.basicFiltered(i); end < 0 {
			return -1, nil
		}
	}
	at, negated := p.ws(end), false
	if next := p.word(at, "not"); next >= 0 {
		at, negated = p.ws(next), true
	}
	if !strings.HasPrefix(p.src[at:], "in") {
		return -1, nil
	}
	at = p.ws(at + 2)
	end, rhs := p.stringFiltered(at)
	if end < 0 {
		end, rhs = p.arrayFiltered(at)
	}
	if end < 0 {
		if end, rhs = p.pathExpr(at); end < 0 {
			p.miss(at, "a variable, a string or an array")
			return -1, nil
		}
	}
	return end, p.grow(&expr{kind: exprIn, pos: int32(i), lhs: lhs, rhs: rhs, notIn: negated}, lhs, rhs)
}

// comparison = side (operator side)?
func (p *parser) comparison(i int) (int, *expr) {
	end, lhs := p.side(i)
	if end < 0 {
		return -1, nil
	}
	at := p.ws(end)
	o, n := comparisonOp(p.src[at:])
	if n == 0 {
		return end, lhs
	}
	next, rhs := p.side(p.ws(at + n))
	if next < 0 {
		return end, lhs
	}
	return next, p.grow(&expr{kind: exprLogic, op: o, pos: int32(i), lhs: lhs, rhs: rhs}, lhs, rhs)
}

func comparisonOp(s string) (op, int) {
	if len(s) == 0 {
		return 0, 0
	}
	equals := len(s) > 1 && s[1] == '='
	switch {
	case s[0] == '<' && equals:
		return opLessEqual, 2
	case s[0] == '>' && equals:
		return opGreaterEqual, 2
	case s[0] == '>':
		return opGreater, 1
	case s[0] == '<':
		return opLess, 1
	case s[0] == '=' && equals:
		return opEqual, 2
	case s[0] == '!' && equals:
		return opNotEqual, 2
	}
	return 0, 0
}

// side = stringFiltered | basicFiltered (mathOperator basicFiltered)*
func (p *parser) side(i int) (int, *expr) {
	if end, e := p.stringFiltered(i); end >= 0 {
		return end, e
	}
	return p.chain(i, (*parser).basicFiltered)
}

// chain = term (mathOperator term)*, with * / % binding tighter than + -.
func (p *parser) chain(i int, term func(*parser, int) (int, *expr)) (int, *expr) {
	end, first := term(p, i)
	if end < 0 {
		return -1, nil
	}
	var sum *expr
	var sumOp op
	product := first
	for p.fatal == nil {
		at := p.ws(end)
		o, ok := mathOp(p.src, at)
		if !ok {
			break
		}
		next, e := term(p, p.ws(at+1))
		if next < 0 {
			break
		}
		end = next
		if o >= opMul {
			product = p.math(o, product, e)
			continue
		}
		if sum != nil {
			product = p.math(sumOp, sum, product)
		}
		sum, sumOp, product = product, o, e
	}
	if sum != nil {
		product = p.math(sumOp, sum, product)
	}
	return end, product
}

func (p *parser) math(o op, lhs, rhs *expr) *expr {
	return p.grow(&expr{kind: exprMath, op: o, pos: lhs.pos, lhs: lhs, rhs: rhs}, lhs, rhs)
}

func mathOp(s string, i int) (op, bool) {
	if i >= len(s) {
		return 0, false
	}
	switch s[i] {
	case '+':
		return opAdd, true
	case '-':
		return opSub, true
	case '*':
		return opMul, true
	case '/':
		return opDiv, true
	case '%':
		return opMod, true
	}
	return 0, false
}

// basicFiltered = basic filter*. A filter applies to the whole of the
// arithmetic on its left.
func (p *parser) basicFiltered(i int) (int, *expr) {
	end, e := p.basic(i)
	if end < 0 {
		return -1, nil
	}
	return p.filters(end, e)
}

// stringFiltered = (concat | string) filter*
func (p *parser) stringFiltered(i int) (int, *expr) {
	end, e := p.remember(ruleConcat, i, (*parser).concat)
	if end < 0 {
		var s string
		if end, s = p.str(i); end < 0 {
			return -1, nil
		}
		e = &expr{pos: int32(i), value: s}
	}
	return p.filters(end, e)
}

// arrayFiltered = array filter*
func (p *parser) arrayFiltered(i int) (int, *expr) {
	if i >= len(p.src) || p.src[i] != '[' {
		p.miss(i, "a value")
		return -1, nil
	}
	end, e := p.remember(ruleArray, i, (*parser).array)
	if end < 0 {
		return -1, nil
	}
	return p.filters(end, e)
}

// array = "[" (logicValue ",")* logicValue? "]"
func (p *parser) array(i int) (int, *expr) {
	a := &expr{kind: exprArray, pos: int32(i)}
	at := p.ws(i + 1)
	for {
		end, e := p.logicValue(at)
		if end < 0 {
			break
		}
		a.list = append(a.list, e)
		if at = p.ws(end); at >= len(p.src) || p.src[at] != ',' {
			break
		}
		at = p.ws(at + 1)
	}
	if at >= len(p.src) || p.src[at] != ']' {
		p.miss(at, "`]`")
		return -1, nil
	}
	return at + 1, p.grow(a, a.list...)
}

// filters = ("|" (call | name))*; e may be remembered and is not changed.
func (p *parser) filters(end int, e *expr) (int, *expr) {
	var list []*call
	for {
		at := p.ws(end)
		if at >= len(p.src) || p.src[at] != '|' {
			break
		}
		next, c := p.filterCall(p.ws(at + 1))
		if next < 0 {
			break
		}
		end, list = next, append(list, c)
	}
	if list == nil {
		return end, e
	}
	c := *e
	c.filters, c.hasDefault = list, list[0].name == "default"
	for _, f := range list {
		p.growArgs(&c, f.args)
	}
	return end, &c
}

// filterCall = call | name
func (p *parser) filterCall(i int) (int, *call) {
	if end, e := p.callExpr(i); end >= 0 {
		return end, e.call
	}
	end := p.ident(i)
	if end < 0 {
		p.miss(i, "a filter name")
		return -1, nil
	}
	return end, p.newCall(i, p.src[i:end], nil)
}

func (p *parser) newCall(i int, name string, args []arg) *call {
	c := &call{pos: int32(i), name: name, args: args, filter: filters[name], fn: functions[name]}
	if slices.IndexFunc(args, func(a arg) bool { return !a.e.plain() }) < 0 {
		for _, a := range args {
			c.fixed = append(c.fixed, a.e.value)
		}
	}
	return c
}

// concat = operand ("~" operand)+
func (p *parser) concat(i int) (int, *expr) {
	end, e := p.operand(i)
	if end < 0 {
		return -1, nil
	}
	list := []*expr{e}
	for {
		at := p.ws(end)
		if at >= len(p.src) || p.src[at] != '~' {
			break
		}
		next, e := p.operand(p.ws(at + 1))
		if next < 0 {
			p.miss(p.ws(at+1), "a string, a number or a variable")
			break
		}
		end, list = next, append(list, e)
	}
	if len(list) == 1 {
		return -1, nil
	}
	return end, p.grow(&expr{kind: exprConcat, pos: int32(i), list: list}, list...)
}

// operand = call | float | int | string | path
func (p *parser) operand(i int) (int, *expr) {
	if end, e := p.callExpr(i); end >= 0 {
		return end, e
	}
	if end, e := p.number(i); end >= 0 {
		return end, e
	}
	if end, s := p.str(i); end >= 0 {
		return end, &expr{pos: int32(i), value: s}
	}
	return p.pathExpr(i)
}
