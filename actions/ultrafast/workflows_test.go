package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/doorgen"
)

const ours = "ultrafast-ci/ultrafast/actions/"

var pinned = regexp.MustCompile(`^[^@]+@[0-9a-f]{40}$`)

// workflowFaults returns what is wrong with a workflow beyond its syntax: a job
// without a time limit, rights that a job should not have, an action that is not
// pinned, inputs of our actions that they do not have or that are missing.
func workflowFaults(workflow map[string]any, inputs map[string][]doorgen.Input) []string {
	var faults []string
	if _, ok := workflow["permissions"]; !ok {
		faults = append(faults, "no permissions at the top: the default is all")
	}
	jobs, _ := workflow["jobs"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		job, _ := jobs[name].(map[string]any)
		if _, calls := job["uses"]; calls {
			continue // its limits are those of the workflow that it calls
		}
		if _, ok := job["timeout-minutes"]; !ok {
			faults = append(faults, name+": no timeout-minutes")
		}
		rights, _ := job["permissions"].(map[string]any)
		for right, level := range rights {
			if level == "write" && (right != "id-token" || name != "sign") {
				faults = append(faults, name+": may write "+right)
			}
		}
		steps, _ := job["steps"].([]any)
		for _, s := range steps {
			step, _ := s.(map[string]any)
			for _, fault := range stepFaults(step, inputs) {
				faults = append(faults, name+": "+fault)
			}
		}
	}
	return faults
}

func stepFaults(step map[string]any, inputs map[string][]doorgen.Input) []string {
	uses, _ := step["uses"].(string)
	with, _ := step["with"].(map[string]any)
	if script, _ := step["run"].(string); strings.Contains(script, "${{") {
		return []string{"an expression becomes text of a script: hand it in by env"}
	}
	if strings.HasPrefix(uses, "actions/checkout@") && with["persist-credentials"] != false {
		return []string{"the checkout leaves the token in the workspace"}
	}
	if uses == "" || strings.HasPrefix(uses, "./") {
		return nil
	}
	action, _, _ := strings.Cut(strings.TrimPrefix(uses, ours), "@")
	known, own := inputs[action]
	switch {
	case strings.HasPrefix(uses, ours) && !own:
		return []string{"there is no action " + uses}
	case !own && !pinned.MatchString(uses):
		return []string{uses + " is not pinned"}
	case !own:
		return nil
	}
	var faults []string
	for _, key := range slices.Sorted(maps.Keys(with)) {
		if !slices.ContainsFunc(known, func(in doorgen.Input) bool { return in.Name == key }) {
			faults = append(faults, uses+" has no input "+key)
		}
	}
	for _, in := range known {
		if _, given := with[in.Name]; in.Required && !given {
			faults = append(faults, uses+" needs the input "+in.Name)
		}
	}
	return faults
}

func allInputs(t *testing.T) map[string][]doorgen.Input {
	t.Helper()
	inputs := map[string][]doorgen.Input{}
	for _, d := range doorways() {
		of, err := doorgen.Inputs(d.CLI, d.Verb, d.Globals)
		if err != nil {
			t.Fatal(err)
		}
		inputs[d.Name] = of
	}
	return inputs
}

func parseWorkflow(t *testing.T, name string, text []byte) map[string]any {
	t.Helper()
	n, err := document.ParseYAML(name, text)
	if err != nil {
		t.Fatal(err)
	}
	m, ok := n.Any().(map[string]any)
	if !ok {
		t.Fatalf("%s is no mapping", name)
	}
	return m
}

func TestWorkflows(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, ".github", "workflows", "*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range workflowFaults(parseWorkflow(t, name, text), allInputs(t)) {
			t.Errorf("%s: %s", filepath.Base(name), fault)
		}
	}
}

// TestCompositeActions holds the scripts of our actions to the rules of workflows.
func TestCompositeActions(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "actions", "*", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range append(files, filepath.Join(root, "action.yml")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		runs, _ := parseWorkflow(t, name, text)["runs"].(map[string]any)
		steps, _ := runs["steps"].([]any)
		for _, s := range steps {
			step, _ := s.(map[string]any)
			checked++
			for _, fault := range stepFaults(step, nil) {
				t.Errorf("%s: %s", name, fault)
			}
		}
	}
	if checked < 5 { // the root, cleanroom-test, setup
		t.Errorf("only %d steps were seen", checked)
	}
}

// TestWorkflowFaults sees every rule fail.
func TestWorkflowFaults(t *testing.T) {
	t.Parallel()
	bad := parseWorkflow(t, "bad.yml", []byte(`
jobs:
  a:
    permissions: {contents: write, id-token: write}
    steps:
      - uses: actions/setup-go@v5
      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683
      - run: echo ${{ inputs.project }}
      - uses: ultrafast-ci/ultrafast/actions/sell@main
      - uses: ultrafast-ci/ultrafast/actions/sign@main
        with: {kee: x}
      - uses: ultrafast-ci/ultrafast/actions/strict@main
`))
	inputs := allInputs(t)
	inputs["strict"] = []doorgen.Input{{Name: "key", Required: true}} // none of ours has an input like that
	got := strings.Join(workflowFaults(bad, inputs), "\n")
	for _, want := range []string{
		"no permissions", "no timeout-minutes", "may write contents", "may write id-token", "setup-go@v5 is not pinned",
		"no action ultrafast-ci/ultrafast/actions/sell@main", "has no input kee", "needs the input key",
		"the checkout leaves the token", "text of a script",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q was not seen in:\n%s", want, got)
		}
	}
}
