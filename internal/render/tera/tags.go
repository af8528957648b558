package tera

import (
	"slices"
	"strings"
)

// tag reads a tag that starts at i, with its body and its end if it has one.
// For a tag that cannot stand here it returns -1.
func (p *parser) tag(i int, where place) (node, int, error) {
	left, _ := p.dash(i + 2)
	word, at := p.keyword(i)
	switch word {
	case "set", "set_global":
		return p.set(i, at, left, word == "set_global")
	case "include":
		return p.include(i, at, left)
	case "raw":
		return p.raw(i, at, left)
	case "if":
		return p.ifTag(i, at, left, where)
	case "for":
		return p.forTag(i, at, left)
	case "filter":
		return p.filterTag(i, at, left)
	case "block":
		if where == inTemplate || where == inBlock || where == inFilter {
			return p.block(i, at, left)
		}
	case "break", "continue":
		if where != inLoop {
			break
		}
		end, right := p.tagEnd(p.ws(at))
		if end < 0 {
			return nil, 0, p.syntaxError(i, "in `"+word+"`")
		}
		t := tag{at: trim{left, right}, end: trim{left, right}}
		if word == "break" {
			return &breakNode{t}, end, nil
		}
		return &continueNode{t}, end, nil
	}
	return nil, -1, nil
}

func (p *parser) set(i, at int, left, global bool) (node, int, error) {
	fail := func() (node, int, error) { return nil, 0, p.syntaxError(i, "in `set`") }
	start := p.ws1(at)
	end := p.ident(start)
	if end < 0 {
		p.miss(max(start, at), "a variable name")
		return fail()
	}
	name := p.src[start:end]
	if eq := p.ws(end); eq < len(p.src) && p.src[eq] == '=' {
		end = eq + 1
	} else {
		p.miss(eq, "`=`")
		return fail()
	}
	p.clear()
	end, e := p.logicOrArray(p.ws(end))
	if end < 0 {
		return fail()
	}
	stop, right := p.tagEnd(p.ws(end))
	if stop < 0 {
		return fail()
	}
	t := trim{left, right}
	return &setNode{tag: tag{t, t}, pos: int32(start), name: name, global: global, e: e}, stop, nil
}

func (p *parser) include(i, at int, left bool) (node, int, error) {
	fail := func() (node, int, error) { return nil, 0, p.syntaxError(i, "in `include`") }
	start := p.ws1(at)
	end, names := p.fileNames(start)
	if end < 0 {
		p.miss(max(start, at), "a file name in quotes, or an array of them")
		return fail()
	}
	end = p.ws(end)
	ignore := false
	if strings.HasPrefix(p.src[end:], "ignore") {
		if next := p.ws(end + len("ignore")); strings.HasPrefix(p.src[next:], "missing") {
			ignore, end = true, p.ws(next+len("missing"))
		}
	}
	stop, right := p.tagEnd(end)
	if stop < 0 {
		return fail()
	}
	t := trim{left, right}
	return &includeNode{tag: tag{t, t}, pos: int32(i), names: names, ignoreMissing: ignore}, stop, nil
}

func (p *parser) fileNames(i int) (int, []string) {
	if end, name := p.str(i); end >= 0 {
		return end, []string{name}
	}
	if i < 0 || i >= len(p.src) || p.src[i] != '[' {
		return -1, nil
	}
	var names []string
	i = p.ws(i + 1)
	for {
		end, name := p.str(i)
		if end < 0 {
			break
		}
		names = append(names, name)
		i = p.ws(end)
		if i >= len(p.src) || p.src[i] != ',' {
			break
		}
		i = p.ws(i + 1)
	}
	if i >= len(p.src) || p.src[i] != ']' {
		p.miss(i, "`]`")
		return -1, nil
	}
	return i + 1, names
}

func (p *parser) raw(i, at int, left bool) (node, int, error) {
	start, inner := p.tagEnd(p.ws(at))
	if start < 0 {
		return nil, 0, p.syntaxError(i, "in `raw`")
	}
	for end := start; ; end += 2 {
		next := strings.Index(p.src[end:], "{%")
		if next < 0 {
			return nil, 0, p.errorAt(i, "", "`raw` is not closed by `{%% endraw %%}`")
		}
		end += next
		word, at := p.keyword(end)
		if word != "endraw" {
			continue
		}
		stop, right := p.tagEnd(p.ws(at))
		if stop < 0 {
			continue
		}
		before, _ := p.dash(end + 2)
		return &rawNode{
			tag:   tag{at: trim{left: left}, end: trim{right: right}},
			text:  p.src[start:end],
			start: trim{right: inner}, stop: trim{left: before},
		}, stop, nil
	}
}

