package difference_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/difference"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// memory holds blobs.
type memory map[state.Digest][]byte

func (m memory) Open(_ context.Context, a state.Artifact) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(m[a.Digest])), nil
}

func (memory) Create(context.Context, string) (state.BlobWriter, error) { panic("nothing is written") }

func (m memory) put(name, mediaType string, b []byte) state.Artifact {
	d := state.DigestOf(b)
	m[d] = b
	return state.Artifact{Name: name, MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

type file struct {
	header tar.Header
	text   string
}

func archive(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		f.header.Size = int64(len(f.text))
		if f.header.Typeflag == 0 {
			f.header.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&f.header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func plain(name, text string) file { return file{tar.Header{Name: name, Mode: 0o644}, text} }

func zip(t *testing.T, level int, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func entry(artifacts ...state.Artifact) *state.Entry {
	return &state.Entry{
		Schema: state.Schema, Phase: phase.Generate, Outcome: state.Passed, Tool: state.Tool{Name: "generate", Version: "v1"},
		Inputs: []state.Input{{Name: "vars", Digest: state.DigestOf([]byte("v"))}}, Artifacts: artifacts,
		Generate: &state.Generate{Templates: []string{"a:b"}, Files: 1},
	}
}

func compare(t *testing.T, was *state.Entry, wasBlobs memory, is *state.Entry, isBlobs memory) (*difference.Report, string) {
	t.Helper()
	report, err := difference.Compare(t.Context(), difference.Side{Entry: was, Blobs: wasBlobs}, difference.Side{Entry: is, Blobs: isBlobs})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := report.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return report, b.String()
}

func TestSame(t *testing.T) {
	t.Parallel()
	m := memory{}
	a := m.put("tree", state.MediaTypeTree, archive(t, plain("f", "x")))
	is := entry(a)
	is.Prev = "sha256:elsewhere"
	if report, text := compare(t, entry(a), m, is, m); !report.Same() || text != "" {
		t.Errorf("%+v\n%s", report, text)
	}
}

func TestClaims(t *testing.T) {
	t.Parallel()
	is := entry()
	is.Tool.Version = "v2"
	is.Inputs = append(is.Inputs, state.Input{Name: "graph/g.ttl", Digest: "sha256:g"})
	is.Generate.Templates = []string{"a:b", "a:c"}
	is.Checks = []state.Check{{Name: "TestA", Outcome: state.Failed}}
	report, text := compare(t, entry(), nil, is, nil)
	want := `+ checks[TestA]          failed
+ generate.templates[1]  a:c
+ inputs[graph/g.ttl]    sha256:g
~ tool.version           v1 -> v2
`
	if text != want || len(report.Fields) != 4 {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

func TestTrees(t *testing.T) {
	t.Parallel()
	was, is := memory{}, memory{}
	when := time.Unix(1000, 0)
	a := was.put("tree", state.MediaTypeTree, archive(t,
		plain("gone", "x"), plain("kept", "same"), plain("main.go", "a\nb\n"), plain("run.sh", "#"), plain("data", "a\x00b"),
		file{tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "a"}, ""}))
	b := is.put("tree", state.MediaTypeTree, archive(t,
		plain("new\x1b[2J", "one\n"), plain("kept", "same"), plain("main.go", "a\nB\x1b[31m\n"),
		file{tar.Header{Name: "run.sh", Mode: 0o755, Uid: 5, ModTime: when}, "#"}, plain("data", "a\x00c"),
		file{tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "b"}, ""}))
	report, text := compare(t, entry(a), was, entry(b), is)
	for _, part := range []string{
		"    - gone ", "    + new\\x1b[2J ", "    ~ main.go ", "    ~ run.sh ", "0644, 0:0, 1970-01-01T00:00:00Z -> 0755, 5:0, 1970-01-01T00:16:40Z",
		"    ~ link ", "-> a -> -> b", "--- a/main.go\n+++ b/main.go\n@@ -1,2 +1,2 @@\n a\n-b\n+B\\x1b[31m\n", "binary, first difference at byte 2\n", "+one\n",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	if strings.Contains(text, "kept") || strings.ContainsRune(text, '\x1b') {
		t.Errorf("too much:\n%q", text)
	}
	var paths []string
	for _, f := range report.Artifacts[0].Files {
		paths = append(paths, f.Path)
	}
	if want := []string{"data", "gone", "link", "main.go", "new\x1b[2J", "run.sh"}; !slices.Equal(paths, want) {
		t.Errorf("%q", paths)
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()
	m := memory{}
	content := archive(t, plain("app", "x"))
	a := m.put("image/layer/0", state.MediaTypeImageLayerGzip, zip(t, gzip.BestSpeed, content))
	b := m.put("image/layer/0", state.MediaTypeImageLayerGzip, zip(t, gzip.BestCompression, append(content, 0)))
	if report, _ := compare(t, entry(a), m, entry(b), m); report.Artifacts[0].Note != "the same files, packed in another way" {
		t.Errorf("%+v", report.Artifacts)
	}
	c := m.put("image/layer/0", state.MediaTypeImageLayerGzip, zip(t, gzip.BestSpeed, archive(t, plain("app", "y"))))
	if _, text := compare(t, entry(a), m, entry(c), m); !strings.Contains(text, "~ app ") || !strings.Contains(text, "+y\n") {
		t.Errorf("%s", text)
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ was, is, want string }{
		{`{"a":{"b":1}}`, `{"a":{"b":2}}`, "~ a.b 1 2"},
		{`{"ports":{"80/tcp":{}}}`, `{"ports":{"90/tcp":{}}}`, "- ports.80/tcp {} ,+ ports.90/tcp  {}"},
		{`[{"name":"x","v":1}]`, `[{"name":"x","v":2}]`, "~ [x] 1 2"},
		{`[{"id":"x","v":1,"w":1}]`, `[{"id":"x","v":2,"w":1}]`, "~ [x].v 1 2"},
		{`{"a":null}`, `{}`, "- a null "},
		{`{"a":[]}`, `{"a":[1]}`, "- a [] ,+ a[0]  1"},
		{`{"n":9007199254740993}`, `{"n":9007199254740992}`, "~ n 9007199254740993 9007199254740992"},
	} {
		fields, err := difference.Documents([]byte(c.was), []byte(c.is))
		var got []string
		for _, f := range fields {
			got = append(got, map[difference.Change]string{"added": "+", "removed": "-", "changed": "~"}[f.Change]+" "+f.Path+" "+f.Recorded+" "+f.Replayed)
		}
		want := strings.Split(c.want, ",")
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s %s: %q, %v; want %q", c.was, c.is, got, err, want)
		}
	}
	if _, err := difference.Documents([]byte("{"), []byte("{}")); err == nil {
		t.Error("broken JSON was taken")
	}
}

func TestArtifactsOfOtherKinds(t *testing.T) {
	t.Parallel()
	m := memory{}
	for _, c := range []struct {
		was, is state.Artifact
		want    string
	}{
		{m.put("a", state.MediaTypeJSON, []byte(`{"a": 1}`)), m.put("a", state.MediaTypeJSON, []byte(`{"a":1}`)), "the same fields, written in another way"},
		{m.put("a", state.MediaTypeJSON, []byte(`{"a`)), m.put("a", state.MediaTypeJSON, []byte(`{"b`)), "+{\"b"},
		{m.put("a", state.MediaTypeLog, []byte("x\n")), m.put("a", state.MediaTypeJSON, []byte("1")), "media type text/plain"},
		{m.put("a", state.MediaTypeLog, []byte("x\n")), m.put("a", state.MediaTypeLog, []byte("\xff")), "binary, first difference at byte 0"},
		{m.put("a", state.MediaTypeLog, bytes.Repeat([]byte("x"), 2<<20)), m.put("a", state.MediaTypeLog, []byte("y")), "too large"},
	} {
		if _, text := compare(t, entry(c.was), m, entry(c.is), m); !strings.Contains(text, c.want) {
			t.Errorf("want %q in\n%s", c.want, text)
		}
	}
	broken := m.put("tree", state.MediaTypeTree, []byte("no archive, and longer than nothing"))
	other := m.put("tree", state.MediaTypeTree, archive(t, plain("a", "b")))
	if _, err := difference.Compare(t.Context(), difference.Side{Entry: entry(broken), Blobs: m}, difference.Side{Entry: entry(other), Blobs: m}); err == nil {
		t.Error("a broken archive was compared")
	}
}

func TestTextIsBounded(t *testing.T) {
	t.Parallel()
	m := memory{}
	a := m.put("log", state.MediaTypeLog, []byte(strings.Repeat("a\n", 5000)))
	b := m.put("log", state.MediaTypeLog, []byte(strings.Repeat("b\n", 5000)))
	_, text := compare(t, entry(a), m, entry(b), m)
	if n := strings.Count(text, "\n"); n > 500 || !strings.Contains(text, "more lines; --output json has them") {
		t.Errorf("%d lines", n)
	}
}

func TestVisible(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain\tü": "plain\tü", "a\nb\r": `a\nb\r`, "\x1b]0;x\a": `\x1b]0;x\a`, "\x00\xff": `\x00\xff`, "\u202egpj": `\u202egpj`, "\u200b\u2028": `\u200b\u2028`,
		`back\slash "quote"`: `back\slash "quote"`,
	} {
		if got := difference.Visible(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
