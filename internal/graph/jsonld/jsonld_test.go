package jsonld_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/jsonld"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func load(t testing.TB, text string, opts jsonld.Options) (*graph.Graph, error) {
	t.Helper()
	b := graph.NewBuilder()
	if err := jsonld.Load(t.Context(), strings.NewReader(text), opts, b); err != nil {
		return nil, err
	}
	return b.Build(), nil
}

// lines returns the triples of an index, in the order of their numbers.
func lines(g *graph.Graph, x *graph.Index) string {
	var out []byte
	d := g.Dictionary()
	x.Match(0, 0, 0, func(s, p, o graph.ID) bool {
		out = graph.AppendTriple(out, d.Term(s), d.Term(p), d.Term(o))
		return true
	})
	return strings.NewReplacer("http://e/", "e:", graph.RDF, "rdf:", graph.XSD, "xsd:").Replace(string(out))
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"values", `{"@id":"s","http://e/p":["x",1,1.5,true,-0,1e3,12345678901234567890,{"@value":"d","@language":"de"},{"@value":"2","@type":"http://e/t"},{"@value":7,"@type":"http://www.w3.org/2001/XMLSchema#double"},null]}`,
			"<e:s> <e:p> \"x\" .\n<e:s> <e:p> \"1\"^^<xsd:integer> .\n<e:s> <e:p> \"1.5E0\"^^<xsd:double> .\n<e:s> <e:p> \"true\"^^<xsd:boolean> .\n<e:s> <e:p> \"0\"^^<xsd:integer> .\n" +
				"<e:s> <e:p> \"1000\"^^<xsd:integer> .\n<e:s> <e:p> \"12345678901234567890\"^^<xsd:integer> .\n<e:s> <e:p> \"d\"@de .\n<e:s> <e:p> \"2\"^^<e:t> .\n<e:s> <e:p> \"7.0E0\"^^<xsd:double> .\n"},
		{"context", `{"@context":{"e":"http://e/","name":"e:name","knows":{"@id":"e:knows","@type":"@id"}},"@id":"#Müller","@type":"e:C","name":"x","knows":["", "é"]}`,
			"<e:doc#Müller> <rdf:type> <e:C> .\n<e:doc#Müller> <e:knows> <e:doc> .\n<e:doc#Müller> <e:knows> <e:é> .\n<e:doc#Müller> <e:name> \"x\" .\n"},
		{"base", `{"@context":{"@base":"http://e/x/","p":"http://e/p"},"@id":"é","p":{"@id":"../y"}}`, "<e:x/é> <e:p> <e:y> .\n"},
		{"no base", `{"@context":{"@base":null,"p":"http://e/p"},"@id":"s","p":{"@id":"http://e/o","p":1}}`, "<e:o> <e:p> \"1\"^^<xsd:integer> .\n"},
		{"blank nodes and lists", `[{"@id":"_:x","http://e/p":{"@list":[{"@id":"_:x"},{"@list":[]},{"http://e/q":"v"}]}}]`,
			"_:uS_1 <e:p> _:lS_1 .\n_:lS_1 <rdf:first> _:uS_1 .\n_:lS_1 <rdf:rest> _:lS_2 .\n_:lS_2 <rdf:first> <rdf:nil> .\n_:lS_2 <rdf:rest> _:lS_3 .\n_:lS_3 <rdf:first> _:bS_4 .\n_:lS_3 <rdf:rest> <rdf:nil> .\n_:bS_4 <e:q> \"v\" .\n"},
		{"reverse and included", `{"@id":"s","@reverse":{"http://e/p":{"@id":"o","http://e/q":1}},"@included":{"@id":"i","http://e/p":2}}`,
			"<e:o> <e:p> <e:s> .\n<e:o> <e:q> \"1\"^^<xsd:integer> .\n<e:i> <e:p> \"2\"^^<xsd:integer> .\n"},
		{"json", `{"@context":{"j":{"@id":"http://e/j","@type":"@json"}},"@id":"s","j":{"b":[1.0,1e30,"\u000b\"€"],"a":{"@context":"http://x/"}}}`,
			"<e:s> <e:j> \"{\\\"a\\\":{\\\"@context\\\":\\\"http://x/\\\"},\\\"b\\\":[1,1e+30,\\\"\\\\u000b\\\\\\\"€\\\"]}\"^^<rdf:JSON> .\n"},
		{"a reverse that looks like a keyword", `{"@context":{"@vocab":"http://e/","p":{"@reverse":"@p"}},"@id":"s","p":1}`, "<e:s> <e:p> \"1\"^^<xsd:integer> .\n"},
		{"two fragments", `{"@context":{"@vocab":"http://e/v#"},"@id":"s","#p":1,"p":2}`, "<e:s> <e:v#p> \"2\"^^<xsd:integer> .\n"},
		{"not well-formed", `{"@id":"http://e/a b","http://e/p":1,"_:p":2,"http://e/q":{"@value":"x","@language":"a b"},"plain":3}`, ""},
		{"empty", `{}`, ""}, {"a text", `"http://e/x"`, ""}, {"mark", "\ufeff[]", ""},
	} {
		for range 20 { // the order of maps may not matter
			g, err := load(t, test.text, jsonld.Options{Base: "http://e/doc", Scope: "S"})
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				break
			}
			if got := lines(g, g.Index); got != test.want {
				t.Errorf("%s: got\n%swant\n%s", test.name, got, test.want)
				break
			}
		}
	}
}

