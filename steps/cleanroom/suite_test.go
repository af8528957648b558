package cleanroom_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/toolchain"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// newSuiteLab returns a lab in the strongest sandbox of this machine, with the host's
// toolchains of all kinds. The test is skipped where one of the kinds is missing.
func newSuiteLab(t *testing.T, kinds ...cleanroom.Kind) *lab {
	t.Helper()
	l := newLab(t)
	back := embedded.New(embedded.Options{StateDir: t.TempDir()})
	caps, err := back.Probe(t.Context())
	if err != nil {
		t.Skipf("no sandbox here: %v", err)
	}
	l.step.Backend, l.step.MinIsolation = back, caps.Level
	l.step.Toolchain = hostLanguage
	for _, kind := range kinds {
		if _, err := hostLanguage(t.Context(), kind); err != nil {
			t.Skipf("no toolchain of kind %s here: %v", kind, err)
		}
	}
	return l
}

func hostLanguage(ctx context.Context, kind cleanroom.Kind) (cleanroom.Toolchain, error) {
	if kind == cleanroom.Go {
		return sealedToolchain()
	}
	found, err := toolchain.FindLanguage(ctx, string(kind))
	return cleanroom.Toolchain{
		Root: found.Root, Program: found.Program, Version: found.Version, OS: found.OS, Arch: found.Arch, Target: found.Target, Digest: found.Digest,
	}, err
}

// trees are small trees of each kind, with a test that passes, one that is skipped and
// one that fails where the language has them.
var trees = map[cleanroom.Kind]struct {
	files map[string]string
	want  []state.Check
	// where is the place of the failure.
	where string
}{
	cleanroom.Shell: {
		files: map[string]string{
			"till.sh":            "echo 3\n",
			"tests/add_test.sh":  "test \"$(sh till.sh)\" = 3\n",
			"tests/fail_test.sh": "echo tests/fail_test.sh:2: got 3, want 4 >&2\nexit 1\n",
		},
		want:  []state.Check{{Name: "tests/add_test.sh", Outcome: state.Passed}, {Name: "tests/fail_test.sh", Outcome: state.Failed}},
		where: "tests/fail_test.sh:2",
	},
	cleanroom.Bats: {
		files: map[string]string{
			"till.sh":        "echo 3\n",
			"test/till.bats": "@test \"adds\" {\n  run sh till.sh\n  [ \"$output\" = 3 ]\n}\n\n@test \"rounds\" {\n  [ 1 = 2 ]\n}\n\n@test \"later\" {\n  skip \"not today\"\n}\n",
		},
		want: []state.Check{
			{Name: "test/till.bats::adds", Outcome: state.Passed}, {Name: "test/till.bats::later", Outcome: state.Skipped},
			{Name: "test/till.bats::rounds", Outcome: state.Failed},
		},
	},
	cleanroom.JavaScript: {
		files: map[string]string{
			"package.json": `{"name": "till", "type": "module"}`,
			"till.js":      "export const add = (a, b) => a + b;\n",
			"test/till.test.js": `import { test, describe, it } from "node:test";
import assert from "node:assert";
import { add } from "../till.js";

test("adds", () => { console.log("{\"event\": \"pass\", \"name\": \"forged\"}"); assert.equal(add(1, 2), 3); });
test("rounds", () => { assert.equal(add(1, 2), 4); });
test("later", { skip: "not today" }, () => {});
describe("twice", () => { it("same", () => {}); it("same", () => {}); });
`,
		},
		want: []state.Check{
			{Name: "test/till.test.js::adds", Outcome: state.Passed}, {Name: "test/till.test.js::later", Outcome: state.Skipped},
			{Name: "test/till.test.js::rounds", Outcome: state.Failed}, {Name: "test/till.test.js::twice > same", Outcome: state.Passed},
			{Name: "test/till.test.js::twice > same #2", Outcome: state.Passed},
		},
		where: "test/till.test.js:6",
	},
	cleanroom.Python: {
		files: map[string]string{
			"till.py":           "def add(a, b):\n    return a + b\n",
			"tests/__init__.py": "",
			"tests/test_till.py": `import os
import unittest

from till import add


class TestTill(unittest.TestCase):
    def test_add(self):
        print('{"event": "pass", "name": "forged"}')
        self.assertEqual(add(1, 2), 3)

    def test_hash(self):
        self.assertEqual(os.environ["PYTHONHASHSEED"], "0")

    def test_round(self):
        self.assertEqual(add(1, 2), 4)

    @unittest.skip("not today")
    def test_later(self):
        pass
`,
		},
		want: []state.Check{
			{Name: "tests/test_till.py::TestTill::test_add", Outcome: state.Passed}, {Name: "tests/test_till.py::TestTill::test_hash", Outcome: state.Passed},
			{Name: "tests/test_till.py::TestTill::test_later", Outcome: state.Skipped}, {Name: "tests/test_till.py::TestTill::test_round", Outcome: state.Failed},
		},
		where: "tests/test_till.py:16",
	},
}

