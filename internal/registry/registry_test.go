package registry_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/registry"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// server is a registry on loopback whose answers a test can change.
type server struct {
	*httptest.Server
	index    atomic.Pointer[string]
	status   atomic.Int64 // other than 0: every answer
	requests atomic.Int64
	full     atomic.Int64 // answers with a body
}

func newServer(t *testing.T, files map[string][]byte) *server {
	t.Helper()
	s := &server{}
	s.index.Store(new(`{"version":"1.0","packages":[]}`))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if code := s.status.Load(); code != 0 {
			w.WriteHeader(int(code))
			return
		}
		if body, ok := files[r.URL.Path]; ok {
			w.Write(body)
			return
		}
		if r.URL.Path != "/reg/index.json" {
			http.NotFound(w, r)
			return
		}
		if r.Header.Get("Accept") != "application/json" {
			t.Errorf("Accept is %q", r.Header.Get("Accept"))
		}
		body := *s.index.Load()
		tag := `"` + state.DigestOf([]byte(body)).Short() + `"`
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		s.full.Add(1)
		io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, location string, options registry.Options) *registry.Registry {
	t.Helper()
	r, err := registry.Open(location, options)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIndexOfFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"index.json": "{}"})
	slashed := filepath.ToSlash(dir)
	for _, location := range []string{dir, filepath.Join(dir, "index.json"), "file://" + "/" + strings.TrimPrefix(slashed, "/") + "/index.json", "file:" + slashed} {
		got, err := open(t, location, registry.Options{}).Index(t.Context())
		if err != nil || string(got) != "{}" {
			t.Errorf("%s: %q, %v", location, got, err)
		}
	}
	_, err := open(t, filepath.Join(dir, "other.json"), registry.Options{}).Index(t.Context())
	if err == nil || !strings.Contains(err.Error(), "other.json: there is no such file") {
		t.Errorf("missing index: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, location := range []string{"", "ftp://x/index.json", "git+ssh://x", "http:///index.json", "file://host/x", "file:"} {
		if _, err := registry.Open(location, registry.Options{}); fault.KindOf(err) != fault.Usage || err == nil {
			t.Errorf("%q: %v", location, err)
		}
	}
}

