package gotmpl

import (
	"slices"
	"strings"
	"text/template/parse"
)

// Functions that only the instrumented tree calls; for a template there are none
// of these names.
const (
	stepName  = "_step"
	callName  = "_call"
	enterName = "_enter"
	leaveName = "_leave"
	printName = "_print"
	weighName = "_weigh"
)

var internal = map[string]bool{stepName: true, callName: true, enterName: true, leaveName: true, printName: true, weighName: true}

// weighed are the functions of text/template whose time grows with the values that
// they are given, which they do not count.
var weighed = setOf("eq ne lt le gt ge index")

// parseSource returns the trees of a source by name; that of the source itself is
// called file.
func parseSource(file, source string) (map[string]*parse.Tree, error) {
	trees := map[string]*parse.Tree{}
	tree := parse.New(file, names, builtins)
	tree.Mode = parse.SkipFuncCheck // unknown ones are told of with the nearest that is known
	if _, err := tree.Parse(source, "", "", trees, names, builtins); err != nil {
		return nil, err
	}
	if trees[file] == nil { // nothing but definitions
		trees[file] = tree
	}
	return trees, nil
}

// nesting reports where tags or parentheses nest deeper than limit: the parser of
// text/template calls itself for each.
func nesting(source string, limit int) (at int, deep bool) {
	depth := 0
	for i := 0; ; {
		next := strings.Index(source[i:], "{{")
		if next < 0 {
			return 0, false
		}
		i += next + 2
		body := strings.TrimLeft(strings.TrimPrefix(source[i:], "- "), " \t\r\n")
		if strings.HasPrefix(body, "/*") {
			continue
		}
		word := body[:len(body)-len(strings.TrimLeft(body, "abcdefghijklmnopqrstuvwxyz"))]
		switch word {
		case "if", "range", "with", "block", "define":
			depth++
		case "end":
			depth--
		}
		end, parens := tagEnd(source, i)
		if depth+parens > limit {
			return i - 2, true
		}
		i = end
	}
}

// tagEnd returns where the tag that begins before i ends, and how deep its
// parentheses nest.
func tagEnd(source string, i int) (end, deepest int) {
	depth := 0
	for i < len(source) {
		switch c := source[i]; c {
		case '(':
			depth++
			deepest = max(deepest, depth)
		case ')':
			depth--
		case '"', '`', '\'':
			for i++; i < len(source) && source[i] != c; i++ {
				if source[i] == '\\' && c != '`' {
					i++
				}
			}
		case '}':
			if strings.HasPrefix(source[i:], "}}") {
				return i + 2, deepest
			}
		}
		i++
	}
	return min(i, len(source)), deepest
}

// visit calls f for every node below n, parents first.
func visit(n parse.Node, f func(parse.Node)) {
	list := func(l *parse.ListNode) {
		if l != nil {
			visit(l, f)
		}
	}
	branch := func(b *parse.BranchNode) {
		visit(b.Pipe, f)
		list(b.List)
		list(b.ElseList)
	}
	f(n)
	switch n := n.(type) {
	case *parse.ListNode:
		for _, child := range n.Nodes {
			visit(child, f)
		}
	case *parse.ActionNode:
		visit(n.Pipe, f)
	case *parse.IfNode:
		branch(&n.BranchNode)
	case *parse.RangeNode:
		branch(&n.BranchNode)
	case *parse.WithNode:
		branch(&n.BranchNode)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			visit(n.Pipe, f)
		}
	case *parse.PipeNode:
		for _, cmd := range n.Cmds {
			visit(cmd, f)
		}
	case *parse.CommandNode:
		for _, arg := range n.Args {
			visit(arg, f)
		}
	case *parse.ChainNode:
		visit(n.Node, f)
	}
}

// called returns the templates that a tree calls.
func called(file string, tree *parse.Tree) []call {
	var out []call
	visit(tree.Root, func(n parse.Node) {
		switch n := n.(type) {
		case *parse.TemplateNode:
			out = append(out, call{n.Name, file, n.Pos})
		case *parse.CommandNode:
			if name, ok := included(n); ok {
				out = append(out, call{name, file, n.Pos})
			}
		}
	})
	return out
}

