package cleanroom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Bounds on what a test run may say. What lies beyond is counted, not kept, and
// makes the run fail: results that are not known whole prove nothing.
const (
	maxTests     = 50_000
	maxPackages  = 5_000
	maxName      = 1_024
	maxLine      = 1 << 20
	maxLineKept  = 1 << 10
	maxHeadLines = 12
	maxTailLines = 28
	maxTailBytes = 8 << 10
)

// event is one line of `go test -json` (go doc test2json; `go help buildjson`
// for the build actions).
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// results collects a stream of events. It is an [io.Writer] for the stream; it
// never fails, so that a strange line cannot stop a run.
type results struct {
	// module is the module path of the tree.
	module string
	// within is the path of the tree inside, with a slash; it is cut from output,
	// so that what is reported is relative to the tree.
	within string
	// log receives the text that `go test` would have printed; it may be nil.
	log func(text string)

	line     []byte
	tooLong  bool
	packages map[string]*packageResult
	tests    map[testID]*testResult
	builds   map[string]*tail
	// strange are lines that are no events, dropped is what exceeds the bounds.
	strange, dropped int
}

type testID struct{ pkg, name string }

type testResult struct {
	outcome state.Outcome // empty while it runs
	seconds float64
	output  tail
}

type packageResult struct {
	outcome     state.Outcome
	seconds     float64
	output      tail
	failedBuild string
}

func newResults(module string, log func(string)) *results {
	return &results{
		module: module, log: log,
		packages: map[string]*packageResult{}, tests: map[testID]*testResult{}, builds: map[string]*tail{},
	}
}

// Write takes a part of the stream.
func (r *results) Write(p []byte) (int, error) {
	n := len(p)
	for {
		part, rest, complete := bytes.Cut(p, []byte("\n"))
		if len(r.line)+len(part) > maxLine {
			r.tooLong, r.line = true, r.line[:0]
		} else if !r.tooLong {
			r.line = append(r.line, part...)
		}
		if !complete {
			return n, nil
		}
		r.endLine()
		p = rest
	}
}

// finish takes what follows the last line feed.
func (r *results) finish() {
	if len(r.line) > 0 || r.tooLong {
		r.endLine()
	}
}

func (r *results) endLine() {
	line, tooLong := r.line, r.tooLong
	r.line, r.tooLong = r.line[:0], false
	var e event
	switch {
	case tooLong:
		r.dropped++
	case len(bytes.TrimSpace(line)) == 0:
	case line[0] != '{' || json.Unmarshal(line, &e) != nil || e.Action == "":
		r.strange++
		r.say(string(line) + "\n")
	default:
		r.take(e)
	}
}

func (r *results) say(text string) {
	if r.log != nil {
		r.log(text)
	}
}

func (r *results) take(e event) {
	if r.within != "" {
		e.Output = strings.ReplaceAll(e.Output, r.within, "")
	}
	if e.Action == "output" || e.Action == "build-output" {
		r.say(e.Output)
	}
	switch {
	case len(e.Package) > maxName || len(e.Test) > maxName || len(e.ImportPath) > maxName:
		r.dropped++
	case strings.HasPrefix(e.Action, "build-"):
		r.build(e)
	case e.Package == "":
		r.strange++
	case e.Test == "":
		r.takePackage(e)
	default:
		r.takeTest(e)
	}
}

func (r *results) build(e event) {
	b, ok := r.builds[e.ImportPath]
	if !ok {
		if len(r.builds) >= maxPackages {
			r.dropped++
			return
		}
		b = &tail{}
		r.builds[e.ImportPath] = b
	}
	b.add(e.Output)
}

func (r *results) takePackage(e event) {
	p, ok := r.packages[e.Package]
	if !ok {
		if len(r.packages) >= maxPackages {
			r.dropped++
			return
		}
		p = &packageResult{}
		r.packages[e.Package] = p
	}
	p.output.add(e.Output)
	if o, ended := outcomes[e.Action]; ended {
		p.outcome, p.seconds, p.failedBuild = worse(p.outcome, o), e.Elapsed, e.FailedBuild
	}
}

func (r *results) takeTest(e event) {
	id := testID{e.Package, e.Test}
	t, ok := r.tests[id]
	if !ok {
		if len(r.tests) >= maxTests {
			r.dropped++
			return
		}
		t = &testResult{}
		r.tests[id] = t
	}
	t.output.add(e.Output)
	if o, ended := outcomes[e.Action]; ended {
		t.outcome, t.seconds = worse(t.outcome, o), e.Elapsed
		if o == state.Passed {
			t.output = tail{} // nobody asks a passed test what it printed
		}
	}
}

