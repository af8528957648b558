package cleanroom

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Rules of the findings of this phase.
const (
	RuleBuild = "build"
	RuleTest  = "test"
	RuleVet   = "vet"
	RuleLimit = "limit"
	// RuleFlaky is a test that passed after it had failed, RuleQuarantine one that may
	// fail. Neither gates.
	RuleFlaky      = "flaky"
	RuleQuarantine = "quarantine"
	// RuleEgress is a host that was asked for and is not in the allow-list.
	RuleEgress = "egress"
	// RuleSource is what was left out of a source directory.
	RuleSource = "source"
	// RuleLeft is a test that left a process running. It does not gate.
	RuleLeft = "left"
	// RuleService is a service that ended while tests ran. It does not gate either.
	RuleService = "service"
)

// maxFindings bounds the findings of one run; the report has every test.
const maxFindings = 50

// findings says what is wrong with the tree, gravest and first in order first.
func (t *trial) findings() []finding.Finding {
	for _, s := range t.suites {
		if !s.build.ok {
			return []finding.Finding{t.buildFinding(s)}
		}
	}
	var found []finding.Finding
	for _, s := range t.suites {
		found = append(found, t.testFindings(s)...)
	}
	if _, total := t.count(state.Passed); total == 0 && t.step.Shard == nil && len(found) == 0 {
		found = append(found, finding.Finding{Rule: RuleTest, Severity: finding.Medium, What: "the tree has no tests", Fix: "add tests: an image without one passes no validation"})
	}
	for _, s := range t.suites {
		if s.vet.ran && !s.vet.ok {
			found = append(found, t.vetFinding(s))
		}
	}
	if len(found) > maxFindings {
		found = found[:maxFindings]
	}
	return append(found, t.notes()...)
}

// notes are what does not gate: tests that passed at the second attempt, and what the
// quarantine lets fail.
func (t *trial) notes() []finding.Finding {
	var found []finding.Finding
	for _, s := range t.suites {
		for _, id := range s.results.ids() {
			if r := s.results.tests[id]; r.flaky && len(found) < maxFindings {
				found = append(found, finding.Finding{
					Rule: RuleFlaky, Severity: finding.Medium, What: fmt.Sprintf("test %s is flaky: it passed at attempt %d", s.results.name(id), r.attempts),
					Why: r.output.String(), Fix: "find what it depends on besides the code", Reproduce: s.runner.reproduce(t, s, id),
				})
			}
		}
	}
	return slices.Concat(found, t.leftFindings(), t.serviceFindings(), t.quarantineFindings(), t.refusalFindings(), t.leftOutFindings())
}

func (t *trial) buildFinding(s *suite) finding.Finding {
	if f, ok := limitFinding(s.build.command, s.build.status); ok {
		return f
	}
	text := s.build.text.String()
	return finding.Finding{
		Rule: RuleBuild, Severity: finding.Critical,
		What:  "the tree does not build: " + firstError(text, s.build.status.String()),
		Where: t.place(s, ".", text), Why: text, Fix: t.buildFix(text),
		Reproduce: strings.TrimSpace(s.build.command + " " + t.program.directory()),
	}
}

// directory returns the directory of the program as the go command takes it.
func (p program) directory() string {
	if p.dir == "" {
		return ""
	}
	return "./" + p.dir
}

func (t *trial) buildFix(text string) string {
	switch {
	case strings.Contains(text, "GOTOOLCHAIN=local"):
		return "install the Go version that go.mod asks for, or lower it there"
	case strings.Contains(text, "no required module provides") || strings.Contains(text, "missing go.sum entry"):
		return "the clean room has no network: lock the dependency with `go mod tidy`, or vendor it with `go mod vendor`"
	default:
		return t.fix("fix the code")
	}
}

func (t *trial) vetFinding(s *suite) finding.Finding {
	if f, ok := limitFinding(s.vet.command, s.vet.status); ok {
		return f
	}
	text := s.vet.text.String()
	return finding.Finding{
		Rule: RuleVet, Severity: finding.High,
		What:  s.vet.command + " has remarks: " + firstError(text, s.vet.status.String()),
		Where: t.place(s, ".", text), Why: text, Fix: t.fix("fix the code"),
		Reproduce: s.vet.command + " ./...",
	}
}

