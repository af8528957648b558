package notation_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/notation"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// TestSameGraph writes one graph in every notation.
func TestSameGraph(t *testing.T) {
	t.Parallel()
	const want = "<http://e/s> <http://e/p> <http://e/x/é#o> .\n<http://e/s> <http://e/q> \"ü\"@de .\n"
	for name, text := range map[string]string{
		"a.ttl":    `<s> <p> <x/é#o> ; <q> "ü"@de .`,
		"a.TURTLE": `<s> <p> <x/é#o> ; <q> "ü"@de .`,
		"a.b.nt":   want,
		"a.rdf":    `<rdf:Description xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://e/" rdf:about="s"><p rdf:resource="x/é#o"/><q xml:lang="de">ü</q></rdf:Description>`,
		"a.jsonld": `{"@id":"s","http://e/p":{"@id":"x/é#o"},"http://e/q":{"@value":"ü","@language":"de"}}`,
	} {
		n, err := notation.Of(name)
		if err != nil {
			t.Fatal(err)
		}
		b := graph.NewBuilder()
		if err := n.Load(t.Context(), strings.NewReader(text), graph.ReadOptions{File: name, Base: "http://e/"}, b); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var out strings.Builder
		if err := b.Build().WriteNTriples(&out); err != nil || out.String() != want {
			t.Errorf("%s: got\n%s%v", name, &out, err)
		}
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.xml", "a.json", "ttl", "a.nt.gz", ""} {
		_, err := notation.Of(name)
		if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), ".ttl (Turtle), .nt (N-Triples), .rdf (RDF/XML) and .jsonld (JSON-LD)") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	stop := errors.New("enough")
	for _, name := range []string{"a.ttl", "a.nt", "a.rdf", "a.jsonld"} {
		n, err := notation.Of(name)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stop)
		if err := n.Load(ctx, strings.NewReader("<"), graph.ReadOptions{File: name}, graph.NewBuilder()); !errors.Is(err, stop) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
