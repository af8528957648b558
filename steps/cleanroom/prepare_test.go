package cleanroom_test

import (
	"debug/elf"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/depot"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/egress"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// gateway serves the proxy, for which indexHost is this machine.
func gateway(l net.Listener, allow []string) (cleanroom.Gate, error) {
	rules, err := egress.ParseRules(allow)
	if err != nil {
		return nil, err
	}
	return gate{egress.Serve(l, rules, map[string]netip.Addr{indexHost: netip.MustParseAddr("127.0.0.1")})}, nil
}

type gate struct{ proxy *egress.Proxy }

func (g gate) Close() (asked []cleanroom.Request) {
	for _, n := range g.proxy.Close() {
		asked = append(asked, cleanroom.Request(n))
	}
	return asked
}

// indexes has a registry of each kind, and the check that its tree leads to.
var indexes = map[cleanroom.Kind]struct {
	serve func(*testing.T) index
	want  []state.Check
}{
	cleanroom.Go:         {goIndex, []state.Check{{Name: "shop.TestGreeting", Outcome: state.Passed}}},
	cleanroom.JavaScript: {npmIndex, []state.Check{{Name: "test/greet.test.js::greets", Outcome: state.Passed}}},
	cleanroom.Python: {pipIndex, []state.Check{
		{Name: "tests/test_greet.py::TestGreet::test_greeting", Outcome: state.Passed}, {Name: "tests/test_greet.py::TestGreet::test_host_packages", Outcome: state.Passed},
	}},
	cleanroom.Rust: {cargoIndex, []state.Check{{Name: "src/main.rs::greets", Outcome: state.Passed}}},
}

// newPreparedLab returns a lab whose trees fetch from the index.
func newPreparedLab(t *testing.T, kind cleanroom.Kind, from index) *lab {
	t.Helper()
	l := newSuiteLab(t, kind)
	if kind == cleanroom.Rust {
		tool, err := hostLanguage(t.Context(), kind)
		if err != nil {
			t.Fatal(err)
		}
		var minor int
		if _, err := fmt.Sscanf(tool.Version, "rustc 1.%d.", &minor); err == nil && minor < 68 {
			t.Skipf("%s knows no registry like that of the test", tool.Version)
		}
	}
	_, port, err := net.SplitHostPort(from.at)
	if err != nil {
		t.Fatal(err)
	}
	l.step.Prepare = cleanroom.Prepare{
		Depot: depot.Depot{Root: filepath.Join(t.TempDir(), "depot")}, Gateway: gateway, Allow: []string{from.at, "127.0.0.1:" + port},
		GoProxy: from.url, NPMRegistry: from.url, PyPIIndex: from.url, CargoIndex: from.url,
	}
	return l
}

// The dependencies of a lock file are fetched once through the proxy, and seen by builds
// and tests that have no network.
func TestPrepare(t *testing.T) {
	t.Parallel()
	for kind, c := range indexes {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			if kind == cleanroom.Go && testing.Short() {
				t.Skip("compiles the standard library")
			}
			from := c.serve(t)
			l := newPreparedLab(t, kind, from)
			var claims []string
			for i, want := range []string{"cold", "warm"} {
				res, err := l.run(t, from.files)
				if err != nil {
					t.Fatalf("%v\n%v", err, res.Evidence.Findings)
				}
				if !reflect.DeepEqual(res.Entry.Checks, c.want) {
					t.Errorf("checks %v, want %v", res.Entry.Checks, c.want)
				}
				if got := res.Evidence.Facts["dependencies.cache"]; got != want {
					t.Errorf("the dependencies were %s, want %s", got, want)
				}
				if asked := res.Evidence.Facts["prepare.request.001"]; i == 0 && !strings.Contains(asked, from.at+" (allowed") {
					t.Errorf("the evidence says of the requests %q", asked)
				}
				if kind == cleanroom.Go || kind == cleanroom.Rust {
					checkProgram(t, l, &res.Entry)
				}
				res.Entry.Normalize()
				b, err := res.Entry.Claim()
				if err != nil {
					t.Fatal(err)
				}
				claims = append(claims, string(b))
			}
			if claims[0] != claims[1] {
				t.Errorf("claims\n%s\n%s", claims[0], claims[1])
			}
		})
	}
}

