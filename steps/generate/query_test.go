package generate

import (
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

func TestCell(t *testing.T) {
	t.Parallel()
	typed := func(text, kind string) graph.Term { return graph.NewTyped(text, graph.XSD+kind) }
	for _, c := range []struct {
		term graph.Term
		want any
	}{
		{typed("true", "boolean"), true},
		{typed("0", "boolean"), false},
		{typed("yes", "boolean"), "yes"},
		{typed("-7", "integer"), int64(-7)},
		{typed("+7", "unsignedByte"), int64(7)},
		{typed("9223372036854775808", "integer"), "9223372036854775808"},
		{typed("seven", "int"), "seven"},
		{typed("1.50", "decimal"), 1.5},
		{typed("1e3", "double"), 1000.0},
		{typed("INF", "double"), "INF"},
		{typed("NaN", "float"), "NaN"},
		{typed("2026-01-01", "date"), "2026-01-01"},
		{graph.NewTyped("x", "http://e/t"), "x"},
		{graph.NewString("text"), "text"},
		{graph.NewTagged("Text", "de"), "Text"},
		{graph.NewIRI("http://e/s"), "http://e/s"},
		{graph.NewBlank("b0"), "_:b0"},
	} {
		if got := cell(c.term); got != c.want {
			t.Errorf("cell(%s) = %#v; want %#v", c.term, got, c.want)
		}
	}
}

// TestRowOrder gives the same statements in two orders: the rows do not change.
func TestRowOrder(t *testing.T) {
	t.Parallel()
	const query = "---\nto: x\nsparql: {q: 'SELECT ?v ?w { ?s <http://e/p> ?v OPTIONAL { ?s <http://e/w> ?w } }', c: 'CONSTRUCT { ?s <http://e/c> ?v } { ?s <http://e/p> ?v }'}\n---\n" +
		"{% for r in q %}{{ r.v }}{% if r.w is defined %}+{{ r.w }}{% endif %} {% endfor %}{% for t in c %}{{ t.object }} {% endfor %}"
	statements := []string{
		`<http://e/1> <http://e/p> "10"^^<http://www.w3.org/2001/XMLSchema#integer> .`,
		`<http://e/2> <http://e/p> "9"^^<http://www.w3.org/2001/XMLSchema#integer> .`,
		`<http://e/3> <http://e/p> "9.5"^^<http://www.w3.org/2001/XMLSchema#decimal> .`,
		`<http://e/4> <http://e/p> "b" .`,
		`<http://e/5> <http://e/p> "a" .`,
		`<http://e/6> <http://e/p> "true"^^<http://www.w3.org/2001/XMLSchema#boolean> .`,
		`<http://e/7> <http://e/p> "a" .`,
		`<http://e/7> <http://e/w> "w" .`,
	}
	const want = "true 9 9.5 10 a a+w b "
	var first string
	for i := range statements {
		rotated := append(append([]string{}, statements[i:]...), statements[:i]...)
		files, _, err := one(t, query, graphs("m.nt", strings.Join(rotated, "\n")+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = files["x"]
		}
		if !strings.HasPrefix(files["x"], want) || files["x"] != first {
			t.Errorf("rows are %q; want %q first, and what they were, %q", files["x"], want, first)
		}
	}
}
