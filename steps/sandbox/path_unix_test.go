//go:build unix

package sandbox_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func TestLookPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"a/tool": 0o644, "b/tool": 0o755, "c/tool": 0o755} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, mode)); err != nil {
			t.Fatal(err)
		}
	}
	list := "PATH=" + filepath.Join(dir, "none") + ":" + dir + ":a:b:" + filepath.Join(dir, "c")
	got, err := sandbox.LookPath("tool", []string{"PATH=/nowhere", list}, dir)
	if want := filepath.Join(dir, "b", "tool"); got != want || err != nil {
		t.Errorf("found %s, %v; want %s", got, err, want)
	}
	if got, err := sandbox.LookPath("./a/tool", nil, dir); got != "./a/tool" || err != nil {
		t.Errorf("a path became %s, %v", got, err)
	}
	if got, err := sandbox.LookPath("a", []string{list}, dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found %s, %v", got, err)
	}
}
