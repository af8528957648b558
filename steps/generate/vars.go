package generate

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// checkFlags applies S-03 and S-04 to variables of the command line. Values never
// reach a shell; the second rule keeps the reference's promise and is lifted by allowShell.
func checkFlags(flags map[string]string, allowShell bool) error {
	for _, key := range slices.Sorted(maps.Keys(flags)) {
		if err := checkKey(key); err != nil {
			return err
		}
		value := flags[key]
		if !allowShell && (strings.Contains(value, "$(") || strings.Contains(value, "`")) {
			return fault.New(fault.Usage, "values are never run by a shell; pass --allow-shell-chars if this one is meant",
				"Variable value contains suspicious content: %s has $( or a backtick", key)
		}
	}
	return nil
}

func checkKeys(vars map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(vars)) {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	return nil
}

// checkKey accepts ASCII identifiers, so every variable can be named in a
// template (S-03, N-03).
func checkKey(key string) error {
	valid := key != "" && len(key) <= 128
	for i := 0; valid && i < len(key); i++ {
		c := key[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		valid = letter || i > 0 && c >= '0' && c <= '9'
	}
	if valid {
		return nil
	}
	return fault.New(fault.Usage, "use letters, digits and _ only, and no digit first", "Invalid variable key: %.100q", key)
}

// layers are the caller's variables, weakest first: project, unit, vars file, flags.
func (o *Options) layers(unit *Unit) []map[string]any {
	flags := make(map[string]any, len(o.Flags))
	for key, value := range o.Flags {
		flags[key] = value
	}
	return []map[string]any{o.Vars, unit.Vars, o.VarsFile, flags}
}

var layerNames = [...]string{"[vars]", "[[generate]]", "the vars file", "--vars"}

// callerVars merges the caller's variables. Keys are in sorted order.
func (o *Options) callerVars(unit *Unit) (*render.Map, error) {
	merged := map[string]any{}
	for i, layer := range o.layers(unit) {
		if err := checkKeys(layer); err != nil {
			return nil, fault.Wrap(err, fault.Usage, "", layerNames[i])
		}
		maps.Copy(merged, layer)
	}
	value, err := render.From(merged)
	if err != nil {
		return nil, fault.New(fault.Usage, "", "variable %w", err)
	}
	return value.(*render.Map), nil
}

// defaults reads the `vars` of front matter: a map, a list (var0, var1, …), one
// value (var0), or nothing. Strings in it are rendered.
func defaults(n *document.Node, expand expander) (*render.Map, error) {
	out := render.NewMap()
	if n == nil {
		return out, nil
	}
	items := []*document.Node{n}
	switch n.Kind {
	case document.Map:
		for _, e := range n.Entries {
			value, err := valueOf(e.Value, expand)
			if err != nil {
				return nil, err
			}
			out.Set(e.Key, value)
		}
		return out, nil
	case document.Seq:
		items = n.Items
	}
	for i, item := range items {
		value, err := valueOf(item, expand)
		if err != nil {
			return nil, err
		}
		out.Set("var"+strconv.Itoa(i), value)
	}
	return out, nil
}

// valueOf makes a template value of a node, with the maps in the order of the file.
func valueOf(n *document.Node, expand expander) (any, error) {
	switch n.Kind {
	case document.String:
		return expand(n)
	case document.Seq:
		list := make([]any, 0, len(n.Items))
		for _, item := range n.Items {
			value, err := valueOf(item, expand)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case document.Map:
		m := render.NewMap()
		for _, e := range n.Entries {
			value, err := valueOf(e.Value, expand)
			if err != nil {
				return nil, err
			}
			m.Set(e.Key, value)
		}
		return m, nil
	default:
		return render.From(n.Any())
	}
}

// overlay returns the variables of weak and strong; where both have one, that of strong.
func overlay(weak, strong *render.Map) *render.Map {
	out := weak.Clone()
	for i := range strong.Len() {
		out.Set(strong.At(i))
	}
	return out
}

// setUnset stores value under key unless there is a variable of that name.
func setUnset(vars *render.Map, key string, value any) {
	if _, ok := vars.Get(key); !ok {
		vars.Set(key, value)
	}
}
