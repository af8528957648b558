package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// doors are the files that are published, the pipeline last.
func doors(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, name := range []string{"market", "generate", "cleanroom-test", "validate", "sign", "deploy", "ultrafast"} {
		files = append(files, filepath.Join("..", "..", "..", "actions", name, "tekton.yaml"))
	}
	return files
}

// lint returns what is said of files.
func lint(t *testing.T, files []string) (findings string, code int) {
	t.Helper()
	var out bytes.Buffer
	code, err := run(t.Context(), append([]string{"lint"}, files...), strings.NewReader(""), &out)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), code
}

func TestDoors(t *testing.T) {
	t.Parallel()
	if findings, code := lint(t, doors(t)); code != 0 {
		t.Errorf("exit code %d\n%s", code, findings)
	}
}

// TestMistakes makes one mistake in one file that has none.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, old, fresh, says string }{
		"unknown field":       {"market", "  workspaces:", "  workspacez:", `unknown field "workspacez"`},
		"version":             {"market", "tekton.dev/v1beta1", "tekton.dev/v1", `"StepAction" is no kind of Tekton that is judged here`},
		"name":                {"market", "  name: ultrafast-market\n", "  name: Ultrafast_Market\n", "invalid"},
		"undeclared param":    {"market", "$(params.no-cache)", "$(params.nocache)", `non-existent variable in "$(params.nocache)"`},
		"result of a step":    {"market", "steps.run.results.state", "steps.run.results.stat", `step "run" has no result "stat"`},
		"step of a result":    {"market", "steps.run.results.state", "steps.rum.results.state", `step "rum" has no result "state"`},
		"path of a result":    {"market", "$(step.results.state.path)", "$(step.results.stat.path)", "unknown variable $(step.results.stat.path)"},
		"workspace of a task": {"market", "$(workspaces.source.path)", "$(workspaces.sauce.path)", "workspaces.sauce.path"},
		"result of a task":    {"ultrafast", "tasks.market.results.state", "tasks.market.results.stat", `"stat" is not a named result returned by pipeline task "market"`},
		"task of a result":    {"ultrafast", "tasks.market.results.state", "tasks.markt.results.state", `referenced pipeline task "markt" does not exist`},
		"task":                {"ultrafast", "name: ultrafast-generate", "name: ultrafast-gen", `there is no Task "ultrafast-gen"`},
		"param of a task":     {"ultrafast", "- name: min-isolation\n          value", "- name: min-insulation\n          value", "has no parameter min-insulation"},
		"workspace":           {"ultrafast", "        - name: trust\n", "        - name: trusty\n", "trust"},
		"missing step action": {"market", "kind: StepAction\nmetadata:\n  name: ultrafast-market", "kind: StepAction\nmetadata:\n  name: other", "not found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := doors(t)
			for i, file := range files {
				if filepath.Base(filepath.Dir(file)) != test.file {
					continue
				}
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(text), test.old) {
					t.Fatalf("%s has no %q", file, test.old)
				}
				files[i] = filepath.Join(t.TempDir(), "tekton.yaml")
				if err := os.WriteFile(files[i], []byte(strings.ReplaceAll(string(text), test.old, test.fresh)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			findings, code := lint(t, files)
			if code != 1 || !strings.Contains(findings, test.says) {
				t.Errorf("exit code %d, want 1 and %q in\n%s", code, test.says, findings)
			}
		})
	}
}

// answer runs a verb with v on standard input.
func answer(t *testing.T, verb string, v any) (out string, code int) {
	t.Helper()
	in, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	code, err = run(t.Context(), append([]string{verb, runFile(t, runText)}, doors(t)...), bytes.NewReader(in), &text)
	if err != nil {
		t.Fatal(err)
	}
	return text.String(), code
}

