package tera

import (
	"slices"
	"strings"
)

func (p *parser) basic(i int) (int, *expr) {
	return p.remember(ruleBasic, i, func(p *parser, i int) (int, *expr) {
		return p.chain(i, (*parser).term)
	})
}

// term = "(" basic ")" | value
func (p *parser) term(i int) (int, *expr) {
	if i < len(p.src) && p.src[i] == '(' {
		end, e := p.basic(p.ws(i + 1))
		if end < 0 {
			return -1, nil
		}
		if end = p.ws(end); end < len(p.src) && p.src[end] == ')' {
			return end + 1, e
		}
		p.miss(end, "`)`")
		return -1, nil
	}
	return p.valueAt(i)
}

// value = boolean | test | macro call | call | path | float | int
func (p *parser) valueAt(i int) (int, *expr) {
	if end, e := p.boolean(i); end >= 0 {
		return end, e
	}
	if end, e := p.testExpr(i); end >= 0 {
		return end, e
	}
	if end, e := p.macroExpr(i); end >= 0 {
		return end, e
	}
	if end, e := p.callExpr(i); end >= 0 {
		return end, e
	}
	if end, e := p.pathExpr(i); end >= 0 {
		return end, e
	}
	end, e := p.number(i)
	if end < 0 {
		p.miss(i, "a value")
	}
	return end, e
}

var booleans = [...]string{"true", "false", "True", "False"}

func (p *parser) boolean(i int) (int, *expr) {
	for n, word := range booleans {
		if strings.HasPrefix(p.src[i:], word) {
			return i + len(word), &expr{pos: int32(i), value: n%2 == 0}
		}
	}
	return -1, nil
}

// testExpr = path "is" "not"? name ("(" arguments ")")?
func (p *parser) testExpr(i int) (int, *expr) {
	end, pe := p.path(i)
	if end < 0 {
		return -1, nil
	}
	at := p.ws(end)
	if !strings.HasPrefix(p.src[at:], "is") {
		return -1, nil
	}
	at = p.ws(at + 2)
	if strings.HasPrefix(p.src[at:], "not") {
		if end, t := p.testCall(p.ws(at + 3)); end >= 0 {
			t.path, t.negated = pe, true
			return end, p.grow(&expr{kind: exprTest, pos: int32(i), test: t}, t.args...)
		}
	}
	end, t := p.testCall(at)
	if end < 0 {
		p.miss(at, "the name of a test")
		return -1, nil
	}
	t.path = pe
	return end, p.grow(&expr{kind: exprTest, pos: int32(i), test: t}, t.args...)
}

func (p *parser) testCall(i int) (int, *test) {
	end := p.ident(i)
	if end < 0 {
		return -1, nil
	}
	t := &test{name: p.src[i:end], pos: int32(i)}
	t.fn = tests[t.name]
	at := p.ws(end)
	if at >= len(p.src) || p.src[at] != '(' {
		return end, t
	}
	var args []*expr
	for {
		next, e := p.logicOrArray(p.ws(at + 1))
		if next < 0 {
			return end, t
		}
		args = append(args, e)
		if at = p.ws(next); at >= len(p.src) || p.src[at] != ',' {
			break
		}
	}
	if at >= len(p.src) || p.src[at] != ')' {
		p.miss(at, "`)`")
		return end, t
	}
	t.args = args
	return at + 1, t
}

// macroExpr = space "::" name "(" named arguments ")"
func (p *parser) macroExpr(i int) (int, *expr) {
	end := p.ident(i)
	if end < 0 {
		return -1, nil
	}
	at := p.ws(end)
	if !strings.HasPrefix(p.src[at:], "::") {
		return -1, nil
	}
	start := p.ws(at + 2)
	stop := p.ident(start)
	if stop < 0 {
		p.miss(start, "the name of a macro")
		return -1, nil
	}
	next, args := p.arguments(p.ws(stop))
	if next < 0 {
		return -1, nil
	}
	m := &macroCall{pos: int32(i), space: p.src[i:end], name: p.src[start:stop], args: args}
	return next, p.growArgs(&expr{kind: exprMacro, pos: int32(i), macro: m}, args)
}

func (p *parser) callExpr(i int) (int, *expr) {
	// Most names are not called: look before remembering.
	end := p.ident(i)
	if end < 0 {
		return -1, nil
	}
	if at := p.ws(end); at >= len(p.src) || p.src[at] != '(' {
		return -1, nil
	}
	return p.remember(ruleCall, i, (*parser).callAt)
}

// call = name "(" named arguments ")"
func (p *parser) callAt(i int) (int, *expr) {
	end := p.ident(i)
	next, args := p.arguments(p.ws(end))
	if next < 0 {
		return -1, nil
	}
	return next, p.growArgs(&expr{kind: exprCall, pos: int32(i), call: p.newCall(i, p.src[i:end], args)}, args)
}

// arguments = "(" (name "=" (logic | arrayFiltered) ("," …)* ","?)? ")"
func (p *parser) arguments(i int) (int, []arg) {
	if i >= len(p.src) || p.src[i] != '(' {
		p.miss(i, "`(`")
		return -1, nil
	}
	var args []arg
	at := p.ws(i + 1)
	for {
		end := p.ident(at)
		if end < 0 {
			p.missNamed(at)
			break
		}
		eq := p.ws(end)
		if eq >= len(p.src) || p.src[eq] != '=' {
			p.missNamed(eq)
			return -1, nil
		}
		next, e := p.logicOrArray(p.ws(eq + 1))
		if next < 0 {
			return -1, nil
		}
		args = append(args, arg{name: p.src[at:end], e: e, pos: int32(at)})
		if at = p.ws(next); at >= len(p.src) || p.src[at] != ',' {
			break
		}
		at = p.ws(at + 1)
	}
	if at >= len(p.src) || p.src[at] != ')' {
		p.miss(at, "`)`")
		return -1, nil
	}
	return at + 1, args
}

// miss records that what was expected at i, for the message of a syntax error.
func (p *parser) miss(i int, what string) {
	if i > p.far {
		p.far, p.missing, p.farNamed = i, p.missing[:0], false
	}
	if i == p.far && len(p.missing) < 6 && !slices.Contains(p.missing, what) {
		p.missing = append(p.missing, what)
	}
}

func (p *parser) missNamed(i int) {
	p.miss(i, "a named argument")
	if i == p.far {
		p.farNamed = true
	}
}

func (p *parser) fail(i int, format string, args ...any) {
	if p.fatal == nil {
		p.fatal = p.errorAt(i, "", format, args...)
	}
}