func TestNamedGraphs(t *testing.T) {
	t.Parallel()
	const text = `[{"@id":"g","@graph":{"@id":"s","http://e/p":1},"http://e/of":2},{"@graph":[{"@id":"s","http://e/p":3}],"http://e/q":4}]`
	g, err := load(t, text, jsonld.Options{Base: "http://e/", Scope: "S"})
	if err != nil {
		t.Fatal(err)
	}
	got := lines(g, g.Index)
	for _, name := range g.Names() {
		got += g.Dictionary().Term(name).String() + "\n" + lines(g, g.Named(name))
	}
	const want = "<e:g> <e:of> \"2\"^^<xsd:integer> .\n_:bS_1 <e:q> \"4\"^^<xsd:integer> .\n" +
		"<http://e/g>\n<e:s> <e:p> \"1\"^^<xsd:integer> .\n_:bS_1\n<e:s> <e:p> \"3\"^^<xsd:integer> .\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if _, err := load(t, text, jsonld.Options{File: "f", Base: "http://e/", Graph: "http://e/other"}); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "named graph") {
		t.Errorf("named graphs in a named graph: %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text, message string
		placed        bool
	}{
		{"{\n \"@context\": \"https://schema.org/\",\n \"name\": \"x\"}", "f:2:14: the context \"https://schema.org/\" is in another file, which is never fetched\n    2 |  \"@context\"", true},
		{`{"@context":[{"a":"http://e/a"},"ctx.jsonld"],"a":1}`, `f:1:33: the context "ctx.jsonld" is in another file`, true},
		{`{"@context":{"@import":"http://x/","a":"http://e/a"},"a":1}`, `f:1:24: the context "http://x/" is in another file`, true},
		{`{"@context":{"t":{"@id":"http://e/t","@context":"http://x/"}},"t":{"a":1}}`, `the context "http://x/" is in another file`, true},
		// Errors that the library drops.
		{`{"http://e/p":{"@list":[{"@context":"http://x/","a":1}]}}`, `the context "http://x/" is in another file`, true},
		{`{"http://e/p":{"@set":[{"@context":"http://x/","a":1}]}}`, `the context "http://x/" is in another file`, true},
		{`{"http://e/p":{"@list":[{"@id":1}]}}`, "a list has an item that cannot be expanded", false},
		{"{\"a\":\n  nul}", "f:2:", true},
		{`{"a":1,}`, "f:1:8: ", true},
		{`{"a":1} x`, "f:1:9: a second value", true},
		{`{"a":`, "f:1:6: the document ends too early", true},
		{"", "f:1:1: the document ends too early", true},
		{"{\"é\":1,\n\"é\":2}", `f:2:1: the member "é" stands twice`, true},
		{"{\"a\":\"\xff\"}", "f:1:7: a byte that is not UTF-8", true},
		{strings.Repeat("[", 300), "nested deeper than 256 levels", true},
		{strings.Repeat("[", 300_000), "nested deeper than 256 levels", true},
		{`"` + strings.Repeat("x", 2_000), "a string longer than", true},
		{`{"a":"` + strings.Repeat("x", 2_000) + `"}`, "a string longer than 1000 bytes", true},
		{strings.Repeat(" ", 1_100_000), "the input is longer than 1000000 bytes", true},
		{`{"@id":1}`, "f: invalid @id value", false},
		{`{"http://e/p":{"@value":"x","@type":"http://e/a b"}}`, "is not the IRI of a type", false},
		{`{"http://e/p":{"@value":"x","@type":["http://e/a","http://e/b"]}}`, "a type that is not one IRI", false},
		{`{"http://e/p":1e999}`, "beyond the range", false},
		{`{"@context":{"@protected":1,"a":"http://e/a"}}`, "is not JSON-LD", false}, // the library panics
		{`{"@context":{"a":"b:x","b":"a:x"},"a":1}`, "f: cyclic", false},
		{`{"@context":{"":{"@id":"http://e/"}}}`, "f: invalid term definition", false},
		{`{"@context":[{"a":{"@id":"http://e/a","@context":{"":"http://e/"}}}]}`, "f: invalid term definition", false},
		{`{"@context":{"@context":{"p":"http://e/p"}},"p":1}`, "f: keyword redefinition", false},
		{`{"@context":{"g":{"@id":"http://e/g","@container":"@graph","@context":null}},"g":{}}`, `the term "g" has a container and a context that starts anew`, false},
		{`{"@context":{"@type":{}}}`, "f: keyword redefinition", false},
		{`{"@context":{"n":{"@id":"@nest","@context":{}}},"n":{}}`, `the term "n" for @nest has a context of its own`, false},
	} {
		if strings.HasSuffix(test.text, "xxx") {
			test.text += `"`
		}
		_, err := load(t, test.text, jsonld.Options{File: "f", Base: "http://e/", MaxToken: 1000, MaxBytes: 1_000_000})
		var syntax *graph.SyntaxError
		if fault.KindOf(err) != fault.Finding || errors.As(err, &syntax) != test.placed || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%.80q\ngot  %v\nwant %s", test.text, err, test.message)
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	text := `{"http://e/p":[` + strings.Repeat("1,", 3_000) + `1]}`
	for limit, message := range map[int64]string{1 << 20: "takes more than 1 MiB of memory", 2 << 20: "", 0: ""} {
		_, err := load(t, text, jsonld.Options{File: "f", MaxMemory: limit})
		if message == "" && err == nil {
			continue
		}
		if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), message) || !strings.Contains(fault.HintOf(err), "memory limit") {
			t.Errorf("%d bytes: %v (%s)", limit, err, fault.HintOf(err))
		}
	}
}

