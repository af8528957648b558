package cleanroom_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/toolchain"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// shop is a service with two packages and three tests.
var shop = map[string]string{
	"go.mod":  "module example.com/shop\n\ngo 1.26\n",
	"main.go": "package main\n\nimport \"example.com/shop/store\"\n\nfunc main() { println(store.Put(1)) }\n",
	"main_test.go": `package main

import (
	"os"
	"testing"
)

func TestSurroundings(t *testing.T) {
	for name, want := range map[string]string{"TZ": "UTC", "LANG": "C.UTF-8", "SOURCE_DATE_EPOCH": "0", "GOPROXY": "off", "SECRET": ""} {
		if got := os.Getenv(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if err := os.WriteFile(os.TempDir()+"/x", []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
}
`,
	"store/put.go":      "package store\n\n// Put puts.\nfunc Put(n int) int { return n + 1 }\n",
	"store/put_test.go": "package store\n\nimport \"testing\"\n\nfunc TestPut(t *testing.T) {\n\tif got := Put(1); got != 2 {\n\t\tt.Errorf(\"Put(1) = %d, want 2\", got)\n\t}\n}\n\nfunc TestSkipped(t *testing.T) { t.Skip(\"not today\") }\n",
}

// with returns shop with some files changed, or removed where the text is empty.
func with(changes map[string]string) map[string]string {
	files := maps.Clone(shop)
	for name, text := range changes {
		if files[name] = text; text == "" {
			delete(files, name)
		}
	}
	return files
}

// hostToolchain is the Go installation of the host with the host's own build
// cache as the library, which is warm soon; package toolchain tests its library.
var hostToolchain = sync.OnceValues(func() (cleanroom.Toolchain, error) {
	found, err := toolchain.Find(context.Background())
	if err != nil {
		return cleanroom.Toolchain{}, err
	}
	out, err := exec.Command(found.Go(found.Root), "env", "GOCACHE").Output()
	return cleanroom.Toolchain{
		Root: found.Root, Program: found.Go(found.Root), Version: found.Version, OS: found.OS, Arch: found.Arch, Digest: found.Digest,
		Library: func(context.Context, []string, []string) (string, bool, error) {
			return strings.TrimSpace(string(out)), true, nil
		},
	}, err
})

type lab struct {
	step  cleanroom.Step
	back  *sandboxtest.Direct
	blobs *store.Store
	temp  string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	blobs, err := store.Open(t.Context(), "layout:"+t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	back, temp := &sandboxtest.Direct{T: t}, t.TempDir()
	return &lab{
		blobs: blobs, back: back, temp: temp,
		step: cleanroom.Step{
			Backend: back, Imager: oci.Client{}, TempDir: temp, Package: cleanroom.Package{Port: 8080},
			Toolchain: func(context.Context, cleanroom.Kind) (cleanroom.Toolchain, error) { return hostToolchain() },
		},
	}
}

// state returns a chain whose one entry generated the files.
func (l *lab) state(t *testing.T, files map[string]string) state.State {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	var buf bytes.Buffer
	if err := state.Pack(t.Context(), &buf, fsys, nil); err != nil {
		t.Fatal(err)
	}
	a, err := state.WriteBlob(t.Context(), l.blobs, state.ArtifactTree, state.MediaTypeTree, buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	entry := state.Entry{Schema: 1, Phase: phase.Generate, Outcome: state.Passed, Artifacts: []state.Artifact{a},
		Generate: &state.Generate{Templates: []string{"x"}, Files: len(files), Seed: 42}}
	d, err := entry.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return state.State{{Digest: d, Entry: entry}}
}

// run runs the step and checks what must hold however it ends.
func (l *lab) run(t *testing.T, files map[string]string) (state.Result, error) {
	t.Helper()
	res, err := l.step.Run(t.Context(), l.state(t, files), l.blobs)
	l.back.Open.Wait() // hangs if an environment was not closed
	left, readErr := os.ReadDir(l.temp)
	if readErr != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, readErr)
	}
	return res, err
}