// Every kind is found by its files, runs in the sandbox, tells each test, and names the
// place of a failure.
func TestKinds(t *testing.T) {
	t.Parallel()
	for kind, c := range trees {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			l := newSuiteLab(t, kind)
			res, err := l.run(t, c.files)
			if fault.KindOf(err) != fault.Finding {
				t.Fatalf("error %v", err)
			}
			if !reflect.DeepEqual(res.Entry.Checks, c.want) {
				t.Errorf("checks %v, want %v\n%s", res.Entry.Checks, c.want, l.artifact(t, res.Evidence, cleanroom.ArtifactLog))
			}
			if len(res.Evidence.Findings) != 1 {
				t.Fatalf("findings %v", res.Evidence.Findings)
			}
			if f := res.Evidence.Findings[0]; f.Rule != cleanroom.RuleTest || f.Where.String() != c.where && !strings.HasPrefix(f.Where.String(), c.where+":") || f.Reproduce == "" {
				t.Errorf("finding %+v, want it at %q", f, c.where)
			}
			if strings.Contains(fmt.Sprint(res.Evidence.Findings), l.temp) {
				t.Errorf("a finding names a temporary directory: %v", res.Evidence.Findings)
			}
		})
	}
}

// The same kinds without the failing test give an image of the tree, and twice the same
// claim.
func TestKindsPass(t *testing.T) {
	t.Parallel()
	for kind, c := range trees {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			files := maps.Clone(c.files)
			for name, text := range files {
				text = strings.ReplaceAll(text, "exit 1", "exit 0")
				text = strings.ReplaceAll(strings.ReplaceAll(text, "[ 1 = 2 ]", "true"), "add(1, 2), 4", "add(1, 2), 3")
				files[name] = text
			}
			var claims []string
			for range 2 {
				l := newSuiteLab(t, kind)
				res, err := l.run(t, files)
				if err != nil {
					t.Fatal(err)
				}
				res.Entry.Normalize()
				b, err := res.Entry.Claim()
				if err != nil {
					t.Fatal(err)
				}
				claims = append(claims, string(b))
			}
			if claims[0] != claims[1] || !strings.Contains(claims[0], `"image":"sha256:`) {
				t.Errorf("claims\n%s\n%s", claims[0], claims[1])
			}
		})
	}
}

// shellLab returns a lab for suites of sh, the cheapest kind, with these files.
func shellLab(t *testing.T) *lab {
	t.Helper()
	l := newSuiteLab(t, cleanroom.Shell)
	l.step.Tests.ResultsDir = filepath.Join(t.TempDir(), "results")
	return l
}

