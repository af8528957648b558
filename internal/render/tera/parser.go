package tera

import (
	"fmt"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// parser follows Tera's grammar (version 1, a parsing expression grammar) rule
// by rule: the first alternative that matches is taken for good, however the
// text goes on. Templates that this makes invalid, such as one that prints a
// variable named trueish, are invalid in Tera too. A method takes an offset and
// returns the offset behind what it matched, or -1.
type parser struct {
	name, src string
	limits    render.Limits
	trimming  options
	memo      map[memoKey]memoValue
	depth     int
	fatal     error // a limit was hit: everything fails from here on

	// The furthest place where something was missing, and what.
	far      int
	missing  []string
	farNamed bool // at far a named argument was expected

	afterTag bool // the text to come follows a block tag (for trim_blocks)
}

type options struct{ trimBlocks, lstripBlocks bool }

// parsed is one source, without what it extends, imports or includes.
type parsed struct {
	name, src string
	nodes     []node
	extends   *reference
	imports   []reference
	blocks    map[string]*blockNode
	macros    map[string]*macroNode
}

type reference struct {
	name, space string
	pos         int32
}

func parse(name, src string, limits render.Limits, o options) (*parsed, error) {
	p := &parser{name: name, src: src, limits: limits, trimming: o}
	if len(src) > limits.SourceBytes {
		return nil, p.errorAt(0, "", "the template is longer than the limit of %d bytes", limits.SourceBytes)
	}
	t, err := p.template()
	if p.fatal != nil {
		return nil, p.fatal
	}
	if err != nil {
		return nil, err
	}
	t.nodes = trimNodes(t.nodes, trim{}, false)
	return t, t.collect(p)
}

// collect finds the blocks and macros of the template. As in Tera, only blocks
// at the top level and inside of other blocks can be overridden.
func (t *parsed) collect(p *parser) error {
	t.blocks, t.macros = map[string]*blockNode{}, map[string]*macroNode{}
	kept := t.nodes[:0]
	for _, n := range t.nodes {
		m, ok := n.(*macroNode)
		if !ok {
			kept = append(kept, n)
			continue
		}
		if t.macros[m.name] != nil {
			return p.errorAt(int(m.pos), "", "macro %q is defined twice", m.name)
		}
		t.macros[m.name] = m
	}
	t.nodes = kept
	return t.collectBlocks(p, t.nodes)
}

func (t *parsed) collectBlocks(p *parser, nodes []node) error {
	for _, n := range nodes {
		b, ok := n.(*blockNode)
		if !ok {
			continue
		}
		if t.blocks[b.name] != nil {
			return p.errorAt(int(b.pos), "", "block %q is defined twice", b.name)
		}
		t.blocks[b.name] = b
		if err := t.collectBlocks(p, b.body); err != nil {
			return err
		}
	}
	return nil
}

// place says which tags a body may hold.
type place uint8

const (
	inTemplate place = iota
	inBlock
	inMacro
	inLoop
	inFilter
)

func (p *parser) template() (*parsed, error) {
	t := &parsed{name: p.name, src: p.src}
	i := 0
	// Comments at the very start vanish before whitespace is looked at, so a
	// dash on them trims nothing.
	for {
		end, _, err := p.comment(i)
		if err != nil {
			return nil, err
		}
		if end < 0 {
			break
		}
		i = end
	}
	i = p.header(t, i)
	for p.fatal == nil {
		var err error
		if t.nodes, i, err = p.body(t.nodes, i, inTemplate); err != nil {
			return nil, err
		}
		if i == len(p.src) {
			return t, nil
		}
		word, _ := p.keyword(i)
		if word != "macro" {
			return nil, p.unexpectedTag(i, word)
		}
		m, end, err := p.macro(i)
		if err != nil {
			return nil, err
		}
		t.nodes, i = append(t.nodes, m), end
	}
	return nil, p.fatal
}

// header reads extends and imports, which stand before everything else and
// swallow the whitespace around them.
func (p *parser) header(t *parsed, i int) int {
	for {
		start := p.ws(i)
		word, at := p.keyword(start)
		switch {
		case word == "extends" && t.extends == nil:
			r, end := p.reference(start, at, false)
			if end < 0 {
				return i
			}
			t.extends, i = &r, p.ws(end)
			if len(t.imports) > 0 {
				return i // imports, then extends, end the header
			}
		case word == "import":
			r, end := p.reference(start, at, true)
			if end < 0 {
				return i
			}
			t.imports, i = append(t.imports, r), p.ws(end)
		default:
			return i
		}
	}
}

// reference reads `"file"` or `"file" as space` and the end of the tag that
// starts at tag.
func (p *parser) reference(tag, i int, isImport bool) (reference, int) {
	none := reference{}
	i = p.ws1(i)
	end, name := p.str(i)
	if end < 0 {
		p.miss(i, "a file name in quotes")
		return none, -1
	}
	r := reference{name: name, pos: int32(tag)}
	if isImport {
		at := p.ws1(end)
		if at < 0 || !strings.HasPrefix(p.src[at:], "as") {
			p.miss(max(end, at), "`as`")
			return none, -1
		}
		start := p.ws1(at + 2)
		stop := p.ident(start)
		if stop < 0 {
			p.miss(max(start, end), "a name for the imported macros")
			return none, -1
		}
		r.space, end = p.src[start:stop], stop
	}
	end, _ = p.tagEnd(p.ws(end))
	return r, end
}

// body reads content up to the end of the source or to a tag that does not
// belong to it, which is left to the caller.
func (p *parser) body(nodes []node, i int, where place) ([]node, int, error) {
	for i < len(p.src) && p.fatal == nil {
		n, end, err := p.content(i, where)
		if err != nil {
			return nil, 0, err
		}
		if end < 0 {
			break
		}
		if n != nil {
			nodes = append(nodes, n)
		}
		i = end
	}
	return nodes, i, p.fatal
}

func (p *parser) content(i int, where place) (node, int, error) {
	switch p.opening(i) {
	case '{':
		return p.print(i, where)
	case '#':
		end, t, err := p.comment(i)
		return &commentNode{tag: tag{t, t}}, end, err
	case '%':
		return p.tag(i, where)
	default:
		n, end := p.text(i)
		return n, end, nil
	}
}

// opening returns the second character of {{, {% or {# at i, else 0.
func (p *parser) opening(i int) byte {
	if i+1 < len(p.src) && p.src[i] == '{' {
		switch c := p.src[i+1]; c {
		case '{', '%', '#':
			return c
		}
	}
	return 0
}

func (p *parser) text(i int) (node, int) {
	end := i + 1
	for {
		next := strings.IndexByte(p.src[end:], '{')
		if next < 0 {
			end = len(p.src)
			break
		}
		end += next
		if p.opening(end) != 0 {
			break
		}
		end++
	}
	text := p.src[i:end]
	if p.trimming.trimBlocks && p.afterTag {
		text = strings.TrimPrefix(strings.TrimPrefix(text, "\r"), "\n")
	}
	if c := p.opening(end); p.trimming.lstripBlocks && (c == '%' || c == '#') {
		bare := strings.TrimRight(text, " \t")
		if strings.HasSuffix(bare, "\n") || bare == "" && (i == 0 || p.src[i-1] == '\n') {
			text = bare
		}
	}
	p.afterTag = false
	if text == "" {
		return nil, end
	}
	return &textNode{text: text}, end
}

func (p *parser) comment(i int) (int, trim, error) {
	if p.opening(i) != '#' {
		return -1, trim{}, nil
	}
	t, start := p.dash(i + 2)
	end := strings.Index(p.src[start:], "#}")
	if end < 0 {
		return 0, trim{}, p.errorAt(i, "", "the comment is not closed by `#}`")
	}
	end += start
	stop := end
	if end > start && p.src[end-1] == '-' {
		stop--
	}
	if stop == start {
		return 0, trim{}, p.errorAt(i, "write at least a space into it", "a comment needs some text")
	}
	p.afterTag = true
	return end + 2, trim{t, stop != end}, nil
}

// dash skips a dash that trims.
func (p *parser) dash(i int) (bool, int) {
	if i < len(p.src) && p.src[i] == '-' {
		return true, i + 1
	}
	return false, i
}

func (p *parser) print(i int, where place) (node, int, error) {
	left, at := p.dash(i + 2)
	at = p.ws(at)
	p.clear()
	if where == inBlock && strings.HasPrefix(p.src[at:], "super()") {
		if end, _ := p.variableEnd(p.ws(at + len("super()"))); end >= 0 {
			p.afterTag = false
			return &superNode{pos: int32(i)}, end, nil // as in Tera, a dash does nothing here
		}
	}
	end, e := p.logicOrArray(at)
	if end < 0 {
		return nil, 0, p.syntaxError(i, "in `{{`")
	}
	stop, right := p.variableEnd(p.ws(end))
	if stop < 0 {
		p.miss(p.ws(end), "`}}`")
		return nil, 0, p.syntaxError(i, "in `{{`")
	}
	p.afterTag = false
	t := trim{left, right}
	return &printNode{tag: tag{t, t}, e: e}, stop, nil
}

func (p *parser) variableEnd(i int) (int, bool) {
	switch {
	case strings.HasPrefix(p.src[i:], "-}}"):
		return i + 3, true
	case strings.HasPrefix(p.src[i:], "}}"):
		return i + 2, false
	}
	return -1, false
}

func (p *parser) tagEnd(i int) (int, bool) {
	switch {
	case strings.HasPrefix(p.src[i:], "-%}"):
		p.afterTag = true
		return i + 3, true
	case strings.HasPrefix(p.src[i:], "%}"):
		p.afterTag = true
		return i + 2, false
	}
	p.miss(i, "`%}`")
	return -1, false
}

// keyword returns the word after {% at i and the offset behind it. Where the
// grammar lets a name follow endblock and endmacro without a space, the word
// ends before the name.
func (p *parser) keyword(i int) (string, int) {
	if p.opening(i) != '%' {
		return "", i
	}
	_, start := p.dash(i + 2)
	start = p.ws(start)
	end := start
	for end < len(p.src) && isIdent(p.src[end]) {
		end++
	}
	word := p.src[start:end]
	for _, w := range [...]string{"endblock", "endmacro"} {
		if strings.HasPrefix(word, w) {
			return w, start + len(w)
		}
	}
	return word, end
}

// unclosed reports the tag at i, whose body ends at stop without an end tag.
func (p *parser) unclosed(i, stop int, word, end string) error {
	if p.fatal != nil {
		return p.fatal
	}
	if stop >= len(p.src) {
		return p.errorAt(i, fmt.Sprintf("add `{%% %s %%}`", end), "`%s` is never closed", word)
	}
	next, _ := p.keyword(stop)
	return p.unexpectedTag(stop, next)
}

func (p *parser) unexpectedTag(i int, word string) error {
	hint := ""
	switch word {
	case "":
		return p.syntaxError(i, "in a tag")
	case "extends", "import":
		hint = "put it before everything else in the template"
	case "macro":
		hint = "define macros at the top level of the template"
	case "break", "continue":
		hint = "use it inside of a for loop, and not inside of a filter section"
	case "block":
		hint = "blocks cannot be inside of loops and macros"
	default:
		if name, ok := nearest(word, tagNames); ok && name != word {
			hint = fmt.Sprintf("did you mean %q?", name)
		}
	}
	return p.errorAt(i, hint, "unexpected tag %q", word)
}

var tagNames = []string{
	"if", "elif", "else", "endif", "for", "endfor", "set", "set_global", "include", "raw", "endraw",
	"filter", "endfilter", "block", "endblock", "macro", "endmacro", "extends", "import", "break", "continue",
}
