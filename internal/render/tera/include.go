package tera

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
)

// call runs body in a new frame, as template t.
func (r *run) call(f frame, t *Template, body []node) error {
	if err := r.enter(f.pos); err != nil {
		return err
	}
	back := r.at
	f.template, f.from = t, back
	r.push(f)
	r.at = t
	if _, err := r.body(body); err != nil {
		return err // the frames stay, to tell how it came here
	}
	r.at = back
	r.pop()
	r.calls--
	return nil
}

func (r *run) include(n *includeNode) error {
	for _, name := range n.names {
		t, err := r.loadIncluded(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return r.fail(n.pos, err)
		}
		if t.extends != nil {
			return r.failf(n.pos, "included template %q extends another, which is not supported", name)
		}
		return r.call(frame{kind: frameInclude, what: fmt.Sprintf("include %q", t.name), pos: n.pos}, t, t.nodes)
	}
	if n.ignoreMissing {
		return nil
	}
	if len(n.names) == 0 {
		return r.failf(n.pos, "the array names no template")
	}
	return r.fail(n.pos, &hinted{fmt.Errorf("template %s is not there", quoted(n.names)), lookedFor})
}

const lookedFor = "it is looked for beside this template, then at the top of the templates"

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = strconv.Quote(n)
	}
	return list(q)
}

func (r *run) loadIncluded(name string) (*Template, error) {
	key := included{name, r.at.name}
	if t, ok := r.included[key]; ok {
		if t == nil {
			return nil, fs.ErrNotExist
		}
		return t, nil
	}
	var t *Template
	resolved, text, err := r.engine.load(name, r.at.name)
	if err == nil {
		t, err = r.engine.link(resolved, text, linking{})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if r.included == nil {
		r.included = map[included]*Template{}
	}
	r.included[key] = t
	return t, err
}

func (r *run) filterSection(n *filterNode) error {
	text, err := r.capture(n.body)
	if err != nil {
		return err
	}
	if n.call.name == "safe" {
		r.out = append(r.out, text...)
		return r.full()
	}
	v, err := r.filter(n.call, text)
	if err != nil {
		return err
	}
	if r.out, err = r.appendValue(r.out, v, 0); err == nil {
		err = r.full()
	}
	if err != nil {
		return r.fail(n.call.pos, err)
	}
	return nil
}

// capture renders a body into a string.
func (r *run) capture(body []node) (string, error) {
	start := len(r.out)
	if _, err := r.body(body); err != nil {
		return "", err
	}
	return r.cut(start)
}

// cut takes what was printed since start off the output.
func (r *run) cut(start int) (string, error) {
	if err := r.create(len(r.out) - start); err != nil {
		return "", r.fail(0, err)
	}
	s := string(r.out[start:])
	r.out = r.out[:start]
	return s, nil
}

// block renders the definition nearest to the template that is rendered.
func (r *run) block(n *blockNode) error {
	chain := r.chain()
	for level, t := range chain {
		if b := t.parsed.blocks[n.name]; b != nil {
			return r.blockAt(blockCall{n.name, chain, level}, b)
		}
	}
	_, err := r.body(n.body)
	return err
}

// chain is the inheritance of the template that is being walked.
func (r *run) chain() []*Template {
	for i := len(r.frames) - 1; i > 0; i-- {
		if r.frames[i].kind >= frameInclude {
			return r.frames[i].template.chain
		}
	}
	return r.main.chain
}

func (r *run) blockAt(c blockCall, b *blockNode) error {
	if err := r.enter(b.pos); err != nil {
		return err
	}
	back, outer := r.at, r.inside
	r.at, r.inside = c.chain[c.level], c
	r.blocks = append(r.blocks, c)
	if _, err := r.body(b.body); err != nil {
		return err
	}
	r.at, r.inside = back, outer
	r.calls--
	return nil
}

// super renders the block above the one that was entered last. As in Tera a block that
// ended still counts as entered, so behind a nested block super() means that one.
// Where Tera has forgotten all of them it is the block around super(), as anywhere else.
func (r *run) super(n *superNode) error {
	c := r.inside
	if len(r.blocks) > 0 {
		c = r.blocks[len(r.blocks)-1]
	}
	chain := r.main.chain // of an included block too
	for level := c.level + 1; level < len(chain); level++ {
		b := chain[level].parsed.blocks[c.name]
		if b == nil {
			continue
		}
		if err := r.blockAt(blockCall{c.name, chain, level}, b); err != nil {
			return err
		}
		r.leaveBlock()
		if level == len(chain)-1 {
			r.leaveBlock()
		}
		return nil
	}
	err := fmt.Errorf("no template above defines block %q, so super() has nothing to show", c.name)
	if c.name != r.inside.name {
		err = &hinted{err, fmt.Sprintf("behind a nested block super() means that block, not %q; put super() before it", r.inside.name)}
	}
	return r.fail(n.pos, err)
}

func (r *run) leaveBlock() { r.blocks = r.blocks[:max(0, len(r.blocks)-1)] }

// macro renders a macro call into the output.
func (r *run) macro(c *macroCall) error {
	t, m, err := r.findMacro(c)
	if err != nil {
		return err
	}
	base := len(r.stack)
	for _, p := range m.params {
		e := p.fallback
		for i := range c.args {
			if c.args[i].name == p.name {
				e = c.args[i].e
			}
		}
		if e == nil {
			return r.failf(c.pos, "macro %q needs the argument %q", m.name, p.name)
		}
		v, err := r.eval(e)
		if err != nil {
			return err
		}
		r.stack = append(r.stack, v)
	}
	if err := r.enter(c.pos); err != nil {
		return err
	}
	back := r.at
	f := r.push(frame{kind: frameMacro, template: t, what: "macro " + c.space + "::" + c.name, from: back, pos: c.pos})
	for i, p := range m.params {
		f.vars = append(f.vars, binding{p.name, r.stack[base+i]})
	}
	r.stack = r.stack[:base]
	r.at = t
	if _, err := r.body(m.body); err != nil {
		return err
	}
	r.at = back
	r.pop()
	r.calls--
	return nil
}

// findMacro looks where the call stands, then in the templates that led there.
func (r *run) findMacro(c *macroCall) (*Template, *macroNode, error) {
	places := []*Template{r.at, r.main}
	var known []string
	for _, place := range places {
		t := place.spaces[c.space]
		if t == nil {
			for space := range place.spaces {
				known = append(known, space)
			}
			continue
		}
		if m := t.macros[c.name]; m != nil {
			return t, m, nil
		}
		names := make([]string, 0, len(t.macros))
		for name := range t.macros {
			names = append(names, name)
		}
		return nil, nil, r.unknown(c.pos, "macro", c.space+"::", c.name, names)
	}
	if _, near := nearest(c.space, known); !near {
		hint := fmt.Sprintf("import its file at the top of the template: {%% import \"…\" as %s %%}", c.space)
		return nil, nil, r.fail(c.pos, &hinted{fmt.Errorf("there is no macro namespace %q", c.space), hint})
	}
	return nil, nil, r.unknown(c.pos, "macro namespace", "", c.space, known)
}
