package sparql

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
)

// generator writes random queries over a few terms, so that parts of a query
// often meet, and variables are often bound in one part and not in another.
type generator struct {
	*rand.Rand
	depth int
	fresh int
}

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }
func (g *generator) variable() string        { return g.one("?a", "?b", "?c", "?d", "?e") }
func (g *generator) node() string {
	return g.one("?a", "?b", "?c", "?d", "?e", "?a", "?b", "?c", ":x", ":y", ":z")
}
func (g *generator) object() string { return g.one(g.node(), g.node(), "1", "2") }
func (g *generator) property() string {
	return g.one(":p", ":q", ":r", ":p", ":q", ":p/:q", "^:p", ":p|:q", ":p*", ":q+", ":r?", "!:p", "?e")
}

func (g *generator) group() string {
	g.depth++
	defer func() { g.depth-- }()
	var b strings.Builder
	b.WriteString("{ ")
	for range 1 + g.IntN(3) {
		b.WriteString(g.element())
	}
	b.WriteString("} ")
	return b.String()
}

func (g *generator) element() string {
	if g.depth > 3 {
		return g.triple()
	}
	switch g.IntN(16) {
	case 0, 1:
		return "OPTIONAL " + g.group()
	case 2:
		return g.group() + "UNION " + g.group()
	case 3:
		return "MINUS " + g.group()
	case 4, 5:
		return "FILTER(" + g.condition() + ") "
	case 6:
		g.fresh++
		return fmt.Sprintf("BIND(%s AS ?n%d) ", g.one("?a", "?b + 1", "COALESCE(?c, ?d)", ":x", g.expression()), g.fresh)
	case 7:
		return "VALUES (?a ?c) { (:x UNDEF) (UNDEF 1) (:y :z) } "
	case 8:
		return g.group()
	case 9:
		return "{ SELECT " + g.one("?a ?b", "DISTINCT ?c", "?a (COUNT(?b) AS ?n0)", "(?b AS ?c2) ?d", "(MAX(?a) AS ?n1) (COUNT(DISTINCT *) AS ?n2)", "REDUCED ?e ("+g.expression()+" AS ?n3)") + " WHERE " + g.group() + "} "
	case 10:
		return "GRAPH " + g.one("?g", ":g1", "?a") + g.group()
	}
	return g.triple()
}

func (g *generator) triple() string {
	return g.node() + " " + g.property() + " " + g.object() + " . "
}

// expression returns one whose value depends on its variables alone.
func (g *generator) expression() string {
	if g.depth++; g.depth > 6 {
		g.depth--
		return g.one(g.variable(), g.object(), `"x1"@en`)
	}
	defer func() { g.depth-- }()
	a := g.expression()
	switch g.IntN(10) {
	case 0:
		return "IF(" + a + ", " + g.expression() + ", " + g.expression() + ")"
	case 1:
		return "(" + a + g.one(" + ", " - ", " * ", " / ", " = ", " < ", " && ", " || ") + g.expression() + ")"
	case 2:
		return g.one("STR", "UCASE", "STRLEN", "ABS", "ROUND", "isIRI", "DATATYPE", "!", "-") + "(" + a + ")"
	case 3:
		return "CONCAT(STR(" + a + "), " + g.expression() + ")"
	case 4:
		return "REGEX(STR(" + a + `), "` + g.one("x", "^h.*[y-z-[y]]$", "(1", "[0-9]+") + `")`
	case 5:
		return "REPLACE(STR(" + a + `), "` + g.one("x", "(e)(x)", ".*", "/") + `", "` + g.one("$1", "-", "$2$0") + `")`
	case 6:
		return "(" + a + g.one(" IN (", " NOT IN (") + g.expression() + ", 1))"
	case 7:
		return g.one("<http://www.w3.org/2001/XMLSchema#integer>", "<http://www.w3.org/2001/XMLSchema#string>") + "(" + a + ")"
	}
	return a
}

func (g *generator) condition() string {
	switch g.IntN(8) {
	case 7:
		return g.expression()
	case 0:
		return "EXISTS " + g.group()
	case 1:
		return "NOT EXISTS " + g.group()
	case 2:
		return "BOUND(" + g.variable() + ")"
	case 3:
		return "!BOUND(" + g.variable() + ") || " + g.variable() + " = " + g.object()
	case 4:
		return g.variable() + " != " + g.variable() + " && " + g.condition()
	}
	return g.variable() + " " + g.one("=", "<", ">=", "!=") + " " + g.object()
}

func randomGraph(t testing.TB, r *rand.Rand) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder()
	for _, name := range []string{"", "http://example.org/g1", "http://example.org/x"} {
		var text bytes.Buffer
		text.WriteString("@prefix : <http://example.org/> .\n")
		for range 6 + r.IntN(8) {
			nodes := []string{":x", ":y", ":z", ":w"}
			fmt.Fprintf(&text, "%s :%c %s .\n", nodes[r.IntN(4)], "pqr"[r.IntN(3)], append(nodes, "1", "2", "1.0")[r.IntN(7)])
		}
		if err := turtle.Load(&text, turtle.Options{File: name, Graph: name}, b); err != nil {
			t.Fatal(err)
		}
	}
	return b.Build()
}