// checkProgram runs the program of the image, which has no library beside it.
func checkProgram(t *testing.T, l *lab, e *state.Entry) {
	t.Helper()
	dir := t.TempDir()
	cfg, err := oci.Client{}.Unpack(t.Context(), l.blobs, e, dir)
	if err != nil {
		t.Fatal(err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 || !reflect.DeepEqual(cfg.Entrypoint, []string{"/shop"}) {
		t.Fatalf("the image starts %v of %v (%v)", cfg.Entrypoint, files, err)
	}
	program := filepath.Join(dir, "shop")
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("the program needs a loader")
	}
	out, err := exec.CommandContext(t.Context(), program).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "hello" {
		t.Errorf("the program says %q (%v)", out, err)
	}
}

// A registry that is not in the allow-list is refused by name; bytes that are not those
// of the lock file are not taken.
func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	t.Run("host", func(t *testing.T) {
		t.Parallel()
		from := pipIndex(t)
		l := newPreparedLab(t, cleanroom.Python, from)
		l.step.Prepare.Allow = []string{"elsewhere.test"}
		_, err := l.run(t, from.files)
		if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), from.at+" was refused: not in the allow-list") || !strings.Contains(fault.HintOf(err), "allow in [cleanroom.prepare]") {
			t.Errorf("%v (%s)", err, fault.HintOf(err))
		}
	})
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		from := pipIndex(t)
		l := newPreparedLab(t, cleanroom.Python, from)
		from.files["requirements.txt"] = "greet==1.0.0 --hash=sha256:" + strings.Repeat("0", 64) + "\n"
		if _, err := l.run(t, from.files); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "requirements.txt") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no hashes", func(t *testing.T) {
		t.Parallel()
		from := pipIndex(t)
		l := newPreparedLab(t, cleanroom.Python, from)
		from.files["requirements.txt"] = "greet==1.0.0\n"
		if _, err := l.run(t, from.files); fault.KindOf(err) != fault.Finding || !strings.Contains(fault.HintOf(err), "--generate-hashes") {
			t.Errorf("%v (%s)", err, fault.HintOf(err))
		}
	})
	t.Run("no lock", func(t *testing.T) {
		t.Parallel()
		from := npmIndex(t)
		l := newPreparedLab(t, cleanroom.JavaScript, from)
		delete(from.files, "package-lock.json")
		if _, err := l.run(t, from.files); fault.KindOf(err) != fault.Finding || !strings.Contains(fault.HintOf(err), "package-lock-only") {
			t.Errorf("%v (%s)", err, fault.HintOf(err))
		}
	})
}

// Tests reach what the allow-list names if the mode says so, and nothing otherwise.
func TestNetworkModes(t *testing.T) {
	t.Parallel()
	const fetch = `import os, unittest, urllib.request, urllib.error


class TestFetch(unittest.TestCase):
    def test_fetch(self):
        self.assertEqual(urllib.request.urlopen(os.environ["INDEX"], timeout=20).status, 200)
`
	for _, mode := range []cleanroom.Network{cleanroom.NetworkNone, cleanroom.NetworkInternal, cleanroom.NetworkAllowList} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			from := pipIndex(t)
			l := newPreparedLab(t, cleanroom.Python, from)
			l.step.Network = mode
			l.step.Suites = []cleanroom.Suite{{Runner: cleanroom.Python, Env: map[string]string{"INDEX": from.url + "/greet/"}}}
			res, err := l.run(t, map[string]string{"test_fetch.py": fetch})
			if reached := err == nil; reached != (mode == cleanroom.NetworkAllowList) {
				t.Errorf("mode %s: %v", mode, err)
			}
			if mode == cleanroom.NetworkAllowList && !strings.Contains(res.Evidence.Facts["prepare.request.001"], from.at) {
				t.Errorf("facts %v", res.Evidence.Facts)
			}
		})
	}
}

// Where there is no private root, dependencies are found where the host has them, and
// the claim is the same.
func TestPrepareWithoutWalls(t *testing.T) {
	t.Parallel()
	for _, kind := range []cleanroom.Kind{cleanroom.JavaScript, cleanroom.Python, cleanroom.Rust} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			if kind == cleanroom.Rust && os.Getenv("ULTRAFAST_LONG") == "" {
				t.Skip("compiles four times: set ULTRAFAST_LONG")
			}
			from := indexes[kind].serve(t)
			claims := map[string]bool{}
			for _, level := range []sandbox.Level{sandbox.Full, sandbox.None} {
				l := newPreparedLab(t, kind, from)
				l.step.Backend, l.step.MinIsolation = embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &level}), sandbox.None
				res, err := l.run(t, from.files)
				if err != nil {
					t.Fatalf("level %s: %v", level, err)
				}
				res.Entry.Normalize()
				b, err := res.Entry.Claim()
				if err != nil {
					t.Fatal(err)
				}
				claims[string(b)] = true
			}
			if len(claims) != 1 {
				t.Errorf("%d claims: %v", len(claims), claims)
			}
		})
	}
}
