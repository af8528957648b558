package tera

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// conformanceCase is a line of the conformance data: a template with a
// context, and what the Rust engine makes of it with maps sorted by key.
type conformanceCase struct {
	ID        string            `json:"id"`
	Src       *string           `json:"src"`
	Main      string            `json:"main"`
	Templates map[string]string `json:"templates"`
	Ctx       json.RawMessage   `json:"ctx"`
	OK        *bool             `json:"ok"`
	Out       string            `json:"out"`
}

type mapLoader map[string]string

func (l mapLoader) Load(name, _ string) (string, string, error) {
	if s, ok := l[name]; ok {
		return name, s, nil
	}
	return "", "", fs.ErrNotExist
}

func readCases(t *testing.T, file string) []conformanceCase {
	t.Helper()
	dir := os.Getenv("ULTRAFAST_CONFORMANCE")
	if dir == "" {
		_, here, _, _ := runtime.Caller(0)
		dir = filepath.Join(filepath.Dir(here), "../../../../shared/conformance")
	}
	f, err := os.Open(filepath.Join(dir, "tera", file))
	if err != nil {
		t.Skipf("no conformance data: %v", err)
	}
	defer f.Close()
	var cases []conformanceCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c conformanceCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return cases
}

func (c *conformanceCase) render(t *testing.T) (string, error) {
	t.Helper()
	vars, err := render.ParseJSONObject(c.Ctx)
	if err != nil {
		t.Fatalf("%s: %v", c.ID, err)
	}
	constant := func(v any) Function {
		return func(context.Context, map[string]any) (any, error) { return v, nil }
	}
	e := New(Options{
		Loader:       mapLoader(c.Templates),
		MapOrder:     render.SortedOrder,
		PlainFilters: true,
		Filters:      standIns(),
		Functions: map[string]Function{ // of the suite that the cases are from
			"get_number": constant(int64(10)), "get_string": constant("Hello"), "get_true": constant(true),
		},
	})
	name, src := "__tera_one_off", ""
	if c.Src != nil {
		src = *c.Src
	} else {
		name, src = c.Main, c.Templates[c.Main]
	}
	var out bytes.Buffer
	err = e.Render(context.Background(), &out, name, src, vars)
	return out.String(), err
}

// standIns are the filters of the ggen dialect as they were in the program that
// made the expected outputs, which was plain Tera: they return their input.
// What they really do is in the tables of words_test.go.
func standIns() map[string]Filter {
	same := func(_ context.Context, v any, _ map[string]any) (any, error) { return v, nil }
	table := map[string]Filter{}
	for _, name := range []string{"camel", "pascal", "pascal_case", "snake", "snake_case"} {
		table[name] = same
	}
	return table
}

// wronglyAccepted are the templates that Tera refuses and this engine renders.
var wronglyAccepted = []string{}

func TestConformanceLanguage(t *testing.T) {
	t.Parallel()
	same, ok, refused, bad := 0, 0, 0, 0
	for _, c := range readCases(t, "language.jsonl") {
		out, err := c.render(t)
		if !*c.OK {
			bad++
			switch {
			case err != nil:
				refused++
			case !slices.Contains(wronglyAccepted, c.ID):
				t.Errorf("%s: rendered %q, has to be refused", c.ID, out)
			}
			continue
		}
		ok++
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.ID, err)
		case out != c.Out:
			t.Errorf("%s:\n got %q\nwant %q", c.ID, out, c.Out)
		default:
			same++
		}
	}
	t.Logf("%d of %d the same, %d of %d refused", same, ok, refused, bad)
	if same < 284 || refused < 87 {
		t.Errorf("below the level reached: 284 the same and 87 refused")
	}
}

func TestConformanceReal(t *testing.T) {
	t.Parallel()
	same, all := 0, 0
	for _, c := range readCases(t, "real.jsonl") {
		all++
		out, err := c.render(t)
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.ID, err)
		case out != c.Out:
			t.Errorf("%s:\n got %q\nwant %q", c.ID, out, c.Out)
		default:
			same++
		}
	}
	t.Logf("%d of %d the same", same, all)
	if same < 644 {
		t.Error("below the level reached: 644 the same")
	}
}