func (l *lab) artifact(t *testing.T, ev state.Evidence, name string) string {
	t.Helper()
	a, ok := ev.Artifact(name)
	if !ok {
		t.Fatalf("no artifact %q among %v", name, ev.Artifacts)
	}
	b, err := state.ReadBlob(t.Context(), l.blobs, a)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRunPasses(t *testing.T) {
	t.Setenv("SECRET", "of the host")
	l := newLab(t)
	var env []string
	l.back.Started = func(spec sandbox.ContainerSpec) { env = append(env, spec.Env...) }
	res, err := l.run(t, shop)
	if err != nil {
		t.Fatal(err)
	}
	res.Entry.Normalize()
	if err := res.Entry.Check(); err != nil {
		t.Fatal(err)
	}
	wantChecks := []state.Check{{Name: "shop.TestSurroundings", Outcome: state.Passed}, {Name: "store.TestPut", Outcome: state.Passed}, {Name: "store.TestSkipped", Outcome: state.Skipped}}
	if res.Entry.Outcome != state.Passed || !reflect.DeepEqual(res.Entry.Checks, wantChecks) {
		t.Errorf("%s with checks %v", res.Entry.Outcome, res.Entry.Checks)
	}
	if res.Evidence.Summary != "2 of 3 tests passed, 1 skipped" {
		t.Errorf("summary %q", res.Evidence.Summary)
	}
	facts := res.Evidence.Facts
	for name, want := range map[string]string{
		"isolation.level": "none", "isolation.why": "a test asked for no isolation", "enforced.wall": "as asked (deadline)", "cache.std": "warm", "test.seed": "42",
	} {
		if facts[name] != want {
			t.Errorf("fact %s is %q, want %q", name, facts[name], want)
		}
	}
	for _, name := range []string{"build.seconds", "test.seconds", "vet.status", "tool.go", "test.store.TestPut.seconds"} {
		if facts[name] == "" {
			t.Errorf("no fact %s in %v", name, facts)
		}
	}
	if !strings.Contains(l.artifact(t, res.Evidence, cleanroom.ArtifactJUnit), `name="TestPut"`) ||
		!strings.Contains(l.artifact(t, res.Evidence, cleanroom.ArtifactResults), `"store.TestPut"`) ||
		!strings.Contains(l.artifact(t, res.Evidence, cleanroom.ArtifactLog), "$ go test -trimpath") {
		t.Error("a report lacks the tests")
	}
	if slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "SECRET=") }) {
		t.Error("the host's environment is seen inside")
	}
	checkImage(t, l, &res.Entry)
}

// checkImage unpacks the image, checks its configuration and runs its program.
func checkImage(t *testing.T, l *lab, entry *state.Entry) {
	t.Helper()
	dir := t.TempDir()
	cfg, err := oci.Client{}.Unpack(t.Context(), l.blobs, entry, dir)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.User != "65532:65532" || !reflect.DeepEqual(cfg.Entrypoint, []string{"/shop"}) || !reflect.DeepEqual(cfg.Ports, []string{"8080/tcp"}) ||
		!reflect.DeepEqual(cfg.Labels, map[string]string{"org.opencontainers.image.title": "shop"}) {
		t.Errorf("configuration %+v", cfg)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("the image holds %v (%v)", files, err)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "shop")).CombinedOutput()
	if err != nil || string(out) != "2\n" {
		t.Errorf("the program says %q (%v)", out, err)
	}
	layer, ok := entry.Artifact(state.ArtifactImageLayer(0))
	if !ok {
		t.Fatal("no layer")
	}
	b, err := state.ReadBlob(t.Context(), l.blobs, layer)
	if err != nil {
		t.Fatal(err)
	}
	gz, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	header, err := tar.NewReader(gz).Next()
	if err != nil || header.Mode != 0o755 || header.Uid != 0 || header.ModTime.Unix() != 0 {
		t.Errorf("layer begins with %+v (%v)", header, err)
	}
}

