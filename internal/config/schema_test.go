package config_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/config"
)

type node struct {
	Type        string           `json:"type"`
	Description string           `json:"description"`
	Enum        []string         `json:"enum"`
	Minimum     *float64         `json:"minimum"`
	Maximum     *float64         `json:"maximum"`
	Properties  map[string]*node `json:"properties"`
	Items       *node            `json:"items"`
}

// each calls f for n and everything below it, by dotted path.
func (n *node) each(path string, f func(string, *node)) {
	f(path, n)
	for _, name := range slices.Sorted(maps.Keys(n.Properties)) {
		n.Properties[name].each(strings.TrimPrefix(path+"."+name, "."), f)
	}
	if n.Items != nil {
		n.Items.each(path+"[]", f)
	}
}

func readSchema(t *testing.T, name string) *node {
	t.Helper()
	var n node
	if err := json.Unmarshal(config.Schemas()[name], &n); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &n
}

// files are the schemas with the file that each describes.
var files = map[string]string{
	"docs/ggen.schema.json": "ggen.toml", "docs/ggen-config.schema.json": ".ggen/config.toml",
	"docs/cleanroom-config.schema.json": ".cleanroom/config.toml",
}

// boundTogether are settings whose bounds depend on each other.
var boundTogether = []string{
	"cleanroom.memory_mb", "cleanroom.cpus", "environment.default_memory_mb", "environment.default_cpus",
	"policy.max_memory_mb", "policy.max_cpus",
}

// items hold what an item of a list must have, whatever is asked of it.
var items = map[string]string{"cleanroom.service": "name = 'cache'\ncommand = ['cache']\n"}

// TestSchemaAgrees asks the loader for every word and every bound of the schemas.
func TestSchemaAgrees(t *testing.T) {
	t.Parallel()
	asked := 0
	for name, file := range files {
		readSchema(t, name).each("", func(path string, n *node) {
			accept := func(want bool, value string) {
				t.Helper()
				asked++
				text := fmt.Sprintf("%s = %s\n", path, value)
				if list, key, ok := strings.Cut(path, "[]."); ok {
					text = fmt.Sprintf("[[%s]]\n%s%s = %s\n", list, items[list], key, value)
				}
				_, err := config.Load(project(t, map[string]string{"ggen.toml": "", file: text}), nil)
				if (err == nil) != want {
					t.Errorf("%s: %s the loader says %v", file, text, err)
				}
			}
			for _, word := range n.Enum {
				accept(true, fmt.Sprintf("%q", word))
			}
			if n.Enum != nil {
				accept(false, `"no-such-word"`)
			}
			if n.Minimum == nil || slices.Contains(boundTogether, path) {
				return
			}
			accept(true, fmt.Sprint(int(*n.Maximum)))
			accept(false, fmt.Sprint(int(*n.Maximum)+1))
			if n.Type == "integer" {
				accept(true, fmt.Sprint(int(*n.Minimum)))
			}
			accept(false, fmt.Sprint(int(*n.Minimum)-1))
		})
	}
	if asked < 40 {
		t.Errorf("only %d values were asked for: does the schema still have words and bounds?", asked)
	}
}

// TestSchemaDescribes asks for a description of every key of the project file.
func TestSchemaDescribes(t *testing.T) {
	t.Parallel()
	readSchema(t, "docs/ggen.schema.json").each("", func(path string, n *node) {
		if n.Description == "" {
			t.Errorf("%q has no description", path)
		}
		if n.Type == "" {
			t.Errorf("%q has no type", path)
		}
	})
}