// leftFindings names the tests that passed and left a process running, which was ended.
func (t *trial) leftFindings() (found []finding.Finding) {
	for _, s := range t.suites {
		for _, unit := range slices.Sorted(maps.Keys(s.results.units)) {
			u := s.results.units[unit]
			if u.status == nil || !u.status.Left || !u.status.OK() || len(found) == maxFindings {
				continue
			}
			found = append(found, finding.Finding{
				Rule: RuleLeft, Severity: finding.Medium, What: s.results.label(unit) + " left a process running, which was ended",
				Fix: "end what it starts and wait for that: trap 'kill $pid' EXIT", Reproduce: s.runner.reproduce(t, s, testID{unit: unit}),
			})
		}
	}
	return found
}

func (t *trial) testFindings(s *suite) []finding.Finding {
	var found []finding.Finding
	if f, ok := limitFinding(s.test.command, s.test.status); ok {
		found = append(found, f)
	}
	for _, id := range s.results.ids() {
		if r := s.results.tests[id]; r.end() == state.Failed && !s.results.hasFailedChild(id) && len(found) < maxFindings {
			found = append(found, t.testFinding(s, id, r))
		}
	}
	for _, unit := range s.results.broken() {
		if len(found) < maxFindings {
			found = append(found, t.unitFinding(s, unit))
		}
	}
	if why := s.results.incomplete(); why != "" {
		found = append(found, finding.Finding{Rule: RuleTest, Severity: finding.Critical, What: "test results are not complete", Why: why, Fix: "run fewer tests at once"})
	}
	if !s.test.ok && len(found) == 0 {
		text := s.test.text.String()
		found = append(found, finding.Finding{
			Rule: RuleTest, Severity: finding.Critical, What: s.test.command + " failed: " + firstError(text, s.test.status.String()),
			Where: t.place(s, ".", text), Why: text, Fix: t.fix("fix the code"), Reproduce: s.test.command + " ./...",
		})
	}
	return found
}

// hasFailedChild reports whether a subtest says better why the test failed.
func (r *results) hasFailedChild(id testID) bool {
	for other, t := range r.tests {
		if other.unit == id.unit && strings.HasPrefix(other.name, id.name+"/") && t.end() == state.Failed {
			return true
		}
	}
	return false
}

func (t *trial) testFinding(s *suite, id testID, r *testResult) finding.Finding {
	text := s.results.whereLog(id.unit, r.output.String(), t.step.Tests)
	f := finding.Finding{
		Rule: RuleTest, Severity: finding.Critical, What: fmt.Sprintf("test %s failed", s.results.name(id)),
		Where: t.place(s, s.directory(id.unit), text), Why: text, Fix: t.fix("fix the code or the test"), Reproduce: s.runner.reproduce(t, s, id),
	}
	if u := s.results.units[id.unit]; u != nil && u.status != nil && id.name == "" && !u.status.OK() {
		f.What += ": " + u.status.String()
		if limit, ok := limitFinding("", *u.status); ok {
			f.Fix = unitLimitFix(*u.status, limit.Fix)
		}
	}
	if r.outcome == "" {
		f.What = fmt.Sprintf("test %s did not end", s.results.name(id))
	}
	return f
}

// whereLog adds to an output that is long where all of it is, if a file has it.
func (r *results) whereLog(unit, text string, tests Tests) string {
	const long = 12 // lines
	u := r.units[unit]
	if u == nil || u.log == "" || tests.ResultsDir == "" || tests.NoLogs || strings.Count(text, "\n") <= long {
		return text
	}
	return strings.TrimRight(text, "\n") + "\nthe whole log: " + path.Join(filepath.Base(tests.ResultsDir), u.log) + "\n"
}

// fix completes advice to mend the tree: what a template made is mended there.
func (t *trial) fix(advice string) string {
	if t.step.Source != nil {
		return advice
	}
	return advice + ", or the template that made it"
}

// unitLimitFix is what to do about a limit that ended the process of one unit, which
// has a time of its own.
func unitLimitFix(status exitStatus, otherwise string) string {
	if status.TimedOut {
		return "make it faster, or raise its time: --test-timeout, or test_timeout_seconds in [testing]"
	}
	return otherwise
}