func TestIndexOfWeb(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, location := range []string{"/reg/index.json", "/reg", "/reg/"} {
		if _, err := open(t, s.URL+location, registry.Options{}).Index(t.Context()); err != nil {
			t.Errorf("%s: %v", location, err)
		}
	}
	r := open(t, s.URL+"/reg/", registry.Options{})
	before := s.requests.Load()
	for range 3 {
		if _, err := r.Index(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.requests.Load() - before; got != 1 {
		t.Errorf("%d requests for one index", got)
	}
	_, err := open(t, strings.Replace(s.URL, "://", "://me:secret@", 1)+"/none.json", registry.Options{}).Index(t.Context())
	if err == nil || !strings.Contains(err.Error(), "none.json: status 404 Not Found") || fault.KindOf(err) != fault.Finding {
		t.Errorf("404: %v", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("password in %q", err)
	}
	s.Close()
	_, err = open(t, strings.Replace(s.URL, "://", "://me:secret@", 1)+"/reg/", registry.Options{}).Index(t.Context())
	if fault.KindOf(err) != fault.Unavailable || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "/reg/index.json") {
		t.Errorf("no server: %v", err)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	dir := filepath.Join(t.TempDir(), "cache")
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var notices []string
	index := func(offline bool) (string, error) {
		r := open(t, s.URL+"/reg/index.json", registry.Options{
			CacheDir: dir, TTL: time.Hour, Offline: offline, Now: func() time.Time { return now }, Notice: func(m string) { notices = append(notices, m) },
		})
		data, err := r.Index(t.Context())
		return string(data), err
	}
	expect := func(what, want string, requests, full int64, wantNotices int) {
		t.Helper()
		before, fullBefore := s.requests.Load(), s.full.Load()
		notices = nil
		got, err := index(false)
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		if n, f := s.requests.Load()-before, s.full.Load()-fullBefore; n != requests || f != full {
			t.Errorf("%s: %d requests, %d bodies, want %d, %d", what, n, f, requests, full)
		}
		if len(notices) != wantNotices {
			t.Errorf("%s: notices %q", what, notices)
		}
	}
	if _, err := index(true); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("offline without a cache: %v", err)
	}
	first, second := *s.index.Load(), `{"packages":[],"x":2}`
	expect("first", first, 1, 1, 0)
	s.index.Store(&second)
	expect("within TTL", first, 0, 0, 0)
	now = now.Add(2 * time.Hour)
	s.index.Store(&first)
	expect("revalidated", first, 1, 0, 0)
	expect("within the new TTL", first, 0, 0, 0)
	now = now.Add(2 * time.Hour)
	s.index.Store(&second)
	expect("changed", second, 1, 1, 0)
	now = now.Add(2 * time.Hour)
	s.status.Store(503)
	expect("stale if error", second, 1, 0, 1)
	if len(notices) == 1 && !strings.Contains(notices[0], "using the index of 2026-01-02T07:04:05Z, since GET ") {
		t.Errorf("notice %q", notices[0])
	}
	s.status.Store(404)
	if _, err := index(false); err == nil || fault.KindOf(err) != fault.Finding {
		t.Errorf("404 with a cache: %v", err)
	}
	s.status.Store(0)
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-2 * time.Hour)
	expect("damaged cache", second, 1, 1, 0)
	now = now.Add(-24 * time.Hour)
	expect("clock went back", second, 1, 0, 0)
	text, err := os.ReadFile(filepath.Join(dir, "last_update.txt"))
	if err != nil || string(text) != now.Format(time.RFC3339)+"\n" {
		t.Errorf("last_update.txt: %q, %v", text, err)
	}
	if got, err := index(true); err != nil || got != second {
		t.Errorf("offline: %q, %v", got, err)
	}
	other := newServer(t, nil)
	r := open(t, other.URL+"/reg/index.json", registry.Options{CacheDir: dir, TTL: 1000 * time.Hour, Now: func() time.Time { return now }})
	if got, err := r.Index(t.Context()); err != nil || string(got) != first {
		t.Errorf("cache of another registry was used: %q, %v", got, err)
	}
	if err := r.Keep("a.b", []byte("{}")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "packages", "a.b", "metadata.json")); err != nil {
		t.Error(err)
	}
	if err := r.Keep("../x", nil); err == nil {
		t.Error("metadata was written outside the cache")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// names lists the files of a tar with their content.
func names(t *testing.T, b []byte) []string {
	t.Helper()
	var out []string
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r)
		out = append(out, fmt.Sprintf("%s %o %s", h.Name, h.Mode, data))
	}
}

type entry struct {
	name, content string
	kind          byte
	mode          int64
}

func archive(t *testing.T, zipped bool, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	var out io.Writer = &b
	var z *gzip.Writer
	if zipped {
		z = gzip.NewWriter(&b)
		out = z
	}
	w := tar.NewWriter(out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.content)), ModTime: time.Unix(1e9, 0), Uname: "someone"}
		if e.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if e.kind == tar.TypeSymlink || e.kind == tar.TypeLink {
			h.Linkname, h.Size = "/etc/passwd", 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, e.content)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if z != nil {
		z.Close()
	}
	return b.Bytes()
}

func TestFetchIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	entries := []entry{{name: "./templates/z.tmpl", content: "z", mode: 0o600}, {name: "a", content: "A", mode: 0o644}, {name: "templates/a.tmpl", content: "a"}, {name: ".git/config", content: "no"}}
	plain, zipped := archive(t, false, entries...), archive(t, true, entries...)
	s := newServer(t, map[string][]byte{"/reg/p/x.tar": plain, "/reg/p/x.tar.gz": zipped})
	dir := t.TempDir()
	write(t, dir, map[string]string{"index.json": "{}", "packages/x/1.0.0/a": "A", "packages/x/1.0.0/templates/a.tmpl": "a", "packages/x/1.0.0/templates/z.tmpl": "z", "packages/x/1.0.0/.git/HEAD": "no", "x.tgz": string(zipped)})
	file, web := open(t, dir, registry.Options{}), open(t, s.URL+"/reg/", registry.Options{})
	want, err := file.Fetch(t.Context(), "packages/x/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, want); !slices.Equal(got, []string{"a 644 A", "templates/ 755 ", "templates/a.tmpl 644 a", "templates/z.tmpl 644 z"}) {
		t.Errorf("files %q", got)
	}
	for name, fetch := range map[string]func() ([]byte, error){
		"archive on disk": func() ([]byte, error) { return file.Fetch(t.Context(), "x.tgz") },
		"tar by path":     func() ([]byte, error) { return web.Fetch(t.Context(), "p/x.tar") },
		"tar.gz by path":  func() ([]byte, error) { return web.Fetch(t.Context(), "p/x.tar.gz") },
		"by URL":          func() ([]byte, error) { return file.Fetch(t.Context(), s.URL+"/reg/p/x.tar.gz") },
	} {
		got, err := fetch()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: differs, %v", name, err)
		}
	}
}

