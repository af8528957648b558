package cleanroom

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Bounds on what a test run may say. What lies beyond is counted, not kept, and
// makes the run fail: results that are not known whole prove nothing.
const (
	maxTests     = 50_000
	maxUnits     = 20_000
	maxName      = 1_024
	maxLine      = 1 << 20
	maxLineKept  = 1 << 10
	maxHeadLines = 12
	maxTailLines = 28
	maxTailBytes = 8 << 10
)

// results are what the tests of a suite said. Several readers may fill it at a time.
type results struct {
	mu   sync.Mutex
	kind Kind
	// module is the module path of a Go tree.
	module string
	// log receives what the processes print; it may be nil.
	log func(text string)

	// units are what is tested apart: packages, files, executables.
	units map[string]*unitResult
	tests map[testID]*testResult
	// builds are the output of builds that packages needed, by import path.
	builds map[string]*tail
	// strange are lines that say nothing of a test where all should, dropped is what
	// exceeds the bounds.
	strange, dropped int
}

// testID names a test within its unit. Where a unit is one test, name is empty.
type testID struct{ unit, name string }

func compareIDs(a, b testID) int {
	return cmp.Or(strings.Compare(a.unit, b.unit), strings.Compare(a.name, b.name))
}

type testResult struct {
	outcome state.Outcome // empty while it runs
	seconds float64
	output  tail
	// attempts is how often it ran, flaky that it did not end the same each time.
	attempts int
	flaky    bool
	// waived is the entry of the quarantine that lets it fail; nil for none.
	waived *Quarantined
}

type unitResult struct {
	outcome     state.Outcome
	seconds     float64
	output      tail
	failedBuild string
	flaky       bool
	// whole is set when a process that tests several units has said that it came to the
	// end of this one; see [unitResult.cut].
	whole bool
	// alone is set when the unit failed again where no test of it did: whatever its
	// tests say, something else is wrong.
	alone bool
	// status is that of the unit's own process, if it had one; log names its log.
	status *exitStatus
	log    string
}

// cut reports that the process of a unit ended before all of its tests had run, or may
// have: that one test failed does not say what the others would have done.
func (u *unitResult) cut() bool {
	switch {
	case u.outcome != state.Failed || u.failedBuild != "":
		return false
	case u.status != nil:
		return u.status.Signal != "" || u.status.OOM || u.status.TimedOut || u.status.OutputLimit
	default:
		return !u.whole
	}
}

func newResults(kind Kind, module string, log func(string)) *results {
	return &results{
		kind: kind, module: module, log: log,
		units: map[string]*unitResult{}, tests: map[testID]*testResult{}, builds: map[string]*tail{},
	}
}

func (r *results) say(text string) {
	if r.log != nil {
		r.log(text)
	}
}

// unit returns the unit called name, or nil if there are too many.
func (r *results) unit(name string) *unitResult {
	u, ok := r.units[name]
	if !ok {
		if len(r.units) >= maxUnits || len(name) > maxName {
			r.dropped++
			return nil
		}
		u = &unitResult{}
		r.units[name] = u
	}
	return u
}

// test returns the test, or nil if there are too many.
func (r *results) test(id testID) *testResult {
	t, ok := r.tests[id]
	if !ok {
		if len(r.tests) >= maxTests || len(id.unit) > maxName || len(id.name) > maxName {
			r.dropped++
			return nil
		}
		t = &testResult{attempts: 1}
		r.tests[id] = t
	}
	return t
}

// endTest notes how a test ended, with what it said.
func (r *results) endTest(id testID, o state.Outcome, seconds float64, output string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.test(id)
	if t == nil {
		return
	}
	t.outcome, t.seconds = worse(t.outcome, o), seconds
	t.output.add(output)
	if o == state.Passed {
		t.output = tail{} // nobody asks a passed test what it printed
	}
}

// fresh returns a name for a test of a unit that no other one of it has: names need
// not be unique in every language, those of claims are.
func (r *results) fresh(unit, name string) testID {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := testID{unit, strings.ToValidUTF8(name, "\ufffd")}
	for n := 2; ; n++ {
		if _, taken := r.tests[id]; !taken {
			return id
		}
		id.name = fmt.Sprintf("%s #%d", name, n)
	}
}

// cutShort makes a failed test of those that a unit never came to, although its process
// may have ended well: a test can end it.
func (r *results) cutShort(unit string, status exitStatus) {
	r.endTest(r.fresh(unit, "every test"), state.Failed, 0, "the process ended before all of its tests had run: "+status.String()+"\n")
}

// endUnit notes how a unit ended, with what its process said.
func (r *results) endUnit(name string, status exitStatus, output *tail, log string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.unit(name)
	if u == nil {
		return
	}
	u.seconds, u.status, u.output, u.log = status.Wall.Seconds(), &status, *output, log
	u.outcome = state.Passed
	if !status.OK() || !slices.ContainsFunc(r.names(), func(id testID) bool { return id.unit == name }) {
		u.outcome = state.Failed
	}
}

