package tera

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func limitError(format string, args ...any) error {
	return &limit{fmt.Sprintf("limit reached: "+format, args...)}
}

// limit is an error that no condition swallows.
type limit struct{ message string }

func (l *limit) Error() string { return l.message }

// failure is an error with the place where it happened. Its message is made
// when it is reported: conditions swallow many of them.
type failure struct {
	t     *Template
	pos   int32
	err   error // what happened, or nil:
	undef *path // this variable is not defined
}

func (f *failure) Error() string {
	if f.undef != nil {
		return fmt.Sprintf("variable %q is not defined", f.undef.text)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

// fail gives err a place, unless it has one.
func (r *run) fail(pos int32, err error) error {
	if f, ok := err.(*failure); ok {
		return f
	}
	return &failure{t: r.at, pos: pos, err: err}
}

func (r *run) failf(pos int32, format string, args ...any) error {
	return &failure{t: r.at, pos: pos, err: fmt.Errorf(format, args...)}
}

// hinted is an error that knows what to do.
type hinted struct {
	error
	hint string
}

// report makes the error that a caller sees.
func (r *run) report(err error) error {
	if ctxErr := r.ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
		return fmt.Errorf("rendering %s: %w", r.main.name, ctxErr)
	}
	f, ok := err.(*failure)
	if !ok {
		f = &failure{t: r.at, err: err}
	}
	var inner *fault.Error
	if errors.As(f.err, &inner) && inner.Kind != fault.Finding {
		return fault.Wrap(f.err, inner.Kind, inner.Hint, "rendering "+r.main.name)
	}
	hint := ""
	var h *hinted
	switch {
	case f.undef != nil:
		hint = r.suggest(f.undef)
	case errors.As(f.err, &h):
		hint = h.hint
	case inner != nil:
		hint = inner.Hint
	}
	e := place2error(f.t.name, f.t.src, int(f.pos), f.Error(), hint)
	e.Err = f.err
	var deeper *render.Error
	if errors.As(f.err, &deeper) { // an included template that cannot be read
		e = &render.Error{File: deeper.File, Line: deeper.Line, Column: deeper.Column, Source: deeper.Source,
			Message: deeper.Message, Hint: deeper.Hint, Err: deeper.Err}
		line, column, _ := render.Position(f.t.src, int(f.pos))
		e.Chain = append(deeper.Chain, render.Call{What: "include", File: f.t.name, Line: line, Column: column})
	}
	for i := len(r.frames) - 1; i >= 0; i-- {
		c := &r.frames[i]
		if c.what == "" {
			continue
		}
		line, column, _ := render.Position(c.from.src, int(c.pos))
		e.Chain = append(e.Chain, render.Call{What: c.what, File: c.from.name, Line: line, Column: column})
	}
	return finding(e)
}

// suggest finds the nearest name that is defined to the part of p that is not.
func (r *run) suggest(p *path) string {
	known := r.names()
	word := p.root
	otherwise := fmt.Sprintf("set it, in --vars-file for example, or write {{ %s | default(value=\"…\") }}", p.text)
	if v, ok := r.lookup(&path{root: p.root}); ok {
		known, word = nil, ""
		for _, seg := range p.segs {
			next, ok := index(v, seg)
			if !ok {
				if m, isMap := v.(*render.Map); isMap {
					known, word = m.Keys(render.SortedOrder), seg.key
					otherwise = hasKeys(known)
				}
				break
			}
			v = next
		}
	}
	if name, ok := nearest(word, known); ok {
		return fmt.Sprintf("did you mean %q?", name)
	}
	return otherwise
}

// hasKeys lists what a map has.
func hasKeys(keys []string) string {
	const most = 12
	switch {
	case len(keys) == 0:
		return "the map is empty"
	case len(keys) > most:
		return fmt.Sprintf("the map has %s and %d more", strings.Join(keys[:most], ", "), len(keys)-most)
	}
	return "the map has " + strings.Join(keys, ", ")
}

func (r *run) names() []string {
	names := r.vars.Keys(render.SortedOrder)
	for i := len(r.frames) - 1; i >= 0; i-- {
		f := &r.frames[i]
		for _, b := range f.vars {
			names = append(names, b.name)
		}
		if f.kind == frameLoop {
			names = append(names, f.value, "loop")
			if f.key != "" {
				names = append(names, f.key)
			}
		}
		if f.kind == frameMacro {
			break
		}
	}
	return names
}

// unknown reports a name that does not exist, and the nearest that does.
func (r *run) unknown(pos int32, what, prefix, name string, known []string) error {
	sort.Strings(known)
	known = slices.Compact(known)
	hint := fault.DidYouMean(name, known)
	return r.fail(pos, &hinted{fmt.Errorf("there is no %s %q", what, prefix+name), hint})
}
