package tera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

var _ render.Engine = (*Engine)(nil)

const testVars = `{
	"name": "ada", "n": 3, "f": 2.5, "whole": 4.0, "big": 18446744073709551615, "none": null, "yes": true, "empty": "",
	"list": [3, 1, 2], "words": ["b", "A", "a"], "map": {"b": 1, "a": {"c": "deep"}, "x.y": "dotted"}, "key": "b", "dots": "a.c",
	"people": [{"name": "Bo", "age": 7, "team": "red"}, {"name": "Al", "age": 5, "team": "blue"}, {"name": "Cy", "age": 9, "team": "red"}, {"name": "No"}],
	"text": "one two\nthree", "html": "<a href='x'>T&C</a>", "a": {"b": "outer"}
}`

func vars(t testing.TB, src string) *render.Map {
	t.Helper()
	m, err := render.ParseJSONObject([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func renderWith(t testing.TB, o Options, src string) (string, error) {
	t.Helper()
	tmpl, err := New(o).Parse("main.tera", src)
	if err != nil {
		return "", err
	}
	return tmpl.RenderString(context.Background(), vars(t, testVars))
}

func TestRender(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ src, want string }{
		// Printing.
		{`{{ whole }} {{ f }} {{ big }} {{ none }} {{ yes }} {{ list }} {{ map }}`, `4 2.5 18446744073709551615  true [3, 1, 2] [object]`},
		{`{{ 1e }}`, "error"},
		{"{{ `a\\n` }}", `a\n`},
		// Arithmetic.
		{`{{ 7 / 2 }} {{ 6 / 2 }} {{ 7 % 4 }} {{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 1 - 2 - 3 }}`, `3.5 3 3 7 9 -4`},
		{`{{ 1 / 0 }} {{ 0 / 0 + 1 }}`, `NaN NaN`},
		{`{{ 9223372036854775807 + 1 }}`, "error"},
		{`{{ -9223372036854775807 - 2 }}`, "error"},
		{`{{ 4611686018427387904 * 2 }}`, "error"},
		{`{{ 1 % 0 }}`, "error"},
		{`{{ big - 1 }}`, "18446744073709551614"},
		{`{{ big + 1 }}`, "error"},
		{`{{ 1.9 + n | round }}`, "5"},
		{`{{ n ~ "-" ~ whole ~ 4.0 }}`, "3-4.04"},
		{`{{ none ~ "x" }}`, "error"},
		// Conditions.
		{`{% if missing %}a{% elif not missing %}b{% endif %}`, "b"},
		{`{% if name | length > 2 and n in list %}in{% endif %}`, "in"},
		{`{% if name | nope %}a{% else %}swallowed{% endif %}`, "swallowed"},
		{`{{ not name == "bo" }}`, "false"}, // as in Tera: the sign counts twice when printed
		{`{% if not name == "bo" %}yes{% endif %}`, "yes"},
		{`{% if (not yes) %}as Tera{% endif %}`, "as Tera"},
		{`{% if not n == "3" %}a{% else %}b{% endif %}`, "b"}, // a number and a string: not is forgotten
		{`{% set x = [1] %}{% set y = [1.0] %}{{ 1 == 1.0 }} {{ x == y }} {{ 1.0 in x }}`, "true false false"},
		{`{% if n is odd and n is not even and n is divisibleby(3) %}odd{% endif %}`, "odd"},
		{`{% if n isodd %}odd{% endif %}`, "odd"},
		{`{{ truely }}`, "error"},
		{`{{ missing is defined }} {{ none is defined }}`, "false true"},
		{`{% if map is containing("b") and name is matching("^a.a$") %}m{% endif %}`, "m"},
		// Paths.
		{`{{ map.a.c }} {{ map["a"].c }} {{ map[key] }} {{ list[0] }} {{ list.1 }} {{ people[list[1]].name }}`, "deep deep 1 3 1 Al"},
		{`{{ map["x.y"] }}`, "dotted"},
		{`{{ map[dots] }}`, "error"}, // a dot in a computed key divides nothing
		{`{{ list[-1] }}`, "error"},
		{`{{ list.01 }}`, "error"},
		{`{% set a = 1 %}{{ a.b }}`, "outer"}, // what is nearer does not hide the rest of the path
		// Loops.
		{`{% for p in people | filter(attribute="team", value="red") %}{{ loop.index }}{{ p.name }}{% if not loop.last %},{% endif %}{% endfor %}`, "1Bo,2Cy"},
		{`{% for k, v in map %}{{ k }} {% endfor %}`, "b a x.y "},
		{`{% set s = "aé" %}{% for c in s %}[{{ c }}]{% endfor %}`, "[a][é]"},
		{`{% for c in "ab" %}{% endfor %}`, "error"},
		{`{% for x in [] %}{% else %}none{% endfor %}`, "none"},
		{`{% set s = 0 %}{% for x in list %}{% set s = x %}{% set_global t = x %}{% endfor %}{{ s }}{{ t }}`, "02"},
		{`{% for x in n %}{% endfor %}`, "error"},
		{`{% for x in map %}{% endfor %}`, "error"},
		{`{% for k, v in list %}{% endfor %}`, "error"},
		{`{% for x in list %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}`, "32"},
		// Default.
		{`{{ missing | default(value="d") }} {{ none | default(value="d") }} {{ empty | default(value="d") }}.`, "d d ."},
		{`{{ missing.deep | default(value=n + 1) }}`, "4"},
		{`{{ name | upper | default(value="x") }}`, "ADA"},
		{`{{ missing | upper | default(value="x") }}`, "error"},
		{`{{ missing | default }}`, "error"},
		// Whitespace.
		{"a {{- name -}} b", "aadab"},
		{"a {#- x -#} b", "ab"},
		{"{#- x -#} b", " b"},
		{"{% raw -%} {{ x }} {%- endraw %}", "{{ x }}"},
		{"{% for x in [] -%} a {%- else -%} b {%- endfor %}", " b "},
		{"{##}", "error"},
		{"{% if yes %}\n  x\n{%- endif %}", "\n  x"},
		// Macros.
		{`{% macro m(a, b="B") %}{{ a }}{{ b }}{% endmacro m %}{{ self::m(a=1) }}{{ self::m(a=2, b=3) }}`, "1B23"},
		{`{% macro m(a) %}{% endmacro %}{{ self::m() }}`, "error"},
		{`{% macro m() %}{% endmacro %}{% macro m() %}{% endmacro %}`, "error"},
		{`{% macro m() %}x{% endmacro %}{% set y = self::m() | upper %}{{ y }}`, "X"},
	} {
		got, err := renderWith(t, Options{}, c.src)
		switch {
		case c.want == "error" && err == nil:
			t.Errorf("%s\n  gives %q, has to be an error", c.src, got)
		case c.want == "error":
			if fault.KindOf(err) != fault.Finding {
				t.Errorf("%s\n  is %v, not a finding: %v", c.src, fault.KindOf(err), err)
			}
		case err != nil:
			t.Errorf("%s\n  %v", c.src, err)
		case got != c.want:
			t.Errorf("%s\n   got %q\n  want %q", c.src, got, c.want)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ src, want string }{
		{`{{ " x " | trim }}|{{ " x " | trim_start }}|{{ " x " | trim_end }}`, "x|x | x"},
		{`{{ "//a//" | trim_start_matches(pat="/") }} {{ "//a//" | trim_end_matches(pat="//") }}`, "a// //a"},
		{`{{ "ñandú street" | capitalize }} {{ "straße" | upper }} {{ "ΟΔΟΣ" | lower }}`, "Ñandú street STRASSE οδος"},
		{`{{ text | truncate(length=3) }} {{ text | truncate(length=3, end="!") }} {{ "ae\u0301" | truncate(length=99) }}`, `one… one! ae\u0301`},
		{`{{ text | wordcount }} {{ text | linebreaksbr }}`, "3 one two<br>three"},
		{`{{ name | replace(from="a", to="o") }} {{ "abc" | replace(from="", to="-") }}`, "odo -a-b-c-"},
		{`{{ text | indent(prefix="> ", first=true) }}`, "> one two\n> three"},
		{`{{ "a,,b" | split(pat=",") | join(sep="\n") | indent }}`, "a\n\n    b"},
		{`{{ "a,b" | split(pat=",") }} {{ "ab" | split(pat="") | length }} {{ "a" | split(pat="x") }}`, "[a, b] 4 [a]"},
		{`{{ html | escape }} {{ html | escape_xml }} {{ html | striptags }}`,
			"&lt;a href=&#x27;x&#x27;&gt;T&amp;C&lt;&#x2F;a&gt; &lt;a href=&apos;x&apos;&gt;T&amp;C&lt;/a&gt; T&C"},
		{`{{ "<a>  <b>" | spaceless }} {{ "a b/c?d" | urlencode }} {{ "a b/c" | urlencode_strict }}`, "<a><b> a%20b/c%3Fd a%20b%2Fc"},
		{`{{ "Héllo, Wörld!" | slugify }} {{ "it's" | addslashes }}`, `hello-world it\'s`},
		{`{{ "0x1f" | int(base=16) }} {{ "7.9" | int }} {{ "x" | int(default=5) }} {{ f | int }} {{ "1.5" | float }} {{ "x" | float }}`, "31 7 5 2 1.5 0"},
		{`{{ -3 | abs }} {{ 2.449 | round(precision=2) }} {{ 2.1 | round(method="ceil") }} {{ 2.5 | round }} {{ -2.5 | round }}`, "3 2.45 3 3 -3"},
		{`{{ 123456789 | filesizeformat }} {{ 2048 | filesizeformat(binary=true) }} {{ 5 | filesizeformat }}`, "117.74 MB 2 KiB 5 B"},
		{`{{ list | sort }} {{ words | sort }} {{ list | first }} {{ list | last }} {{ list | nth(n=1) }} {{ list | nth(n=9) }}.`, "[1, 2, 3] [A, a, b] 3 2 1 ."},
		{`{{ people | slice(end=3) | sort(attribute="age") | map(attribute="name") | join(sep=",") }}`, "Al,Bo,Cy"},
		{`{{ people | sort(attribute="age") }}`, "error"},
		{`{{ words | unique }} {{ words | unique(case_sensitive=true) }}`, "[b, A] [b, A, a]"},
		{`{% for t, ps in people | group_by(attribute="team") %}{{ t }}{{ ps | length }} {% endfor %}`, "red2 blue1 "},
		{`{{ people | filter(attribute="age") | length }} {{ list | slice(start=-2) }} {{ list | slice(start=1, end=-1) }}`, "3 [1, 2] [1]"},
		{`{{ list | concat(with=4) }} {{ list | concat(with=[5]) | reverse }} {{ "abé" | reverse }}`, "[3, 1, 2, 4] [5, 2, 1, 3] éba"},
		{`{{ map | get(key="b") }} {{ map | get(key="z", default=0) }} {{ map | length }} {{ "日本" | length }}`, "1 0 3 2"},
		{`{{ map | get(key="z") }}`, "error"},
		{`{{ map | json_encode }} {{ f | json_encode }} {{ whole | json_encode }}`, `{"b":1,"a":{"c":"deep"},"x.y":"dotted"} 2.5 4.0`},
		{`{{ list | json_encode(pretty=true) }}`, "[\n  3,\n  1,\n  2\n]"},
		{`{{ list | as_str ~ "x" }}`, "error"},
		{`{{ n | pluralize(plural="ies", singular="y") }}`, "ies"},
		{`{% filter upper %}x{{ name }}{% endfilter %}`, "XADA"},
		{`{{ name | upper(}}`, "error"},
		{`{{ name | nope }}`, "error"},
		{`{{ name | replace("a", "b") }}`, "error"},
		{`{{ range(end=10, step_by=3) }} {{ range(start=2, end=2) }}`, "[0, 3, 6, 9] []"},
		{`{{ range(end=1, step_by=0) }}`, "error"},
		{`{{ throw(message="stop") }}`, "error"},
		{`{{ local(iri="http://x/y#z") }} {{ local(iri="http://x/y") }} {{ local(iri="z") }}`, "z y z"},
	} {
		got, err := renderWith(t, Options{}, c.src)
		switch {
		case c.want == "error" && err == nil:
			t.Errorf("%s\n  gives %q, has to be an error", c.src, got)
		case c.want != "error" && err != nil:
			t.Errorf("%s\n  %v", c.src, err)
		case c.want != "error" && got != c.want:
			t.Errorf("%s\n   got %q\n  want %q", c.src, got, c.want)
		}
	}
}

func TestDate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ src, want string }{
		{`{{ 1482720453 | date }}`, "2016-12-26"},
		{`{{ 1482720453 | date(format="%Y-%m-%d %H:%M") }}`, "2016-12-26 02:47"},
		{`{{ "1996-12-19T16:39:57-08:00" | date(format="%Y-%m-%d %z %:z %Z") }}`, "1996-12-19 -0800 -08:00 -08:00"},
		{`{{ "2017-03-05" | date(format="%a, %d %b %Y %H:%M:%S %z") }}`, "Sun, 05 Mar 2017 00:00:00 +0000"},
		{`{{ "2017-03-05T00:00:00.602" | date(format="%a, %d %b %Y %H:%M:%S%.f") }}`, "Sun, 05 Mar 2017 00:00:00.602"},
		{`{{ "2019-09-19T01:48:44.581Z" | date(timezone="America/New_York") }}`, "2019-09-18"},
		{`{{ "2019-09-19T13:05:09Z" | date(format="%e|%-d|%j|%U|%W|%V|%G|%u|%w|%I|%l|%p|%y|%C|%D|%F|%T|%R|%s|%%|%_m|%-m") }}`,
			"19|19|262|37|37|38|2019|4|4|01| 1|PM|19|20|09/19/19|2019-09-19|13:05:09|13:05|1568898309|%| 9|9"},
		{`{{ "2019-09-19T13:05:09Z" | date(format="%A %B %c %+") }}`, "Thursday September Thu Sep 19 13:05:09 2019 2019-09-19T13:05:09+00:00"},
		{`{{ 0 | date(format="%z") }}`, "error"},
		{`{{ 0 | date(format="%2f") }}`, "error"},
		{`{{ 0 | date(format="%") }}`, "error"},
		{`{{ 0 | date(format="%-") }}`, "error"},
		{`{{ "2017-13-05" | date }}`, "error"},
		{`{{ 0 | date(timezone="Narnia/City") }}`, "error"},
		{`{{ 1.5 | date }}`, "error"},
	} {
		got, err := renderWith(t, Options{}, c.src)
		if c.want == "error" {
			if err == nil {
				t.Errorf("%s gives %q, has to be an error", c.src, got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s\n   got %q, %v\n  want %q", c.src, got, err, c.want)
		}
	}
}

func TestClockSeedAndEnvironment(t *testing.T) {
	t.Parallel()
	o := Options{
		Now:  time.Date(2026, 3, 4, 5, 6, 7, 8000, time.FixedZone("", 3600)),
		Seed: 42,
		Env:  func(name string) (string, bool) { return "v-" + name, name == "HOME" },
	}
	const src = `{{ now() }} {{ now(utc=true) }} {{ now(timestamp=true) }} {{ now() | date(format="%Y") }} {{ get_random(end=1000) }} {{ get_random(start=5, end=6) }} {{ get_env(name="HOME") }} {{ get_env(name="X", default="d") }}`
	first, err := renderWith(t, o, src)
	if err != nil {
		t.Fatal(err)
	}
	if want := "2026-03-04T05:06:07.000008+01:00 2026-03-04T04:06:07.000008+00:00 1772597167 2026 "; !strings.HasPrefix(first, want) {
		t.Errorf("got %q, want %q…", first, want)
	}
	if !strings.HasSuffix(first, " 5 v-HOME d") {
		t.Errorf("got %q", first)
	}
	if second, _ := renderWith(t, o, src); second != first {
		t.Errorf("two renders differ: %q and %q", first, second)
	}
	o.Seed = 43
	if other, _ := renderWith(t, o, src); other == first {
		t.Error("another seed gives the same numbers")
	}
	for _, src := range []string{`{{ now() }}`, `{{ get_env(name="HOME") }}`, `{{ get_env(name="HOME", default=1) }}`, `{{ sparql(query="ASK {}") }}`} {
		if out, err := renderWith(t, Options{}, src); err == nil {
			t.Errorf("%s gives %q without being allowed to", src, out)
		}
	}
}

type rows struct{ value any }

func (q rows) Query(_ context.Context, query string) (any, error) {
	if strings.Contains(query, "bad") {
		return nil, errors.New("line 1: no such prefix")
	}
	return q.value, nil
}

func TestQueries(t *testing.T) {
	t.Parallel()
	bare, marked := render.NewRow(), render.NewRow()
	bare.Set("name", "Ada")
	bare.Set("age", 36)
	marked.Set("?name", "Bo")
	o := Options{Query: rows{[]any{bare, marked}}}
	for _, c := range []struct{ src, want string }{
		{`{% for r in sparql(query="SELECT") %}{{ r.name }}{{ r["?name"] }} {% endfor %}`, "AdaAda BoBo "},
		{`{{ sparql(query="SELECT", var="age") }}`, "36"},
		{`{% set r = sparql(query="SELECT") %}{{ sparql_count(results=r) }} {{ sparql_empty(rows=r) }} {{ sparql_first(results=r, column="name") }} {{ sparql_values(rows=r, column="?name") }} {{ sparql_column(results=r, column="age") }} {{ sparql_row(results=r, index=1) | json_encode }}`,
			`2 false Ada [Ada, Bo] [36] {"?name":"Bo"}`},
		{`{% set r = sparql(query="SELECT") %}{{ r | map(attribute="?name") }} {{ r | filter(attribute="?name", value="Bo") | length }}`, "[Ada, Bo] 1"},
		{`{{ sparql(query="bad") }}`, "error"},
		{`{{ sparql_count(results=[], rows=[]) }}`, "error"},
	} {
		got, err := renderWith(t, o, c.src)
		if c.want == "error" {
			if err == nil {
				t.Errorf("%s gives %q, has to be an error", c.src, got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s\n   got %q, %v\n  want %q", c.src, got, err, c.want)
		}
	}
}

func TestIncludesAndInheritance(t *testing.T) {
	t.Parallel()
	o := Options{Loader: mapLoader{
		"part":   `[{{ name }}{% set x = 1 %}]`,
		"base":   `<{% block a %}A{% endblock %}|{% block b %}B{% endblock %}>`,
		"mid":    `{% extends "base" %}{% block a %}mid {{ super() }}{% endblock %}`,
		"macros": `{% macro hi(who) %}hi {{ who }}{{ self::mark() }}{% endmacro %}{% macro mark() %}!{% endmacro %}`,
		"loop":   `{% include "loop" %}`,
		"x":      `{% extends "y" %}`, "y": `{% extends "x" %}`,
		"i": `{% import "j" as j %}`, "j": `{% import "i" as i %}`,
		"broken": "fine\n{{ oops",
		"fails":  "{{ nothing }}",
	}}
	for _, c := range []struct{ src, want string }{
		{`{% include "part" %}{% include ["none", "part"] %}{% include "none" ignore missing %}{{ x is defined }}`, "[ada][ada]false"},
		{`{% extends "mid" %}{% block a %}{{ super() }}{{ super() }}{% endblock %}{% block b %}{{ super() }}b{% endblock %}`, "<mid Amid A|Bb>"},
		{`{% import "macros" as m %}{{ m::hi(who=name) }}`, "hi ada!"},
		{`{% include "none" %}`, "error"},
		{`{% include "loop" %}`, "error"},
		{`{% extends "x" %}`, "error"},
		{`{% import "i" as i %}`, "error"},
		{`{% extends "none" %}`, "error"},
		{`{% include "mid" %}`, "error"},
		{`{% include "broken" %}`, "error"},
		{`{% include "broken" ignore missing %}`, "error"},
		{`{{ m::hi() }}`, "error"},
	} {
		got, err := renderWith(t, o, c.src)
		if c.want == "error" {
			if err == nil {
				t.Errorf("%s gives %q, has to be an error", c.src, got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s\n   got %q, %v\n  want %q", c.src, got, err, c.want)
		}
	}
}

func TestBlocksOptions(t *testing.T) {
	t.Parallel()
	const src = "a\n  {% if yes %}\n  b\n  {% endif %}\n{# c #}\nd {{ n }}\n"
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, "a\n  \n  b\n  \n\nd 3\n"},
		{Options{TrimBlocks: true}, "a\n    b\n  d 3\n"},
		{Options{LstripBlocks: true}, "a\n\n  b\n\n\nd 3\n"},
		{Options{TrimBlocks: true, LstripBlocks: true}, "a\n  b\nd 3\n"},
	} {
		if got, err := renderWith(t, c.o, src); err != nil || got != c.want {
			t.Errorf("trim %v lstrip %v: got %q, %v, want %q", c.o.TrimBlocks, c.o.LstripBlocks, got, err, c.want)
		}
	}
	got, err := renderWith(t, Options{Lenient: true}, `[{{ missing }}{{ missing.x }}]{% if missing is defined %}d{% endif %}`)
	if err != nil || got != "[]" {
		t.Errorf("lenient: got %q, %v", got, err)
	}
}

func TestErrorsShowThePlace(t *testing.T) {
	t.Parallel()
	o := Options{Loader: mapLoader{
		"inner": "line one\n\tvalue: {{ pepole }}\n",
		"m":     "{% macro card(p) %}{{ p.nmae }}{% endmacro %}",
		"bad":   "x\n{% if %}",
	}}
	for _, c := range []struct{ src, want string }{
		{"Hello\n  {{ nmae }}", "main.tera:2:6: variable \"nmae\" is not defined\n      {{ nmae }}\n         ^"},
		{`{% include "inner" %}`, "inner:2:12: variable \"pepole\" is not defined\n     value: {{ pepole }}\n               ^\n  in include \"inner\" at main.tera:1:1"},
		{"\n{% import \"m\" as m %}\n{{ m::card(p=people[0]) }}", "m:1:23: variable \"p.nmae\" is not defined\n    {% macro card(p) %}{{ p.nmae }}{% endmacro %}\n                          ^\n  in macro m::card at main.tera:3:4"},
		{`{{ name | uper }}`, "main.tera:1:11: there is no filter \"uper\"\n    {{ name | uper }}\n              ^"},
		{`{{ name | replace(from=1, to="") }}`, "main.tera:1:11: filter \"replace\": the argument \"from\" is a number, not a string\n"},
		{`{{ name | default("x") }}`, "main.tera:1:19: expected a named argument or `)` in `{{`, found \"\\\"\"\n"},
		{"{% for x in list %}", "main.tera:1:1: `for` is never closed\n"},
		{"{% if yes %}\n{% endfor %}", "main.tera:2:1: unexpected tag \"endfor\"\n"},
		{`{% include "bad" %}`, "bad:2:7: expected "},
		{`{{ (n + 1 }}`, "main.tera:1:11: expected `)` in `{{`, found \"}}\"\n"},
		{`{% fro x in y %}`, "main.tera:1:1: unexpected tag \"fro\"\n"},
	} {
		_, err := renderWith(t, o, c.src)
		var e *render.Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v is not a render.Error", c.src, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s\n got %s\nwant %s", c.src, err, c.want)
		}
	}
	for src, want := range map[string]string{
		"{{ nmae }}": `did you mean "name"?`, "{{ map.a.d }}": "the map has c", "{{ name | uper }}": `did you mean "upper"?`,
		"{{ rnage(end=1) }}": `did you mean "range"?`, "{% if n is od %}{% endif %}": `did you mean "odd"?`, "{% fro x in y %}": `did you mean "for"?`,
		`{{ name | default("x") }}`: `arguments have names, as in default(value="x")`,
	} {
		if _, err := renderWith(t, Options{}, src); fault.HintOf(err) != want {
			t.Errorf("%s: hint %q, want %q", src, fault.HintOf(err), want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	deep := func(open, inner, end string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	o := Options{Limits: render.Limits{Steps: 200_000, OutputBytes: 1 << 20, StringBytes: 4 << 20}, Loader: mapLoader{"self": `{% include "self" %}`}}
	diamonds := o.Loader.(mapLoader)
	for i := range 150 { // every file imports the next one twice
		diamonds[fmt.Sprintf("d%d", i)] = fmt.Sprintf(`{%% import "d%d" as a %%}{%% import "d%d" as b %%}`, i+1, i+1)
	}
	for name, c := range map[string]struct{ src, want string }{
		"parentheses":       {"{{ " + deep("(", "1", ")", 100_000) + " }}", "nested deeper"},
		"open parentheses":  {"{{ " + strings.Repeat("(", 100_000), "nested deeper"},
		"logic parentheses": {"{% if " + deep("(", "yes and yes", ")", 100_000) + " %}{% endif %}", "nested deeper"},
		"ifs":               {deep("{% if yes %}", "x", "{% endif %}", 100_000), "nested deeper"},
		"fors":              {deep("{% for x in list %}", "x", "{% endfor %}", 100_000), "nested deeper"},
		"filters":           {deep("{% filter upper %}", "x", "{% endfilter %}", 100_000), "nested deeper"},
		"blocks":            {strings.Repeat("{% block a %}", 100_000), "nested deeper"},
		"calls":             {"{{ " + deep("f(a=", "1", ")", 100_000) + " }}", "nested deeper"},
		"arrays":            {"{{ " + deep("[", "1", "]", 100_000) + " }}", ""},
		"brackets":          {"{{ " + deep("a[", "a", "]", 100_000) + " }}", "nested deeper"},
		"tests":             {"{{ " + deep("a is b(", "1", ")", 100_000) + " }}", "nested deeper"},
		"long sum":          {"{{ 1" + strings.Repeat(" + 1", 100_000) + " }}", "operators on top"},
		"long or":           {"{% if yes" + strings.Repeat(" or yes", 100_000) + " %}{% endif %}", "operators on top"},
		"range":             {"{% for i in range(end=1000000000) %}{% endfor %}", "range()"},
		"nested loops":      {strings.Repeat("{% for i in range(end=300) %}", 4) + "x" + strings.Repeat("{% endfor %}", 4), "steps"},
		"output":            {"{% for i in range(end=20000) %}" + strings.Repeat("x", 1000) + "{% endfor %}", "bytes of output"},
		"doubling":          {`{% set s = "0123456789" %}{% for i in range(end=60) %}{% set_global s = s ~ s %}{% endfor %}{{ s | length }}`, "bytes in all"},
		"replacing":         {`{% set s = "aaaaaaaaaa" %}{% for i in range(end=60) %}{% set_global s = s | replace(from="a", to="aaaaaaaaaa") %}{% endfor %}`, "bytes in all"},
		"joining":           {`{% set s = "0123456789" %}{% for i in range(end=60) %}{% set_global s = [s, s] | join %}{% endfor %}`, "bytes in all"},
		"capturing":         {`{% set s = "0123456789" %}{% macro m(s) %}{{ s }}{{ s }}{% endmacro %}{% for i in range(end=60) %}{% set_global s = self::m(s=s) %}{% endfor %}`, "bytes"},
		"sharing printed":   {`{% set s = [1] %}{% for i in range(end=60) %}{% set_global s = [s, s] %}{% endfor %}{{ s }}`, "limit reached"},
		"sharing compared":  {`{% set s = [1] %}{% set t = [1] %}{% for i in range(end=60) %}{% set_global s = [s, s] %}{% set_global t = [t, t] %}{% endfor %}{{ s == t }}`, "limit reached"},
		"sharing encoded":   {`{% set s = [1] %}{% for i in range(end=60) %}{% set_global s = [s, s] %}{% endfor %}{{ s | json_encode }}`, "limit reached"},
		"deep value":        {`{% set s = [1] %}{% for i in range(end=10000) %}{% set_global s = [s] %}{% endfor %}{{ s }}`, "nested deeper"},
		"growing array":     {`{% set s = [1] %}{% for i in range(end=100000) %}{% set_global s = s | concat(with=i) %}{% endfor %}`, "limit reached"},
		"include":           {`{% include "self" %}`, "nested deeper"},
		"macro":             {`{% macro m() %}{{ self::m() }}{% endmacro %}{{ self::m() }}`, "nested deeper"},
		"macro in if":       {`{% macro m() %}{% if x | default(value=self::m()) %}{% endif %}{% endmacro %}{{ self::m() }}`, "nested deeper"},
		"high and deep":     {`{% macro m() %}{{ local(iri=self::m())` + strings.Repeat(" + 1", 900) + ` }}{% endmacro %}{{ self::m() }}`, "nested deeper"},
		"diamonds":          {`{% import "d0" as d %}`, ""},
		"long regex":        {`{% if name is matching("` + strings.Repeat("a", 10_000) + `") %}{% endif %}`, "longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := renderWith(t, o, c.src)
			if err == nil {
				t.Fatal("has to be an error")
			}
			if c.want != "" && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %.300s, want %q", err, c.want)
			}
			if d := time.Since(start); d > 20*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestMemoisation(t *testing.T) {
	t.Parallel()
	// Every level has several alternatives that begin alike; without memory this takes 2^40 steps or more.
	src := "{{ " + strings.Repeat("f(a=", 40) + "1" + strings.Repeat(")", 40) + " }}"
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := New(Options{}).Parse("m", src); err != nil {
			t.Error(err)
		}
		_, _ = New(Options{}).Parse("m", strings.TrimSuffix(src, ") }}"))
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the parser does not come to an end")
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	tmpl, err := New(Options{}).Parse("m", strings.Repeat("{% for i in range(end=300) %}", 3)+"{% endfor %}{% endfor %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tmpl.Render(ctx, io.Discard, nil); !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Interrupted {
		t.Errorf("got %v (%v)", err, fault.KindOf(err))
	}
}

func TestNothingWrittenOnError(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := New(Options{}).Render(context.Background(), &out, "m", "before {{ nothing }}", nil); err == nil || out.Len() > 0 {
		t.Errorf("got %v and %q", err, out.String())
	}
}

func TestConcurrentRenders(t *testing.T) {
	t.Parallel()
	e := New(Options{Loader: mapLoader{"part": "{% for p in people %}{{ p.name | upper }}{% endfor %}"}})
	tmpl, err := e.Parse("m", `{% macro m(x) %}<{{ x }}>{% endmacro %}{% for i in range(end=20) %}{{ self::m(x=i) }}{% include "part" %}{% if i is odd %}{% endif %}{% endfor %}`)
	if err != nil {
		t.Fatal(err)
	}
	v := vars(t, testVars)
	want, err := tmpl.RenderString(context.Background(), v)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				if got, err := tmpl.RenderString(context.Background(), v); err != nil || got != want {
					t.Errorf("got %q, %v", got, err)
				}
				if _, err := e.Parse("other", "{{ "+want[:1]+"1 }}"); err == nil {
					t.Error("has to be an error")
				}
			}
		})
	}
	wg.Wait()
}

func TestVariables(t *testing.T) {
	t.Parallel()
	got, err := New(Options{}).Variables("m", `{% macro m(p) %}{{ p }}{{ q }}{% endmacro %}{% set a = b %}{{ a }}{% for x in list[idx] | filter(attribute=attr) %}{{ x }}{{ loop.index }}{% set_global g = 1 %}{% endfor %}{{ g }}{% if c is defined %}{% endif %}`)
	if err != nil || strings.Join(got, " ") != "attr b c idx list q" {
		t.Errorf("got %q, %v", got, err)
	}
}