// The same tree must give the same claim, whatever directory it is built in.
func TestRunIsReproducible(t *testing.T) {
	t.Parallel()
	var claims []string
	for range 2 {
		l := newLab(t)
		res, err := l.run(t, shop)
		if err != nil {
			t.Fatal(err)
		}
		res.Entry.Normalize()
		b, err := res.Entry.Claim()
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, string(b))
		if host, err := os.Hostname(); err == nil && strings.Contains(string(b), host) || strings.Contains(string(b), l.temp) {
			t.Errorf("the claim names this machine: %s", b)
		}
	}
	if claims[0] != claims[1] {
		t.Errorf("two runs claim\n%s\n%s", claims[0], claims[1])
	}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		changes map[string]string
		limits  sandbox.Limits
		summary string
		rule    string
		where   string
		message []string
	}{
		"failing test": {
			changes: map[string]string{"store/put.go": "package store\n\nfunc Put(n int) int { return n + 2 }\n"},
			summary: "1 of 3 tests failed", rule: cleanroom.RuleTest, where: "store/put_test.go:7",
			message: []string{"store.TestPut", "Put(1) = 3, want 2", "store/put_test.go:7"},
		},
		"panic": {
			changes: map[string]string{"store/put.go": "package store\n\nfunc Put(n int) int { var p *int; return n + *p }\n"},
			summary: "1 of 3 tests failed", rule: cleanroom.RuleTest, where: "store/put.go:3",
			message: []string{"store.TestPut", "nil pointer"},
		},
		"compile error": {
			changes: map[string]string{"main.go": "package main\n\nfunc main() { undefined() }\n"},
			summary: "does not build", rule: cleanroom.RuleBuild, where: "main.go:3:15",
			message: []string{"undefined: undefined", "main.go:3:15"},
		},
		"test does not compile": {
			changes: map[string]string{"store/put_test.go": "package store\n\nimport \"testing\"\n\nfunc TestPut(t *testing.T) { nothing() }\n"},
			summary: "test run failed", rule: cleanroom.RuleTest, where: "store/put_test.go:5:30",
			message: []string{"the tests of package store do not compile", "undefined: nothing"},
		},
		"exit in TestMain": {
			changes: map[string]string{"store/put_test.go": "package store\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestMain(m *testing.M) { os.Exit(3) }\n"},
			summary: "test run failed", rule: cleanroom.RuleTest, message: []string{"package store failed outside of its tests"},
		},
		"vet": {
			changes: map[string]string{"store/put.go": "package store\n\nimport \"fmt\"\n\nfunc Put(n int) int { fmt.Printf(\"%d\\n\", \"x\"); return n + 1 }\n"},
			summary: "go vet has remarks", rule: cleanroom.RuleVet, where: "store/put.go:5",
			message: []string{"Printf format %d has arg"},
		},
		"hanging test": {
			changes: map[string]string{"store/put.go": "package store\n\nfunc Put(n int) int { select {} }\n"},
			limits:  sandbox.Limits{Wall: 20 * time.Second}, // on a busy machine the build takes most of it
			summary: "1 of 3 tests failed", rule: cleanroom.RuleTest, where: "store/put.go:3",
			message: []string{"test store.TestPut did not end", "panic: test timed out"},
		},
		"newer Go": {
			changes: map[string]string{"go.mod": "module example.com/shop\n\ngo 1.99\n"},
			summary: "does not build", rule: cleanroom.RuleBuild, message: []string{"go.mod requires go >= 1.99"},
		},
		"missing dependency": {
			changes: map[string]string{"main.go": "package main\n\nimport _ \"example.org/absent\"\n\nfunc main() {}\n"},
			summary: "does not build", rule: cleanroom.RuleBuild, where: "main.go:3:8", message: []string{"no required module provides package example.org/absent"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "hanging test" && testing.Short() {
				t.Skip("waits for a deadline")
			}
			l := newLab(t)
			l.step.Limits = c.limits
			files := with(c.changes)
			// vet's remarks are kept in the build cache, which these tests share with
			// the host, with the paths they were made for: the comment makes them new.
			files["store/put.go"] += "\n// " + l.temp + "\n"
			res, err := l.run(t, files)
			if fault.KindOf(err) != fault.Finding {
				t.Fatalf("error %v of kind %s", err, fault.KindOf(err))
			}
			res.Entry.Normalize()
			if err := res.Entry.Check(); err != nil {
				t.Error(err)
			}
			if res.Entry.Outcome != state.Failed || len(res.Entry.Artifacts) > 0 || res.Entry.Cleanroom.Image != "" {
				t.Errorf("a failed run claims %+v", res.Entry)
			}
			if res.Evidence.Summary != c.summary {
				t.Errorf("summary %q, want %q", res.Evidence.Summary, c.summary)
			}
			if len(res.Evidence.Findings) == 0 {
				t.Fatal("no findings")
			}
			f := res.Evidence.Findings[0]
			if f.Rule != c.rule || f.Where.String() != c.where && !strings.HasPrefix(f.Where.String(), c.where+":") || f.Fix == "" || f.Reproduce == "" {
				t.Errorf("finding %+v, want rule %s at %s", f, c.rule, c.where)
			}
			for _, text := range c.message {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error lacks %q:\n%v", text, err)
				}
			}
			l.artifact(t, res.Evidence, cleanroom.ArtifactJUnit)
			if strings.Contains(err.Error(), l.temp) || strings.Contains(fmt.Sprint(res.Evidence.Findings), l.temp) {
				t.Errorf("error names a temporary directory: %v", err)
			}
		})
	}
}

