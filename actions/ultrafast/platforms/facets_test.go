package platforms

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fork is the event of a pull request from a fork: it gets no secrets.
const fork = `{
  "pull_request": {"number": 1, "head": {"ref": "change", "repo": {"full_name": "somebody/orders"}}, "base": {"ref": "main", "repo": {"full_name": "example/orders"}}},
  "repository": {"full_name": "example/orders", "default_branch": "main"}
}`

// TestActFork runs the reusable workflow for a pull request from a fork, without
// secrets: it is judged, and neither signed nor deployed.
func TestActFork(t *testing.T) {
	on(t, actHost)
	if !full() {
		t.Skip("not in the short form")
	}
	a := released(t, (*act).store)
	a.env = nil
	a.args = slices.DeleteFunc(a.args, func(arg string) bool { return arg == "-s" || arg == "SIGNING_KEY" || arg == "TRUST_ROOT" })
	event := filepath.Join(t.TempDir(), "event.json")
	write(t, event, fork)
	log := a.must(t, "pull_request", "--eventpath", event)
	if regexp.MustCompile(`pipeline/(sign|deploy) .*Main`).MatchString(log) {
		t.Errorf("a step of sign or deploy was run\n%s", log)
	}
	state := strings.TrimSpace(read(t, a.report()))
	compareClaims(t, state)
	out, all, err := command{dir: scratch, env: local, args: []string{
		filepath.Join(binaries(t), "validate"), "verify", "--state", state, "--trust-root", signingKeys(t).trust,
	}}.output(t.Context())
	if err == nil {
		t.Errorf("an unsigned verdict is trusted: %s%s", out, all)
	}
	a.nothingLeft(t)
}

// TestActOneJob runs all phases in one job, by the composite action of the root.
func TestActOneJob(t *testing.T) {
	on(t, actHost)
	if !full() {
		t.Skip("not in the short form")
	}
	a := newAct(t)
	a.workflow(t, "one-job")
	a.replaced["ultrafast-ci/ultrafast@main"] = releaseTree(t)
	a.args = []string{"--var", "REPORT=" + a.report(), "--var", "STORE=" + a.store()}
	a.must(t, "push")
	compareClaims(t, read(t, a.report()))
	a.nothingLeft(t)
}

// people are how many warnings the phase gives: more than a runner shows.
const people = 13

// TestActFacets reads what a container action shows beside its result.
func TestActFacets(t *testing.T) {
	on(t, actHost)
	if !full() {
		t.Skip("not in the short form")
	}
	a := newAct(t)
	a.workflow(t, "facets")
	if err := os.CopyFS(filepath.Join(a.workspace, "facets"), os.DirFS(filepath.Join("testdata", "facets"))); err != nil {
		t.Fatal(err)
	}
	graph := "@prefix : <http://example.com/> .\n"
	for i := range people {
		graph += fmt.Sprintf(":person%02d a :Person ; :age 200 .\n", i)
	}
	write(t, filepath.Join(a.workspace, "facets", "people.ttl"), graph)
	a.replaced["ultrafast-ci/ultrafast@main"] = releaseTree(t)
	const secret = "s3cret-of-the-deployment"
	a.env = []string{"DEPLOY_TOKEN=" + secret}
	a.args = []string{"-s", "DEPLOY_TOKEN", "--var", "SHARED=" + a.shared}
	log := a.must(t, "push")
	if got := read(t, filepath.Join(a.shared, "out", "people.txt")); got != "people\n" {
		t.Errorf("output-dir, an input with a dash, has %q", got)
	}
	if n := strings.Count(log, "::warning "); n != 10 {
		t.Errorf("%d annotations, want 10\n%s", n, log)
	}
	_, summary, _ := strings.Cut(log, "Summary - ")
	var sarif struct {
		Runs []struct{ Results []struct{ RuleID string } }
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(a.shared, "reports", "results.sarif"))), &sarif); err != nil || len(sarif.Runs) != 1 {
		t.Fatalf("SARIF: %v, %d runs", err, len(sarif.Runs))
	}
	if n := len(sarif.Runs[0].Results); n != people {
		t.Errorf("%d results in SARIF, want %d", n, people)
	}
	for i := range people {
		if who := fmt.Sprintf("person%02d", i); !strings.Contains(summary, who) {
			t.Errorf("%s is not in the summary\n%s", who, log)
		}
	}
	if strings.Contains(log, secret) {
		t.Error("the secret is in the log")
	}
	// act shows a mask as three asterisks: they come before the first line.
	if mask, line := strings.Index(log, "⚙  ***"), strings.Index(log, "::group::generate"); mask < 0 || line < mask {
		t.Errorf("masks at %d, the first line at %d\n%s", mask, line, log)
	}
	a.nothingLeft(t)
}
