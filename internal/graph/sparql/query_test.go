package sparql_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const people = `@prefix : <http://example.org/> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
:ann :name "Ann"@en ; :age 41 ; :knows :bob, :ann .
:bob :name "Bob" ; :age 7 ; :knows :cy .
:cy :name "Cy" ; :big 9007199254740993 ; :small "5"^^xsd:nonNegativeInteger .
`

// TestAnswers holds one query per rule that engines are known to break.
func TestAnswers(t *testing.T) {
	t.Parallel()
	g := parseTurtle(t, people)
	for _, test := range []struct{ name, query, want string }{
		{"a variable twice in a pattern", `SELECT ?x { ?x :knows ?x }`, "<http://example.org/ann>\n"},
		{"a literal is no subject", `SELECT ?y { :bob :age ?x . ?x :age ?y }`, ""},
		{"LIMIT 0", `SELECT ?x { ?x :name ?n } LIMIT 0`, ""},
		{"an error is not true", `SELECT ?x { ?x :name ?n FILTER(!(?missing = 1)) }`, ""},
		{"unbound is not unequal", `SELECT ?x { ?x :name ?n FILTER(?missing != "x") }`, ""},
		{"error || true", `ASK { FILTER(?missing || true) }`, "true"},
		{"error && false", `ASK { FILTER(!(?missing && false)) }`, "true"},
		{"a string is not a number", `ASK { FILTER("1" = 1) }`, "false"},
		{"numbers are equal by value", `ASK { FILTER(1 = 1.0 && 1.0 = 1e0 && 1 IN (2, 1.0)) }`, "true"},
		{"HAVING without GROUP BY", `SELECT (COUNT(*) AS ?n) { ?x :name ?y } HAVING(COUNT(*) > 3)`, ""},
		{"EXISTS sees the outer row in its FILTER", `SELECT ?n { ?x :age ?a ; :name ?n FILTER NOT EXISTS { ?y :age ?b FILTER(?b > ?a) } }`, "\"Ann\"@en\n"},
		{"integers are exact", `SELECT (?b + 1 AS ?c) { ?x :big ?b }`, "9007199254740994\n"},
		{"integers grow", `SELECT (9223372036854775807 * 9223372036854775807 AS ?c) {}`, "85070591730234615847396907784232501249\n"},
		{"derived integers are numbers", `SELECT (?s + 1 AS ?c) { ?x :small ?s }`, "6\n"},
		{"a quotient is a decimal", `SELECT (7/2 AS ?a) (1/3 AS ?b) (4/2 AS ?c) {}`, "3.5\t0.333333333333333333\t2.0\n"},
		{"the average is exact", `SELECT (AVG(?a) AS ?b) { ?x :age ?a }`, "24.0\n"},
		{"rounding", `SELECT (ROUND(-2.5) AS ?a) (CEIL(2.1) AS ?b) (FLOOR(-2.1) AS ?c) (ROUND(2.5e0) AS ?d) {}`, "\"-2\"^^<http://www.w3.org/2001/XMLSchema#decimal>\t\"3\"^^<http://www.w3.org/2001/XMLSchema#decimal>\t\"-3\"^^<http://www.w3.org/2001/XMLSchema#decimal>\t3.0E0\n"},
		{"unary plus", `SELECT (+?a AS ?b) { :bob :age ?a }`, "7\n"},
		{"dots after blocks", `SELECT ?x { { ?x :age 7 } UNION { ?x :age 8 } . OPTIONAL { ?x :no ?y } . BIND(1 AS ?z) . VALUES ?w { 1 } . }`, "<http://example.org/bob>\n"},
		{"a prefix with a hyphen", "PREFIX my-ns: <http://example.org/>\nSELECT ?x { ?x my-ns:age 7 }", "<http://example.org/bob>\n"},
		{"a filter does not see the group around it", `SELECT ?x { ?x :age ?a { ?x :name ?n FILTER(?a = 7) } }`, ""},
		{"OPTIONAL with a condition on both sides", `SELECT ?a ?m { ?x :age ?a OPTIONAL { ?x :knows ?y . ?y :age ?b FILTER(?b < ?a) BIND(?b AS ?m) } } ORDER BY ?a`, "7\t\n41\t7\n"},
		{"MINUS without a shared variable", `SELECT ?x { ?x :age 7 MINUS { ?y :age 41 } }`, "<http://example.org/bob>\n"},
		{"path from a fixed start", `SELECT ?y { :ann :knows+ ?y }`, "<http://example.org/ann>\n<http://example.org/bob>\n<http://example.org/cy>\n"},
		{"path of no step", `SELECT ?y { :nobody :knows* ?y }`, "<http://example.org/nobody>\n"},
		{"inverse path", `SELECT ?y { :cy ^:knows/^:knows ?y }`, "<http://example.org/ann>\n"},
		{"a sub-query has its own variables", `SELECT ?x ?n { ?x :age 7 { SELECT (COUNT(?x) AS ?n) { ?x :name ?z } } }`, "<http://example.org/bob>\t3\n"},
		{"GROUP_CONCAT in order", `SELECT (GROUP_CONCAT(?n; SEPARATOR=",") AS ?all) { { SELECT ?n { ?x :name ?n } ORDER BY DESC(?n) } }`, "\"Cy,Bob,Ann\"\n"},
		{"COUNT of nothing", `SELECT (COUNT(*) AS ?n) (SUM(?x) AS ?s) (MIN(?x) AS ?m) { ?x :none ?y }`, "0\t0\t\n"},
		{"aggregates of distinct values", `SELECT (SUM(DISTINCT ?v) AS ?a) (COUNT(DISTINCT ?v) AS ?b) (COUNT(DISTINCT *) AS ?c) (COUNT(*) AS ?d) (MAX(DISTINCT ?v) AS ?e) { VALUES (?x ?v) { (1 2) (1 2) (2 2) (2 2.0) } }`, "4.0\t2\t3\t4\t2\n"},
		{"an error spoils SUM but not COUNT", `SELECT (SUM(?v + 1) AS ?a) (COUNT(?v + 1) AS ?b) (SAMPLE(?v + 1) AS ?c) { VALUES ?v { 2 "x" 3 } }`, "\t2\t3\n"},
		{"a comparison is made anew for other terms", `SELECT ?v { VALUES (?v ?w) { (1 1) (1 1) (1 2) (2 2) (UNDEF 2) (2.0 2) (:x 2) (UNDEF UNDEF) (2 2) } FILTER(?v = ?w) }`, "1\n1\n2\n2.0\n2\n"},
		{"GROUP BY of nothing", `SELECT ?x (COUNT(*) AS ?n) { ?x :none ?y } GROUP BY ?x`, ""},
		{"order of kinds", `SELECT ?v { VALUES ?v { "b" 2 :i 1.5 UNDEF true "a"@en } } ORDER BY ?v`, "\n<http://example.org/i>\n\"a\"@en\n\"b\"\n\"true\"^^<http://www.w3.org/2001/XMLSchema#boolean>\n1.5\n2\n"},
		{"ORDER BY with LIMIT and OFFSET", `SELECT ?a { ?x :age|:big|:small ?a } ORDER BY DESC(?a) OFFSET 1 LIMIT 2`, "41\n7\n"},
		{"CONSTRUCT leaves out what is no triple", `CONSTRUCT { ?n :of ?x . ?x :called ?n } { ?x :name ?n ; :age 7 }`, "<http://example.org/bob> <http://example.org/called> \"Bob\" .\n"},
		{"CONSTRUCT makes nodes", `CONSTRUCT { [] :p ?x } { ?x :age ?a }`, "_:q1 <http://example.org/p> <http://example.org/ann> .\n_:q2 <http://example.org/p> <http://example.org/bob> .\n"},
		{"DESCRIBE", `DESCRIBE :bob`, "<http://example.org/bob> <http://example.org/name> \"Bob\" .\n<http://example.org/bob> <http://example.org/age> \"7\"^^<http://www.w3.org/2001/XMLSchema#integer> .\n<http://example.org/bob> <http://example.org/knows> <http://example.org/cy> .\n"},
		{"regular expressions", `SELECT (REPLACE("abcab", "(a)(b)", "$2-$1") AS ?r) { FILTER(REGEX("line\nLINE", "^line$", "im") && !REGEX("a", "A")) }`, "\"b-acb-a\"\n"},
		{"moments with and without a zone", `ASK { FILTER("2020-01-01T00:00:00Z"^^xsd:dateTime < "2020-01-03T00:00:00"^^xsd:dateTime && !COALESCE("2020-01-01T00:00:00Z"^^xsd:dateTime = "2020-01-01T00:00:00"^^xsd:dateTime, false)) }`, "true"},
		{"a blank node on both sides of a filter", `SELECT ?n { _:x :age 7 FILTER EXISTS { ?a :age 41 } _:x :name ?n }`, "\"Bob\"\n"},
		{"COUNT of distinct rows", `SELECT (COUNT(DISTINCT *) AS ?n) { ?x :knows|:knows ?y }`, "3\n"},
		{"COUNT of distinct rows sees what a sub-query projects", `SELECT (COUNT(DISTINCT *) AS ?n) { { SELECT ?x { VALUES (?x ?y) { (1 1) (1 2) } } } }`, "1\n"},
		{"one pattern for terms of all kinds", `SELECT ?v { VALUES ?v { "ab" "ab" 1 :ab UNDEF "ab"@en "b" "ab" } FILTER(REGEX(?v, "^A", "i")) }`, "\"ab\"\n\"ab\"\n\"ab\"@en\n\"ab\"\n"},
		{"one pattern for computed texts", `SELECT ?v { VALUES ?v { "ab" 1 :ab UNDEF } FILTER(REGEX(STR(?v), "b$")) }`, "\"ab\"\n<http://example.org/ab>\n"},
		{"one pattern that is none", `SELECT ?v { VALUES ?v { "ab" } FILTER(!REGEX(?v, "(")) }`, ""},
		{"NOW without a clock", `SELECT (NOW() AS ?t) {}`, "\"1970-01-01T00:00:00Z\"^^<http://www.w3.org/2001/XMLSchema#dateTime>\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			query := "PREFIX : <http://example.org/>\nPREFIX xsd: <http://www.w3.org/2001/XMLSchema#>\n" + test.query
			if got := table(t, run(t, g, query)); got != test.want {
				t.Errorf("got\n%q\nwant\n%q\n%s", got, test.want, test.query)
			}
		})
	}
}

func TestSyntaxErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ query, message, hint string }{
		{"SELECT ?x { ?x rdfs:label ?y }", `query:1:16: prefix "rdfs:" is not declared`, "add `PREFIX rdfs: <http://www.w3.org/2000/01/rdf-schema#>`"},
		{"PREFIX exam: <http://e/>\nSELECT ?x {\n  ?x exma:p ?y }", `query:3:6: prefix "exma:" is not declared`, `did you mean "exam:"?`},
		{"SELECT * { SERVICE <http://e/> { ?s ?p ?o } }", "SERVICE is refused", "supply the remote data"},
		{"LOAD <http://e/>", "LOAD is refused", "SELECT"},
		{"SELECT * { ?s ?p ?o ", `expected a pattern or "}", found the end of the query`, ""},
		{"SELECT * { FILTER(STRLANGS(1)) }", `found "STRLANGS"`, `did you mean "STRLANG"?`},
		{"SELECT ?x (COUNT(*) AS ?n) { ?x ?y ?z } GROUP BY ?y", "?x has no one value in a group", "GROUP BY"},
		{"SELECT * { ?x <p> ?y . BIND(1 AS ?y) }", "relative IRI", "BASE"},
		{"SELECT * { _:a ?p ?o OPTIONAL { _:a ?q ?r } }", "_:a stands in two basic graph patterns", "variable"},
		{"SELECT * { << ?s ?p ?o >> ?q ?r }", "SPARQL 1.2", ""},
		{"SELECT * { ?s ?p \"\xff\" }", "not UTF-8", "UTF-8"},
		{strings.Repeat("{", 3_000_000), "longer than", ""},
		{"SELECT * " + strings.Repeat("{", 1_000_000), "nested deeper than 256 levels", ""},
		{"ASK { FILTER(" + strings.Repeat("(", 500_000) + ") }", "nested deeper than 256 levels", ""},
		{"ASK { FILTER(" + strings.Repeat("!", 500_000) + "1) }", "nested deeper than 256 levels", ""},
		{"ASK { FILTER(" + strings.Repeat("1+", 400_000) + "1) }", "more than 1000 operands", ""},
		{"ASK { ?s " + strings.Repeat("(", 900_000) + " }", "nested deeper than 256 levels", ""},
		{"ASK { " + strings.Repeat("OPTIONAL{}", 100_000) + " }", "more than 5000 patterns", ""},
	} {
		_, err := sparql.Parse(test.query, sparql.Options{})
		shown := test.query[:min(len(test.query), 60)]
		if err == nil {
			t.Errorf("not refused: %s", shown)
			continue
		}
		if fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: kind %v", shown, fault.KindOf(err))
		}
		if !strings.Contains(err.Error(), test.message) || !strings.Contains(fault.HintOf(err), test.hint) {
			t.Errorf("%s\ngot  %v (%s)\nwant %s (%s)", shown, err, fault.HintOf(err), test.message, test.hint)
		}
	}
}

