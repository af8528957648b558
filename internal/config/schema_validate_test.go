package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/document"
)

// validator is a schema as editors apply it.
func validator(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schemas()[name]))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(name)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// value is a file as the validator sees it.
func value(t *testing.T, text string) any {
	t.Helper()
	root, err := document.ParseTOML("file", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return root.Any()
}

// samples are files that must be accepted: the examples, the reference's own, and
// one that has every section.
func samples(t *testing.T) map[string][]string {
	t.Helper()
	examples, err := filepath.Glob(filepath.Join("..", "..", "examples", "*", "ggen.toml"))
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	projects := []string{full}
	for _, file := range examples {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		projects = append(projects, string(b))
	}
	return map[string][]string{
		"docs/ggen.schema.json": projects, "docs/ggen-config.schema.json": {referenceGgen}, "docs/cleanroom-config.schema.json": {referenceCleanroom},
	}
}

// open are the sections that take any key.
var open = []string{"[vars]", "[packages]", "[generate.vars]", "[cleanroom.package.env]", "[cleanroom.service.env]", "[cleanroom.package.labels]"}

// TestSchemaTakes has a validator judge real files, and those with one mistake: an
// unknown key in each section, a value of another type for each key. What it refuses
// the loader refuses, and what it accepts is loaded.
func TestSchemaTakes(t *testing.T) {
	t.Parallel()
	refused := 0
	for name, texts := range samples(t) {
		schema := validator(t, name)
		loads := func(text string) error {
			_, err := config.Load(project(t, map[string]string{"ggen.toml": "", files[name]: text}), environment(t))
			return err
		}
		for _, text := range texts {
			if err := schema.Validate(value(t, text)); err != nil {
				t.Errorf("%s: the schema refuses a good file: %v\n%s", name, err, text)
			}
			if err := loads(text); err != nil {
				t.Errorf("%s: the loader refuses a good file: %v", name, err)
			}
			for _, bad := range mistakes(text) {
				refused++
				if schema.Validate(value(t, bad.text)) == nil {
					t.Errorf("%s: the schema accepts %s", name, bad.what)
				}
				if loads(bad.text) == nil {
					t.Errorf("%s: the loader accepts %s", name, bad.what)
				}
			}
		}
	}
	if refused < 100 {
		t.Errorf("only %d mistakes were tried", refused)
	}
}

type mistake struct{ what, text string }

// mistakes returns the file with one mistake each.
func mistakes(text string) []mistake {
	out := []mistake{{"an unknown section", text + "\n[no_such_section]\n"}, {"an unknown key", "no_such_key = 1\n" + text}}
	lines := strings.SplitAfter(text, "\n")
	replaced := func(i int, with string) string {
		changed := append([]string{}, lines...)
		changed[i] = with
		return strings.Join(changed, "")
	}
	section := ""
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "[") {
			section = strings.Trim(trimmed, "[]")
			if !isOpen(section) {
				out = append(out, mistake{"an unknown key in " + section, replaced(i, line+"no_such_key = 1\n")})
			}
			continue
		}
		key, given, ok := strings.Cut(trimmed, " = ")
		if !ok || strings.HasPrefix(key, "#") || strings.HasPrefix(key, "{") || isOpen(section) && section != "packages" {
			continue
		}
		other := `"x"`
		if strings.HasPrefix(given, `"`) || strings.HasPrefix(given, "[") || strings.HasPrefix(given, "{") {
			other = "1"
		}
		if strings.HasPrefix(given, "[") && !strings.Contains(given, "]") || strings.HasPrefix(given, "{") {
			continue // goes on below, or is a table of its own
		}
		out = append(out, mistake{section + "." + key + " = " + other, replaced(i, key+" = "+other+"\n")})
	}
	return out
}

func isOpen(section string) bool {
	for _, o := range open {
		if o == "["+section+"]" {
			return true
		}
	}
	return false
}