// directory returns the directory of a unit, which paths in its output may be relative to.
func (s *suite) directory(unit string) string {
	if s.runner.whole() {
		return path.Join(s.dir(), s.results.relative(unit))
	}
	return s.dir()
}

func (t *trial) unitFinding(s *suite, unit string) finding.Finding {
	u, text := s.results.units[unit], s.results.why(unit)
	if u.cut() {
		text = s.results.excuses(unit) + text
	}
	f := finding.Finding{
		Rule: RuleTest, Severity: finding.Critical, Where: t.place(s, s.directory(unit), text), Why: text,
		Fix: t.fix("fix the code"), Reproduce: s.runner.reproduce(t, s, testID{unit: unit}),
	}
	switch label := s.results.label(unit); {
	case u.failedBuild != "":
		f.What = fmt.Sprintf("the tests of package %s do not compile", label)
	case u.status == nil && u.cut() && s.results.excuses(unit) != "":
		f.What = fmt.Sprintf("package %s ended before all of its tests had run", label)
		f.Fix = "skip the test that ends it: neither a retry nor the quarantine says what the others do"
	case u.status == nil:
		f.What = fmt.Sprintf("package %s failed outside of its tests", label)
	case u.status.OK():
		f.What, f.Fix = fmt.Sprintf("%s has no test", label), "add one, or leave the file out: [[cleanroom.suite]] files"
	default:
		f.What = fmt.Sprintf("%s failed outside of its tests: %s", label, u.status)
		if limit, ok := limitFinding(label, *u.status); ok {
			f.Rule, f.Fix = limit.Rule, unitLimitFix(*u.status, limit.Fix)
		}
	}
	if f.Where == (finding.Place{}) && t.isFile(unit) {
		f.Where = finding.Place{File: unit}
	}
	return f
}

func (t *trial) isFile(name string) bool {
	if !fs.ValidPath(name) {
		return false
	}
	info, err := t.room.treeRoot.Lstat(name)
	return err == nil && info.Mode().IsRegular()
}

// limitFinding says which limit ended a command, if one did.
func limitFinding(command string, s sandbox.ExitStatus) (finding.Finding, bool) {
	fix := ""
	switch {
	case s.OOM:
		fix = "use less memory, of which temporary files are a part, or raise memory_mb in [cleanroom]"
	case s.TimedOut:
		fix = "make it faster, or raise timeout_seconds in [cleanroom]"
	case s.OutputLimit:
		fix = "print less"
	case s.Signal != "":
		fix = "run it again; if it ends the same way, look for what sends the signal"
	default:
		return finding.Finding{}, false
	}
	return finding.Finding{Rule: RuleLimit, Severity: finding.Critical, What: command + " was " + s.String(), Fix: fix}, true
}

// mention finds a place in output: "file.go:12:3" of the compiler, "file_test.go:12"
// of a test, "module/dir/file.go:12" of a stack trace, and as Python has it.
var mention = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`([\w./@+-]*[\w-]\.(?:go|rs|[cm]?[jt]s|py|bats|sh))(?::|", line )(\d{1,7})\b(?::(\d{1,6})\b)?`)
})

// maxMentions bounds the places that are looked at in one output.
const maxMentions = 200

// place returns the first place mentioned in the output of a command about
// directory dir that is a file of the tree. What is printed may name anything: a
// place that is not in the tree is no place.
func (t *trial) place(s *suite, dir, text string) finding.Place {
	for _, m := range mention().FindAllStringSubmatch(text, maxMentions) {
		name := strings.TrimPrefix(strings.TrimPrefix(m[1], "./"), s.results.module+"/")
		for _, candidate := range []string{path.Join(dir, name), name} {
			if !t.isFile(candidate) {
				continue
			}
			line, _ := strconv.Atoi(m[2])   // digits, by the expression
			column, _ := strconv.Atoi(m[3]) // or empty: then zero, unknown
			return finding.Place{File: candidate, Line: line, Column: column}
		}
	}
	return finding.Place{}
}

// firstError returns the first line of output that says something.
func firstError(text, instead string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return line
		}
	}
	return instead
}
