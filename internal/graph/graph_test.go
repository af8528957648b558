package graph_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/knakk/rdf"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// TestIndexAgainstScan compares every pattern over random graphs with a look
// at every triple.
func TestIndexAgainstScan(t *testing.T) {
	t.Parallel()
	for seed := range 60 {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		terms := 1 + r.IntN(40)
		b := graph.NewBuilder()
		d := b.Dictionary()
		for i := range terms * (1 + seed%3*10) { // sparse graphs beside large dictionaries too
			d.Intern(graph.NewIRI(fmt.Sprintf("u:%d", i)))
		}
		all := map[[3]graph.ID]bool{}
		for range r.IntN(300) {
			triple := [3]graph.ID{graph.ID(1 + r.IntN(terms)), graph.ID(1 + r.IntN(1+terms/4)), graph.ID(1 + r.IntN(terms))}
			all[triple] = true
			if err := b.AddIDs(0, triple[0], triple[1], triple[2]); err != nil {
				t.Fatal(err)
			}
		}
		g := b.Build()
		if g.Len() != len(all) {
			t.Fatalf("seed %d: %d triples, want %d", seed, g.Len(), len(all))
		}
		for range 300 {
			s, p, o := graph.ID(r.IntN(terms+2)), graph.ID(r.IntN(terms/4+2)), graph.ID(r.IntN(terms+2))
			want := map[[3]graph.ID]bool{}
			for triple := range all {
				if (s == 0 || s == triple[0]) && (p == 0 || p == triple[1]) && (o == 0 || o == triple[2]) {
					want[triple] = true
				}
			}
			got := 0
			g.Match(s, p, o, func(s, p, o graph.ID) bool {
				if !want[[3]graph.ID{s, p, o}] {
					t.Fatalf("seed %d: %d %d %d does not match", seed, s, p, o)
				}
				got++
				return true
			})
			if got != len(want) || g.Count(s, p, o) != len(want) {
				t.Fatalf("seed %d: %d %d %d: %d triples, counted %d, want %d", seed, s, p, o, got, g.Count(s, p, o), len(want))
			}
		}
		checkStatistics(t, g, all)
	}
}

func checkStatistics(t *testing.T, g *graph.Graph, all map[[3]graph.ID]bool) {
	t.Helper()
	nodes := map[graph.ID]bool{}
	subjects, objects := map[[2]graph.ID]bool{}, map[[2]graph.ID]bool{}
	for triple := range all {
		nodes[triple[0]], nodes[triple[2]] = true, true
		subjects[[2]graph.ID{triple[1], triple[0]}], objects[[2]graph.ID{triple[1], triple[2]}] = true, true
	}
	var listed []graph.ID
	g.Nodes(func(n graph.ID) bool { listed = append(listed, n); return true })
	if len(listed) != len(nodes) || !slices.IsSorted(listed) {
		t.Fatalf("nodes %v, want %d in order", listed, len(nodes))
	}
	for pair := range subjects {
		count := func(of map[[2]graph.ID]bool) (n int) {
			for other := range of {
				if other[0] == pair[0] {
					n++
				}
			}
			return n
		}
		if st := g.Predicate(pair[0]); st.Subjects != count(subjects) || st.Objects != count(objects) || st.Triples != g.Count(0, pair[0], 0) {
			t.Fatalf("statistics of %d: %+v", pair[0], st)
		}
	}
}

