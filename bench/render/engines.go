package main

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strings"
	"text/template"
	"time"

	"github.com/flosch/pongo2/v6"
	"github.com/mitsuhiko/minijinja/minijinja-go/v2"

	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/internal/render/tera"
)

// measure is one turn of an engine at a workload.
type measure struct {
	perRender time.Duration
	allocs    float64 // per render; negative: not counted
}

// engine renders a workload again and again.
type engine interface {
	// prepare parses the template of a workload and returns what it renders.
	prepare(w *workload) (output string, err error)
	// turn renders what was prepared for about so long.
	turn(budget time.Duration) (measure, error)
}

// inProcess is an engine of this process.
type inProcess struct {
	compile func(w *workload) (func() error, *bytes.Buffer, error)
	once    func() error
}

func (e *inProcess) prepare(w *workload) (string, error) {
	once, out, err := e.compile(w)
	if err != nil {
		return "", err
	}
	e.once = once
	err = once()
	return out.String(), err
}

func (e *inProcess) turn(budget time.Duration) (measure, error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, n := time.Now(), 0
	for time.Since(began) < budget || n == 0 {
		for range 8 {
			if err := e.once(); err != nil {
				return measure{}, err
			}
		}
		n += 8
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return measure{took / time.Duration(n), float64(after.Mallocs-before.Mallocs) / float64(n)}, nil
}

func ours(w *workload) (func() error, *bytes.Buffer, error) {
	v, err := render.From(w.vars)
	if err != nil {
		return nil, nil, err
	}
	t, err := tera.New(tera.Options{}).Parse(w.name, w.tera)
	var out bytes.Buffer
	return func() error {
		out.Reset()
		return t.Render(context.Background(), &out, v.(*render.Map))
	}, &out, err
}

func standard(w *workload) (func() error, *bytes.Buffer, error) {
	t, err := template.New(w.name).Funcs(template.FuncMap{
		"lower": strings.ToLower, "capitalize": func(s string) string { return strings.ToUpper(s[:1]) + strings.ToLower(s[1:]) },
		"last": func(i int, list []any) bool { return i == len(list)-1 },
	}).Parse(w.std)
	var out bytes.Buffer
	return func() error {
		out.Reset()
		return t.Execute(&out, w.vars)
	}, &out, err
}

func jinja(w *workload) (func() error, *bytes.Buffer, error) {
	env := minijinja.NewEnvironment()
	if err := env.AddTemplate(w.name, w.jinja); err != nil {
		return nil, nil, err
	}
	t, err := env.GetTemplate(w.name)
	var out bytes.Buffer
	return func() error {
		out.Reset()
		return t.RenderToWrite(w.vars, &out)
	}, &out, err
}

func django(w *workload) (func() error, *bytes.Buffer, error) {
	pongo2.SetAutoescape(false)
	t, err := pongo2.FromString(w.django)
	var out bytes.Buffer
	return func() error {
		out.Reset()
		return t.ExecuteWriter(pongo2.Context(w.vars), &out)
	}, &out, err
}

// same reports where two outputs differ; empty if nowhere.
func same(a, b string) string {
	if a == b {
		return ""
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return fmt.Sprintf("at byte %d: %.40q and %.40q", i, a[i:], b[i:])
}
