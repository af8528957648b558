package rdfxml_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/rdfxml"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
)

const (
	mf   = "http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#"
	rdft = "http://www.w3.org/ns/rdftest#"
	// suiteBase is mf:assumedTestBase of the suite.
	suiteBase = "https://w3c.github.io/rdf-tests/rdf/rdf11/rdf-xml/"
)

// conformance returns the folder of conformance data, or skips the test.
func conformance(t *testing.T, path string) string {
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

func loadFile(path, base string) (*graph.Graph, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := graph.NewBuilder()
	load := rdfxml.Load
	switch filepath.Ext(path) {
	case ".ttl":
		load = turtle.Load
	case ".nt":
		load = turtle.LoadNTriples
	}
	if err := load(bytes.NewReader(text), graph.ReadOptions{File: filepath.Base(path), Base: base}, b); err != nil {
		return nil, err
	}
	return b.Build(), nil
}

// value returns the only object of a subject and a property, or the zero term.
func value(g *graph.Graph, s graph.ID, property string) graph.Term {
	var out graph.ID
	g.Match(s, g.Dictionary().Lookup(graph.NewIRI(property)), 0, func(_, _, o graph.ID) bool { out = o; return false })
	return g.Dictionary().Term(out)
}

func TestW3C(t *testing.T) {
	t.Parallel()
	dir := conformance(t, "w3c/rdf11/rdf-xml")
	manifest, err := loadFile(filepath.Join(dir, "manifest.ttl"), suiteBase)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	d := manifest.Dictionary()
	manifest.Match(0, d.Lookup(graph.NewIRI(mf+"action")), 0, func(test, _, input graph.ID) bool {
		kind := strings.TrimPrefix(value(manifest, test, graph.RDF+"type").Value, rdft)
		ran[kind]++
		iri := d.Term(input).Value
		t.Run(value(manifest, test, mf+"name").Value, func(t *testing.T) {
			got, err := loadFile(filepath.Join(dir, strings.TrimPrefix(iri, suiteBase)), iri)
			switch {
			case kind == "TestXMLNegativeSyntax":
				var syntax *graph.SyntaxError
				if !errors.As(err, &syntax) {
					t.Fatalf("not refused with a syntax error: %v", err)
				}
			case kind != "TestXMLEval":
				t.Fatalf("unknown kind %q", kind)
			case err != nil:
				t.Fatal(err)
			default:
				result := value(manifest, test, mf+"result").Value
				want, err := loadFile(filepath.Join(dir, strings.TrimPrefix(result, suiteBase)), "")
				if err != nil {
					t.Fatal(err)
				}
				if same, err := graph.Isomorphic(got, want); err != nil || !same {
					t.Fatalf("other graph than expected (%v)\n%s--- want\n%s", err, dump(t, got), dump(t, want))
				}
			}
		})
		return true
	})
	if ran["TestXMLEval"] < 126 || ran["TestXMLNegativeSyntax"] < 40 {
		t.Errorf("ran %v, want 126 and 40", ran)
	}
	t.Logf("rdf-xml: %v", ran)
}

func dump(t *testing.T, g *graph.Graph) string {
	t.Helper()
	var b strings.Builder
	if err := g.WriteNTriples(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