func (p *parser) ifTag(i, at int, left bool, where place) (node, int, error) {
	if !p.enter(i) {
		return nil, 0, p.fatal
	}
	defer p.leave()
	n := &ifNode{tag: tag{at: trim{left: left}}}
	word, start := "if", i
	for {
		b := branch{tag: trim{left: p.leftDash(start)}}
		end := p.ws(at)
		if word != "else" {
			end = p.ws1(at)
			p.clear()
			if end >= 0 {
				end, b.cond = p.logic(end)
			}
			if end < 0 {
				p.miss(at, "a condition")
				return nil, 0, p.syntaxError(start, "in `"+word+"`")
			}
		}
		end, b.tag.right = p.tagEnd(p.ws(end))
		if end < 0 {
			return nil, 0, p.syntaxError(start, "in `"+word+"`")
		}
		body, stop, err := p.body(nil, end, where)
		if err != nil {
			return nil, 0, err
		}
		b.body = body
		n.branches = append(n.branches, b)
		next, after := p.keyword(stop)
		switch {
		case next == "endif":
			end, n.end, err = p.closing(stop, after, "endif")
			return n, end, err
		case (next == "elif" || next == "else") && word != "else":
			word, start, at = next, stop, after
		default:
			return nil, 0, p.unclosed(i, stop, "if", "endif")
		}
	}
}

func (p *parser) leftDash(i int) bool {
	left, _ := p.dash(i + 2)
	return left
}

// closing reads the end of a closing tag whose word ends at at.
func (p *parser) closing(i, at int, word string) (int, trim, error) {
	end, right := p.tagEnd(p.ws(at))
	if end < 0 {
		return 0, trim{}, p.syntaxError(i, "in `"+word+"`")
	}
	return end, trim{p.leftDash(i), right}, nil
}

func (p *parser) forTag(i, at int, left bool) (node, int, error) {
	if !p.enter(i) {
		return nil, 0, p.fatal
	}
	defer p.leave()
	n := &forNode{pos: int32(i)}
	end := p.forHead(n, at)
	if end < 0 {
		return nil, 0, p.syntaxError(i, "in `for`")
	}
	stop, right := p.tagEnd(p.ws(end))
	if stop < 0 {
		return nil, 0, p.syntaxError(i, "in `for`")
	}
	n.at = trim{left, right}
	body := &n.body
	for {
		nodes, next, err := p.body(nil, stop, inLoop)
		if err != nil {
			return nil, 0, err
		}
		*body = nodes
		word, after := p.keyword(next)
		switch word {
		case "endfor":
			end, n.end, err = p.closing(next, after, "endfor")
			return n, end, err
		case "else": // of several the last counts
			n.hasElse, body = true, &n.orElse
			if stop, _, err = p.closing(next, after, "else"); err != nil {
				return nil, 0, err
			}
		default:
			return nil, 0, p.unclosed(i, next, "for", "endfor")
		}
	}
}

// forHead reads `name in container` or `key, name in container`.
func (p *parser) forHead(n *forNode, at int) int {
	start := p.ws1(at)
	end := p.ident(start)
	if end < 0 {
		p.miss(max(start, at), "a loop variable")
		return -1
	}
	n.value = p.src[start:end]
	if end < len(p.src) && p.src[end] == ',' {
		start = p.ws(end + 1)
		if end = p.ident(start); end < 0 {
			p.miss(start, "a second loop variable")
			return -1
		}
		n.key, n.value = n.value, p.src[start:end]
	}
	in := p.ws1(end)
	if in < 0 || !strings.HasPrefix(p.src[in:], "in") {
		p.miss(max(in, end), "`in`")
		return -1
	}
	start = p.ws1(in + 2)
	if start < 0 {
		p.miss(in+2, "whitespace")
		return -1
	}
	p.clear()
	if end, n.container = p.basicFiltered(start); end >= 0 {
		return end
	}
	end, n.container = p.arrayFiltered(start)
	return end
}