// TestPlans compares the plans of random queries with the evaluation of every
// part on its own: pushing bindings in, reordering and moving conditions must
// not change a row.
func TestPlans(t *testing.T) {
	t.Parallel()
	queries := 4000
	if testing.Short() {
		queries = 300
	}
	compared := 0
	for seed := range queries {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		gen := &generator{Rand: r}
		g := randomGraph(t, r)
		if comparePlans(t, "PREFIX : <http://example.org/>\nSELECT * WHERE "+gen.group(), g) > 0 {
			compared++
		}
	}
	t.Logf("%d of %d queries have rows", compared, queries)
	if compared < queries/10 {
		t.Errorf("only %d of %d queries have rows: the test shows little", compared, queries)
	}
}

// FuzzPlans is TestPlans for the seeds that a fuzzer comes up with: whatever it
// is, a query ends within its limits, and with the same rows by either plan.
func FuzzPlans(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed<<7)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		r := rand.New(rand.NewPCG(a, b))
		gen := &generator{Rand: r}
		g := randomGraph(t, r)
		from := time.Now()
		comparePlans(t, "PREFIX : <http://example.org/>\nSELECT "+gen.one("*", "*", "DISTINCT *", "REDUCED *")+" WHERE "+gen.group(), g)
		if took := time.Since(from); took > 30*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// comparePlans runs a query by both plans and returns its number of rows, 0 for
// one that cannot be compared.
func comparePlans(t *testing.T, text string, g *graph.Graph) int {
	t.Helper()
	q, err := Parse(text, Options{})
	if err != nil {
		return 0 // a BIND to a variable in use
	}
	slow := *q
	slow.apart = true
	want, err := rowsSorted(&slow, g)
	if err != nil {
		return 0 // too large to compare
	}
	got, err := rowsSorted(q, g)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if !slices.Equal(got, want) {
		plan, _ := q.Explain(g)
		var data bytes.Buffer
		g.WriteNTriples(&data)
		t.Fatalf("%s\nplan\n%s\ngot %d rows\n%s\nwant %d rows\n%s\n%s", text, plan,
			len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"), data.String())
	}
	return len(want)
}

func rowsSorted(q *Query, g *graph.Graph) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := q.Run(ctx, g, Limits{Rows: 20_000, Memory: 64 << 20})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, row := range r.Rows {
		line := ""
		for _, term := range row {
			line += plain(term).String() + "\t"
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out, nil
}

// TestNodeSet compares the set with a map, in rounds of every size, so that it
// is a table, grows, and becomes an array on the way.
func TestNodeSet(t *testing.T) {
	t.Parallel()
	b := graph.NewBuilder()
	for i := range 20_000 {
		b.Dictionary().Intern(graph.NewIRI(fmt.Sprintf("u:%d", i)))
	}
	x := &execution{dict: b.Build().Dictionary().Extend(), limits: Limits{}.withDefaults()}
	r := rand.New(rand.NewPCG(1, 1))
	set := nodeSet{round: 1<<32 - 40} // the rounds start again on the way
	for round := range 80 {
		set.reset(x)
		seen := map[graph.ID]bool{}
		for range 1 + r.IntN(1<<(round%14)) {
			id := graph.ID(1 + r.IntN(x.dict.Len()))
			if set.add(id) == seen[id] {
				t.Fatalf("round %d: %d was in the set: %t", round, id, seen[id])
			}
			seen[id] = true
		}
		if round%20 == 19 {
			x.dict.Intern(graph.NewIRI(fmt.Sprintf("u:new%d", round)))
		}
	}
	if set.marks == nil {
		t.Error("the set never became an array")
	}
	if err := x.err; err != nil {
		t.Error(err)
	}
}

// TestMatcher holds patterns against texts that their prefix may tell off.
func TestMatcher(t *testing.T) {
	t.Parallel()
	texts := []string{"", "a", "ab", "abc", "Abc", "xabc", "x\nabc", "ac", "é", "éa", "\uFFFD", "\xFF"}
	for _, test := range []struct{ pattern, flags, prefix string }{
		{"^abc", "", "abc"}, {"^ab.*c$", "", "ab"}, {"^éa?", "", "é"}, {`^a\.b`, "", "a.b"},
		{"^abc", "i", ""}, {"^abc", "m", ""}, {"abc", "", ""}, {"^a|^b", "", ""}, {"^a?b", "", ""}, {"^(ab)c", "", ""},
		{"^", "", ""}, {"^[ab]c", "", ""}, {"^ab*", "", "a"}, {"^\uFFFD", "", ""},
	} {
		re := compilePattern(test.pattern + "\x00" + test.flags)
		m := newMatcher(re)
		if m.prefix != test.prefix {
			t.Errorf("%s %q: prefix %q, want %q", test.pattern, test.flags, m.prefix, test.prefix)
		}
		for _, text := range texts {
			if m.match(text) != re.MatchString(text) {
				t.Errorf("%s %q: %q matches %t", test.pattern, test.flags, text, m.match(text))
			}
		}
	}
}
