package oci_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

var config = state.ImageConfig{
	User: "65532:65532", Entrypoint: []string{"/orders"}, Ports: []string{"8080/tcp"},
	Labels: map[string]string{"org.opencontainers.image.title": "orders"}, OS: "linux", Architecture: "amd64",
}

func files() fstest.MapFS {
	return fstest.MapFS{
		"orders":       {Data: []byte(strings.Repeat("binary ", 1000)), Mode: 0o755},
		"etc/app.conf": {Data: []byte("x = 1\n"), Mode: 0o600},
	}
}

func build(t *testing.T, blobs state.Blobs, root fs.FS) *state.Entry {
	t.Helper()
	artifacts, err := oci.Client{}.Build(t.Context(), blobs, root, config)
	if err != nil {
		t.Fatal(err)
	}
	e := &state.Entry{Phase: phase.Cleanroom, Artifacts: artifacts}
	e.Normalize()
	return e
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), "layout:"+t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBuildIsFixed pins the digest of an image: another compressor, tar format or
// field order must not slip in unseen.
func TestBuildIsFixed(t *testing.T) {
	t.Parallel()
	a, _ := build(t, newStore(t), files()).Artifact(state.ArtifactImage)
	b, _ := build(t, newStore(t), files()).Artifact(state.ArtifactImage)
	if a != b {
		t.Errorf("two builds differ: %v %v", a, b)
	}
	const want = "sha256:3b79b51f3a04d4d0ecb2d1a056e1aed98d1856da8fc6592b3d833abbcc789813"
	if string(a.Digest) != want {
		t.Errorf("digest %s, want %s", a.Digest, want)
	}
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	entry := build(t, s, files())
	dir := t.TempDir()
	got, err := oci.Client{}.Unpack(t.Context(), s, entry, dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.User != config.User || got.Entrypoint[0] != "/orders" || got.Ports[0] != "8080/tcp" || got.OS != "linux" {
		t.Errorf("%+v", got)
	}
	info, err := os.Stat(filepath.Join(dir, "orders"))
	if err != nil || info.Mode().Perm() != 0o755 || info.Size() != 7000 {
		t.Errorf("%v %v", info, err)
	}
}

func TestPushKeepsTheDigest(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	entry := build(t, s, files())
	dir := filepath.Join(t.TempDir(), "images")
	for range 2 { // the second push changes nothing
		ref, err := oci.Client{}.Push(t.Context(), s, entry, "layout:"+dir)
		a, _ := entry.Artifact(state.ArtifactImage)
		if err != nil || !strings.HasSuffix(ref, "@"+string(a.Digest)) {
			t.Fatalf("%s %v", ref, err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil || len(m.Manifests) != 1 {
		t.Errorf("%+v %v", m, err)
	}
}

func TestChangedLayerIsRefused(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	entry := build(t, s, files())
	layer, _ := entry.Artifact(state.ArtifactImageLayer(0))
	path := filepath.Join(strings.TrimPrefix(s.URL(), "layout:"), "blobs", "sha256", layer.Digest.Hex())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = oci.Client{}.Unpack(t.Context(), s, entry, t.TempDir())
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "image/layer/0") {
		t.Errorf("unpack: %v", err)
	}
	if _, err := (oci.Client{}).Push(t.Context(), s, entry, "layout:"+t.TempDir()); err == nil {
		t.Error("push accepted a changed layer")
	}
}

func TestNoImage(t *testing.T) {
	t.Parallel()
	entry := &state.Entry{Phase: phase.Cleanroom}
	if _, err := (oci.Client{}).Config(t.Context(), newStore(t), entry); fault.KindOf(err) != fault.Finding {
		t.Errorf("%v", err)
	}
}