func TestErrorShowsTheLine(t *testing.T) {
	t.Parallel()
	_, err := sparql.Parse("SELECT *\n{ ?x é:p }", sparql.Options{File: "q.rq"})
	want := "q.rq:2:6: prefix \"é:\" is not declared\n    2 | { ?x é:p }\n      |      ^"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("@prefix : <http://example.org/> .\n")
	for i := range 120 {
		fmt.Fprintf(&text, ":n%d :p :n%d .\n", i, (i+1)%120)
	}
	g := parseTurtle(t, text.String())
	large := "BIND(\"xxxxxxxxxxxxxxxx\" AS ?s) " + doubling(14) // 256 KiB
	product := "SELECT * { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l }"
	for _, test := range []struct {
		query   string
		limits  sparql.Limits
		message string
	}{
		{product, sparql.Limits{Rows: 1000}, "more than 1000 rows"},
		{product + " ORDER BY ?a", sparql.Limits{Memory: 1 << 20}, "more than 1 MiB"},
		{"SELECT DISTINCT ?a ?d ?g ?j " + product[len("SELECT *"):], sparql.Limits{Memory: 1 << 20}, "more than 1 MiB"},
		{"SELECT ?x { <http://example.org/n0> <http://example.org/p>+ ?x }", sparql.Limits{PathLength: 50}, "longer than 50 steps"},
		{"SELECT ?a { " + large + "?a ?b ?c . ?d ?e ?f } ORDER BY CONCAT(?s14, STR(?a))", sparql.Limits{Memory: 16 << 20}, "more than 16 MiB"},
		{"SELECT ?a ?d (MAX(CONCAT(?s14, STR(?c))) AS ?m) { " + large + "?a ?b ?c . ?d ?e ?f } GROUP BY ?a ?d", sparql.Limits{Memory: 16 << 20}, "more than 16 MiB"},
		{"SELECT (COUNT(*) AS ?n) { { SELECT DISTINCT ?a ?d ?g { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i } } }", sparql.Limits{Memory: 2 << 20}, "more than 2 MiB"},
		{"SELECT (CONCAT(?s20, ?s20) AS ?b) { BIND(\"xxxxxxxxxxxxxxxx\" AS ?s) " + doubling(20) + " }", sparql.Limits{}, "a string of more than 16777216 bytes"},
		{"SELECT (GROUP_CONCAT(?s14) AS ?all) { " + large + "?a ?b ?c . ?d ?e ?f }", sparql.Limits{}, "a string of more than 16777216 bytes"},
		{"SELECT (REPLACE(?s14, \"x\", ?s10) AS ?b) { " + large + "}", sparql.Limits{}, "a string of more than 16777216 bytes"},
		{"SELECT (REPLACE(?s17, \"(x)\", \"y\") AS ?b) { " + strings.Replace(large, doubling(14), doubling(17), 1) + "}", sparql.Limits{}, "finds \"(x)\" more than 1048576 times"},
		{"SELECT (REGEX(?s20, \"(.*a){20}(.*b){20}z\") AS ?b) { " + strings.Replace(large, doubling(14), doubling(20), 1) + "}", sparql.Limits{}, "too long to be matched with"},
		{"SELECT (CONCAT(?a,?a) AS ?b) { VALUES ?z { 1 } BIND(\"xxxxxxxxxxxxxxxx\" AS ?s) " + doubling(30) + " }", sparql.Limits{Memory: 1 << 20}, "more than 1 MiB"},
	} {
		_, err := tryRun(g, test.query, test.limits)
		if err == nil || !strings.Contains(err.Error(), test.message) || fault.KindOf(err) != fault.Finding {
			t.Errorf("%s\ngot %v, want %s", test.query, err, test.message)
		}
	}
}

