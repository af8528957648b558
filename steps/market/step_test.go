package market_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/registry"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/market"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// blobs keeps artifacts in memory.
type blobs struct {
	mu   sync.Mutex
	data map[state.Digest][]byte
}

type blob struct {
	bytes.Buffer
	to        *blobs
	mediaType string
}

func (b *blobs) Open(_ context.Context, a state.Artifact) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return io.NopCloser(bytes.NewReader(b.data[a.Digest])), nil
}

func (b *blobs) Create(_ context.Context, mediaType string) (state.BlobWriter, error) {
	return &blob{to: b, mediaType: mediaType}, nil
}

func (w *blob) Close() error { return nil }

func (w *blob) Commit(name string) (state.Artifact, error) {
	w.to.mu.Lock()
	defer w.to.mu.Unlock()
	if w.to.data == nil {
		w.to.data = map[state.Digest][]byte{}
	}
	a := state.Artifact{Name: name, MediaType: w.mediaType, Digest: state.DigestOf(w.Bytes()), Size: int64(w.Len())}
	w.to.data[a.Digest] = w.Bytes()
	return a, nil
}

// place is a registry on disk with a project that uses it.
type place struct {
	t                        *testing.T
	registry, store, project string
}

// service depends on base; both have a manifest.
func newPlace(t *testing.T) *place {
	t.Helper()
	dir := t.TempDir()
	p := &place{t: t, registry: filepath.Join(dir, "registry"), store: filepath.Join(dir, "installed"), project: filepath.Join(dir, "project")}
	p.write("packages/base/1.0.0/gpack.toml", "[gpack]\nid = 'base'\nversion = '1.0.0'\n")
	p.write("packages/base/1.0.0/templates/x.tera", "x")
	p.write("packages/base/1.1.0/gpack.toml", "[gpack]\nid = 'base'\nversion = '1.1.0'\n")
	p.write("packages/service/1.0.0/gpack.toml", "[gpack]\nid = 'service'\nversion = '1.0.0'\n[dependencies]\nbase = '^1.0'\n")
	p.write("packages/service/1.0.0/templates/main.tmpl", "---\nto: main.go\n---\nbody\n")
	p.write("index.json", `{"version":"1.0","packages":[
		{"id":"base","version":"1.1.0","versions":{"1.0.0":{"path":"packages/base/1.0.0"},"1.1.0":{"path":"packages/base/1.1.0"}}},
		{"id":"service","version":"1.0.0","versions":{"1.0.0":{"path":"packages/service/1.0.0","dependencies":{"base":"^1.0"}}}}]}`)
	p.sums()
	if err := os.MkdirAll(p.project, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) write(name, text string) {
	p.t.Helper()
	file := filepath.Join(p.registry, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) sums() {
	p.t.Helper()
	if _, err := registry.WriteSums(p.registry, market.Sum); err != nil {
		p.t.Fatal(err)
	}
}

// change replaces text in the index.
func (p *place) change(from, to string) {
	p.t.Helper()
	name := filepath.Join(p.registry, "index.json")
	b, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(b), from) {
		p.t.Fatalf("no %q in the index: %v", from, err)
	}
	p.write("index.json", strings.ReplaceAll(string(b), from, to))
}

func (p *place) step(specs ...string) *market.Step {
	p.t.Helper()
	return p.stepAt(p.registry, specs...)
}

func (p *place) stepAt(location string, specs ...string) *market.Step {
	p.t.Helper()
	r, err := registry.Open(location, registry.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	s := &market.Step{Registry: r, Store: registry.NewStore(p.store), Lock: registry.LockFile(filepath.Join(p.project, market.LockName))}
	for _, spec := range specs {
		q, err := market.ParseRequest(spec)
		if err != nil {
			p.t.Fatal(err)
		}
		s.Requests = append(s.Requests, q)
	}
	return s
}

func (p *place) lock() string {
	b, err := os.ReadFile(filepath.Join(p.project, market.LockName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(b)
}

// digest completes an entry as the pipeline does and returns its digest.
func digest(t *testing.T, r state.Result) state.Digest {
	t.Helper()
	e := r.Entry
	e.Tool = state.Tool{Name: "market", Version: "test"}
	e.Normalize()
	d, err := e.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRun(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.step("service@^1.0")
	if s.Phase() != phase.Market {
		t.Error(s.Phase())
	}
	if key, err := s.Key(t.Context(), nil); key != nil || err != nil {
		t.Errorf("key before there is a lock: %v, %v", key, err)
	}
	var b blobs
	first, err := s.Run(t.Context(), nil, &b)
	if err != nil {
		t.Fatal(err)
	}
	if first.Evidence.Summary != "2 packages" || first.Entry.Outcome != state.Passed || len(first.Entry.Market.Packages) != 2 {
		t.Errorf("%+v", first)
	}
	service := first.Entry.Market.Packages[1]
	if service.ID != "service" || !reflect.DeepEqual(service.Dependencies, []string{"base@1.0.0"}) {
		t.Errorf("service %+v", service)
	}
	want, err := market.Sum(os.DirFS(filepath.Join(p.registry, "packages", "service", "1.0.0")))
	if err != nil || service.Sum != want {
		t.Errorf("sum %s, want %s, %v", service.Sum, want, err)
	}
	a, ok := first.Entry.Artifact("package/service")
	if !ok || a.MediaType != state.MediaTypePackage {
		t.Fatalf("artifact %+v", a)
	}
	out := t.TempDir()
	root, err := os.OpenRoot(out)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := state.Extract(t.Context(), bytes.NewReader(b.data[a.Digest]), root, state.Limits{}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(out, "templates", "main.tmpl")); err != nil || !strings.HasSuffix(string(text), "body\n") {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(p.store, "sha256", want.Hex(), "gpack.toml")); err != nil {
		t.Error(err)
	}
	lock := p.lock()
	if !strings.Contains(lock, "id = \"service\"\nversion = \"1.0.0\"\nsha256 = \""+want.Hex()+"\"\nsource = \"packages/service/1.0.0\"\ndependencies = [\"base@1.0.0\"]\n") {
		t.Errorf("lock:\n%s", lock)
	}
	key, err := p.step("service@^1.0").Key(t.Context(), nil)
	if err != nil || !strings.Contains(key["packages"], "service@1.0.0 "+string(want)) {
		t.Errorf("key %v, %v", key, err)
	}
	second, err := p.step("service@^1.0").Run(t.Context(), nil, &b)
	if err != nil || second.Evidence.Summary != "2 packages, 2 installed before" || digest(t, first) != digest(t, second) {
		t.Errorf("second run: %q, %v", second.Evidence.Summary, err)
	}
	other := newPlace(t)
	third, err := other.step("service@^1.0").Run(t.Context(), nil, &b)
	if err != nil || digest(t, first) != digest(t, third) || other.lock() != lock {
		t.Errorf("another directory gives another claim, %v", err)
	}
}

func TestLockIsKept(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	run := func(s *market.Step) string {
		t.Helper()
		r, err := s.Run(t.Context(), nil, &blobs{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, m := range r.Entry.Market.Packages {
			out = append(out, m.ID+"@"+m.Version)
		}
		return strings.Join(out, " ")
	}
	if got := run(p.step("base@^1.1")); got != "base@1.1.0" {
		t.Error(got)
	}
	if got := run(p.step("base@^1.0")); got != "base@1.1.0" {
		t.Errorf("a wider range changed the pinned version to %s", got)
	}
	before, _ := os.Stat(filepath.Join(p.project, market.LockName))
	run(p.step("base@^1.0"))
	after, _ := os.Stat(filepath.Join(p.project, market.LockName))
	if !os.SameFile(before, after) {
		t.Error("an unchanged lock was written again")
	}
	if key, err := p.step("base@1.0.0").Key(t.Context(), nil); key != nil || err != nil {
		t.Errorf("key though the lock would change: %v, %v", key, err)
	}
	if got := run(p.step("base@1.0.0")); got != "base@1.0.0" {
		t.Error(got)
	}
	s := p.step("service@1.0.0")
	s.NoDeps = true
	if got := run(s); got != "service@1.0.0" || strings.Contains(p.lock(), "base") {
		t.Errorf("%s, lock\n%s", got, p.lock())
	}
	s = p.step("service@1.0.0")
	s.Force = true
	if key, err := s.Key(t.Context(), nil); key != nil || err != nil {
		t.Errorf("key with force: %v, %v", key, err)
	}
	if got := run(s); got != "base@1.0.0 service@1.0.0" {
		t.Error(got)
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	locked := func(specs ...string) *market.Step {
		s := p.step(specs...)
		s.Locked = true
		return s
	}
	refused := func(want string, specs ...string) {
		t.Helper()
		_, err := locked(specs...).Run(t.Context(), nil, &blobs{})
		if err == nil || fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", specs, err, want)
		}
	}
	refused("no ggen.lock to go by", "service")
	free, err := p.step("service@^1.0").Run(t.Context(), nil, &blobs{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(p.store); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(p.registry, "index.json"), filepath.Join(p.registry, "gone.json")); err != nil {
		t.Fatal(err)
	}
	bound, err := locked("service@^1.0").Run(t.Context(), nil, &blobs{})
	if err != nil || digest(t, free) != digest(t, bound) {
		t.Errorf("by the lock alone: %v", err)
	}
	if key, err := locked("service@^1.0").Key(t.Context(), nil); err != nil || key == nil {
		t.Errorf("key %v, %v", key, err)
	}
	refused("has no package other", "service", "other")
	refused("pins service 1.0.0, but the project asks for ^2.0", "service@^2.0")
	refused("pins service, which nothing asks for", "base@^1.0")
}

func TestTampered(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("packages/service/1.0.0/templates/main.tmpl", "tampered")
	p.write("packages/base/1.0.0/templates/new.tera", "added")
	r, err := p.step("service@^1.0").Run(t.Context(), nil, &blobs{})
	if err == nil || fault.KindOf(err) != fault.Finding {
		t.Fatalf("got %v", err)
	}
	base, service := strings.Index(err.Error(), "package base 1.0.0: files have digest sha256:"), strings.Index(err.Error(), "package service 1.0.0: files have digest sha256:")
	if base < 0 || service < base {
		t.Errorf("both are not named in order: %v", err)
	}
	if r.Entry.Outcome != state.Failed || len(r.Evidence.Findings) != 1 {
		t.Errorf("%+v", r)
	}
	digest(t, r)
	if p.lock() != "" {
		t.Error("a lock was written")
	}
	if entries, _ := os.ReadDir(filepath.Join(p.store, "sha256")); len(entries) != 0 {
		t.Errorf("installed: %v", entries)
	}
}

// TestOneOfTwoTampered has one good package beside a bad one: nothing is installed.
func TestOneOfTwoTampered(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.write("packages/service/1.0.0/templates/main.tmpl", "tampered")
	_, err := p.step("service@^1.0").Run(t.Context(), nil, &blobs{})
	if fault.KindOf(err) != fault.Finding || strings.Contains(err.Error(), "package base") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(p.store, "sha256")); len(entries) != 0 || p.lock() != "" {
		t.Errorf("installed: %v", entries)
	}
}

func TestChangedUnderItsVersion(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	if _, err := p.step("base@1.0.0").Run(t.Context(), nil, &blobs{}); err != nil {
		t.Fatal(err)
	}
	lock := p.lock()
	p.write("packages/base/1.0.0/templates/x.tera", "other")
	p.sums()
	_, err := p.step("base@1.0.0").Run(t.Context(), nil, &blobs{})
	if err == nil || fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "package base 1.0.0 was changed under its version") || p.lock() != lock {
		t.Errorf("got %v", err)
	}
}

func TestStoreIsVerified(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	var b blobs
	first, err := p.step("base@1.0.0").Run(t.Context(), nil, &b)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.store, "sha256", first.Entry.Market.Packages[0].Sum.Hex(), "templates", "x.tera")
	if err := os.WriteFile(file, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	second, err := p.step("base@1.0.0").Run(t.Context(), nil, &b)
	if err != nil || second.Evidence.Summary != "1 package" || digest(t, first) != digest(t, second) {
		t.Errorf("%q, %v", second.Evidence.Summary, err)
	}
	if text, _ := os.ReadFile(file); string(text) != "x" {
		t.Errorf("installed file is %q", text)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(p *place)
		ask   string
		kind  fault.Kind
		want  string
	}{
		{"unknown package", func(p *place) {}, "servce", fault.Finding, "Package 'servce' not found in registry"},
		{"no digest", func(p *place) { p.change(`"sha256"`, `"sha"`) }, "base", fault.Finding, "index has no digest for package base 1.1.0"},
		{"no location", func(p *place) { p.change(`"path"`, `"place"`) }, "base", fault.Finding, "index has no location for package base 1.1.0"},
		{"directory is missing", func(p *place) { p.change("packages/base/1.1.0", "packages/none") }, "base", fault.Finding, "which is not there"},
		{"location escapes", func(p *place) { p.change("packages/base/1.1.0", "../outside") }, "base", fault.Finding, "is not below the index"},
		{"manifest of another", func(p *place) {
			p.write("packages/base/1.1.0/gpack.toml", "[gpack]\nid = 'evil'\nversion = '1.1.0'\n")
			p.sums()
		}, "base", fault.Finding, `package base 1.1.0: its gpack.toml says "evil" "1.1.0"`},
		{"manifest with other dependencies", func(p *place) {
			p.write("packages/base/1.1.0/gpack.toml", "[gpack]\nid = 'base'\nversion = '1.1.0'\n[dependencies]\nx = '^1'\n")
			p.sums()
		}, "base", fault.Finding, "depends on [x], the index says []"},
		{"manifest is damaged", func(p *place) {
			p.write("packages/base/1.1.0/gpack.toml", "[gpack")
			p.sums()
		}, "base", fault.Finding, "package base 1.1.0: gpack.toml:1:"},
		{"index is damaged", func(p *place) { p.write("index.json", "{") }, "base", fault.Finding, "index.json:1:"},
		{"index is missing", func(p *place) { os.Remove(filepath.Join(p.registry, "index.json")) }, "base", fault.Usage, "there is no such file"},
		{"lock is damaged", func(p *place) {
			os.WriteFile(filepath.Join(p.project, "ggen.lock"), []byte("version = 1\nx = 2\n"), 0o644)
		}, "base", fault.Usage, `ggen.lock:2:1: unknown key "x"`},
		{"lock of the future", func(p *place) { os.WriteFile(filepath.Join(p.project, "ggen.lock"), []byte("version = 2\n"), 0o644) }, "base", fault.Usage, "has version 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			tt.spoil(p)
			before := p.lock()
			_, err := p.step(tt.ask).Run(t.Context(), nil, &blobs{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || fault.KindOf(err) != tt.kind {
				t.Errorf("got %s: %v, want %q", fault.KindOf(err), err, tt.want)
			}
			if p.lock() != before {
				t.Error("the lock was written")
			}
		})
	}
}

// TestOverTheWeb installs from a real server, and checks that no more than the
// allowed number of requests runs at once.
func TestOverTheWeb(t *testing.T) {
	t.Parallel()
	const packages = 12
	p := newPlace(t)
	index := `{"version":"1.0","packages":[`
	files := map[string][]byte{}
	for i := range packages {
		id := fmt.Sprintf("p%02d", i)
		fsys := fstest.MapFS{"templates/a.tmpl": {Data: []byte(id), Mode: 0o644}}
		var b bytes.Buffer
		if err := state.Pack(t.Context(), &b, fsys, nil); err != nil {
			t.Fatal(err)
		}
		files["/"+id+".tar"] = b.Bytes()
		sum, err := market.Sum(fsys)
		if err != nil {
			t.Fatal(err)
		}
		index += fmt.Sprintf(`{"id":%q,"versions":{"1.0.0":{"url":"%s.tar","sha256":%q}}},`, id, id, sum.Hex())
	}
	files["/index.json"] = []byte(strings.TrimSuffix(index, ",") + "]}")
	var now, most atomic.Int64
	gate := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".tar") {
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			if n == market.DefaultWorkers {
				close(gate) // all workers are here at once: let them go
			}
			select {
			case <-gate:
			case <-time.After(10 * time.Second):
				t.Error("fewer packages at once than allowed")
			}
			defer now.Add(-1)
		}
		w.Write(files[r.URL.Path])
	}))
	defer server.Close()
	var specs []string
	for i := range packages {
		specs = append(specs, fmt.Sprintf("p%02d", i))
	}
	s := p.stepAt(server.URL, specs...)
	if _, err := s.Run(t.Context(), nil, &blobs{}); err != nil {
		t.Fatal(err)
	}
	if most.Load() > market.DefaultWorkers {
		t.Errorf("%d requests at once", most.Load())
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.step("service").Run(ctx, nil, &blobs{})
	if fault.KindOf(err) != fault.Interrupted || p.lock() != "" {
		t.Errorf("got %v", err)
	}
}

func TestNothingAskedFor(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r, err := p.stepAt(filepath.Join(p.project, "none.json")).Run(t.Context(), nil, &blobs{})
	if err != nil || len(r.Entry.Market.Packages) != 0 || r.Evidence.Summary != "0 packages" {
		t.Errorf("%+v, %v", r, err)
	}
	digest(t, r)
}

func TestSum(t *testing.T) {
	t.Parallel()
	base := fstest.MapFS{"a": {Data: []byte("1"), Mode: 0o644}, "d/b": {Data: []byte("2"), Mode: 0o755}}
	sum := func(fsys fs.FS) state.Digest {
		t.Helper()
		d, err := market.Sum(fsys)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	// printf 1 | sha256sum, printf 2 | sha256sum
	lines := "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b  a  0644\n" +
		"d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35  d/b  0755\n"
	if got := sum(base); got != state.DigestOf([]byte(lines)) {
		t.Errorf("got %s", got)
	}
	same := fstest.MapFS{"a": {Data: []byte("1"), Mode: 0o600, ModTime: time.Unix(5, 0)}, "d/b": {Data: []byte("2"), Mode: 0o700}, ".git/x": {Data: []byte("3")}, "d/.git": {Data: []byte("3")}}
	if sum(same) != sum(base) {
		t.Error("times, owners or .git count")
	}
	for name, other := range map[string]fstest.MapFS{
		"content": {"a": {Data: []byte("9"), Mode: 0o644}, "d/b": base["d/b"]}, "name": {"c": base["a"], "d/b": base["d/b"]},
		"mode": {"a": {Data: []byte("1"), Mode: 0o755}, "d/b": base["d/b"]}, "more": {"a": base["a"], "d/b": base["d/b"], "e": {}},
	} {
		if sum(other) == sum(base) {
			t.Errorf("%s does not count", name)
		}
	}
	for name, bad := range map[string]fstest.MapFS{
		"case": {"a": {}, "A": {}}, "newline": {"a\nb": {}}, "link": {"l": {Mode: fs.ModeSymlink, Data: []byte("x")}},
		"size": {"big": {Data: make([]byte, market.MaxPackage+1)}},
	} {
		if _, err := market.Sum(bad); fault.KindOf(err) != fault.Finding || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	if _, err := market.Sum(os.DirFS(dir)); fault.KindOf(err) != fault.Finding || err == nil {
		t.Errorf("link on disk: %v", err)
	}
}