func TestDictionary(t *testing.T) {
	t.Parallel()
	terms := []graph.Term{
		graph.NewIRI("u:a"), graph.NewBlank("a"), graph.NewString("a"), graph.NewTagged("a", "en"), graph.NewTagged("a", "de"),
		graph.NewTyped("a", "u:a"), graph.NewTyped("a", "u:b"), graph.NewString(""), graph.NewTyped("", "u:a"), graph.NewString(strings.Repeat("x", 1<<17)),
	}
	for i := range 5000 {
		terms = append(terms, graph.NewIRI(fmt.Sprintf("u:%d", i)), graph.NewTyped(fmt.Sprint(i), "u:int"))
	}
	d := graph.NewDictionary()
	ids := map[graph.ID]graph.Term{}
	check := func(d *graph.Dictionary, terms []graph.Term) {
		for _, term := range terms {
			id := d.Intern(term)
			if known, ok := ids[id]; ok && known != term {
				t.Fatalf("%d is %v and %v", id, known, term)
			}
			ids[id] = term
			if d.Intern(term) != id || d.Lookup(term) != id || d.Term(id) != term || d.Kind(id) != term.Kind {
				t.Fatalf("%v does not come back from %d: %v", term, id, d.Term(id))
			}
		}
	}
	check(d, terms[:6000])
	before := d.Len()
	more := d.Extend()
	check(more, terms)
	if d.Len() != before {
		t.Error("a dictionary grew by one that extends it")
	}
	all, want := []graph.ID{0}, []graph.Term{{}}
	for _, term := range terms {
		all, want = append(all, more.Lookup(term)), append(want, term)
	}
	got := make([]graph.Term, len(all))
	if more.Terms(all, got); !slices.Equal(got, want) {
		t.Error("terms do not come back together")
	}
	if d.Lookup(terms[len(terms)-1]) != 0 {
		t.Error("a dictionary has a term of one that extends it")
	}
}

func TestTermsCrossTheBoundary(t *testing.T) {
	t.Parallel()
	for _, term := range []graph.Term{
		graph.NewIRI("http://é/"), graph.NewBlank("b.1"), graph.NewString("a\"\\\n\r\tb"), graph.NewTagged("x", "en"),
		graph.NewTagged("x", "zh-Hant-TW"), graph.NewTagged("x", "de-1996"), graph.NewTyped("1", graph.XSD+"integer"), graph.NewString(""),
	} {
		back, err := graph.FromRDF(term.RDF())
		if err != nil || back != term {
			t.Errorf("%v came back as %v, %v", term, back, err)
		}
		if got := term.RDF().Serialize(rdf.NTriples); got != term.String() {
			t.Errorf("serialised as %s, want %s", got, term)
		}
		if graph.Lang(term.RDF()) != term.Lang {
			t.Errorf("%v has language %q", term, graph.Lang(term.RDF()))
		}
	}
	for _, bad := range []rdf.Term{rdf.IRI{}, nil} {
		if _, err := graph.FromRDF(bad); err == nil {
			t.Errorf("%#v is no term", bad)
		}
	}
}

// TestResolveIRI is RFC 3986, sections 5.4.1 and 5.4.2.
func TestResolveIRI(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"g:h": "g:h", "g": "http://a/b/c/g", "./g": "http://a/b/c/g", "g/": "http://a/b/c/g/", "/g": "http://a/g", "//g": "http://g",
		"?y": "http://a/b/c/d;p?y", "g?y": "http://a/b/c/g?y", "#s": "http://a/b/c/d;p?q#s", "g#s": "http://a/b/c/g#s", "g?y#s": "http://a/b/c/g?y#s",
		";x": "http://a/b/c/;x", "g;x": "http://a/b/c/g;x", "g;x?y#s": "http://a/b/c/g;x?y#s", "": "http://a/b/c/d;p?q", ".": "http://a/b/c/", "./": "http://a/b/c/",
		"..": "http://a/b/", "../": "http://a/b/", "../g": "http://a/b/g", "../..": "http://a/", "../../": "http://a/", "../../g": "http://a/g",
		"../../../g": "http://a/g", "../../../../g": "http://a/g", "/./g": "http://a/g", "/../g": "http://a/g", "g.": "http://a/b/c/g.", ".g": "http://a/b/c/.g",
		"g..": "http://a/b/c/g..", "..g": "http://a/b/c/..g", "./../g": "http://a/b/g", "./g/.": "http://a/b/c/g/", "g/./h": "http://a/b/c/g/h", "g/../h": "http://a/b/c/h",
		"g;x=1/./y": "http://a/b/c/g;x=1/y", "g;x=1/../y": "http://a/b/c/y", "g?y/./x": "http://a/b/c/g?y/./x", "g#s/../x": "http://a/b/c/g#s/../x", "http:g": "http:g",
	} {
		if got, err := graph.ResolveIRI("http://a/b/c/d;p?q", ref); err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", ref, got, err, want)
		}
	}
	if _, err := graph.ResolveIRI("", "g"); err == nil {
		t.Error("a relative IRI without a base is resolved")
	}
}