// doubling binds strings each twice as long as the one before.
func doubling(n int) string {
	out := "BIND(?s AS ?s0) "
	for i := range n {
		out += fmt.Sprintf("BIND(CONCAT(?s%d,?s%d) AS ?s%d) ", i, i, i+1)
	}
	return out
}

func TestCancel(t *testing.T) {
	t.Parallel()
	g := parseTurtle(t, people+strings.Repeat(":ann :knows [] .\n", 200))
	for _, text := range []string{
		"SELECT (COUNT(*) AS ?z) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l . ?m ?n ?o }",
		"ASK { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l . FILTER(CONCAT(STR(?a), STR(?d), STR(?g), STR(?j)) = \"\") }",
		"SELECT DISTINCT ?a { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l }",
		"SELECT (MAX(?x) AS ?m) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l . BIND(1 AS ?x) }",
		"ASK { ?a ?b ?c FILTER EXISTS { ?d ?e ?f . ?g ?h ?i . ?j ?k ?l . ?m ?n ?o FILTER(CONCAT(STR(?d), STR(?m)) = \"\") } }",
		"ASK { ?a (!<http://e/x>*/!<http://e/y>*)* ?b . ?c (!<http://e/x>*)* ?d . ?e ?f ?g . FILTER(CONCAT(STR(?a), STR(?c), STR(?e)) = \"\") }",
	} {
		q, err := sparql.Parse(text, sparql.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		from := time.Now()
		_, err = q.Run(ctx, g, sparql.Limits{})
		if !errors.Is(err, context.DeadlineExceeded) || fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v", text, err)
		}
		if took := time.Since(from); took > 5*time.Second {
			t.Errorf("%s: ended after %v", text, took)
		}
		cancel()
	}
}

