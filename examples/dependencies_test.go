package examples_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/depot"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/egress"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/toolchain"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func TestMain(m *testing.M) {
	if embedded.Reexec() {
		return
	}
	os.Exit(m.Run())
}

// The projects with dependencies, and a test of each that must have passed.
var withDependencies = []struct {
	dir, test string
	kind      cleanroom.Kind
	hosts     []string
}{
	{"go", "label.TestNew", cleanroom.Go, []string{"proxy.golang.org"}},
	{"npm", "test/pick.test.js::the newest in the range", cleanroom.JavaScript, []string{"registry.npmjs.org"}},
	{"pip", "tests/test_newest.py::test_nothing", cleanroom.Python, []string{"pypi.org", "files.pythonhosted.org"}},
	{"cargo", "src/main.rs::tests::many", cleanroom.Rust, []string{"index.crates.io", "static.crates.io"}},
}

// Each is fetched from the public registry of its language, so that this needs a network:
// it runs where ULTRAFAST_LONG is set. Tests of steps/cleanroom have registries of their own.
func TestDependencies(t *testing.T) {
	if os.Getenv("ULTRAFAST_LONG") == "" {
		t.Skip("set ULTRAFAST_LONG to fetch from the public registries")
	}
	back := embedded.New(embedded.Options{StateDir: t.TempDir()})
	caps, err := back.Probe(t.Context())
	if err != nil || caps.Level == 0 {
		t.Skipf("no sandbox here: %v", err)
	}
	cache := t.TempDir()
	for _, c := range withDependencies {
		t.Run(c.dir, func(t *testing.T) {
			if _, err := installed(cache)(t.Context(), c.kind); err != nil {
				t.Skip(err)
			}
			blobs, err := store.Open(t.Context(), "layout:"+t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			step := cleanroom.Step{
				Backend: back, MinIsolation: caps.Level, Toolchain: installed(cache), Imager: oci.Client{}, TempDir: t.TempDir(),
				Source: &cleanroom.Source{Dir: project(t, c.dir)},
				Prepare: cleanroom.Prepare{
					Depot: depot.Depot{Root: filepath.Join(cache, "depot")}, Gateway: gateway, Certificates: certificates(t), Allow: reachable(t, c.hosts),
				},
			}
			res, err := step.Run(t.Context(), nil, blobs)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(res.Entry.Checks, state.Check{Name: c.test, Outcome: state.Passed}) || res.Entry.Cleanroom.Image == "" {
				t.Errorf("%s with %v", res.Entry.Outcome, res.Entry.Checks)
			}
			if asked := res.Evidence.Facts["prepare.request.001"]; !strings.Contains(asked, ":443 (allowed") {
				t.Errorf("asked %q", asked)
			}
			t.Logf("%s: build %s s, test %s s", c.dir, res.Evidence.Facts["build.seconds"], res.Evidence.Facts["test.seconds"])
		})
	}
}

// project returns the directory of a project, or what its archive holds.
func project(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join("dependencies", name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	archive, err := txtar.ParseFile(dir + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := txtar.Write(archive, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// installed finds the host's toolchains.
func installed(cache string) func(context.Context, cleanroom.Kind) (cleanroom.Toolchain, error) {
	return func(ctx context.Context, kind cleanroom.Kind) (cleanroom.Toolchain, error) {
		if kind != cleanroom.Go {
			t, err := toolchain.FindLanguage(ctx, string(kind))
			return cleanroom.Toolchain{Root: t.Root, Program: t.Program, Version: t.Version, OS: t.OS, Arch: t.Arch, Target: t.Target, Digest: t.Digest}, err
		}
		t, err := toolchain.Find(ctx)
		return cleanroom.Toolchain{
			Root: t.Root, Program: t.Go(t.Root), Version: t.Version, OS: t.OS, Arch: t.Arch, Digest: t.Digest,
			Library: func(ctx context.Context, env, flags []string) (string, bool, error) {
				return t.Library(ctx, filepath.Join(cache, "go"), env, flags)
			},
		}, err
	}
}

func gateway(l net.Listener, allow []string) (cleanroom.Gate, error) {
	rules, err := egress.ParseRules(allow)
	return gate{egress.Serve(l, rules, nil)}, err
}

type gate struct{ proxy *egress.Proxy }

func (g gate) Close() (asked []cleanroom.Request) {
	for _, n := range g.proxy.Close() {
		asked = append(asked, cleanroom.Request(n))
	}
	return asked
}

// reachable returns an allow-list of the hosts and, for machines whose registries are
// mirrors in a private network, of their addresses.
func reachable(t *testing.T, hosts []string) []string {
	t.Helper()
	allow := slices.Clone(hosts)
	for _, host := range hosts {
		addresses, err := net.DefaultResolver.LookupHost(t.Context(), host)
		if err != nil {
			t.Fatalf("a network is needed: %v", err)
		}
		allow = append(allow, addresses...)
	}
	return allow
}

// certificates returns the file with the certificates that this machine trusts.
func certificates(t *testing.T) string {
	t.Helper()
	file, err := filepath.EvalSymlinks("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		t.Skipf("no certificates of authorities here: %v", err)
	}
	return file
}