func TestFetchRefuses(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	w := tar.NewWriter(z)
	const huge = registry.MaxArchive + 1
	w.WriteHeader(&tar.Header{Name: "zeros", Size: huge, Typeflag: tar.TypeReg})
	io.CopyN(w, zeros{}, huge)
	w.Close()
	z.Close()
	files := map[string][]byte{
		"/reg/up.tar":       archive(t, false, entry{name: "../x", content: "x"}),
		"/reg/abs.tar":      archive(t, false, entry{name: "/etc/x", content: "x"}),
		"/reg/back.tar":     archive(t, false, entry{name: `a\b`, content: "x"}),
		"/reg/link.tar":     archive(t, false, entry{name: "l", kind: tar.TypeSymlink}),
		"/reg/hard.tar":     archive(t, false, entry{name: "l", kind: tar.TypeLink}),
		"/reg/device.tar":   archive(t, false, entry{name: "d", kind: tar.TypeChar}),
		"/reg/twice.tar":    archive(t, false, entry{name: "a", content: "1"}, entry{name: "a", content: "2"}),
		"/reg/both.tar":     archive(t, false, entry{name: "a", content: "1"}, entry{name: "a/b", content: "2"}),
		"/reg/cut.tar":      archive(t, false, entry{name: "a", content: strings.Repeat("x", 600)})[:700],
		"/reg/noise.tar":    []byte(strings.Repeat("noise", 400)),
		"/reg/cut.tar.gz":   archive(t, true, entry{name: "a", content: "x"})[:20],
		"/reg/bomb.tar.gz":  bomb.Bytes(),
		"/reg/page.html":    []byte("<html>"),
		"/reg/deep.tar":     archive(t, false, entry{name: strings.Repeat("d/", 80) + "x", content: "x"}),
		"/reg/entries.tar":  manyEntries(t),
		"/reg/newline.tar":  archive(t, false, entry{name: "a\nb", content: "x"}),
		"/reg/git/file.tar": nil,
	}
	s := newServer(t, files)
	web := open(t, s.URL+"/reg/", registry.Options{})
	for name := range files {
		if name == "/reg/git/file.tar" {
			continue
		}
		if b, err := web.Fetch(t.Context(), strings.TrimPrefix(name, "/reg/")); fault.KindOf(err) != fault.Finding || err == nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	for _, location := range []string{"", "file:///etc/passwd", "ssh://x/y", "//other/x.tar", "c:/x", "none.tar", `a\b`} {
		if _, err := web.Fetch(t.Context(), location); fault.KindOf(err) != fault.Finding || err == nil {
			t.Errorf("%q: %v", location, err)
		}
	}
	s.status.Store(500)
	if _, err := web.Fetch(t.Context(), "up.tar"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("status 500: %v", err)
	}
	dir := t.TempDir()
	write(t, dir, map[string]string{"reg/index.json": "{}", "outside/x": "secret", "reg/ok/x": "1"})
	file := open(t, filepath.Join(dir, "reg"), registry.Options{Offline: true})
	for _, location := range []string{"../outside", "ok/../../outside", "/etc", ".", "none", filepath.Join(dir, "outside")} {
		if _, err := file.Fetch(t.Context(), location); fault.KindOf(err) != fault.Finding || err == nil {
			t.Errorf("%q: %v", location, err)
		}
	}
	if _, err := file.Fetch(t.Context(), s.URL+"/reg/up.tar"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a URL when offline: %v", err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for link, target := range map[string]string{"reg/out": "../outside", "reg/in": "ok", "reg/ok/link": "x"} {
		if err := os.Symlink(target, filepath.Join(dir, filepath.FromSlash(link))); err != nil {
			t.Fatal(err)
		}
	}
	for _, location := range []string{"out", "out/x", "in", "ok"} {
		if _, err := file.Fetch(t.Context(), location); fault.KindOf(err) != fault.Finding || err == nil {
			t.Errorf("link %q: %v", location, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func manyEntries(t *testing.T) []byte {
	entries := make([]entry, 10_001)
	for i := range entries {
		entries[i].name = fmt.Sprintf("f%d", i)
	}
	return archive(t, false, entries...)
}

func TestStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := registry.NewStore(filepath.Join(dir, "installed"))
	ctx := t.Context()
	sum := state.DigestOf([]byte("package"))
	if _, ok, err := s.Load(ctx, sum); ok || err != nil {
		t.Fatalf("empty store: %v, %v", ok, err)
	}
	source := filepath.Join(dir, "p")
	write(t, source, map[string]string{"p/a": "1", "p/t/b": "2", "index.json": "{}"})
	tarball, err := open(t, source, registry.Options{}).Fetch(ctx, "p")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Install(ctx, sum, tarball); err != nil {
			t.Fatal(err)
		}
	}
	got, ok, err := s.Load(ctx, sum)
	if !ok || err != nil || !bytes.Equal(got, tarball) {
		t.Fatalf("installed package differs: %v, %v", ok, err)
	}
	if s.Dir(sum) != filepath.Join(dir, "installed", "sha256", sum.Hex()) {
		t.Errorf("installed in %s", s.Dir(sum))
	}
	if err := s.Install(ctx, state.DigestOf(nil), archive(t, false, entry{name: "../x", content: "x"})); fault.KindOf(err) != fault.Finding {
		t.Errorf("unsafe package: %v", err)
	}
	if err := s.Install(ctx, "sha256:../../x", tarball); err == nil {
		t.Error("a sum that is a path was accepted")
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "installed", "staging")); len(left) != 0 {
		t.Errorf("staging has %v", left)
	}
	stale := filepath.Join(dir, "installed", "staging", "install-old")
	if err := os.Mkdir(stale, 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(ctx, sum, tarball); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("what a killed run left is still there")
	}
}

func TestStoreConcurrently(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tarball := archive(t, false, entry{name: "a", content: "1"})
	sum := state.DigestOf([]byte("x"))
	errs := make(chan error)
	for range 8 {
		go func() { errs <- registry.NewStore(dir).Install(context.Background(), sum, tarball) }()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if _, ok, err := registry.NewStore(dir).Load(t.Context(), sum); !ok || err != nil {
		t.Errorf("after all: %v, %v", ok, err)
	}
}

func TestLockFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := registry.LockFile(filepath.Join(dir, "ggen.lock"))
	if b, err := f.Read(); b != nil || err != nil {
		t.Errorf("missing: %q, %v", b, err)
	}
	for _, text := range []string{"one", ""} {
		if err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := f.Read(); b == nil || string(b) != text || err != nil {
			t.Errorf("%q: %q, %v", text, b, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if err := registry.LockFile(filepath.Join(dir, "none", "ggen.lock")).Write(nil); err == nil {
		t.Error("wrote into a directory that is not there")
	}
}

func TestWriteSums(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"packages/a/1.0.0/f": "1", "packages/a/2.0.0/f": "2", "index.json": `{
  "version": "1.0",
  "packages": [{"id": "a", "extra": [1, 2], "versions": {
    "1.0.0": {"path": "packages/a/1.0.0", "sha256": ""},
    "2.0.0": {
      "path": "packages/a/2.0.0"
    }
  }}]
}
`})
	sum := func(fsys fs.FS) (state.Digest, error) {
		b, err := fs.ReadFile(fsys, "f")
		return state.DigestOf(b), err
	}
	if changed, err := registry.WriteSums(dir, sum); !changed || err != nil {
		t.Fatal(changed, err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"extra": [1, 2]`, `"path": "packages/a/1.0.0", "sha256": "` + state.DigestOf([]byte("1")).Hex() + `"`, `{"sha256": "` + state.DigestOf([]byte("2")).Hex() + `", "path"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if changed, err := registry.WriteSums(dir, sum); changed || err != nil {
		t.Errorf("again: %v, %v", changed, err)
	}
}