func TestSameRowsEveryTime(t *testing.T) {
	t.Parallel()
	text := services(2000)
	query := `PREFIX : <http://ex.org/v#> SELECT ?t (COUNT(*) AS ?n) (GROUP_CONCAT(?s) AS ?all) (SAMPLE(?e) AS ?one) (UUID() AS ?u)
		{ ?s :team ?t . ?e :of ?s OPTIONAL { ?e :doc ?d } } GROUP BY ?t LIMIT 7`
	first := ""
	for range 5 {
		b := graph.NewBuilder()
		g := parseTurtleInto(t, b, text)
		var out bytes.Buffer
		if err := run(t, g, query).Write(&out, "json"); err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = out.String()
		} else if out.String() != first {
			t.Fatalf("another result for the same query\n%s\n%s", first, out.String())
		}
	}
}

func TestConcurrentReaders(t *testing.T) {
	t.Parallel()
	g := parseTurtle(t, people)
	q, err := sparql.Parse(`PREFIX : <http://example.org/> SELECT ?x (CONCAT(?n, "!") AS ?y) { ?x :name ?n ; :knows+ ?z FILTER(EXISTS { ?z :age ?a } && REGEX(?n, "[A-C]")) } ORDER BY ?y`, sparql.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				r, err := q.Run(context.Background(), g, sparql.Limits{})
				if err != nil || len(r.Rows) != 2 {
					t.Errorf("%d rows, %v", len(r.Rows), err)
					return
				}
			}
		})
	}
	all.Wait()
}

