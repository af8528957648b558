package tera

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// equal compares values; 1 and 1.0 are different.
func (r *run) equal(a, b any, depth int) (bool, error) {
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false, nil
		}
		for i := range a {
			if same, err := r.equalPart(a[i], b[i], depth); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case *render.Map:
		b, ok := b.(*render.Map)
		if !ok || a.Len() != b.Len() {
			return false, nil
		}
		for i := range a.Len() {
			k, v := a.At(i)
			w, ok := b.Get(k)
			if !ok {
				return false, nil
			}
			if same, err := r.equalPart(v, w, depth); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	case nil, bool, string, int64, uint64, float64:
		switch b.(type) {
		case nil, bool, string, int64, uint64, float64:
			return a == b, nil
		}
	}
	return false, nil
}

func (r *run) equalPart(a, b any, depth int) (bool, error) {
	if depth >= r.engine.limits.ValueDepth {
		return false, limitError("values nested deeper than %d", r.engine.limits.ValueDepth)
	}
	if err := r.step(1); err != nil {
		return false, err
	}
	return r.equal(a, b, depth+1)
}

func (r *run) contains(e *expr) (bool, error) {
	needle, err := r.eval(e.lhs)
	if err != nil {
		return false, err
	}
	hay, err := r.eval(e.rhs)
	if err != nil {
		return false, err
	}
	found, err := r.containsValue(hay, needle)
	if err != nil {
		return false, r.fail(e.pos, err)
	}
	return found != e.notIn, nil
}

func (r *run) containsValue(hay, needle any) (bool, error) {
	switch hay := hay.(type) {
	case []any:
		for _, v := range hay {
			if same, err := r.equalPart(v, needle, 0); same || err != nil {
				return same, err
			}
		}
		return false, nil
	case string:
		s, ok := needle.(string)
		if !ok {
			return false, fmt.Errorf("%s cannot be in a string", render.KindOf(needle))
		}
		return strings.Contains(hay, s), r.step(1 + len(hay)/256)
	case *render.Map:
		s, ok := needle.(string)
		if !ok {
			return false, fmt.Errorf("%s cannot be a key of a map", render.KindOf(needle))
		}
		_, found := hay.Get(s)
		return found, nil
	default:
		return false, fmt.Errorf("in looks into strings, arrays and maps, this is %s", render.KindOf(hay))
	}
}

// json encodes a value within the limits.
func (r *run) json(v any, pretty bool) (string, error) {
	room := min(r.created, int64(r.engine.limits.OutputBytes))
	b, err := render.AppendJSON(nil, v, render.JSONOptions{
		Order: r.engine.options.MapOrder, Pretty: pretty, MaxBytes: int(max(room, 1)),
	})
	if err != nil {
		return "", limitError("%v", err)
	}
	return string(b), r.create(len(b))
}

// truthy says whether a value counts as true in a condition.
func truthy(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		return v != ""
	case int64:
		return v != 0
	case uint64:
		return v != 0
	case float64:
		return v != 0 && !math.IsNaN(v)
	case []any:
		return len(v) > 0
	case *render.Map:
		return v.Len() > 0
	default:
		return false
	}
}

// appendValue prints a value as Tera does.
func (r *run) appendValue(dst []byte, v any, depth int) ([]byte, error) {
	switch v := v.(type) {
	case string:
		return append(dst, v...), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case nil:
		return dst, nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case float64:
		return strconv.AppendFloat(dst, v, 'f', -1, 64), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case *render.Map:
		return append(dst, "[object]"...), nil
	case []any:
		return r.appendArray(dst, v, depth)
	default:
		return dst, fault.New(fault.Internal, "", "%s cannot be printed", render.KindOf(v))
	}
}

func (r *run) appendArray(dst []byte, list []any, depth int) ([]byte, error) {
	if depth >= r.engine.limits.ValueDepth {
		return dst, limitError("an array nested deeper than %d", r.engine.limits.ValueDepth)
	}
	dst = append(dst, '[')
	for i, v := range list {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		var err error
		if dst, err = r.appendValue(dst, v, depth+1); err != nil {
			return dst, err
		}
		if err := r.step(1); err != nil {
			return dst, err
		}
		if len(dst) > r.engine.limits.OutputBytes {
			return dst, limitError("more than %d bytes of output", r.engine.limits.OutputBytes)
		}
	}
	return append(dst, ']'), nil
}

// show prints a value into a string.
func (r *run) show(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	var room [64]byte
	b, err := r.appendValue(room[:0], v, 0)
	return string(b), err
}
