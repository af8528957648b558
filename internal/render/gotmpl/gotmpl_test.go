package gotmpl

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func vars(t testing.TB, json string) *render.Map {
	t.Helper()
	m := render.NewMap()
	if json != "" {
		if err := m.UnmarshalJSON([]byte(json)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func rendered(t testing.TB, o Options, source, json string) (string, error) {
	t.Helper()
	var buf bytes.Buffer
	err := New(o).Render(t.Context(), &buf, "main.tmpl", source, vars(t, json))
	return buf.String(), err
}

const context1 = `{"name":"orders","n":3,"f":1.5,"yes":true,"none":null,"list":["b","a","c","a"],"map":{"z":1,"a":{"deep":"x"}},"text":"one two\nthree"}`

// TestSame compares with text/template and sprig themselves.
func TestSame(t *testing.T) {
	t.Parallel()
	for _, source := range []string{
		"", "plain", "{{.name}}", "{{ .n }} {{ .f }} {{ .yes }} {{ .none }} {{ .list }} {{ .map }}",
		"{{range .list}}{{.}},{{end}}", "{{range $i, $v := .list}}{{$i}}{{$v}}{{else}}none{{end}}", "{{range $k, $v := .map}}{{$k}}={{$v}};{{end}}",
		"{{with .map.a}}{{.deep}}{{$.name}}{{end}}", "{{if and .yes (gt .n 2)}}y{{else if .none}}m{{else}}n{{end}}",
		"{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .name}}{{block \"b\" .n}}[{{.}}]{{end}}",
		"{{- range .list -}} {{ . | upper | quote }} {{- end -}}", "{{range .list}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{break}}{{end}}",
		"{{$x := 1}}{{range .list}}{{$x = add $x 1}}{{end}}{{$x}}", "{{printf \"%05d|%-8s|%q\" .n .name .name}}", "{{len .list}} {{index .list 1}} {{slice .list 1 3}}",
		"{{.name | title}} {{snakecase \"FooBar\"}} {{camelcase \"foo_bar\"}} {{kebabcase \"FooBar\"}} {{plural \"one\" \"many\" .n}}",
		"{{join \"-\" .list}} {{sortAlpha .list}} {{uniq .list}} {{without .list \"a\"}} {{has \"b\" .list}} {{first .list}} {{rest .list}} {{reverse .list}}",
		"{{dict \"a\" 1 \"b\" .list | toJson}} {{toPrettyJson .map}} {{get .map \"z\"}} {{hasKey .map \"q\"}} {{dig \"a\" \"deep\" \"no\" .map}}",
		"{{indent 4 .text}}|{{nindent 2 .text}}|{{trim \" x \"}}|{{replace \"o\" \"0\" .text}}|{{repeat 3 \"ab\"}}|{{trunc 2 .name}}|{{abbrev 5 .text}}",
		"{{default \"d\" .none}} {{coalesce .none .name}} {{ternary 1 2 .yes}} {{empty .none}} {{kindOf .n}} {{typeOf .f}}",
		"{{regexReplaceAll \"o(n|r)\" .text \"<$1>\"}} {{regexFindAll \"[a-z]+\" .text -1}} {{regexMatch \"^o\" .name}} {{regexSplit \" \" .text -1}}",
		"{{sha256sum .name}} {{b64enc .name}} {{b64dec \"aGk=\"}} {{until 3}} {{untilStep 0 6 2}} {{seq 1 2 7}} {{max 1 5 2}} {{round 1.256 2}} {{ceil .f}}",
		"{{semverCompare \"^1.2\" \"1.4.0\"}} {{urlParse \"http://a/b?c\" | toJson}} {{base \"a/b.c\"}} {{ext \"a/b.c\"}} {{split \"$\" \"a$b\"}} {{html \"<a>\"}} {{urlquery \"a b\"}}",
		"{{with $m := dict \"k\" (list 1 2)}}{{$_ := set $m \"j\" 3}}{{$m}}{{end}}{{/* c */}}{{\"q\\\"\"}}{{`raw`}}{{'a'}}{{1e3}}",
		"{{merge (dict \"a\" 1) (dict \"a\" 2 \"b\" 3)}} {{pick (dict \"a\" 1 \"b\" 2) \"a\"}} {{concat (list 1) (list 2)}} {{chunk 2 .list}} {{deepCopy .map}}",
		"{{range 3}}{{.}}{{end}}{{print .n .name}}{{println .n}}{{not .yes}}{{cat .name .n}}{{squote .name}}{{wrap 5 \"aaa bbb\"}}{{wrapWith 5 \"!\" \"aaa bbb\"}}",
	} {
		data, _ := plain(vars(t, context1)).(map[string]any)
		var want bytes.Buffer
		if err := template.Must(template.New("main.tmpl").Funcs(sprig.TxtFuncMap()).Parse(source)).Execute(&want, data); err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		got, err := rendered(t, Options{}, source, context1)
		if err != nil || got != want.String() {
			t.Errorf("%s\ngot  %q, %v\nwant %q", source, got, err, want.String())
		}
	}
}

func TestOwnFunctions(t *testing.T) {
	t.Parallel()
	o := Options{Now: time.Date(2020, 2, 3, 4, 5, 6, 0, time.FixedZone("x", 3600)), Query: answers{}}
	for source, want := range map[string]string{
		`{{keys (dict "b" 1 "a" 2)}} {{values (dict "b" 1 "a" 2)}}`:        "[a b] [2 1]",
		`{{now | date "2006-01-02T15:04"}}`:                                "2020-02-03T03:05",
		`{{date "2006" 0}} {{htmlDate now}} {{dateInZone "15" now "UTC"}}`: "1970 2020-02-03 03",
		`{{range sparql "ASK"}}{{.name}},{{end}}`:                          "x,y,",
		`{{define "t"}}a{{.}}{{end}}{{include "t" .n | upper}}`:            "A3",
	} {
		if got, err := rendered(t, o, source, context1); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", source, got, err, want)
		}
	}
	if got, err := rendered(t, Options{Lenient: true}, "[{{.missing}}][{{.none}}]", context1); got != "[][]" || err != nil {
		t.Errorf("lenient: %q, %v", got, err)
	}
}

type answers struct{}

func (answers) Query(context.Context, string) (any, error) {
	var rows []any
	for _, name := range []string{"x", "y"} {
		row := render.NewRow()
		row.Set("name", name)
		rows = append(rows, row)
	}
	return rows, nil
}

type folder map[string]string

func (f folder) Load(name, _ string) (string, string, error) {
	if text, ok := f[name]; ok {
		return "dir/" + name, text, nil
	}
	return "", "", fs.ErrNotExist
}

func TestIncludes(t *testing.T) {
	t.Parallel()
	o := Options{Loader: folder{"a": `A{{template "b" .}}`, "b": `B{{.name}}{{define "c"}}C{{end}}`}}
	if got, err := rendered(t, o, `{{template "a" .}}{{include "b" .}}{{template "c"}}`, context1); got != "ABordersBordersC" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	o := Options{Loader: folder{"a": "x\n  {{.nam}}"}}
	for source, want := range map[string][]string{
		"a\n{{ .nmae }}":               {"main.tmpl:2:4:", `"nmae" is not defined`, "    {{ .nmae }}"},
		"{{ if }}":                     {"main.tmpl:1:1:", "missing value for if"},
		"a\n b {{ end }}":              {"main.tmpl:2:4:", "unexpected {{end}}"},
		"{{ uper .name }}":             {"main.tmpl:1:4:", `no function "uper"`},
		"ü {{ index .list 9 }}":        {"main.tmpl:1:6:", "out of range"},
		`{{template "a" .}}`:           {"dir/a:2:5:", `"nam" is not defined`, `in template "a" at main.tmpl:1:`},
		`{{template "zz" .}}`:          {"main.tmpl:1:", `template "zz" is not there`},
		`{{fail "because"}}`:           {"main.tmpl:1:3:", "because"},
		`{{now}}`:                      {"no time was given"},
		`{{sparql "ASK {}"}}`:          {"no graph"},
		`{{_print 1}}`:                 {"main.tmpl:1:"},
		`{{dateInZone "15" 0 "Mars"}}`: {"only UTC"},
	} {
		_, err := rendered(t, o, source, context1)
		var placed *render.Error
		if !errors.As(err, &placed) || fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v", source, err)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v\nhas no %q", source, err, part)
			}
		}
	}
	_, err := rendered(t, o, "{{ uper .name }}", context1)
	if !strings.Contains(fault.HintOf(err), "upper") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
	_, err = rendered(t, o, "{{ .nmae }}", context1)
	if !strings.Contains(fault.HintOf(err), "name") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
}

