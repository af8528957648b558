package generate

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func TestUnreadVariables(t *testing.T) {
	t.Parallel()
	const source = "---\nto: x\nvars: {title: T}\n---\n{{ name }} {{ title }} {% include \"part.tera\" %}"
	for name, c := range map[string]struct {
		options Options
		unit    map[string]any
		want    string // what is said and its fix, or nothing
	}{
		"flag":          {options: Options{Flags: map[string]string{"name": "x", "prot": "80"}}, want: `variable "prot" given with --vars is read by no template; did you mean "port"?`},
		"file":          {options: Options{Flags: map[string]string{"name": "x"}, VarsFile: map[string]any{"titel": 1}}, want: `variable "titel" of the vars file is read by no template; did you mean "title"?`},
		"project file":  {options: Options{Flags: map[string]string{"name": "x"}}, unit: map[string]any{"nothing_like_it": 1}, want: `variable "nothing_like_it" of [[generate]] for "p:t.txt.tmpl" is read by no template; the variables are debug, name, port, ratio, tags, title`},
		"declared":      {options: Options{Flags: map[string]string{"name": "x", "port": "80", "title": "t"}}},
		"of an include": {options: Options{Flags: map[string]string{"name": "x", "inner": "80"}}},
		"of all":        {options: Options{Flags: map[string]string{"name": "x"}, Vars: map[string]any{"elsewhere": 1}}},
	} {
		step := declaredStep(declaring, source, c.unit)
		step.Options = c.options
		step.Packages["p"].(fstest.MapFS)["templates/part.tera"] = &fstest.MapFile{Data: []byte("{{ inner | default(value=1) }}")}
		plan, err := step.Plan(t.Context(), nil, newMemory())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var said []string
		for _, f := range plan.Findings {
			said = append(said, f.What+"; "+f.Fix)
		}
		if got := strings.Join(said, "\n"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		step.Options.Strict = true
		_, err = step.Plan(t.Context(), nil, newMemory())
		if wants := c.want != ""; (fault.KindOf(err) == fault.Usage) != wants || (err != nil) != wants {
			t.Errorf("%s: strict: %v", name, err)
		}
	}
}
