package sparql

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// Bounds on the text of a query. They keep every recursion over its tree
// within a small stack.
const (
	MaxQuery    = 1 << 20 // bytes
	MaxDepth    = 256     // nested groups, expressions, paths, collections
	maxElements = 5_000   // patterns, operators and other parts
)

// parser reads the productions of section 19.8 by recursive descent. It
// panics with a failure on a syntax error.
type parser struct {
	lexer
	at       int // index of the current token
	base     string
	prefixes map[string]string
	depth    int
	maxDepth int
	elements int
	blanks   int // blank nodes without label so far

	aggregates  bool           // an aggregate may stand here
	inAggregate bool           // and this is the inside of one
	template    bool           // blank nodes stand in a template
	bgp         int            // number of the current basic graph pattern
	lastBGP     int            // highest number in use
	labels      map[string]int // blank-node label → bgp
}

// kind and text describe the current token.
func (p *parser) kind() tokenKind { return p.tokens[p.at].kind }
func (p *parser) textOf(t token) string {
	return p.lexer.text[t.from:t.to]
}
func (p *parser) current() string { return p.textOf(p.tokens[p.at]) }
func (p *parser) pos() int        { return int(p.tokens[p.at].from) }

func (p *parser) advance() {
	if p.kind() != tokenEnd {
		p.at++
	}
}

// is tells whether the current token is the given mark.
func (p *parser) is(mark string) bool { return p.kind() == tokenMark && p.current() == mark }

// take consumes the given mark if it is the current token.
func (p *parser) take(mark string) bool {
	if !p.is(mark) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) expect(mark, why string) {
	if !p.take(mark) {
		p.fail("expected %q %s, found %s", mark, why, p.found())
	}
}

// isWord tells whether the current token is the given keyword, in any case.
func (p *parser) isWord(word string) bool {
	return p.kind() == tokenWord && strings.EqualFold(p.current(), word)
}

func (p *parser) takeWord(word string) bool {
	if !p.isWord(word) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) expectWord(word string) {
	if !p.takeWord(word) {
		p.fail("expected %s, found %s", word, p.found())
	}
}

func (p *parser) found() string {
	switch {
	case p.kind() == tokenEnd:
		return "the end of the query"
	case len(p.current()) > 40:
		return strconv.Quote(p.current()[:40]) + "…"
	}
	return strconv.Quote(p.current())
}

func (p *parser) fail(format string, args ...any) {
	hint := ""
	if p.kind() == tokenEnd {
		hint = "the query ends too early: look for a bracket that is not closed"
	}
	p.failAt(p.pos(), hint, format, args...)
}

// enter counts a level of nesting; the caller defers leave.
func (p *parser) enter() {
	if p.depth++; p.depth > p.maxDepth {
		p.failAt(p.pos(), "raise the limit of depth, or split the query", "nested deeper than %d levels", p.maxDepth)
	}
}

func (p *parser) leave() { p.depth-- }

// count counts a part of the query.
func (p *parser) count() {
	if p.elements++; p.elements > maxElements {
		p.fail("more than %d patterns and operators", maxElements)
	}
}

// query reads a QueryUnit (production [1]).
func (p *parser) query() *selection {
	p.prologue()
	var q *selection
	switch {
	case p.isWord("SELECT"):
		q = p.selectQuery(true)
	case p.takeWord("ASK"):
		q = p.newSelection(formAsk)
		p.dataset(q)
		p.whereAndModifiers(q)
	case p.takeWord("CONSTRUCT"):
		q = p.constructQuery()
	case p.takeWord("DESCRIBE"):
		q = p.describeQuery()
	default:
		p.refuseUpdate()
		p.fail("expected SELECT, ASK, CONSTRUCT or DESCRIBE, found %s", p.found())
	}
	p.trailingValues(q)
	if p.kind() != tokenEnd {
		hint := ""
		if slices.ContainsFunc(queryWords, p.isWord) || p.is(";") {
			hint = "write one query a file"
		}
		p.failAt(p.pos(), hint, "expected the end of the query, found %s", p.found())
	}
	return q
}

// queryWords are what a query may start with.
var queryWords = []string{"BASE", "PREFIX", "SELECT", "ASK", "CONSTRUCT", "DESCRIBE"}

func (p *parser) refuseUpdate() {
	for _, word := range []string{"LOAD", "INSERT", "DELETE", "CLEAR", "DROP", "CREATE", "ADD", "MOVE", "COPY", "WITH"} {
		if p.isWord(word) {
			p.failAt(p.pos(), "write a SELECT, ASK, CONSTRUCT or DESCRIBE query",
				"%s is refused: a graph is only read, and nothing is ever fetched", word)
		}
	}
}

func (p *parser) newSelection(f form) *selection {
	return &selection{form: f, limit: -1, at: p.pos()}
}

