package render

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestMapKeepsOrder(t *testing.T) {
	t.Parallel()
	m := NewMap()
	want := []string{}
	for i := range 20 { // beyond the size where a hash takes over
		key := string(rune('z' - i))
		m.Set(key, i)
		want = append(want, key)
	}
	m.Set("z", "again")
	if got := strings.Join(m.Keys(InsertionOrder), ""); got != strings.Join(want, "") {
		t.Errorf("keys %q", got)
	}
	if got := strings.Join(m.Keys(SortedOrder), ""); got != "ghijklmnopqrstuvwxyz" {
		t.Errorf("sorted keys %q", got)
	}
	if v, ok := m.Get("z"); !ok || v != "again" {
		t.Errorf("z is %v, %v", v, ok)
	}
	if v, ok := m.Get("h"); !ok || v != int64(18) {
		t.Errorf("h is %v, %v", v, ok)
	}
	if _, ok := m.Get("?h"); ok {
		t.Error("a map that is no row answers ?h")
	}
	if k, v := m.Ordered(SortedOrder).At(0); k != "g" || v != int64(19) {
		t.Errorf("first is %q, %v", k, v)
	}
	c := m.Clone()
	c.Set("new", nil)
	if m.Len() != 20 || c.Len() != 21 {
		t.Errorf("lengths %d and %d", m.Len(), c.Len())
	}
	var none *Map
	if _, ok := none.Get("x"); ok || none.Len() != 0 || none.Keys(SortedOrder) != nil || none.Clone().Len() != 0 {
		t.Error("a nil map is not empty")
	}
}

func TestRowAnswersBothNames(t *testing.T) {
	t.Parallel()
	r := NewRow()
	r.Set("a", 1)
	r.Set("?b", 2)
	for _, key := range []string{"a", "?a", "b", "?b"} {
		if _, ok := r.Get(key); !ok {
			t.Errorf("no %q", key)
		}
	}
	if _, ok := r.Get("?"); ok {
		t.Error("? is there")
	}
}

func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	const src = `{"b":1,"a":[-1,18446744073709551615,1.0,1.5,1e16,1e-6,0.00001,1000000000000000.0,null,true,"\u0001\"\\\n\té/<"],"b2":{}}`
	v, err := ParseJSON([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	got, err := AppendJSON(nil, v, JSONOptions{})
	if err != nil || string(got) != src {
		t.Errorf("\n got %s, %v\nwant %s", got, err, src)
	}
	m := v.(*Map)
	if b, err := json.Marshal(m); err != nil || !strings.HasPrefix(string(b), `{"b":1,"a":[`) {
		t.Errorf("marshals to %s, %v", b, err)
	}
	got, _ = AppendJSON(nil, v, JSONOptions{Order: SortedOrder})
	if !strings.HasPrefix(string(got), `{"a":[`) {
		t.Errorf("sorted: %s", got)
	}
	pretty, _ := AppendJSON(nil, m, JSONOptions{Pretty: true})
	if !strings.HasPrefix(string(pretty), "{\n  \"b\": 1,\n  \"a\": [\n    -1,\n") || !strings.HasSuffix(string(pretty), "\"b2\": {}\n}") {
		t.Errorf("pretty: %s", pretty)
	}
}

func TestJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"", "{", `{"a":}`, "[1,]", "1 2", "1e999", strings.Repeat("[", 200) + strings.Repeat("]", 200)} {
		if v, err := ParseJSON([]byte(src)); err == nil {
			t.Errorf("%.20q gives %v", src, v)
		}
	}
	if _, err := ParseJSONObject([]byte("[]")); err == nil {
		t.Error("an array is an object")
	}
	deep := any([]any{})
	for range 200 {
		deep = []any{deep}
	}
	if _, err := AppendJSON(nil, deep, JSONOptions{}); err == nil {
		t.Error("a value 200 deep is written")
	}
	wide := any([]any{int64(1)})
	for range 40 {
		wide = []any{wide, wide}
	}
	if _, err := AppendJSON(nil, wide, JSONOptions{MaxBytes: 1000}); err != ErrTooLarge {
		t.Errorf("got %v", err)
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	v, err := From(map[string]any{"b": []string{"x"}, "a": uint8(1), "n": json.Number("1.5"), "inf": math.Inf(1), "m": map[string]string{"k": "v"}, "u": uint64(math.MaxUint64)})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := AppendJSON(nil, v, JSONOptions{})
	if want := `{"a":1,"b":["x"],"inf":null,"m":{"k":"v"},"n":1.5,"u":18446744073709551615}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := From(map[string]any{"a": []any{struct{}{}}}); err == nil || !strings.Contains(err.Error(), "a: [0]: ") {
		t.Errorf("got %v", err)
	}
}

func TestError(t *testing.T) {
	t.Parallel()
	line, column, text := Position("a\r\néb c\nd", 5)
	if line != 2 || column != 2 || text != "éb c" {
		t.Errorf("got %d:%d %q", line, column, text)
	}
	e := &Error{File: "f", Line: 2, Column: 200, Source: strings.Repeat("x", 199) + "!" + strings.Repeat("y", 500), Message: "m",
		Chain: []Call{{What: "include \"f\"", File: "g", Line: 1, Column: 3}}}
	lines := strings.Split(e.Error(), "\n")
	if len(lines) != 4 || lines[0] != "f:2:200: m" || strings.IndexByte(lines[1], '!') != strings.IndexByte(lines[2], '^') || lines[3] != "  in include \"f\" at g:1:3" {
		t.Errorf("got\n%s", e)
	}
}

func TestLimitsWithDefaults(t *testing.T) {
	t.Parallel()
	if l := (Limits{Steps: 5, Range: -1}).WithDefaults(); l.Steps != 5 || l.Range != DefaultLimits().Range || l.OutputBytes == 0 {
		t.Errorf("got %+v", l)
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5,-0,1e400,"\ud800"]}`, `null`, `"x"`, `[[[]]]`, `18446744073709551616`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := ParseJSON(data)
		if err != nil {
			return
		}
		first, err := AppendJSON(nil, v, JSONOptions{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseJSON(first)
		if err != nil {
			t.Fatalf("%s: %v", first, err)
		}
		if second, _ := AppendJSON(nil, again, JSONOptions{}); string(second) != string(first) {
			t.Errorf("%s becomes %s", first, second)
		}
	})
}