var outcomes = map[string]state.Outcome{"pass": state.Passed, "fail": state.Failed, "skip": state.Skipped}

// worse returns what remains when something ends twice: a failure.
func worse(a, b state.Outcome) state.Outcome {
	if a == state.Failed {
		return a
	}
	return b
}

// outcome is that of the test; a test that never ended has failed.
func (t *testResult) end() state.Outcome {
	if t.outcome == "" {
		return state.Failed
	}
	return t.outcome
}

// relative returns the directory of a package in the tree, "." for the root.
func (r *results) relative(pkg string) string {
	if pkg == r.module {
		return "."
	}
	return strings.TrimPrefix(pkg, r.module+"/")
}

// label names a package in claims: its directory; for the root package the last
// element of the module path, or the whole of it where a directory has that name.
func (r *results) label(pkg string) string {
	if pkg != r.module {
		return r.relative(pkg)
	}
	base := path.Base(r.module)
	if _, taken := r.packages[path.Join(r.module, base)]; taken {
		return r.module
	}
	return base
}

// name names a test in claims: "internal/store.TestPut/empty".
func (r *results) name(id testID) string { return r.label(id.pkg) + "." + id.name }

// ids returns the tests in the order of their names in claims.
func (r *results) ids() []testID {
	ids := make([]testID, 0, len(r.tests))
	for id := range r.tests {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b testID) int { return strings.Compare(r.name(a), r.name(b)) })
	return ids
}

// checks returns the tests as checks, sorted, each once.
func (r *results) checks() []state.Check {
	var checks []state.Check
	for _, id := range r.ids() {
		checks = append(checks, state.Check{Name: r.name(id), Outcome: r.tests[id].end()})
	}
	return checks
}

// count returns how many tests there are and how many of them have the outcome.
func (r *results) count(o state.Outcome) (n, total int) {
	for _, t := range r.tests {
		if t.end() == o {
			n++
		}
	}
	return n, len(r.tests)
}

// brokenPackages returns, sorted, the packages that failed without a failing
// test: they do not compile, or their process ended badly.
func (r *results) brokenPackages() []string {
	failing := map[string]bool{}
	for id, t := range r.tests {
		if t.end() == state.Failed {
			failing[id.pkg] = true
		}
	}
	var broken []string
	for pkg, p := range r.packages {
		if p.outcome == state.Failed && !failing[pkg] {
			broken = append(broken, pkg)
		}
	}
	slices.Sort(broken)
	return broken
}

// incomplete says what is not known about the run; empty if all is.
func (r *results) incomplete() string {
	if r.dropped == 0 {
		return ""
	}
	return fmt.Sprintf("%d events exceed the bounds of %d tests, %d packages, %d bytes in a name or %d in a line",
		r.dropped, maxTests, maxPackages, maxName, maxLine)
}

// tail keeps the first and the last lines of a text: the first say what happened,
// the last how it ended.
type tail struct {
	head, rest []string
	bytes      int // in rest
	left       int // lines left out between the two
}

func (t *tail) add(text string) {
	for line := range strings.Lines(text) {
		if len(line) > maxLineKept {
			line = line[:maxLineKept-1] + "\n"
		}
		if len(t.rest) == 0 && t.left == 0 && (len(t.head) < maxHeadLines || !ended(t.head)) {
			t.head, _ = extend(t.head, line)
			continue
		}
		var n int
		t.rest, n = extend(t.rest, line)
		for t.bytes += n; len(t.rest) > maxTailLines || t.bytes > maxTailBytes; t.left++ {
			t.bytes -= len(t.rest[0])
			t.rest = t.rest[1:]
		}
	}
}

func ended(lines []string) bool {
	return len(lines) > 0 && strings.HasSuffix(lines[len(lines)-1], "\n")
}

// extend adds line to lines, to the last one if that has not ended, and returns
// how many bytes were added.
func extend(lines []string, line string) ([]string, int) {
	if len(lines) == 0 || ended(lines) {
		return append(lines, line), len(line)
	}
	last := &lines[len(lines)-1]
	line = line[:min(len(line), maxLineKept-len(*last))]
	*last += line
	return lines, len(line)
}

// String returns the kept lines as valid UTF-8.
func (t *tail) String() string {
	text := strings.Join(t.head, "")
	if t.left > 0 {
		text += fmt.Sprintf("(%d lines left out)\n", t.left)
	}
	return strings.ToValidUTF8(text+strings.Join(t.rest, ""), "\ufffd")
}
