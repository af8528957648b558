package rootfs_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const services = "../../../build/services"

// serviceImages returns the images of build/services, or skips the test.
func serviceImages(t *testing.T) *rootfs.Images {
	t.Helper()
	if _, err := os.Stat(filepath.Join(services, "index.json")); err != nil {
		t.Skip("build/services is not there: make service-images makes it, on Debian 12")
	}
	return newImages(t, func(o *rootfs.Options) { o.Registry = "layout:" + services })
}

// TestServices unpacks real images.
func TestServices(t *testing.T) {
	t.Parallel()
	images := serviceImages(t)
	for name, want := range map[string]struct {
		program  string
		uid, gid int
	}{
		"busybox": {"bin/busybox", 0, 0}, "redis": {"usr/bin/redis-server", 999, 999}, "postgres": {"usr/lib/postgresql/15/bin/postgres", 70, 70},
	} {
		ref, err := images.Resolve(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		image := unpack(t, images, ref.String())
		if image.Config.UID != want.uid || image.Config.GID != want.gid {
			t.Errorf("%s runs as %d:%d", name, image.Config.UID, image.Config.GID)
		}
		if info, err := os.Stat(filepath.Join(image.Dir, want.program)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

// TestEngines loads an exported image into the engines that are here, and runs it by
// the name that Export gave.
func TestEngines(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"docker", "podman"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			if out, err := exec.CommandContext(t.Context(), engine, "info").CombinedOutput(); err != nil {
				t.Skipf("%s does not answer: %v: %.200s", engine, err, out)
			}
			for _, layer := range []string{"gzip", "zstd"} {
				images, ref := serviceImages(t), ""
				if layer == "zstd" {
					ref = zstdImage(t, images)
				} else {
					pinned, err := images.Resolve(t.Context(), "busybox")
					if err != nil {
						t.Fatal(err)
					}
					ref = pinned.String()
				}
				var archive bytes.Buffer
				name, err := images.Export(t.Context(), ref, &archive)
				if err != nil {
					t.Fatal(err)
				}
				load := exec.CommandContext(t.Context(), engine, "load")
				load.Stdin = &archive
				if out, err := load.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", layer, err, out)
				}
				t.Cleanup(func() {
					_ = exec.CommandContext(context.WithoutCancel(t.Context()), engine, "rmi", "-f", name).Run() // best effort
				})
				out, err := exec.CommandContext(t.Context(), engine, "image", "inspect", "--format", "{{.Config.Cmd}}", name).CombinedOutput()
				if err != nil || strings.TrimSpace(string(out)) != "[sh]" {
					t.Errorf("%s: %v: %s", layer, err, out)
				}
			}
		})
	}
}

// zstdImage returns an image with a layer in zstd.
func zstdImage(t *testing.T, images *rootfs.Images) string {
	t.Helper()
	content := pack(t, reg("f", "zstd"))
	i := newImage(t, map[string]any{"Cmd": []string{"sh"}}, content)
	i.blobs[0], i.types[0] = ocitest.Zstd(t, content), typeZstd
	return one(t, i)
}

// TestExportBreaksOff: what cannot be verified or written is an error, not an archive.
func TestExportBreaksOff(t *testing.T) {
	t.Parallel()
	i := newImage(t, nil, pack(t, reg("f", strings.Repeat("f", 100_000))))
	dir := layout(t, map[string]*img{"x": i})
	ref := "layout:" + dir + "@" + string(i.digest)
	images := newImages(t)
	if _, err := images.Export(t.Context(), ref, fullDisk{}); err == nil {
		t.Error("a full disk was not noticed")
	}
	name, err := images.Export(t.Context(), ref, io.Discard)
	if want := rootfs.ExportName(i.digest); err != nil || name != want {
		t.Errorf("%s, want %s: %v", name, want, err)
	}
	flip(t, dir, i.blobs[0])
	if _, err := images.Export(t.Context(), ref, io.Discard); fault.KindOf(err) != fault.Finding {
		t.Errorf("a damaged layer: %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestTarball: what was exported is an archive that can be unpacked again.
func TestTarball(t *testing.T) {
	t.Parallel()
	i := newImage(t, map[string]any{"Env": []string{"A=1"}}, pack(t, reg("a", "a")), pack(t, reg("b", "b")))
	images := newImages(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	name, err := images.Export(t.Context(), one(t, i), file)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	ref, err := images.Resolve(t.Context(), "tarball:"+file.Name())
	if err != nil {
		t.Fatal(err)
	}
	image := unpack(t, images, ref.String())
	if got := listing(t, image.Dir); len(got) != 2 || len(image.Config.Env) != 1 {
		t.Errorf("%v %+v", got, image.Config)
	}
	again, err := images.Resolve(t.Context(), "tarball:"+file.Name()+"#"+name)
	if err != nil || again.Digest != ref.Digest {
		t.Errorf("by its name: %s, %v", again, err)
	}
}
