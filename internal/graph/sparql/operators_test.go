package sparql

import (
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func TestCompare(t *testing.T) {
	t.Parallel()
	typed := func(lexical, datatype string) graph.Term { return graph.NewTyped(lexical, graph.XSD+datatype) }
	for _, c := range []struct {
		a, b  graph.Term
		order int
		ok    bool
	}{
		{typed("1", "integer"), typed("1.0", "decimal"), 0, true},
		{typed("9007199254740993", "integer"), typed("9007199254740992", "integer"), 1, true},
		{graph.NewString("a"), graph.NewString("b"), -1, true},
		{typed("NaN", "double"), typed("1", "integer"), 0, false},
		{typed("x", "integer"), typed("1", "integer"), 0, false},
		{graph.NewString("1"), typed("1", "integer"), 0, false},
		{graph.NewIRI("http://e/a"), graph.NewIRI("http://e/b"), 0, false},
		{typed("2024-01-01T00:00:00Z", "dateTime"), typed("2024-01-01T00:00:00", "dateTime"), 0, false},
		{typed("2024-01-01T00:00:00Z", "dateTime"), typed("2024-01-01T01:00:00+01:00", "dateTime"), 0, true},
	} {
		order, ok := Compare(c.a, c.b)
		if ok != c.ok || ok && order != c.order {
			t.Errorf("Compare(%s, %s) = %d, %v", c.a, c.b, order, ok)
		}
	}
}

func TestPattern(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, flags, match string
		valid                 bool
	}{
		{`^a\d+$`, "i", "A12", true},
		{`a b`, "x", "ab", true},
		{`a.b`, "q", "a.b", true},
		{`(`, "", "", false},
		{`(a)\1`, "", "", false},
		{`a`, "g", "", false},
		{"a\x00i", "", "", false},
		{strings.Repeat("a", maxPattern+1), "", "", false},
		{strings.Repeat("(a{1000})", 100), "", "", false},
	} {
		re, ok := Pattern(c.pattern, c.flags)
		if ok != c.valid {
			t.Errorf("Pattern(%.20q, %q): valid %v", c.pattern, c.flags, ok)
		}
		if ok {
			if matched, err := re.Match(c.match); !matched || err != nil {
				t.Errorf("Pattern(%.20q, %q): matches %v, %v", c.pattern, c.flags, matched, err)
			}
		}
	}
	re, _ := Pattern("(.*a){20}(.*b){20}z", "")
	if _, err := re.Match(strings.Repeat("x", 16<<20)); fault.KindOf(err) != fault.Finding {
		t.Errorf("a long text with a heavy pattern: %v", err)
	}
}

func TestIllTypedAndLangMatches(t *testing.T) {
	t.Parallel()
	for term, want := range map[graph.Term]bool{
		graph.NewTyped("128", graph.XSD+"byte"): true, graph.NewTyped("127", graph.XSD+"byte"): false,
		graph.NewTyped("x", "http://e/own"): false, graph.NewString("x"): false, graph.NewIRI("http://e/x"): false,
	} {
		if IllTyped(term) != want {
			t.Errorf("IllTyped(%s) is %v", term, !want)
		}
	}
	for pair, want := range map[[2]string]bool{{"en-GB", "EN"}: true, {"eng", "en"}: false, {"", "*"}: false, {"de", "*"}: true} {
		if LangMatches(pair[0], pair[1]) != want {
			t.Errorf("LangMatches%q is %v", pair, !want)
		}
	}
}
