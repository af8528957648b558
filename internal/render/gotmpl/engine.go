// Package gotmpl is the template language of Go's text/template with the functions
// of sprig, bounded and repeatable.
//
// What text/template itself has no limit for is counted by calls that are put into
// the parsed tree: steps at every list of nodes, depth at every template, bytes at
// everything that is printed. Functions that read a clock, the environment, the
// network, a source of randomness or the conventions of an operating system are
// not there; now is the fixed time of the options, and keys and values are sorted.
package gotmpl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Options say how templates of an engine are read and rendered. The zero value is
// usable: strict, without includes, clock and queries.
type Options struct {
	// Loader finds what {{template}} and include name and the source does not
	// define. Nil: nothing is found.
	Loader render.Loader
	Limits render.Limits
	// Lenient prints nothing for a variable that is not defined. By default it is an error.
	Lenient bool
	// Now is what now returns. Zero: now is an error.
	Now time.Time
	// Query answers sparql. Nil: sparql is an error.
	Query render.Querier
}

// Engine parses and renders templates. It is safe for concurrent use.
type Engine struct {
	options Options
	limits  render.Limits

	mu    sync.Mutex
	cache map[[2]string]*Template
	size  int // bytes of all sources in cache
}

// maxCache bounds the bytes of sources whose trees are kept.
const maxCache = 32 << 20

// New returns an engine.
func New(o Options) *Engine {
	return &Engine{options: o, limits: o.Limits.WithDefaults(), cache: map[[2]string]*Template{}}
}

// Template is a parsed template with what it names. It is immutable and safe for
// concurrent renders.
type Template struct {
	engine *Engine
	name   string
	root   *template.Template
	// sources are the texts by the names under which they were loaded.
	sources map[string]string
	calls   []call          // of templates, by the number that is in the tree
	used    map[string]bool // functions
}

// call is a place that calls a template.
type call struct {
	name, file string
	pos        parse.Pos
}

// Parse parses a template and loads the templates that it names. Errors are of
// kind [fault.Finding] and hold a [render.Error].
func (e *Engine) Parse(name, source string) (*Template, error) {
	key := [2]string{name, source}
	e.mu.Lock()
	t := e.cache[key]
	e.mu.Unlock()
	if t != nil {
		return t, nil
	}
	t = &Template{engine: e, name: name, sources: map[string]string{}, used: map[string]bool{}}
	t.root = template.New(name).Funcs(names)
	if e.options.Lenient {
		t.root.Option("missingkey=zero")
	} else {
		t.root.Option("missingkey=error")
	}
	if err := t.add(name, name, source, 0); err != nil {
		return nil, err
	}
	for _, tmpl := range t.root.Templates() {
		if tmpl.Tree != nil && tmpl.Root != nil {
			t.instrument(tmpl.Tree)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.size += len(source); e.size > maxCache {
		clear(e.cache)
		e.size = len(source)
	}
	e.cache[key] = t
	return t, nil
}

// add parses source, which file is the name of, as the template called name, and
// then what it names.
func (t *Template) add(name, file, source string, depth int) error {
	l := t.engine.limits
	switch {
	case len(source) > l.SourceBytes:
		return t.refuse(file, source, 0, "the template has %d bytes; at most %d are read", len(source), l.SourceBytes)
	case depth > l.RenderDepth:
		return t.refuse(file, source, 0, "templates name each other deeper than the limit of %d", l.RenderDepth)
	}
	if at, deep := nesting(source, l.ParseDepth); deep {
		return t.refuse(file, source, at, "tags and parentheses nest deeper than the limit of %d", l.ParseDepth)
	}
	t.sources[file] = source
	trees, err := parseSource(file, source)
	if err != nil {
		return t.syntax(file, source, err)
	}
	var wanted []call
	for _, defined := range slices.Sorted(maps.Keys(trees)) {
		tree := trees[defined]
		if id := undefined(tree); id != nil {
			e := t.place(file, source, int(id.Pos), fmt.Sprintf("there is no function %q", id.Ident))
			e.Hint = hintFor(id.Ident)
			return finding(e)
		}
		as := defined
		if defined == file {
			as = name
		}
		if old := t.root.Lookup(as); old != nil && old.Tree != nil && old.Root != nil && !parse.IsEmptyTree(old.Root) {
			continue // the caller's own definition wins over that of what it loads
		}
		if _, err := t.root.AddParseTree(as, tree); err != nil {
			return t.syntax(file, source, err)
		}
		wanted = append(wanted, called(file, tree)...)
	}
	for _, c := range wanted {
		if err := t.load(c, source, depth); err != nil {
			return err
		}
	}
	return nil
}

// load adds the template that c calls, unless it is there.
func (t *Template) load(c call, source string, depth int) error {
	if tmpl := t.root.Lookup(c.name); tmpl != nil && tmpl.Tree != nil {
		return nil
	}
	err := error(fs.ErrNotExist)
	var resolved, text string
	if t.engine.options.Loader != nil {
		resolved, text, err = t.engine.options.Loader.Load(c.name, c.file)
	}
	if errors.Is(err, fs.ErrNotExist) {
		var known []string
		for _, tmpl := range t.root.Templates() {
			known = append(known, tmpl.Name())
		}
		e := t.place(c.file, source, int(c.pos), fmt.Sprintf("template %q is not there", c.name))
		e.Hint = "define it in this file, or name a file beside it or at the top of the templates"
		e.Hint = fault.DidYouMean(c.name, known)
		return finding(e)
	}
	if err != nil {
		return fault.Wrap(err, fault.Finding, "", fmt.Sprintf("%s: loading template %q", c.file, c.name))
	}
	return t.add(c.name, resolved, text, depth+1)
}

// Render parses and renders in one go; see [render.Engine].
func (e *Engine) Render(ctx context.Context, w io.Writer, name, source string, vars *render.Map) error {
	t, err := e.Parse(name, source)
	if err != nil {
		return err
	}
	return t.Render(ctx, w, vars)
}

// Render writes what the template gives for vars to w, all or nothing. vars may be
// nil and is not changed.
//
// A mistake in the template or a limit is a [fault.Finding] with a [render.Error]
// inside; the error of a cancelled context is that of the context.
func (t *Template) Render(ctx context.Context, w io.Writer, vars *render.Map) error {
	data, _ := plain(vars).(map[string]any)
	if data == nil {
		data = map[string]any{}
	}
	r := &run{ctx: ctx, t: t, limits: t.engine.limits, vars: data, out: output{most: t.engine.limits.OutputBytes}}
	executable, err := t.root.Clone()
	if err != nil {
		return fault.Wrap(err, fault.Internal, "", "render "+t.name)
	}
	r.root = executable.Funcs(r.functions())
	if err := r.root.ExecuteTemplate(&r.out, t.name, data); err != nil {
		return r.report(err)
	}
	if _, err := w.Write(r.out.bytes); err != nil {
		return fmt.Errorf("writing the output of %s: %w", t.name, err)
	}
	return nil
}

// plain makes what text/template can walk of a value, in parts of its own: functions
// of templates may change maps.
func plain(v any) any {
	switch v := v.(type) {
	case *render.Map:
		if v == nil {
			return nil
		}
		m := make(map[string]any, v.Len())
		for i := range v.Len() {
			key, value := v.At(i)
			m[key] = plain(value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = plain(item)
		}
		return list
	case int64:
		return int(v) // what functions take that count
	default:
		return v
	}
}

var _ render.Engine = (*Engine)(nil)
