package tera

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	texttemplate "text/template"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// The three templates that engines are compared by, once in Tera and once in
// the standard library's language.
var benchmarks = []struct {
	name, tera, std string
	vars            func() map[string]any
}{
	{
		"table",
		`<table>{% for row in table %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>`,
		`<table>{{range .table}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>{{end}}</table>`,
		func() map[string]any {
			table := make([]any, 100)
			for i := range table {
				row := make([]any, 100)
				for j := range row {
					row[j] = int64(i*100 + j)
				}
				table[i] = row
			}
			return map[string]any{"table": table}
		},
	},
	{
		"teams",
		`<html><head><title>{{ year }}</title></head><body><h1>CSL {{ year }}</h1><ul>{% for team in teams %}<li class="{% if loop.first %}champion{% endif %}"><b>{{ team.name }}</b>: {{ team.score }}</li>{% endfor %}</ul></body></html>`,
		`<html><head><title>{{.year}}</title></head><body><h1>CSL {{.year}}</h1><ul>{{range $i, $t := .teams}}<li class="{{if eq $i 0}}champion{{end}}"><b>{{$t.name}}</b>: {{$t.score}}</li>{{end}}</ul></body></html>`,
		func() map[string]any {
			teams := []any{}
			for i, name := range []string{"Jiangsu", "Beijing", "Guangzhou", "Shandong"} {
				teams = append(teams, map[string]any{"name": name, "score": int64(43 - 7*i)})
			}
			return map[string]any{"year": int64(2015), "teams": teams}
		},
	},
	{
		"code",
		`package {{ package | lower }}
{% for class in classes %}
// {{ class.name }} is {{ class.doc | default(value="not documented") }}.
type {{ class.name }} struct {
{%- for f in class.fields %}
	{{ f.name }} {{ f.type }}{% if f.tag %} ` + "`json:\"{{ f.tag }}\"`" + `{% endif %}{% if not loop.last %}{% endif %}
{%- endfor %}
}
{% for f in class.fields %}{% if f.public %}
func (x *{{ class.name }}) Get{{ f.name | capitalize }}() {{ f.type }} { return x.{{ f.name }} }
{% endif %}{% endfor %}{% endfor %}`,
		`package {{lower .package}}
{{range $c := .classes}}
// {{$c.name}} is {{or $c.doc "not documented"}}.
type {{$c.name}} struct {
{{- range $c.fields}}
	{{.name}} {{.type}}{{if .tag}} ` + "`json:\"{{.tag}}\"`" + `{{end}}
{{- end}}
}
{{range $c.fields}}{{if .public}}
func (x *{{$c.name}}) Get{{capitalize .name}}() {{.type}} { return x.{{.name}} }
{{end}}{{end}}{{end}}`,
		func() map[string]any {
			classes := []any{}
			for i := range 5 {
				fields := []any{}
				for j := range 6 {
					fields = append(fields, map[string]any{"name": fmt.Sprintf("field%d", j), "type": "string", "tag": fmt.Sprintf("f_%d", j), "public": j%2 == 0})
				}
				classes = append(classes, map[string]any{"name": fmt.Sprintf("Class%d", i), "doc": "a class", "fields": fields})
			}
			return map[string]any{"package": "Model", "classes": classes}
		},
	},
}

func BenchmarkRender(b *testing.B) {
	for _, c := range benchmarks {
		v, err := render.From(c.vars())
		if err != nil {
			b.Fatal(err)
		}
		tmpl, err := New(Options{}).Parse(c.name, c.tera)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name+"/tera", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := tmpl.Render(context.Background(), io.Discard, v.(*render.Map)); err != nil {
					b.Fatal(err)
				}
			}
		})
		std := texttemplate.Must(texttemplate.New("").Funcs(texttemplate.FuncMap{"lower": strings.ToLower, "capitalize": capitalize}).Parse(c.std))
		vars := c.vars()
		b.Run(c.name+"/text-template", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var out strings.Builder // both make the whole output before it is written
				if err := std.Execute(&out, vars); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	src := benchmarks[2].tera
	limits := render.DefaultLimits()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse("code", src, limits, options{}); err != nil {
			b.Fatal(err)
		}
	}
}