// TestBombs gives small documents that would take long or expand to much.
func TestBombs(t *testing.T) {
	t.Parallel()
	repeat := func(n int, item func(i int) string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(item(i))
		}
		return b.String()
	}
	terms := func(n int) string {
		return repeat(n, func(i int) string { return fmt.Sprintf(`"t%d":"http://e/%d"`, i, i) })
	}
	for name, test := range map[string]struct{ text, message string }{
		"terms that build on terms": {`{"@context":{` + repeat(100_000, func(i int) string { return fmt.Sprintf(`"t%d":"t%d:x"`, i, i+1) }) + `},"t0":1}`, "builds on more than"},
		"a context in each node":    {`{"@context":{` + terms(20_000) + `},"@graph":[` + repeat(20_000, func(int) string { return `{"@context":{"a":"http://e/"},"t1":1}` }) + `]}`, "its contexts take more than"},
		"a context for each type":   {`{"@context":{` + terms(20_000) + `,"T":{"@id":"http://e/T","@context":{"x":"http://e/x"}}},"@graph":[` + repeat(20_000, func(int) string { return `{"@type":"T","x":1}` }) + `]}`, "its contexts take more than"},
		"a long vocabulary":         {`{"@context":{"@vocab":"http://e/` + strings.Repeat("x", 1_000_000) + `"},"@graph":[` + repeat(20_000, func(i int) string { return fmt.Sprintf(`{"a%d":1}`, i) }) + `]}`, "it may expand to more than"},
		"growing vocabularies":      {`{"@context":[{"@vocab":"http://e/"},` + repeat(100_000, func(int) string { return `{"@vocab":"xxxxxxxxxx"}` }) + `],"a":1}`, "its contexts take more than"},
		"small objects":             {`[` + repeat(6_000_000, func(int) string { return `{}` }) + `]`, "of memory"},
	} {
		began := time.Now()
		_, err := load(t, test.text, jsonld.Options{File: "f", Base: "http://e/"})
		if fault.KindOf(err) != fault.Finding || !strings.Contains(fmt.Sprint(err), test.message) {
			t.Errorf("%s: %.200v", name, err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// TestUsual loads what is large and harmless.
func TestUsual(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"@context":{"e":"http://e/","knows":{"@id":"e:knows","@type":"@id"}`)
	for i := range 200 {
		fmt.Fprintf(&b, `,"term%d":"e:term%d"`, i, i)
	}
	b.WriteString(`},"@graph":[{"@id":"n"}`)
	const n = 5_000
	for i := range n {
		fmt.Fprintf(&b, `,{"@id":"n%d","@type":"e:Node","knows":["n%d","n%d"],"term%d":"a text"}`, i, i+1, i+2, i%200)
	}
	b.WriteString(`,{"@id":"n","e:many":[0`)
	for i := range n {
		fmt.Fprintf(&b, `,%d`, i+1)
	}
	b.WriteString("]}]}")
	g, err := load(t, b.String(), jsonld.Options{Base: "http://e/"})
	if err != nil || g.Len() != 5*n+1 {
		t.Fatalf("%v, %v", g, err)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("enough")
	cancel(stop)
	if err := jsonld.Load(ctx, strings.NewReader(`{"http://e/p":1}`), jsonld.Options{Base: "http://e/"}, graph.NewBuilder()); err != nil && !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	broken := errors.New("disk on fire")
	err := jsonld.Load(t.Context(), io.MultiReader(strings.NewReader("[{"), iotest.ErrReader(broken)), jsonld.Options{File: "f"}, graph.NewBuilder())
	if !errors.Is(err, broken) || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}

// FuzzLoad reads anything as JSON-LD; what is accepted gives the same triples
// again, and they are triples of N-Triples.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		`{"@context":{"@vocab":"http://e/","p":{"@type":"@id","@container":"@list"},"q":{"@reverse":"http://e/r"}},"@id":"_:x","p":["a","b"],"q":{"p":[]},"n":[1,1.5,true]}`,
		`[{"@id":"g","@graph":[{"@type":["a"],"http://e/p":{"@value":{"a":[1]},"@type":"@json"}}]}]`,
		`{"@context":{"a":{"@id":"http://e/a","@container":["@graph","@id"],"@context":{"b":"http://e/b"}}},"a":{"x":{"b":"c"}}}`,
		`{"@context":{"n":"@nest","l":{"@id":"http://e/l","@container":"@language"}},"n":{"l":{"de":"x"}},"@included":{"@id":"y"}}`,
		`{"@context":null}`, `{"@context":{"@protected":1}}`, `{"@context":"x"}`, "[", `{"a":1,"a":2}`, `{"@type":[[]]}`, `{"@reverse":1}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		opts := jsonld.Options{File: "f", Base: "http://example.org/", MaxBytes: 1 << 16}
		first, err := load(t, text, opts)
		if err != nil {
			if fault.KindOf(err) != fault.Finding {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		again, err := load(t, text, opts)
		if err != nil {
			t.Fatalf("an error the second time: %v", err)
		}
		var a, b bytes.Buffer
		if err := errors.Join(first.WriteNTriples(&a), again.WriteNTriples(&b)); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Fatalf("%v\n%s\n%s", err, &a, &b)
		}
		if err := turtle.LoadNTriples(&a, turtle.Options{File: "f"}, graph.NewBuilder()); err != nil {
			t.Fatal(err)
		}
	})
}
