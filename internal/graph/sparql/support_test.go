package sparql_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/rdfxml"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
)

// conformance returns a folder of conformance data, or skips the test.
func conformance(t testing.TB, path string) string {
	t.Helper()
	root := os.Getenv("ULTRAFAST_CONFORMANCE")
	if root == "" {
		root = filepath.Join("..", "..", "..", "..", "shared", "conformance")
	}
	dir := filepath.Join(root, filepath.FromSlash(path))
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no conformance data: %v", err)
	}
	return dir
}

// load adds a file of triples to a builder.
func load(b *graph.Builder, path, base, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	opts := turtle.Options{File: path, Base: base, Graph: name}
	switch filepath.Ext(path) {
	case ".nt":
		return turtle.LoadNTriples(f, opts, b)
	case ".rdf":
		return rdfxml.Load(f, opts, b)
	}
	return turtle.Load(f, opts, b)
}

// parseTurtle returns the graph of a document.
func parseTurtle(t testing.TB, text string) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder()
	if err := turtle.Load(strings.NewReader(text), turtle.Options{File: "data", Base: "http://example.org/"}, b); err != nil {
		t.Fatal(err)
	}
	return b.Build()
}

// run parses and runs a query.
func run(t testing.TB, g *graph.Graph, text string) *sparql.Result {
	t.Helper()
	r, err := tryRun(g, text, sparql.Limits{})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return r
}

func tryRun(g *graph.Graph, text string, limits sparql.Limits) (*sparql.Result, error) {
	q, err := sparql.Parse(text, sparql.Options{Base: "http://example.org/"})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return q.Run(ctx, g, limits)
}

// table writes a result as TSV without its header, for comparison.
func table(t testing.TB, r *sparql.Result) string {
	t.Helper()
	var b bytes.Buffer
	format := "tsv"
	if r.Kind == sparql.Ask {
		return fmt.Sprint(r.Boolean)
	}
	if r.Kind != sparql.Select {
		format = "nt"
	}
	if err := r.Write(&b, format); err != nil {
		t.Fatal(err)
	}
	if format == "nt" {
		return b.String()
	}
	_, rows, _ := strings.Cut(b.String(), "\n")
	return rows
}

// solutions is an expected result.
type solutions struct {
	boolean *bool
	vars    []string
	rows    []map[string]graph.Term
	graph   *graph.Graph // of CONSTRUCT and DESCRIBE
}

// asGraph writes solutions as a graph, in which each row is a blank node: two
// lists of rows are equal up to blank nodes and order exactly if their graphs
// are isomorphic.
func asGraph(vars []string, rows []map[string]graph.Term) *graph.Graph {
	b := graph.NewBuilder()
	d := b.Dictionary()
	add := func(s, p, o graph.Term) {
		if err := b.AddIDs(0, d.Intern(s), d.Intern(p), d.Intern(o)); err != nil {
			panic(err)
		}
	}
	for _, v := range vars {
		add(graph.NewIRI("urn:result"), graph.NewIRI("urn:var"), graph.NewString(v))
	}
	for i, row := range rows {
		node := graph.NewBlank(fmt.Sprintf("row%d", i))
		add(graph.NewIRI("urn:result"), graph.NewIRI("urn:row"), node)
		for v, term := range row {
			if term.Kind == graph.Blank {
				term.Value = "term" + term.Value
			}
			// The values of language tags are lower case (RDF 1.1 Concepts, section 3.3).
			term.Lang = strings.ToLower(term.Lang)
			add(node, graph.NewIRI("urn:var:"+v), term)
		}
	}
	return b.Build()
}

// rowsOf returns the rows of a result by name.
func rowsOf(t testing.TB, r *sparql.Result) []map[string]graph.Term {
	t.Helper()
	var out []map[string]graph.Term
	for _, row := range r.Rows {
		m := map[string]graph.Term{}
		for i, term := range row {
			if term == nil {
				continue
			}
			p, err := graph.FromRDF(term)
			if err != nil {
				t.Fatal(err)
			}
			m[r.Vars[i]] = p
		}
		out = append(out, m)
	}
	return out
}

func graphOf(t testing.TB, triples []rdf.Triple) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder()
	for _, triple := range triples {
		if err := b.Add(triple); err != nil {
			t.Fatal(err)
		}
	}
	return b.Build()
}

