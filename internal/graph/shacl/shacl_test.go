package shacl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/turtle"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

const prolog = `
@prefix : <http://example.com/> .
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
`

func load(t testing.TB, name, text string) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder()
	if err := turtle.Load(strings.NewReader(prolog+text), turtle.Options{File: name, Base: "http://example.com/"}, b); err != nil {
		t.Fatal(err)
	}
	return b.Build()
}

func parse(t testing.TB, text string) *Shapes {
	t.Helper()
	s, err := Parse(t.Context(), load(t, "shapes.ttl", text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// brief writes a result as "focus|path|component|value", without namespaces.
func brief(r Result) string {
	short := strings.NewReplacer("http://example.com/", "", "<", "", ">", "", graph.XSD, "xsd:", "ConstraintComponent", "", SH, "")
	name := func(t graph.Term) string {
		if t.Kind == graph.Blank {
			return "_"
		}
		return t.String()
	}
	return short.Replace(fmt.Sprintf("%s|%s|%s|%s", name(r.Focus), r.Path, r.Component, name(r.Value)))
}

func briefs(results []Result) string {
	var out []string
	for _, r := range results {
		out = append(out, brief(r))
	}
	return strings.Join(out, "\n")
}

// TestConstraints holds every constraint against nodes that satisfy it and
// nodes that do not: what is not listed in want conforms.
func TestConstraints(t *testing.T) {
	t.Parallel()
	for _, c := range constraintCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			report, err := parse(t, c.shapes).Validate(t.Context(), load(t, "data.ttl", c.data), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Join(c.want, "\n")
			if got := briefs(report.Results); got != want {
				t.Errorf("results\n%s\nwant\n%s", got, want)
			}
			if report.Conforms != (len(c.want) == 0) {
				t.Errorf("conforms is %v with %d results", report.Conforms, len(c.want))
			}
			for _, r := range report.Results {
				if r.Text == "" || strings.Contains(r.Finding(finding.Place{}).What, "\n") {
					t.Errorf("result %s has no text of one line: %q", brief(r), r.Text)
				}
			}
		})
	}
}

var constraintCases = []struct {
	name, shapes, data string
	want               []string
}{
	{
		"minCount", `:S a sh:NodeShape ; sh:targetClass :C ; sh:property [ sh:path :p ; sh:minCount 2 ] .`,
		`:a a :C ; :p 1, 2 . :b a :C ; :p 1 . :c a :C .`,
		[]string{"b|p|MinCount|", "c|p|MinCount|"},
	},
	{
		"minCount of nothing", `:S sh:targetClass :C ; sh:property [ sh:path :p ; sh:minCount 0 ] .`, `:a a :C .`, nil,
	},
	{
		"maxCount counts distinct values", `:S sh:targetClass :C ; sh:property [ sh:path [ sh:alternativePath (:p :q) ] ; sh:maxCount 1 ] .`,
		`:a a :C ; :p 1 ; :q 1 . :b a :C ; :p 1 ; :q 2 .`,
		[]string{"b|p|q|MaxCount|"},
	},
	{
		"class with subclasses", `:S sh:targetClass :C ; sh:property [ sh:path :p ; sh:class :D ] .`,
		`:E rdfs:subClassOf :F . :F rdfs:subClassOf :D, :E . :x a :D . :y a :E . :z a :C2 . :a a :C ; :p :x, :y . :b a :C ; :p :z, "lit", :nowhere .`,
		[]string{`b|p|Class|"lit"`, "b|p|Class|nowhere", "b|p|Class|z"},
	},
	{
		"several classes are all needed", `:S sh:targetNode :a, :b ; sh:class :D, :E .`, `:a a :D, :E . :b a :D .`,
		[]string{"b||Class|b"},
	},
	{
		"datatype", `:S sh:targetClass :C ; sh:property [ sh:path :p ; sh:datatype xsd:integer ] .`,
		`:a a :C ; :p 1, -2 . :b a :C ; :p "x"^^xsd:integer, 1.5, "1", :i, "1"^^xsd:int .`,
		[]string{`b|p|Datatype|"1"`, `b|p|Datatype|"1"^^xsd:int`, `b|p|Datatype|"1.5"^^xsd:decimal`, `b|p|Datatype|"x"^^xsd:integer`, "b|p|Datatype|i"},
	},
	{
		"datatype bounds and languages", `:S sh:targetSubjectsOf :p ; sh:property [ sh:path :p ; sh:datatype xsd:byte ] . :L sh:targetObjectsOf :q ; sh:datatype rdf:langString .`,
		`:a :p "127"^^xsd:byte, "128"^^xsd:byte ; :q "x"@en, "y" .`,
		[]string{`"y"||Datatype|"y"`, `a|p|Datatype|"128"^^xsd:byte`},
	},
	{
		"datatypes of one's own", `:S sh:targetObjectsOf :p ; sh:datatype :own .`, `:a :p "x"^^:own, "x"^^:other .`,
		[]string{`"x"^^other||Datatype|"x"^^other`},
	},
	{
		"nodeKind", `:I sh:targetObjectsOf :i ; sh:nodeKind sh:IRI . :L sh:targetObjectsOf :l ; sh:nodeKind sh:Literal . :B sh:targetObjectsOf :b ; sh:nodeKind sh:BlankNode .
		 :IL sh:targetObjectsOf :il ; sh:nodeKind sh:IRIOrLiteral . :BI sh:targetObjectsOf :bi ; sh:nodeKind sh:BlankNodeOrIRI . :BL sh:targetObjectsOf :bl ; sh:nodeKind sh:BlankNodeOrLiteral .`,
		`:s :i :x, "bad i" ; :l "x", :badL ; :b [], :badB, "bad b" ; :il :x, "x" ; :bi [], :x, "bad bi" ; :bl [], "x", :badBL .`,
		[]string{`"bad b"||NodeKind|"bad b"`, `"bad bi"||NodeKind|"bad bi"`, `"bad i"||NodeKind|"bad i"`, "badB||NodeKind|badB", "badBL||NodeKind|badBL", "badL||NodeKind|badL"},
	},
	{
		"ranges", `:S sh:targetSubjectsOf :v ; sh:property [ sh:path :v ; sh:minInclusive 1 ; sh:maxExclusive 10 ] .`,
		`:a :v 1, 9.99, "5"^^xsd:byte, 2e0 . :b :v 0, 10, "5", :x, "NaN"^^xsd:double .`,
		[]string{
			`b|v|MaxExclusive|"10"^^xsd:integer`, `b|v|MaxExclusive|"5"`, `b|v|MaxExclusive|"NaN"^^xsd:double`, "b|v|MaxExclusive|x",
			`b|v|MinInclusive|"0"^^xsd:integer`, `b|v|MinInclusive|"5"`, `b|v|MinInclusive|"NaN"^^xsd:double`, "b|v|MinInclusive|x",
		},
	},
	{
		"ranges, the other two", `:S sh:targetObjectsOf :v ; sh:minExclusive 1 ; sh:maxInclusive 10 .`, `:a :v 2, 10, 1, 11 .`,
		[]string{`"1"^^xsd:integer||MinExclusive|"1"^^xsd:integer`, `"11"^^xsd:integer||MaxInclusive|"11"^^xsd:integer`},
	},
	{
		"ranges of times need comparable zones", `:S sh:targetObjectsOf :v ; sh:minInclusive "2024-01-01T12:00:00Z"^^xsd:dateTime .`,
		`:a :v "2024-01-01T13:00:00+01:00"^^xsd:dateTime, "2024-01-01T12:00:00"^^xsd:dateTime, "2024-01-03T12:00:00"^^xsd:dateTime .`,
		[]string{`"2024-01-01T12:00:00"^^xsd:dateTime||MinInclusive|"2024-01-01T12:00:00"^^xsd:dateTime`},
	},
	{
		"lengths in characters, blank nodes have none", `:S sh:targetObjectsOf :v ; sh:minLength 2 ; sh:maxLength 3 . :T sh:targetObjectsOf :w ; sh:minLength 0 .`,
		`:a :v "äö", "äöü", "é"@fr, "abcd", 12 ; :w [] .`,
		[]string{`"abcd"||MaxLength|"abcd"`, `"é"@fr||MinLength|"é"@fr`, "_||MinLength|_"},
	},
	{
		"an IRI has a length too", `:S sh:targetNode :a ; sh:maxLength 5 .`, `:a :v 1 .`, []string{"a||MaxLength|a"},
	},
	{
		"pattern", `:S sh:targetObjectsOf :v ; sh:pattern "^b" . :T sh:targetObjectsOf :w ; sh:pattern "^B.d$" ; sh:flags "is" .`,
		`:a :v "bob", "Bob", "b"@en ; :w "b\nd", "bd" .`,
		[]string{`"Bob"||Pattern|"Bob"`, `"bd"||Pattern|"bd"`},
	},
	{
		"pattern on IRIs and blank nodes", `:S sh:targetObjectsOf :v ; sh:pattern "example" .`, `:a :v :b, [] .`,
		[]string{"_||Pattern|_"},
	},
	{
		"languageIn", `:S sh:targetObjectsOf :v ; sh:languageIn ("en" "fr") .`, `:a :v "a"@en, "b"@en-GB, "c"@FR, "d"@de, "e", :f, "g"@eng .`,
		[]string{`"d"@de||LanguageIn|"d"@de`, `"e"||LanguageIn|"e"`, `"g"@eng||LanguageIn|"g"@eng`, "f||LanguageIn|f"},
	},
	{
		"uniqueLang once a language", `:S sh:targetSubjectsOf :v ; sh:property [ sh:path :v ; sh:uniqueLang true ] . :T sh:targetSubjectsOf :v ; sh:property [ sh:path :v ; sh:uniqueLang false ] .`,
		`:a :v "a"@en, "b"@de, "c", "d" . :b :v "a"@en, "b"@en, "c"@en, "a"@de, "b"@de .`,
		[]string{"b|v|UniqueLang|", "b|v|UniqueLang|"},
	},
	{
		"equals", `:S sh:targetSubjectsOf :p ; sh:property [ sh:path :p ; sh:equals :q ] .`, `:a :p 1, 2 ; :q 2, 1 . :b :p 1, 2 ; :q 2, 3 .`,
		[]string{`b|p|Equals|"1"^^xsd:integer`, `b|p|Equals|"3"^^xsd:integer`},
	},
	{
		"equals on a node", `:S sh:targetSubjectsOf :q ; sh:equals :q .`, `:a :q :a . :b :q :c .`, []string{"b||Equals|b", "b||Equals|c"},
	},
	{
		"disjoint", `:S sh:targetSubjectsOf :p ; sh:property [ sh:path :p ; sh:disjoint :q ] . :T sh:targetSubjectsOf :r ; sh:disjoint :r .`,
		`:a :p 1 ; :q 2 . :b :p 1, 2 ; :q 2, 3 . :c :r :c .`, []string{`b|p|Disjoint|"2"^^xsd:integer`, "c||Disjoint|c"},
	},
	{
		"lessThan, a result for each pair", `:S sh:targetSubjectsOf :p ; sh:property [ sh:path :p ; sh:lessThan :q ] .`, `:a :p 1 ; :q 2, 3 . :b :p 3, "x" ; :q 3, 4 . :c :p 1 .`,
		[]string{`b|p|LessThan|"3"^^xsd:integer`, `b|p|LessThan|"x"`, `b|p|LessThan|"x"`},
	},
	{
		"lessThanOrEquals", `:S sh:targetSubjectsOf :p ; sh:property [ sh:path :p ; sh:lessThanOrEquals :q ] .`, `:a :p 2 ; :q 2, 3.0 . :b :p 3 ; :q 2 .`,
		[]string{`b|p|LessThanOrEquals|"3"^^xsd:integer`},
	},
	{
		"in", `:S sh:targetObjectsOf :v ; sh:in (:x "y" 1) .`, `:a :v :x, "y", 1, "1", "y"@en, 01 .`,
		[]string{`"01"^^xsd:integer||In|"01"^^xsd:integer`, `"1"||In|"1"`, `"y"@en||In|"y"@en`},
	},
	{
		"in nothing", `:S sh:targetNode :a ; sh:in () .`, ``, []string{"a||In|a"},
	},
	{
		"hasValue", `:S sh:targetSubjectsOf :p ; sh:property [ sh:path :p ; sh:hasValue 1, :x ] .`, `:a :p 1, :x, 2 . :b :p :x . :c :p 3 .`,
		[]string{"b|p|HasValue|", "c|p|HasValue|", "c|p|HasValue|"},
	},
	{
		"blank nodes of shapes are none of the data's", `:S sh:targetObjectsOf :p ; sh:in (_:b) .`, `:a :p _:b .`, []string{"_||In|_"},
	},
	{
		"closed", `:S sh:targetNode :a, :b ; sh:closed true ; sh:ignoredProperties (rdf:type) ; sh:property [ sh:path :p ], [ sh:path [ sh:inversePath :q ] ] .
		 :T sh:targetNode :c ; sh:closed false .`,
		`:a a :C ; :p 1 . :b :p 1 ; :q 2 ; :r :x, :y . :c :any 1 .`,
		[]string{`b|q|Closed|"2"^^xsd:integer`, "b|r|Closed|x", "b|r|Closed|y"},
	},
	{
		"closed over a path", `:S sh:targetNode :a ; sh:path :p ; sh:closed true .`, `:a :p :b . :b :q 1 .`, []string{`a|q|Closed|"1"^^xsd:integer`},
	},
	{
		"not", `:S sh:targetNode :a, :b ; sh:not [ sh:class :D ] .`, `:b a :D .`, []string{"b||Not|b"},
	},
	{
		"and", `:S sh:targetNode :a, :b ; sh:and ([ sh:class :D ] :Other) . :Other sh:property [ sh:path :p ; sh:minCount 1 ] .`, `:a a :D ; :p 1 . :b a :D .`,
		[]string{"b||And|b"},
	},
	{
		"or", `:S sh:targetSubjectsOf :p ; sh:property [ sh:path :p ; sh:or ([ sh:datatype xsd:string ] [ sh:datatype xsd:integer ]) ] .`, `:a :p "x", 1, 1.5 .`,
		[]string{`a|p|Or|"1.5"^^xsd:decimal`},
	},
	{
		"or and and of nothing", `:S sh:targetNode :a ; sh:or () ; sh:and () .`, ``, []string{"a||Or|a"},
	},
	{
		"xone", `:S sh:targetNode :none, :one, :two ; sh:xone ([ sh:class :D ] [ sh:class :E ]) .`, `:one a :D . :two a :D, :E .`,
		[]string{"none||Xone|none", "two||Xone|two"},
	},
	{
		"xone with one shape twice", `:D sh:class :K . :S sh:targetNode :a ; sh:xone (:D :D) .`, `:a a :K .`, []string{"a||Xone|a"},
	},
	{
		"node", `:S sh:targetSubjectsOf :p ; sh:property [ sh:path :p ; sh:node :Address ] . :Address sh:property [ sh:path :zip ; sh:minCount 1 ; sh:maxLength 5 ] .`,
		`:a :p [ :zip "12345" ] . :b :p :bad, "lit" . :bad :zip "123456" .`, []string{`b|p|Node|"lit"`, "b|p|Node|bad"},
	},
	{
		"property gives results of its own", `:S sh:targetNode :a ; sh:property [ sh:path :p ; sh:property [ sh:path :q ; sh:minCount 1 ] ] .`, `:a :p :b, :c . :b :q 1 .`,
		[]string{"c|q|MinCount|"},
	},
	{
		"qualified", `:Hand sh:targetSubjectsOf :digit ; sh:property [ sh:path :digit ; sh:qualifiedValueShape [ sh:class :Thumb ] ; sh:qualifiedMinCount 1 ; sh:qualifiedMaxCount 1 ] .`,
		`:t a :Thumb . :u a :Thumb . :f a :Finger . :ok :digit :t, :f . :none :digit :f . :two :digit :t, :u .`,
		[]string{"none|digit|QualifiedMinCount|", "two|digit|QualifiedMaxCount|"},
	},
	{
		"qualified and disjoint", `:Hand sh:targetSubjectsOf :digit ;
		   sh:property [ sh:path :digit ; sh:qualifiedValueShape [ sh:class :Thumb ] ; sh:qualifiedValueShapesDisjoint true ; sh:qualifiedMinCount 1 ] ,
		               [ sh:path :digit ; sh:qualifiedValueShape [ sh:class :Finger ] ; sh:qualifiedValueShapesDisjoint true ; sh:qualifiedMinCount 1 ] .`,
		`:t a :Thumb . :f a :Finger . :x a :Thumb, :Finger . :ok :digit :t, :f . :bad :digit :x .`,
		[]string{"bad|digit|QualifiedMinCount|", "bad|digit|QualifiedMinCount|"},
	},

	{
		"path sequence", `:S sh:targetNode :a ; sh:property [ sh:path (:p :q) ; sh:in (1) ] .`, `:a :p :b, :c . :b :q 1 . :c :q 1, 2 .`, []string{`a|p/q|In|"2"^^xsd:integer`},
	},
	{
		"path inverse of a sequence", `:S sh:targetNode :a ; sh:property [ sh:path [ sh:inversePath (:p :q) ] ; sh:in () ] .`, `:x :p :y . :y :q :a .`, []string{"a|^(p/q)|In|x"},
	},
	{
		"path zeroOrMore over a cycle", `:S sh:targetNode :a ; sh:property [ sh:path [ sh:zeroOrMorePath :p ] ; sh:in (:a) ] .`, `:a :p :b . :b :p :a, :c .`,
		[]string{"a|p*|In|b", "a|p*|In|c"},
	},
	{
		"path zeroOrMore from a node that is nowhere", `:S sh:targetNode :gone ; sh:property [ sh:path [ sh:zeroOrMorePath :p ] ; sh:in () ] .`, ``, []string{"gone|p*|In|gone"},
	},
	{
		"path oneOrMore over a cycle", `:S sh:targetNode :a ; sh:property [ sh:path [ sh:oneOrMorePath :p ] ; sh:in (:b) ] .`, `:a :p :b . :b :p :a, :c .`, []string{"a|p+|In|a", "a|p+|In|c"},
	},
	{
		"path zeroOrOne", `:S sh:targetNode :a ; sh:property [ sh:path [ sh:zeroOrOnePath :p ] ; sh:in () ] .`, `:a :p :b . :b :p :c .`, []string{"a|p?|In|a", "a|p?|In|b"},
	},
	{
		"path of paths", `:S sh:targetNode :a ; sh:property [ sh:path ([ sh:zeroOrMorePath [ sh:alternativePath (:p [ sh:inversePath :q ]) ] ] :r) ; sh:maxCount 1 ] .`,
		`:a :p :b ; :r 1 . :c :q :b ; :r 2 .`, []string{"a|((p|(^q))*)/r|MaxCount|"},
	},

	{
		"targets and who they reach", `:N sh:targetNode :a, "lit" ; sh:in () . :C sh:targetClass :K ; sh:class :No . :SO sh:targetSubjectsOf :p ; sh:nodeKind sh:Literal . :OO sh:targetObjectsOf :p ; sh:nodeKind sh:IRI .`,
		`:k a :L . :L rdfs:subClassOf :K . :s :p 1 .`,
		[]string{`"1"^^xsd:integer||NodeKind|"1"^^xsd:integer`, `"lit"||In|"lit"`, "a||In|a", "k||Class|k", "s||NodeKind|s"},
	},
	{
		"a node of several targets counts once", `:S sh:targetNode :a ; sh:targetClass :K ; sh:targetSubjectsOf :p ; sh:class :No .`, `:a a :K ; :p 1 .`, []string{"a||Class|a"},
	},
	{
		"implicit class target", `:K a rdfs:Class, sh:NodeShape ; sh:property [ sh:path :p ; sh:minCount 1 ] . :M a :Meta, sh:NodeShape ; sh:class :No . :Meta rdfs:subClassOf rdfs:Class . :O a owl:Class ; sh:class :No .`,
		`:a a :K . :b a :L . :L rdfs:subClassOf :K . :m a :M . :o a :O .`, []string{"a|p|MinCount|", "b|p|MinCount|", "m||Class|m"},
	},
	{
		"a property shape has targets too", `:P a sh:PropertyShape ; sh:targetClass :K ; sh:path :p ; sh:minCount 1 .`, `:a a :K .`, []string{"a|p|MinCount|"},
	},
	{
		"deactivated", `:S sh:targetNode :a ; sh:deactivated true ; sh:class :No . :T sh:targetNode :a ; sh:property [ sh:path :p ; sh:minCount 1 ; sh:deactivated true ] ; sh:not [ sh:deactivated true ; sh:class :No ] .`,
		``, []string{"a||Not|a"},
	},
}

// TestMalformed holds what the standard forbids against what is said of it.
func TestMalformed(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, shapes, want, hint string }{
		{"misspelt constraint", `:S sh:targetNode :a ; sh:property [ sh:path :p ; sh:minCuont 1 ] .`, `sh:minCuont is no word`, `did you mean "minCount"?`},
		{"SPARQL", `:S sh:targetNode :a ; sh:sparql [ sh:select "…" ] .`, `<http://example.com/S>: sh:sparql is a SPARQL-based constraint`, "core"},
		{"JavaScript", `:S sh:targetNode :a ; sh:js [] .`, `sh:js is a constraint in JavaScript`, "core"},
		{"rule", `:S sh:targetNode :a ; sh:rule [] .`, `sh:rule is a rule`, "core"},
		{"custom target", `:S a sh:NodeShape ; sh:target [] .`, `sh:target is a custom target`, "core"},
		{"custom component", `:S sh:targetNode :a ; :lang "de" . :Own a sh:ConstraintComponent ; sh:parameter [ sh:path :lang ] .`, `<http://example.com/lang> uses a constraint component of its own, <http://example.com/Own>`, "core"},
		{"entailment", `:g sh:entailment <http://www.w3.org/ns/entailment/RDFS> .`, `sh:entailment asks for`, "inferences"},

		{"path twice", `:S sh:targetNode :a ; sh:path :p, :q .`, "sh:path has 2 values; at most one is allowed (SHACL, section 2.3.1)", ""},
		{"path of a node shape", `:S a sh:NodeShape ; sh:path :p .`, "section 2.2)", ""},
		{"no path", `:S a sh:PropertyShape .`, "section 2.3)", "add sh:path"},
		{"literal path", `:S sh:targetNode :a ; sh:path "p" .`, `sh:path is the literal "p"`, ""},
		{"short sequence", `:S sh:targetNode :a ; sh:path (:p) .`, "has 1 member; it needs two (SHACL, section 2.3.1.2)", ""},
		{"short alternative", `:S sh:targetNode :a ; sh:path [ sh:alternativePath (:p) ] .`, "section 2.3.1.3)", ""},
		{"two paths in one node", `:S sh:targetNode :a ; sh:path [ sh:inversePath :p ; sh:zeroOrMorePath :q ] .`, "2 property values", ""},
		{"no path in a node", `:S sh:targetNode :a ; sh:path [ :other :p ] .`, "that is no path", ""},
		{"path within itself", `:S sh:targetNode :a ; sh:path _:p . _:p sh:inversePath _:p .`, "part of itself", ""},
		{"list without end", `:S sh:targetNode :a ; sh:in _:l . _:l rdf:first 1 ; rdf:rest _:l .`, "list without end (SHACL, section 4.8.3)", ""},
		{"list with two members in a cell", `:S sh:targetNode :a ; sh:in [ rdf:first 1, 2 ; rdf:rest () ] .`, "is no list", ""},
		{"no list", `:S sh:targetNode :a ; sh:and :x .`, "sh:and is no list (SHACL, section 4.6.2)", ""},

		{"target class literal", `:S sh:targetClass "C" .`, `sh:targetClass is "C", not an IRI (SHACL, section 2.1.3.2)`, ""},
		{"target blank", `:S sh:targetNode [] .`, "not an IRI or a literal (SHACL, section 2.1.3.1)", ""},
		{"blank class", `[] a rdfs:Class, sh:NodeShape .`, "section 2.1.3.3)", ""},
		{"severity", `:S sh:targetNode :a ; sh:severity "high" .`, "section 2.1.4)", ""},
		{"message", `:S sh:targetNode :a ; sh:message 1 .`, "section 2.1.5)", ""},
		{"deactivated", `:S sh:targetNode :a ; sh:deactivated "yes" .`, "section 2.1.6)", ""},

		{"count twice", `:S sh:targetNode :a ; sh:path :p ; sh:minCount 1, 2 .`, "sh:minCount has 2 values; at most one is allowed (SHACL, section 4.2.1)", ""},
		{"count of a node shape", `:S sh:targetNode :a ; sh:maxCount 1 .`, "section 4.2.2)", "sh:property"},
		{"count as text", `:S sh:targetNode :a ; sh:path :p ; sh:minCount "1" .`, "not an xsd:integer", ""},
		{"datatype text", `:S sh:targetNode :a ; sh:datatype "string" .`, "not an IRI (SHACL, section 4.1.2)", ""},
		{"datatype twice", `:S sh:targetNode :a ; sh:datatype xsd:string, xsd:integer .`, "section 4.1.2)", ""},
		{"class text", `:S sh:targetNode :a ; sh:class "C" .`, "section 4.1.1)", ""},
		{"node kind", `:S sh:targetNode :a ; sh:nodeKind sh:Litteral .`, "section 4.1.3)", `did you mean "Literal"?`},
		{"range IRI", `:S sh:targetNode :a ; sh:minInclusive :one .`, "not a literal (SHACL, section 4.3.2)", ""},
		{"length text", `:S sh:targetNode :a ; sh:maxLength "5" .`, "section 4.4.2)", ""},
		{"pattern", `:S sh:targetNode :a ; sh:pattern "(" .`, `sh:pattern "(" with flags "" is not valid (SHACL, section 4.4.3)`, ""},
		{"pattern flags", `:S sh:targetNode :a ; sh:pattern "a" ; sh:flags "g" .`, `flags "g"`, ""},
		{"flags twice", `:S sh:targetNode :a ; sh:pattern "a" ; sh:flags "i", "s" .`, `sh:flags has 2 values`, ""},
		{"language number", `:S sh:targetNode :a ; sh:languageIn (1) .`, "section 4.4.4)", ""},
		{"uniqueLang of a node shape", `:S sh:targetNode :a ; sh:uniqueLang true .`, "section 4.4.5)", ""},
		{"equals text", `:S sh:targetNode :a ; sh:equals "p" .`, "section 4.5.1)", ""},
		{"lessThan of a node shape", `:S sh:targetNode :a ; sh:lessThan :q .`, "section 4.5.3)", ""},
		{"node literal", `:S sh:targetNode :a ; sh:node "x" .`, "not a shape (SHACL, section 4.7.1)", ""},
		{"node with a path", `:S sh:targetNode :a ; sh:node [ sh:path :p ] .`, "section 4.7.1)", "use sh:property"},
		{"property without path", `:S sh:targetNode :a ; sh:property :Q . :Q sh:class :C .`, "section 4.7.2)", "add sh:path"},
		{"or literal", `:S sh:targetNode :a ; sh:or ("x") .`, "section 4.6.3)", ""},
		{"qualified of a node shape", `:S sh:targetNode :a ; sh:qualifiedValueShape [] ; sh:qualifiedMinCount 1 .`, "section 4.7.3)", ""},
		{"closed text", `:S sh:targetNode :a ; sh:closed "true" .`, "section 4.8.1)", ""},
		{"ignored text", `:S sh:targetNode :a ; sh:closed true ; sh:ignoredProperties ("x") .`, "section 4.8.1)", ""},

		{"recursion", `:S sh:targetNode :a ; sh:node :S .`, "shapes refer to themselves: <http://example.com/S> → <http://example.com/S> (SHACL, section 3.4.3)", "break the cycle"},
		{
			"recursion through others", `:A sh:targetNode :a ; sh:property [ sh:path :p ; sh:or ([ sh:class :C ] :B) ] . :B sh:not :A .`,
			"<http://example.com/A> → <http://example.com/A> property <http://example.com/p> → <http://example.com/B> → <http://example.com/A>", "",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(t.Context(), load(t, "shapes.ttl", c.shapes))
			if err == nil {
				t.Fatal("no error")
			}
			if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.HintOf(err), c.hint) {
				t.Errorf("%v\nhint: %s\nkind %v; want %q, hint %q", err, fault.HintOf(err), fault.KindOf(err), c.want, c.hint)
			}
		})
	}
}

