package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ultrafast-ci/ultrafast/actions/ultrafast/reference"
	"github.com/ultrafast-ci/ultrafast/internal/app"
)

// named returns a door of the reference.
func named(name string) func() app.Door {
	return func() app.Door {
		d, ok := reference.Named("/usr/local/bin/" + name)
		if !ok {
			panic("no door answers to " + name)
		}
		return d
	}
}

// unbuilt runs a command line that must say that it is not built yet, and nothing
// else: unbuilt PROGRAM ARGS…
func unbuilt(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[0], args[1:]...)
	said := ts.ReadFile("stderr")
	if err == nil || !strings.Contains(err.Error(), "exit status 2") || !strings.Contains(said, " is not built yet") || !strings.Contains(said, "use `") {
		ts.Fatalf("%v: %v\n%s", args, err, said)
	}
	if strings.Contains(said, "hunter22") || ts.ReadFile("stdout") != "" {
		ts.Fatalf("%v says too much", args)
	}
}

// spoil changes the first template that is installed below a directory.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	found, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*", "*", "templates", "*.tmpl"))
	if err != nil || len(found) == 0 {
		ts.Fatalf("nothing is installed in %s: %v", args[0], err)
	}
	if err := os.WriteFile(found[0], []byte("evil"), 0o644); err != nil {
		ts.Fatalf("%v", err)
	}
}

// lines returns a command line for each verb below a struct of commands, by its
// words, with the flags that it has.
func lines(t reflect.Type, words string, out map[string][]string) {
	var flags []string
	leaf := true
	for field := range fieldsOf(t) {
		name := field.Tag.Get("name")
		if name == "" {
			name = kebab(field.Name)
		}
		_, command := field.Tag.Lookup("cmd")
		_, argument := field.Tag.Lookup("arg")
		switch {
		case command:
			leaf = false
			lines(field.Type, words+" "+name, out)
		case !argument:
			flags = append(flags, "--"+name)
		}
	}
	if leaf {
		out[words] = flags
	}
}

func fieldsOf(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if f.Type == reflect.TypeFor[reference.Globals]() || len(f.Index) > 1 && reflect.TypeFor[reference.Globals]() == t.Field(f.Index[0]).Type {
				continue
			}
			if f.IsExported() && !f.Anonymous && !yield(f) {
				return
			}
		}
	}
}

func kebab(name string) string {
	if strings.ToUpper(name) == name {
		return strings.ToLower(name)
	}
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// TestReferenceIsWhole: each verb and each flag of the reference's doors is in the
// script, so that none is there which no test runs.
func TestReferenceIsWhole(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(filepath.Join("testdata", "reference_commands.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	verbs := map[string][]string{}
	lines(reflect.TypeFor[reference.Ggen](), "ggen", verbs)
	lines(reflect.TypeFor[reference.Cleanroom](), "cleanroom", verbs)
	if len(verbs) != 18 {
		t.Errorf("%d verbs, the reference has 18: %v", len(verbs), verbs)
	}
	for verb, flags := range verbs {
		var at []string
		for line := range strings.Lines(string(script)) {
			if strings.Contains(line, verb+" ") || strings.HasSuffix(strings.TrimSpace(line), verb) {
				at = append(at, line)
			}
		}
		if len(at) == 0 {
			t.Errorf("%s is not in the script", verb)
		}
		for _, flag := range flags {
			if !strings.Contains(strings.Join(at, " "), " "+flag) {
				t.Errorf("%s %s is not in the script", verb, flag)
			}
		}
	}
	if _, ok := reference.Named("ultrafast"); ok {
		t.Error("ultrafast is no name of the reference")
	}
	for _, program := range []string{"ggen", "/a/b/cleanroom", "ggen.exe"} {
		if _, ok := reference.Named(program); !ok {
			t.Error(fmt.Sprint(program, " is one"))
		}
	}
}
