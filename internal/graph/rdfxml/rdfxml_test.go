package rdfxml_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf16"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/rdfxml"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const (
	head = `<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:e="http://e/">`
	tail = `</rdf:RDF>`
)

// parse returns a document as sorted N-Triples, in which http://e/ is "e:" and
// the namespace of RDF "rdf:".
func parse(r io.Reader, opts rdfxml.Options) (string, error) {
	b := graph.NewBuilder()
	if err := rdfxml.Load(r, opts, b); err != nil {
		return "", err
	}
	var out strings.Builder
	err := b.Build().WriteNTriples(&out)
	return strings.NewReplacer("http://e/", "e:", graph.RDF, "rdf:").Replace(out.String()), err
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"language and base", `<e:C rdf:about="a" xml:base="http://x/y#z" xml:lang="de"><e:p>ü</e:p><e:q xml:lang="">v</e:q><e:r rdf:resource=""/></e:C>`,
			"<http://x/a> <e:p> \"ü\"@de .\n<http://x/a> <e:q> \"v\" .\n<http://x/a> <e:r> <http://x/y> .\n<http://x/a> <rdf:type> <e:C> .\n"},
		{"bare attributes", `<rdf:Description about="s"><e:p resource="o"/></rdf:Description>`, "<e:s> <e:p> <e:o> .\n"},
		{"blank nodes", `<rdf:Description rdf:nodeID="a."><e:p rdf:nodeID="a"/></rdf:Description>`, "_:vS_a._ <e:p> _:uS_a .\n"},
		{"positions", "<e:C/>", "_:bS_1_85 <rdf:type> <e:C> .\n"},
		{"white space in an empty property", "<rdf:Description rdf:about='s'><e:p rdf:resource='o'>\n </e:p></rdf:Description>", "<e:s> <e:p> <e:o> .\n"},
		{"character data", "<rdf:Description rdf:about='s'><e:p>a&lt;<![CDATA[<&>]]>&#x41;<!-- c --><?p i?>b\r\nc\rd]]</e:p></rdf:Description>", "<e:s> <e:p> \"a<<&>Ab\\nc\\nd]]\" .\n"},
		{"attribute values", "<rdf:Description rdf:about='s' e:p='a\n\tb&#10;&quot;'/>", "<e:s> <e:p> \"a  b\\n\\\"\" .\n"},
		{"xml literal", `<rdf:Description rdf:about="s"><e:p rdf:parseType="Literal" xmlns="http://d/" xmlns:u="http://u/"><b e:z="1" a="&lt;&#9;" e:b="2"/><?pi  x ?><!-- c -->&gt;<e:i xml:lang="de"/></e:p></rdf:Description>`,
			`<e:s> <e:p> "<b xmlns=\"http://d/\" xmlns:e=\"e:\" a=\"&lt;&#x9;\" e:b=\"2\" e:z=\"1\"></b><?pi x ?><!-- c -->&gt;<e:i xmlns:e=\"e:\" xml:lang=\"de\"></e:i>"^^<rdf:XMLLiteral> .` + "\n"},
		{"datatype", `<rdf:Description rdf:about="s"><e:p rdf:datatype="d"/><e:q rdf:datatype="http://www.w3.org/2001/XMLSchema#string">x</e:q></rdf:Description>`,
			"<e:s> <e:p> \"\"^^<e:d> .\n<e:s> <e:q> \"x\" .\n"},
		{"empty collection", `<rdf:Description rdf:about="s"><e:p rdf:parseType="Collection"/></rdf:Description>`, "<e:s> <e:p> <rdf:nil> .\n"},
	} {
		got, err := parse(strings.NewReader(head+test.text+tail), rdfxml.Options{Base: "http://e/doc", Scope: "S"})
		if err != nil || got != test.want {
			t.Errorf("%s: got\n%s%v\nwant\n%s", test.name, got, err, test.want)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	node := func(inner string) string {
		return head + "\n<rdf:Description rdf:about='s'>" + inner + "</rdf:Description>" + tail
	}
	for _, test := range []struct{ text, message, hint string }{
		{head + "\n  <skos:C/>" + tail, "f.rdf:2:3: prefix \"skos:\" is not declared\n    2 |   <skos:C/></rdf:RDF>\n      |   ^", `add ` + "`xmlns:skos=\"http://www.w3.org/2004/02/skos/core#\"`"},
		{node("\n <e:p\n  xx='1'/>"), "f.rdf:4:3: the attribute xx is in no namespace", "prefix"},
		{node("<e:p>x<e:q/></e:p>"), "f.rdf:2:38: a text and a node in one property", "Literal"},
		{node("<e:p><e:C/> y</e:p>"), "f.rdf:2:44: a text and a node in one property", ""},
		{node("<e:p><e:C/><e:C/></e:p>"), "a property with two nodes", "Collection"},
		{node("words"), "f.rdf:2:32: a text may not stand between the properties of a node", ""},
		{node("<p/>"), "the element <p> is in no namespace", ""},
		{node("<rdf:Description/>"), "<rdf:Description> may not stand for a property", ""},
		{node("<e:p rdf:ID='a'/><e:q rdf:ID='a'/>"), `rdf:ID="a" was given before`, "rdf:about"},
		{node("<e:p rdf:ID='1'/>"), "is not a name", "rdf:about"},
		{node("<e:p rdf:resource='o'>x</e:p>"), "a text may not stand in a property whose attributes tell its value", ""},
		{node("<e:p rdf:resource='a b'/>"), "' ' may not stand in an IRI", "%XX"},
		{node("<e:p xml:lang='en_US'>x</e:p>"), `"en_US" is not a language tag`, ""},
		{node("<e:p>&nbsp;</e:p>"), "f.rdf:2:37: the entity &nbsp; is not declared", "declare it"},
		{node("<e:p>a & b</e:p>"), "expected the name of an entity", ""},
		{node("<e:p>]]></e:p>"), `"]]>" may not stand in a text`, "]]&gt;"},
		{node("<e:p a='<'/>"), `"<" may not stand in the value`, "&lt;"},
		{node("<e:p e:a='1' e:a='2'/>"), "e:a stands twice", ""},
		{node("<e:p></e:q>"), "</e:q> stands where <e:p> is to be closed", ""},
		{node("<e:p>\x01</e:p>"), "control character", ""},
		{node("<e:p>\xff</e:p>"), "not UTF-8", "UTF-8"},
		{node("<e:p\x83q/>"), "not UTF-8", "UTF-8"},
		{node("<e:p>&#0;</e:p>"), "a character that XML does not have", ""},
		{head, "the end of the file, before <rdf:RDF> is closed", ""},
		{"", "the document has no element", ""},
		{"words", "a text may not stand outside", ""},
		{head + tail + head + tail, "a second element", ""},
		{" <?xml version='1.0'?>" + head + tail, "an XML declaration may not stand here", "beginning"},
		{"<?xml version='1.0' encoding='EBCDIC'?>" + head + tail, `the encoding "ebcdic" is not read`, ""},
		{`<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + node("<e:p>&x;</e:p>"), "the entity &x; is in another file, which is never fetched", ""},
		{`<!DOCTYPE r [<!ENTITY x "&y;"><!ENTITY y "&x;">]>` + node("<e:p>&x;</e:p>"), "the entity &x; contains itself", ""},
		{`<!DOCTYPE r [<!ENTITY x "<e:p>">]>` + node("&x;</e:p>"), "in the entity &x;: <e:p> is not closed in it", ""},
		{`<!DOCTYPE r [<!ENTITY % x "y"> %x;]>` + head + tail, "parameter entities are not expanded", ""},
		{`<!DOCTYPE r [<!ATTLIST r a CDATA "y">]>` + head + tail, "default values of attributes are not read", ""},
		{head + strings.Repeat("<e:a><e:b>", 3_000_000), "nested deeper than 256 levels", ""},
		{"<" + strings.Repeat("x", 3_000_000), "longer than 1000000 bytes", ""},
		{node("<e:p>" + strings.Repeat("x", 3_000_000)), "longer than 1000000 bytes", ""},
		{strings.Repeat("<!-- -->", 2_000_000), "the input is longer than 4000000 bytes", ""},
	} {
		opts := rdfxml.Options{File: "f.rdf", Base: "http://e/", MaxToken: 1_000_000, MaxBytes: 4_000_000}
		if strings.Contains(test.message, "256 levels") {
			opts.MaxBytes = 0
		}
		_, err := parse(strings.NewReader(test.text), opts)
		var syntax *graph.SyntaxError
		if !errors.As(err, &syntax) || fault.KindOf(err) != fault.Finding {
			t.Errorf("%.80q: %v", test.text, err)
			continue
		}
		if !strings.Contains(err.Error(), test.message) || !strings.Contains(fault.HintOf(err), test.hint) {
			t.Errorf("%.80q\ngot  %v (%s)\nwant %s (%s)", test.text, err, fault.HintOf(err), test.message, test.hint)
		}
	}
}

func TestEntities(t *testing.T) {
	t.Parallel()
	text := `<!DOCTYPE rdf:RDF [ <!-- c --> <?p?>
		<!ENTITY e "http://e/"> <!ENTITY e2 '&e;x'> <!ENTITY node "<e:C><e:p>&#38;amp;&e2;</e:p></e:C>">
		<!ELEMENT e:C (e:p)> <!ATTLIST e:C a CDATA #IMPLIED> <!ENTITY e "other"> ]>` +
		head + `<rdf:Description rdf:about="&e2;"/>&node;&node;<e:D rdf:about="&e;d">` + "\n" + `<e:q>&e;</e:q></e:D>` + tail
	got, err := parse(strings.NewReader(text), rdfxml.Options{Base: "http://e/", Scope: "S"})
	if err != nil {
		t.Fatal(err)
	}
	const want = "<e:d> <e:q> \"e:\" .\n<e:d> <rdf:type> <e:D> .\n" +
		"_:bS_3_197_1 <e:p> \"&e:x\" .\n_:bS_3_197_1 <rdf:type> <e:C> .\n_:bS_3_203_2 <e:p> \"&e:x\" .\n_:bS_3_203_2 <rdf:type> <e:C> .\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestBombs gives small documents that stand for large ones.
func TestBombs(t *testing.T) {
	t.Parallel()
	var laughs strings.Builder
	laughs.WriteString(`<!DOCTYPE r [<!ENTITY l0 "lol">`)
	for i := 1; i < 15; i++ {
		fmt.Fprintf(&laughs, `<!ENTITY l%d "%s">`, i, strings.Repeat(fmt.Sprintf("&l%d;", i-1), 10))
	}
	laughs.WriteString("]>" + head)
	quadratic := `<!DOCTYPE r [<!ENTITY l "` + strings.Repeat("l", 100_000) + `">]>` + head
	for name, text := range map[string]string{
		"laughs in a text":   laughs.String() + "<rdf:Description><e:p>&l14;</e:p></rdf:Description>",
		"laughs in a value":  laughs.String() + "<rdf:Description e:p='&l14;'/>",
		"laughs of nothing":  strings.Replace(laughs.String(), `"lol"`, `""`, 1) + "<rdf:Description><e:p>&l14;</e:p></rdf:Description>",
		"quadratic blow-up":  quadratic + "<rdf:Description>" + strings.Repeat("<e:p>&l;</e:p>", 50_000),
		"quadratic in value": quadratic + strings.Repeat("<rdf:Description e:p='&l;&l;&l;'/>", 50_000),
	} {
		began := time.Now()
		_, err := parse(strings.NewReader(text), rdfxml.Options{File: "f", Base: "http://e/"})
		if err == nil || !strings.Contains(err.Error(), "entities that expand to more than") {
			t.Errorf("%s: %.200v", name, err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

func TestEncodings(t *testing.T) {
	t.Parallel()
	text := head + "<rdf:Description rdf:about='s'><e:p>ä𝄞</e:p></rdf:Description>" + tail
	const want = "<e:s> <e:p> \"ä𝄞\" .\n"
	wide := func(order binary.ByteOrder, mark bool, text string) string {
		var b []byte
		units := utf16.Encode([]rune(text))
		if mark {
			units = append([]uint16{0xFEFF}, units...)
		}
		for _, u := range units {
			pair := [2]byte{}
			order.PutUint16(pair[:], u)
			b = append(b, pair[:]...)
		}
		return string(b)
	}
	declared := `<?xml version="1.0" encoding="UTF-16"?>` + text
	latin := strings.NewReplacer("ä", "\xe4", "𝄞", "&#x1D11E;").Replace(`<?xml version='1.0' encoding='ISO-8859-1'?>` + text)
	for name, bytes := range map[string]string{
		"plain": text, "mark": "\ufeff" + text, "declared": `<?xml version="1.0" encoding="utf-8"?>` + text, "latin": latin,
		"big endian": wide(binary.BigEndian, true, declared), "little endian": wide(binary.LittleEndian, true, declared),
		"no mark": wide(binary.LittleEndian, false, declared),
	} {
		for _, r := range []io.Reader{strings.NewReader(bytes), iotest.OneByteReader(strings.NewReader(bytes))} {
			got, err := parse(r, rdfxml.Options{File: "f", Base: "http://e/"})
			if err != nil || got != want {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	}
	if _, err := parse(strings.NewReader(wide(binary.BigEndian, true, declared)+"\xd8"), rdfxml.Options{Base: "http://e/"}); err == nil {
		t.Error("half a character is accepted")
	}
}

// document returns a document of n nodes, n/10 of them on one line.
func document(n int) string {
	var b strings.Builder
	b.WriteString("<?xml version='1.0'?>\n<!DOCTYPE r [<!ENTITY e 'http://e/'>]>\n" + head)
	for i := range n {
		if i > n/10 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "<e:C rdf:about='&e;%d' e:n='é %d'><e:p rdf:resource='%d'/><e:t xml:lang='de'>öß &amp; &#x20AC;</e:t><e:c><e:D/></e:c></e:C>", i, i, i/2)
	}
	b.WriteString(tail)
	return b.String()
}

// TestWindow reads the same document in pieces of all sizes: nothing may depend
// on where the window ends.
func TestWindow(t *testing.T) {
	t.Parallel()
	text := document(3000)
	opts := rdfxml.Options{File: "f", Base: "http://e/"}
	want, err := parse(strings.NewReader(text), opts)
	if err != nil || strings.Count(want, "\n") != 6*3000 {
		t.Fatalf("%d triples, %v", strings.Count(want, "\n"), err)
	}
	for name, wrap := range map[string]func(io.Reader) io.Reader{"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "with EOF": iotest.DataErrReader} {
		got, err := parse(wrap(strings.NewReader(text)), opts)
		if err != nil || got != want {
			t.Errorf("%s: other triples, %v", name, err)
		}
		for _, broken := range []string{
			strings.TrimSuffix(text, tail) + "<e:C e:é='ü'\n e:p='1'   e:q='2' bad='3'/>" + tail,
			head + strings.Repeat("<e:é/>", 20_000) + "<e:p bad='3'/>",
		} {
			_, whole := parse(strings.NewReader(broken), opts)
			_, piece := parse(wrap(strings.NewReader(broken)), opts)
			if whole == nil || piece == nil || strings.Split(whole.Error(), "\n")[0] != strings.Split(piece.Error(), "\n")[0] {
				t.Errorf("%s: errors differ:\n%v\n%v", name, whole, piece)
			}
			if !strings.Contains(whole.Error(), "f:2703:20: ") && !strings.Contains(whole.Error(), fmt.Sprintf("f:1:%d: ", len(head)+6*20_000+6)) {
				t.Errorf("misplaced: %v", whole)
			}
		}
	}
}

func TestParseStreams(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, head)
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, "<rdf:Description rdf:about='%d'><e:p>%d</e:p></rdf:Description>\n", i, i); err != nil {
				return
			}
		}
	}()
	count, enough := 0, errors.New("enough")
	err := rdfxml.Parse(r, rdfxml.Options{File: "f", Base: "http://e/"}, func(triple rdf.Triple) error {
		if want := fmt.Sprintf("<http://e/%d> <http://e/p> \"%d\" .\n", count, count); triple.Serialize(rdf.NTriples) != want {
			t.Errorf("got %s, want %s", triple.Serialize(rdf.NTriples), want)
		}
		if count++; count == 30_000 {
			return enough
		}
		return nil
	})
	r.Close()
	if !errors.Is(err, enough) || count != 30_000 {
		t.Errorf("%d triples, %v", count, err)
	}
}

func TestBrokenReader(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	for _, text := range []string{"", head + "<e:C/>"} {
		_, err := parse(io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), rdfxml.Options{File: "f.rdf"})
		if !errors.Is(err, broken) || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("got %v", err)
		}
	}
}

func TestTripleLimit(t *testing.T) {
	t.Parallel()
	b := graph.NewBuilder()
	b.MaxTriples = 10
	err := rdfxml.Load(strings.NewReader(document(100)), rdfxml.Options{File: "f.rdf", Base: "http://e/"}, b)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "more than 10 triples") {
		t.Errorf("got %v", err)
	}
}

// FuzzLoad reads anything as RDF/XML; what is accepted is written as N-Triples,
// read again, and must be as many triples.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		head + `<e:C rdf:about="s" e:a="x"><rdf:li rdf:ID="i">t</rdf:li><e:p rdf:parseType="Literal"><b xmlns="u:" c="d"/>&lt;</e:p><e:q rdf:parseType="Collection"><e:D/><e:D/></e:q></e:C>` + tail,
		`<!DOCTYPE r [<!ENTITY e "<e:C/>&f;"><!ENTITY f "&#38;amp;">]>` + head + "&e;" + tail,
		"<?xml version='1.0' encoding='latin1'?><a:b xmlns:a='u:\xe4' xml:base='http://x/y'/>",
		"\xff\xfe<\x00a\x00/\x00>\x00", "<", "<!DOCTYPE", head + "<![CDATA[", "<a:b:c/>", "<!---->",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		opts := rdfxml.Options{File: "f", Base: "http://example.org/", MaxToken: 1 << 16}
		var lines []byte
		err := rdfxml.Parse(strings.NewReader(text), opts, func(triple rdf.Triple) error {
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

func BenchmarkLoad(b *testing.B) {
	text := document(20_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		g := graph.NewBuilder()
		if err := rdfxml.Load(strings.NewReader(text), rdfxml.Options{Base: "http://e/"}, g); err != nil {
			b.Fatal(err)
		}
	}
}
