package tera

import (
	"context"
	"errors"
	"unicode"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// run is the state of one render.
type run struct {
	engine   *Engine
	ctx      context.Context
	vars     *render.Map
	main     *Template
	at       *Template // whose nodes are being walked
	frames   []frame
	blocks   []blockCall // that were entered, and that super() may still mean; see [run.super]
	inside   blockCall   // whose body is being walked
	out      []byte      // everything printed so far; a capture is cut off its end
	stack    []any       // values of arguments that are being collected
	calls    int         // includes, macros and blocks that are open
	included map[included]*Template
	regexps  regexpCache

	slice   int   // steps left before the next look at the context
	steps   int64 // steps left behind slice
	created int64 // bytes left for new strings and arrays
	random  uint64
}

const stepSlice = 1024

type included struct{ name, from string }

// blockCall is a block that is being rendered: its name and the place of its
// definition in the chain of templates.
type blockCall struct {
	name  string
	chain []*Template
	level int
}

type frameKind uint8

const (
	frameRoot frameKind = iota
	frameLoop
	frameInclude
	frameMacro
)

// frame is one scope. Loops and includes see the scopes below them up to the
// next macro or the root; the variables of the render are seen from everywhere.
type frame struct {
	kind     frameKind
	vars     []binding
	template *Template

	// Of a loop: its variables and where it is.
	key, value string
	curKey     string
	cur        any
	i, n       int

	// Of an include or a macro: what and from where, for messages.
	what string
	from *Template
	pos  int32
}

type binding struct {
	name  string
	value any
}

// flow says how a body ended.
type flow uint8

const (
	flowNext flow = iota
	flowBreak
	flowContinue
)

func (e *Engine) start(ctx context.Context, t *Template, vars *render.Map) *run {
	r, _ := e.runs.Get().(*run)
	if r == nil {
		r = &run{}
	}
	r.engine = e
	r.ctx, r.vars, r.main, r.at = ctx, vars, t, t
	r.slice, r.steps = stepSlice, e.limits.Steps-stepSlice
	r.created, r.random = e.limits.StringBytes, e.options.Seed
	r.push(frame{kind: frameRoot, template: t})
	return r
}

// finish makes the room of a render available to the next one.
func (e *Engine) finish(r *run) {
	clear(r.frames[:cap(r.frames)])
	clear(r.stack[:cap(r.stack)])
	*r = run{frames: r.frames[:0], stack: r.stack[:0], out: r.out[:0]}
	if cap(r.out) <= 1<<20 {
		e.runs.Put(r)
	}
}

// push opens a frame, reusing the room for variables of one that was there.
func (r *run) push(f frame) *frame {
	if n := len(r.frames); n < cap(r.frames) {
		f.vars = r.frames[:n+1][n].vars[:0]
	}
	r.frames = append(r.frames, f)
	return &r.frames[len(r.frames)-1]
}

func (r *run) pop() {
	f := &r.frames[len(r.frames)-1]
	clear(f.vars)
	f.vars = f.vars[:0]
	f.cur = nil
	r.frames = r.frames[:len(r.frames)-1]
}

// enter opens an include, a macro or a block; its end is r.calls--.
func (r *run) enter(pos int32) error {
	if r.calls >= r.engine.limits.RenderDepth {
		return r.fail(pos, limitError("includes, macros and blocks nested deeper than %d", r.engine.limits.RenderDepth))
	}
	r.calls++
	return nil
}

// step accounts for n units of work.
func (r *run) step(n int) error {
	if r.slice -= n; r.slice > 0 {
		return nil
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	r.steps += int64(r.slice)
	r.slice = stepSlice
	if r.steps -= stepSlice; r.steps < -stepSlice {
		return limitError("more than %d steps", r.engine.limits.Steps)
	}
	return nil
}

// create accounts for n bytes of new strings or arrays, before they are made
// where their size is known.
func (r *run) create(n int) error {
	if r.created -= int64(n); r.created < 0 {
		return limitError("strings and arrays of more than %d bytes in all", r.engine.limits.StringBytes)
	}
	return r.step(1 + n/256)
}

func (r *run) full() error {
	if len(r.out) > r.engine.limits.OutputBytes {
		return limitError("more than %d bytes of output", r.engine.limits.OutputBytes)
	}
	return nil
}

func (r *run) template() error {
	chain := r.main.chain
	r.at = chain[len(chain)-1]
	_, err := r.body(r.at.nodes)
	return err
}

func (r *run) body(nodes []node) (flow, error) {
	for _, n := range nodes {
		if r.slice--; r.slice <= 0 {
			if err := r.step(0); err != nil {
				return 0, r.fail(0, err)
			}
		}
		var err error
		how := flowNext
		switch n := n.(type) {
		case *textNode:
			r.out = append(r.out, n.text...)
			err = r.full()
		case *printNode:
			err = r.print(n.e)
		case *ifNode:
			how, err = r.ifNode(n)
		case *forNode:
			how, err = flowNext, r.loop(n)
		case *setNode:
			err = r.set(n)
		case *rawNode:
			r.out = append(r.out, n.text...)
			err = r.full()
		case *includeNode:
			err = r.include(n)
		case *filterNode:
			err = r.filterSection(n)
		case *blockNode:
			how, err = flowNext, r.block(n)
		case *superNode:
			err = r.super(n)
		case *breakNode:
			return flowBreak, nil
		case *continueNode:
			return flowContinue, nil
		}
		if err != nil {
			return 0, err
		}
		if how != flowNext {
			return how, nil
		}
	}
	return flowNext, nil
}

func (r *run) print(e *expr) error {
	if e.kind == exprMacro && !e.negated && len(e.filters) == 0 {
		return r.macro(e.macro) // straight into the output
	}
	v, err := r.eval(e)
	if err != nil {
		return err
	}
	if r.out, err = r.appendValue(r.out, v, 0); err != nil {
		return r.fail(e.pos, err)
	}
	if err := r.full(); err != nil {
		return r.fail(e.pos, err)
	}
	return nil
}

func (r *run) ifNode(n *ifNode) (flow, error) {
	for i := range n.branches {
		b := &n.branches[i]
		if b.cond != nil {
			ok, err := r.evalBool(b.cond)
			if err != nil {
				return 0, err
			}
			if !ok {
				continue
			}
		}
		return r.body(b.body)
	}
	return flowNext, nil
}

func (r *run) loop(n *forNode) error {
	switch n.container.kind {
	case exprPath, exprCall, exprArray:
	default:
		return r.failf(n.container.pos, "a for loop needs a variable, a function call or an array")
	}
	v, err := r.eval(n.container)
	if err != nil {
		return err
	}
	items, m, err := r.items(n, v)
	if err != nil {
		return err
	}
	count := max(len(items), m.Len())
	if count == 0 {
		_, err := r.body(n.orElse)
		return err
	}
	f := r.push(frame{kind: frameLoop, template: r.at, key: n.key, value: n.value, n: count})
	depth := len(r.frames)
	for i := range count {
		f.i = i
		if m != nil {
			f.curKey, f.cur = m.At(i)
		} else {
			f.cur = items[i]
		}
		how, err := r.body(n.body)
		if err != nil {
			return err
		}
		if how == flowBreak {
			break
		}
		f = &r.frames[depth-1] // the stack of frames may have moved
		clear(f.vars)
		f.vars = f.vars[:0]
		if err := r.step(1); err != nil {
			return r.fail(n.pos, err)
		}
	}
	r.pop()
	return nil
}

// items returns what a loop visits: elements, or a map in its order.
func (r *run) items(n *forNode, v any) ([]any, *render.Map, error) {
	var items []any
	switch v := v.(type) {
	case *render.Map:
		if n.key == "" {
			hint := "write {% for key, " + n.value + " in … %}"
			return nil, nil, r.fail(n.pos, &hinted{errors.New("a map needs two loop variables"), hint})
		}
		return nil, v.Ordered(r.engine.options.MapOrder), nil
	case []any:
		items = v
	case string:
		var err error
		if items, err = r.graphemes(v); err != nil {
			return nil, nil, r.fail(n.pos, err)
		}
	default:
		return nil, nil, r.failf(n.container.pos, "a for loop cannot visit %s", render.KindOf(v))
	}
	if n.key != "" {
		return nil, nil, r.failf(n.pos, "%s needs one loop variable, there are two", render.KindOf(v))
	}
	return items, nil, nil
}

func (r *run) set(n *setNode) error {
	v, err := r.eval(n.e)
	if err != nil {
		return err
	}
	f := len(r.frames) - 1
	for n.global && r.frames[f].kind == frameLoop {
		f--
	}
	r.frames[f].set(n.name, v)
	return nil
}

func (f *frame) set(name string, v any) {
	for i := range f.vars {
		if f.vars[i].name == name {
			f.vars[i].value = v
			return
		}
	}
	f.vars = append(f.vars, binding{name, v})
}

// isSpace is the Unicode property White_Space, which Rust trims.
func isSpace(c rune) bool { return unicode.IsSpace(c) }
