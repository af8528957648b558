package turtle_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
)

const (
	mf   = "http://www.w3.org/2001/sw/DataAccess/tests/test-manifest#"
	rdft = "http://www.w3.org/ns/rdftest#"
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
	load := turtle.Load
	if strings.HasSuffix(path, ".nt") {
		load = turtle.LoadNTriples
	}
	if err := load(bytes.NewReader(text), turtle.Options{File: filepath.Base(path), Base: base}, b); err != nil {
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
	for suite, want := range map[string]int{"rdf-turtle": 313, "rdf-n-triples": 70} {
		dir := conformance(t, "w3c/rdf11/"+suite)
		base := "https://w3c.github.io/rdf-tests/rdf/rdf11/" + suite + "/"
		manifest, err := loadFile(filepath.Join(dir, "manifest.ttl"), base)
		if err != nil {
			t.Fatal(err)
		}
		ran := 0
		d := manifest.Dictionary()
		action := d.Lookup(graph.NewIRI(mf + "action"))
		manifest.Match(0, action, 0, func(test, _, input graph.ID) bool {
			ran++
			name := value(manifest, test, mf+"name").Value
			kind := strings.TrimPrefix(value(manifest, test, graph.RDF+"type").Value, rdft)
			iri := d.Term(input).Value
			file := filepath.Join(dir, strings.TrimPrefix(iri, base))
			t.Run(suite+"/"+name, func(t *testing.T) {
				got, err := loadFile(file, iri)
				switch {
				case strings.Contains(kind, "Negative"):
					var syntax *graph.SyntaxError
					if !errors.As(err, &syntax) {
						t.Fatalf("not refused with a syntax error: %v", err)
					}
				case err != nil:
					t.Fatal(err)
				case strings.HasSuffix(kind, "Eval"):
					result := value(manifest, test, mf+"result").Value
					want, err := loadFile(filepath.Join(dir, strings.TrimPrefix(result, base)), "")
					if err != nil {
						t.Fatal(err)
					}
					if same, err := graph.Isomorphic(got, want); err != nil || !same {
						t.Fatalf("other graph than expected (%v)\n%s", err, dump(t, got))
					}
				}
			})
			return true
		})
		if ran < want {
			t.Errorf("%s: %d tests, want %d", suite, ran, want)
		}
		t.Logf("%s: %d tests", suite, ran)
	}
}

func dump(t *testing.T, g *graph.Graph) string {
	var b strings.Builder
	if err := g.WriteNTriples(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