const runText = `
apiVersion: tekton.dev/v1
kind: PipelineRun
metadata:
  name: orders
spec:
  pipelineRef: {name: ultrafast}
  params:
    - {name: project, value: orders}
    - {name: store, value: "oci://host/repository"}
  taskRunTemplate:
    serviceAccountName: ultrafast
    podTemplate:
      securityContext: {fsGroup: 65532}
  workspaces:
    - {name: source, persistentVolumeClaim: {claimName: orders}}
    - {name: keys, secret: {secretName: keys}}
    - {name: trust, configMap: {name: trust}}
`

func runFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func request() Request {
	return Request{Run: "orders", Task: "generate", Results: map[string]map[string]string{"market": {"state": "oci://host/repository@sha256:1"}}}
}

func TestPod(t *testing.T) {
	t.Parallel()
	out, code := answer(t, "pod", request())
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	for _, want := range []string{
		`"value": "/workspace/source/orders"`, `"value": "oci://host/repository@sha256:1"`, `"/tekton/bin/entrypoint"`,
		`"runAsUser": 65532`, `"fsGroup": 65532`, `"serviceAccountName": "ultrafast"`, `"claimName": "orders"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	for why, change := range map[string]func(*Request){
		"was not finished":              func(r *Request) { r.Results = nil },
		`could not find result`:         func(r *Request) { r.Results["market"] = map[string]string{"stat": "x"} },
		`no task "bake"`:                func(r *Request) { r.Task = "bake" },
		`there is no PipelineRun "pie"`: func(r *Request) { r.Run = "pie" },
	} {
		r := request()
		change(&r)
		if out, code := answer(t, "pod", r); code != 1 || !strings.Contains(strings.ToLower(out), strings.ToLower(why)) {
			t.Errorf("exit code %d, want 1 and %q in %s", code, why, out)
		}
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	for why, edit := range map[string][2]string{
		"":                            {"name: orders}", "name: orders}"},
		`no parameter "colour"`:       {"name: project, value: orders", "name: colour, value: red"},
		`"store" is not given`:        {`    - {name: store, value: "oci://host/repository"}` + "\n", ""},
		"workspace":                   {"    - {name: keys, secret: {secretName: keys}}\n", ""},
		"the Pipeline that it refers": {"pipelineRef: {name: ultrafast}", "pipelineRef: {name: pie}"},
		"unknown field":               {"pipelineRef", "pipelineReff"},
	} {
		if !strings.Contains(runText, edit[0]) && why != "" {
			t.Fatalf("no %q", edit[0])
		}
		text := strings.Replace(runText, edit[0], edit[1], 1)
		findings, code := lint(t, append([]string{runFile(t, text)}, doors(t)...))
		if (code != 0) != (why != "") || !strings.Contains(findings, why) {
			t.Errorf("exit code %d, want %q in\n%s", code, why, findings)
		}
	}
}

func TestResults(t *testing.T) {
	t.Parallel()
	const message = `[{"key":"state","value":"oci://host/repository@sha256:2","type":4},{"key":"StartedAt","value":"2026-01-02T03:04:05.000Z","type":3}]`
	for name, test := range map[string]struct {
		exit      int32
		message   string
		succeeded bool
		state     string
	}{
		"done":    {0, message, true, "oci://host/repository@sha256:2"},
		"failed":  {3, message, false, "oci://host/repository@sha256:2"},
		"no word": {0, "", true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := answer(t, "results", Ended{Request: request(), ExitCode: test.exit, Message: test.message})
			var got Outcome
			if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
				t.Fatalf("exit code %d, %v\n%s", code, err, out)
			}
			if got.Succeeded != test.succeeded || got.Results["state"] != test.state {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"lint"}, {"bake", doors(t)[0]}, {"lint", "no-such-file"}, {"pod", doors(t)[0]}} {
		if code, err := run(t.Context(), args, strings.NewReader("{"), new(bytes.Buffer)); err == nil || code != 2 {
			t.Errorf("%q: exit code %d, %v", args, code, err)
		}
	}
}
