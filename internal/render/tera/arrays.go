package tera

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

func nth(_ *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return "", nil
	}
	if _, ok := a.get("n"); !ok {
		return nil, fmt.Errorf("the argument %q is missing", "n")
	}
	n, err := a.count("n", 0)
	if err != nil {
		return nil, err
	}
	if n < len(list) {
		return list[n], nil
	}
	return "", nil
}

func first(_ *run, v any, _ args) (any, error) {
	list, err := array(v)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0], nil
}

func last(_ *run, v any, _ args) (any, error) {
	list, err := array(v)
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[len(list)-1], nil
}

func join(r *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil {
		return nil, err
	}
	sep, err := a.str("sep", "")
	if err != nil {
		return nil, err
	}
	sep = unescape.Replace(sep)
	var buf []byte
	for i, item := range list {
		if i > 0 {
			buf = append(buf, sep...)
		}
		if buf, err = r.appendValue(buf, item, 0); err != nil {
			return nil, err
		}
		if err := r.afford(len(buf)); err != nil {
			return nil, err
		}
	}
	return string(buf), r.step(len(list))
}

// sortArray sorts by the kind of the first key: numbers by value, strings by
// bytes, false before true, arrays by length. Equal keys keep their order.
func sortArray(r *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil || len(list) == 0 {
		return v, err
	}
	path, err := a.str("attribute", "")
	if err != nil {
		return nil, err
	}
	type pair struct{ value, key any }
	pairs := make([]pair, len(list))
	for i, item := range list {
		key, ok := attribute(item, path)
		if !ok {
			return nil, fmt.Errorf("an element has no attribute %q", path)
		}
		if pairs[i], err = (pair{item, key}), sortable(pairs[0].key, key, i == 0); err != nil {
			return nil, err
		}
	}
	if err := r.step(len(list) * (1 + len(list)/1024)); err != nil {
		return nil, err
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return compareKeys(a.key, b.key) })
	sorted := make([]any, len(pairs))
	for i, p := range pairs {
		sorted[i] = p.value
	}
	return sorted, nil
}

func sortable(kind, key any, isFirst bool) error {
	if isFirst {
		kind = key
	}
	same := false
	switch kind.(type) {
	case bool:
		_, same = key.(bool)
	case string:
		_, same = key.(string)
	case []any:
		_, same = key.([]any)
	case int64, uint64, float64:
		_, same = toNumber(key)
	}
	if same {
		return nil
	}
	if isFirst {
		return fmt.Errorf("%s cannot be sorted", render.KindOf(key))
	}
	return fmt.Errorf("%s and %s cannot be sorted together", render.KindOf(kind), render.KindOf(key))
}

