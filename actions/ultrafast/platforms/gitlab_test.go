package platforms

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/internal/report"
)

// runner is gitlab-ci-local with the pipeline that docs/gitlab.md shows.
type runner struct {
	program, workspace, home string
	args                     []string
}

// newRunner returns a runner for a workspace whose pipeline has more inputs.
func newRunner(t *testing.T, inputs ...string) *runner {
	t.Helper()
	docker(t)
	r := &runner{
		program:   kept("tools", "npm", "node_modules", ".bin", "gitlab-ci-local"),
		workspace: workspace(t, freeAddress(t)), home: t.TempDir(),
	}
	if _, err := os.Stat(r.program); err != nil {
		missing(t, "gitlab-ci-local is not here; .ci/setup-platforms installs it: %v", err)
	}
	shell, toolchain := images(t, "shell"), images(t, "toolchain")
	for _, door := range []string{"market", "generate", "cleanroom-test", "validate", "sign", "deploy"} {
		image := shell[door]
		switch door {
		case "cleanroom-test":
			image = toolchain[door]
		case "sign":
			image = shell["validate"]
		}
		inputs = append(inputs, door+"-image: "+image.ref)
	}
	write(t, filepath.Join(r.workspace, ".gitlab-ci.yml"), pipelineFile(t, inputs))
	for _, name := range []string{"market", "generate", "cleanroom-test", "validate", "sign", "deploy", "ultrafast"} {
		write(t, filepath.Join(r.workspace, "actions", name, "gitlab.yml"), read(t, filepath.Join(root(), "actions", name, "gitlab.yml")))
	}
	k := signingKeys(t)
	write(t, filepath.Join(r.workspace, ".gitlab-ci-local-variables.yml"), fmt.Sprintf("SIGNING_KEY: %s\nTRUST_ROOT: %s\n", k.signing, k.trust))
	write(t, filepath.Join(r.workspace, ".gitignore"), ".gitlab-ci-local*\n")
	call(t, command{dir: r.workspace, args: []string{"git", "add", "--all"}})
	cache := kept("platforms", "gitlab-cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	r.args = []string{
		"--pull-policy", "if-not-present", "--helper-image", runnerImage(t), "--volume", cache + ":/cache",
		"--variable", "XDG_CACHE_HOME=/cache/ultrafast", "--variable", "CI_COMMIT_REF_PROTECTED=true",
	}
	return r
}

// pipelineFile returns the pipeline of docs/gitlab.md with more inputs, its file taken
// from the workspace.
func pipelineFile(t *testing.T, inputs []string) string {
	t.Helper()
	page := read(t, filepath.Join(root(), "docs", "gitlab.md"))
	found := regexp.MustCompile("(?s)```yaml\n(include:\n.*?)```").FindStringSubmatch(page)
	if found == nil {
		t.Fatal("docs/gitlab.md shows no pipeline")
	}
	text := found[1]
	const from = "  - project: ultrafast-ci/ultrafast\n    ref: main\n    file: "
	if !strings.Contains(text, from) {
		t.Fatalf("the pipeline of docs/gitlab.md does not include by\n%s", from)
	}
	text = strings.Replace(text, from, "  - local: ", 1)
	for _, in := range inputs {
		text += "      " + in + "\n"
	}
	return text
}

// run runs the pipeline, or some jobs of it, and returns the log.
func (r *runner) run(t *testing.T, args ...string) (log string, err error) {
	t.Helper()
	all := append([]string{r.program, "--home", r.home}, r.args...)
	_, log, err = command{dir: r.workspace, limit: 20 * time.Minute, args: append(all, args...)}.output(t.Context())
	return log, err
}

func (r *runner) must(t *testing.T, args ...string) string {
	t.Helper()
	log, err := r.run(t, args...)
	if err != nil {
		t.Fatalf("gitlab-ci-local: %v\n%s", err, log)
	}
	return log
}

// artifact returns a file that a job has left.
func (r *runner) artifact(t *testing.T, job, name string) string {
	t.Helper()
	return read(t, filepath.Join(r.workspace, ".gitlab-ci-local", "artifacts", job, name))
}

// state returns the state that a job has handed on.
func (r *runner) state(t *testing.T, job string) string {
	t.Helper()
	text := strings.TrimSpace(r.artifact(t, job, ".gitlab-ci-reports/dotenv/.ggen/state.env"))
	state, ok := strings.CutPrefix(text, "STATE=")
	if !ok {
		t.Fatalf("the dotenv report of %s is %q", job, text)
	}
	return state
}

// valid wants the pipeline to be as GitLab's schema asks.
func valid(t *testing.T, log string) {
	t.Helper()
	if !strings.Contains(log, "json schema validated") {
		t.Errorf("the schema was not checked:\n%s", log)
	}
}

// TestGitLab runs the jobs of the pipeline in the images for GitLab. The store goes from
// job to job as an artifact, its reference as a variable.
func TestGitLab(t *testing.T) {
	on(t, gitlab)
	r := newRunner(t)
	start := time.Now()
	valid(t, r.must(t))
	t.Logf("six jobs: %.1f s", time.Since(start).Seconds())
	_, digest, _ := strings.Cut(r.state(t, "deploy"), "@")
	compareClaims(t, "layout:"+filepath.Join(r.workspace, project, ".ggen", "state")+"@"+digest)
	r.checkReports(t)
}

