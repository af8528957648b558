// Package examples_test generates the services of the example models and holds
// them to what their package promises: the same bytes each time, formatted and
// vetted Go, tests that pass without network.
package examples_test

import (
	"bytes"
	"context"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const packages = "registry/packages"

// testTimeout bounds the tests of one generated service, with an empty build cache.
const testTimeout = 5 * time.Minute

// The models to generate from, each the sum of its files.
var models = []struct {
	name  string
	files []string
	// want are files that this model alone leads to.
	want []string
}{
	{"orders", []string{"orders/model/orders.ttl"}, []string{"customer_handler.go", "product_handler.go", "order_handler.go", "order_line_handler.go"}},
	{"orders second version", []string{"orders/model/orders.ttl", "orders/model/orders-v2.ttl"}, []string{"shipment_handler.go", "shipment_handler_test.go"}},
	{"corner cases", []string{"testdata/corners.ttl"}, []string{"node_handler.go", "marker_handler.go"}},
}

// everyService are the files that do not depend on the entities of the model.
var everyService = []string{
	".gitignore", "Dockerfile", "README.md", "client_test.go", "go.mod", "health.go", "main.go", "metrics.go", "middleware.go",
	"openapi.yaml", "problem.go", "production-requirements.yaml", "server.go", "server_test.go", "storage.go", "validate.go",
}

func TestGeneratedServices(t *testing.T) {
	t.Parallel()
	for _, model := range models {
		t.Run(model.name, func(t *testing.T) {
			t.Parallel()
			plan := generated(t, model.files)
			again := generated(t, model.files)
			if !slices.EqualFunc(plan.Files, again.Files, func(a, b generate.File) bool {
				return a.Path == b.Path && a.Mode == b.Mode && bytes.Equal(a.Content, b.Content)
			}) {
				t.Error("two runs give different trees")
			}
			for _, warning := range plan.Findings {
				t.Errorf("%s: %s", warning.Where, warning.What)
			}
			wantFiles(t, plan, slices.Concat(everyService, model.want))
			wantRequirements(t, plan)
			for _, file := range plan.Files {
				wantSound(t, file)
			}
			if !t.Failed() {
				testService(t, plan)
			}
		})
	}
}

// generated plans the service of a model whose graph is the sum of files.
func generated(t *testing.T, files []string) *generate.Plan {
	t.Helper()
	step := generate.Step{
		Units: []generate.Unit{{Template: "go-http-service:*"}},
		Packages: map[string]fs.FS{
			"go-http-service": os.DirFS(packages + "/go-http-service/1.0.0"),
			"go-conventions":  os.DirFS(packages + "/go-conventions/1.0.0"),
		},
	}
	var model []byte
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		model = slices.Concat(model, content, []byte("\n"))
	}
	if len(files) > 1 { // as the demo changes it
		model = bytes.Replace(model, []byte(`owl:versionInfo "1.0.0"`), []byte(`owl:versionInfo "1.1.0"`), 1)
	}
	step.Units[0].Graphs = []generate.Graph{{Name: "model/" + filepath.Base(files[0]), Data: model}}
	plan, err := step.Plan(t.Context(), state.State{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func wantFiles(t *testing.T, plan *generate.Plan, want []string) {
	t.Helper()
	for _, name := range want {
		if !slices.ContainsFunc(plan.Files, func(f generate.File) bool { return f.Path == name }) {
			t.Errorf("no %s", name)
		}
	}
}

// wantSound checks a file by the rules of its language.
func wantSound(t *testing.T, file generate.File) {
	t.Helper()
	if n := len(file.Content); n == 0 || file.Content[n-1] != '\n' {
		t.Errorf("%s does not end with a newline", file.Path)
	}
	switch filepath.Ext(file.Path) {
	case ".go":
		formatted, err := format.Source(file.Content)
		if err != nil {
			t.Errorf("%s: %v", file.Path, err)
		} else if !bytes.Equal(formatted, file.Content) {
			t.Errorf("%s is not formatted", file.Path)
		}
	case ".yaml":
		if _, err := document.ParseYAML(file.Path, file.Content); err != nil {
			t.Error(err)
		}
	}
}

// wantRequirements wants the form that readiness checks read.
func wantRequirements(t *testing.T, plan *generate.Plan) {
	t.Helper()
	const name = "production-requirements.yaml"
	i := slices.IndexFunc(plan.Files, func(f generate.File) bool { return f.Path == name })
	if i < 0 {
		return // reported already
	}
	node, err := document.ParseYAML(name, plan.Files[i].Content)
	if err != nil {
		t.Fatal(err)
	}
	list := node.Get("requirements")
	if list == nil || list.Kind != document.Seq {
		t.Fatalf("%s has no list of requirements", name)
	}
	for _, item := range list.Items {
		for _, key := range []string{"id", "name", "required", "status"} {
			if item.Get(key) == nil {
				t.Errorf("%s: requirement without %s", name, key)
			}
		}
	}
}

// testService builds, vets and tests the service with the toolchain of the host,
// without network.
func testService(t *testing.T, plan *generate.Plan) {
	t.Helper()
	if testing.Short() {
		t.Skip("short: the generated service is not built")
	}
	dir := t.TempDir()
	for _, file := range plan.Files {
		name := filepath.Join(dir, filepath.FromSlash(file.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, file.Content, file.Mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"build -o service .", "vet ./...", "test -count=1 ./..."} {
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		cmd := exec.CommandContext(ctx, "go", strings.Fields(command)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", command, err, out)
		}
	}
}
