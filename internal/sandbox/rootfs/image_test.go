package rootfs_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// file is one entry of a layer; its type says which fields count.
type file = tar.Header

func dir(name string) file { return file{Typeflag: tar.TypeDir, Name: name, Mode: 0o755} }
func reg(name, content string) file {
	return file{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), Uname: content}
}
func link(name, to string) file { return file{Typeflag: tar.TypeSymlink, Name: name, Linkname: to} }
func hard(name, to string) file { return file{Typeflag: tar.TypeLink, Name: name, Linkname: to} }

// pack returns the tar of entries; a regular file's content is its Uname.
func pack(t testing.TB, entries ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		content := e.Uname
		e.Uname, e.ModTime = "", time.Unix(1_000_000, 0)
		if err := tw.WriteHeader(&e); err != nil {
			t.Fatal(err)
		}
		if e.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(tw, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func squeeze(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	if _, err := zw.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// img is an image of which a test may change every part.
type img struct {
	config   map[string]any
	tars     [][]byte
	blobs    [][]byte // compressed; same length as tars
	types    []string
	manifest []byte
	digest   state.Digest
}

const (
	typePlain  = "application/vnd.oci.image.layer.v1.tar"
	typeGzip   = typePlain + "+gzip"
	typeZstd   = typePlain + "+zstd"
	typeConfig = "application/vnd.oci.image.config.v1+json"
	typeImage  = "application/vnd.oci.image.manifest.v1+json"
	typeIndex  = "application/vnd.oci.image.index.v1+json"
)

func newImage(t testing.TB, config map[string]any, tars ...[]byte) *img {
	t.Helper()
	i := &img{config: config, tars: tars}
	for _, b := range tars {
		i.blobs = append(i.blobs, squeeze(t, b))
		i.types = append(i.types, typeGzip)
	}
	return i
}

func descriptor(mediaType string, b []byte) map[string]any {
	return map[string]any{"mediaType": mediaType, "digest": state.DigestOf(b), "size": len(b)}
}

// parts returns all blobs of the image, the manifest last.
func (i *img) parts(t testing.TB) [][]byte {
	t.Helper()
	diffIDs, layers := []state.Digest{}, []map[string]any{}
	for n, b := range i.tars {
		diffIDs = append(diffIDs, state.DigestOf(b))
		layers = append(layers, descriptor(i.types[n], i.blobs[n]))
	}
	config := encode(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": i.config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	i.manifest = encode(t, map[string]any{
		"schemaVersion": 2, "mediaType": typeImage, "config": descriptor(typeConfig, config), "layers": layers,
	})
	i.digest = state.DigestOf(i.manifest)
	return append(append([][]byte{config}, i.blobs...), i.manifest)
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// index returns an index with the image for this machine beside others.
func (i *img) index(t testing.TB) []byte {
	t.Helper()
	i.parts(t)
	other := descriptor(typeImage, []byte("other"))
	other["platform"] = map[string]any{"os": "linux", "architecture": "s390x"}
	attestation := descriptor(typeImage, []byte("attestation"))
	attestation["platform"] = map[string]any{"os": "unknown", "architecture": "unknown"}
	own := descriptor(typeImage, i.manifest)
	own["platform"] = map[string]any{"os": "linux", "architecture": runtime.GOARCH}
	return encode(t, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{attestation, other, own}})
}

// layout writes images under their names into an OCI layout and returns its directory.
func layout(t testing.TB, images map[string]*img) string {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	manifests := []any{}
	for name, i := range images {
		for _, b := range i.parts(t) {
			writeFile(t, filepath.Join(blobs, state.DigestOf(b).Hex()), b)
		}
		d := descriptor(typeImage, i.manifest)
		d["annotations"] = map[string]string{"org.opencontainers.image.ref.name": name}
		manifests = append(manifests, d)
	}
	writeFile(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	writeFile(t, filepath.Join(dir, "index.json"), encode(t, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": manifests}))
	return dir
}

// one returns the reference by digest of an image in a layout of its own.
func one(t testing.TB, i *img) string {
	t.Helper()
	return "layout:" + layout(t, map[string]*img{"x:1": i}) + "@" + string(i.digest)
}

// push sends an image to a registry under a tag, behind an index.
func push(t testing.TB, r *ocitest.Registry, i *img, repository, tag string, credentials oci.Credentials) state.Digest {
	t.Helper()
	repo, err := oci.OpenRepository(t.Context(), r.Host+"/"+repository, credentials)
	if err != nil {
		t.Fatal(err)
	}
	parts := i.parts(t)
	for _, b := range parts[:len(parts)-1] {
		a := state.Artifact{Name: "blob", MediaType: "application/octet-stream", Digest: state.DigestOf(b), Size: int64(len(b))}
		if err := repo.PutBlob(t.Context(), a, func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := repo.PutManifest(t.Context(), string(i.digest), i.manifest); err != nil {
		t.Fatal(err)
	}
	// The registry wants what an index names to be there.
	index := i.index(t)
	for _, gone := range []string{"other", "attestation"} {
		index = []byte(strings.ReplaceAll(string(index), string(state.DigestOf([]byte(gone))), string(i.digest)))
	}
	if err := repo.PutManifest(t.Context(), tag, index); err != nil {
		t.Fatal(err)
	}
	return state.DigestOf(index)
}

func writeFile(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// listing returns the paths below dir, each with what it is.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			out[name] = "dir"
		case d.Type()&os.ModeSymlink != 0:
			to, err := os.Readlink(path)
			out[name] = "-> " + to
			return err
		default:
			b, err := os.ReadFile(path)
			out[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