// included returns the template that a call of include names by a literal.
func included(n *parse.CommandNode) (string, bool) {
	if len(n.Args) < 2 {
		return "", false
	}
	function, isName := n.Args[0].(*parse.IdentifierNode)
	name, isText := n.Args[1].(*parse.StringNode)
	if !isName || !isText || function.Ident != "include" {
		return "", false
	}
	return name.Text, true
}

// undefined returns the first function of a tree that is not known.
func undefined(tree *parse.Tree) *parse.IdentifierNode {
	var first *parse.IdentifierNode
	visit(tree.Root, func(n parse.Node) {
		id, ok := n.(*parse.IdentifierNode)
		if !ok || first != nil {
			return
		}
		if internal[id.Ident] || names[id.Ident] == nil && builtins[id.Ident] == nil {
			first = id
		}
	})
	return first
}

// instrument puts the calls into a tree by which a run is counted.
func (t *Template) instrument(tree *parse.Tree) {
	var lists []*parse.ListNode
	visit(tree.Root, func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ListNode:
			lists = append(lists, n)
		case *parse.IdentifierNode:
			t.used[n.Ident] = true
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				n.Pipe.Cmds = append(n.Pipe.Cmds, command(n.Pos, printName))
			}
		case *parse.PipeNode:
			n.Cmds = weigh(n.Cmds)
		}
	})
	for _, list := range lists {
		t.count(tree, list)
	}
	enter, leave := action(tree.Root.Pos, enterName), action(tree.Root.Pos, leaveName)
	tree.Root.Nodes = slices.Concat([]parse.Node{enter}, tree.Root.Nodes, []parse.Node{leave})
}

// weigh has the arguments of functions that do not count what they look at counted
// before, that which comes through the pipe too. Those functions stay what they are.
func weigh(cmds []*parse.CommandNode) []*parse.CommandNode {
	var out []*parse.CommandNode
	for i, cmd := range cmds {
		function, isName := cmd.Args[0].(*parse.IdentifierNode)
		if isName && weighed[function.Ident] {
			if i > 0 {
				out = append(out, command(cmd.Pos, weighName))
			}
			for k, arg := range cmd.Args[1:] {
				switch arg.(type) {
				case *parse.NilNode, *parse.BoolNode, *parse.NumberNode:
					continue // a number takes its type from the function
				}
				cmd.Args[1+k] = &parse.PipeNode{
					NodeType: parse.NodePipe, Pos: arg.Position(),
					Cmds: []*parse.CommandNode{command(arg.Position(), weighName, arg)},
				}
			}
		}
		out = append(out, cmd)
	}
	return out
}

// count puts a step before every list, and before every call of a template its number.
func (t *Template) count(tree *parse.Tree, list *parse.ListNode) {
	nodes := []parse.Node{action(list.Pos, stepName)}
	for _, n := range list.Nodes {
		if c, ok := n.(*parse.TemplateNode); ok {
			number := &parse.NumberNode{NodeType: parse.NodeNumber, Pos: c.Pos, IsInt: true, Int64: int64(len(t.calls)), Text: "0"}
			t.calls = append(t.calls, call{c.Name, tree.ParseName, c.Pos})
			nodes = append(nodes, action(c.Pos, callName, number))
		}
		nodes = append(nodes, n)
	}
	list.Nodes = nodes
}

func command(pos parse.Pos, name string, args ...parse.Node) *parse.CommandNode {
	function := parse.NewIdentifier(name).SetPos(pos)
	return &parse.CommandNode{NodeType: parse.NodeCommand, Pos: pos, Args: append([]parse.Node{function}, args...)}
}

// action returns a tag that calls a function of ours.
func action(pos parse.Pos, name string, args ...parse.Node) parse.Node {
	return &parse.ActionNode{
		NodeType: parse.NodeAction, Pos: pos,
		Pipe: &parse.PipeNode{NodeType: parse.NodePipe, Pos: pos, Cmds: []*parse.CommandNode{command(pos, name, args...)}},
	}
}
