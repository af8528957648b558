package sparql

import "strings"

// names is a list of variables without repetition, in order of appearance.
type names struct {
	order []string
	has   map[string]bool
}

func (n *names) add(name string) {
	if name == "" || strings.HasPrefix(name, "_:") || n.has[name] {
		return
	}
	if n.has == nil {
		n.has = map[string]bool{}
	}
	n.has[name] = true
	n.order = append(n.order, name)
}

// visible adds the in-scope variables of a group (section 18.2.1).
func (g *group) visible(n *names) {
	for _, e := range g.elements {
		visibleIn(e, n)
	}
}

func visibleIn(e element, n *names) {
	switch e := e.(type) {
	case *triples:
		for _, t := range e.patterns {
			n.add(t.s.name)
			n.add(t.p.name)
			n.add(t.o.name)
		}
	case *union:
		for _, b := range e.branches {
			b.visible(n)
		}
	case *optional:
		e.group.visible(n)
	case *inGraph:
		n.add(e.name.name)
		e.group.visible(n)
	case *bind:
		n.add(e.name)
	case *inlineData:
		for _, name := range e.names {
			n.add(name)
		}
	case *subquery:
		for _, name := range e.query.projected() {
			n.add(name)
		}
	}
}

// projected returns the names of the columns of a query.
func (q *selection) projected() []string {
	var n names
	if q.star {
		q.where.visible(&n)
		if q.values != nil {
			visibleIn(q.values, &n)
		}
	}
	for _, c := range q.columns {
		n.add(c.name)
	}
	return n.order
}

// check refuses what the grammar allows and its notes forbid (section 19.8,
// notes 12 and 13; section 11.4).
func (p *parser) check(q *selection) {
	p.checkGroup(q.where)
	var scope names
	q.where.visible(&scope)
	if q.values != nil {
		visibleIn(q.values, &scope)
	}
	for _, c := range q.groupBy {
		p.checkExpr(c.expr)
		if scope.has[c.name] && !(c.expr.op == exprVar && c.expr.name == c.name) {
			p.failAt(c.at, "choose another name", "?%s is already in use", c.name)
		}
	}
	taken := map[string]bool{} // by the columns before (section 18.2.4.4)
	for _, c := range q.columns {
		if c.expr != nil {
			p.checkExpr(c.expr)
			if scope.has[c.name] || taken[c.name] {
				p.failAt(c.at, "choose another name", "?%s is already in use", c.name)
			}
		}
		taken[c.name] = true
	}
	for _, e := range q.having {
		p.checkExpr(e)
	}
	for _, k := range q.orderBy {
		p.checkExpr(k.expr)
	}
	if q.grouped() && q.form == formSelect {
		p.checkGrouping(q)
	}
}

// grouped tells whether the query has groups, if only one of everything.
func (q *selection) grouped() bool {
	if len(q.groupBy) > 0 || len(q.having) > 0 {
		return true
	}
	for _, c := range q.columns {
		if c.expr.hasAggregate() {
			return true
		}
	}
	for _, k := range q.orderBy {
		if k.expr.hasAggregate() {
			return true
		}
	}
	return false
}

func (e *expr) hasAggregate() bool {
	if e == nil {
		return false
	}
	if e.op == exprAggregate {
		return true
	}
	for _, a := range e.args {
		if a.hasAggregate() {
			return true
		}
	}
	return false
}

// checkGrouping refuses columns that have no one value in a group.
func (p *parser) checkGrouping(q *selection) {
	if q.star {
		p.failAt(q.at, "name the columns", "SELECT * with GROUP BY")
	}
	keys := map[string]bool{}
	for _, c := range q.groupBy {
		keys[c.name] = true
	}
	for _, c := range q.columns {
		if c.expr == nil {
			p.checkKey(c.name, c.at, keys)
			continue
		}
		p.checkKeys(c.expr, keys)
		keys[c.name] = true
	}
}

func (p *parser) checkKey(name string, at int, keys map[string]bool) {
	if !keys[name] {
		p.failAt(at, "add it to GROUP BY, or wrap it in SAMPLE(…)", "?%s has no one value in a group", name)
	}
}

func (p *parser) checkKeys(e *expr, keys map[string]bool) {
	switch e.op {
	case exprAggregate:
		return
	case exprVar:
		p.checkKey(e.name, e.at, keys)
	}
	for _, a := range e.args {
		p.checkKeys(a, keys)
	}
}

func (p *parser) checkGroup(g *group) {
	var scope names
	for _, e := range g.elements {
		switch e := e.(type) {
		case *union:
			for _, b := range e.branches {
				p.checkGroup(b)
			}
		case *optional:
			p.checkGroup(e.group)
		case *without:
			p.checkGroup(e.group)
		case *inGraph:
			p.checkGroup(e.group)
		case *filter:
			p.checkExpr(e.expr)
		case *subquery:
			p.check(e.query)
		case *bind:
			p.checkExpr(e.expr)
			if scope.has[e.name] {
				p.failAt(e.expr.at, "choose another name", "BIND to ?%s, which is already in use in its group", e.name)
			}
		}
		visibleIn(e, &scope)
	}
}

func (p *parser) checkExpr(e *expr) {
	if e.pattern != nil {
		p.checkGroup(e.pattern)
	}
	for _, a := range e.args {
		p.checkExpr(a)
	}
}
