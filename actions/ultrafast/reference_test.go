package main

import (
	"fmt"
	"os"
	"path/filepath"
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

// TestReferenceIsWhole: each verb and each flag of the reference's doors is in the
// script, so that none is there which no test runs.
func TestReferenceIsWhole(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(filepath.Join("testdata", "reference_commands.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	verbs := referenceVerbs()
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
			if !strings.Contains(strings.Join(at, " "), " --"+flag.name) {
				t.Errorf("%s --%s is not in the script", verb, flag.name)
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
