package generate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// ask runs queries over documents and returns what is written as CSV.
func ask(t *testing.T, q Query, texts ...string) (string, error) {
	t.Helper()
	for i, text := range texts {
		q.Questions = append(q.Questions, Question{Name: fmt.Sprintf("q%d.rq", i+1), Text: text, Base: "http://e/"})
	}
	var out bytes.Buffer
	err := q.Run(t.Context(), &out, "csv")
	return out.String(), err
}

func documents(texts map[string]string, names ...string) []Document {
	var out []Document
	for _, name := range names {
		out = append(out, Document{Name: name, Base: "http://e/", URL: "file:///d/" + name, Text: strings.NewReader(texts[name])})
	}
	return out
}

var sample = map[string]string{
	"a.ttl":    "<s> <p> [ <q> 1 ] .",
	"b.nt":     "<http://e/s> <http://e/p> \"x\" .\n",
	"c.rdf":    `<rdf:Description xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:e="http://e/" rdf:about="s" e:p="y"/>`,
	"d.jsonld": `{"@id":"s","http://e/p":"z"}`,
}

func TestQueryRun(t *testing.T) {
	t.Parallel()
	q := Query{Documents: documents(sample, "a.ttl", "b.nt", "c.rdf", "d.jsonld")}
	q.Documents[1].Graph = "http://e/g"
	got, err := ask(t, q, "SELECT ?v ?w { <s> <p>/<q> ?v . GRAPH <g> { ?s ?p ?w } }", "SELECT ?o { <s> <p> ?o FILTER isLiteral(?o) } ORDER BY ?o", "ASK {}")
	if want := "v,w\r\n1,x\r\n\no\r\ny\r\nz\r\n\n"; err == nil || got != want {
		t.Errorf("got %q, %v; want %q and an error, since CSV is for rows", got, err, want)
	}
	var out bytes.Buffer
	q.Documents = documents(sample, "a.ttl")
	q.Questions = []Question{{Name: "q.rq", Text: "SELECT * { ?s ?p ?o }"}, {Name: "r.rq", Text: "ASK { ?s ?p 1 }"}}
	if err := q.Explain(t.Context(), &out); err != nil || strings.Count(out.String(), "\n\n") != 1 {
		t.Errorf("plans %q, %v", &out, err)
	}
	q.Questions[1].Text = "SELECT {"
	if err := q.Check(); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "r.rq:1:") {
		t.Errorf("err = %v; want a finding in r.rq", err)
	}
}

// TestQueryFrom picks documents by their own addresses.
func TestQueryFrom(t *testing.T) {
	t.Parallel()
	const select1 = "SELECT ?o { <s> <p> ?o FILTER isLiteral(?o) } ORDER BY ?o"
	const named = "{ GRAPH ?g { <s> <p> ?o FILTER isLiteral(?o) } } ORDER BY ?o"
	for _, test := range []struct{ text, want string }{
		{"SELECT ?o FROM <file:///d/b.nt> FROM <file:///d/c.rdf> { <s> <p> ?o } ORDER BY ?o", "o\r\nx\r\ny\r\n"},
		{"SELECT ?g ?o FROM NAMED <file:///d/c.rdf> FROM NAMED <http://e/g> " + named, "g,o\r\nhttp://e/g,x\r\nfile:///d/c.rdf,y\r\n"},
		{"SELECT ?o FROM NAMED <file:///d/c.rdf> { <s> <p> ?o }", "o\r\n"},
		{select1, "o\r\ny\r\nz\r\n"},
		// What is named by others alone is in no graph of that name.
		{"SELECT ?g ?o " + named, "g,o\r\nhttp://e/g,x\r\n"},
	} {
		for _, together := range []string{"", "SELECT ?o FROM <file:///d/a.ttl> { ?s <q> ?o }"} {
			q := Query{Documents: documents(sample, "a.ttl", "b.nt", "c.rdf", "d.jsonld")}
			q.Documents = append(q.Documents, Document{Name: "b.nt", Graph: "http://e/g", Text: strings.NewReader(sample["b.nt"])})
			want := test.want
			if strings.Contains(test.text, "{ <s> <p> ?o FILTER isLiteral(?o) }") && !strings.Contains(test.text, "GRAPH") {
				want = "o\r\nx\r\ny\r\nz\r\n"
			}
			texts := []string{test.text}
			if together != "" {
				texts, want = append(texts, together), want+"\no\r\n1\r\n"
			}
			if got, err := ask(t, q, texts...); err != nil || got != want {
				t.Errorf("%s: got %q, %v; want %q", test.text, got, err, want)
			}
		}
	}
	q := Query{Documents: documents(sample, "a.ttl")}
	_, err := ask(t, q, "SELECT * FROM <file:///d/a.tll> { ?s ?p ?o }")
	if fault.KindOf(err) != fault.Finding || !strings.Contains(fault.HintOf(err), "file:///d/a.ttl") {
		t.Errorf("got %v (%s); want the nearest name", err, fault.HintOf(err))
	}
}

