package generate

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const declaring = `[gpack]
id = "p"
version = "1.0.0"

[variables]
name = { required = true, pattern = "[a-z-]+", description = "what it is called" }
port = { type = "integer", default = 8080, enum = [80, 8080] }
ratio = { type = "number" }
debug = { type = "boolean", default = false }
tags = { type = "list", enum = ["a", "b"] }
`

// declaredStep renders source in a package with the manifest.
func declaredStep(manifest, source string, vars map[string]any, pairs ...string) *Step {
	s := &Step{
		Units:    []Unit{{Template: "p:t.txt.tmpl", Vars: vars}},
		Packages: map[string]fs.FS{"p": fstest.MapFS{"gpack.toml": {Data: []byte(manifest)}, "templates/t.txt.tmpl": {Data: []byte(source)}}},
	}
	flags(pairs...)(s)
	return s
}

func TestDeclaredVariables(t *testing.T) {
	t.Parallel()
	const source = "---\nto: x\nvars: {port: '80'}\n---\n{{ name }} {{ port + 1 }} {% if debug %}debug{% endif %} {{ ratio | default(value=0) }} {% for t in tags | default(value=[]) %}{{ t }}{% endfor %}"
	for name, c := range map[string]struct {
		vars  map[string]any
		flags []string
		want  string // "!" and a part of the error
	}{
		"defaults":      {nil, []string{"name", "x"}, "x 81  0 "},
		"texts":         {nil, []string{"name", "x", "port", "8080", "debug", "true", "ratio", "0.5", "tags", "a, b"}, "x 8081 debug 0.5 ab"},
		"values":        {map[string]any{"name": "x", "debug": true, "ratio": 2, "tags": []any{"b"}}, nil, "x 81 debug 2 b"},
		"missing":       {nil, nil, "!needs name, which package p declares at p/gpack.toml:6"},
		"pattern":       {nil, []string{"name", "x1"}, `!variable name: "x1" does not match [a-z-]+`},
		"whole pattern": {nil, []string{"name", "x\n1"}, "!does not match"},
		"type":          {nil, []string{"name", "x", "port", "abc"}, `!variable port: "abc" is not an integer`},
		"enum":          {nil, []string{"name", "x", "port", "81"}, `!variable port: "81" is not one of 80, 8080`},
		"list enum":     {nil, []string{"name", "x", "tags", "a,c"}, `!"c" is not one of a, b`},
		"boolean":       {nil, []string{"name", "x", "debug", "yes"}, "!neither true nor false"},
		"not a number":  {nil, []string{"name", "x", "ratio", "NaN"}, "!not a number"},
		"not a string":  {map[string]any{"name": 7}, nil, "!a string is needed, not a number"},
	} {
		plan, err := declaredStep(declaring, source, c.vars, c.flags...).Plan(t.Context(), nil, newMemory())
		if part, wantsError := strings.CutPrefix(c.want, "!"); wantsError {
			if err == nil || !strings.Contains(err.Error(), part) || fault.KindOf(err) != fault.Usage {
				t.Errorf("%s: %v; want a usage error with %q", name, err, part)
			}
			continue
		}
		if err != nil || string(plan.Files[0].Content) != c.want {
			t.Errorf("%s: %v, %v; want %q", name, plan, err, c.want)
		}
	}
}

func TestDeclarationsAreChecked(t *testing.T) {
	t.Parallel()
	for declaration, want := range map[string]string{
		`x = 1`:                 "table with type",
		`x = { type = "int" }`:  `unknown type "int"`,
		`x = { pattern = "(" }`: "missing closing",
		`x = { defualt = 1 }`:   "defualt",
		`"x-y" = { }`:           "Invalid variable key",
		`x = { type = "integer", default = "a" }`: "default of variable x",
		`x = { default = "c", enum = ["a"] }`:     "is not one of a",
	} {
		manifest := "[gpack]\nid = \"p\"\nversion = \"1.0.0\"\n[variables]\n" + declaration + "\n"
		_, err := declaredStep(manifest, "x", nil).Plan(t.Context(), nil, newMemory())
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "p/gpack.toml:5") || fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v; want a finding with %q", declaration, err, want)
		}
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{"x": "[name]", "---\nvars: {name: x}\n---\nx": "[]"} {
		missing, err := declaredStep(declaring, source, nil).Missing(t.Context(), nil, newMemory())
		var names []string
		for _, v := range missing {
			names = append(names, v.Name)
		}
		if got := fmt.Sprint(names); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", source, got, err, want)
		}
	}
}