func TestRunWallLimit(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Limits = sandbox.Limits{Wall: time.Millisecond}
	res, err := l.run(t, shop)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "ran longer than its limit") || res.Evidence.Findings[0].Rule != cleanroom.RuleLimit {
		t.Errorf("got %v with %+v", err, res.Evidence.Findings)
	}
}

// A module without a main package is tested like any other, and its image is the tree;
// with several of them some tests can still run, since no image is made.
func TestRunLibrary(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Package.Port = 0
	res, err := l.run(t, map[string]string{
		"go.mod": "module example.com/sum\n\ngo 1.21\n", "sum.go": "package sum\n\nfunc Sum(a, b int) int { return a + b }\n",
		"sum_test.go": "package sum\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif Sum(1, 2) != 3 {\n\t\tt.Fail()\n\t}\n}\n",
	})
	if err != nil || len(res.Entry.Checks) != 1 || res.Entry.Cleanroom.Image == "" || res.Evidence.Facts["package.note"] == "" {
		t.Fatalf("%v: %+v, %v", err, res.Entry, res.Evidence.Facts)
	}
	dir := t.TempDir()
	if _, err := (oci.Client{}).Unpack(t.Context(), l.blobs, &res.Entry, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "app", "sum.go")); err != nil {
		t.Error(err)
	}

	l = newLab(t)
	l.step.Tests.Files = []string{"a"}
	const test = "package main\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {}\n"
	res, err = l.run(t, map[string]string{
		"go.mod": "module example.com/two\n\ngo 1.21\n", "cmd/x/main.go": "package main\n\nfunc main() {}\n", "cmd/y/main.go": "package main\n\nfunc main() {}\n",
		"a/a_test.go": strings.Replace(test, "main", "a", 1),
	})
	if err != nil || len(res.Entry.Checks) != 1 || res.Entry.Cleanroom.Image != "" {
		t.Errorf("%v: %+v", err, res.Entry)
	}
}

