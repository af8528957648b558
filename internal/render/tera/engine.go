// Package tera is the template language Tera, version 1, byte for byte as the
// Rust engine renders it, quirks included.
//
// A source is parsed once into a tree that never changes ([Engine.Parse]) and
// rendered by walking it; any number of renders may walk it at the same time.
// Every render is bounded (see [render.Limits]) and depends on nothing but the
// source, the variables and the options: the clock is a fixed time, random
// numbers come from a seed, the environment is closed unless it is handed in.
// HTML is never escaped automatically.
package tera

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Options say how templates of an engine are read and rendered. The zero value
// is usable: strict, without includes, clock, environment and queries.
type Options struct {
	// Loader finds what templates include, import and extend. Nil: nothing is found.
	Loader render.Loader
	Limits render.Limits
	// Lenient prints nothing for a variable that is not defined. By default it is an error.
	Lenient bool
	// TrimBlocks drops the first newline behind a tag or a comment, LstripBlocks
	// the blanks between the start of a line and a tag or a comment. Neither
	// exists in Tera.
	TrimBlocks, LstripBlocks bool
	// Now is what now() returns. Zero: now() is an error.
	Now time.Time
	// Seed starts the sequence of get_random(), anew in every render.
	Seed uint64
	// Env answers get_env(). Nil: get_env() is an error.
	Env func(name string) (string, bool)
	// Query answers sparql(). Nil: sparql() is an error.
	Query render.Querier
	// MapOrder is the order in which maps are visited and encoded.
	MapOrder render.MapOrder
	// PlainFilters leaves title, pluralize, upper and lower as Tera has them.
	// By default they are those of the ggen dialect, which shadow them: title
	// and pluralize change words by the rules of Inflector, and upper and lower
	// take any value.
	PlainFilters bool
	// Functions and Filters are further ones, by name; they win over the built-in ones.
	Functions map[string]Function
	Filters   map[string]Filter
}

// Filter is a filter that a template can name. It has to be safe for
// concurrent use and must not change the value.
type Filter func(ctx context.Context, value any, args map[string]any) (any, error)

// Function is a function that a template can call by name. It has to be safe
// for concurrent use.
type Function func(ctx context.Context, args map[string]any) (any, error)

// Engine parses and renders templates. It is safe for concurrent use.
type Engine struct {
	options Options
	limits  render.Limits
	*store
}

// store is what engines that differ in their seed alone have in common.
type store struct {
	runs sync.Pool

	mu    sync.Mutex
	cache map[source]*parsed
	size  int // bytes of all sources in cache
}

type source struct{ name, text string }

// maxCache bounds the bytes of sources whose trees are kept. A tree takes
// several times the room of its source.
const maxCache = 32 << 20

// New returns an engine.
func New(o Options) *Engine {
	return &Engine{options: o, limits: o.Limits.WithDefaults(), store: &store{cache: map[source]*parsed{}}}
}

// Seeded returns an engine like e with another seed, which shares its parsed templates:
// many outputs of one template draw numbers of their own, and parse it once.
func (e *Engine) Seeded(seed uint64) *Engine {
	seeded := &Engine{options: e.options, limits: e.limits, store: e.store}
	seeded.options.Seed = seed
	return seeded
}

// Template is a parsed template with what it extends and imports. It is
// immutable and safe for concurrent renders.
type Template struct {
	engine *Engine
	*parsed
	// chain is the template itself, then its parents up to the root.
	chain []*Template
	// spaces are the macros that can be called from here, by namespace.
	spaces map[string]*Template
}

// Parse parses a template, loads what it extends and imports, and checks that
// it all fits together. Errors are of kind [fault.Finding] and hold a
// [render.Error].
func (e *Engine) Parse(name, source string) (*Template, error) {
	return e.link(name, source, linking{})
}

// Render parses and renders in one go; see [render.Engine].
func (e *Engine) Render(ctx context.Context, w io.Writer, name, source string, vars *render.Map) error {
	t, err := e.Parse(name, source)
	if err != nil {
		return err
	}
	return t.Render(ctx, w, vars)
}

