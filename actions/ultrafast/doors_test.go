package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	cleanroom "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	deploy "github.com/ultrafast-ci/ultrafast/actions/deploy/door"
	generate "github.com/ultrafast-ci/ultrafast/actions/generate/door"
	market "github.com/ultrafast-ci/ultrafast/actions/market/door"
	"github.com/ultrafast-ci/ultrafast/actions/ultrafast/door"
	validate "github.com/ultrafast-ci/ultrafast/actions/validate/door"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/doorgen"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
)

var update = flag.Bool("update", false, "write the files that are made from the doors' structs")

const root = "../.."

// globals are the flags of every binary that are inputs: the others are about a
// terminal.
var globals = []string{"project", "store", "state", "state-out", "report-dir", "no-cache", "output", "log-level"}

// notInputs are the flags that are not.
var notInputs = []string{"help", "version", "color", "progress"}

var (
	keys  = doorgen.Workspace{Name: "keys", Description: "A secret with signing.pem, the key that signs the verdict."}
	trust = doorgen.Workspace{Name: "trust", Description: "A secret or a config map with trust.toml: the keys and the policy that are trusted."}
)

// doorway is a door as CI systems see it, and as a command line.
type doorway struct {
	doorgen.Door
	app app.Door
}

// doorways are the doors in the order of the phases, the joined one last.
func doorways() []doorway {
	optional := trust
	optional.Optional = true
	all := []doorway{
		{doorgen.Door{Name: "market", Verb: "add"}, market.New()},
		{doorgen.Door{Name: "generate", Verb: "template"}, generate.New()},
		{doorgen.Door{Name: "cleanroom-test", Verb: "run", Composite: true, Sandbox: true, Toolchain: true, JUnit: true}, cleanroom.New()},
		{doorgen.Door{Name: "validate", Verb: "run", Sandbox: true, JUnit: true, CodeQuality: true, Workspaces: []doorgen.Workspace{optional}}, validate.New()},
		{doorgen.Door{
			Name: "sign", Command: "validate", Verb: "sign", Protected: true, Workspaces: []doorgen.Workspace{keys},
			Description: "Sign the verdict on an image: the evidence is read again, nothing is run.",
		}, validate.New()},
		{doorgen.Door{Name: "deploy", Verb: "run", Protected: true, Workspaces: []doorgen.Workspace{trust}}, deploy.New()},
		{doorgen.Door{Name: "ultrafast", Verb: "run", Composite: true, Toolchain: true}, door.New()},
	}
	for i := range all {
		d := &all[i]
		d.CLI, d.Binary, d.Globals = d.app.CLI, d.app.Name, globals
		if d.Command == "" {
			d.Command = d.Name
		}
		if d.Description == "" {
			d.Description = d.app.Description
		}
	}
	return all
}

// generated returns every file that is made from the doors' structs, by its path
// below dir, where the READMEs are read.
func generated(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := config.Schemas()
	doorways := doorways()
	pipeline := doorgen.Pipeline{
		Joined: doorways[len(doorways)-1].Door,
		Except: []string{"from", "until"},
		Only:   map[string]string{"force": string(phase.Generate)},
	}
	for _, d := range doorways {
		if d.Name != pipeline.Joined.Name {
			pipeline.Phases = append(pipeline.Phases, d.Door)
			of, err := doorgen.Files(d.Door)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(files, of)
		}
		name := filepath.Join("actions", d.Name, "README.md")
		old, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if files[name], err = doorgen.README(d.Door, old); err != nil {
			t.Fatal(err)
		}
	}
	joined, err := pipeline.Files()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(files, joined)
	return files
}

// drift returns the differences between the files and those below dir.
func drift(files map[string][]byte, dir string) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		have, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case err != nil:
			found = append(found, err.Error())
		case !bytes.Equal(have, files[name]):
			found = append(found, name+": "+firstDifference(string(have), string(files[name])))
		}
	}
	return found
}

func firstDifference(have, want string) string {
	a, b := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range max(len(a), len(b)) {
		x, y := "(end)", "(end)"
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("line %d:\n  committed: %s\n  generated: %s", i+1, x, y)
		}
	}
	return "no difference"
}

// TestDoors compares the committed files with what the structs say, or writes them.
func TestDoors(t *testing.T) {
	files := generated(t, root)
	if *update {
		for name, content := range files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, d := range drift(files, root) {
		t.Errorf("%s\nrun `make doors`", d)
	}
}

// TestDriftIsSeen changes one byte of each file in a copy.
func TestDriftIsSeen(t *testing.T) {
	t.Parallel()
	files := generated(t, root)
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found := drift(files, dir); len(found) > 0 {
		t.Fatalf("a faithful copy differs: %v", found)
	}
	for name, content := range files {
		changed := bytes.Clone(content)
		changed[len(changed)/2] ^= 1
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, changed, 0o644); err != nil {
			t.Fatal(err)
		}
		if found := drift(files, dir); len(found) != 1 || !strings.HasPrefix(found[0], name) {
			t.Errorf("one byte of %s was changed, and this was seen: %v", name, found)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "action.yml")); err != nil {
		t.Fatal(err)
	}
	if found := drift(files, dir); len(found) != 1 {
		t.Errorf("a missing file was not seen: %v", found)
	}
}

// TestInputsAreFlags asks the binary's own help: what it lists are the inputs, and
// nothing else.
func TestInputsAreFlags(t *testing.T) {
	t.Parallel()
	listed := regexp.MustCompile(`(?m)^ {2,6}(?:-\w, |    )--(?:\[no-\])?([a-z0-9-]+)`)
	for _, d := range doorways() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			inputs, err := doorgen.Inputs(d.CLI, d.Verb, d.Globals)
			if err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			code := app.Main(d.app, app.OS{
				Args: []string{d.Verb, "--help"}, Lookup: func(string) (string, bool) { return "", false },
				Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Dir: t.TempDir(), Now: time.Now,
			})
			if code != 0 {
				t.Fatalf("help ended with %d: %s", code, errs.String())
			}
			var names, flags []string
			for _, in := range inputs {
				names = append(names, in.Name)
			}
			for _, m := range listed.FindAllStringSubmatch(out.String(), -1) {
				if !slices.Contains(notInputs, m[1]) {
					flags = append(flags, m[1])
				}
			}
			slices.Sort(names)
			slices.Sort(flags)
			if !slices.Equal(names, flags) {
				t.Errorf("inputs %v\nflags  %v\n%s", names, flags, out.String())
			}
		})
	}
}