func TestRunWithoutTests(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	res, err := l.run(t, with(map[string]string{"main_test.go": "", "store/put_test.go": ""}))
	if err != nil {
		t.Fatal(err)
	}
	if res.Evidence.Summary != "0 of 0 tests passed" || len(res.Evidence.Findings) != 1 || res.Evidence.Findings[0].Severity.Gates() {
		t.Errorf("summary %q, findings %v", res.Evidence.Summary, res.Evidence.Findings)
	}
}

// The limit of time is one for all commands: what the first took the next lacks.
func TestRunSharesTheTime(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Limits.Wall = 2 * time.Minute
	var walls []time.Duration
	l.back.Started = func(spec sandbox.ContainerSpec) { walls = append(walls, spec.Limits.Wall) }
	if _, err := l.run(t, shop); err != nil {
		t.Fatal(err)
	}
	if len(walls) != 3 || walls[0] > 2*time.Minute || walls[1] >= walls[0] || walls[2] >= walls[1] {
		t.Errorf("limits %v", walls)
	}
}

func TestRunStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	l.back.Started = func(spec sandbox.ContainerSpec) {
		if spec.Name == "test" {
			cancel()
		}
	}
	_, err := l.step.Run(ctx, l.state(t, shop), l.blobs)
	if fault.KindOf(err) != fault.Interrupted && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	l.back.Open.Wait()
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(l *lab, s state.State) state.State
		kind  fault.Kind
		want  string
	}{
		"no tree":     {func(*lab, state.State) state.State { return nil }, fault.Usage, "no generate entry"},
		"failed tree": {func(_ *lab, s state.State) state.State { s[0].Entry.Outcome = state.Failed; return s }, fault.Finding, "did not pass"},
		"no artifact": {func(_ *lab, s state.State) state.State { s[0].Entry.Artifacts = nil; return s }, fault.Finding, "no artifact"},
		"changed tree": {func(_ *lab, s state.State) state.State {
			s[0].Entry.Artifacts[0].Digest = state.DigestOf([]byte("other"))
			return s
		}, fault.Unavailable, `"tree"`},
		"image name":     {func(l *lab, s state.State) state.State { l.step.Package.Name = "../x"; return s }, fault.Usage, "name of the image"},
		"image port":     {func(l *lab, s state.State) state.State { l.step.Package.Port = 70000; return s }, fault.Usage, "port of the image"},
		"image user":     {func(l *lab, s state.State) state.State { l.step.Package.User = "root"; return s }, fault.Usage, "user of the image"},
		"package":        {func(l *lab, s state.State) state.State { l.step.Package.Main = "../x"; return s }, fault.Usage, "main package"},
		"weaker backend": {func(l *lab, s state.State) state.State { l.step.MinIsolation = sandbox.Full; return s }, fault.Internal, "gave isolation none where full"},
		"no limit":       {ignores("memory", "memory.max max"), fault.Unavailable, "memory is not limited where 2147483648 was asked for"},
		"higher":         {ignores("pids", "pids.max 4194304"), fault.Unavailable, "pids of 4194304 is in force"},
		"all of it":      {ignores("cpu", "1000 processors for each container"), fault.Unavailable, "cpu of 1000 is in force"},
		"no toolchain": {func(l *lab, s state.State) state.State {
			l.step.Toolchain = func(context.Context, cleanroom.Kind) (cleanroom.Toolchain, error) {
				return cleanroom.Toolchain{}, fault.New(fault.Unavailable, "", "no Go here")
			}
			return s
		}, fault.Unavailable, "no Go here"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			in := c.spoil(l, l.state(t, shop))
			res, err := l.step.Run(t.Context(), in, l.blobs)
			if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v of kind %s, want %s with %q", err, fault.KindOf(err), c.kind, c.want)
			}
			if res.Entry.Phase != "" {
				t.Errorf("a run that could not begin claims %+v", res.Entry)
			}
			l.back.Open.Wait()
			if left, _ := os.ReadDir(l.temp); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// ignores gives a back end whose environments have a limit that is not the one asked for.
func ignores(limit, inForce string) func(*lab, state.State) state.State {
	return func(l *lab, s state.State) state.State {
		l.step.Policy = &cleanroom.Policy{}
		l.step.Backend = ignoring{l.back, sandbox.Enforcement{Name: limit, Value: inForce, By: "the engine"}}
		return s
	}
}

type ignoring struct {
	*sandboxtest.Direct
	limit sandbox.Enforcement
}

func (b ignoring) Create(ctx context.Context, spec sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	e, err := b.Direct.Create(ctx, spec)
	return ignored{e, b.limit}, err
}

type ignored struct {
	sandbox.Environment
	limit sandbox.Enforcement
}

func (e ignored) Effective() sandbox.Effective {
	effective := e.Environment.Effective()
	effective.Enforced = append(effective.Enforced, e.limit)
	return effective
}

// A machine on which the clean room cannot be had says so before anything that
// takes long.
func TestRefusalComesFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Backend = refusing{l.back}
	l.step.Toolchain = func(context.Context, cleanroom.Kind) (cleanroom.Toolchain, error) {
		tool, err := hostToolchain()
		tool.Library = func(context.Context, []string, []string) (string, bool, error) {
			t.Error("the standard library was asked for")
			return "", false, errors.New("not here")
		}
		return tool, err
	}
	if _, err := l.step.Run(t.Context(), l.state(t, shop), l.blobs); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "the kernel refuses") {
		t.Errorf("got %v", err)
	}
}

