package sparql_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func TestOrdered(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"SELECT ?a { ?a ?b ?c }":                                           false,
		"SELECT ?a { ?a ?b ?c } ORDER BY ?a":                               true,
		"SELECT ?a { ?a ?b ?c } GROUP BY ?a HAVING (?a < 3)\norder\nby ?a": true,
		"SELECT ?a { { SELECT ?a { ?a ?b ?c } ORDER BY ?a } }":             false,
		"SELECT ?order { ?order ?b ?c }":                                   false,
		"SELECT ?a { ?a ?b ?c } # ORDER BY ?a":                             false,
		"PREFIX order: <http://e/#ORDER> SELECT ?a { ?a order:ORDER ?c }":  false,
		"SELECT ?a { ?a ?b '} ORDER BY' }":                                 false,
		`SELECT ?a { ?a ?b "\"} ORDER" } ORDER BY ?a`:                      true,
		"SELECT ?a { ?a ?b '''it's } ORDER ''' }":                          false,
		"SELECT ?a { FILTER(?a < 3 && ?b > 1) } ORDER BY ?a":               true,
		"SELECT ?a { ?a ?b ?c }\nVALUES ?a { '{' }":                        false,
		"ASK { ?a ?b ?c }":                                                 false,
	} {
		q, err := sparql.Parse(text, sparql.Options{})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := q.Ordered(); got != want {
			t.Errorf("Ordered of %q = %v", text, got)
		}
	}
}

func TestQueryDataset(t *testing.T) {
	t.Parallel()
	q, err := sparql.Parse("PREFIX e: <http://e/> SELECT * FROM <a> FROM e:b FROM NAMED <../c> { ?a ?b ?c }", sparql.Options{Base: "http://x/y/z"})
	if err != nil {
		t.Fatal(err)
	}
	from, named := q.Dataset()
	if !slices.Equal(from, []string{"http://x/y/a", "http://e/b"}) || !slices.Equal(named, []string{"http://x/c"}) {
		t.Errorf("got %q, %q", from, named)
	}
}

func TestMaxDepth(t *testing.T) {
	t.Parallel()
	text := "SELECT * { " + strings.Repeat("{ ", 20) + strings.Repeat("} ", 20) + "}"
	if _, err := sparql.Parse(text, sparql.Options{MaxDepth: 40}); err != nil {
		t.Error(err)
	}
	_, err := sparql.Parse(text, sparql.Options{MaxDepth: 10})
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "nested deeper than 10 levels") || !strings.Contains(fault.HintOf(err), "limit of depth") {
		t.Errorf("got %v", err)
	}
}