// checkReports reads the reports that GitLab shows.
func (r *runner) checkReports(t *testing.T) {
	t.Helper()
	for _, job := range []string{"cleanroom-test", "validate"} {
		var suites struct {
			Tests  int `xml:"tests,attr"`
			Suites []struct {
				Cases []struct {
					Name string `xml:"name,attr"`
				} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		if err := xml.Unmarshal([]byte(r.report(t, job, report.JUnitName)), &suites); err != nil {
			t.Errorf("%s: %v", job, err)
		}
		if len(suites.Suites) == 0 || len(suites.Suites[0].Cases) == 0 {
			t.Errorf("%s: a JUnit report without a test", job)
		}
	}
	var sast struct {
		Version         string
		Scan            struct{ Type, Status string }
		Vulnerabilities []json.RawMessage
	}
	if err := json.Unmarshal([]byte(r.report(t, "validate", report.SASTName)), &sast); err != nil {
		t.Error(err)
	}
	if sast.Version != "15.0.7" || sast.Scan.Type != "sast" || sast.Scan.Status != "success" || sast.Vulnerabilities == nil {
		t.Errorf("SAST report %+v", sast)
	}
	var quality []json.RawMessage
	if err := json.Unmarshal([]byte(r.report(t, "validate", report.CodeQualityName)), &quality); err != nil || quality == nil {
		t.Errorf("code-quality report: %v", err)
	}
}

// report returns a report that a job has left, by the name that the pipeline gives it.
func (r *runner) report(t *testing.T, job, name string) string {
	t.Helper()
	if file := ".ggen/reports/" + name; !strings.Contains(read(t, filepath.Join(r.workspace, "actions", job, "gitlab.yml")), file) {
		t.Errorf("the job %s names no report %s", job, file)
	}
	return r.artifact(t, job, filepath.Join(".ggen", "reports", name))
}

// TestGitLabRegistry keeps the state in a registry that asks for the job's token.
func TestGitLabRegistry(t *testing.T) {
	on(t, gitlab)
	const token = "glcbt-64_test"
	registry := ocitest.New(t, ocitest.WithReferrers(), ocitest.WithPassword("gitlab-ci-token", token))
	r := newRunner(t, "store: oci://$CI_REGISTRY_IMAGE/state")
	r.args = append(r.args, "--network", "host", "--variable", "CI_REGISTRY="+registry.Host, "--variable", "CI_REGISTRY_IMAGE="+registry.Host+"/example/orders")
	if log, err := r.run(t, "market"); err == nil || !strings.Contains(log, "UNAUTHORIZED") && !strings.Contains(log, "401") {
		t.Errorf("without a token: %v\n%s", err, log)
	}
	r.args = append(r.args, "--variable", "CI_JOB_TOKEN="+token)
	log := r.must(t, "market", "generate")
	if strings.Contains(log, token) {
		t.Errorf("the token is in the log:\n%s", log)
	}
	want := "oci://" + registry.Host + "/example/orders/state@sha256:"
	if state := r.state(t, "generate"); !strings.HasPrefix(state, want) || len(registry.Objects()) == 0 {
		t.Errorf("the state is %q, want %s…; the registry has %d objects", state, want, len(registry.Objects()))
	}
}

// TestGitLabIsolation asks for the isolation that Docker's default settings refuse, and
// then for it in a container that may have it.
func TestGitLabIsolation(t *testing.T) {
	on(t, gitlab)
	r := newRunner(t)
	file := filepath.Join(r.workspace, ".gitlab-ci.yml")
	write(t, file, strings.Replace(read(t, file), "min-isolation: reduced", "min-isolation: full", 1))
	log, err := r.run(t, "market", "generate", "cleanroom-test")
	if err == nil || !strings.Contains(log, "FAIL 3") || !strings.Contains(log, "the kernel refused") {
		t.Errorf("%v, want exit code 3\n%s", err, log)
	}
	log = r.must(t, "--container-executable", unconfined(t), "market", "generate", "cleanroom-test")
	if !strings.Contains(log, "isolation  full") {
		t.Errorf("not isolated in full:\n%s", log)
	}
}

// unconfined returns a program that is docker, with what docs/gitlab.md has in the
// configuration of a runner: gitlab-ci-local has no option for it.
func unconfined(t *testing.T) string {
	t.Helper()
	const setting = `security_opt = ["seccomp:unconfined"]`
	if !strings.Contains(read(t, filepath.Join(root(), "docs", "gitlab.md")), setting) {
		t.Fatalf("docs/gitlab.md does not show %s", setting)
	}
	name := filepath.Join(t.TempDir(), "docker")
	write(t, name, "#!/bin/sh\n"+
		`if [ "$1" = create ]; then shift; exec docker create --security-opt seccomp=unconfined "$@"; fi`+"\n"+
		`exec docker "$@"`+"\n")
	if err := os.Chmod(name, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestGitLabComponents checks each door's own file against GitLab's schema, with every
// input as it is declared.
func TestGitLabComponents(t *testing.T) {
	on(t, gitlab)
	r := newRunner(t)
	files := map[string]string{"market": "", "generate": "", "cleanroom-test": "", "validate": "", "sign": "key: signing.pem", "deploy": "trust-root: trust.toml"}
	var text strings.Builder
	text.WriteString("include:\n")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&text, "  - local: /actions/%s/gitlab.yml\n    inputs:\n      job: %s-own\n", name, name)
		if files[name] != "" {
			fmt.Fprintf(&text, "      %s\n", files[name])
		}
	}
	write(t, filepath.Join(r.workspace, ".gitlab-ci.yml"), text.String())
	log := r.must(t, "--list")
	valid(t, log)
	for name := range files {
		if !strings.Contains(log, name+"-own") {
			t.Errorf("no job of %s in\n%s", name, log)
		}
	}
	write(t, filepath.Join(r.workspace, ".gitlab-ci.yml"), "include:\n  - local: /actions/cleanroom-test/gitlab.yml\n    inputs:\n      min-isolation: half\n")
	if log, err := r.run(t, "--list"); err == nil {
		t.Errorf("half an isolation was taken:\n%s", log)
	}
}
