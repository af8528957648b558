package main

import "fmt"

// workload is one template, in the languages of the engines. All give the same bytes.
type workload struct {
	name                     string
	tera, std, jinja, django string
	vars                     map[string]any
}

func workloads() []workload {
	return []workload{
		{
			name:   "table",
			tera:   `<table>{% for row in table %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>`,
			jinja:  `<table>{% for row in table %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>`,
			django: `<table>{% for row in table %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>{% endfor %}</table>`,
			std:    `<table>{{range .table}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>{{end}}</table>`,
			vars:   map[string]any{"table": table(100)},
		},
		{
			name:   "teams",
			tera:   `<html><head><title>{{ year }}</title></head><body><h1>CSL {{ year }}</h1><ul>{% for team in teams %}<li class="{% if loop.first %}champion{% endif %}"><b>{{ team.name }}</b>: {{ team.score }}</li>{% endfor %}</ul></body></html>`,
			jinja:  `<html><head><title>{{ year }}</title></head><body><h1>CSL {{ year }}</h1><ul>{% for team in teams %}<li class="{% if loop.first %}champion{% endif %}"><b>{{ team.name }}</b>: {{ team.score }}</li>{% endfor %}</ul></body></html>`,
			django: `<html><head><title>{{ year }}</title></head><body><h1>CSL {{ year }}</h1><ul>{% for team in teams %}<li class="{% if forloop.First %}champion{% endif %}"><b>{{ team.name }}</b>: {{ team.score }}</li>{% endfor %}</ul></body></html>`,
			std:    `<html><head><title>{{.year}}</title></head><body><h1>CSL {{.year}}</h1><ul>{{range $i, $t := .teams}}<li class="{{if eq $i 0}}champion{{end}}"><b>{{$t.name}}</b>: {{$t.score}}</li>{{end}}</ul></body></html>`,
			vars:   map[string]any{"year": int64(2015), "teams": teams()},
		},
		{
			name:   "code",
			tera:   code("lower", `{{ class.doc | default(value="not documented") }}`, "{% if not loop.last %}{% endif %}", "capitalize"),
			jinja:  code("lower", `{{ class.doc | default("not documented") }}`, "{% if not loop.last %}{% endif %}", "capitalize"),
			django: code("lower", `{{ class.doc|default:"not documented" }}`, "{% if not forloop.Last %}{% endif %}", "capfirst"),
			std: `package {{lower .package}}
{{range $c := .classes}}
// {{$c.name}} is {{or $c.doc "not documented"}}.
type {{$c.name}} struct {{"{"}}{{range $i, $f := $c.fields}}
	{{$f.name}} {{$f.type}}{{if $f.tag}} ` + "`json:\"{{$f.tag}}\"`" + `{{end}}{{if not (last $i $c.fields)}}{{end}}{{end}}
}
{{range $c.fields}}{{if .public}}
func (x *{{$c.name}}) Get{{capitalize .name}}() {{.type}} { return x.{{.name}} }
{{end}}{{end}}{{end}}`,
			vars: map[string]any{"package": "Model", "classes": classes()},
		},
	}
}

// code is the template of a file of Go, with what differs between its languages.
func code(lower, doc, last, capitalize string) string {
	return `package {{ package|` + lower + ` }}
{% for class in classes %}
// {{ class.name }} is ` + doc + `.
type {{ class.name }} struct {{ "{" }}{% for f in class.fields %}
	{{ f.name }} {{ f.type }}{% if f.tag %} ` + "`json:\"{{ f.tag }}\"`" + `{% endif %}` + last + `{% endfor %}
}
{% for f in class.fields %}{% if f.public %}
func (x *{{ class.name }}) Get{{ f.name|` + capitalize + ` }}() {{ f.type }} { return x.{{ f.name }} }
{% endif %}{% endfor %}{% endfor %}`
}

func table(n int) []any {
	out := make([]any, n)
	for i := range out {
		row := make([]any, n)
		for j := range row {
			row[j] = int64(i*n + j)
		}
		out[i] = row
	}
	return out
}

func teams() []any {
	var out []any
	for i, name := range []string{"Jiangsu", "Beijing", "Guangzhou", "Shandong"} {
		out = append(out, map[string]any{"name": name, "score": int64(43 - 7*i)})
	}
	return out
}

func classes() []any {
	var out []any
	for i := range 5 {
		var fields []any
		for j := range 6 {
			fields = append(fields, map[string]any{"name": fmt.Sprintf("field%d", j), "type": "string", "tag": fmt.Sprintf("f_%d", j), "public": j%2 == 0})
		}
		out = append(out, map[string]any{"name": fmt.Sprintf("Class%d", i), "doc": "a class", "fields": fields})
	}
	return out
}
