package cleanroom

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

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
)

// maxFindings bounds the findings of one run; the report has every test.
const maxFindings = 50

// findings says what is wrong with the tree, gravest and first in order first.
func (t *trial) findings() []finding.Finding {
	if !t.built {
		return []finding.Finding{t.buildFinding()}
	}
	found := t.testFindings()
	if !t.vetted {
		found = append(found, t.vetFinding())
	}
	if len(found) > maxFindings {
		found = found[:maxFindings]
	}
	return found
}

func (t *trial) buildFinding() finding.Finding {
	if f, ok := limitFinding("go build", t.build); ok {
		return f
	}
	text := t.buildText.String()
	return finding.Finding{
		Rule: RuleBuild, Severity: finding.Critical,
		What:  "the tree does not build: " + firstError(text, t.build.String()),
		Where: t.place(".", text), Why: text, Fix: buildFix(text),
		Reproduce: "go build ./" + t.program.dir,
	}
}

func buildFix(text string) string {
	switch {
	case strings.Contains(text, "GOTOOLCHAIN=local"):
		return "install the Go version that go.mod asks for, or lower it there"
	case strings.Contains(text, "no required module provides") || strings.Contains(text, "missing go.sum entry"):
		return "the clean room has no network: vendor the dependencies with `go mod vendor`"
	default:
		return "fix the code, or the template that made it"
	}
}

func (t *trial) vetFinding() finding.Finding {
	if f, ok := limitFinding("go vet", t.vet); ok {
		return f
	}
	text := t.vetText.String()
	return finding.Finding{
		Rule: RuleVet, Severity: finding.High,
		What:  "go vet has remarks: " + firstError(text, t.vet.String()),
		Where: t.place(".", text), Why: text, Fix: "fix the code, or the template that made it",
		Reproduce: "go vet ./...",
	}
}

func (t *trial) testFindings() []finding.Finding {
	var found []finding.Finding
	if f, ok := limitFinding("go test", t.test); ok {
		found = append(found, f)
	}
	for _, id := range t.results.ids() {
		if r := t.results.tests[id]; r.end() == state.Failed && !t.hasFailedChild(id) && len(found) < maxFindings {
			found = append(found, t.testFinding(id, r))
		}
	}
	for _, pkg := range t.results.brokenPackages() {
		if len(found) < maxFindings {
			found = append(found, t.packageFinding(pkg))
		}
	}
	if why := t.results.incomplete(); why != "" {
		found = append(found, finding.Finding{Rule: RuleTest, Severity: finding.Critical, What: "test results are not complete", Why: why, Fix: "run fewer tests at once"})
	}
	if !t.tried && len(found) == 0 {
		text := t.testText.String()
		found = append(found, finding.Finding{
			Rule: RuleTest, Severity: finding.Critical, What: "go test failed: " + firstError(text, t.test.String()),
			Where: t.place(".", text), Why: text, Fix: "fix the code, or the template that made it", Reproduce: "go test ./...",
		})
	}
	if _, total := t.results.count(state.Passed); total == 0 && t.tried {
		found = append(found, finding.Finding{Rule: RuleTest, Severity: finding.Medium, What: "the tree has no tests", Fix: "add tests: an image without one passes no validation"})
	}
	return found
}

// hasFailedChild reports whether a subtest says better why the test failed.
func (t *trial) hasFailedChild(id testID) bool {
	for other, r := range t.results.tests {
		if other.pkg == id.pkg && strings.HasPrefix(other.name, id.name+"/") && r.end() == state.Failed {
			return true
		}
	}
	return false
}

func (t *trial) testFinding(id testID, r *testResult) finding.Finding {
	dir, text := t.results.relative(id.pkg), r.output.String()
	what := fmt.Sprintf("test %s failed", t.results.name(id))
	if r.outcome == "" {
		what = fmt.Sprintf("test %s did not end", t.results.name(id))
	}
	return finding.Finding{
		Rule: RuleTest, Severity: finding.Critical, What: what, Where: t.place(dir, text), Why: text,
		Fix:       "fix the code or the test, or the template that made it",
		Reproduce: fmt.Sprintf("go test -count=1 -shuffle=%s -run '%s' ./%s", shuffle(t.seed), pattern(id.name), dir),
	}
}

// pattern returns the -run pattern that selects exactly the test called name.
func pattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.ReplaceAll(strings.Join(parts, "/"), "'", ".") // it is quoted for a shell
}

func (t *trial) packageFinding(pkg string) finding.Finding {
	dir, text := t.results.relative(pkg), t.results.why(pkg)
	what := fmt.Sprintf("package %s failed outside of its tests", t.results.label(pkg))
	if t.results.packages[pkg].failedBuild != "" {
		what = fmt.Sprintf("the tests of package %s do not compile", t.results.label(pkg))
	}
	return finding.Finding{
		Rule: RuleTest, Severity: finding.Critical, What: what, Where: t.place(dir, text), Why: text,
		Fix: "fix the code, or the template that made it", Reproduce: "go test ./" + dir,
	}
}

// limitFinding says which limit ended a command, if one did.
func limitFinding(command string, s sandbox.ExitStatus) (finding.Finding, bool) {
	fix := ""
	switch {
	case s.OOM:
		fix = "use less memory, or raise memory_mb in [cleanroom]"
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
// of a test, "module/dir/file.go:12" of a stack trace.
var mention = regexp.MustCompile(`([\w./@+-]*[\w-]\.go):(\d{1,7})\b(?::(\d{1,6})\b)?`)

// maxMentions bounds the places that are looked at in one output.
const maxMentions = 200

// place returns the first place mentioned in the output of a command about
// directory dir that is a file of the tree. What is printed may name anything: a
// place that is not in the tree is no place.
func (t *trial) place(dir, text string) finding.Place {
	for _, m := range mention.FindAllStringSubmatch(text, maxMentions) {
		name := strings.TrimPrefix(strings.TrimPrefix(m[1], "./"), t.program.module+"/")
		for _, candidate := range []string{path.Join(dir, name), name} {
			if !fs.ValidPath(candidate) {
				continue
			}
			if info, err := t.room.treeRoot.Lstat(candidate); err != nil || !info.Mode().IsRegular() {
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
