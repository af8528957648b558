package gotmpl

import (
	"maps"
	"slices"
	"text/template/parse"
)

// Variables parses source and returns the names that it reads of the variables:
// fields of the dot where the dot is still that of the template, and of $. Sorted.
func (e *Engine) Variables(name, source string) ([]string, error) {
	t, err := e.Parse(name, source)
	if err != nil {
		return nil, err
	}
	free := map[string]bool{}
	if main := t.root.Lookup(name); main != nil && main.Tree != nil {
		fields(main.Root, true, free)
	}
	return slices.Sorted(maps.Keys(free)), nil
}

// fields collects the names below n; atRoot tells that the dot is the variables.
func fields(n parse.Node, atRoot bool, free map[string]bool) {
	list := func(l *parse.ListNode, atRoot bool) {
		if l != nil {
			fields(l, atRoot, free)
		}
	}
	switch n := n.(type) {
	case *parse.FieldNode:
		if atRoot {
			free[n.Ident[0]] = true
		}
	case *parse.VariableNode:
		if n.Ident[0] == "$" && len(n.Ident) > 1 {
			free[n.Ident[1]] = true
		}
	case *parse.ListNode:
		for _, child := range n.Nodes {
			fields(child, atRoot, free)
		}
	case *parse.ActionNode:
		fields(n.Pipe, atRoot, free)
	case *parse.IfNode:
		fields(n.Pipe, atRoot, free)
		list(n.List, atRoot)
		list(n.ElseList, atRoot)
	case *parse.RangeNode:
		fields(n.Pipe, atRoot, free)
		list(n.List, false)
		list(n.ElseList, atRoot)
	case *parse.WithNode:
		fields(n.Pipe, atRoot, free)
		list(n.List, false)
		list(n.ElseList, atRoot)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			fields(n.Pipe, atRoot, free)
		}
	case *parse.PipeNode:
		for _, cmd := range n.Cmds {
			fields(cmd, atRoot, free)
		}
	case *parse.CommandNode:
		for _, arg := range n.Args {
			fields(arg, atRoot, free)
		}
	case *parse.ChainNode:
		fields(n.Node, atRoot, free)
	}
}