// readXML reads the SPARQL Query Results XML Format.
func readXML(r io.Reader) (*solutions, error) {
	var doc struct {
		Vars []struct {
			Name string `xml:"name,attr"`
		} `xml:"head>variable"`
		Boolean *bool `xml:"boolean"`
		Results []struct {
			Bindings []struct {
				Name    string  `xml:"name,attr"`
				URI     *string `xml:"uri"`
				Blank   *string `xml:"bnode"`
				Literal *struct {
					Text     string `xml:",chardata"`
					Datatype string `xml:"datatype,attr"`
					Lang     string `xml:"http://www.w3.org/XML/1998/namespace lang,attr"`
				} `xml:"literal"`
			} `xml:"binding"`
		} `xml:"results>result"`
	}
	if err := xml.NewDecoder(r).Decode(&doc); err != nil {
		return nil, err
	}
	out := &solutions{boolean: doc.Boolean}
	for _, v := range doc.Vars {
		out.vars = append(out.vars, v.Name)
	}
	for _, result := range doc.Results {
		row := map[string]graph.Term{}
		for _, b := range result.Bindings {
			switch {
			case b.URI != nil:
				row[b.Name] = graph.NewIRI(*b.URI)
			case b.Blank != nil:
				row[b.Name] = graph.NewBlank(*b.Blank)
			case b.Literal != nil:
				row[b.Name] = literal(b.Literal.Text, b.Literal.Datatype, b.Literal.Lang)
			}
		}
		out.rows = append(out.rows, row)
	}
	return out, nil
}

func literal(text, datatype, lang string) graph.Term {
	switch {
	case lang != "":
		return graph.NewTagged(text, lang)
	case datatype != "":
		return graph.NewTyped(text, datatype)
	}
	return graph.NewString(text)
}

// readJSON reads the SPARQL 1.1 Query Results JSON Format.
func readJSON(r io.Reader) (*solutions, error) {
	var doc struct {
		Head    struct{ Vars []string }
		Boolean *bool
		Results struct {
			Bindings []map[string]struct {
				Type, Value, Datatype string
				Lang                  string `json:"xml:lang"`
			}
		}
	}
	if err := json.NewDecoder(r).Decode(&doc); err != nil {
		return nil, err
	}
	out := &solutions{boolean: doc.Boolean, vars: doc.Head.Vars}
	for _, b := range doc.Results.Bindings {
		row := map[string]graph.Term{}
		for name, v := range b {
			switch v.Type {
			case "uri":
				row[name] = graph.NewIRI(v.Value)
			case "bnode":
				row[name] = graph.NewBlank(v.Value)
			default:
				row[name] = literal(v.Value, v.Datatype, v.Lang)
			}
		}
		out.rows = append(out.rows, row)
	}
	return out, nil
}

// readTSV reads the SPARQL 1.1 Query Results TSV Format; terms are read as
// those of a SPARQL query.
func readTSV(r io.Reader) (*solutions, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimRight(string(text), "\r\n"), "\n")
	out := &solutions{}
	for _, v := range strings.Split(strings.TrimRight(lines[0], "\r"), "\t") {
		out.vars = append(out.vars, strings.TrimPrefix(v, "?"))
	}
	for _, line := range lines[1:] {
		row := map[string]graph.Term{}
		for i, cell := range strings.Split(strings.TrimRight(line, "\r"), "\t") {
			switch {
			case cell == "":
			case strings.HasPrefix(cell, "_:"):
				row[out.vars[i]] = graph.NewBlank(cell[2:])
			default:
				b := graph.NewBuilder()
				if err := turtle.Load(strings.NewReader("<urn:s> <urn:p> "+cell+" ."), turtle.Options{File: "tsv"}, b); err != nil {
					return nil, err
				}
				g := b.Build()
				g.Match(0, 0, 0, func(_, _, o graph.ID) bool { row[out.vars[i]] = g.Dictionary().Term(o); return true })
			}
		}
		out.rows = append(out.rows, row)
	}
	return out, nil
}

// csvRows returns the rows of a CSV result with blank nodes made alike: CSV
// does not say which terms are blank nodes but by "_:".
func csvRows(text []byte) ([][]string, error) {
	rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	for _, row := range rows {
		for i := range row {
			if strings.HasPrefix(row[i], "_:") {
				row[i] = "_:"
			}
		}
	}
	return rows, err
}

// canonicalNumbers returns the graph with every number in one form.
func canonicalNumbers(g *graph.Graph) *graph.Graph {
	b := graph.NewBuilder()
	d := g.Dictionary()
	g.Match(0, 0, 0, func(s, p, o graph.ID) bool {
		t := d.Term(o)
		switch strings.TrimPrefix(t.Datatype, graph.XSD) {
		case "decimal", "float", "double", "integer":
			if r, ok := new(big.Rat).SetString(t.Value); ok {
				t.Value = r.FloatString(9)
			}
		}
		into := b.Dictionary()
		if err := b.AddIDs(0, into.Intern(d.Term(s)), into.Intern(d.Term(p)), into.Intern(t)); err != nil {
			panic(err)
		}
		return true
	})
	return b.Build()
}

func parseInto(t testing.TB, b *graph.Builder, text, name string) {
	t.Helper()
	if err := turtle.Load(strings.NewReader(text), turtle.Options{File: "data", Graph: name}, b); err != nil {
		t.Fatal(err)
	}
}

func parseTurtleInto(t testing.TB, b *graph.Builder, text []byte) *graph.Graph {
	t.Helper()
	parseInto(t, b, string(text), "")
	return b.Build()
}