// Variables lists the free variables of a source; see [render.Engine].
func (e *Engine) Variables(name, source string) ([]string, error) {
	t, err := e.Parse(name, source)
	if err != nil {
		return nil, err
	}
	return t.Variables(), nil
}

func (e *Engine) parse(name, text string) (*parsed, error) {
	key := source{name, text}
	e.mu.Lock()
	t := e.cache[key]
	e.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t, err := parse(name, text, e.limits, options{e.options.TrimBlocks, e.options.LstripBlocks})
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.size += len(text); e.size > maxCache {
		clear(e.cache)
		e.size = len(text)
	}
	e.cache[key] = t
	return t, nil
}

// linking is what is known while a template is put together: the templates that
// are open further out, and those that are done.
type linking struct {
	open []string
	done map[string]*Template
}

// link parses a source and everything it extends and imports.
func (e *Engine) link(name, text string, l linking) (*Template, error) {
	p, err := e.parse(name, text)
	if err != nil {
		return nil, err
	}
	t := &Template{engine: e, parsed: p, spaces: map[string]*Template{}}
	t.chain = []*Template{t}
	if len(p.macros) > 0 {
		t.spaces["self"] = t
	}
	l.open = append(slices.Clone(l.open), name)
	if l.done == nil {
		l.done = map[string]*Template{}
	}
	for _, ref := range p.imports {
		m, err := e.follow(t, ref, l, "imports")
		if err != nil {
			return nil, err
		}
		t.spaces[ref.space] = m
		t.adopt(m) // macros call the macros that they import through the caller
	}
	if p.extends != nil {
		parent, err := e.follow(t, *p.extends, l, "extends")
		if err != nil {
			return nil, err
		}
		t.chain = append(t.chain, parent.chain...)
		t.adopt(parent)
	}
	l.done[name] = t
	return t, nil
}

// adopt takes over the namespaces of another template, except those it has.
func (t *Template) adopt(from *Template) {
	for space, m := range from.spaces {
		if t.spaces[space] == nil {
			t.spaces[space] = m
		}
	}
}

// follow loads and links what t refers to.
func (e *Engine) follow(t *Template, ref reference, l linking, verb string) (*Template, error) {
	fail := func(hint, format string, args ...any) error {
		return finding(place2error(t.name, t.src, int(ref.pos), fmt.Sprintf(format, args...), hint))
	}
	name, text, err := e.load(ref.name, t.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(lookedFor, "template %q is not there", ref.name)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Finding, "", fmt.Sprintf("%s: loading template %q", t.name, ref.name))
	}
	if done := l.done[name]; done != nil {
		return done, nil
	}
	if slices.Contains(l.open, name) {
		return nil, fail("", "template %q %s itself", name, verb)
	}
	if len(l.open) > e.limits.RenderDepth {
		return nil, fail("", "templates refer to each other deeper than the limit of %d", e.limits.RenderDepth)
	}
	return e.link(name, text, l)
}

func (e *Engine) load(name, from string) (resolved, text string, err error) {
	if e.options.Loader == nil {
		return "", "", fs.ErrNotExist
	}
	return e.options.Loader.Load(name, from)
}

// Name returns the name under which the template was parsed.
func (t *Template) Name() string { return t.name }

// Render writes what the template gives for vars to w, all or nothing. vars may
// be nil and is not changed.
//
// A mistake in the template or a limit is a [fault.Finding] with a
// [render.Error] inside; the error of a cancelled context is that of the context.
func (t *Template) Render(ctx context.Context, w io.Writer, vars *render.Map) error {
	r := t.engine.start(ctx, t, vars)
	defer t.engine.finish(r)
	if err := r.template(); err != nil {
		return r.report(err)
	}
	if _, err := w.Write(r.out); err != nil {
		return fmt.Errorf("writing the output of %s: %w", t.name, err)
	}
	return nil
}

// RenderString returns what the template gives for vars.
func (t *Template) RenderString(ctx context.Context, vars *render.Map) (string, error) {
	r := t.engine.start(ctx, t, vars)
	defer t.engine.finish(r)
	if err := r.template(); err != nil {
		return "", r.report(err)
	}
	return string(r.out), nil
}