type refusing struct{ sandbox.Backend }

func (refusing) Create(context.Context, sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	return nil, fault.New(fault.Unavailable, "", "the kernel refuses")
}

// The working directory of a run that was killed goes with its environment, of
// whichever phase it was; nothing else does.
func TestCollectsWorkingDirectories(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Backend = collecting{l.back, []string{"cleanroom-1", "validate-2", "exec-3", "cleanroom-../../keep"}}
	for _, dir := range []string{"cleanroom-1/src", "validate-2/src", "exec-3", "cleanroom-4"} {
		if err := os.MkdirAll(filepath.Join(l.temp, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.step.Run(t.Context(), l.state(t, shop), l.blobs); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(l.temp)
	if err != nil || len(left) != 2 || left[0].Name() != "cleanroom-4" || left[1].Name() != "exec-3" {
		t.Errorf("left: %v (%v)", left, err)
	}
}

type collecting struct {
	sandbox.Backend
	removed []string
}

func (c collecting) GC(context.Context) ([]string, error) { return c.removed, nil }

// A library that cannot be had leaves no environment.
func TestNoLibrary(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.step.Toolchain = func(context.Context, cleanroom.Kind) (cleanroom.Toolchain, error) {
		tool, err := hostToolchain()
		tool.Library = func(context.Context, []string, []string) (string, bool, error) {
			return "", false, fault.New(fault.Unavailable, "", "no library")
		}
		return tool, err
	}
	if _, err := l.run(t, shop); err == nil || !strings.Contains(err.Error(), "no library") {
		t.Errorf("got %v", err)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	base, err := l.step.Key(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*cleanroom.Step){
		"isolation": func(s *cleanroom.Step) { s.MinIsolation = sandbox.Full },
		"limits":    func(s *cleanroom.Step) { s.Limits.Memory = 1 << 20 },
		"image":     func(s *cleanroom.Step) { s.Package.Port = 1 },
		"toolchain": func(s *cleanroom.Step) {
			s.Toolchain = func(context.Context, cleanroom.Kind) (cleanroom.Toolchain, error) {
				return cleanroom.Toolchain{Version: "go0"}, nil
			}
		},
	} {
		s := l.step
		change(&s)
		key, err := s.Key(t.Context(), nil)
		if err != nil || reflect.DeepEqual(key, base) {
			t.Errorf("%s does not change the key %v (%v)", name, key, err)
		}
	}
	if strings.Contains(fmt.Sprint(base), l.temp) {
		t.Errorf("the key names a temporary directory: %v", base)
	}
}
