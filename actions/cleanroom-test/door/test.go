package door

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Test are the verbs for tests.
type Test struct {
	Results TestResults `cmd:"" help:"Show the results of the last tests."`
}

// TestResults shows results.
type TestResults struct {
	Format string `enum:",text,json,junit" default:"" placeholder:"FORMAT" help:"Form of the results: text, json or junit. Default: as --output."`
	File   string `type:"path" placeholder:"FILE" help:"Write them to FILE."`
}

// Help shows how it is called.
func (*TestResults) Help() string {
	return `They are read from the results directory of the project, .cleanroom/test-results unless
it says otherwise.

Examples:
  ultrafast-cleanroom-test test results
  ultrafast-cleanroom-test test results --format junit --file results.xml`
}

// resultFiles are the files of the results directory, by format.
var resultFiles = map[string]string{"text": "results.txt", "json": "results.json", "junit": "junit.xml"}

// Run copies them.
func (t *TestResults) Run(_ context.Context, a *app.App) error {
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	format := t.Format
	if format == "" {
		format = "text"
		if a.Output == "json" {
			format = "json"
		}
	}
	path := filepath.Join(r.resultsDir(), resultFiles[format])
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Finding, "run tests first", "no test results are in %s", r.resultsDir())
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "read test results")
	}
	defer f.Close()
	if t.File == "" {
		_, err = io.Copy(a.Stdout, f)
		return fault.Wrap(err, fault.Unavailable, "", "print test results")
	}
	return writeFile(a.Abs(t.File), "test results", f)
}

// resultsDir is where test results are kept (K-39).
func (r *rooms) resultsDir() string {
	dir := cmp.Or(r.project.Testing.ResultsDir, filepath.Join(".cleanroom", "test-results"))
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(r.project.Dir, dir)
}

// writeFile writes a file whole or not at all, and the directories above it.
func writeFile(path, what string, from io.Reader) error {
	doing, hint := "write "+what, "name a file that can be written"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fault.Wrap(err, fault.Unavailable, hint, doing)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, hint, doing)
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return fault.Wrap(err, fault.Unavailable, hint, doing)
}