// prologue reads the Prologue (production [4]).
func (p *parser) prologue() {
	for {
		switch {
		case p.takeWord("BASE"):
			p.base = p.iriRef()
		case p.takeWord("PREFIX"):
			name := p.current()
			if p.kind() != tokenName || strings.IndexByte(name, ':') != len(name)-1 {
				p.fail("expected a prefix and a colon, found %s", p.found())
			}
			p.advance()
			p.prefixes[strings.TrimSuffix(name, ":")] = p.iriRef()
		default:
			return
		}
	}
}

// iriRef reads <…> and resolves it.
func (p *parser) iriRef() string {
	if p.kind() != tokenIRI {
		p.fail("expected <IRI>, found %s", p.found())
	}
	ref := strings.TrimSuffix(p.current()[1:], ">")
	if graph.IsAbsoluteIRI(ref) {
		p.advance()
		return ref
	}
	iri, err := graph.ResolveIRI(p.base, ref)
	if err == nil {
		err = graph.CheckIRI(iri)
	}
	if err != nil {
		p.failAt(p.pos(), "declare a base with `BASE <…>`", "%v", err)
	}
	p.advance()
	return iri
}

// iri reads an iri (production [136]).
func (p *parser) iri() string {
	if p.kind() == tokenName {
		return p.prefixedName()
	}
	return p.iriRef()
}

func (p *parser) isIRI() bool { return p.kind() == tokenIRI || p.kind() == tokenName }

func (p *parser) prefixedName() string {
	prefix, local, _ := strings.Cut(p.current(), ":")
	ns, ok := p.prefixes[prefix]
	if !ok {
		declared := slices.Sorted(maps.Keys(p.prefixes))
		p.failAt(p.pos(), graph.PrefixHint(prefix, declared, "PREFIX"), "prefix %q is not declared", prefix+":")
	}
	if strings.IndexByte(local, '\\') >= 0 {
		var b strings.Builder
		for i := 0; i < len(local); i++ {
			if local[i] == '\\' {
				i++
			}
			b.WriteByte(local[i])
		}
		local = b.String()
	}
	p.advance()
	return ns + local
}

// selectQuery reads a SelectQuery or SubSelect without its VALUES
// (productions [7], [8]). Only the outer one has a dataset clause.
func (p *parser) selectQuery(outer bool) *selection {
	p.enter()
	defer p.leave()
	q := p.newSelection(formSelect)
	p.expectWord("SELECT")
	q.distinct = p.takeWord("DISTINCT")
	q.reduced = !q.distinct && p.takeWord("REDUCED")
	if p.take("*") {
		q.star = true
	} else {
		p.columns(q)
	}
	if outer {
		p.dataset(q)
	}
	p.whereAndModifiers(q)
	return q
}

// columns reads the variables and expressions of a SELECT clause (production [9]).
func (p *parser) columns(q *selection) {
	for {
		p.count()
		at := p.pos()
		switch {
		case p.kind() == tokenVar:
			q.columns = append(q.columns, column{name: p.variable(), at: at})
		case p.take("("):
			e := p.aggregateExpr()
			p.expectWord("AS")
			q.columns = append(q.columns, column{name: p.variable(), expr: e, at: at})
			p.expect(")", "after the variable")
		case len(q.columns) == 0:
			p.fail("expected *, a variable or an expression, found %s", p.found())
		default:
			return
		}
	}
}

// aggregateExpr reads an expression in which aggregates may stand.
func (p *parser) aggregateExpr() *expr {
	before := p.aggregates
	p.aggregates = true
	defer func() { p.aggregates = before }()
	return p.expression()
}

func (p *parser) variable() string {
	if p.kind() != tokenVar {
		p.fail("expected a variable, found %s", p.found())
	}
	name := p.current()[1:]
	p.advance()
	return name
}

// constructQuery reads a ConstructQuery after its keyword (production [10]).
func (p *parser) constructQuery() *selection {
	q := p.newSelection(formConstruct)
	if p.is("{") {
		q.template = p.constructTemplate()
		p.dataset(q)
		p.whereAndModifiers(q)
		return q
	}
	// CONSTRUCT WHERE { triples }: the pattern is the template too.
	p.dataset(q)
	p.expectWord("WHERE")
	from := p.at
	q.template = p.constructTemplate()
	end := p.at
	p.at, p.blanks = from, 0
	p.expect("{", "to open the pattern")
	block := &triples{}
	if !p.is("}") {
		block.patterns = p.triplesBlock(false)
	}
	p.at = end
	q.where = &group{elements: []element{block}}
	p.modifiers(q)
	return q
}

// constructTemplate reads a ConstructTemplate (production [73]).
func (p *parser) constructTemplate() []pattern {
	p.expect("{", "to open the template")
	p.template = true
	var out []pattern
	if !p.is("}") {
		out = p.triplesBlock(false)
	}
	p.template = false
	p.expect("}", "to close the template")
	return out
}

