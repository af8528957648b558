package examples_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// family are the packages besides go-http-service, each with the models it is tested
// with: first that of its example project.
var family = []struct {
	id     string
	models []string
	// want are files of the first model.
	want []string
	// tool tests the tree in the clean room; empty for trees that are not programs.
	tool string
	// short has the tests run in the short form too.
	short bool
}{
	{"go-cli", []string{"go-cli/model/stock.ttl", "testdata/cli-corners.ttl"}, []string{"main.go", "add_command.go", "move_shelf_run.go", "take_command_test.go"}, "go", false},
	{"rust-cli", []string{"rust-cli/model/stock.ttl", "testdata/cli-corners.ttl"}, []string{"Cargo.lock", "src/lib.rs", "src/commands/move_shelf.rs", "src/work/take.rs", "tests/program.rs"}, "cargo", false},
	{"python-service", []string{"python-service/model/library.ttl", "orders/model/orders.ttl", "testdata/corners.ttl"}, []string{"library/__init__.py", "library/server.py", "tests/test_api.py", "pyproject.toml"}, "python3", true},
	{"node-service", []string{"node-service/model/helpdesk.ttl", "orders/model/orders.ttl", "testdata/corners.ttl"}, []string{"src/server.js", "test/api.test.js", "package.json"}, "node", false},
	{"kubernetes-manifests", []string{"kubernetes-manifests/model/shop.ttl"}, []string{"kustomization.yaml", "web/deployment.yaml", "web/horizontalpodautoscaler.yaml", "web/httproute.yaml", "orders/poddisruptionbudget.yaml"}, "", false},
	{"github-actions-ci", []string{"github-actions-ci/model/ci.ttl"}, []string{".github/workflows/ci.yml", ".github/dependabot.yml"}, "", false},
}

