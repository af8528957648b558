package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

var here = oci.Platform{OS: "linux", Architecture: "amd64"}

// TestArchives reads one image as a layout, as an archive of a layout and as docker
// save writes it, with packed and with plain layers: the same tars, verified.
func TestArchives(t *testing.T) {
	t.Parallel()
	image, err := random.Image(100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := layout.Write(filepath.Join(dir, "layout"), empty.Index); err != nil {
		t.Fatal(err)
	}
	if err := layout.Path(filepath.Join(dir, "layout")).AppendImage(image); err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag("localhost/team/app:v1")
	if err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(dir, "saved.tar")
	if err := tarball.WriteToFile(saved, ref, image); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain.tar")
	unpackLayers(t, saved, plain)
	whole := filepath.Join(dir, "layout.tar")
	packTree(t, filepath.Join(dir, "layout"), whole)

	want, err := partial.ConfigLayer(image)
	if err != nil {
		t.Fatal(err)
	}
	config, err := want.Digest()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]oci.Source{"saved": open(t, saved), "plain": open(t, plain), "archive of a layout": open(t, whole)}
	if sources["layout"], err = oci.OpenLayout(filepath.Join(dir, "layout")); err != nil {
		t.Fatal(err)
	}
	for what, src := range sources {
		names := []string{""}
		if what == "saved" || what == "plain" {
			names = append(names, "localhost/team/app:v1")
		}
		for _, n := range names {
			m, err := oci.Find(t.Context(), src, n, here)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				continue
			}
			if m.ConfigDigest != state.Digest(config.String()) || len(m.Layers) != 3 {
				t.Errorf("%s: config %s, want %s; %d layers", what, m.ConfigDigest, config, len(m.Layers))
			}
			if strings.Contains(what, "layout") && m.Digest != state.Digest(digest.String()) {
				t.Errorf("%s: %s, want %s", what, m.Digest, digest)
			}
			again, err := oci.Find(t.Context(), src, string(m.Digest), here)
			if err != nil || again.Digest != m.Digest {
				t.Errorf("%s by digest: %v", what, err)
			}
			for _, l := range m.Layers {
				if err := drain(t, src, l); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		if _, err := src.Manifest(t.Context(), string(state.DigestOf([]byte("x")))); !errors.Is(err, oci.ErrAbsent) {
			t.Errorf("%s: a digest that is not there: %v", what, err)
		}
	}
}

func open(t *testing.T, file string) *oci.Archive {
	t.Helper()
	a, err := oci.OpenArchive(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func drain(t *testing.T, src oci.Source, l oci.Layer) error {
	t.Helper()
	blob, err := src.Blob(t.Context(), l.Digest)
	if err != nil {
		return err
	}
	r, err := oci.OpenLayer(t.Context(), l, blob)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// unpackLayers rewrites a saved image as older engines save it.
func unpackLayers(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	tr, tw := tar.NewReader(bytes.NewReader(in)), tar.NewWriter(&out)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var r io.Reader = tr
		if strings.HasSuffix(h.Name, ".gz") {
			if r, err = gzip.NewReader(tr); err != nil {
				t.Fatal(err)
			}
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		h.Size = int64(len(b))
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, out.String())
}

func packTree(t *testing.T, dir, to string) {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	if err := errors.Join(tw.AddFS(os.DirFS(dir)), tw.Close()); err != nil {
		t.Fatal(err)
	}
	writeFile(t, to, out.String())
}

// TestNotAnArchive refuses files that hold no image.
func TestNotAnArchive(t *testing.T) {
	t.Parallel()
	archive := func(files ...string) string {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for i := 0; i < len(files); i += 2 {
			h := tar.Header{Typeflag: tar.TypeReg, Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644}
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(tw, files[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for what, c := range map[string]struct {
		content string
		want    fault.Kind
	}{
		"nothing":        {"", fault.Finding},
		"no tar":         {strings.Repeat("no tar ", 1000), fault.Finding},
		"gzip":           {"\x1f\x8b\x08", fault.Usage},
		"empty tar":      {archive(), fault.Finding},
		"no JSON":        {archive("manifest.json", "{"), fault.Finding},
		"no config":      {archive("manifest.json", `[{"Config":"c.json"}]`), fault.Finding},
		"no layer":       {archive("manifest.json", `[{"Config":"c","Layers":["l"]}]`, "c", "{}"), fault.Finding},
		"index, no JSON": {archive("index.json", "["), fault.Finding},
	} {
		file := filepath.Join(t.TempDir(), "image.tar")
		writeFile(t, file, c.content)
		a, err := oci.OpenArchive(t.Context(), file)
		if fault.KindOf(err) != c.want {
			t.Errorf("%s: %v (%v)", what, err, fault.KindOf(err))
		}
		if err == nil {
			_ = a.Close()
		}
	}
}

func TestPickPlatform(t *testing.T) {
	t.Parallel()
	d := string(state.DigestOf([]byte("x")))
	for _, c := range []struct {
		raw  string
		want string
		hint string
		bad  bool
	}{
		{raw: `{"schemaVersion":2,"config":{}}`},
		{raw: `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + d + `"}]}`, want: d},
		{raw: `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + d + `","platform":{"os":"linux","architecture":"amd64"}}]}`, want: d},
		{raw: `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + d + `","platform":{"os":"linux","architecture":"arm64"}}]}`, bad: true, hint: "linux/arm64"},
		{raw: `{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`, bad: true},
		{raw: `[`, bad: true},
		{raw: `{"manifests":[{"digest":"sha512:00"}]}`, bad: true},
	} {
		got, err := oci.PickPlatform([]byte(c.raw), here)
		if string(got) != c.want || (fault.KindOf(err) == fault.Finding) != c.bad || c.bad && err == nil || !strings.Contains(fault.HintOf(err), c.hint) {
			t.Errorf("%s: %q, %v", c.raw, got, err)
		}
	}
}

// FuzzFind reads arbitrary manifests and configurations.
func FuzzFind(f *testing.F) {
	f.Add([]byte(`{"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:aa"},"layers":[]}`), []byte(`{"rootfs":{"diff_ids":[]}}`))
	f.Add([]byte(`{"manifests":[{"platform":null}]}`), []byte(`null`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		var m map[string]any
		if json.Unmarshal(manifest, &m) == nil && m["config"] != nil {
			m["config"] = map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": state.DigestOf(config), "size": len(config)}
			manifest, _ = json.Marshal(m)
		}
		_, err := oci.Find(t.Context(), memory{manifest, config}, "x", here)
		if err != nil && fault.KindOf(err) == fault.Internal && !errors.Is(err, oci.ErrAbsent) {
			t.Fatalf("%v", err)
		}
	})
}

type memory [][]byte

func (m memory) Manifest(_ context.Context, reference string) ([]byte, error) {
	if reference == "x" {
		return m[0], nil
	}
	return nil, oci.ErrAbsent
}

func (m memory) Blob(_ context.Context, digest state.Digest) (io.ReadCloser, error) {
	if i := slices.IndexFunc(m, func(b []byte) bool { return state.DigestOf(b) == digest }); i >= 0 {
		return io.NopCloser(bytes.NewReader(m[i])), nil
	}
	return nil, oci.ErrAbsent
}
