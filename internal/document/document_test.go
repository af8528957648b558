package document_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

type parseFunc func(file string, text []byte) (*document.Node, error)

func TestParse(t *testing.T) {
	t.Parallel()
	yaml, toml := parseFunc(document.ParseYAML), parseFunc(document.ParseTOML)
	tests := []struct {
		name  string
		parse parseFunc
		text  string
		want  any
	}{
		{"yaml empty", yaml, "", nil},
		{"yaml comment only", yaml, "# nothing\n", nil},
		{"yaml scalars", yaml, "a: 1\nb: 1.5\nc: true\nd: ~\ne: text\nf: \"1\"\ng:\nh: 0x1f\n",
			map[string]any{"a": int64(1), "b": 1.5, "c": true, "d": nil, "e": "text", "f": "1", "g": nil, "h": int64(31)}},
		{"yaml 1.2 booleans", yaml, "a: yes\nb: on\n", map[string]any{"a": "yes", "b": "on"}},
		{"yaml nested", yaml, "a:\n  b:\n    - x\n    - y: 1\n      z: 2\n", map[string]any{"a": map[string]any{"b": []any{"x", map[string]any{"y": int64(1), "z": int64(2)}}}}},
		{"yaml list at key column", yaml, "a:\n- x\n- y\nb: 1\n", map[string]any{"a": []any{"x", "y"}, "b": int64(1)}},
		{"yaml flow", yaml, "{a: [1, 'two', {b: c}], d: {}}", map[string]any{"a": []any{int64(1), "two", map[string]any{"b": "c"}}, "d": map[string]any{}}},
		{"yaml literal", yaml, "a: |\n  one\n  two\nb: >\n  three\n  four\nc: |-\n  five\n", map[string]any{"a": "one\ntwo\n", "b": "three four\n", "c": "five"}},
		{"yaml alias", yaml, "a: &x [1, 2]\nb: *x\n", map[string]any{"a": []any{int64(1), int64(2)}, "b": []any{int64(1), int64(2)}}},
		{"yaml tags", yaml, "a: !!str 1\nb: !!float 2\n", map[string]any{"a": "1", "b": 2.0}},
		{"yaml odd keys", yaml, "1: a\ntrue: b\n\"q k\": c\n", map[string]any{"1": "a", "true": "b", "q k": "c"}},
		{"yaml document marks", yaml, "---\na: 1\n...\n", map[string]any{"a": int64(1)}},
		{"yaml templates in quotes", yaml, "to: \"{{ name | snake }}.go\"\n", map[string]any{"to": "{{ name | snake }}.go"}},
		{"yaml CRLF", yaml, "a: 1\r\nb: two\r\n", map[string]any{"a": int64(1), "b": "two"}},
		{"yaml byte order mark", yaml, "\ufeffa: 1\n", map[string]any{"a": int64(1)}},
		{"toml byte order mark", toml, "\ufeffa = 1\n", map[string]any{"a": int64(1)}},
		{"toml empty", toml, "", map[string]any{}},
		{"toml scalars", toml, "a = 1_000\nb = 1.5e3\nc = true\nd = \"x\\ty\"\ne = 'raw\\'\nf = 0xff\ng = -7\n",
			map[string]any{"a": int64(1000), "b": 1500.0, "c": true, "d": "x\ty", "e": `raw\`, "f": int64(255), "g": int64(-7)}},
		{"toml times are strings", toml, "a = 2026-01-02\nb = 10:11:12\nc = 2026-01-02T03:04:05Z\nd = 2026-01-02 03:04:05.5\n",
			map[string]any{"a": "2026-01-02", "b": "10:11:12", "c": "2026-01-02T03:04:05Z", "d": "2026-01-02 03:04:05.5"}},
		{"toml tables", toml, "[a.b]\nx = 1\n[a]\ny = 2\n[a.b.c]\nz = 3\n", map[string]any{"a": map[string]any{"y": int64(2), "b": map[string]any{"x": int64(1), "c": map[string]any{"z": int64(3)}}}}},
		{"toml dotted keys", toml, "a.b = 1\na.c.d = 2\n", map[string]any{"a": map[string]any{"b": int64(1), "c": map[string]any{"d": int64(2)}}}},
		{"toml table below dotted", toml, "[a]\nb.c = 1\n[a.b.d]\ne = 2\n", map[string]any{"a": map[string]any{"b": map[string]any{"c": int64(1), "d": map[string]any{"e": int64(2)}}}}},
		{"toml array of tables", toml, "[[a]]\nx = 1\n[a.s]\nq = 1\n[[a]]\nx = 2\n", map[string]any{"a": []any{map[string]any{"x": int64(1), "s": map[string]any{"q": int64(1)}}, map[string]any{"x": int64(2)}}}},
		{"toml inline", toml, "a = [{x = 1, y.z = 2}, {}]\nb = {c = []}\n", map[string]any{"a": []any{map[string]any{"x": int64(1), "y": map[string]any{"z": int64(2)}}, map[string]any{}}, "b": map[string]any{"c": []any{}}}},
		{"toml multi-line string", toml, "a = \"\"\"\none\ntwo\"\"\"\n", map[string]any{"a": "one\ntwo"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, err := tt.parse("f", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := n.Any(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %#v\nwant %#v", got, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	yaml, toml := parseFunc(document.ParseYAML), parseFunc(document.ParseTOML)
	tests := []struct {
		name  string
		parse parseFunc
		text  string
		want  string
	}{
		{"yaml duplicate", yaml, "a: 1\nb: 2\na: 3\n", "f:3:1: "},
		{"yaml two documents", yaml, "a: 1\n---\nb: 2\n", "f:3:"},
		{"yaml syntax", yaml, "a: 1\nb: [1, 2\n", "f:2:"},
		{"yaml merge key", yaml, "a: &x {b: 1}\nc:\n  <<: *x\n", "f:3:3: yaml: the merge key"},
		{"yaml unknown alias", yaml, "a: *x\n", "alias *x has no anchor"},
		{"yaml alias of itself", yaml, "a: &x [*x]\n", "alias *x has no anchor"},
		{"yaml foreign tag", yaml, "a: !ruby/object x\n", "f:1:4: yaml: tag !ruby/object is not accepted"},
		{"yaml wrong tag", yaml, "a: !!int x\n", `tag !!int on a string ("x")`},
		{"yaml not finite", yaml, "a: .nan\n", "not a finite number"},
		{"yaml large integer", yaml, "a: 18446744073709551615\n", "does not fit"},
		{"yaml not UTF-8", yaml, "a: b\nc: \xff\n", "f:2:4: byte 0xff"},
		{"yaml deep flow", yaml, strings.Repeat("[", 100_000), "nested deeper"},
		{"yaml deep closed flow", yaml, strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "nested deeper"},
		{"yaml deep maps", yaml, strings.Repeat("{a: ", 5000), "nested deeper"},
		{"yaml deep block", yaml, strings.Repeat("- ", 100_000), "nested deeper"},
		{"yaml deep indentation", yaml, deepYAML(1000), "nested deeper"},
		{"yaml question marks", yaml, strings.Repeat("? ", 5000), "nested deeper"},
		{"yaml tags on tags", yaml, strings.Repeat("!!str ", 50_000), "nested deeper"},
		{"yaml billion laughs", yaml, laughs(), "more than 200000 nodes"},
		{"yaml too large", yaml, strings.Repeat("#", document.MaxSize+1), "at most 1048576"},
		{"toml duplicate", toml, "a = 1\na = 2\n", `f:2:1: key "a" occurs twice`},
		{"toml table twice", toml, "[a]\n[a]\n", `f:2:2: key "a" occurs twice`},
		{"toml table over value", toml, "a = 1\n[a.b]\n", `f:2:2: key "a" is an integer already (line 1)`},
		{"toml table over inline", toml, "a = {b = 1}\n[a.c]\n", `key "a" is a table already`},
		{"toml dotted into inline", toml, "a = {b = 1}\na.c = 2\n", `key "a" is a table already`},
		{"toml dotted into table", toml, "[a.b.c]\nz = 9\n[a]\nb.c.t = 1\n", `key "b" is a table already`},
		{"toml header over dotted", toml, "[f]\na.b = 1\n[f.a]\n", `key "a" occurs twice`},
		{"toml array of tables over list", toml, "a = []\n[[a]]\n", `f:2:3: key "a" occurs twice`},
		{"toml table over array of tables", toml, "[[a]]\n[a]\n", `key "a" occurs twice`},
		{"toml dotted over array of tables", toml, "[[a]]\nx = 1\n[b]\nc = 1\n[[a]]\nx.y = 1\nx.y = 2\n", `key "y" occurs twice`},
		{"toml syntax", toml, "a = 1\nb = = 2\n", "f:2:5: toml: "},
		{"toml leading zero", toml, "a = 017\n", "f:1:"},
		{"toml not a date", toml, "a = 2026-13-45\n", "is not a date"},
		{"toml not finite", toml, "a = inf\n", "not a finite number"},
		{"toml large integer", toml, "a = 9223372036854775808\n", "does not fit"},
		{"toml not UTF-8", toml, "a = \"\xfe\"\n", "f:1:6: byte 0xfe"},
		{"toml deep list", toml, "a = " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "nested deeper"},
		{"toml deeper list", toml, "a = " + strings.Repeat("[", 500_000), "f:1:"},
		{"toml deep inline", toml, "a = " + strings.Repeat("{a = ", 9000) + "1" + strings.Repeat("}", 9000), "nested deeper"},
		{"toml deep dotted", toml, strings.Repeat("a.", 9000) + "a = 1", "nested deeper"},
		{"toml deep header", toml, "[" + strings.Repeat("a.", 9000) + "a]", "nested deeper"},
		{"toml many values", toml, "a = [" + strings.Repeat("1,", 250_000) + "]", "more than 200000 values"},
		{"toml too large", toml, strings.Repeat("#", document.MaxSize+1), "at most 1048576"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, err := tt.parse("f", []byte(tt.text))
			if err == nil {
				t.Fatalf("accepted as %.200v", n.Any())
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to contain %q", err, tt.want)
			}
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("kind %s, want usage", fault.KindOf(err))
			}
		})
	}
}

// TestParseTime gives the parsers input that is slow for careless readers.
func TestParseTime(t *testing.T) {
	t.Parallel()
	var keys, few, tables strings.Builder
	for i := range 30_000 {
		if i < 9_000 {
			fmt.Fprintf(&few, "k%d: 1\n", i)
		}
		fmt.Fprintf(&keys, "k%d = 1\n", i)
	}
	for i := range 20_000 {
		fmt.Fprintf(&tables, "[[a.b%d]]\nx=1\n", i)
	}
	tests := []struct {
		name  string
		parse parseFunc
		text  string
	}{
		{"toml keys", document.ParseTOML, keys.String()},
		{"toml tables", document.ParseTOML, tables.String()},
		{"toml one table often", document.ParseTOML, strings.Repeat("[[a]]\nb.c = 1\n", 25_000)},
		{"yaml keys", document.ParseYAML, few.String()},
		{"yaml too many keys", document.ParseYAML, strings.ReplaceAll(keys.String(), " =", ":")},
		{"yaml quotes", document.ParseYAML, "a: \"" + strings.Repeat("x", 500_000) + "\""},
		{"yaml plain lines", document.ParseYAML, "a:\n" + strings.Repeat("  word\n", 50_000)},
		{"yaml literal", document.ParseYAML, "a: |\n" + strings.Repeat("  word\n", 50_000)},
		{"yaml list", document.ParseYAML, strings.Repeat("- x\n", 125_000)},
		{"yaml flow list", document.ParseYAML, "[" + strings.Repeat("x,", 75_000) + "x]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			_, err := tt.parse("f", []byte(tt.text))
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %s", took)
			} else {
				t.Logf("%d bytes in %s: %v", len(tt.text), took, err)
			}
		})
	}
}

func deepYAML(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func laughs() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	n, err := document.ParseYAMLAt("t.tmpl", 2, []byte("to: x\nvars:\n  name: y\n  list: [1, oops]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := n.Get("vars").Get("name").Place.String(); got != "t.tmpl:4:9" {
		t.Errorf("name is at %s", got)
	}
	if got := n.Get("vars").Get("list").Items[1].Place.String(); got != "t.tmpl:5:13" {
		t.Errorf("oops is at %s", got)
	}
	if got := n.Get("vars").Entries[0].Place.String(); got != "t.tmpl:4:3" {
		t.Errorf("key is at %s", got)
	}
	m, err := document.ParseTOML("g.toml", []byte("[a]\n  b = 'x'\n\n[[c]]\nd = [\n 1,\n \"y\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Get("a").Get("b").Place.String(); got != "g.toml:2:7" {
		t.Errorf("b is at %s", got)
	}
	if got := m.Get("c").Items[0].Get("d").Items[1].Place.String(); got != "g.toml:7:2" {
		t.Errorf("y is at %s", got)
	}
	if got, want := m.Keys(), []string{"a", "c"}; !reflect.DeepEqual(got, want) {
		t.Errorf("keys %v", got)
	}
}

// list accepts one string or several.
type list []string

func (l *list) UnmarshalDocument(n *document.Node) error {
	if n.Kind == document.String {
		*l = list{n.Text}
		return nil
	}
	var many []string
	if n.Kind != document.Seq {
		return document.Expected(n, "a string or a list of strings")
	}
	err := document.Decode(n, &many)
	*l = many
	return err
}

type sample struct {
	Name    string                    `doc:"name,required"`
	Count   int                       `doc:"count"`
	Small   uint8                     `doc:"small"`
	Ratio   float64                   `doc:"ratio"`
	On      bool                      `doc:"on"`
	Words   []string                  `doc:"words"`
	Vars    map[string]any            `doc:"vars"`
	Sub     map[string]*inner         `doc:"sub"`
	Opt     *int                      `doc:"opt"`
	Raw     *document.Node            `doc:"raw"`
	Copy    document.Node             `doc:"copy"`
	List    list                      `doc:"list"`
	Tables  []inner                   `doc:"tables"`
	Nested  map[string]map[string]int `doc:"nested"`
	Ignored string
}

type inner struct {
	Path   string `doc:"path"`
	Status int    `doc:"status"`
}

func TestDecode(t *testing.T) {
	t.Parallel()
	n, err := document.ParseTOML("f", []byte(`
name = "x"
small = 255
ratio = 2
on = true
words = ["a", "b"]
vars = {a = 1, b = [true], c = "s"}
opt = 3
raw = [1]
copy = "c"
list = "one"
[sub.k]
path = "/"
[[tables]]
status = 200
[nested.a]
b = 1
`))
	if err != nil {
		t.Fatal(err)
	}
	got := sample{Count: 7, Ignored: "kept"}
	if err := document.Decode(n, &got); err != nil {
		t.Fatal(err)
	}
	if got.Raw == nil || got.Raw.Kind != document.Seq || got.Copy.Text != "c" {
		t.Errorf("nodes: %+v %+v", got.Raw, got.Copy)
	}
	got.Raw, got.Copy = nil, document.Node{}
	three := 3
	want := sample{
		Name: "x", Count: 7, Small: 255, Ratio: 2, On: true, Words: []string{"a", "b"},
		Vars: map[string]any{"a": int64(1), "b": []any{true}, "c": "s"}, Sub: map[string]*inner{"k": {Path: "/"}},
		Opt: &three, List: list{"one"}, Tables: []inner{{Status: 200}}, Nested: map[string]map[string]int{"a": {"b": 1}}, Ignored: "kept",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want, hint string }{
		{"unknown at the top", "name = 'x'\ncuont = 1\n", `f:2:1: unknown key "cuont"`, `did you mean "count"?`},
		{"unknown in a section", "name = 'x'\n[sub.k]\npaht = ''\n", `f:3:1: unknown key "paht" in [sub.k]`, `did you mean "path"?`},
		{"unknown without a likeness", "name = 'x'\n[sub.k]\nzzzzzz = ''\n", `unknown key "zzzzzz"`, "known keys are path, status"},
		{"unknown in an array", "name = 'x'\n[[tables]]\nx = 1\n", `f:3:1: unknown key "x" in [tables]`, ""},
		{"wrong type", "name = 1\n", "f:1:8: name: expected a string, found an integer (1)", ""},
		{"wrong element", "name = 'x'\nwords = ['a', 2]\n", "f:2:15: words: expected a string, found an integer (2)", ""},
		{"string for integer", "name = 'x'\ncount = '1'\n", `count: expected an integer, found a string ("1")`, ""},
		{"number for integer", "name = 'x'\ncount = 1.0\n", `count: expected an integer, found a number (1.0)`, ""},
		{"too large", "name = 'x'\nsmall = 256\n", "small: expected an integer of at least 0 and at most 255", ""},
		{"negative", "name = 'x'\nsmall = -1\n", "small: expected an integer of at least 0", ""},
		{"table for list", "name = 'x'\nwords = {}\n", "words: expected a list, found a table", ""},
		{"scalar for table", "name = 'x'\nvars = 1\n", "vars: expected a table", ""},
		{"missing", "count = 1\n", `key "name" is missing`, "add it"},
		{"own type", "name = 'x'\nlist = 1\n", "f:2:8: expected a string or a list of strings, found an integer (1)", ""},
		{"two at once", "nmae = 'x'\ncount = ''\n", `expected an integer`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n, err := document.ParseTOML("f", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			err = document.Decode(n, new(sample))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("kind %s, want usage", fault.KindOf(err))
			}
			if tt.hint != "" && fault.HintOf(err) != tt.hint {
				t.Errorf("hint %q, want %q", fault.HintOf(err), tt.hint)
			}
		})
	}
}

func TestDecodeKnown(t *testing.T) {
	t.Parallel()
	n, err := document.ParseYAML("f", []byte("name: x\nextra: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	var s sample
	unknown, err := document.DecodeKnown(n, &s)
	if err != nil || s.Name != "x" || len(unknown) != 1 || unknown[0].Key != "extra" || unknown[0].Place.Line != 2 {
		t.Errorf("got %v, %v, %+v", unknown, err, s)
	}
	if err := document.Decode(n, s); err == nil || fault.KindOf(err) != fault.Internal {
		t.Errorf("a destination that is no pointer: %v", err)
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "plain", `"quoted" \ back`, "tab\tline\ncr\r", "\x00\x1b\x7f", "ü €", "a b.c", "key-1_x"} {
		text := document.KeyTOML(s) + " = " + document.QuoteTOML(s) + "\n"
		n, err := document.ParseTOML("f", []byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if n.Entries[0].Key != s || n.Entries[0].Value.Text != s {
			t.Errorf("%q became %q = %q", s, n.Entries[0].Key, n.Entries[0].Value.Text)
		}
	}
	if got := document.QuoteTOML("\xff"); got != "\"\uFFFD\"" {
		t.Errorf("invalid UTF-8 became %q", got)
	}
}

func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: 1", "a: [1, {b: c}]", "- &x 1\n- *x", "? a\n: b", "!!str 1", "a: |\n  x\n", "---\n...\n---", "{", "a:\n- b", "%YAML 1.2\n---\na", "a: >-\n", "\"\\x\"", "&a", "*a", "!", "<<: 1", "a: !!map {}", "[a: b]", "'", "- - - x", "\t"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) { check(t, document.ParseYAML, text) })
}

func FuzzTOML(f *testing.F) {
	for _, s := range []string{"a = 1", "[a]\nb = 1", "[[a]]\n[[a]]", "a.b.c = {d = [1, 2]}", "a = 2026-01-01T00:00:00Z", "a = '''x'''", "a = 1__0", "a = 0x", "a = 1e", "[", "a =", "a = [", "\"\" = 1", "a = 1:2", "a={b.c=1,b.d=2}", "[a]\n[a.b]\n[[a.c]]"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) { check(t, document.ParseTOML, text) })
}

// check says what must hold for any input: an error is the caller's to fix, and
// what was read has places inside the text and can be decoded.
func check(t *testing.T, parse parseFunc, text []byte) {
	n, err := parse("f", text)
	if err != nil {
		if fault.KindOf(err) != fault.Usage {
			t.Fatalf("kind %s: %v", fault.KindOf(err), err)
		}
		return
	}
	lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + 1 // YAML: both end lines
	var walk func(n *document.Node)
	walk = func(n *document.Node) {
		if n.Line < 1 || n.Line > lines+1 {
			t.Fatalf("node at line %d of %d", n.Line, lines)
		}
		for _, item := range n.Items {
			walk(item)
		}
		for i, e := range n.Entries {
			if n.Get(e.Key) != n.Entries[i].Value {
				t.Fatalf("key %q is not found", e.Key)
			}
			walk(e.Value)
		}
	}
	walk(n)
	var v any
	if err := document.Decode(n, &v); err != nil {
		t.Fatal(err)
	}
	_ = document.Decode(n, new(sample))
}

// Every error about a document says what to do.
func TestEveryErrorHasAHint(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"[a\n", "a = 1\na = 2\n", "a = 1e999\n", "\ufeffa = \n"} {
		_, err := document.ParseTOML("f", []byte(text))
		if err == nil || fault.HintOf(err) == "" {
			t.Errorf("%q: error %v with hint %q", text, err, fault.HintOf(err))
		}
	}
	// The mark before the first line is no column.
	if _, err := document.ParseTOML("f", []byte("\ufeffa = ?\n")); err == nil || !strings.HasPrefix(err.Error(), "f:1:5:") {
		t.Errorf("got %v, want it at f:1:5", err)
	}
}