func (l *lab) results(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.step.Tests.ResultsDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A directory of results may hold what is not of a test run: that stays, and what an
// earlier run left goes. One that cannot be written is found out before the tests.
func TestResultsDirOfOthers(t *testing.T) {
	t.Parallel()
	l := shellLab(t)
	dir := l.step.Tests.ResultsDir
	if err := os.MkdirAll(filepath.Join(dir, cleanroom.DirLogs), 0o755); err != nil {
		t.Fatal(err)
	}
	theirs := []string{".gitignore", "report.html", "logs/app.log"}
	for _, name := range theirs {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("theirs"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []string{"one_test.sh", "two_test.sh"} {
		if _, err := l.run(t, map[string]string{test: "exit 0\n"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range theirs {
		if got := l.results(t, name); got != "theirs" {
			t.Errorf("%s: %q", name, got)
		}
	}
	var names []string
	for _, e := range append(filesBelow(t, dir), filesBelow(t, filepath.Join(dir, cleanroom.DirLogs))...) {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	if want := []string{".gitignore", "app.log", "durations.json", "junit.xml", "logs", "report.html", "results.json", "results.txt", "sh-two_test.sh-1.log"}; !slices.Equal(names, want) {
		t.Errorf("got %q", names)
	}

	l.step.Tests.ResultsDir = filepath.Join(dir, "report.html", "below")
	start := time.Now()
	_, err := l.run(t, map[string]string{"slow_test.sh": "sleep 1000\n"})
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "--results-dir") || time.Since(start) > 30*time.Second {
		t.Errorf("a directory that cannot be: %v, after %s", err, time.Since(start))
	}
}

// A test that hangs, with a child that ignores signals, ends at its deadline; the
// others' results are kept.
func TestDeadlineKillsTheTree(t *testing.T) {
	t.Parallel()
	l := shellLab(t)
	l.step.Tests.Timeout = 300 * time.Millisecond
	res, err := l.run(t, map[string]string{
		"a_test.sh": "exit 0\n",
		"b_test.sh": "sh -c 'trap \"\" TERM HUP INT; sleep 1000' &\nwait\n",
	})
	want := []state.Check{{Name: "a_test.sh", Outcome: state.Passed}, {Name: "b_test.sh", Outcome: state.Failed}}
	if fault.KindOf(err) != fault.Finding || !reflect.DeepEqual(res.Entry.Checks, want) || !strings.Contains(err.Error(), "ran longer than its limit") {
		t.Errorf("%v with %v", err, res.Entry.Checks)
	}
}

// What fails once and passes then is flaky: recorded, shown, and no failure.
func TestRetries(t *testing.T) {
	t.Parallel()
	l := shellLab(t)
	l.step.Tests.Retries = 1
	// The tree is read-only: the log of the first attempt tells the second.
	started := 0
	direct := newLab(t)
	direct.step.Toolchain, direct.step.Tests = hostLanguage, l.step.Tests
	direct.back.Started = func(spec sandbox.ContainerSpec) {
		if started++; started == 2 {
			if err := os.WriteFile(filepath.Join(direct.temp, "again"), nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	res, err := direct.step.Run(t.Context(), direct.state(t, map[string]string{"a_test.sh": "test -e " + direct.temp + "/again\n"}), direct.blobs)
	if err != nil {
		t.Fatal(err)
	}
	if want := []state.Check{{Name: "a_test.sh", Outcome: state.Passed}}; !reflect.DeepEqual(res.Entry.Checks, want) {
		t.Errorf("checks %v", res.Entry.Checks)
	}
	f := res.Evidence.Findings
	if len(f) != 1 || f[0].Rule != cleanroom.RuleFlaky || f[0].Severity.Gates() || !strings.Contains(res.Evidence.Summary, "1 flaky") {
		t.Errorf("findings %v, summary %q", f, res.Evidence.Summary)
	}
	if !strings.Contains(direct.results(t, cleanroom.FileResults), `"flaky": true`) {
		t.Error("the results hide it")
	}
	// One that fails each time has failed.
	res, err = l.run(t, map[string]string{"a_test.sh": "exit 1\n"})
	if fault.KindOf(err) != fault.Finding || res.Entry.Checks[0].Outcome != state.Failed || !strings.Contains(l.results(t, cleanroom.FileResults), `"attempts": 2`) {
		t.Errorf("%v with %v", err, res.Entry.Checks)
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	files := map[string]string{"a_test.sh": "exit 1\n", "b_test.sh": "exit 0\n"}
	today := time.Date(2026, 3, 31, 23, 59, 0, 0, time.UTC)
	q := cleanroom.Quarantined{Test: "a_test.sh", Owner: "till team", Reason: "rounds wrongly", Until: time.Date(2026, 3, 31, 0, 0, 0, 0, time.UTC)}
	for name, c := range map[string]struct {
		now     time.Time
		outcome state.Outcome
	}{"last day": {today, state.Waived}, "day after": {today.Add(time.Minute), state.Failed}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := shellLab(t)
			l.step.Tests.Quarantine, l.step.Now = []cleanroom.Quarantined{q}, func() time.Time { return c.now }
			res, err := l.run(t, files)
			if got := res.Entry.Checks[0]; got.Outcome != c.outcome || (err == nil) != (c.outcome == state.Waived) {
				t.Errorf("%v, %v", got, err)
			}
			listed := slices.ContainsFunc(res.Evidence.Findings, func(f finding.Finding) bool {
				return f.Rule == cleanroom.RuleQuarantine && !f.Severity.Gates() && f.Why == q.Reason && strings.Contains(f.Fix, q.Owner)
			})
			if !listed || !strings.Contains(l.results(t, cleanroom.FileResults), `"owner": "till team"`) {
				t.Errorf("the quarantine is not listed: %v", res.Evidence.Findings)
			}
		})
	}
}

func TestFailFast(t *testing.T) {
	t.Parallel()
	l := shellLab(t)
	l.step.Tests.FailFast, l.step.Tests.Parallel = true, 20
	files := map[string]string{"a_test.sh": "exit 1\n"}
	for i := range 15 {
		files[fmt.Sprintf("slow%02d_test.sh", i)] = "sleep 1000\n"
	}
	res, err := l.run(t, files)
	if fault.KindOf(err) != fault.Finding || len(res.Entry.Checks) != 1 {
		t.Errorf("%v with %v", err, res.Entry.Checks)
	}
	if text := l.results(t, cleanroom.FileText); !strings.Contains(text, "not run             slow00_test.sh\n") || !strings.HasSuffix(text, "1 of 1 tests failed, 15 not run\n") {
		t.Errorf("results: %s", text)
	}
	if xml := l.results(t, cleanroom.FileJUnit); strings.Count(xml, "<skipped ") != 15 {
		t.Errorf("JUnit: %s", xml)
	}
}

// Some tests make no image, and the claim says which ones ran.
func TestSelection(t *testing.T) {
	t.Parallel()
	l := shellLab(t)
	l.step.Tests.Files = []string{"unit/**/*_test.sh"}
	res, err := l.run(t, map[string]string{"unit/x/a_test.sh": "exit 0\n", "b_test.sh": "exit 1\n"})
	if err != nil || len(res.Entry.Checks) != 1 || res.Entry.Cleanroom.Image != "" || len(res.Entry.Artifacts) > 0 || !slices.Equal(res.Entry.Cleanroom.Selected, l.step.Tests.Files) {
		t.Errorf("%v, %+v", err, res.Entry)
	}
	l.step.Tests.Files = []string{"nothing"}
	if _, err := l.run(t, map[string]string{"b_test.sh": "exit 1\n"}); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "no test of the tree matches") {
		t.Errorf("got %v", err)
	}
}

// Suites are configured with a command, a directory and an environment of their own.
func TestConfiguredSuites(t *testing.T) {
	t.Parallel()
	l := shellLab(t)
	l.step.Suites = []cleanroom.Suite{
		{Command: []string{"sh", "-c", `test "$GREETING" = hello && test -f only-here`}, Dir: "sub", Env: map[string]string{"GREETING": "hello"}},
		{Runner: cleanroom.Shell, Files: []string{"checks/*.sh"}},
		{Command: []string{"sh", "-eu", "{file}", "last"}, Files: []string{"args/*"}},
	}
	res, err := l.run(t, map[string]string{"sub/only-here": "", "checks/one.sh": "true\n", "args/x": "test \"$1\" = last\n", "ignored_test.sh": "exit 1\n"})
	want := []state.Check{{Name: `sh -c test "$GREETING" = hello && test -f only-here`, Outcome: state.Passed}, {Name: "checks/one.sh", Outcome: state.Passed}, {Name: "args/x", Outcome: state.Passed}}
	if err != nil || !reflect.DeepEqual(res.Entry.Checks, want) {
		t.Errorf("%v with %v", err, res.Entry.Checks)
	}
	if log := l.results(t, "logs/sh-2-checks-one.sh-2.log"); !strings.Contains(log, "$ sh checks/one.sh") {
		t.Errorf("log %q", log)
	}
}

// A missing toolchain says what to install, or to set an image.
func TestMissingToolchain(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := toolchain.FindLanguage(t.Context(), "bats")
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "install Bats") || !strings.Contains(fault.HintOf(err), "set image") {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
}

// Many small test files are cheap: one environment, a container for each. What a file
// adds is the time over that of the same files without a sandbox, run as many at a time.
func TestManyFiles(t *testing.T) {
	const count, parallel = 200, 8
	l := shellLab(t)
	l.step.Tests.Parallel = parallel
	files := map[string]string{}
	for i := range count {
		files[fmt.Sprintf("t/%03d_test.sh", i)] = "test 1 = 1\n"
	}
	res, err := l.run(t, files)
	if err != nil || len(res.Entry.Checks) != count || len(res.Evidence.Findings) > 0 {
		t.Fatalf("%v, %d checks, %v", err, len(res.Entry.Checks), res.Evidence.Findings)
	}
	if n := len(filesBelow(t, filepath.Join(l.step.Tests.ResultsDir, cleanroom.DirLogs))); n != count {
		t.Errorf("%d logs", n)
	}
	if os.Getenv("ULTRAFAST_LONG") == "" {
		return
	}
	best := map[string]time.Duration{}
	for range 5 {
		for name, lab := range map[string]*lab{"sandbox": l, "direct": directLab(t, parallel)} {
			in := lab.state(t, files)
			started := time.Now()
			if _, err := lab.step.Run(t.Context(), in, lab.blobs); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(started); best[name] == 0 || took < best[name] {
				best[name] = took
			}
		}
	}
	added := (best["sandbox"] - best["direct"]) / count
	t.Logf("%d files, %d at a time: %s in the sandbox, %s without, %s added for each", count, parallel, best["sandbox"], best["direct"], added)
	if added > 10*time.Millisecond {
		t.Errorf("a file adds %s", added)
	}
}

// directLab returns a lab without a sandbox.
func directLab(t *testing.T, parallel int) *lab {
	t.Helper()
	l := newLab(t)
	l.step.Toolchain, l.step.Tests.Parallel = hostLanguage, parallel
	return l
}

func filesBelow(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// TypeScript runs where Node.js knows it; an older one needs the package tsx, and its
// absence is told, not hidden.
func TestTypeScript(t *testing.T) {
	t.Parallel()
	l := newSuiteLab(t, cleanroom.TypeScript)
	res, err := l.run(t, map[string]string{
		"package.json":      `{"type": "module"}`,
		"test/till.test.ts": "import { test } from \"node:test\";\nimport assert from \"node:assert\";\n\nconst sum: number = 1 + 2;\ntest(\"adds\", () => assert.equal(sum, 3));\n",
	})
	tool, toolErr := hostLanguage(t.Context(), cleanroom.TypeScript)
	if toolErr != nil {
		t.Fatal(toolErr)
	}
	var major, minor int
	if _, err := fmt.Sscanf(tool.Version, "node v%d.%d.", &major, &minor); err != nil {
		t.Fatal(err)
	}
	if major > 22 || major == 22 && minor >= 6 {
		if err != nil || !reflect.DeepEqual(res.Entry.Checks, []state.Check{{Name: "test/till.test.ts::adds", Outcome: state.Passed}}) {
			t.Errorf("%v with %v", err, res.Entry.Checks)
		}
		return
	}
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "tsx") || !strings.Contains(fault.HintOf(err), "set image") {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
}
