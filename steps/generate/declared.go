package generate

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Variable is a variable that a package declares, in [variables] of its manifest
// (spec N-02).
type Variable struct {
	Name string `json:"name"`
	// Type is "string", the default, "integer", "number", "boolean" or "list" (of strings).
	Type        string `json:"type"`
	Description string `json:"description,omitempty"`
	// Required asks for a value; a variable with a Default has one.
	Required bool `json:"required,omitempty"`
	Default  any  `json:"default,omitempty"`
	// Enum are the values that are accepted, as text. Pattern is a regular expression
	// (RE2) that the whole text matches. Both hold for every item of a list.
	Enum    []string `json:"enum,omitempty"`
	Pattern string   `json:"pattern,omitempty"`

	where   finding.Place
	pattern *regexp.Regexp
}

var variableTypes = []string{"string", "integer", "number", "boolean", "list"}

// declared reads [variables] of a manifest.
func declared(manifest *document.Node) ([]Variable, error) {
	n := manifest.Get("variables")
	if n == nil {
		return nil, nil
	}
	if n.Kind != document.Map {
		return nil, document.Expected(n, "a table for every variable")
	}
	var all []Variable
	for _, e := range n.Entries {
		v, err := declare(e)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func declare(e document.Entry) (Variable, error) {
	v := Variable{Name: e.Key, where: e.Place}
	if err := checkKey(e.Key); err != nil {
		return v, fault.New(fault.Finding, fault.HintOf(err), "%s: %w", e.Place, err)
	}
	var table struct {
		Type        string         `doc:"type"`
		Description string         `doc:"description"`
		Required    bool           `doc:"required"`
		Pattern     string         `doc:"pattern"`
		Enum        []string       `doc:"enum"`
		Default     *document.Node `doc:"default"`
	}
	if e.Value.Kind != document.Map {
		return v, document.Expected(e.Value, "a table with type, description, required, default, enum or pattern")
	}
	err := document.Decode(withTexts(e.Value), &table)
	if err != nil {
		return v, err
	}
	v.Type, v.Description, v.Required, v.Pattern, v.Enum = table.Type, table.Description, table.Required, table.Pattern, table.Enum
	if v.Type == "" {
		v.Type = "string"
	}
	if !slices.Contains(variableTypes, v.Type) {
		return v, document.Errorf(e.Value.Get("type"), "the types are "+strings.Join(variableTypes, ", "), "variable %s has the unknown type %q", v.Name, clip(v.Type))
	}
	if v.Pattern != "" {
		if v.pattern, err = regexp.Compile(`^(?:` + v.Pattern + `)$`); err != nil {
			return v, document.Errorf(e.Value.Get("pattern"), "", "variable %s: %w", v.Name, err)
		}
	}
	if n := table.Default; n != nil {
		value, err := render.From(n.Any())
		if err == nil {
			v.Default, err = v.typed(value)
		}
		if err != nil {
			return v, document.Errorf(n, "change the default, or what it is held against", "default of %w", err)
		}
	}
	return v, nil
}

// withTexts makes texts of the numbers in enum: an enumeration is compared as text.
func withTexts(n *document.Node) *document.Node {
	enum := n.Get("enum")
	if enum == nil || enum.Kind != document.Seq {
		return n
	}
	out := &document.Node{Kind: n.Kind, Place: n.Place}
	for _, e := range n.Entries {
		if e.Key == "enum" {
			list := &document.Node{Kind: document.Seq, Place: enum.Place}
			for _, item := range enum.Items {
				if item.Kind == document.Int || item.Kind == document.Float || item.Kind == document.Bool {
					item = &document.Node{Kind: document.String, Place: item.Place, Text: item.Text}
				}
				list.Items = append(list.Items, item)
			}
			e.Value = list
		}
		out.Entries = append(out.Entries, e)
	}
	return out
}

// Parse returns the value of a text that a person typed, or why it is none.
func (v *Variable) Parse(text string) (any, error) { return v.typed(text) }

// typed returns value in the type of the variable. A text is read as that type.
func (v *Variable) typed(value any) (any, error) {
	refuse := func(format string, a ...any) error {
		return fault.New(fault.Usage, v.wanted(), "variable %s: "+format, append([]any{v.Name}, a...)...)
	}
	text, isText := value.(string)
	switch v.Type {
	case "list":
		return v.list(value, refuse)
	case "string":
		if !isText {
			return nil, refuse("a string is needed, not %s", render.KindOf(value))
		}
	case "integer":
		number, err := integer(value)
		if err != nil {
			return nil, refuse("%s is not an integer", shown(value))
		}
		value, text = number, strconv.FormatInt(number, 10)
	case "number":
		number, err := number(value)
		if err != nil {
			return nil, refuse("%s is not a number", shown(value))
		}
		if value, text = number, fmt.Sprint(number); isText {
			text = strings.TrimSpace(fmt.Sprint(number))
		}
	case "boolean":
		switch b, isBool := value.(bool); {
		case isBool:
			text = strconv.FormatBool(b)
		case text == "true" || text == "false":
			value = text == "true"
		default:
			return nil, refuse("%s is neither true nor false", shown(value))
		}
	}
	return value, v.accepts(text, refuse)
}

// wanted says what a value has to be, what it is for, and where that is written.
func (v *Variable) wanted() string {
	want := map[string]string{
		"string": "give a text", "integer": "give a whole number, as 8080", "number": "give a number, as 1.5",
		"boolean": "give true or false", "list": "give texts with commas between them, as a,b",
	}[v.Type]
	switch {
	case len(v.Enum) > 0:
		want = "give one of " + strings.Join(v.Enum, ", ")
	case v.Pattern != "":
		want = "give a text that matches " + v.Pattern + " from its first to its last letter"
	}
	if v.Description != "" {
		want += ": " + v.Description
	}
	if v.where.File != "" {
		want += "; it is declared at " + v.where.String()
	}
	return want
}

// list returns a list of texts, which one text divides by commas.
func (v *Variable) list(value any, refuse func(string, ...any) error) (any, error) {
	items, isList := value.([]any)
	if text, ok := value.(string); ok {
		isList = true
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	}
	if !isList {
		return nil, refuse("a list is needed, not %s", render.KindOf(value))
	}
	for _, item := range items {
		text, ok := item.(string)
		if !ok {
			return nil, refuse("a list of strings is needed; it has %s", render.KindOf(item))
		}
		if err := v.accepts(text, refuse); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (v *Variable) accepts(text string, refuse func(string, ...any) error) error {
	if len(v.Enum) > 0 && !slices.Contains(v.Enum, text) {
		return refuse("%q is not one of %s", clip(text), strings.Join(v.Enum, ", "))
	}
	if v.pattern != nil && !v.pattern.MatchString(text) {
		return refuse("%q does not match %s", clip(text), v.Pattern)
	}
	return nil
}

func shown(value any) string {
	if text, ok := value.(string); ok {
		return strconv.Quote(clip(text))
	}
	return render.KindOf(value)
}

func integer(value any) (int64, error) {
	switch value := value.(type) {
	case int64:
		return value, nil
	case float64:
		if value == math.Trunc(value) && math.Abs(value) < 1<<53 {
			return int64(value), nil
		}
	case string:
		return strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	}
	return 0, strconv.ErrSyntax
}

func number(value any) (any, error) {
	switch value := value.(type) {
	case int64, float64:
		return value, nil
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return nil, strconv.ErrSyntax
		}
		return f, nil
	}
	return nil, strconv.ErrSyntax
}

// typed returns vars with the declared ones in their types.
func (p *pack) typed(vars *render.Map) (*render.Map, error) {
	if len(p.variables) == 0 {
		return vars, nil
	}
	out := vars.Clone()
	for i := range p.variables {
		v := &p.variables[i]
		value, ok := out.Get(v.Name)
		if !ok {
			continue
		}
		typed, err := v.typed(value)
		if err != nil {
			return nil, err
		}
		out.Set(v.Name, typed)
	}
	return out, nil
}

// defaults are those of the package, the weakest of all.
func (p *pack) defaults() *render.Map {
	out := render.NewMap()
	for i := range p.variables {
		if v := &p.variables[i]; v.Default != nil {
			out.Set(v.Name, v.Default)
		}
	}
	return out
}

// missing returns the required variables that nobody has set.
func (p *pack) missing(isSet func(name string) bool) []Variable {
	var out []Variable
	for _, v := range p.variables {
		if v.Required && v.Default == nil && !isSet(v.Name) {
			out = append(out, v)
		}
	}
	return out
}

func (j *job) requireAll(vars *render.Map) error {
	missing := j.template.pack.missing(func(name string) bool { _, ok := vars.Get(name); return ok })
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, v := range missing {
		names = append(names, v.Name)
	}
	hint := "pass --vars " + names[0] + "=…"
	if missing[0].Description != "" {
		hint += ": " + missing[0].Description
	}
	if other := misspelt(names[0], j.caller, j.template.pack.variables); other != "" {
		hint = fmt.Sprintf("%q is given, which the package does not declare; did you mean %q?", other, names[0])
	}
	return fault.New(fault.Usage, hint, "template %s needs %s, which package %s declares at %s", j.template.name, strings.Join(names, ", "), j.template.pack.id, missing[0].where)
}

// Missing returns the variables that the packages of the units require and nobody
// has set, for a caller that can ask a person. Each is returned once.
func (s *Step) Missing(ctx context.Context, in state.State, blobs state.Blobs) ([]Variable, error) {
	jobs, err := s.jobs(ctx, in, blobs)
	if err != nil {
		return nil, err
	}
	var out []Variable
	for _, j := range jobs {
		own := j.template.header.vars
		missing := j.template.pack.missing(func(name string) bool {
			_, ok := j.caller.Get(name)
			return ok || own.Get(name) != nil || slices.ContainsFunc(out, func(v Variable) bool { return v.Name == name })
		})
		out = append(out, missing...)
	}
	return out, nil
}