// TestLeftOut sees that no function of sprig that differs between two runs is there.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	known := sprig.TxtFuncMap()
	for name := range left {
		if known[name] == nil {
			t.Errorf("%s is no function of sprig", name)
		}
		if _, err := New(Options{}).Parse("x", "{{"+name+"}}"); err == nil || !strings.Contains(fault.HintOf(err), "left out") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name := range known {
		for _, bad := range []string{"env", "rand", "gen", "uuid", "crypt", "Host", "osB", "osD"} {
			if strings.Contains(name, bad) && names[name] != nil {
				t.Errorf("%s is there", name)
			}
		}
	}
}

// TestLimits renders what would not end, or take the machine's memory.
// TestLimits does not end where a bound is missing.
func TestLimits(t *testing.T) {
	t.Parallel()
	limits := render.Limits{Steps: 1_000_000, OutputBytes: 16 << 20, StringBytes: 64 << 20}
	deep := strings.Repeat("{{if true}}", 5000) + strings.Repeat("{{end}}", 5000)
	for name, source := range map[string]string{
		"loop":          `{{range 100000000}}{{range 100000000}}{{end}}{{end}}`,
		"calls":         `{{define "t"}}{{range 1000}}{{range 1000}}{{range 1000}}{{$x := upper "a"}}{{end}}{{end}}{{end}}{{end}}{{template "t"}}`,
		"recursion":     `{{define "t"}}{{template "t"}}{{end}}{{template "t"}}`,
		"include":       `{{define "t"}}{{include "t" .}}{{end}}{{include "t" .}}`,
		"nested tags":   deep,
		"parentheses":   "{{" + strings.Repeat("(", 5000) + "1" + strings.Repeat(")", 5000) + "}}",
		"doubling":      `{{$s := "ab"}}{{range 60}}{{$s = print $s $s}}{{end}}`,
		"doubling list": `{{$s := list 1 2}}{{range 60}}{{$s = list $s $s}}{{end}}{{$s}}`,
		"doubling json": `{{$s := list 1 2}}{{range 60}}{{$s = list $s $s}}{{end}}{{toJson $s}}`,
		"concat":        `{{$s := list 1 2}}{{range 60}}{{$s = concat $s $s}}{{end}}`,
		"repeat":        `{{repeat 1000000000 "x"}}`,
		"replace":       `{{$s := repeat 1000000 "a"}}{{replace "a" $s $s}}`,
		"regex":         `{{$s := repeat 1000000 "$0"}}{{regexReplaceAll ".*" $s $s}}`,
		"until":         `{{until 1000000000}}`,
		"untilStep":     `{{untilStep 0 1000000000 1}}`,
		"seq":           `{{seq 1 1 1000000000}}`,
		"indent":        `{{indent 1000000000 "a\nb"}}`,
		"join":          `{{join (repeat 1000000 "x") (until 100000)}}`,
		"printf":        `{{printf (repeat 1000000 "%1000000d") 1}}`,
		"printf star":   `{{printf (repeat 1000000 "%[1]*[2]d") 1000000 1}}`,
		"cycle":         `{{$d := dict "a" 1}}{{$_ := set $d "d" $d}}{{$d}}`,
		"cycle copied":  `{{$d := dict "a" 1}}{{$_ := set $d "d" $d}}{{deepCopy $d}}`,
		"output":        `{{$s := repeat 1000000 "x"}}{{range 100}}{{$s}}{{end}}`,
		"uniq":          `{{uniq (until 100000)}}`,
		"eq":            `{{$s := repeat 8000000 "x"}}{{$t := repeat 8000000 "x"}}{{range 50000}}{{if eq $s $t}}{{end}}{{end}}`,
		"ne piped":      `{{$s := repeat 8000000 "x"}}{{$t := repeat 8000000 "x"}}{{range 50000}}{{if $s | ne $t}}{{end}}{{end}}`,
		"lt":            `{{$s := repeat 8000000 "x"}}{{$t := repeat 8000000 "x"}}{{range 50000}}{{if and true (lt $s $t)}}{{end}}{{end}}`,
		"eq cycle":      `{{$d := dict "a" 1}}{{$_ := set $d "d" $d}}{{eq $d $d}}`,
		"index":         `{{$s := repeat 8000000 "x"}}{{$d := dict $s 1}}{{range 50000}}{{$x := index $d $s}}{{end}}`,
		"get":           `{{$s := repeat 8000000 "x"}}{{$d := dict $s 1}}{{range 50000}}{{$x := get $d $s}}{{end}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := rendered(t, Options{Limits: limits}, source, "")
			if err == nil || !strings.Contains(err.Error(), "limit reached") || fault.KindOf(err) != fault.Finding {
				t.Errorf("%.300v", err)
			}
		})
	}
}

// TestComparison sees that counting leaves the comparisons of text/template as they are.
func TestComparison(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`{{eq 1 1}}{{eq 1 2 3 1}}{{ne "a" "b"}}{{lt 1 2}}{{ge 2 2}}{{"a" | eq "a"}}`: "truetruetruetruetruetrue",
		`{{eq .name "orders"}}{{eq .name nil}}{{.name | upper | ne "ORDERS"}}`:       "truefalsefalse",
		`{{eq (len .list) 3}}{{eq (index .list 0) "b"}}{{index .map "k" | eq 9}}`:    "truetruefalse",
		`{{if and (eq 1 1) (or (eq "a" "b") (eq true true))}}yes{{end}}`:             "yes",
		`{{with $x := 5}}{{gt $x 4}}{{le $x 4}}{{end}}`:                              "truefalse",
	} {
		got, err := rendered(t, Options{Lenient: true}, source, `{"name":"orders","list":["b","a","c"],"map":{"k":1}}`)
		if got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", source, got, err, want)
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := New(Options{}).Render(ctx, &bytes.Buffer{}, "x", "{{range 1000000}}{{range 10}}{{end}}{{end}}", nil)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	got, err := New(Options{}).Variables("x", `{{.a.b}}{{range .c}}{{.d}}{{$.e}}{{end}}{{with .f}}{{.g}}{{else}}{{.h}}{{end}}{{if .i | upper}}{{end}}`)
	if want := "a c e f h i"; strings.Join(got, " ") != want || err != nil {
		t.Errorf("%v, %v; want %s", got, err, want)
	}
}

// TestShared renders one template by many at once; -race watches.
func TestShared(t *testing.T) {
	t.Parallel()
	e := New(Options{})
	for range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 20 {
				var buf bytes.Buffer
				err := e.Render(t.Context(), &buf, "x", `{{$_ := set .map "q" 1}}{{.name}}{{upper .name}}{{range .list}}{{.}}{{end}}`, vars(t, context1))
				if got := buf.String(); got != "ordersORDERSbaca" || err != nil {
					t.Fatalf("%q, %v", got, err)
				}
			}
		})
	}
}

func FuzzRender(f *testing.F) {
	for _, seed := range []string{"{{.name}}", "{{range .list}}{{.}}{{end}}", `{{define "a"}}{{end}}{{template "a"}}`, `{{printf "%*d" 5 1 | indent 2}}`, "{{-", "{{/*"} {
		f.Add(seed)
	}
	e := New(Options{Limits: render.Limits{Steps: 100_000, StringBytes: 8 << 20, OutputBytes: 1 << 20, Range: 10_000}})
	f.Fuzz(func(t *testing.T, source string) {
		var buf bytes.Buffer
		if err := e.Render(t.Context(), &buf, "x", source, vars(t, context1)); err != nil && fault.KindOf(err) != fault.Finding {
			t.Fatalf("%q: %v", source, err)
		}
	})
}
