package tera

import "strings"

// trimNodes applies the dashes of tags to the text around them and drops text
// that became empty. outer are the inner sides of the tags around the body,
// left of its start tag's end and right of its end tag's start; trimEnd tells
// whether the body's last text is trimmed too.
//
// The rules are Tera's, oddities included: super() neither trims nor resets, an
// if trims the end of the branch before each of its tags, and the else branch
// of a for is left as it is.
func trimNodes(nodes []node, outer trim, trimEnd bool) []node {
	out := nodes[:0]
	trimNext, afterText := outer.left, false
	for _, n := range nodes {
		if t, ok := n.(*textNode); ok {
			afterText = true
			if trimNext {
				t.text = strings.TrimLeftFunc(t.text, isSpace)
				trimNext = false
			}
			if t.text != "" {
				out = append(out, t)
			}
			continue
		}
		if _, ok := n.(*superNode); ok {
			afterText = false
			out = append(out, n)
			continue
		}
		first, last := n.tags()
		if afterText && first.left {
			out = trimLast(out)
		}
		afterText, trimNext = false, last.right
		trimInside(n)
		out = append(out, n)
	}
	if trimEnd {
		out = trimLast(out)
	}
	return out
}

// trimInside trims the bodies of a node.
func trimInside(n node) {
	switch n := n.(type) {
	case *rawNode:
		if n.start.right {
			n.text = strings.TrimLeftFunc(n.text, isSpace)
		}
		if n.stop.left {
			n.text = strings.TrimRightFunc(n.text, isSpace)
		}
	case *forNode:
		n.body = trimNodes(n.body, trim{left: n.at.right}, n.end.left)
	case *macroNode:
		n.body = trimNodes(n.body, trim{left: n.at.right}, n.end.left)
	case *filterNode:
		n.body = trimNodes(n.body, trim{left: n.at.right}, n.end.left)
	case *blockNode:
		n.body = trimNodes(n.body, trim{left: n.at.right}, n.end.left)
	case *ifNode:
		for i := range n.branches {
			b := &n.branches[i]
			next := n.end.left
			if i+1 < len(n.branches) {
				next = n.branches[i+1].tag.left
			}
			b.body = trimNodes(b.body, trim{left: b.tag.right}, next)
		}
	}
}

// trimLast trims the end of the last node if it is text, and drops it if empty.
func trimLast(nodes []node) []node {
	if len(nodes) == 0 {
		return nodes
	}
	t, ok := nodes[len(nodes)-1].(*textNode)
	if !ok {
		return nodes
	}
	if t.text = strings.TrimRightFunc(t.text, isSpace); t.text == "" {
		return nodes[:len(nodes)-1]
	}
	return nodes
}
