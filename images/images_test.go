package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const root = ".."

// fake returns a builder whose programs are compiled already, into small files.
func fake(t *testing.T) *builder {
	t.Helper()
	b := &builder{source: t.TempDir(), work: t.TempDir(), log: io.Discard}
	for _, platform := range platforms {
		dir := b.compiled(platform)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, p := range append(doors(), "ultrafast") {
			if err := os.WriteFile(filepath.Join(dir, p), []byte(p+" for "+platform), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b
}

func fakeImages(t *testing.T, b *builder) []built {
	t.Helper()
	var out []built
	for _, i := range table {
		one, err := b.index(t.Context(), i, scratch, platforms)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, one)
	}
	return out
}

// images returns the images of an index by architecture.
func children(t *testing.T, index v1.ImageIndex) map[string]v1.Image {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]v1.Image{}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		out[d.Platform.Architecture] = img
	}
	return out
}

func TestTable(t *testing.T) {
	t.Parallel()
	for _, p := range phase.All() {
		if !slices.ContainsFunc(table, func(i image) bool { return i.phase == string(p) }) {
			t.Errorf("no image for phase %s", p)
		}
	}
	for _, i := range table {
		for _, p := range i.programs {
			if _, err := os.Stat(filepath.Join(root, "actions", p, "main.go")); err != nil {
				t.Error(err)
			}
		}
		want := int64(15)
		switch i.phase {
		case "cleanroom-test", "deploy":
			want = 20
		case "all":
			continue
		}
		if i.limit != want*megabyte {
			t.Errorf("%s may have %d bytes, want %d MB", i.name, i.limit, want)
		}
	}
}

func TestAssembled(t *testing.T) {
	t.Parallel()
	images := fakeImages(t, fake(t))
	again := fakeImages(t, fake(t))
	programs := map[v1.Hash]int{}
	for n, b := range images {
		if err := validate.Index(b.index, validate.Fast); err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		if again[n].Digest != b.Digest {
			t.Errorf("%s: %s, then %s", b.Name, b.Digest, again[n].Digest)
		}
		byArch := children(t, b.index)
		if len(byArch) != len(platforms) {
			t.Errorf("%s: %d platforms", b.Name, len(byArch))
		}
		for arch, img := range byArch {
			file, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if file.Architecture != arch || file.OS != "linux" || file.Config.User != "" || file.Config.WorkingDir != "" ||
				!slices.Equal(file.Config.Entrypoint, []string{"/" + table[n].programs[0]}) || file.Created.Unix() != 0 {
				t.Errorf("%s for %s: %+v", b.Name, arch, file)
			}
			layers, err := img.Layers()
			if err != nil || len(layers) != 1+len(table[n].programs) {
				t.Fatalf("%s: %d layers, %v", b.Name, len(layers), err)
			}
			for _, l := range layers[1:] {
				h, err := l.Digest()
				if err != nil {
					t.Fatal(err)
				}
				programs[h]++
			}
		}
	}
	// Every phase lies in its own image and in the one with all, as the same layer.
	if want := len(platforms) * (len(doors()) + 1); len(programs) != want {
		t.Errorf("%d program layers, want %d", len(programs), want)
	}
	for h, n := range programs {
		if n > 2 {
			t.Errorf("layer %s is in %d images", h, n)
		}
	}
}

func TestBase(t *testing.T) {
	t.Parallel()
	l, err := newLayer(t.TempDir(), "base", base)
	if err != nil {
		t.Fatal(err)
	}
	entries := entriesOf(t, l)
	if tmp := entries["tmp/"]; tmp.mode != 0o1777 {
		t.Errorf("mode of /tmp: %o", tmp.mode)
	}
	pool := x509.NewCertPool()
	if pem := entries["etc/ssl/certs/ca-certificates.crt"].content; !pool.AppendCertsFromPEM(pem) || bytes.Count(pem, []byte("BEGIN")) < 100 {
		t.Errorf("%d bytes of certificates", len(pem))
	}
	if l.size > megabyte {
		t.Errorf("%d bytes", l.size)
	}
}

