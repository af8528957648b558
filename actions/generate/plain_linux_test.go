package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// plainly makes the files in a project of its own and returns what runs the program
// there by the modes of files, which root alone could disregard.
func plainly(t *testing.T, files map[string]string) (dir string, run func(args ...string) (said string, code int)) {
	t.Helper()
	dir = t.TempDir()
	for name, content := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "ultrafast-generate")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	var before []string
	if os.Getuid() == 0 {
		if before = []string{"setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"}; exec.Command("setpriv", "--version").Run() != nil {
			t.Skip("root disregards modes, and there is no setpriv")
		}
	}
	return dir, func(args ...string) (string, int) {
		t.Helper()
		argv := slices.Concat(before, []string{program}, args)
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		err := cmd.Run()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return said.String(), cmd.ProcessState.ExitCode()
	}
}

// TestUnreadable: a file that the user may not read is named, with what to do.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	const template = "---\nto: a.txt\nsparql: {q: 'SELECT ?s { ?s ?p ?o }'}\n---\n{{ sparql_results.q | length }}\n"
	dir, run := plainly(t, map[string]string{
		"ggen.toml":                "[project]\nname = \"p\"\n",
		"templates/shop/a.tmpl":    strings.Replace(template, "sparql", "rdf: m.ttl\nsparql", 1),
		"templates/shop/m.ttl":     "<urn:a> <urn:b> <urn:c> .\n",
		"others/templates/b.tmpl":  template,
		"model.ttl":                "<urn:a> <urn:b> <urn:c> .\n",
		"others/templates/x/c.txt": "",
	})
	if said, code := run("template", "templates/shop/a.tmpl", "--output-dir", "out"); code != 0 {
		t.Fatalf("before: exit code %d: %s", code, said)
	}
	for _, c := range []struct {
		closed string
		args   []string
		want   []string
	}{
		{"templates/shop/m.ttl", []string{"template", "templates/shop/a.tmpl"}, []string{"templates in templates", "shop/m.ttl: permission denied", "right to read it"}},
		{"templates/shop/m.ttl", []string{"lint", "templates/shop/a.tmpl"}, []string{`graph "m.ttl" cannot be read: permission denied`, "templates/shop/a.tmpl:3:6", "may read"}},
		{"model.ttl", []string{"template", "others/templates/b.tmpl", "--graph", "model.ttl"}, []string{"read graph model.ttl: ", "permission denied", "right to read it"}},
		{"out/a.txt", []string{"template", "templates/shop/a.tmpl", "--output-dir", "out", "--force"}, []string{"write to ", "a.txt: permission denied", "right to it"}},
		{"others/templates/x", []string{"template", "others/templates/b.tmpl"}, []string{"templates in others/templates", "x: permission denied", "right to read it"}},
	} {
		at := filepath.Join(dir, c.closed)
		info, err := os.Stat(at)
		if err == nil {
			err = os.Chmod(at, 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		said, code := run(c.args...)
		if code == 0 || code == 4 {
			t.Errorf("%s closed: exit code %d", c.closed, code)
		}
		for _, want := range c.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s closed: no %q in\n%s", c.closed, want, said)
			}
		}
		if err := os.Chmod(at, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}