// describeQuery reads a DescribeQuery after its keyword (production [11]).
func (p *parser) describeQuery() *selection {
	q := p.newSelection(formDescribe)
	if p.take("*") {
		q.star = true
	} else {
		for p.kind() == tokenVar || p.isIRI() {
			p.count()
			q.describe = append(q.describe, p.varOrIRI())
		}
		if len(q.describe) == 0 {
			p.fail("expected *, a variable or an IRI, found %s", p.found())
		}
	}
	p.dataset(q)
	if p.isWord("WHERE") || p.is("{") {
		p.whereAndModifiers(q)
	} else {
		q.where = &group{}
		p.modifiers(q)
	}
	return q
}

func (p *parser) varOrIRI() node {
	if p.kind() == tokenVar {
		return node{name: p.variable()}
	}
	return node{term: graph.NewIRI(p.iri())}
}

// dataset reads DatasetClauses (production [13]).
func (p *parser) dataset(q *selection) {
	for p.takeWord("FROM") {
		p.count()
		if p.takeWord("NAMED") {
			q.fromNamed = append(q.fromNamed, p.iri())
		} else {
			q.from = append(q.from, p.iri())
		}
	}
}

// whereAndModifiers reads a WhereClause and a SolutionModifier (productions
// [17], [18]).
func (p *parser) whereAndModifiers(q *selection) {
	p.takeWord("WHERE")
	p.expectGroup()
	q.where = p.group()
	p.modifiers(q)
}

func (p *parser) expectGroup() {
	if !p.is("{") {
		p.fail("expected \"{\" to open a pattern, found %s", p.found())
	}
}

// modifiers reads a SolutionModifier (productions [18] to [27]).
func (p *parser) modifiers(q *selection) {
	if p.takeWord("GROUP") {
		p.expectWord("BY")
		p.groupBy(q)
	}
	if p.takeWord("HAVING") {
		for p.startsConstraint() {
			before := p.aggregates
			p.aggregates = true
			q.having = append(q.having, p.constraint())
			p.aggregates = before
		}
		if len(q.having) == 0 {
			p.fail("expected a condition after HAVING, found %s", p.found())
		}
	}
	if p.takeWord("ORDER") {
		p.expectWord("BY")
		p.orderBy(q)
	}
	for limit, offset := false, false; ; {
		switch {
		case !limit && p.takeWord("LIMIT"):
			q.limit, limit = p.integer(), true
		case !offset && p.takeWord("OFFSET"):
			q.offset, offset = p.integer(), true
		default:
			return
		}
	}
}

func (p *parser) groupBy(q *selection) {
	for {
		p.count()
		at := p.pos()
		switch {
		case p.kind() == tokenVar:
			name := p.variable()
			q.groupBy = append(q.groupBy, column{name: name, expr: &expr{op: exprVar, name: name, at: at}, at: at})
		case p.take("("):
			c := column{expr: p.expression(), at: at}
			if p.takeWord("AS") {
				c.name = p.variable()
			}
			p.expect(")", "after the expression")
			q.groupBy = append(q.groupBy, c)
		case p.startsConstraint():
			q.groupBy = append(q.groupBy, column{expr: p.constraint(), at: at})
		case len(q.groupBy) == 0:
			p.fail("expected a variable or an expression after GROUP BY, found %s", p.found())
		default:
			return
		}
	}
}

func (p *parser) orderBy(q *selection) {
	before := p.aggregates
	p.aggregates = true
	defer func() { p.aggregates = before }()
	for {
		p.count()
		switch {
		case p.isWord("ASC"), p.isWord("DESC"):
			descending := p.isWord("DESC")
			p.advance()
			if !p.is("(") {
				p.fail("expected \"(\" after ASC or DESC, found %s", p.found())
			}
			q.orderBy = append(q.orderBy, orderKey{p.constraint(), descending})
		case p.kind() == tokenVar:
			at := p.pos()
			q.orderBy = append(q.orderBy, orderKey{expr: &expr{op: exprVar, name: p.variable(), at: at}})
		case p.startsConstraint():
			q.orderBy = append(q.orderBy, orderKey{expr: p.constraint()})
		case len(q.orderBy) == 0:
			p.fail("expected a variable or an expression after ORDER BY, found %s", p.found())
		default:
			return
		}
	}
}

func (p *parser) integer() int64 {
	n, err := strconv.ParseInt(p.current(), 10, 64)
	if p.kind() != tokenInteger || err != nil {
		p.fail("expected a whole number, found %s", p.found())
	}
	p.advance()
	return n
}

// trailingValues reads a ValuesClause (production [28]).
func (p *parser) trailingValues(q *selection) {
	if p.takeWord("VALUES") {
		q.values = p.dataBlock()
	}
}
