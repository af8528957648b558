package tera

import (
	"maps"
	"sort"
)

// Variables returns the names of the variables that the template, its parents
// and the macros they define read from outside, sorted. What an include reads
// is not known. A name that is set in one branch only counts as set.
func (t *Template) Variables() []string {
	w := walker{free: map[string]bool{}}
	for _, part := range t.chain {
		w.nodes(part.nodes, map[string]bool{})
		for _, m := range part.macros {
			bound := map[string]bool{}
			for _, p := range m.params {
				bound[p.name] = true
			}
			w.nodes(m.body, bound)
		}
	}
	names := make([]string, 0, len(w.free))
	for name := range w.free {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// walker collects the variables that nodes read without binding them.
type walker struct{ free map[string]bool }

func (w *walker) nodes(nodes []node, bound map[string]bool) {
	for _, n := range nodes {
		switch n := n.(type) {
		case *printNode:
			w.expr(n.e, bound)
		case *setNode:
			w.expr(n.e, bound)
			bound[n.name] = true
		case *ifNode:
			for _, b := range n.branches {
				w.expr(b.cond, bound)
				w.nodes(b.body, bound)
			}
		case *forNode:
			w.expr(n.container, bound)
			w.nodes(n.orElse, bound)
			inner := maps.Clone(bound)
			inner[n.key], inner[n.value], inner["loop"] = true, true, true
			w.nodes(n.body, inner)
			w.globals(n.body, bound)
		case *filterNode:
			w.call(n.call, bound)
			w.nodes(n.body, bound)
		case *blockNode:
			w.nodes(n.body, bound)
		}
	}
}

// globals binds what set_global sets inside of a loop.
func (w *walker) globals(nodes []node, bound map[string]bool) {
	for _, n := range nodes {
		switch n := n.(type) {
		case *setNode:
			if n.global {
				bound[n.name] = true
			}
		case *ifNode:
			for _, b := range n.branches {
				w.globals(b.body, bound)
			}
		case *forNode:
			w.globals(n.body, bound)
			w.globals(n.orElse, bound)
		case *filterNode:
			w.globals(n.body, bound)
		}
	}
}

func (w *walker) expr(e *expr, bound map[string]bool) {
	if e == nil {
		return
	}
	w.path(e.path, bound)
	w.expr(e.lhs, bound)
	w.expr(e.rhs, bound)
	for _, item := range e.list {
		w.expr(item, bound)
	}
	if e.test != nil {
		w.path(e.test.path, bound)
		for _, a := range e.test.args {
			w.expr(a, bound)
		}
	}
	w.call(e.call, bound)
	if e.macro != nil {
		for _, a := range e.macro.args {
			w.expr(a.e, bound)
		}
	}
	for _, f := range e.filters {
		w.call(f, bound)
	}
}

func (w *walker) call(c *call, bound map[string]bool) {
	if c == nil {
		return
	}
	for _, a := range c.args {
		w.expr(a.e, bound)
	}
}

func (w *walker) path(p *path, bound map[string]bool) {
	if p == nil {
		return
	}
	if !bound[p.root] && p.root != "__tera_context" {
		w.free[p.root] = true
	}
	for _, seg := range p.segs {
		w.path(seg.sub, bound)
	}
}
