package tera

import (
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// find returns a variable or an error that it is not defined.
func (r *run) find(p *path) (any, error) {
	if p.root == "__tera_context" && len(p.segs) == 0 {
		return r.context()
	}
	for i := range p.segs {
		if p.segs[i].sub != nil {
			return r.findDynamic(p)
		}
	}
	if v, ok := r.lookup(p); ok {
		return v, nil
	}
	return nil, &failure{t: r.at, pos: p.pos, undef: p}
}

// findDynamic replaces the variables in brackets by their values first.
func (r *run) findDynamic(p *path) (any, error) {
	q := &path{pos: p.pos, text: p.text, root: p.root, segs: make([]segment, 0, len(p.segs))}
	for _, seg := range p.segs {
		if seg.sub == nil {
			q.segs = append(q.segs, seg)
			continue
		}
		v, err := r.find(seg.sub)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case string:
			q.segs = appendKey(q.segs, v)
		case int64, uint64, float64:
			for part := range strings.SplitSeq(numberText(v), ".") {
				q.segs = append(q.segs, newSegment(part))
			}
		default:
			return nil, r.failf(seg.sub.pos, "%q is %s, which cannot be an index", seg.sub.text, render.KindOf(v))
		}
	}
	if v, ok := r.lookup(q); ok {
		return v, nil
	}
	return nil, &failure{t: r.at, pos: p.pos, undef: q}
}

// appendKey adds a key that is a string. As in Tera an empty one is nothing, and
// quotes in it divide it.
func appendKey(segs []segment, key string) []segment {
	if key != "" && !strings.ContainsAny(key, `"'`) {
		return append(segs, newSegment(key))
	}
	for part := range strings.FieldsFuncSeq(key, func(c rune) bool { return c == '"' || c == '\'' }) {
		segs = append(segs, newSegment(part))
	}
	return segs
}

// splitPointer separates the keys of a path such as a.b["c.d"].
func splitPointer(s string) []string {
	var parts []string
	var quote rune
	start := 0
	cut := func(end int) {
		if end > start {
			parts = append(parts, s[start:end])
		}
		start = end + 1
	}
	for i, c := range s {
		switch {
		case quote != 0 && c != quote:
		case c == '"' || c == '\'':
			cut(i)
			if quote != 0 {
				quote = 0
			} else {
				quote = c
			}
		case c == '.' || c == '[' || c == ']':
			cut(i)
		}
	}
	cut(len(s))
	return parts
}

// lookup finds the innermost scope in which the whole path exists. A nearer
// variable without the rest of the path does not hide one further out.
func (r *run) lookup(p *path) (any, bool) {
	for i := len(r.frames) - 1; i >= 0; i-- {
		f := &r.frames[i]
		for j := range f.vars {
			if f.vars[j].name == p.root {
				if v, ok := follow(f.vars[j].value, p.segs); ok {
					return v, true
				}
				break
			}
		}
		if f.kind == frameLoop {
			if v, ok := f.loopValue(p); ok {
				return v, true
			}
			continue
		}
		if f.kind == frameMacro || f.kind == frameRoot {
			break
		}
	}
	v, ok := r.vars.Get(p.root)
	if !ok {
		return nil, false
	}
	return follow(v, p.segs)
}

// loopValue finds the variables of a loop: key, value, and loop.index and its kind.
func (f *frame) loopValue(p *path) (any, bool) {
	switch {
	case len(p.segs) == 0 && f.key != "" && f.key == p.root:
		return f.curKey, true
	case p.root != "loop":
		if f.value == p.root {
			return follow(f.cur, p.segs)
		}
		return nil, false
	}
	switch p.tail { // a variable that is called loop is hidden by the loop's own
	case "index":
		return int64(f.i + 1), true
	case "index0":
		return int64(f.i), true
	case "first":
		return f.i == 0, true
	case "last":
		return f.i == f.n-1, true
	}
	return nil, false
}

func follow(v any, segs []segment) (any, bool) {
	for i := range segs {
		var ok bool
		if v, ok = index(v, segs[i]); !ok {
			return nil, false
		}
	}
	return v, true
}

func index(v any, seg segment) (any, bool) {
	switch v := v.(type) {
	case *render.Map:
		return v.Get(seg.key)
	case []any:
		if seg.index >= 0 && seg.index < len(v) {
			return v[seg.index], true
		}
	}
	return nil, false
}

// attribute follows a path given as text, as the filters with an attribute do.
func attribute(v any, path string) (any, bool) {
	if path == "" {
		return v, true
	}
	if !strings.ContainsAny(path, `.[]"'`) {
		return index(v, newSegment(path))
	}
	for _, part := range splitPointer(path) {
		var ok bool
		if v, ok = index(v, newSegment(part)); !ok {
			return nil, false
		}
	}
	return v, true
}

// context is everything that can be seen from here, as JSON.
func (r *run) context() (any, error) {
	all := render.NewMap()
	inMacro := false
	for i := len(r.frames) - 1; i >= 0 && !inMacro; i-- {
		f := &r.frames[i]
		for _, b := range f.vars {
			all.Set(b.name, b.value)
		}
		if f.kind == frameLoop {
			all.Set(f.value, f.cur)
			if f.key != "" {
				all.Set(f.key, f.curKey)
			}
		}
		inMacro = f.kind == frameMacro
	}
	if !inMacro {
		local := all
		all = r.vars.Clone()
		for i := range local.Len() {
			all.Set(local.At(i))
		}
	}
	sorted := render.NewMap()
	for _, k := range all.Keys(render.SortedOrder) {
		v, _ := all.Get(k)
		sorted.Set(k, v)
	}
	return r.json(sorted, true)
}