type entry struct {
	mode    int64
	link    string
	content []byte
}

func entriesOf(t *testing.T, l v1.Layer) map[string]entry {
	t.Helper()
	r, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	zr, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]entry{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.Unix() != 0 {
			t.Errorf("%s says where it was made: %+v", h.Name, h)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = entry{h.Mode, h.Linkname, content}
	}
}

func TestShell(t *testing.T) {
	t.Parallel()
	b := fake(t)
	dir := filepath.Join(b.source, "build", "busybox")
	chosen := selection{images: table[:1], flavours: []flavour{shell}, platforms: platforms[:1]}
	stack := func() error { _, err := b.index(t.Context(), chosen.images[0], shell, chosen.platforms); return err }
	if err := stack(); !errors.Is(err, errNoBusybox) {
		t.Errorf("without busybox: %v", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "amd64"), []byte("something else"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := stack(); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "has digest") {
		t.Errorf("with another busybox: %v", err)
	}
	l, err := newLayer(t.TempDir(), "busybox", busybox(filepath.Join(dir, "amd64")))
	if err != nil {
		t.Fatal(err)
	}
	entries := entriesOf(t, l)
	if entries["bin/sh"].link != "busybox" || entries["bin/busybox"].mode != 0o755 {
		t.Errorf("%+v", entries["bin/sh"])
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	images := fakeImages(t, fake(t))
	dir := filepath.Join(t.TempDir(), "new", "layout")
	for range 2 { // the second takes the place of the first
		if err := writeLayout(dir, "v1", images); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != len(table) {
		t.Fatalf("%+v %v", manifest, err)
	}
	for n, d := range manifest.Manifests {
		if d.Digest.String() != images[n].Digest || d.Annotations[annotationName] != images[n].Name+":v1" {
			t.Errorf("%+v", d)
		}
	}
}

func TestPush(t *testing.T) {
	t.Parallel()
	images := fakeImages(t, fake(t))
	registry := ocitest.New(t)
	for range 2 {
		if err := push(t.Context(), registry.Host+"/team", "v1", images); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range images {
		ref, err := name.ParseReference(registry.Host + "/team/" + b.Name + ":v1")
		if err != nil {
			t.Fatal(err)
		}
		index, err := remote.Index(ref)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := index.Digest(); err != nil || got.String() != b.Digest {
			t.Errorf("%s: pushed %s, pulled %s, %v", b.Name, b.Digest, got, err)
		}
		if err := validate.Index(index); err != nil {
			t.Error(err)
		}
	}
	if err := push(t.Context(), "127.0.0.1:1/team", "v1", images); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("nobody listens: %v", err)
	}
	if err := push(t.Context(), registry.Host+"/team", "v1/x", images); fault.KindOf(err) != fault.Usage {
		t.Errorf("bad tag: %v", err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--phase", "market,nothing"}, {"--flavour", "alpine"}, {"--platform", "windows/amd64"}, {"--output", "/dir"},
		{"--output", "layout:"}, {"--nothing"}, {"market"}, {"--binaries", "none", "--platform", "plan9/amd64"},
		{"--actions", "none", "--tag", "v1 2"}, {"--check", "none", "--tag", "v1/2"},
	} {
		if err := run(t.Context(), args, io.Discard, io.Discard); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestReproducible builds an image and a binary from two copies of the source, in directories of
// different names, and expects the same bytes. With ULTRAFAST_LONG it does so for
// all images, binaries and platforms, and compiles each copy from nothing.
func TestReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles two programs")
	}
	long := os.Getenv("ULTRAFAST_LONG") != ""
	args := []string{"--json", "--phase", "cleanroom-test", "--flavour", "scratch", "--platform", "linux/amd64"}
	if long {
		args = []string{"--json"}
	}
	var results [2]bytes.Buffer
	var binaries [2][]string
	for n, path := range []string{"a", "another/much longer path"} {
		dir := filepath.Join(t.TempDir(), path)
		copySource(t, dir)
		if long {
			t.Setenv("GOCACHE", t.TempDir())
		}
		out := filepath.Join(t.TempDir(), path)
		if err := run(t.Context(), append(args, "--source", dir, "--binaries", out), &results[n], t.Output()); err != nil {
			t.Fatal(err)
		}
		files, err := os.ReadDir(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			binaries[n] = append(binaries[n], f.Name()+" "+string(state.DigestOf([]byte(readText(t, filepath.Join(out, f.Name()))))))
		}
	}
	if !slices.Equal(binaries[0], binaries[1]) || len(binaries[0]) == 0 {
		t.Errorf("binaries differ: %q, %q", binaries[0], binaries[1])
	}
	if !bytes.Equal(results[0].Bytes(), results[1].Bytes()) {
		t.Errorf("%s\n%s", &results[0], &results[1])
	}
	var images []built
	if err := json.Unmarshal(results[0].Bytes(), &images); err != nil || len(images) == 0 {
		t.Errorf("%s %v", &results[0], err)
	}
	t.Logf("%s", &results[0])
}

// TestReleasedVersion builds a program for a release, and asks it for its version.
func TestReleasedVersion(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles a program")
	}
	b := &builder{source: root, work: t.TempDir(), version: "v9.8.7-rc.1", log: t.Output()}
	platform := "linux/" + runtime.GOARCH
	if err := b.compile(t.Context(), table[0].programs, platform); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(b.compiled(platform), table[0].programs[0]), "--version").Output()
	if err != nil && runtime.GOOS == "linux" || err == nil && string(out) != "ultrafast-market v9.8.7-rc.1\n" {
		t.Errorf("it says %q, %v", out, err)
	}
}

// TestHelper builds a program that starts sandboxes, and looks for the helper of its own
// architecture in it. With ULTRAFAST_LONG it does so for the other one too.
func TestHelper(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles two programs")
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	for arch, machine := range machines {
		if arch != runtime.GOARCH && os.Getenv("ULTRAFAST_LONG") == "" {
			continue
		}
		b := &builder{source: root, work: t.TempDir(), log: t.Output()}
		if err := b.compile(t.Context(), []string{"cleanroom-test"}, "linux/"+arch); err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(b.work, "helper_linux_"+arch)
		f, err := elf.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine {
			t.Errorf("the helper for %s is for %s", arch, f.Machine)
		}
		f.Close()
		if !strings.Contains(readText(t, filepath.Join(b.compiled("linux/"+arch), "cleanroom-test")), readText(t, name)) {
			t.Errorf("the program for %s does not hold its helper", arch)
		}
	}
	if _, err := os.Stat(filepath.Join(root, sandboxDir, "helper_linux_"+runtime.GOARCH)); err == nil {
		t.Error("the source was written to")
	}
}

// copySource copies what the programs are made of.
func copySource(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "build" || d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != root) {
			return fs.SkipDir
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary file of another test
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	busybox, err := os.ReadDir(filepath.Join(root, "build", "busybox"))
	if err == nil && len(busybox) > 0 {
		if err := os.CopyFS(filepath.Join(to, "build", "busybox"), os.DirFS(filepath.Join(root, "build", "busybox"))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDockerfile checks what GitHub asks of the Dockerfile of an action, and that it
// builds with the toolchain that the published images are built with.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	var instructions []string
	for line := range strings.Lines(string(b)) {
		if regexp.MustCompile(`^[A-Z]+ `).MatchString(line) {
			instructions = append(instructions, strings.TrimSpace(line))
		}
	}
	last := slices.Index(instructions, "FROM scratch")
	if last < 0 || instructions[0] != fmt.Sprintf("FROM golang:%s AS build", strings.TrimPrefix(goVersion, "go")) {
		t.Errorf("%q", instructions)
	}
	for _, line := range instructions {
		if strings.HasPrefix(line, "USER") || strings.HasPrefix(line, "WORKDIR") {
			t.Errorf("GitHub does not want %q", line)
		}
	}
	if !slices.Contains(instructions, "ARG PHASE=...") || instructions[len(instructions)-1] != `ENTRYPOINT ["/ultrafast"]` {
		t.Errorf("%q", instructions)
	}
}
