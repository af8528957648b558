package tera

import (
	"fmt"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// args are the evaluated arguments of a filter or a function.
type args struct {
	call   *call
	values []any
}

// get returns an argument; of several with one name the last counts.
func (a args) get(name string) (any, bool) {
	for i := len(a.values) - 1; i >= 0; i-- {
		if a.call.args[i].name == name {
			return a.values[i], true
		}
	}
	return nil, false
}

// arguments evaluates the arguments of a call onto the stack. The caller cuts
// the stack back to its length before.
func (r *run) arguments(c *call) (args, error) {
	if c.fixed != nil || len(c.args) == 0 {
		return args{c, c.fixed}, nil
	}
	base := len(r.stack)
	for i := range c.args {
		v, err := r.eval(c.args[i].e)
		if err != nil {
			return args{}, err
		}
		r.stack = append(r.stack, v)
	}
	return args{c, r.stack[base:]}, nil
}

func (r *run) filter(c *call, v any) (any, error) {
	fn, err := r.findFilter(c)
	if err != nil {
		return nil, err
	}
	base := len(r.stack)
	a, err := r.arguments(c)
	if err != nil {
		return nil, err
	}
	v, err = fn(r, v, a)
	r.stack = r.stack[:base]
	if err == nil {
		err = r.account(v)
	}
	if err != nil {
		return nil, r.named(c, "filter", err)
	}
	return v, nil
}

func (r *run) findFilter(c *call) (filterFunc, error) {
	o := &r.engine.options
	if len(o.Filters) > 0 {
		if own, ok := o.Filters[c.name]; ok {
			return func(r *run, v any, a args) (any, error) { return own(r.ctx, v, a.named()) }, nil
		}
	}
	if o.PlainFilters {
		if plain, ok := plainFilters[c.name]; ok {
			return plain, nil
		}
	}
	if c.filter == nil {
		known := append(keys(filters), keys(o.Filters)...)
		return nil, r.unknown(c.pos, "filter", "", c.name, append(known, "default", "safe"))
	}
	return c.filter, nil
}

// named returns the arguments as a map, for filters and functions from outside.
func (a args) named() map[string]any {
	m := make(map[string]any, len(a.values))
	for i, v := range a.values {
		m[a.call.args[i].name] = v
	}
	return m
}

// named puts the name of a filter or function before its error.
func (r *run) named(c *call, what string, err error) error {
	if ctxErr := r.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if isLimit(err) {
		return r.fail(c.pos, err)
	}
	return r.fail(c.pos, fmt.Errorf("%s %q: %w", what, c.name, err))
}

// account counts the result of a filter or a function.
func (r *run) account(v any) error {
	switch v := v.(type) {
	case string:
		return r.create(len(v))
	case []any:
		return r.create(16 * len(v))
	case *render.Map:
		return r.create(32 * v.Len())
	default:
		return r.step(1)
	}
}

func (r *run) function(c *call) (any, error) {
	base := len(r.stack)
	a, err := r.arguments(c)
	if err != nil {
		return nil, err
	}
	var v any
	if fn, ok := r.engine.options.Functions[c.name]; ok {
		v, err = fn(r.ctx, a.named())
	} else if c.fn != nil {
		v, err = c.fn(r, a)
	} else {
		known := append(keys(functions), keys(r.engine.options.Functions)...)
		return nil, r.unknown(c.pos, "function", "", c.name, known)
	}
	r.stack = r.stack[:base]
	if err == nil {
		err = r.account(v)
	}
	if err != nil {
		return nil, r.named(c, "function", err)
	}
	return v, nil
}