// TestAccepted holds what looks wrong and is allowed.
func TestAccepted(t *testing.T) {
	t.Parallel()
	for name, shapes := range map[string]string{
		"a deactivated shape ends a cycle": `:S sh:targetNode :a ; sh:node :T . :T sh:node :S ; sh:deactivated true .`,
		"a shape that two refer to":        `:S sh:targetNode :a ; sh:node :T, :U . :T sh:node :V . :U sh:node :V . :V sh:class :C .`,
		"a list with more in its node":     `:S sh:targetNode :a ; sh:path [ rdf:first :p ; rdf:rest (:q) ; sh:inversePath :r ] .`,
		"words that change no result":      `:S sh:targetNode :a ; sh:property [ sh:path :p ; sh:name "p", "q"@de ; sh:description "d" ; sh:order 1.5 ; sh:group :g ; sh:defaultValue 1 ] .`,
		"declared component without use":   `:Own a sh:ConstraintComponent ; sh:parameter [ sh:path :lang ] .`,
		"words of other vocabularies":      `:S sh:targetNode :a ; rdfs:label "S" ; :note "n" .`,
		"nothing":                          ``,
	} {
		if _, err := Parse(t.Context(), load(t, "shapes.ttl", shapes)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMistakesAreToldTogether(t *testing.T) {
	t.Parallel()
	_, err := Parse(t.Context(), load(t, "shapes.ttl", `:S sh:targetNode :a ; sh:class "C" . :T sh:targetNode :a ; sh:datatype "D" .`))
	if err == nil || !strings.Contains(err.Error(), "shape <http://example.com/S>") || !strings.Contains(err.Error(), "shape <http://example.com/T>") {
		t.Errorf("%v", err)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	shapes := parse(t, `
:Person sh:targetClass :P ;
  sh:property [ sh:path :name ; sh:minCount 1 ; sh:message "Ein Mensch hat einen Namen"@de, "a person has a name"@en ] ;
  sh:property [ sh:path :age ; sh:maxInclusive 150 ; sh:severity sh:Warning ] ;
  sh:property [ sh:path :home ; sh:node :Address ; sh:severity sh:Info ] ;
  sh:property [ sh:path :kind ; sh:in ("teacher" "student") ] .
:Address sh:property [ sh:path :city ; sh:minCount 1 ; sh:node [ sh:pattern "^[A-Z]" ] ] .`)
	report, err := shapes.Validate(t.Context(), load(t, "data.ttl", `:ann a :P ; :age 151 ; :home :h ; :kind "student", "techer" . :h :city "berlin" .`), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if report.Conforms || report.Violations() != 2 {
		t.Errorf("conforms %v, %d violations", report.Conforms, report.Violations())
	}
	var findings []string
	for _, r := range report.Results {
		f := r.Finding(finding.Place{File: "data.ttl"})
		findings = append(findings, fmt.Sprintf("%s %s %s %q %q", f.Rule, f.Severity, f.What, f.Why, f.Fix))
	}
	want := []string{
		`shape-max-inclusive medium <http://example.com/ann> <http://example.com/age> "151"^^<http://www.w3.org/2001/XMLSchema#integer>: is not less than or equal to "150"^^<http://www.w3.org/2001/XMLSchema#integer> "shape <http://example.com/Person> property <http://example.com/age>" "change the data, or the shape"`,
		`shape-node info <http://example.com/ann> <http://example.com/home> <http://example.com/h>: does not conform to <http://example.com/Address> "shape <http://example.com/Person> property <http://example.com/home>\n  <http://example.com/h> <http://example.com/city> \"berlin\": does not conform to <http://example.com/Address> property <http://example.com/city> node\n    \"berlin\": does not match \"^[A-Z]\"" "change the data, or the shape"`,
		`shape-in high <http://example.com/ann> <http://example.com/kind> "techer": is none of: "teacher", "student" "shape <http://example.com/Person> property <http://example.com/kind>" "did you mean \"teacher\"?"`,
		`shape-min-count high <http://example.com/ann> <http://example.com/name>: a person has a name "has 0 values; at least 1 needed\nshape <http://example.com/Person> property <http://example.com/name>" "add 1 value"`,
	}
	if got := strings.Join(findings, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("findings\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "violation: <http://example.com/ann> <http://example.com/name>: a person has a name\n") {
		t.Errorf("%v: %s", err, text.String())
	}
	b, err := json.Marshal(report)
	var back struct {
		Conforms bool
		Result   []map[string]any
	}
	if err == nil {
		err = json.Unmarshal(b, &back)
	}
	if err != nil || back.Conforms || len(back.Result) != 4 || back.Result[3]["focusNode"] != "<http://example.com/ann>" {
		t.Errorf("%v: %s", err, b)
	}
}

func TestRemarks(t *testing.T) {
	t.Parallel()
	shapes := parse(t, `
<> owl:imports <http://example.org/other> .
:Unused a sh:NodeShape ; sh:class :C .
:S sh:targetNode :a ; sh:node :Nowhere ; sh:flags "i" .`)
	var got []string
	for _, f := range shapes.Remarks(finding.Place{}) {
		got = append(got, f.Rule+" "+f.What)
	}
	want := []string{
		"shape-import owl:imports <http://example.org/other> was not followed",
		"shape-unused shape <http://example.com/Unused> is applied to nothing",
		"shape-incomplete shape <http://example.com/S>: sh:flags has no effect",
		"shape-empty shape <http://example.com/Nowhere> says nothing, so everything conforms to it",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("remarks\n%s", strings.Join(got, "\n"))
	}
}

// chain returns n shapes, each of which refers to the next twice.
func chain(n int) string {
	var b strings.Builder
	b.WriteString(":s0 sh:targetClass :C .\n")
	for i := range n {
		fmt.Fprintf(&b, ":s%d sh:and (:s%d) ; sh:or (:s%d :s%d) ; sh:node :s%d .\n", i, i+1, i+1, i+1, i+1)
	}
	fmt.Fprintf(&b, ":s%d sh:class :D .\n", n)
	return b.String()
}

func TestLimits(t *testing.T) {
	t.Parallel()
	data := load(t, "data.ttl", `:a a :C . :b a :C, :D .`)
	t.Run("shapes that refer to one another many times cost little", func(t *testing.T) {
		t.Parallel()
		report, err := parse(t, chain(40)).Validate(t.Context(), data, Limits{Work: 1_000_000})
		if err != nil || len(report.Results) != 3 {
			t.Errorf("%v %v", report, err)
		}
	})
	t.Run("depth of shapes", func(t *testing.T) {
		t.Parallel()
		_, err := Parse(t.Context(), load(t, "s", chain(MaxDepth+1)))
		if err == nil || !strings.Contains(err.Error(), "more than 64 shapes in a row") {
			t.Errorf("%v", err)
		}
	})
	t.Run("depth of paths", func(t *testing.T) {
		t.Parallel()
		_, err := Parse(t.Context(), load(t, "s", `:S sh:targetNode :a ; sh:path `+strings.Repeat("[ sh:inversePath ", 100)+":p"+strings.Repeat(" ]", 100)+" ."))
		if err == nil || !strings.Contains(err.Error(), "deeper than 64 levels") {
			t.Errorf("%v", err)
		}
	})
	many := load(t, "many", strings.Repeat(":x", 1)+" a :C"+func() string {
		var b strings.Builder
		for i := range 100 {
			fmt.Fprintf(&b, " . :n%d a :C ; :next :n%d", i, i+1)
		}
		return b.String()
	}()+" .")
	t.Run("results", func(t *testing.T) {
		t.Parallel()
		report, err := parse(t, `:S sh:targetClass :C ; sh:class :D .`).Validate(t.Context(), many, Limits{Results: 10})
		if err != nil || len(report.Results) != 10 || !report.Truncated {
			t.Errorf("%v %v", report, err)
		}
	})
	t.Run("work", func(t *testing.T) {
		t.Parallel()
		_, err := parse(t, `:S sh:targetClass :C ; sh:property [ sh:path [ sh:zeroOrMorePath :next ] ; sh:maxCount 1000 ] .`).Validate(t.Context(), many, Limits{Work: 1000})
		if err == nil || !strings.Contains(err.Error(), "more than 1000 steps") || fault.KindOf(err) != fault.Finding {
			t.Errorf("%v", err)
		}
	})
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stopped)
		_, err := parse(t, `:S sh:targetClass :C ; sh:property [ sh:path [ sh:zeroOrMorePath :next ] ; sh:maxCount 1000 ] .`).Validate(ctx, many, Limits{})
		if !errors.Is(err, stopped) {
			t.Errorf("%v", err)
		}
	})
}

// TestOrder loads data in two orders: the report is the same.
func TestOrder(t *testing.T) {
	t.Parallel()
	shapes := parse(t, `:S sh:targetClass :C ; sh:class :D ; sh:property [ sh:path :p ; sh:in (1) ; sh:maxCount 1 ] .`)
	var reports [2]string
	for i, data := range []string{`:a a :C ; :p 1, 2, 3 . :b a :C ; :p 4 .`, `:b a :C ; :p 4 . :a a :C ; :p 3, 1, 2 .`} {
		report, err := shapes.Validate(t.Context(), load(t, "data.ttl", data), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		reports[i] = briefs(report.Results)
	}
	if reports[0] != reports[1] {
		t.Errorf("%s\n\n%s", reports[0], reports[1])
	}
}

// BenchmarkValidate has 20,000 focus nodes in 80,000 triples.
func BenchmarkValidate(b *testing.B) {
	var data strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&data, ":p%d a :P ; :name \"n%d\" ; :age %d ; :knows :p%d .\n", i, i, i%100, i*7%20_000)
	}
	g := load(b, "data.ttl", data.String())
	shapes := parse(b, `:S sh:targetClass :P ; sh:property [ sh:path :name ; sh:minCount 1 ; sh:datatype xsd:string ], [ sh:path :age ; sh:maxInclusive 98 ],
	  [ sh:path :knows ; sh:class :P ; sh:node [ sh:property [ sh:path :name ; sh:pattern "^n" ] ] ], [ sh:path [ sh:inversePath :knows ] ; sh:maxCount 5 ] .`)
	for b.Loop() {
		if report, err := shapes.Validate(b.Context(), g, Limits{}); err != nil || len(report.Results) != 200 {
			b.Fatal(report, err)
		}
	}
}

// FuzzShapes reads a document as shapes and as data at once: whatever it is,
// there is a verdict or an error.
func FuzzShapes(f *testing.F) {
	for _, c := range constraintCases {
		f.Add(prolog + c.shapes + "\n" + c.data)
	}
	f.Add(prolog + chain(5))
	f.Fuzz(func(t *testing.T, text string) {
		b := graph.NewBuilder()
		if turtle.Load(strings.NewReader(text), turtle.Options{File: "f", Base: "http://example.com/"}, b) != nil {
			return
		}
		g := b.Build()
		shapes, err := Parse(t.Context(), g)
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		report, err := shapes.Validate(t.Context(), g, Limits{Results: 100, Work: 1_000_000})
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		if report.Conforms != (len(report.Results) == 0) {
			t.Fatal("the verdict is not that of the results")
		}
		if err := report.WriteText(new(strings.Builder)); err != nil {
			t.Fatal(err)
		}
	})
}
