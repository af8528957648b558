package sandboxtest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// said is what the image's own command writes.
const said = "the image said this"

// config is that of the image. Neither its volume nor /proc and /dev exist in its
// files: a read-only root has to get places for them.
func config() sandbox.ImageConfig {
	return sandbox.ImageConfig{
		Entrypoint: []string{executable.Target, payloadArg},
		Cmd:        []string{"copy", said},
		Env:        []string{"PATH=/usr/bin:/bin", "FROM=image", "BOTH=image"},
		WorkingDir: "/srv/work",
		UID:        1000, GID: 1001,
		Volumes: []string{"/var/lib/volume"},
		Ports:   []string{"8080/tcp"},
	}
}

// Images is an image source for tests of back ends, with one image: that of
// [Options.Image]. It holds the payload and, if this machine has one that is
// linked statically, a busybox.
type Images struct {
	// Ref names the image by digest.
	Ref string
	// Dir holds its files.
	Dir string
	// Used counts the images that were not released.
	Used atomic.Int64
}

// NewImages makes the image, whose payload is a copy of exe.
func NewImages(t testing.TB, exe string) *Images {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"etc", "srv/work", "opt", "usr/bin", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky),
		os.Symlink("usr/bin", filepath.Join(dir, "bin")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	keep(t, filepath.Join(dir, "etc/passwd"), "root:x:0:0::/:/bin/sh\nworker:x:1000:1001::/tmp:/bin/sh\n")
	keep(t, filepath.Join(dir, "etc/group"), "root:x:0:\nworkers:x:1001:\n")
	keep(t, filepath.Join(dir, "etc/of-the-image"), "yes")
	program(t, dir, exe, executable.Target)
	if path := "/bin/busybox"; len(libraries(t, path)) == 0 {
		program(t, dir, path, path)
		for _, name := range []string{"sh", "cat", "head", "tail", "ls", "mkdir", "rm", "sleep", "setsid", "true", "kill", "test"} {
			if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	sum := sha256.Sum256([]byte(exe))
	return &Images{Dir: dir, Ref: "sandboxtest/payload@sha256:" + hex.EncodeToString(sum[:])}
}

// program copies a program of the host, if it exists, and the libraries that it needs.
func program(t testing.TB, dir, from, to string) {
	t.Helper()
	files := map[string]string{from: to}
	for _, l := range libraries(t, from) {
		files[l] = l
	}
	for from, to := range files {
		b, err := os.ReadFile(from)
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, filepath.Dir(to)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// libraries are the files that a program needs to start: none if it is linked
// statically, or is not there.
func libraries(t testing.TB, path string) (list []string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, string(bytes.TrimRight(b, "\x00")))
		}
	}
	names, _ := f.ImportedLibraries() // none in a static program
	for _, name := range names {
		found, err := filepath.Glob("/lib/*-linux-gnu/" + name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, found...)
	}
	return list
}

// Unpack is described by [sandbox.Images].
func (i *Images) Unpack(_ context.Context, ref string) (sandbox.Image, error) {
	if ref != i.Ref {
		return sandbox.Image{}, fault.New(fault.Finding, "name one that is there", "no image is called %q", ref)
	}
	_, digest, _ := strings.Cut(ref, "@")
	i.Used.Add(1)
	return sandbox.Image{Digest: digest, Dir: i.Dir, Config: config(), Release: func() { i.Used.Add(-1) }}, nil
}

// Export is described by [sandbox.Images].
func (i *Images) Export(_ context.Context, ref string, w io.Writer) (string, error) {
	if ref != i.Ref {
		return "", fault.New(fault.Finding, "name one that is there", "no image is called %q", ref)
	}
	var layer bytes.Buffer
	lw := tar.NewWriter(&layer)
	if err := lw.AddFS(os.DirFS(i.Dir)); err != nil {
		return "", err
	}
	if err := lw.Close(); err != nil {
		return "", err
	}
	c, id := config(), sha256.Sum256(layer.Bytes())
	name := "sandboxtest/payload:" + hex.EncodeToString(id[:8])
	cfg, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(id[:])}},
		"config": map[string]any{
			"Entrypoint": c.Entrypoint, "Cmd": c.Cmd, "Env": c.Env, "WorkingDir": c.WorkingDir,
			"User": fmt.Sprintf("%d:%d", c.UID, c.GID), "Volumes": map[string]any{c.Volumes[0]: struct{}{}},
			"ExposedPorts": map[string]any{c.Ports[0]: struct{}{}},
		},
	})
	if err != nil {
		return "", err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return "", err
	}
	tw := tar.NewWriter(w)
	for _, f := range []struct {
		name string
		b    []byte
	}{{"layer.tar", layer.Bytes()}, {"config.json", cfg}, {"manifest.json", manifest}} {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.b))}); err != nil {
			return "", err
		}
		if _, err := tw.Write(f.b); err != nil {
			return "", err
		}
	}
	return name, tw.Close()
}

