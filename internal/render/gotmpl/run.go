package gotmpl

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"text/template"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// run is one render.
type run struct {
	ctx    context.Context
	t      *Template
	root   *template.Template
	limits render.Limits
	vars   map[string]any
	out    output

	steps, made int64
	calls       []int // of templates that are open, by number; -1 is the template itself
	pending     int   // the call that the next template answers; 0 is none, else the number plus one
}

// limit is an error that says which bound was reached.
type limit struct{ message string }

func (l *limit) Error() string { return "limit reached: " + l.message }

func limitError(format string, a ...any) error { return &limit{fmt.Sprintf(format, a...)} }

// output is what was printed so far.
type output struct {
	bytes []byte
	most  int
}

// Write implements [io.Writer].
func (o *output) Write(p []byte) (int, error) {
	if len(p) > o.most-len(o.bytes) {
		return 0, limitError("the output has more than %d bytes", o.most)
	}
	o.bytes = append(o.bytes, p...)
	return len(p), nil
}

// spend counts n steps, at least one.
func (r *run) spend(n int64) error {
	before := r.steps
	r.steps += max(n, 1)
	if r.steps > r.limits.Steps {
		return limitError("the render takes more than %d steps", r.limits.Steps)
	}
	if before>>10 != r.steps>>10 {
		return r.ctx.Err()
	}
	return nil
}

// make counts n bytes of strings and lists that come into being.
func (r *run) make(n int64) error {
	if n < 0 || n > r.limits.StringBytes-r.made {
		return limitError("strings and lists take more than %d bytes", r.limits.StringBytes)
	}
	r.made += n
	return nil
}

// stepCost is how many steps a list of nodes counts: text/template takes about so
// much longer for one than what a step is measured by.
const stepCost = 10

// step is called at every list of nodes: a body, a branch, a round of a loop.
func (r *run) step() (string, error) { return "", r.spend(stepCost) }

// call announces the call of a template.
func (r *run) call(number int) string {
	r.pending = number + 1
	return ""
}

func (r *run) enter() (string, error) {
	if len(r.calls) > r.limits.RenderDepth {
		return "", limitError("templates call each other deeper than %d", r.limits.RenderDepth)
	}
	r.calls = append(r.calls, r.pending-1)
	r.pending = 0
	return "", nil
}

func (r *run) leave() string {
	r.calls = r.calls[:len(r.calls)-1]
	return ""
}

// print makes the text of a value, as text/template does.
func (r *run) print(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, r.spend(1)
	case nil:
		if r.t.engine.options.Lenient {
			return "", nil
		}
		return "<no value>", nil
	}
	if _, err := r.measure(reflect.ValueOf(v)); err != nil {
		return "", err
	}
	text := fmt.Sprint(v)
	return text, r.make(int64(len(text)))
}

// weigh counts what a value that is compared or looked up consists of, and returns it.
func (r *run) weigh(v reflect.Value) (reflect.Value, error) {
	if !v.IsValid() {
		return v, nil
	}
	_, err := r.measure(v)
	return v, err
}

// include renders a template into a string.
func (r *run) include(name string, data ...any) (string, error) {
	tmpl := r.root.Lookup(name)
	if tmpl == nil {
		return "", fmt.Errorf("template %q is not there; one that is not a literal must be defined in this source", name)
	}
	var dot any
	if len(data) > 0 {
		dot = data[0]
	}
	pending := r.pending
	r.pending = 0
	defer func() { r.pending = pending }()
	into := output{most: int(min(int64(r.limits.OutputBytes), r.limits.StringBytes-r.made))}
	if err := tmpl.Execute(&into, dot); err != nil {
		return "", err
	}
	return string(into.bytes), r.make(int64(len(into.bytes)))
}

// size is what a value that is printed, encoded or compared as a whole consists of.
type size struct{ nodes, bytes int64 }

// measure walks a value and refuses one that nests too deep, also because it holds
// itself, or that is larger than a render may be: the same map may stand in it any
// number of times.
func (r *run) measure(v reflect.Value) (size, error) {
	var s size
	if err := r.walk(v, &s, 0); err != nil {
		return s, err
	}
	return s, r.spend(s.nodes + s.bytes/64)
}

func (r *run) walk(v reflect.Value, s *size, depth int) error {
	if depth > r.limits.ValueDepth {
		return limitError("a value nests deeper than %d", r.limits.ValueDepth)
	}
	if s.nodes++; s.nodes > int64(r.limits.Range) || s.bytes > r.limits.StringBytes {
		return limitError("a value has more than %d parts or %d bytes", r.limits.Range, r.limits.StringBytes)
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return r.walk(v.Elem(), s, depth+1)
	case reflect.String:
		s.bytes += int64(v.Len())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			s.bytes += int64(v.Len())
			return nil
		}
		for i := range v.Len() {
			if err := r.walk(v.Index(i), s, depth+1); err != nil {
				return err
			}
		}
	case reflect.Map:
		for entries := v.MapRange(); entries.Next(); {
			s.bytes += int64(len(entries.Key().String()))
			if err := r.walk(entries.Value(), s, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// lineCount is the number of lines of a text.
func lineCount(s string) int64 { return int64(strings.Count(s, "\n")) + 1 }