// absorb takes the results of a second run of what failed: what passes now is flaky,
// what fails again has failed.
func (r *results) absorb(again *results) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, t := range again.tests {
		old, ok := r.tests[id]
		switch {
		case !ok && len(r.tests) < maxTests: // the first run did not come so far
			r.tests[id] = t
		case ok && old.end() == state.Failed && t.end() != state.Failed:
			old.outcome, old.flaky, old.seconds = t.end(), true, t.seconds
			old.attempts++
		case ok:
			old.attempts++
		}
	}
	bad := map[string]bool{}
	for _, id := range again.failed() {
		bad[id.unit] = true
	}
	for name, u := range again.units {
		old, ok := r.units[name]
		if !ok || old.outcome != state.Failed {
			continue
		}
		if u.outcome == state.Passed {
			old.outcome, old.flaky = state.Passed, true
			continue
		}
		old.alone = u.outcome == state.Failed && !bad[name]
		// Its time goes with its status: they are of one process.
		old.whole, old.seconds, old.status, old.output = u.whole, u.seconds, u.status, u.output
	}
	r.dropped += again.dropped
}

var outcomes = map[string]state.Outcome{"pass": state.Passed, "fail": state.Failed, "skip": state.Skipped}

// worse returns what remains when something ends twice: a failure.
func worse(a, b state.Outcome) state.Outcome {
	if a == state.Failed {
		return a
	}
	return b
}

// end is how the test ended; one that never did has failed, and a failure that the
// quarantine covers is waived.
func (t *testResult) end() state.Outcome {
	switch {
	case t.outcome != "" && t.outcome != state.Failed:
		return t.outcome
	case t.waived != nil:
		return state.Waived
	default:
		return state.Failed
	}
}

// relative returns the directory of a package in the tree, "." for the root.
func (r *results) relative(pkg string) string {
	if pkg == r.module {
		return "."
	}
	return strings.TrimPrefix(pkg, r.module+"/")
}

// label names a unit in claims. That is the unit's own name, but for Go its
// directory; for the root package the last element of the module path, or the whole
// of it where a directory has that name.
func (r *results) label(unit string) string {
	if r.kind != Go {
		return unit
	}
	if unit != r.module {
		return r.relative(unit)
	}
	base := path.Base(r.module)
	if _, taken := r.units[path.Join(r.module, base)]; taken {
		return r.module
	}
	return base
}

// name names a test in claims: "internal/store.TestPut/empty",
// "tests/test_store.py::TestPut::test_empty".
func (r *results) name(id testID) string {
	switch {
	case id.name == "":
		return r.label(id.unit)
	case r.kind == Go:
		return r.label(id.unit) + "." + id.name
	default:
		return id.unit + "::" + id.name
	}
}

func (r *results) names() []testID {
	ids := make([]testID, 0, len(r.tests))
	for id := range r.tests {
		ids = append(ids, id)
	}
	return ids
}

// ids returns the tests in the order of their names in claims.
func (r *results) ids() []testID {
	ids := r.names()
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

// failed returns the tests that failed, sorted.
func (r *results) failed() []testID {
	var failed []testID
	for id, t := range r.tests {
		if t.end() == state.Failed {
			failed = append(failed, id)
		}
	}
	slices.SortFunc(failed, compareIDs)
	return failed
}

// broken returns, sorted, the units that failed without a failing test: they do not
// compile, or their process ended badly. A test that is flaky or in quarantine answers
// for its unit only where the tests after it have run.
func (r *results) broken() []string {
	failed, excused := map[string]bool{}, map[string]bool{}
	for id, t := range r.tests {
		switch end := t.end(); {
		case end == state.Failed:
			failed[id.unit] = true
		case end != state.Waived && !t.flaky:
		case id.name == "": // the test is the whole unit
			failed[id.unit] = true
		default:
			excused[id.unit] = true
		}
	}
	var broken []string
	for name, u := range r.units {
		if u.outcome == state.Failed && !failed[name] && (u.alone || u.cut() || !excused[name]) {
			broken = append(broken, name)
		}
	}
	slices.Sort(broken)
	return broken
}

// excuses returns what the tests of a unit printed that failed and do not gate.
func (r *results) excuses(unit string) (text string) {
	for _, id := range r.ids() {
		if t := r.tests[id]; id.unit == unit && (t.flaky || t.end() == state.Waived) {
			text += t.output.String()
		}
	}
	return text
}

// incomplete says what is not known about the run; empty if all is.
func (r *results) incomplete() string {
	if r.dropped == 0 {
		return ""
	}
	return fmt.Sprintf("%d events exceed the bounds of %d tests, %d units, %d bytes in a name or %d in a line",
		r.dropped, maxTests, maxUnits, maxName, maxLine)
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