// image runs containers whose root is an image.
func (s *suite) image(t *testing.T) {
	if s.Image == "" {
		t.Skip("the suite was given no image")
	}
	e := s.environment(t, sandbox.Limits{})
	spec := func(args ...string) sandbox.ContainerSpec {
		return sandbox.ContainerSpec{Name: "image", Image: s.Image, Args: args}
	}
	if r := run(t, e, spec()); !r.OK() || r.err != said {
		t.Errorf("the command of the image: %s %q", r.ExitStatus, r.err)
	}
	if r := run(t, e, spec("copy", "this")); !r.OK() || r.err != "this" {
		t.Errorf("the entrypoint of the image with other arguments: %s %q", r.ExitStatus, r.err)
	}
	own := spec("environment", "FROM", "BOTH", "OWN")
	own.Env = []string{"BOTH=specification", "OWN=yes"}
	run(t, e, own).want(t, "image\nspecification\nyes")
	argv := spec()
	argv.Argv = []string{executable.Target, payloadArg, "exit", "9"}
	if r := run(t, e, argv); r.Code != 9 {
		t.Errorf("a command in place of the entrypoint: %s %s", r.ExitStatus, r.err)
	}
	s.imageErrors(t, e, spec)
	s.imageVolumes(t, e, spec)
	if s.Level < sandbox.Full {
		return
	}
	run(t, e, spec("directory")).want(t, config().WorkingDir)
	run(t, e, spec("ids")).want(t, "1000 1001")
	other := spec("ids")
	other.UID, other.GID = 1234, 4321
	run(t, e, other).want(t, "1234 4321")
	run(t, e, spec("read", "/etc/of-the-image")).want(t, "yes")
	for _, path := range []string{"/etc/of-the-image", "/new", "/srv/work/new", "/var/lib/new"} {
		if r := run(t, e, spec("write", path, "x")); r.OK() {
			t.Errorf("%s can be written", path)
		}
	}
	// Mounts at places that the image lacks.
	source := t.TempDir()
	keep(t, filepath.Join(source, "file"), "host")
	for _, kind := range []sandbox.MountKind{sandbox.ReadOnly, sandbox.Overlay} {
		placed := spec("read", "/not/in/the/image/file")
		placed.Mounts = []sandbox.Mount{{Kind: kind, Source: source, Target: "/not/in/the/image"}}
		run(t, e, placed).want(t, "host")
	}
	run(t, e, spec("list", "/not")).wantFailure(t, "no such file")
}

// imageVolumes writes into the volume that the image declares.
func (s *suite) imageVolumes(t *testing.T, e sandbox.Environment, spec func(...string) sandbox.ContainerSpec) {
	volume := sandbox.Mount{Kind: sandbox.Scratch, Target: config().Volumes[0]}
	file := filepath.Join(e.Path("image", volume), "file")
	for range 2 { // each container has its own
		run(t, e, spec("list", filepath.Dir(file))).want(t, "")
		run(t, e, spec("write", file, "x")).want(t, "")
	}
	source := t.TempDir()
	keep(t, filepath.Join(source, "file"), "host")
	mounted := volume
	mounted.Kind, mounted.Source = sandbox.ReadOnly, source
	instead := spec("read", filepath.Join(e.Path("image", mounted), "file"))
	instead.Mounts = []sandbox.Mount{mounted}
	run(t, e, instead).want(t, "host")
}

func (s *suite) imageErrors(t *testing.T, e sandbox.Environment, spec func(...string) sandbox.ContainerSpec) {
	for name, x := range map[string]struct {
		change func(*sandbox.ContainerSpec)
		kind   fault.Kind
	}{
		"unknown image": {func(c *sandbox.ContainerSpec) {
			c.Image = "sandboxtest/none@sha256:" + strings.Repeat("0", 64)
		}, fault.Finding},
		"image and root":         {func(c *sandbox.ContainerSpec) { c.Root = "/usr" }, fault.Usage},
		"arguments and command":  {func(c *sandbox.ContainerSpec) { c.Argv, c.Args = []string{"x"}, []string{"y"} }, fault.Usage},
		"arguments and no image": {func(c *sandbox.ContainerSpec) { c.Image, c.Args = "", []string{"y"} }, fault.Usage},
		"neither":                {func(c *sandbox.ContainerSpec) { c.Image = "" }, fault.Usage},
	} {
		bad := spec()
		x.change(&bad)
		if _, err := e.Start(deadline(t), bad); err == nil || fault.KindOf(err) != x.kind {
			t.Errorf("%s: %v (%s), want %s", name, err, fault.KindOf(err), x.kind)
		}
	}
	run(t, e, spec("exit", "0")).want(t, "")
}
