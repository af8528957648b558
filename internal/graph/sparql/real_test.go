package sparql_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// realTerm is a term as cases.jsonl writes it.
type realTerm struct{ Type, Value, Datatype, Lang string }

func (r realTerm) term() graph.Term {
	switch r.Type {
	case "uri":
		return graph.NewIRI(r.Value)
	case "bnode":
		return graph.NewBlank("b" + r.Value)
	}
	return literal(r.Value, r.Datatype, r.Lang)
}

// notAsExpected are cases whose expectation does not follow from the standard.
var notAsExpected = map[string]string{
	".specify/queries/ontology-explorer-extract.rq":      "its << s p o >> is not in the grammar of SPARQL 1.1, section 19.8, productions [75] to [109]",
	"packs/cyberpunk-tv-platform/queries/extract-rdf.rq": "STR returns the lexical form (section 17.4.2.5), -76.7920 in the data, where -76.792 is expected",
}

// TestReal runs queries that people wrote over graphs that people wrote.
func TestReal(t *testing.T) {
	t.Parallel()
	dir := conformance(t, "sparql-real")
	text, err := os.ReadFile(filepath.Join(dir, "cases.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 64<<20)
	ran := 0
	for lines.Scan() {
		var c struct {
			ID, Query string
			Data      []string
			Rows      []map[string]realTerm
			Boolean   *bool
			Triples   [][3]realTerm
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		ran++
		t.Run(c.ID, func(t *testing.T) {
			b := graph.NewBuilder()
			for _, name := range c.Data {
				if err := load(b, filepath.Join(dir, "data", name), "file:///data/"+name, ""); err != nil {
					t.Fatal(err)
				}
			}
			if reason, ok := notAsExpected[c.ID]; ok {
				t.Skip(reason)
			}
			got := run(t, b.Build(), c.Query)
			want := &solutions{boolean: c.Boolean}
			switch {
			case c.Triples != nil:
				all := graph.NewBuilder()
				d := all.Dictionary()
				for _, triple := range c.Triples {
					if err := all.AddIDs(0, d.Intern(triple[0].term()), d.Intern(triple[1].term()), d.Intern(triple[2].term())); err != nil {
						t.Fatal(err)
					}
				}
				want.graph = all.Build()
			case c.Boolean == nil:
				want.vars = got.Vars // the cases do not say
				for _, row := range c.Rows {
					m := map[string]graph.Term{}
					for name, term := range row {
						m[name] = term.term()
					}
					want.rows = append(want.rows, m)
				}
			}
			if err := compareSolutions(t, got, want, true); err != nil {
				t.Errorf("%v\n%s", err, c.Query)
			}
		})
	}
	t.Logf("%d real queries", ran)
	if ran < 133 {
		t.Errorf("%d real queries, want 133", ran)
	}
}
