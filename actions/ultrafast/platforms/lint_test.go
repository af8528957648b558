package platforms

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestActionlint holds every workflow to actionlint, those of the documentation among
// them, and sees it find something.
func TestActionlint(t *testing.T) {
	on(t, actHost)
	program := goTool(t, "actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12")
	lint := func(files ...string) (string, error) {
		// Without shellcheck and pyflakes, which machines have or do not.
		_, all, err := command{dir: root(), args: append([]string{program, "-no-color", "-shellcheck=", "-pyflakes="}, files...)}.output(t.Context())
		return all, err
	}
	files := glob(t, filepath.Join(root(), ".github", "workflows", "*.yml"), filepath.Join("testdata", "act", "*.yml"))
	for _, page := range []string{"README.md", "docs/github.md"} {
		blocks := regexp.MustCompile("(?s)```yaml\n(name: .*?)```").FindAllStringSubmatch(read(t, filepath.Join(root(), page)), -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no workflow", page)
		}
		for i, block := range blocks {
			name := filepath.Join(t.TempDir(), fmt.Sprintf("%s-%d.yml", filepath.Base(page), i))
			write(t, name, block[1])
			files = append(files, name)
		}
	}
	if all, err := lint(files...); err != nil {
		t.Errorf("%v\n%s", err, all)
	}
	bad := filepath.Join(t.TempDir(), "bad.yml")
	write(t, bad, strings.Replace(read(t, files[0]), "runs-on:", "runs-off:", 1))
	if all, err := lint(bad); exitCode(err) != 1 || !strings.Contains(all, "runs-off") {
		t.Errorf("a wrong key passes: %v\n%s", err, all)
	}
}

// TestActionSchema holds every action to the schema of action.yml, and sees a wrong one
// refused.
func TestActionSchema(t *testing.T) {
	on(t, actHost)
	program := kept("tools", "npm", "node_modules", ".bin", "action-validator")
	if _, err := os.Stat(program); err != nil {
		missing(t, "action-validator, which .ci/setup-platforms installs, is not there: %v", err)
	}
	tree := releaseTree(t)
	files := append(glob(t, filepath.Join(root(), "actions", "*", "action.yml"), filepath.Join(tree, "actions", "*", "action.yml")), filepath.Join(root(), "action.yml"))
	for _, file := range files {
		if _, all, err := (command{args: []string{program, file}}).output(t.Context()); err != nil {
			t.Errorf("%s: %v\n%s", file, err, all)
		}
	}
	bad := filepath.Join(t.TempDir(), "action.yml")
	write(t, bad, strings.Replace(read(t, files[0]), "using: ", "usng: ", 1))
	if _, all, err := (command{args: []string{program, bad}}).output(t.Context()); exitCode(err) != 1 {
		t.Errorf("a wrong key passes: %v\n%s", err, all)
	}
}

func glob(t *testing.T, patterns ...string) []string {
	t.Helper()
	var files []string
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: nothing, %v", p, err)
		}
		for _, name := range found {
			abs, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, abs)
		}
	}
	return files
}
