package archtest_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ultrafast-ci/ultrafast/internal/archtest"
)

func TestHouse(t *testing.T) {
	t.Parallel()
	broken, err := archtest.Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Error(b)
	}
}

// TestRules sees each rule fail, and what it must not forbid pass.
func TestRules(t *testing.T) {
	t.Parallel()
	const m = archtest.Module + "/"
	cases := []struct {
		name, file, body string
		want             string // part of the one broken rule; empty: none
	}{
		{"word imports library", "steps/state/x.go", imports("golang.org/x/sys/unix"), "only internal/sandbox"},
		{"word imports contract", "steps/fault/x.go", imports(m + "steps/sandbox"), "a word may not import a contract"},
		{"word imports word", "steps/state/x.go", imports(m + "steps/phase"), ""},
		{"contract imports word", "steps/sandbox/x.go", imports(m + "steps/state"), ""},
		{"contract imports engine", "steps/sandbox/x.go", imports(m + "internal/graph"), "a contract may not import a engine"},
		{"phase imports phase", "steps/market/x.go", imports(m + "steps/deploy"), "a phase may not import a phase"},
		{"phase imports wall", "steps/market/x.go", imports(m + "internal/registry"), "a phase may not import a wall"},
		{"phase imports client wall", "steps/deploy/x.go", imports(m + "internal/oci"), "a phase may not import a client wall"},
		{"phase imports app", "steps/market/x.go", imports(m + "internal/app"), "a phase may not import a app"},
		{"phase imports kong", "steps/market/x.go", imports("github.com/alecthomas/kong"), "only internal/app may import it"},
		{"phase imports engine", "steps/generate/x.go", imports(m + "internal/graph/sparql"), ""},
		{"phase reads environment", "steps/market/x.go", call("os", "Getenv"), "may not use os.Getenv"},
		{"phase exits", "steps/market/x.go", call("os", "Exit"), "may not use os.Exit"},
		{"phase prints", "steps/market/x.go", call("fmt", "Println"), "may not use fmt.Println"},
		{"phase under another name prints", "steps/market/x.go", "import f \"fmt\"\nvar _ = f.Println", "may not use fmt.Println"},
		{"engine imports engine", "internal/render/x.go", imports(m + "internal/graph"), "a engine may not import a engine"},
		{"engine imports own subpackage", "internal/graph/x.go", imports(m + "internal/graph/turtle"), ""},
		{"policy imports graph", "internal/policy/x.go", imports(m + "internal/graph"), ""},
		{"engine imports network", "internal/graph/x.go", imports("net/http"), "has no network"},
		{"engine imports randomness", "internal/graph/x.go", imports("math/rand/v2"), "no randomness"},
		{"engine starts processes", "internal/render/x.go", imports("os/exec"), "no processes"},
		{"engine reads environment", "internal/graph/x.go", call("os", "LookupEnv"), "may not use os.LookupEnv"},
		{"rollout imports evidence", "internal/rollout/x.go", imports(m + "internal/evidence"), ""},
		{"evidence imports rollout", "internal/evidence/x.go", imports(m + "internal/rollout"), "a engine may not import a engine"},
		{"document reads clock", "internal/document/x.go", call("time", "Now"), "may not use time.Now"},
		{"word exits", "steps/fault/x.go", call("os", "Exit"), "may not use os.Exit"},
		{"contract imports phase", "steps/target/x.go", imports(m + "steps/deploy"), "a contract may not import a phase"},
		{"phase uses the CI library", "steps/market/x.go", imports("github.com/sethvargo/go-githubactions"), "not in the list"},
		{"app imports door", "internal/app/x.go", imports(m + "actions/market/door"), "a app may not import a door"},
		{"wall imports app", "internal/store/x.go", imports(m + "internal/app"), "a wall may not import a app"},
		{"room imports bench", "steps/market/x.go", imports(m + "bench/start"), "nothing may import it"},
		{"room imports images", "internal/oci/x.go", imports(m + "images"), "nothing may import it"},
		{"engine reads clock", "internal/graph/x.go", call("time", "Now"), "may not use time.Now"},
		{"document imports library", "internal/document/x.go", imports("github.com/goccy/go-yaml/ast"), ""},
		{"other imports yaml", "internal/config/x.go", imports("github.com/goccy/go-yaml"), "only internal/document may import it"},
		{"unknown library", "internal/app/x.go", imports("github.com/spf13/cobra"), "not in the list"},
		{"client wall imports wall", "internal/oci/x.go", imports(m + "internal/store"), "a client wall may not import a wall"},
		{"oci imports daemon", "internal/oci/x.go", imports("github.com/google/go-containerregistry/pkg/v1/daemon"), "forbidden everywhere"},
		{"wall imports wall", "internal/store/x.go", imports(m + "internal/terminal"), "a wall may not import a wall"},
		{"wall imports client wall", "internal/store/x.go", imports(m + "internal/oci"), ""},
		{"wall imports phase", "internal/registry/x.go", imports(m + "steps/market"), "a wall may not import a phase"},
		{"wall imports contract", "internal/sandbox/embedded/x.go", imports(m + "steps/sandbox"), ""},
		{"frame imports wall", "internal/pipeline/x.go", imports(m + "internal/store"), "a frame may not import a wall"},
		{"app imports phase", "internal/app/x.go", imports(m + "steps/market"), "a app may not import a phase"},
		{"app imports store", "internal/app/x.go", imports(m + "internal/store"), ""},
		{"app imports router", "internal/app/x.go", imports(m + "internal/router"), "a app may not import a wall"},
		{"door imports phase and walls", "actions/market/door/x.go", imports(m+"steps/market", m+"internal/registry", m+"internal/app"), ""},
		{"door imports door", "actions/market/door/x.go", imports(m + "actions/deploy/door"), "a door may not import another"},
		{"door imports other phase", "actions/generate/door/x.go", imports(m + "steps/market"), "the phase behind it alone"},
		{"cleanroom-test's door", "actions/cleanroom-test/door/x.go", imports(m + "steps/cleanroom"), ""},
		{"main imports own door", "actions/market/main.go", imports(m + "actions/market/door"), ""},
		{"joined door imports doors", "actions/ultrafast/door/x.go", imports(m+"actions/deploy/door", m+"actions/market/door"), ""},
		{"room imports example", "internal/app/x.go", imports(m + "examples/demo"), "nothing may import it"},
		{"room imports archtest", "steps/market/x.go", imports(m + "internal/archtest"), "nothing may import it"},
		{"no room", "internal/util/x.go", "", "is in no room"},
		{"dot import", "steps/market/x.go", "import . \"fmt\"\nvar _ = Println", "into its own names"},
		{"test may join", "steps/market/x_test.go", imports(m + "internal/registry"), ""},
		{"test may not add a library", "steps/market/x_test.go", imports("github.com/stretchr/testify/require"), "not in the list"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			broken, err := archtest.Check(fstest.MapFS{c.file: {Data: []byte("package x\n" + c.body)}})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && len(broken) > 0:
				t.Errorf("broken: %q", broken)
			case c.want != "" && (len(broken) != 1 || !strings.Contains(broken[0], c.want)):
				t.Errorf("broken: %q, want one with %q", broken, c.want)
			}
		})
	}
}

// TestLayout: the README's table of folders names every folder that holds code.
func TestLayout(t *testing.T) {
	t.Parallel()
	root := os.DirFS("../..")
	readme, err := fs.ReadFile(root, "README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, layout, _ := strings.Cut(string(readme), "\n## Layout\n")
	for _, parent := range []string{".", "internal"} {
		entries, err := fs.ReadDir(root, parent)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || slices.Contains([]string{"build", "internal"}, e.Name()) {
				continue
			}
			named := regexp.MustCompile("`(internal/)?" + regexp.QuoteMeta(e.Name()) + "/?`")
			if !named.MatchString(layout) {
				t.Errorf("the README's layout does not name %s", path.Join(parent, e.Name()))
			}
		}
	}
}

func imports(paths ...string) string {
	var b strings.Builder
	for _, p := range paths {
		b.WriteString("import _ \"" + p + "\"\n")
	}
	return b.String()
}

func call(pkg, name string) string {
	return "import \"" + pkg + "\"\nvar _ = " + pkg + "." + name + "\n"
}
