package sparql

import (
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// startsConstraint tells whether a Constraint (production [69]) stands here.
func (p *parser) startsConstraint() bool {
	if p.is("(") || p.isIRI() {
		return true
	}
	if p.kind() != tokenWord {
		return false
	}
	word := strings.ToUpper(p.current())
	_, builtin := builtins[word]
	return builtin || word == "EXISTS" || word == "NOT" || aggregateNames[word]
}

// constraint reads a Constraint: an expression in parentheses or a call.
func (p *parser) constraint() *expr {
	switch {
	case p.is("("):
		return p.bracketed()
	case p.isIRI():
		at, iri := p.pos(), p.iri()
		if !p.is("(") {
			p.fail("expected \"(\" after the function, found %s", p.found())
		}
		return &expr{op: exprCall, name: iri, args: p.arguments(), at: at}
	case p.kind() == tokenWord:
		return p.call()
	}
	p.fail("expected a condition in parentheses, found %s", p.found())
	return nil
}

func (p *parser) bracketed() *expr {
	p.expect("(", "")
	e := p.expression()
	p.expect(")", "to close the expression")
	return e
}

// expression reads an Expression (production [110]).
func (p *parser) expression() *expr {
	p.enter()
	defer p.leave()
	return p.chain(exprOr, "||", func() *expr { return p.chain(exprAnd, "&&", p.relational) })
}

// chain reads operands joined by one logical operator.
func (p *parser) chain(op exprOp, mark string, operand func() *expr) *expr {
	first := operand()
	if !p.is(mark) {
		return first
	}
	e := &expr{op: op, name: mark, args: []*expr{first}, at: first.at}
	for p.take(mark) {
		p.count()
		e.args = append(e.args, operand())
	}
	return e
}

// relational reads a RelationalExpression (production [114]).
func (p *parser) relational() *expr {
	left := p.additive()
	at := p.pos()
	switch {
	case p.is("="), p.is("!="), p.is("<"), p.is(">"), p.is("<="), p.is(">="):
		name := p.current()
		p.advance()
		return &expr{op: exprCompare, name: name, args: []*expr{left, p.additive()}, at: at}
	case p.takeWord("IN"):
		return &expr{op: exprIn, args: append([]*expr{left}, p.list()...), at: at}
	case p.takeWord("NOT"):
		p.expectWord("IN")
		return &expr{op: exprNotIn, args: append([]*expr{left}, p.list()...), at: at}
	}
	return left
}

// list reads an ExpressionList or NIL (production [72]).
func (p *parser) list() []*expr {
	p.expect("(", "to open the list")
	var out []*expr
	if p.take(")") {
		return out
	}
	for {
		out = append(out, p.expression())
		if p.take(")") {
			return out
		}
		p.expect(",", "or \")\" in the list")
	}
}

// maxChain bounds the operands of one sum or product, whose tree leans left.
const maxChain = 1000

func (p *parser) additive() *expr       { return p.leftChain("+", "-", p.multiplicative) }
func (p *parser) multiplicative() *expr { return p.leftChain("*", "/", p.unary) }

// leftChain reads operands joined by either of two arithmetic operators
// (productions [116], [117]).
func (p *parser) leftChain(one, two string, operand func() *expr) *expr {
	left := operand()
	for n := 0; p.is(one) || p.is(two); n++ {
		if p.count(); n == maxChain {
			p.fail("more than %d operands", maxChain)
		}
		at, name := p.pos(), p.current()
		p.advance()
		left = &expr{op: exprArith, name: name, args: []*expr{left, operand()}, at: at}
	}
	return left
}

// unary reads a UnaryExpression (production [118]).
func (p *parser) unary() *expr {
	at := p.pos()
	switch {
	case p.take("!"):
		p.enter()
		defer p.leave()
		return &expr{op: exprNot, args: []*expr{p.unary()}, at: at}
	case p.isSignedNumber():
		return p.primary()
	case p.is("+"), p.is("-"):
		op := exprPlus
		if p.is("-") {
			op = exprMinus
		}
		p.advance()
		return &expr{op: op, args: []*expr{p.primary()}, at: at}
	}
	return p.primary()
}

// primary reads a PrimaryExpression (production [119]).
func (p *parser) primary() *expr {
	at := p.pos()
	switch {
	case p.is("("):
		return p.bracketed()
	case p.kind() == tokenVar:
		return &expr{op: exprVar, name: p.variable(), at: at}
	case p.isIRI():
		iri := p.iri()
		if p.is("(") {
			return &expr{op: exprCall, name: iri, args: p.arguments(), at: at}
		}
		return &expr{op: exprTerm, term: graph.NewIRI(iri), at: at}
	case p.kind() == tokenWord && !p.isWord("true") && !p.isWord("false"):
		return p.call()
	case p.isSignedNumber(): // a literal: its sign is part of it
	case p.kind() == tokenEnd || p.kind() == tokenMark:
		p.fail("expected an expression, found %s", p.found())
	}
	return &expr{op: exprTerm, term: p.literal(), at: at}
}

// arguments reads an ArgList (production [71]).
func (p *parser) arguments() []*expr {
	if p.tokens[p.at+1].kind == tokenWord && strings.EqualFold(p.textOf(p.tokens[p.at+1]), "DISTINCT") {
		p.fail("aggregates other than those of SPARQL 1.1 are not known")
	}
	return p.list()
}

// aggregateNames are the set functions of section 18.5.1.
var aggregateNames = map[string]bool{
	"COUNT": true, "SUM": true, "MIN": true, "MAX": true, "AVG": true, "SAMPLE": true, "GROUP_CONCAT": true,
}

// call reads a BuiltInCall (production [121]).
func (p *parser) call() *expr {
	at, name := p.pos(), strings.ToUpper(p.current())
	switch {
	case p.takeWord("NOT"):
		p.expectWord("EXISTS")
		return &expr{op: exprNotExists, pattern: p.existsGroup(), at: at}
	case p.takeWord("EXISTS"):
		return &expr{op: exprExists, pattern: p.existsGroup(), at: at}
	case aggregateNames[name]:
		return p.aggregate(name)
	}
	arity, ok := builtins[name]
	if !ok {
		known := make([]string, 0, len(builtins))
		for k := range builtins {
			known = append(known, k)
		}
		slices.Sort(known)
		p.failAt(at, fault.DidYouMean(name, known), "expected an expression, found %s", p.found())
	}
	p.advance()
	if name == "BOUND" {
		p.expect("(", "after BOUND")
		e := &expr{op: exprBuiltin, name: name, args: []*expr{{op: exprVar, at: p.pos(), name: p.variable()}}, at: at}
		p.expect(")", "after the variable")
		return e
	}
	e := &expr{op: exprBuiltin, name: name, args: p.list(), at: at}
	if n := len(e.args); n < arity.min || n > arity.max {
		p.failAt(at, "", "%s takes %s, not %d", name, arity, n)
	}
	return e
}

func (p *parser) existsGroup() *group {
	before := p.aggregates
	p.aggregates = false
	defer func() { p.aggregates = before }()
	p.expectGroup()
	return p.group()
}

// aggregate reads an Aggregate (production [127]).
func (p *parser) aggregate(name string) *expr {
	at := p.pos()
	switch {
	case p.inAggregate:
		p.fail("%s stands inside another aggregate", name)
	case !p.aggregates:
		p.fail("%s may stand only in SELECT, HAVING and ORDER BY", name)
	}
	p.inAggregate = true
	defer func() { p.inAggregate = false }()
	p.advance()
	p.expect("(", "after "+name)
	e := &expr{op: exprAggregate, name: name, at: at, separator: " "}
	e.distinct = p.takeWord("DISTINCT")
	if name == "COUNT" && p.take("*") {
		p.expect(")", "after *")
		return e
	}
	e.args = []*expr{p.expression()}
	if name == "GROUP_CONCAT" && p.take(";") {
		p.expectWord("SEPARATOR")
		p.expect("=", "after SEPARATOR")
		if p.kind() != tokenString {
			p.fail("expected a string, found %s", p.found())
		}
		e.separator = unquote(p.current())
		p.advance()
	}
	p.expect(")", "to close "+name)
	return e
}
