package cleanroom

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Files of [Tests.ResultsDir].
const (
	FileResults   = "results.json"
	FileJUnit     = "junit.xml"
	FileText      = "results.txt"
	FileDurations = "durations.json"
	DirLogs       = "logs"
	// FileProfile is a processor profile of the program, which others may add.
	FileProfile = "cpu.pprof"

	fileIgnore = ".gitignore"
)

// openResults finds out, before an hour of tests, that the directory of the results can
// be written.
func (t *trial) openResults() error {
	dir := t.step.Tests.ResultsDir
	if dir == "" {
		return nil
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		t.results, err = os.OpenRoot(dir)
	}
	if err == nil {
		trace := freshName(FileResults)
		err = errors.Join(t.results.WriteFile(trace, nil, 0o644), t.results.RemoveAll(trace))
	}
	if err != nil {
		err = t.lostResults(err)
		t.closeResults()
	}
	return err
}

func (t *trial) closeResults() {
	if t.results != nil {
		t.results.Close() // everything in it was closed, and said so
		t.results = nil
	}
}

// keepResults writes the results for people and for CI systems, whatever the outcome.
// What an earlier run left there goes; what others have there stays.
func (t *trial) keepResults() error {
	if t.results == nil {
		return nil
	}
	if err := t.writeResults(); err != nil {
		return t.lostResults(err)
	}
	return nil
}

// lostResults is why there are no results; nil, and a warning, where nobody asked for them.
func (t *trial) lostResults(err error) error {
	dir := t.step.Tests.ResultsDir
	if t.step.Tests.ResultsOptional {
		t.step.Log.Warn("test results are not kept", "directory", dir, "error", err)
		return nil
	}
	return fault.Wrap(err, fault.Unavailable, "name a directory that can be written, on a disk with space: --results-dir, or testing.results_dir in .cleanroom/config.toml", "keep the test results in "+dir)
}

func (t *trial) writeResults() error {
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
	private, err := t.private()
	if err != nil {
		return err
	}
	files := map[string][]byte{FileResults: asJSON, FileJUnit: asXML, FileText: []byte(t.resultText()), FileDurations: durations}
	if private {
		files[fileIgnore] = []byte("*\n") // Git need not see it
	}
	if !t.step.Tests.NoLogs {
		if err := t.addLogs(files); err != nil {
			return err
		}
	}
	return t.replaceFiles(files)
}

// private reports that the directory holds nothing that is not of a test run.
func (t *trial) private() (bool, error) {
	entries, err := fs.ReadDir(t.results.FS(), ".")
	own := []string{FileResults, FileJUnit, FileText, FileDurations, FileProfile, fileIgnore, DirLogs}
	return !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !slices.Contains(own, e.Name()) }), err
}

// removeLogs removes the logs of an earlier run.
func (t *trial) removeLogs() error {
	for _, name := range earlierLogs(t.results) {
		if err := t.results.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// earlierLogs returns the files below a directory of results of which those of an
// earlier run say that they are its own: there may be others.
func earlierLogs(results *os.Root) []string {
	b, err := readBounded(results, FileResults, maxEarlier)
	var earlier report
	if err != nil || json.Unmarshal(b, &earlier) != nil {
		return nil // no results, or none of ours
	}
	var names []string
	for _, u := range earlier.Packages {
		if path.Dir(u.Log) == DirLogs && fs.ValidPath(u.Log) {
			names = append(names, u.Log)
		}
	}
	return names
}

// maxEarlier bounds the results of an earlier run, in bytes.
const maxEarlier = 64 << 20

// keptIn returns the paths below a source directory that an earlier run has written
// there, if the directory of results is in it.
func (t Tests) keptIn(source *os.Root) map[string]bool {
	dir, err := filepath.Rel(source.Name(), t.ResultsDir)
	if err != nil || t.ResultsDir == "" || !filepath.IsLocal(dir) {
		return nil
	}
	dir = filepath.ToSlash(dir)
	results, err := source.OpenRoot(dir)
	if err != nil {
		return nil // nothing is there yet
	}
	defer results.Close()
	kept := map[string]bool{}
	for _, name := range append(earlierLogs(results), FileResults, FileJUnit, FileText, FileDurations, FileProfile) {
		kept[path.Join(dir, name)] = true
	}
	return kept
}

// addLogs adds the logs to the files that are written.
func (t *trial) addLogs(files map[string][]byte) error {
	logs, err := fs.ReadDir(t.logs.FS(), ".")
	if err = errors.Join(err, t.results.MkdirAll(DirLogs, 0o755)); err != nil {
		return err
	}
	for _, l := range logs {
		if files[path.Join(DirLogs, l.Name())], err = t.logs.ReadFile(l.Name()); err != nil { // bounded by maxUnitLog and the retries
			return err
		}
	}
	return nil
}

// replaceFiles writes the files of the results beside those of an earlier run, and puts
// them in their place when there was space for all: half of a run is no result.
func (t *trial) replaceFiles(files map[string][]byte) (err error) {
	fresh := map[string]string{}
	defer func() {
		for _, name := range fresh {
			err = errors.Join(err, t.results.RemoveAll(name))
		}
	}()
	for name, content := range files {
		fresh[name] = freshName(name)
		if err := t.results.WriteFile(fresh[name], content, 0o644); err != nil {
			return err
		}
	}
	if err := t.removeLogs(); err != nil {
		return err
	}
	for name := range files {
		if err := t.results.Rename(fresh[name], name); err != nil {
			return err
		}
		delete(fresh, name)
	}
	return nil
}

// oneLine returns a name, which may have line feeds and worse in it, as a line has it.
func oneLine(name string) string { return finding.Clean(name, maxName) }

// freshName returns the name of a file that becomes another when it is whole.
func freshName(name string) string { return name + "." + rand.Text() + ".new" }

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
			line := fmt.Sprintf("%-8s %8.3fs  %s", test.end(), test.seconds, oneLine(s.results.name(id)))
			if test.flaky {
				line += fmt.Sprintf("  (flaky: attempt %d)", test.attempts)
			}
			byOutcome[test.end()] = append(byOutcome[test.end()], line)
		}
		for _, name := range s.results.broken() {
			byOutcome[state.Failed] = append(byOutcome[state.Failed], fmt.Sprintf("%-8s %8.3fs  %s", "failed", s.results.units[name].seconds, oneLine(s.results.label(name))))
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
	for _, name := range t.notRun {
		fmt.Fprintf(&b, "not run             %s\n", oneLine(name))
	}
	text := b.String() + t.summary()
	if n := len(t.notRun); n > 0 {
		text += fmt.Sprintf(", %d not run", n)
	}
	return text + "\n"
}