func triple(s, p, o graph.Term) rdf.Triple { return graph.NewTriple(s, p, o) }

func build(t *testing.T, triples ...rdf.Triple) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder()
	for _, triple := range triples {
		if err := b.Add(triple); err != nil {
			t.Fatal(err)
		}
	}
	return b.Build()
}

func TestWriteNTriples(t *testing.T) {
	t.Parallel()
	a := triple(graph.NewIRI("u:a"), graph.NewIRI("u:p"), graph.NewTagged("ü\n", "de"))
	b := triple(graph.NewBlank("x"), graph.NewIRI("u:p"), graph.NewTyped("1", "u:t"))
	var one, two bytes.Buffer
	if err := build(t, a, b, a).WriteNTriples(&one); err != nil {
		t.Fatal(err)
	}
	if err := build(t, b, a).WriteNTriples(&two); err != nil {
		t.Fatal(err)
	}
	want := "<u:a> <u:p> \"ü\\n\"@de .\n_:x <u:p> \"1\"^^<u:t> .\n"
	if one.String() != want || two.String() != want {
		t.Errorf("got\n%s\n%s", one.String(), two.String())
	}
	var order []string
	for triple := range build(t, b, a).Triples() {
		order = append(order, triple.Subj.String())
	}
	if !slices.Equal(order, []string{"x", "u:a"}) {
		t.Errorf("triples come as %v, not in order of first appearance", order)
	}
}

func TestIsomorphic(t *testing.T) {
	t.Parallel()
	p := graph.NewIRI("u:p")
	cycle := func(prefix string, lengths ...int) *graph.Graph {
		var out []rdf.Triple
		for c, n := range lengths {
			for i := range n {
				out = append(out, triple(graph.NewBlank(fmt.Sprintf("%s%d_%d", prefix, c, i)), p, graph.NewBlank(fmt.Sprintf("%s%d_%d", prefix, c, (i+1)%n))))
			}
		}
		return build(t, out...)
	}
	for _, test := range []struct {
		a, b *graph.Graph
		want bool
	}{
		{cycle("a", 6), cycle("b", 6), true},
		{cycle("a", 6), cycle("b", 3, 3), false}, // no colouring tells them apart
		{cycle("a", 2, 4), cycle("b", 4, 2), true},
		{build(t, triple(graph.NewBlank("a"), p, graph.NewString("1"))), build(t, triple(graph.NewBlank("b"), p, graph.NewTyped("1", "u:t"))), false},
		{build(t), build(t), true},
	} {
		if got, err := graph.Isomorphic(test.a, test.b); err != nil || got != test.want {
			t.Errorf("got %t, %v, want %t", got, err, test.want)
		}
	}
}

func TestAddRefusesWhatIsNoTriple(t *testing.T) {
	t.Parallel()
	if err := graph.NewBuilder().Add(rdf.Triple{}); err == nil {
		t.Error("an empty triple is added")
	}
	b := graph.NewBuilder()
	b.MaxTriples = 1
	good := triple(graph.NewIRI("u:a"), graph.NewIRI("u:p"), graph.NewIRI("u:b"))
	if err := b.Add(good); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(good); fault.KindOf(err) != fault.Finding {
		t.Errorf("past the limit: %v", err)
	}
	b = graph.NewBuilder()
	b.MaxMemory = 1 << 20
	large := triple(graph.NewIRI("u:a"), graph.NewIRI("u:p"), graph.NewString(strings.Repeat("x", 1<<20)))
	if err := b.Add(large); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "more than 1 MiB of memory") {
		t.Errorf("past the memory: %v", err)
	}
}

func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		builder := graph.NewBuilder()
		d := builder.Dictionary()
		p := []graph.ID{d.Intern(graph.NewIRI("u:p")), d.Intern(graph.NewIRI("u:q"))}
		for i := range 50_000 {
			s := d.Intern(graph.NewIRI(fmt.Sprintf("u:%d", i)))
			for j := range 2 {
				if err := builder.AddIDs(0, s, p[j], graph.ID(1+i/2)); err != nil {
					b.Fatal(err)
				}
			}
		}
		builder.Build()
	}
}