func compareKeys(a, b any) int {
	switch a := a.(type) {
	case string:
		return strings.Compare(a, b.(string))
	case bool:
		if b := b.(bool); a == b {
			return 0
		} else if b {
			return -1
		}
		return 1
	case []any:
		return len(a) - len(b.([]any))
	}
	x, _ := toFloat(a)
	y, _ := toFloat(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// unique keeps the first of equal elements: integers, bools, and strings, which
// differ in case only if case_sensitive.
func unique(r *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil || len(list) == 0 {
		return v, err
	}
	sensitive, err := a.boolean("case_sensitive", false)
	if err != nil {
		return nil, err
	}
	path, err := a.str("attribute", "")
	if err != nil {
		return nil, err
	}
	kind, ok := attribute(list[0], path)
	if !ok {
		return nil, fmt.Errorf("an element has no attribute %q", path)
	}
	seen := make(map[any]bool, len(list))
	out := make([]any, 0, len(list))
	for _, item := range list {
		key, ok := attribute(item, path)
		if !ok {
			continue
		}
		if key, err = uniqueKey(kind, key, sensitive); err != nil {
			return nil, err
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, item)
		}
	}
	return out, r.step(len(list))
}

func uniqueKey(kind, key any, sensitive bool) (any, error) {
	ok := false
	switch kind.(type) {
	case bool:
		_, ok = key.(bool)
	case int64:
		_, ok = key.(int64)
	case string:
		var s string
		if s, ok = key.(string); ok && !sensitive {
			key = toLower(s)
		}
	}
	if !ok {
		return nil, fmt.Errorf("integers, bools or strings of one kind are needed, this is %s", render.KindOf(key))
	}
	return key, nil
}

// groupBy returns a map from every value of the attribute to the elements that
// have it; elements without it or with null are left out.
func groupBy(r *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil {
		return nil, err
	}
	groups := render.NewMap()
	if len(list) == 0 {
		return groups, nil
	}
	path, err := a.needStr("attribute")
	if err != nil {
		return nil, err
	}
	for _, item := range list {
		value, ok := attribute(item, path)
		if !ok || value == nil {
			continue
		}
		key, ok := value.(string)
		if !ok {
			if key, err = r.json(value, false); err != nil {
				return nil, err
			}
		}
		var group []any
		if g, ok := groups.Get(key); ok {
			group = g.([]any)
		}
		groups.Set(key, append(group, item))
	}
	return groups, r.create(24 * len(list))
}

// filterArray keeps the elements whose attribute equals value, or is not null if there is none.
func filterArray(r *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil || len(list) == 0 {
		return v, err
	}
	path, err := a.needStr("attribute")
	if err != nil {
		return nil, err
	}
	want, _ := a.get("value")
	out := make([]any, 0, len(list))
	for _, item := range list {
		got, _ := attribute(item, path)
		keep := got != nil
		if want != nil {
			if keep, err = r.equal(got, want, 0); err != nil {
				return nil, err
			}
		}
		if keep {
			out = append(out, item)
		}
	}
	return out, r.step(len(list))
}

// mapArray takes an attribute of every element that has it.
func mapArray(r *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil || len(list) == 0 {
		return v, err
	}
	path, err := a.needStr("attribute")
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, len(list))
	for _, item := range list {
		if got, ok := attribute(item, path); ok && got != nil {
			out = append(out, got)
		}
	}
	return out, r.step(len(list))
}

func slice(_ *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil || len(list) == 0 {
		return v, err
	}
	from, err := sliceIndex(a, "start", 0, len(list))
	if err != nil {
		return nil, err
	}
	to, err := sliceIndex(a, "end", float64(len(list)), len(list))
	if err != nil {
		return nil, err
	}
	to = min(to, len(list))
	if from >= to {
		return []any{}, nil
	}
	return list[from:to:to], nil
}

func sliceIndex(a args, name string, fallback float64, n int) (int, error) {
	f, err := a.float(name, fallback)
	if err != nil {
		return 0, err
	}
	if f < 0 {
		f += float64(n)
	}
	return int(math.Min(math.Max(math.Trunc(f), 0), math.MaxInt32)), nil
}

func concatArray(r *run, v any, a args) (any, error) {
	list, err := array(v)
	if err != nil {
		return nil, err
	}
	with, ok := a.get("with")
	if !ok {
		return nil, fmt.Errorf("the argument %q is missing", "with")
	}
	more, ok := with.([]any)
	if !ok {
		more = []any{with}
	}
	if err := r.afford(16 * (len(list) + len(more))); err != nil {
		return nil, err
	}
	out := make([]any, 0, len(list)+len(more))
	return append(append(out, list...), more...), nil
}

func get(_ *run, v any, a args) (any, error) {
	key, err := a.needStr("key")
	if err != nil {
		return nil, err
	}
	m, ok := v.(*render.Map)
	if !ok {
		return nil, errors.New("a map is needed, this is " + render.KindOf(v))
	}
	if got, ok := m.Get(key); ok {
		return got, nil
	}
	if fallback, ok := a.get("default"); ok {
		return fallback, nil
	}
	return nil, fmt.Errorf("the map has no key %q", key)
}