func (p *parser) filterTag(i, at int, left bool) (node, int, error) {
	if !p.enter(i) {
		return nil, 0, p.fatal
	}
	defer p.leave()
	start := p.ws1(at)
	if start < 0 {
		p.miss(at, "a filter name")
		return nil, 0, p.syntaxError(i, "in `filter`")
	}
	p.clear()
	end, c := p.filterCall(start)
	if end < 0 {
		return nil, 0, p.syntaxError(i, "in `filter`")
	}
	stop, right := p.tagEnd(p.ws(end))
	if stop < 0 {
		return nil, 0, p.syntaxError(i, "in `filter`")
	}
	n := &filterNode{tag: tag{at: trim{left, right}}, call: c}
	nodes, next, err := p.body(nil, stop, inFilter)
	if err != nil {
		return nil, 0, err
	}
	n.body = nodes
	word, after := p.keyword(next)
	if word != "endfilter" {
		return nil, 0, p.unclosed(i, next, "filter", "endfilter")
	}
	end, n.end, err = p.closing(next, after, word)
	return n, end, err
}

func (p *parser) block(i, at int, left bool) (node, int, error) {
	if !p.enter(i) {
		return nil, 0, p.fatal
	}
	defer p.leave()
	start := p.ws1(at)
	end := p.ident(start)
	if end < 0 {
		p.miss(max(start, at), "a block name")
		return nil, 0, p.syntaxError(i, "in `block`")
	}
	n := &blockNode{name: p.src[start:end], pos: int32(i)}
	stop, right := p.tagEnd(p.ws(end))
	if stop < 0 {
		return nil, 0, p.syntaxError(i, "in `block`")
	}
	n.at = trim{left, right}
	nodes, next, err := p.body(nil, stop, inBlock)
	if err != nil {
		return nil, 0, err
	}
	n.body = nodes
	word, after := p.keyword(next)
	if word != "endblock" {
		return nil, 0, p.unclosed(i, next, "block", "endblock")
	}
	end, n.end, err = p.closing(next, p.optionalName(after), word)
	return n, end, err
}

// optionalName skips the name after endblock and endmacro, which Tera does not compare.
func (p *parser) optionalName(i int) int {
	if end := p.ident(p.ws(i)); end >= 0 {
		return end
	}
	return i
}

func (p *parser) macro(i int) (node, int, error) {
	if !p.enter(i) {
		return nil, 0, p.fatal
	}
	defer p.leave()
	_, at := p.keyword(i)
	n := &macroNode{pos: int32(i)}
	end := p.macroHead(n, at)
	if end < 0 {
		return nil, 0, p.syntaxError(i, "in `macro`")
	}
	stop, right := p.tagEnd(p.ws(end))
	if stop < 0 {
		return nil, 0, p.syntaxError(i, "in `macro`")
	}
	n.at = trim{p.leftDash(i), right}
	nodes, next, err := p.body(nil, stop, inMacro)
	if err != nil {
		return nil, 0, err
	}
	n.body = nodes
	word, after := p.keyword(next)
	if word != "endmacro" {
		return nil, 0, p.unclosed(i, next, "macro", "endmacro")
	}
	end, n.end, err = p.closing(next, p.optionalName(after), word)
	return n, end, err
}

// macroHead reads `name(a, b=1)`. A default is a literal, with no space around
// its equals sign.
func (p *parser) macroHead(n *macroNode, at int) int {
	start := p.ws1(at)
	end := p.ident(start)
	if end < 0 {
		p.miss(max(start, at), "a macro name")
		return -1
	}
	n.name = p.src[start:end]
	i := p.ws(end)
	if i >= len(p.src) || p.src[i] != '(' {
		p.miss(i, "`(`")
		return -1
	}
	i = p.ws(i + 1)
	for {
		end := p.ident(i)
		if end < 0 {
			if len(n.params) > 0 {
				p.miss(i, "an argument name")
				return -1
			}
			break
		}
		a := param{name: p.src[i:end]}
		if end < len(p.src) && p.src[end] == '=' {
			if stop, e := p.literal(end + 1); stop >= 0 {
				a.fallback, end = e, stop
			}
		}
		n.params = setParam(n.params, a)
		if i = p.ws(end); i >= len(p.src) || p.src[i] != ',' {
			break
		}
		i = p.ws(i + 1)
	}
	if i >= len(p.src) || p.src[i] != ')' {
		p.miss(i, "`)`")
		return -1
	}
	return i + 1
}

func setParam(list []param, a param) []param {
	if i := slices.IndexFunc(list, func(b param) bool { return b.name == a.name }); i >= 0 {
		list[i] = a
		return list
	}
	return append(list, a)
}

func (p *parser) literal(i int) (int, *expr) {
	if end, e := p.boolean(i); end >= 0 {
		return end, e
	}
	if end, s := p.str(i); end >= 0 {
		return end, &expr{pos: int32(i), value: s}
	}
	return p.number(i)
}
