package sparql_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
)

const (
	mf        = "http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#"
	qt        = "http://www.w3.org/2001/sw/DataAccess/tests/test-query#"
	rs        = "http://www.w3.org/2001/sw/DataAccess/tests/result-set#"
	suiteBase = "http://suite.test/"
)

// otherForm are tests that are passed with numbers compared by value, and by
// value only: they expect a lexical form that no engine can give that follows
// the standard and passes the other tests as well. A cast or an operator of
// section 17 gives a value; where the standard leaves its form open, it is the
// canonical one here.
var otherForm = map[string]string{
	"aggregates/agg-min-02": "2E-1 in the data is expected as 2.0E-1, but MIN gives a term of the group as it is" +
		" (section 18.5.1.5), and a pattern that looks for the least value would not find it otherwise",
	"aggregates/agg-avg-distinct": "AVG over doubles is expected as 1050, where agg-avg-02 has 2.0E-1",
	"aggregates/agg-sum-distinct": "SUM over doubles is expected as 2100, where agg-sum-02 has 3.21E4 and 4.0E-1",
	"cast/cast-decimal": "0E1 in the data, which the query selects as it is, is expected as 0.0, where cast-float" +
		" and cast-double expect the same term of the same data as 0E1",
	"cast/cast-float":   "one is expected in the four forms 1, 1.0, 1E0 and 1.0E0, the integers 0 and 1 as 0 and 1.0",
	"cast/cast-double":  "one is expected in the four forms 1, 1.0, 1E0 and 1.0E0, the integers 0 and 1 as 0 and 1.0",
	"csv-tsv-res/tsv03": "1.0E6 in the data is expected as 1.0e6, where csv03 expects the same term as 1.0E6",
}

// w3cTest is an entry of a manifest.
type w3cTest struct {
	id, name, kind string
	query          string
	data           []string
	graphData      []string
	result         string
}

// manifest reads a manifest and those that it includes.
func manifest(t *testing.T, dir, path string) []w3cTest {
	t.Helper()
	b := graph.NewBuilder()
	if err := load(b, filepath.Join(dir, path), suiteBase+path, ""); err != nil {
		t.Fatal(err)
	}
	g := b.Build()
	d := g.Dictionary()
	objects := func(s graph.ID, property string) []graph.ID {
		var out []graph.ID
		if p := d.Lookup(graph.NewIRI(property)); p != 0 {
			g.Match(s, p, 0, func(_, _, o graph.ID) bool { out = append(out, o); return true })
		}
		return out
	}
	text := func(s graph.ID, property string) string {
		for _, o := range objects(s, property) {
			return d.Term(o).Value
		}
		return ""
	}
	texts := func(s graph.ID, property string) []string {
		var out []string
		for _, o := range objects(s, property) {
			out = append(out, d.Term(o).Value)
		}
		return out
	}
	list := func(head graph.ID) []graph.ID {
		var out []graph.ID
		for d.Term(head).Kind == graph.Blank {
			out = append(out, objects(head, graph.RDF+"first")...)
			head = objects(head, graph.RDF+"rest")[0]
		}
		return out
	}
	var out []w3cTest
	top := d.Lookup(graph.NewIRI(suiteBase + path))
	for _, head := range objects(top, mf+"include") {
		for _, m := range list(head) {
			out = append(out, manifest(t, dir, strings.TrimPrefix(d.Term(m).Value, suiteBase))...)
		}
	}
	for _, head := range objects(top, mf+"entries") {
		for _, id := range list(head) {
			test := w3cTest{id: d.Term(id).Value, name: text(id, mf+"name"), kind: strings.TrimPrefix(text(id, graph.RDF+"type"), mf), result: text(id, mf+"result")}
			test.id = filepath.Dir(path) + "/" + test.id[strings.LastIndexAny(test.id, "#/")+1:]
			for _, action := range objects(id, mf+"action") {
				if test.query = text(action, qt+"query"); test.query == "" {
					test.query = d.Term(action).Value
				}
				test.data, test.graphData = texts(action, qt+"data"), texts(action, qt+"graphData")
			}
			out = append(out, test)
		}
	}
	return out
}

func local(dir, iri string) string { return filepath.Join(dir, strings.TrimPrefix(iri, suiteBase)) }

func TestW3C(t *testing.T) {
	t.Parallel()
	dir := conformance(t, "w3c/sparql11")
	for _, suite := range []struct {
		manifest string
		want     int
	}{{"manifest-sparql11-query.ttl", 328}, {"manifest-sparql11-results.ttl", 7}} {
		ran, failed := 0, map[string]int{}
		for _, test := range manifest(t, dir, suite.manifest) {
			ran++
			ok := t.Run(test.id, func(t *testing.T) {
				reason, byValue := otherForm[test.id]
				if byValue && test.run(t, dir, false) == nil {
					t.Errorf("passes exactly, although it is listed as one that cannot: %s", reason)
				}
				if err := test.run(t, dir, byValue); err != nil {
					t.Error(err)
				}
			})
			if !ok {
				failed[filepath.Dir(test.id)]++
			}
		}
		t.Logf("%s: %d tests, failures by folder: %v", suite.manifest, ran, failed)
		if ran < suite.want {
			t.Errorf("%s: %d tests, want %d", suite.manifest, ran, suite.want)
		}
	}
}

