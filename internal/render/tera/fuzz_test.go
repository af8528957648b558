package tera

import (
	"context"
	"testing"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

var fuzzSeeds = []string{
	"", "{{", "{%", "{#", "{##}", "{{ a.b[0][\"c\"][d] | default(value=[1, 2]) | join(sep=\",\") }}",
	"{% for k, v in map %}{{ k }}{% else %}{% endfor %}", "{% if a is divisibleby(2) and not b in [1] or c %}{% elif d %}{% else %}{% endif %}",
	"{%- set x = 1 + 2 * (3 - -4) % 5 ~ 6 -%}", "{% macro m(a, b=\"x\") %}{% endmacro m %}{{ self::m(a=1,) }}", "{% raw %}{{{% endraw %}",
	"{% filter upper %}{% include [\"a\", \"b\"] ignore missing %}{% endfilter %}", "{% extends \"a\" %}{% import \"b\" as c %}{% block d %}{{ super() }}{% endblock e %}",
	"{{ a is b is c | d }}", "{{ (a | b) is c }}", "{{ a is not defined | upper }}", "{{ __tera_context }}", "{{ 1.9 + a | round - 1.8 }}",
	"{{ 'é' | truncate(length=1) | reverse | title | slugify | urlencode }}", "{{ 0 | date(format=\"%Y%j%-d%:z%.3f\") }}", "{{ -9223372036854775808 % -1 }}",
	"{{ map[list[map[key]]] }}", "{{ list | sort | unique | group_by(attribute=\"a.b[0]\") | json_encode(pretty=true) }}",
	"{{ words | map(attribute=\"x\") | concat(with=1) | slice(start=-1, end=9999999999999) }}", "{{ name | snake | plural | pluralize | singularize | class }}",
}

// FuzzParse feeds anything to the parser: it has to come to an end, and what it
// accepts once it accepts again.
func FuzzParse(f *testing.F) {
	for _, seed := range fuzzSeeds {
		f.Add(seed)
	}
	limits := render.Limits{SourceBytes: 1 << 16}.WithDefaults()
	f.Fuzz(func(t *testing.T, src string) {
		_, first := parse("f", src, limits, options{})
		_, second := parse("f", src, limits, options{true, true})
		if (first == nil) != (second == nil) {
			t.Errorf("%q: %v, with trimming %v", src, first, second)
		}
	})
}

// FuzzRender renders whatever parses: twice the same, within the limits, and
// as valid UTF-8 if the source is.
func FuzzRender(f *testing.F) {
	for _, seed := range fuzzSeeds {
		f.Add(seed)
	}
	e := New(Options{
		Loader: mapLoader{"a": "{% block d %}A{% endblock %}", "b": "{% macro m() %}M{% endmacro %}"},
		Limits: render.Limits{Steps: 20_000, OutputBytes: 1 << 16, StringBytes: 1 << 20, SourceBytes: 1 << 14},
	})
	v := vars(f, testVars)
	f.Fuzz(func(t *testing.T, src string) {
		tmpl, err := e.Parse("f", src)
		if err != nil {
			_ = err.Error()
			return
		}
		tmpl.Variables()
		first, err := tmpl.RenderString(context.Background(), v)
		second, again := tmpl.RenderString(context.Background(), v)
		if first != second || (err == nil) != (again == nil) {
			t.Errorf("%q renders %q, %v and %q, %v", src, first, err, second, again)
		}
		if err != nil {
			_ = err.Error()
		}
		if utf8.ValidString(src) && !utf8.ValidString(first) {
			t.Errorf("%q renders invalid UTF-8 %q", src, first)
		}
	})
}