func TestDataset(t *testing.T) {
	t.Parallel()
	b := graph.NewBuilder()
	for name, text := range map[string]string{"": "<u:d> <u:p> 0 .", "u:g1": "<u:a> <u:p> 1 .", "u:g2": "<u:b> <u:p> 2 ."} {
		parseInto(t, b, text, name)
	}
	g := b.Build()
	for query, want := range map[string]string{
		"SELECT ?o { ?s ?p ?o }":                                                            "0\n",
		"SELECT ?g ?o { GRAPH ?g { ?s ?p ?o } } ORDER BY ?g":                                "<u:g1>\t1\n<u:g2>\t2\n",
		"SELECT ?o FROM <u:g1> FROM <u:g2> { ?s ?p ?o } ORDER BY ?o":                        "1\n2\n",
		"SELECT ?g FROM NAMED <u:g2> { { ?s ?p ?o } UNION { GRAPH ?g { ?s ?p ?o } } }":      "<u:g2>\n",
		"SELECT ?o { GRAPH <u:none> { ?s ?p ?o } }":                                         "",
		"SELECT ?g { GRAPH ?g { { SELECT (COUNT(*) AS ?n) { ?s ?p 2 } } FILTER(?n = 1) } }": "<u:g2>\n",
	} {
		if got := table(t, run(t, g, query)); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", query, got, want)
		}
	}
	_, err := tryRun(g, "SELECT * FROM <u:g3> { ?s ?p ?o }", sparql.Limits{})
	if err == nil || !strings.Contains(err.Error(), "<u:g3> was not supplied") || fault.KindOf(err) != fault.Finding {
		t.Errorf("FROM of a graph that is not there: %v", err)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	g := parseTurtle(t, `@prefix : <http://example.org/> . :a :p "x,\"y\"\nz\t", 1, 1.5, "h<i>"@zh-Hant-TW .`)
	r := run(t, g, "PREFIX : <http://example.org/> SELECT ?s ?o ?none { ?s :p ?o }")
	for format, want := range map[string]string{
		"csv": "s,o,none\r\nhttp://example.org/a,\"x,\"\"y\"\"\nz\t\",\r\nhttp://example.org/a,1,\r\nhttp://example.org/a,1.5,\r\nhttp://example.org/a,h<i>,\r\n",
		"tsv": "?s\t?o\t?none\n<http://example.org/a>\t\"x,\\\"y\\\"\\nz\\t\"\t\n<http://example.org/a>\t1\t\n<http://example.org/a>\t1.5\t\n<http://example.org/a>\t\"h<i>\"@zh-Hant-TW\t\n",
		"json": "{\"head\":{\"vars\":[\"s\",\"o\",\"none\"]},\"results\":{\"bindings\":[\n" +
			`{"s":{"type":"uri","value":"http://example.org/a"},"o":{"type":"literal","value":"x,\"y\"\nz\t"}},` + "\n" +
			`{"s":{"type":"uri","value":"http://example.org/a"},"o":{"type":"literal","value":"1","datatype":"http://www.w3.org/2001/XMLSchema#integer"}},` + "\n" +
			`{"s":{"type":"uri","value":"http://example.org/a"},"o":{"type":"literal","value":"1.5","datatype":"http://www.w3.org/2001/XMLSchema#decimal"}},` + "\n" +
			`{"s":{"type":"uri","value":"http://example.org/a"},"o":{"type":"literal","value":"h<i>","xml:lang":"zh-Hant-TW"}}` + "\n]}}\n",
		"table": "s   o                  none\n--  -----------------  ----\n:a  \"x,\\\"y\\\"\\nz\\t\"\n:a  1\n:a  1.5\n:a  \"h<i>\"@zh-Hant-TW\n",
	} {
		var b bytes.Buffer
		if err := r.Write(&b, format); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("%s\ngot\n%q\nwant\n%q", format, b.String(), want)
		}
	}
	if err := r.Write(&bytes.Buffer{}, "nt"); fault.KindOf(err) != fault.Usage {
		t.Errorf("rows as N-Triples: %v", err)
	}
	for _, format := range sparql.Formats {
		var b bytes.Buffer
		err := run(t, g, "CONSTRUCT { ?s ?p 1 } { ?s ?p 1 }").Write(&b, format)
		if want := "<http://example.org/a> <http://example.org/p> \"1\"^^<http://www.w3.org/2001/XMLSchema#integer> .\n"; err != nil || b.String() != want {
			t.Errorf("a graph as %s: got %q, %v", format, &b, err)
		}
	}
	if err := run(t, g, "ASK {}").Write(&bytes.Buffer{}, "csv"); fault.KindOf(err) != fault.Usage {
		t.Errorf("a boolean as CSV: %v", err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	g := buildServices(t, 1000)
	q, err := sparql.Parse(`PREFIX : <http://ex.org/v#> PREFIX d: <http://ex.org/d/>
		SELECT ?f ?n { ?f :fname ?n . ?f :fieldOf ?e . ?e :of d:svc3 OPTIONAL { ?e :doc ?d } FILTER(?n > "a") } LIMIT 5`, sparql.Options{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := q.Explain(g)
	if err != nil {
		t.Fatal(err)
	}
	first, second := strings.Index(plan, "/v#of>"), strings.Index(plan, "/v#fname>")
	if first < 0 || second < first {
		t.Errorf("the selective pattern does not run first:\n%s", plan)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"SELECT * { ?s ?p ?o }", "ASK{}", "PREFIX : <u:> CONSTRUCT { [] :p (1 2.5 'x'@en) } WHERE { ?s :p/^:q*|!(:r|^a) ?o FILTER(?o IN (1, -2e3)) }",
		"SELECT (GROUP_CONCAT(DISTINCT ?x; SEPARATOR='|') AS ?y) { { SELECT * { VALUES (?x ?y) { (1 UNDEF) } } } MINUS { ?x ?y ?z } } GROUP BY ?x HAVING(COUNT(*)>1) ORDER BY DESC(?x) LIMIT 1 OFFSET 2",
		"DESCRIBE <u:x> FROM NAMED <u:g> { GRAPH ?g { ?s a ?t OPTIONAL { ?s ?p \"\"\"a\"b\"\"\"^^<u:d> } } }", "\\u0053ELECT ?\\u00e9 {}", "SELECT * { ?x :a.b ?y",
	} {
		f.Add(seed)
	}
	g := parseTurtle(f, people)
	f.Fuzz(func(t *testing.T, text string) {
		q, err := sparql.Parse(text, sparql.Options{Base: "http://example.org/", Prefixes: map[string]string{"": "http://example.org/"}})
		if err != nil {
			if fault.KindOf(err) != fault.Finding {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		if _, err := q.Explain(g); err != nil && fault.KindOf(err) != fault.Finding {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		r, err := q.Run(ctx, g, sparql.Limits{Rows: 10_000, Memory: 32 << 20})
		if err != nil {
			if fault.KindOf(err) != fault.Finding {
				t.Fatalf("kind %v: %v", fault.KindOf(err), err)
			}
			return
		}
		for _, format := range sparql.Formats {
			if err := r.Write(&bytes.Buffer{}, format); err != nil && fault.KindOf(err) != fault.Usage {
				t.Fatal(err)
			}
		}
	})
}

// TestPlanningIsBounded plans queries of the largest size in every shape that
// multiplies work.
func TestPlanningIsBounded(t *testing.T) {
	t.Parallel()
	g := parseTurtle(t, people)
	nest := func(open, middle, end string, n int) string {
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	for name, text := range map[string]string{
		"optionals and filters": "SELECT * { ?s ?p ?o " + strings.Repeat("OPTIONAL { ?s ?p 1 } ", 800) + strings.Repeat("FILTER(BOUND(?s)) ", 1500) + "}",
		"one large join":        "ASK { " + strings.Repeat("?s ?p ?o . ", 2400) + " FILTER(?o = 0) FILTER(?s = 0) }",
		"different variables":   "ASK { " + manyPatterns(1500) + "FILTER(?v0 = 0) }",
		"nested sub-queries":    "ASK { " + nest("?s ?p ?o . { SELECT * { ?s ?p ?o . ?o ?q ?r . ", "", "} } ", 60) + "FILTER(false) }",
		"nested groups":         "ASK { " + nest("?s ?p ?o . { { ?a ?b ?c } UNION { ?s ?b ?c } OPTIONAL { ", "?x ?y ?z", "} } ", 100) + "FILTER(false) }",
		"nested exists":         "ASK { ?s ?p ?o " + nest("FILTER EXISTS { ?s ?p ?o . ?o ?q ?r ", "", "} ", 200) + "FILTER(false) }",
		"a long path":           "ASK { ?s (" + strings.Repeat("!:a/", 1500) + "!:a)* ?o FILTER(false) }",
		"many alternatives":     "ASK { ?s " + strings.Repeat(":a|", 2000) + ":a ?o . ?s ?p ?q FILTER(false) }",
	} {
		from := time.Now()
		q, err := sparql.Parse(text, sparql.Options{Prefixes: map[string]string{"": "http://example.org/"}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		parsed := time.Since(from)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err = q.Run(ctx, g, sparql.Limits{})
		cancel()
		if err != nil && fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(from); took > 8*time.Second {
			t.Errorf("%s: took %v, %v of it to parse", name, took, parsed)
		} else {
			t.Logf("%s: %v, %v of it to parse", name, took, parsed)
		}
	}
}

func manyPatterns(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "?v%d ?p%d ?v%d . ", i, i, i+1)
	}
	return b.String()
}
