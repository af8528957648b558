package platforms

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestDockerfile runs a container action as it is on main, with the image that act
// builds of the Dockerfile, and looks into that image. Its programs are those of a build
// on this machine, to the byte.
func TestDockerfile(t *testing.T) {
	on(t, actImage)
	binaries(t)
	golang(t)
	a := newAct(t)
	tree := filepath.Join(t.TempDir(), "main")
	copyTree(t, tree)
	a.replaced["ultrafast-ci/ultrafast@main"] = tree
	a.workflow(t, "market")
	a.args = []string{"--var", "REPORT=" + a.report(), "--var", "STORE=" + a.store()}
	log := a.must(t, "push")
	if got, want := claims(t, read(t, a.report()))["market"], reference(t)["market"]; got != want {
		t.Errorf("the claim of market is %q, and on the command line %q\n%s", got, want, log)
	}
	a.nothingLeft(t)
	built := regexp.MustCompile(`docker build -t (\S+)`).FindStringSubmatch(log)
	if built == nil {
		t.Fatalf("act has built no image\n%s", log)
	}
	inspect(t, built[1], doors...)
}

// TestDockerfileOfAPhase builds the Dockerfile with one phase, as a person does.
func TestDockerfileOfAPhase(t *testing.T) {
	on(t, actImage)
	golang(t)
	source := filepath.Join(t.TempDir(), "source")
	copyTree(t, source)
	const tag = "ultrafast.test/built:market"
	call(t, command{args: []string{"docker", "build", "--quiet", "--network", "none", "--build-arg", "PHASE=market", "--tag", tag, source}})
	inspect(t, tag, "market")
	// The default entrypoint is the one phase that there is.
	if got := call(t, command{args: []string{"docker", "run", "--rm", tag, "--version"}}); !strings.HasPrefix(got, "ultrafast-market ") {
		t.Errorf("the entrypoint says %q", got)
	}
}

// inspect wants the image to hold the programs as this machine builds them, the
// certificates and nothing else. It has the image removed.
func inspect(t *testing.T, tag string, programs ...string) {
	t.Helper()
	t.Cleanup(func() {
		if err := removeImage(tag); err != nil {
			t.Error(err)
		}
	})
	files := imageFiles(t, tag)
	for _, p := range programs {
		if want := digestOf(t, filepath.Join(binaries(t), p)); files[p] != want {
			t.Errorf("/%s has digest %q, on this machine %s", p, files[p], want)
		}
	}
	if len(files) != len(programs)+1 {
		t.Errorf("the image holds %v", files)
	}
}

// imageFiles returns the digests of the regular files of an image, by path.
func imageFiles(t *testing.T, tag string) map[string]string {
	t.Helper()
	id := strings.TrimSpace(call(t, command{args: []string{"docker", "create", tag}}))
	archive := filepath.Join(t.TempDir(), "image.tar")
	_, all, err := command{args: []string{"docker", "export", "--output", archive, id}}.output(t.Context())
	call(t, command{args: []string{"docker", "rm", id}})
	if err != nil {
		t.Fatalf("%v: %s", err, all)
	}
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string]string{}
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		// Docker adds empty files where it mounts its own.
		if header.Typeflag != tar.TypeReg || header.Size == 0 {
			continue
		}
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			t.Fatal(err)
		}
		files[header.Name] = fmt.Sprintf("%x", h.Sum(nil))
	}
}

func digestOf(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

// ours is a label of images that tests have made, golangMade whether this process has
// looked for the image of [golang].
const ours = "ultrafast.test"

var golangMade bool

// golang makes sure that the daemon has the image that the Dockerfile begins with. In
// place of the real one, which no registry is asked for, it is made of the toolchain of
// this machine, a static shell, and the modules of go.mod, so that a build needs no
// network: a variable of a base image comes before a build argument.
func golang(t *testing.T) {
	t.Helper()
	tag := regexp.MustCompile(`(?m)^FROM (golang:\S+) AS build$`).FindStringSubmatch(read(t, filepath.Join(root(), "Dockerfile")))
	if tag == nil {
		t.Fatal("the Dockerfile does not begin with golang")
	}
	if got := goVariable(t, "GOVERSION"); "golang:"+strings.TrimPrefix(got, "go") != tag[1] {
		missing(t, "this machine has %s, and the Dockerfile begins with %s", got, tag[1])
	}
	docker(t)
	if out, _, err := (command{args: []string{"docker", "images", "--quiet", "--filter", "label=" + ours, tag[1]}}).output(t.Context()); err == nil && out != "" && !golangMade {
		if err := removeImage(tag[1]); err != nil { // of a test that was killed, and of other modules
			t.Fatal(err)
		}
	}
	golangMade = true
	imported(t, tag[1], func() error {
		archive := filepath.Join(scratch, "golang.tar")
		if err := writeGolang(t, archive); err != nil {
			return err
		}
		_, all, err := command{args: []string{
			"docker", "import", "--change", "LABEL " + ours + "=1", "--change", "ENV PATH=/usr/local/go/bin:/bin GOTOOLCHAIN=local GOPROXY=file:///modules GOFLAGS=-modcacherw", archive, tag[1],
		}}.output(t.Context())
		if err != nil {
			return fmt.Errorf("%w: %s", err, all)
		}
		// The stage that compiles has no name; its label is that of this image.
		atEnd = append(atEnd, func() error {
			_, all, err := command{args: []string{"docker", "image", "prune", "--force", "--filter", "label=" + ours}}.output(context.Background())
			if err != nil {
				return fmt.Errorf("remove what builds have left: %w: %s", err, all)
			}
			return nil
		})
		return os.Remove(archive)
	})
}

func writeGolang(t *testing.T, archive string) (err error) {
	modules := filepath.Join(scratch, "modules")
	host := goVariable(t, "GOMODCACHE")
	call(t, command{dir: root(), env: []string{
		"GOMODCACHE=" + modules, "GOPROXY=file://" + filepath.ToSlash(filepath.Join(host, "cache", "download")) + "," + goVariable(t, "GOPROXY"),
		"GOFLAGS=-modcacherw",
	}, args: []string{"go", "mod", "download"}})
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
		return err
	}
	for _, applet := range []string{"sh", "chmod", "ln", "mkdir"} {
		if err := w.WriteHeader(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}); err != nil {
			return err
		}
	}
	shell := kept("busybox", runtime.GOARCH)
	goRoot := goVariable(t, "GOROOT")
	return errors.Join(
		addFile(w, "bin/busybox", shell, 0o755),
		addFile(w, "etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/ca-certificates.crt", 0o644),
		addTree(w, "usr/local/go", goRoot),
		addTree(w, "modules", filepath.Join(modules, "cache", "download")),
	)
}

// addTree adds the regular files below dir, the tests and documents of a toolchain
// left out.
func addTree(w *tar.Writer, to, dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		rel, e := filepath.Rel(dir, name)
		switch {
		case errors.Join(err, e) != nil:
			return errors.Join(err, e)
		case d.IsDir() && (d.Name() == "testdata" || rel == "test" || rel == "doc" || rel == "api"):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return addFile(w, path.Join(to, filepath.ToSlash(rel)), name, info.Mode().Perm())
	})
}

func addFile(w *tar.Writer, to, from string, mode fs.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: to, Typeflag: tar.TypeReg, Mode: int64(mode), Size: int64(len(content))}); err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}
