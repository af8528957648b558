package rootfs_test

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func newBlobs(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), "layout:"+t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The layers of a base arrive byte for byte, whatever compressed them, and need the
// registry once.
func TestBase(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	lower, upper := pack(t, reg("usr/bin/python3", "interpreter")), pack(t, reg("etc/x", "x"))
	i := newImage(t, map[string]any{"User": "1000:1000", "Env": []string{"A=1"}}, lower, upper)
	i.types[0], i.blobs[1], i.types[1] = "application/vnd.docker.image.rootfs.diff.tar.gzip", ocitest.Zstd(t, upper), typeZstd
	index := push(t, r, i, "team/python", "3.12", nil)
	images := newImages(t, func(o *rootfs.Options) { o.LockFile = filepath.Join(t.TempDir(), rootfs.LockName) })
	ref, err := images.Resolve(t.Context(), r.Host+"/team/python:3.12")
	if err != nil || ref.Digest != index {
		t.Fatalf("%s %v", ref, err)
	}
	blobs := newBlobs(t)
	base, err := images.Base(t.Context(), blobs, ref.String())
	if err != nil {
		t.Fatal(err)
	}
	if base.Digest != i.digest || base.Name != r.Host+"/team/python:3.12" || base.Config.User != "1000:1000" || len(base.RawConfig) == 0 {
		t.Errorf("base %+v", base)
	}
	for n, a := range base.Layers {
		want := state.Artifact{
			Name: state.ArtifactImageLayer(n), MediaType: []string{typeGzip, typeZstd}[n], Digest: state.DigestOf(i.blobs[n]), Size: int64(len(i.blobs[n])),
		}
		if a != want {
			t.Errorf("layer %+v, want %+v", a, want)
		}
		reader, err := blobs.Open(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(reader)
		if err != nil || !bytes.Equal(b, i.blobs[n]) || reader.Close() != nil {
			t.Errorf("layer %d has other bytes (%v)", n, err)
		}
	}
	r.Forget(string(base.Layers[0].Digest))
	r.Forget(string(base.Layers[1].Digest))
	if _, err := images.Base(t.Context(), blobs, ref.String()); err != nil {
		t.Errorf("layers that are there were fetched again: %v", err)
	}
	if _, err := images.Base(t.Context(), newBlobs(t), ref.String()); err == nil {
		t.Error("layers that are nowhere were found")
	}
}

func TestBaseRefuses(t *testing.T) {
	t.Parallel()
	r := ocitest.New(t)
	i := newImage(t, nil, pack(t, reg("a", "a")))
	push(t, r, i, "team/a", "1", nil)
	foreign := newImage(t, nil, pack(t, reg("a", "b")))
	foreign.types[0] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	images := newImages(t)
	ref, err := images.Resolve(t.Context(), r.Host+"/team/a:1")
	if err != nil {
		t.Fatal(err)
	}
	r.Change(string(state.DigestOf(i.blobs[0])), func(b []byte) []byte { return append(b, 0) })
	for name, ref := range map[string]string{"changed": ref.String(), "foreign": one(t, foreign)} {
		blobs := newBlobs(t)
		if base, err := images.Base(t.Context(), blobs, ref); fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %+v %v", name, base, err)
		}
	}
	if _, err := images.Base(t.Context(), newBlobs(t), r.Host+"/team/a:1"); fault.KindOf(err) != fault.Usage {
		t.Errorf("a tag was taken: %v", err)
	}
	strict := newImages(t, func(o *rootfs.Options) { o.Environment = "production" })
	if _, err := strict.Resolve(t.Context(), r.Host+"/team/a:1"); fault.KindOf(err) != fault.Finding {
		t.Errorf("production takes a tag: %v", err)
	}
}
