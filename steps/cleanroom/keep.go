package cleanroom

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Files of [Tests.ResultsDir].
const (
	FileResults   = "results.json"
	FileJUnit     = "junit.xml"
	FileText      = "results.txt"
	FileDurations = "durations.json"
	DirLogs       = "logs"
)

// keepResults writes the results for people and for CI systems, whatever the outcome.
// What an earlier run left there goes.
func (t *trial) keepResults() error {
	dir := t.step.Tests.ResultsDir
	if dir == "" {
		return nil
	}
	switch err := t.writeResults(dir); {
	case err != nil && t.step.Tests.ResultsOptional:
		t.step.Log.Warn("test results are not kept", "directory", dir, "error", err)
	case err != nil:
		return fault.Wrap(err, fault.Unavailable, "name a directory that can be written: testing.results_dir in .cleanroom/config.toml", "keep the test results in "+dir)
	}
	return nil
}

func (t *trial) writeResults(dir string) error {
	asJSON, err := t.json()
	if err != nil {
		return err
	}
	asXML, err := t.junit()
	if err != nil {
		return err
	}
	durations, err := t.durations()
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.RemoveAll(filepath.Join(dir, DirLogs))); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		FileResults: asJSON, FileJUnit: asXML, FileText: []byte(t.resultText()), FileDurations: durations,
		".gitignore": []byte("*\n"),
	} {
		if err := replaceFile(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	if t.step.Tests.NoLogs {
		return nil
	}
	return os.CopyFS(filepath.Join(dir, DirLogs), t.logs.FS())
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// durations encodes how long the units took, for [Tests.Durations].
func (t *trial) durations() ([]byte, error) {
	took := map[string]float64{}
	for _, s := range t.suites {
		for name, u := range s.results.units {
			took[s.results.label(name)] = u.seconds
		}
	}
	b, err := json.MarshalIndent(took, "", "  ") // keys are sorted
	return append(b, '\n'), err
}

// ReadDurations decodes what [Tests.ResultsDir] keeps of durations. At most 16 MiB
// are read.
func ReadDurations(fsys fs.FS, name string) (map[string]float64, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	const most = 16 << 20
	if info.Size() > most {
		return nil, fault.New(fault.Usage, "", "%s has more than %d bytes", name, most)
	}
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	took := map[string]float64{}
	if err := json.Unmarshal(b, &took); err != nil {
		return nil, fault.New(fault.Usage, "take the durations.json of a run's results", "%s holds no durations: %w", name, err)
	}
	for unit, seconds := range took {
		if !(seconds >= 0 && seconds < 1e7) {
			return nil, fault.New(fault.Usage, "", "%s: %q took %g seconds", name, unit, seconds)
		}
	}
	return took, nil
}

// resultText writes the results as lines for people: what failed last, where a
// terminal shows it.
func (t *trial) resultText() string {
	byOutcome := map[state.Outcome][]string{}
	for _, s := range t.suites {
		for _, id := range s.results.ids() {
			test := s.results.tests[id]
			line := fmt.Sprintf("%-8s %8.3fs  %s", test.end(), test.seconds, s.results.name(id))
			if test.flaky {
				line += fmt.Sprintf("  (flaky: attempt %d)", test.attempts)
			}
			byOutcome[test.end()] = append(byOutcome[test.end()], line)
		}
		for _, name := range s.results.broken() {
			byOutcome[state.Failed] = append(byOutcome[state.Failed], fmt.Sprintf("%-8s %8.3fs  %s", "failed", s.results.units[name].seconds, s.results.label(name)))
		}
	}
	var b strings.Builder
	order := []state.Outcome{state.Passed, state.Skipped, state.Waived, state.Failed}
	for _, o := range slices.Sorted(maps.Keys(byOutcome)) {
		if !slices.Contains(order, o) {
			order = append(order, o)
		}
	}
	for _, o := range order {
		for _, line := range byOutcome[o] {
			b.WriteString(line + "\n")
		}
	}
	return b.String() + t.summary() + "\n"
}
