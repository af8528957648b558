package tera

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// TestLanguage renders the templates of testdata/language.jsonl, whose outputs are
// those of the Rust crate tera 1.20.1, with maps sorted by key. They stand at the
// corners of the language: odd types, limits of numbers, whitespace, scripts.
func TestLanguage(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/language.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	cases := 0
	for ; lines.Scan(); cases++ {
		var c struct {
			Template string
			Files    mapLoader
			Context  json.RawMessage
			Output   string
			Refused  bool
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		vars := render.NewMap()
		if c.Context != nil {
			if vars, err = render.ParseJSONObject(c.Context); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		e := New(Options{Loader: c.Files, PlainFilters: true, MapOrder: render.SortedOrder})
		switch err := e.Render(context.Background(), &out, "main", c.Template, vars); {
		case c.Refused && err == nil:
			t.Errorf("%s\nrendered %q, has to be refused", c.Template, out.String())
		case !c.Refused && err != nil:
			t.Errorf("%s\n%v", c.Template, err)
		case !c.Refused && out.String() != c.Output:
			t.Errorf("%s\n got %q\nwant %q", c.Template, out.String(), c.Output)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if cases < 1000 {
		t.Errorf("%d cases are too few", cases)
	}
}