// planned plans the tree of a package for a model.
func planned(t *testing.T, id, model string) *generate.Plan {
	t.Helper()
	data, err := os.ReadFile(model)
	if err != nil {
		t.Fatal(err)
	}
	step := generate.Step{
		Units: []generate.Unit{{Template: id + ":*", Graphs: []generate.Graph{{Name: "model.ttl", Data: data}}}},
		Packages: map[string]fs.FS{
			id: os.DirFS(packages + "/" + id + "/1.0.0"), "go-conventions": os.DirFS(packages + "/go-conventions/1.0.0"),
		},
		Options: generate.Options{AllowCI: true, Strict: true},
	}
	plan, err := step.Plan(t.Context(), state.State{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// TestFamily wants of every package and model the same bytes each time, without a
// warning, in the form of their languages.
func TestFamily(t *testing.T) {
	t.Parallel()
	for _, member := range family {
		for i, model := range member.models {
			t.Run(member.id+"/"+path.Base(model), func(t *testing.T) {
				t.Parallel()
				plan := planned(t, member.id, model)
				again := planned(t, member.id, model)
				if !slices.EqualFunc(plan.Files, again.Files, func(a, b generate.File) bool {
					return a.Path == b.Path && a.Mode == b.Mode && bytes.Equal(a.Content, b.Content)
				}) {
					t.Error("two runs give different trees")
				}
				for _, warning := range plan.Findings {
					t.Errorf("%s: %s", warning.Where, warning.What)
				}
				if i == 0 {
					wantFiles(t, plan, member.want)
				}
				for _, file := range plan.Files {
					wantSound(t, file)
					wantPlain(t, file)
				}
			})
		}
	}
}

var (
	trailing = regexp.MustCompile(`(?m)[ \t]+$`)
	leftover = regexp.MustCompile(`\{%|%\}|\{#`)
)

// wantPlain checks what holds for every language: no blanks at the end of a line, no
// tag of the template left, no two blank lines but in Python, no long line of code.
func wantPlain(t *testing.T, file generate.File) {
	t.Helper()
	text := string(file.Content)
	if at := trailing.FindString(text); at != "" {
		t.Errorf("%s has blanks at the end of a line", file.Path)
	}
	if at := leftover.FindString(text); at != "" {
		t.Errorf("%s has the tag %q", file.Path, at)
	}
	most := map[string]int{".py": 88, ".js": 80, ".rs": 100}[path.Ext(file.Path)]
	for n, line := range strings.Split(text, "\n") {
		if most > 0 && len([]rune(line)) > most && !strings.Contains(line, `"`) {
			t.Errorf("%s:%d has more than %d columns", file.Path, n+1, most)
		}
	}
	blank := "\n\n\n"
	if path.Ext(file.Path) == ".py" {
		blank = "\n\n\n\n"
	}
	if strings.Contains(text, blank) || strings.HasSuffix(text, "\n\n") || strings.HasPrefix(text, "\n") {
		t.Errorf("%s has blank lines too many", file.Path)
	}
}

// TestFamilyInCleanroom takes each example project the whole way with the real binary:
// market add, generate, and the tests of the tree in the clean room.
func TestFamilyInCleanroom(t *testing.T) {
	t.Parallel()
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("short, or no clean room here: the generated trees are not tested")
	}
	bin := filepath.Join(t.TempDir(), "ultrafast")
	if out, err := exec.Command("go", "build", "-o", bin, "../actions/ultrafast").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for _, member := range family {
		t.Run(member.id, func(t *testing.T) {
			if !member.short && member.tool != "" && os.Getenv("ULTRAFAST_LONG") == "" {
				t.Skip("long: set ULTRAFAST_LONG=1")
			}
			if _, err := exec.LookPath(member.tool); member.tool != "" && err != nil {
				t.Skipf("no toolchain: %v", err)
			}
			project := copyProject(t, member.id)
			call := func(args ...string) string { return ultrafast(t, bin, project, args...) }
			state := call("market", "add", member.id)
			args := []string{"generate", "template", "--state", state}
			if member.id == "github-actions-ci" {
				args = append(args, "--allow-ci")
			}
			state = call(args...)
			if member.tool != "" {
				call("cleanroom-test", "run", "--state", state)
			}
		})
	}
}

// copyProject copies an example project, and the registry beside it, to a directory of
// its own.
func copyProject(t *testing.T, id string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{id, "registry"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, rest := range []string{".ggen", "program", "service", "manifests", "repository"} {
		if err := os.RemoveAll(filepath.Join(dir, id, rest)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, id)
}

var passed = regexp.MustCompile(`([0-9]+) of ([0-9]+) tests passed`)

// ultrafast runs the program and returns the state that it prints.
func ultrafast(t *testing.T, bin, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, said.String())
	}
	if args[0] == "cleanroom-test" {
		if m := passed.FindStringSubmatch(said.String()); m == nil || m[1] != m[2] || m[1] == "0" {
			t.Errorf("no tests passed:\n%s", said.String())
		}
	}
	lines := strings.Fields(out.String())
	if len(lines) == 0 {
		t.Fatalf("%s: no state", strings.Join(args, " "))
	}
	return lines[len(lines)-1]
}

// TestManifests holds the manifests to what a cluster and a careful person want of them.
func TestManifests(t *testing.T) {
	t.Parallel()
	plan := planned(t, "kubernetes-manifests", "kubernetes-manifests/model/shop.ttl")
	objects := map[string]*document.Node{}
	for _, file := range plan.Files {
		if path.Ext(file.Path) != ".yaml" {
			continue
		}
		node, err := document.ParseYAML(file.Path, file.Content)
		if err != nil {
			t.Fatal(err)
		}
		objects[file.Path] = node
	}
	listed := objects["kustomization.yaml"].Get("resources")
	var names []string
	for _, item := range listed.Items {
		names = append(names, item.Text)
	}
	for name, node := range objects {
		if name == "kustomization.yaml" {
			continue
		}
		if !slices.Contains(names, name) {
			t.Errorf("%s is not listed", name)
		}
		for _, key := range []string{"apiVersion", "kind", "metadata.name"} {
			if at(node, key) == nil {
				t.Errorf("%s has no %s", name, key)
			}
		}
		if kind := at(node, "kind").Text; kind != "Namespace" && textAt(node, "metadata.namespace") != "shop" {
			t.Errorf("%s is not in the namespace", name)
		}
		if path.Base(name) == "deployment.yaml" {
			wantDeployment(t, name, node, objects)
		}
	}
	if len(names) != len(objects)-1 {
		t.Errorf("%d objects listed, %d made", len(names), len(objects)-1)
	}
	for rule, want := range map[string]string{
		"web/networkpolicy.yaml spec.egress.1.to.0.podSelector.matchLabels":       "orders",
		"orders/networkpolicy.yaml spec.ingress.0.from.0.podSelector.matchLabels": "web",
		"orders/networkpolicy.yaml spec.egress.1.to.0.podSelector.matchLabels":    "stock",
	} {
		file, key, _ := strings.Cut(rule, " ")
		labels := at(objects[file], key)
		if got := labels.Get("app.kubernetes.io/name"); got == nil || got.Text != want {
			t.Errorf("%s: %s is not %s", file, key, want)
		}
	}
	if n := at(objects["stock/networkpolicy.yaml"], "spec.egress"); len(n.Items) != 1 {
		t.Errorf("stock may reach %d besides names", len(n.Items)-1)
	}
}

// wantDeployment checks a pod, and that its service and policies select it.
func wantDeployment(t *testing.T, name string, node *document.Node, objects map[string]*document.Node) {
	t.Helper()
	for key, want := range map[string]string{
		"spec.template.spec.automountServiceAccountToken":                          "false",
		"spec.template.spec.securityContext.runAsNonRoot":                          "true",
		"spec.template.spec.securityContext.seccompProfile.type":                   "RuntimeDefault",
		"spec.template.spec.containers.0.securityContext.allowPrivilegeEscalation": "false",
		"spec.template.spec.containers.0.securityContext.readOnlyRootFilesystem":   "true",
		"spec.template.spec.containers.0.securityContext.capabilities.drop.0":      "ALL",
		"spec.template.spec.containers.0.livenessProbe.httpGet.path":               "/healthz",
		"spec.template.spec.containers.0.readinessProbe.httpGet.path":              "/readyz",
		"spec.template.spec.containers.0.ports.0.name":                             "http",
		"spec.strategy.rollingUpdate.maxUnavailable":                               "0",
	} {
		if got := textAt(node, key); got != want {
			t.Errorf("%s: %s is %q, want %s", name, key, got, want)
		}
	}
	container := "spec.template.spec.containers.0."
	if a, b := textAt(node, container+"resources.requests.memory"), textAt(node, container+"resources.limits.memory"); a == "" || a != b {
		t.Errorf("%s: memory is %q, and its limit %q", name, a, b)
	}
	selector := at(node, "spec.selector.matchLabels")
	labels := at(node, "spec.template.metadata.labels")
	service := at(objects[path.Dir(name)+"/service.yaml"], "spec.selector")
	for _, e := range selector.Entries {
		for what, other := range map[string]*document.Node{"pod": labels, "service": service} {
			if got := other.Get(e.Key); got == nil || got.Text != e.Value.Text {
				t.Errorf("%s: the selector and the labels of the %s differ in %s", name, what, e.Key)
			}
		}
	}
}

// at returns what stands at a path of keys and positions, or nil.
func at(node *document.Node, keys string) *document.Node {
	for key := range strings.SplitSeq(keys, ".") {
		var position int
		if _, err := fmt.Sscan(key, &position); err == nil && node != nil && node.Kind == document.Seq {
			if position >= len(node.Items) {
				return nil
			}
			node = node.Items[position]
			continue
		}
		node = node.Get(key)
	}
	return node
}

func textAt(node *document.Node, keys string) string {
	if n := at(node, keys); n != nil {
		return n.Text
	}
	return ""
}

// actionlint is where the tests of the platforms keep the program.
const actionlint = "../build/tools/v1.7.12/actionlint"

// TestWorkflow holds the generated workflow to actionlint, and to the rules of careful
// people: pinned actions, read access, a time limit.
func TestWorkflow(t *testing.T) {
	t.Parallel()
	plan := planned(t, "github-actions-ci", "github-actions-ci/model/ci.ttl")
	i := slices.IndexFunc(plan.Files, func(f generate.File) bool { return f.Path == ".github/workflows/ci.yml" })
	if i < 0 {
		t.Fatal("no workflow")
	}
	workflow := plan.Files[i]
	node, err := document.ParseYAML(workflow.Path, workflow.Content)
	if err != nil {
		t.Fatal(err)
	}
	if got := textAt(node, "permissions.contents"); got != "read" || len(node.Get("permissions").Entries) != 1 {
		t.Errorf("permissions.contents is %q", got)
	}
	pinned := regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40}$`)
	jobs := node.Get("jobs")
	for _, job := range jobs.Entries {
		if job.Value.Get("timeout-minutes") == nil {
			t.Errorf("job %s has no time limit", job.Key)
		}
		for _, step := range job.Value.Get("steps").Items {
			if uses := step.Get("uses"); uses != nil && !pinned.MatchString(uses.Text) {
				t.Errorf("%s: %s is not pinned", job.Key, uses.Text)
			}
		}
	}
	if needs := at(node, "jobs.passed.needs"); needs == nil || len(needs.Items) != len(jobs.Entries)-1 {
		t.Errorf("the last job does not wait for the %d others", len(jobs.Entries)-1)
	}
	t.Run("actionlint", func(t *testing.T) {
		program, err := filepath.Abs(actionlint)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(program); err != nil {
			t.Skipf("not installed: %v", err)
		}
		file := filepath.Join(t.TempDir(), "ci.yml")
		if err := os.WriteFile(file, workflow.Content, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(program, "-no-color", "-shellcheck=", "-pyflakes=", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
