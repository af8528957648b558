package turtle_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// parse returns a document as sorted N-Triples.
func parse(r io.Reader, opts turtle.Options) (string, error) {
	b := graph.NewBuilder()
	if err := turtle.Load(r, opts, b); err != nil {
		return "", err
	}
	var out strings.Builder
	err := b.Build().WriteNTriples(&out)
	return out.String(), err
}

// TestRealSpellings holds what people write and parsers are known to refuse.
func TestRealSpellings(t *testing.T) {
	t.Parallel()
	const p = "<http://example.org/p>"
	for _, test := range []struct{ text, want string }{
		{":s :p [ :q 1 ;\n ] .", "<http://example.org/s> " + p + " _:b_1_7 .\n_:b_1_7 <http://example.org/q> \"1\"^^<http://www.w3.org/2001/XMLSchema#integer> .\n"},
		{":s :p 1\n.", "<http://example.org/s> " + p + " \"1\"^^<http://www.w3.org/2001/XMLSchema#integer> .\n"},
		{":s :p \"\"\"a \"quoted\" b\"\"\" .", "<http://example.org/s> " + p + " \"a \\\"quoted\\\" b\" .\n"},
		{":s :p \"\"\"a\"\"\\\"\"\"\" .", "<http://example.org/s> " + p + " \"a\\\"\\\"\\\"\" .\n"},
		{":s :p :;.", "<http://example.org/s> " + p + " <http://example.org/> .\n"},
		{":s :p +.7, -.5e3 ;;; .", "<http://example.org/s> " + p + " \"+.7\"^^<http://www.w3.org/2001/XMLSchema#decimal> .\n<http://example.org/s> " + p + " \"-.5e3\"^^<http://www.w3.org/2001/XMLSchema#double> .\n"},
		{":s :p true.:s a :t.", "<http://example.org/s> " + p + " \"true\"^^<http://www.w3.org/2001/XMLSchema#boolean> .\n<http://example.org/s> <http://www.w3.org/1999/02/22-rdf-syntax-ns#type> <http://example.org/t> .\n"},
		{":s :p 'x'@zh-Hant-TW .", "<http://example.org/s> " + p + " \"x\"@zh-Hant-TW .\n"},
		{"\ufeff:s :p <a/../b?q#f> .", "<http://example.org/s> " + p + " <http://example.org/dir/b?q#f> .\n"},
		{"base <http://x.org/> prefix p: <y#>\n<> p:a-b.c p:d%20e\\~ .", "<http://x.org/> <http://x.org/y#a-b.c> <http://x.org/y#d%20e~> .\n"},
		{"() :p (1 []) .", ""},
	} {
		head := "@prefix : <http://example.org/> . "
		if strings.HasPrefix(test.text, "\ufeff") {
			head, test.text = "\ufeff"+head, strings.TrimPrefix(test.text, "\ufeff")
		}
		got, err := parse(strings.NewReader(head+test.text), turtle.Options{Scope: "S", Base: "http://example.org/dir/doc"})
		if err != nil {
			t.Errorf("%s\n%v", test.text, err)
			continue
		}
		// Positions depend on the head; only the kind of label is compared.
		got = strings.ReplaceAll(got, fmt.Sprintf("_:bS_1_%d", len(head)+6), "_:b_1_7")
		if test.want != "" && got != test.want {
			t.Errorf("%s\ngot\n%s\nwant\n%s", test.text, got, test.want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, message, hint string }{
		{"<s> rdfs:label 'x' .", "f.ttl:1:5: prefix \"rdfs:\" is not declared\n    1 | <s> rdfs:label 'x' .\n      |     ^", "add `@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .`"},
		{"@prefix ex: <u:e#> .\n<s> exx:p 1 .", "f.ttl:2:5: prefix \"exx:\" is not declared", `did you mean "ex:"?`},
		{"<s> <p> \"a\nb\" .", "f.ttl:1:9: a string that does not end", "three quotation marks"},
		{"<s> <p> \"\"\"a\n\nb", "f.ttl:1:9: a string that does not end\n    1 | <s> <p> \"\"\"a\n      |         ^", ""},
		{"<s> <p> .", "f.ttl:1:9: expected an object, found \".\"", ""},
		{"<s> <p> <o>", "f.ttl:1:12: expected '.' to end the statement, found the end of the file", ""},
		{"<s> <p> ( 1 , 2 ) .", "f.ttl:1:13: expected an object, found \",\"", ""},
		{"<s> <p> \"\\z\" .", "unknown escape", `\\`},
		{"<s> <p> <a b> .", "\" \" may not stand in an IRI", "%XX"},
		{"<s> <p> <\\u0020> .", "may not stand in an IRI", ""},
		{"\"s\" <p> 1 .", "a literal may not be a subject", ""},
		{"<s> <p> \xff .", "not UTF-8", ""},
		{strings.Repeat("[ <p> ", 3_000_000), "nested deeper than 256 levels", ""},
		{"<s> <p> " + strings.Repeat("(", 3_000_000), "nested deeper than 256 levels", ""},
		{"<s> <p> \"" + strings.Repeat("x", 3_000), "a token longer than 1000 bytes", ""},
		{"<s> <p> 1 .\n" + strings.Repeat("# long\n", 1_000_000), "longer than 4000000 bytes", ""},
	} {
		opts := turtle.Options{File: "f.ttl", Base: "http://example.org/", MaxBytes: 4_000_000}
		if strings.Contains(test.message, "1000 bytes") {
			opts.MaxToken, test.text = 1000, test.text+strings.Repeat("y", 200_000)
		}
		if len(test.text) > 4_000_000 && !strings.HasPrefix(test.message, "longer") {
			opts.MaxBytes = 0
		}
		_, err := parse(strings.NewReader(test.text), opts)
		shown := test.text[:min(len(test.text), 60)]
		var syntax *graph.SyntaxError
		if !errors.As(err, &syntax) || fault.KindOf(err) != fault.Finding {
			t.Errorf("%q: %v", shown, err)
			continue
		}
		if !strings.Contains(err.Error(), test.message) || !strings.Contains(fault.HintOf(err), test.hint) {
			t.Errorf("%q\ngot  %v (%s)\nwant %s (%s)", shown, err, fault.HintOf(err), test.message, test.hint)
		}
	}
}

func TestBrokenReader(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	_, err := parse(io.MultiReader(strings.NewReader("<u:s> <u:p> 1 .\n<u:s> "), iotest.ErrReader(broken)), turtle.Options{File: "f.ttl"})
	if !errors.Is(err, broken) || fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}

// TestWindow reads the same document in pieces of all sizes: no token may
// depend on where the window ends.
func TestWindow(t *testing.T) {
	t.Parallel()
	text := document(3000) // several windows
	text = append(text, "\n:é :ü \"\"\"ö\n\"\"ß\\u00e9\"\"\"@de-AT, 'x'^^<u:d>, -1.5e-3, ( [ :p <#f> ] _:l.1 ) .\n"...)
	want, err := parse(bytes.NewReader(text), turtle.Options{File: "f", Base: "http://e/"})
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{
		"one byte": iotest.OneByteReader(bytes.NewReader(text)),
		"half":     iotest.HalfReader(bytes.NewReader(text)),
		"with EOF": iotest.DataErrReader(bytes.NewReader(text)),
	} {
		got, err := parse(r, turtle.Options{File: "f", Base: "http://e/"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got != want {
			t.Errorf("%s: other triples", name)
		}
	}
	_, whole := parse(bytes.NewReader(append(text, "  :x :y é:z"...)), turtle.Options{File: "f", Base: "http://e/"})
	_, piece := parse(iotest.OneByteReader(bytes.NewReader(append(text, "  :x :y é:z"...))), turtle.Options{File: "f", Base: "http://e/"})
	if whole == nil || piece == nil || strings.Split(whole.Error(), "\n")[0] != strings.Split(piece.Error(), "\n")[0] || !strings.Contains(whole.Error(), ":3006:9: ") {
		t.Errorf("errors differ or are misplaced:\n%v\n%v", whole, piece)
	}
}

func TestBlankNodesOfFiles(t *testing.T) {
	t.Parallel()
	b := graph.NewBuilder()
	for _, file := range []string{"a.ttl", "b.ttl", "a.ttl"} {
		if err := turtle.Load(strings.NewReader("_:x <u:p> [] , [] , ( [] ) ."), turtle.Options{File: file}, b); err != nil {
			t.Fatal(err)
		}
	}
	g := b.Build()
	if g.Len() != 2*5 {
		t.Errorf("%d triples: the same file twice is the same nodes, two files are not", g.Len())
	}
}

func TestParseStreams(t *testing.T) {
	t.Parallel()
	// The document is far longer than what is read before the first triple.
	r, w := io.Pipe()
	go func() {
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, "<u:s%d> <u:p> \"%d\" .\n", i, i); err != nil {
				return
			}
		}
	}()
	count := 0
	stop := errors.New("enough")
	err := turtle.ParseNTriples(r, turtle.Options{File: "f.nt"}, func(triple rdf.Triple) error {
		if want := fmt.Sprintf("<u:s%d> <u:p> \"%d\" .\n", count, count); triple.Serialize(rdf.NTriples) != want {
			t.Errorf("got %s, want %s", triple.Serialize(rdf.NTriples), want)
		}
		if count++; count == 50_000 {
			return stop
		}
		return nil
	})
	r.Close()
	if !errors.Is(err, stop) || count != 50_000 {
		t.Errorf("%d triples, %v", count, err)
	}
}

func TestTripleLimit(t *testing.T) {
	t.Parallel()
	b := graph.NewBuilder()
	b.MaxTriples = 10
	err := turtle.Load(bytes.NewReader(document(100)), turtle.Options{File: "f.ttl"}, b)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "more than 10 triples") {
		t.Errorf("got %v", err)
	}
}

// FuzzLoad reads anything as Turtle; what is accepted is written as N-Triples,
// read again, and must be the same.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"@prefix : <u:> . :s a [ :p (1 -2.5 .3e4 true 'x'@en \"\"\"y\"\"\"^^:d) ] ; :q _:b.1 .", "<s> <p> \"\"\"\"x\"\"\" .",
		"@base <http://a/b/c> . <../d> <?q> <#f> .", "PREFIX é: <u:é#> é:a\\-b%20 é: <\\u00e9> .", "<s> <p> \"\\uD800\" .", "[", "<a", "_:", "@prefix", "\ufeff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		opts := turtle.Options{File: "f", Base: "http://example.org/", MaxToken: 1 << 16}
		var lines []byte
		err := turtle.Parse(strings.NewReader(text), opts, func(triple rdf.Triple) error {
			s, _ := graph.FromRDF(triple.Subj)
			p, _ := graph.FromRDF(triple.Pred)
			o, err := graph.FromRDF(triple.Obj)
			lines = graph.AppendTriple(lines, s, p, o)
			return err
		})
		if err != nil {
			if fault.KindOf(err) != fault.Finding {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		count := 0
		err = turtle.ParseNTriples(bytes.NewReader(lines), turtle.Options{File: "f"}, func(rdf.Triple) error { count++; return nil })
		if err != nil || count != bytes.Count(lines, []byte(" .\n")) {
			t.Fatalf("%d triples, %v\n%s", count, err, lines)
		}
	})
}

// FuzzNTriples is the same for N-Triples.
func FuzzNTriples(f *testing.F) {
	f.Add("<u:s> <u:p> \"x\\n\"@en .# c\n_:b <u:p> _:c .\n<u:s> <u:p> \"\"^^<u:d> .")
	f.Fuzz(func(t *testing.T, text string) {
		err := turtle.ParseNTriples(strings.NewReader(text), turtle.Options{File: "f"}, func(rdf.Triple) error { return nil })
		if err == nil { // every N-Triples document is a Turtle document
			err = turtle.Parse(strings.NewReader(text), turtle.Options{File: "f"}, func(rdf.Triple) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
		} else if fault.KindOf(err) != fault.Finding {
			t.Fatal(err)
		}
	})
}
