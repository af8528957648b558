package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/terminal/terminaltest"
)

// TestBarOfTemplate renders many rows with a terminal on standard error: they are
// counted in one line, which is gone at the end. Where CI is set there are plain lines.
func TestBarOfTemplate(t *testing.T) {
	t.Parallel()
	project := t.TempDir()
	rows := strings.Repeat(" (1)", 2000)
	template := "---\nto: 'out/{{ row.n }}_{{ now() | date(format=\"%Y\") }}.txt'\nfor_each: many\nwhen: 'row.n == 7'\nsparql:\n  many: SELECT ?n WHERE { VALUES (?n) {" + rows + " (7) } }\n---\n" +
		"{% for i in range(end=300) %}{{ i }}{% endfor %}\n"
	if err := os.WriteFile(filepath.Join(project, "many.tmpl"), []byte(template), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, env ...string) (screen, out string) {
		shown, tty := terminaltest.Open(t, 80)
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Args = []string{"ultrafast-generate", "template", "many.tmpl", "--project", project, "--output-dir", filepath.Join(project, name), "--no-cache"}
		for _, pair := range os.Environ() {
			if key, _, _ := strings.Cut(pair, "="); key != "CI" && key != "TERM" && key != "NO_COLOR" {
				cmd.Env = append(cmd.Env, pair)
			}
		}
		cmd.Env = append(append(cmd.Env, "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "TERM=xterm"), env...)
		var stdout bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = project, &stdout, tty
		got := make(chan string, 1)
		go func() {
			all, _ := io.ReadAll(shown) // ends with an error when nobody has the terminal open
			got <- string(all)
		}()
		if err := cmd.Run(); err != nil {
			t.Error(err)
		}
		if err := tty.Close(); err != nil {
			t.Fatal(err)
		}
		return <-got, stdout.String()
	}
	screen, out := run("live")
	if !regexp.MustCompile(`generate +.*[━╸].* %  [0-9,]+ of 2,001`).MatchString(screen) {
		t.Errorf("no bar: %q", screen)
	}
	if strings.Count(screen, "\n") > 8 || !strings.Contains(screen, "1 file") {
		t.Errorf("%q", screen)
	}
	if !strings.HasPrefix(out, "layout:") || strings.Contains(out, "\x1b") {
		t.Errorf("standard output has %q", out)
	}
	if screen, _ := run("ci", "CI=true", "NO_COLOR=1"); strings.Contains(screen, "\x1b") || !strings.Contains(screen, "1/1 many.tmpl") {
		t.Errorf("with CI: %q", screen)
	}
}
