package state_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func entry(mutate func(*state.Entry)) *state.Entry {
	e := &state.Entry{
		Phase: phase.Generate, Outcome: state.Passed, Tool: state.Tool{Name: "generate", Version: "v1"},
		Artifacts: []state.Artifact{{Name: "tree", MediaType: state.MediaTypeTree, Digest: state.DigestOf([]byte("a")), Size: 1}},
		Generate:  &state.Generate{Templates: []string{"p:t"}, Files: 1},
	}
	e.Normalize()
	if mutate != nil {
		mutate(e)
	}
	return e
}

// TestDigestIsFixed pins the encoding: a change of this digest breaks every chain
// that was ever written.
func TestDigestIsFixed(t *testing.T) {
	t.Parallel()
	got, err := entry(nil).Digest()
	if err != nil {
		t.Fatal(err)
	}
	const want = "sha256:e69c4b45ac7cf5af7c5890d253fc340e291509900eaf6beffb0b42e1dbb028a8"
	if string(got) != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

func TestClaimRoundTrip(t *testing.T) {
	t.Parallel()
	claim, err := entry(nil).Claim()
	if err != nil {
		t.Fatal(err)
	}
	again, err := state.DecodeClaim(claim)
	if err != nil {
		t.Fatal(err)
	}
	second, err := again.Claim()
	if err != nil || !bytes.Equal(claim, second) {
		t.Fatalf("%s\n%s\n%v", claim, second, err)
	}
}

func TestClaimRefusals(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		mutate func(*state.Entry)
		want   string
	}{
		"schema of the future": {func(e *state.Entry) { e.Schema = 99 }, "schema 99"},
		"unknown phase":        {func(e *state.Entry) { e.Phase = "x" }, "unknown phase"},
		"no outcome":           {func(e *state.Entry) { e.Outcome = "" }, "outcome"},
		"other phase's field":  {func(e *state.Entry) { e.Market = &state.Market{} }, "field of phase market is set"},
		"own field missing":    {func(e *state.Entry) { e.Generate = nil }, "field of phase generate is missing"},
		"bad prev":             {func(e *state.Entry) { e.Prev = "sha256:xyz" }, "previous entry"},
		"bad digest":           {func(e *state.Entry) { e.Artifacts[0].Digest = "md5:1" }, "does not start"},
		"twice":                {func(e *state.Entry) { e.Artifacts = append(e.Artifacts, e.Artifacts[0]) }, "occurs twice"},
		"unsorted checks": {func(e *state.Entry) {
			e.Checks = []state.Check{{Name: "b", Outcome: state.Passed}, {Name: "a", Outcome: state.Passed}}
		}, "out of order"},
	}
	for name, c := range cases {
		if _, err := entry(c.mutate).Claim(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	for name, text := range map[string]string{
		"unknown field": `{"schema":1,"phase":"generate","surprise":1}`,
		"not JSON":      `{`,
		"white space":   ` {"schema":1}`,
	} {
		if _, err := state.DecodeClaim([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestVerifyFindsEveryChange(t *testing.T) {
	t.Parallel()
	build := func() state.State {
		var s state.State
		for range 3 {
			e := entry(func(e *state.Entry) { e.Prev = s.Head() })
			d, err := e.Digest()
			if err != nil {
				t.Fatal(err)
			}
			s = append(s, state.Link{Digest: d, Entry: *e})
		}
		return s
	}
	if err := build().Verify(); err != nil {
		t.Fatalf("untouched chain: %v", err)
	}
	for name, change := range map[string]func(state.State){
		"content":  func(s state.State) { s[1].Entry.Generate.Files++ },
		"order":    func(s state.State) { s[1], s[2] = s[2], s[1] },
		"digest":   func(s state.State) { s[2].Digest = state.DigestOf(nil) },
		"previous": func(s state.State) { s[2].Entry.Prev = s[0].Digest },
	} {
		s := build()
		change(s)
		if err := s.Verify(); err == nil {
			t.Errorf("%s: not found", name)
		}
	}
	if err := build()[1:].Verify(); err == nil {
		t.Error("a missing first entry: not found")
	}
}

func TestParseDigest(t *testing.T) {
	t.Parallel()
	good := string(state.DigestOf([]byte("x")))
	if _, err := state.ParseDigest(good); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "sha256:", good[:70], good + "0", strings.ToUpper(good), "sha512" + good[6:], strings.Replace(good, "a", "/", 1)} {
		if _, err := state.ParseDigest(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestParseRef(t *testing.T) {
	t.Parallel()
	d := string(state.DigestOf([]byte("x")))
	ref, err := state.ParseRef("layout:/a@b/c@" + d)
	if err != nil || ref.Store != "layout:/a@b/c" || string(ref.Head) != d || ref.String() != "layout:/a@b/c@"+d {
		t.Errorf("%+v %v", ref, err)
	}
	for _, bad := range []string{"", "x", "@" + d, "layout:/x", "layout:/x@sha256:12", strings.Repeat("x", 5000) + "@" + d} {
		if _, err := state.ParseRef(bad); fault.KindOf(err) != fault.Usage {
			t.Errorf("%.30q: %v", bad, err)
		}
	}
}

func TestPackIsReproducible(t *testing.T) {
	t.Parallel()
	dirs := [2]string{t.TempDir(), t.TempDir()}
	order := [2][]string{{"b/x.go", "a.txt", "b-c", "run.sh"}, {"run.sh", "b-c", "a.txt", "b/x.go"}}
	var packed [2][]byte
	for i, dir := range dirs {
		for _, name := range order[i] {
			mode := fs.FileMode(0o600)
			if name == "run.sh" {
				mode = 0o750
			}
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("content of "+name), mode); err != nil {
				t.Fatal(err)
			}
		}
		var buf bytes.Buffer
		if err := state.Pack(t.Context(), &buf, os.DirFS(dir), nil); err != nil {
			t.Fatal(err)
		}
		packed[i] = buf.Bytes()
	}
	if !bytes.Equal(packed[0], packed[1]) {
		t.Error("equal trees pack to different bytes")
	}

	out := t.TempDir()
	extract(t, packed[0], out)
	if b, err := os.ReadFile(filepath.Join(out, "b", "x.go")); err != nil || string(b) != "content of b/x.go" {
		t.Errorf("%q %v", b, err)
	}
	if info, err := os.Stat(filepath.Join(out, "run.sh")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v %v", info, err)
	}
}

func extract(t *testing.T, b []byte, dir string) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := state.Extract(t.Context(), bytes.NewReader(b), root, state.Limits{}); err != nil {
		t.Fatal(err)
	}
}

func TestPackRefusesLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	err := state.Pack(t.Context(), &bytes.Buffer{}, os.DirFS(dir), nil)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "link") {
		t.Errorf("%v", err)
	}
}

// A writer that is full is not a tree that changes, and one that changes is said to.
func TestPackTellsWhoseFaultItIs(t *testing.T) {
	t.Parallel()
	tree := fstest.MapFS{"a": {Data: bytes.Repeat([]byte("x"), 4096)}}
	full := errors.New("the disk is full")
	if err := state.Pack(t.Context(), failing{full}, tree, nil); !errors.Is(err, full) || strings.Contains(err.Error(), "shorter") {
		t.Errorf("full writer: %v", err)
	}
	err := state.Pack(t.Context(), io.Discard, shrinking{tree}, nil)
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "pack a: file became shorter") {
		t.Errorf("shrinking file: %v", err)
	}
}

type failing struct{ err error }

func (w failing) Write([]byte) (int, error) { return 0, w.err }

// shrinking is a file system whose files have lost their second half when opened.
type shrinking struct{ fstest.MapFS }

func (s shrinking) Open(name string) (fs.File, error) {
	f := s.MapFS[name]
	if f == nil {
		return s.MapFS.Open(name)
	}
	return fstest.MapFS{name: {Data: f.Data[:len(f.Data)/2]}}.Open(name)
}

func TestExtractRefusals(t *testing.T) {
	t.Parallel()
	file := func(name, content string) tarEntry {
		return tarEntry{tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(content))}, content}
	}
	cases := map[string]struct {
		entries []tarEntry
		limits  state.Limits
		want    string
	}{
		"parent":        {[]tarEntry{file("../x", "")}, state.Limits{}, "unsafe path"},
		"inner parent":  {[]tarEntry{file("a/../../x", "")}, state.Limits{}, "unsafe path"},
		"absolute":      {[]tarEntry{file("/etc/x", "")}, state.Limits{}, "unsafe path"},
		"backslash":     {[]tarEntry{file(`a\..\x`, "")}, state.Limits{}, "unsafe path"},
		"dot":           {[]tarEntry{file(".", "")}, state.Limits{}, "unsafe path"},
		"long":          {[]tarEntry{file(strings.Repeat("a/", 1000)+"x", "")}, state.Limits{}, "unsafe path"},
		"symlink":       {[]tarEntry{{tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}, ""}}, state.Limits{}, "not allowed"},
		"hard link":     {[]tarEntry{file("a", ""), {tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "a"}, ""}}, state.Limits{}, "not allowed"},
		"device":        {[]tarEntry{{tar.Header{Name: "d", Typeflag: tar.TypeChar}, ""}}, state.Limits{}, "not allowed"},
		"twice":         {[]tarEntry{file("a", "1"), file("a", "2")}, state.Limits{}, "twice"},
		"too many":      {[]tarEntry{file("a", ""), file("b", ""), file("c", "")}, state.Limits{Files: 2}, "more than 2 entries"},
		"too big":       {[]tarEntry{file("a", "12345"), file("b", "12345")}, state.Limits{Bytes: 8}, "more than 8 bytes"},
		"file then dir": {[]tarEntry{file("a", "1"), file("a/b", "2")}, state.Limits{}, "unpack a/b"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outer := t.TempDir()
			dir := filepath.Join(outer, "in")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			err = state.Extract(t.Context(), bytes.NewReader(tarOf(t, c.entries)), root, c.limits)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			left, err := os.ReadDir(outer)
			if err != nil || len(left) != 1 {
				t.Errorf("something was written outside: %v %v", left, err)
			}
		})
	}
}

type tarEntry struct {
	header  tar.Header
	content string
}

func tarOf(t *testing.T, entries []tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := w.WriteHeader(&e.header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func FuzzDecodeClaim(f *testing.F) {
	claim, err := entry(nil).Claim()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(claim)
	f.Add([]byte(`{"schema":1,"phase":"market","outcome":"passed","market":{"packages":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := state.DecodeClaim(b)
		if err != nil {
			return
		}
		again, err := e.Claim()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted %q but encodes %q (%v)", b, again, err)
		}
	})
}

func FuzzExtract(f *testing.F) {
	var buf bytes.Buffer
	if err := state.Pack(context.Background(), &buf, fstest.MapFS{"a/b": {Data: []byte("x")}}, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		_ = state.Extract(t.Context(), bytes.NewReader(b), root, state.Limits{Files: 100, Bytes: 1 << 20})
	})
}