// TestQueryLimits reaches every limit; each error names it.
func TestQueryLimits(t *testing.T) {
	t.Parallel()
	var chain strings.Builder
	for i := range 2_000 {
		fmt.Fprintf(&chain, "<n%d> <p> <n%d> .\n", i, i+1)
	}
	deep := strings.Repeat("[ <p> ", 30) + strings.Repeat(" ]", 30)
	for name, test := range map[string]struct {
		limits       Limits
		data, text   string
		message, who string
	}{
		"rows":          {Limits{Rows: 100}, chain.String(), "SELECT * { ?s ?p ?o }", "more than 100 rows", "limit of rows"},
		"triples":       {Limits{Rows: 100}, chain.String(), "CONSTRUCT { ?o ?p ?s } { ?s ?p ?o }", "more than 100 rows", "limit of rows"},
		"time":          {Limits{Time: time.Nanosecond}, chain.String(), "SELECT (COUNT(*) AS ?n) { ?s ?p ?o . ?t ?q ?u . ?v ?w ?x . FILTER(?s != ?t && ?v != ?t) }", "the query takes longer than 1ns", "time limit"},
		"memory":        {Limits{Memory: 1 << 20}, chain.String(), "SELECT * { ?s ?p ?o . ?t ?q ?u } ORDER BY ?o", "more than 1 MiB of memory", "memory limit"},
		"memory, graph": {Limits{Memory: 1 << 20}, "<s> <p> '" + strings.Repeat("x", 1<<20) + "' .", "ASK {}", "more than 1 MiB of memory", "memory limit"},
		"depth, data":   {Limits{Depth: 20}, "<s> <p> " + deep + " .", "ASK {}", "a.ttl:1:129: nested deeper than 20 levels", "limit of depth"},
		"depth, query":  {Limits{Depth: 20}, "", "ASK { <s> <p> " + deep + " }", "nested deeper than 20 levels", "limit of depth"},
		"path":          {Limits{PathLength: 100}, chain.String(), "ASK { <n0> <p>+ <n1999> }", "longer than 100 steps", "limit of path length"},
	} {
		q := Query{Documents: documents(map[string]string{"a.ttl": test.data}, "a.ttl"), Limits: test.limits}
		_, err := ask(t, q, test.text)
		if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), test.message) || !strings.Contains(fault.HintOf(err), test.who) {
			t.Errorf("%s: got %v (%s)", name, err, fault.HintOf(err))
		}
	}
}

func TestQueryRefusals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, data, message string }{
		"notation": {"a.xml", "", "graph a.xml is in an unknown notation; known are .ttl"},
		"turtle":   {"a.ttl", "<s> <p> .", "a.ttl:1:9: "},
		"rdf":      {"a.rdf", "<a/>", "a.rdf:1:1: "},
		"jsonld":   {"a.jsonld", `{"@context":"https://schema.org/"}`, "a.jsonld:1:13: the context"},
	} {
		q := Query{Documents: documents(map[string]string{test.file: test.data}, test.file)}
		if _, err := ask(t, q, "SELECT * { ?s ?p ?o }"); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	cancel(stop)
	q := Query{Questions: []Question{{Text: "ASK {}"}}, Documents: documents(sample, "a.ttl")}
	if err := q.Run(ctx, &bytes.Buffer{}, "json"); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
}

// TestGraphCache renders twice with one cache: the second run loads nothing until
// the time is over.
func TestGraphCache(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	shared := NewGraphCache(time.Minute, func() time.Time { return now })
	sources := func(text string) []source {
		unit := &Unit{Graphs: []Graph{{Name: "m.nt", Data: []byte(text)}}}
		out, err := graphSources(unit, &template{name: "t"}, &settings{})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	get := func(text string) any {
		g, err := newGraphCache(shared, Limits{}).get(t.Context(), sources(text))
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := get(sample["b.nt"])
	if get(sample["b.nt"]) != first || get(sample["b.nt"]+"\n") == first {
		t.Error("the same bytes are the same graph, other bytes another")
	}
	now = now.Add(time.Minute)
	if get(sample["b.nt"]) == first {
		t.Error("the graph stays longer than it may")
	}
}