// run runs the test; byValue compares numbers by their values.
func (w w3cTest) run(t *testing.T, dir string, byValue bool) error {
	text, err := os.ReadFile(local(dir, w.query))
	if err != nil {
		return err
	}
	q, err := sparql.Parse(string(text), sparql.Options{File: filepath.Base(w.query), Base: w.query,
		Now: time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)})
	switch w.kind {
	case "PositiveSyntaxTest11":
		return err
	case "NegativeSyntaxTest11":
		if err == nil {
			return fmt.Errorf("not refused:\n%s", text)
		}
		return nil
	}
	if err != nil {
		return err
	}
	b := graph.NewBuilder()
	for _, data := range w.data {
		if err := load(b, local(dir, data), data, ""); err != nil {
			return err
		}
		if bytes.Contains(text, []byte("FROM")) { // FROM picks among what was supplied
			if err := load(b, local(dir, data), data, data); err != nil {
				return err
			}
		}
	}
	for _, data := range w.graphData {
		if err := load(b, local(dir, data), data, data); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	got, err := q.Run(ctx, b.Build(), sparql.Limits{})
	if err != nil {
		return err
	}
	return compareResult(t, got, local(dir, w.result), w.result, byValue)
}

// compareResult compares exactly: same terms, same variables, same rows as
// often, up to the names of blank nodes.
func compareResult(t *testing.T, got *sparql.Result, path, base string, byValue bool) error {
	expected, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.HasSuffix(path, ".csv") {
		return compareCSV(got, expected)
	}
	want := &solutions{}
	switch filepath.Ext(path) {
	case ".srx":
		want, err = readXML(bytes.NewReader(expected))
	case ".srj":
		want, err = readJSON(bytes.NewReader(expected))
	case ".tsv":
		want, err = readTSV(bytes.NewReader(expected))
	case ".ttl", ".nt":
		b := graph.NewBuilder()
		err = load(b, path, base, "")
		want = fromGraph(b.Build())
	default:
		err = fmt.Errorf("no reader for %s", path)
	}
	if err != nil {
		return err
	}
	if err := roundTrip(t, got); err != nil {
		return err
	}
	return compareSolutions(t, got, want, byValue)
}

func compareSolutions(t *testing.T, got *sparql.Result, want *solutions, byValue bool) error {
	if want.boolean != nil {
		if got.Kind != sparql.Ask || got.Boolean != *want.boolean {
			return fmt.Errorf("got %v %t, want %t", got.Kind, got.Boolean, *want.boolean)
		}
		return nil
	}
	expected, actual := want.graph, graphOf(t, got.Triples)
	if expected == nil {
		expected, actual = asGraph(want.vars, want.rows), asGraph(got.Vars, rowsOf(t, got))
	}
	if byValue {
		expected, actual = canonicalNumbers(expected), canonicalNumbers(actual)
	}
	same, err := graph.Isomorphic(actual, expected)
	if err != nil {
		return err
	}
	if !same {
		return fmt.Errorf("other result\n--- got\n%s--- want\n%s", dump(actual), dump(expected))
	}
	return nil
}

func dump(g *graph.Graph) string {
	var b strings.Builder
	if err := g.WriteNTriples(&b); err != nil {
		return err.Error()
	}
	return b.String()
}

func compareCSV(got *sparql.Result, expected []byte) error {
	var b bytes.Buffer
	if err := got.Write(&b, "csv"); err != nil {
		return err
	}
	want, err := csvRows(expected)
	if err != nil {
		return err
	}
	have, err := csvRows(b.Bytes())
	if err != nil {
		return err
	}
	sort := func(rows [][]string) { slices.SortFunc(rows[1:], slices.Compare) }
	sort(want)
	sort(have)
	if !slices.EqualFunc(have, want, slices.Equal) {
		return fmt.Errorf("got\n%v\nwant\n%v", have, want)
	}
	return nil
}

// roundTrip reads back what the writers write.
func roundTrip(t *testing.T, r *sparql.Result) error {
	if r.Kind == sparql.Construct || r.Kind == sparql.Describe {
		return nil
	}
	var b bytes.Buffer
	if err := r.Write(&b, "json"); err != nil {
		return err
	}
	back, err := readJSON(&b)
	if err != nil {
		return err
	}
	if err := compareSolutions(t, r, back, false); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	if r.Kind != sparql.Select || len(r.Vars) == 0 {
		return nil
	}
	b.Reset()
	if err := r.Write(&b, "tsv"); err != nil {
		return err
	}
	if len(r.Vars) == 1 { // an empty line is a row with nothing bound, or none
		return nil
	}
	if back, err = readTSV(&b); err != nil {
		return err
	}
	if err := compareSolutions(t, r, back, false); err != nil {
		return fmt.Errorf("TSV: %w", err)
	}
	return nil
}

// fromGraph reads a result written in the result-set vocabulary, or takes the
// graph as it is.
func fromGraph(g *graph.Graph) *solutions {
	d := g.Dictionary()
	objects := func(s graph.ID, property string) []graph.ID {
		var out []graph.ID
		if p := d.Lookup(graph.NewIRI(property)); p != 0 {
			g.Match(s, p, 0, func(_, _, o graph.ID) bool { out = append(out, o); return true })
		}
		return out
	}
	out := &solutions{graph: g}
	class := d.Lookup(graph.NewIRI(rs + "ResultSet"))
	if class == 0 {
		return out
	}
	g.Match(0, d.Lookup(graph.NewIRI(graph.RDF+"type")), class, func(s, _, _ graph.ID) bool {
		out.graph = nil
		for _, b := range objects(s, rs+"boolean") {
			truth := d.Term(b).Value == "true"
			out.boolean = &truth
		}
		for _, v := range objects(s, rs+"resultVariable") {
			out.vars = append(out.vars, d.Term(v).Value)
		}
		for _, solution := range objects(s, rs+"solution") {
			row := map[string]graph.Term{}
			for _, binding := range objects(solution, rs+"binding") {
				row[d.Term(objects(binding, rs+"variable")[0]).Value] = d.Term(objects(binding, rs+"value")[0])
			}
			out.rows = append(out.rows, row)
		}
		return true
	})
	return out
}
