package main

import (
	"archive/tar"
	"archive/zip"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// layer is a compressed layer in a file. Images that hold the same layer hold the
// same digest, so a registry and a runner keep it once.
type layer struct {
	// what says in the image's history what the layer holds.
	what           string
	digest, diffID state.Digest
	size           int64
	file           string
}

func (l *layer) Digest() (v1.Hash, error)             { return v1.NewHash(string(l.digest)) }
func (l *layer) DiffID() (v1.Hash, error)             { return v1.NewHash(string(l.diffID)) }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
func (l *layer) Compressed() (io.ReadCloser, error)   { return os.Open(l.file) }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// archive writes the entries of a layer, all of them owned by root and of the Unix
// epoch. Callers add them in an order that does not depend on the machine.
type archive struct{ *tar.Writer }

func (a archive) add(h tar.Header, body io.Reader) error {
	h.ModTime = time.Unix(0, 0)
	if err := a.WriteHeader(&h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := io.CopyN(a, body, h.Size)
	return err
}

func (a archive) dir(name string, mode int64) error {
	return a.add(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}, nil)
}

func (a archive) file(name string, mode, size int64, body io.Reader) error {
	return a.add(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size}, body)
}

func (a archive) link(name, target string) error {
	return a.add(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, nil)
}

// newLayer writes a layer into dir.
func newLayer(dir, what string, write func(archive) error) (_ *layer, err error) {
	file, err := os.CreateTemp(dir, "layer-*.tar.gz")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	packed, plain := state.NewHasher(), state.NewHasher()
	zw, err := oci.NewCompressor(io.MultiWriter(file, packed))
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(io.MultiWriter(zw, plain))
	if err := write(archive{tw}); err != nil {
		return nil, fmt.Errorf("layer %s: %w", what, err)
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		return nil, fmt.Errorf("layer %s: %w", what, err)
	}
	return &layer{what: what, digest: packed.Digest(), diffID: plain.Digest(), size: packed.Size(), file: file.Name()}, nil
}

// base is the lowest layer of every image: the certificates by which a phase knows
// a server, and a directory for temporary files that every user may write to.
//
// The certificates are those of Mozilla's trust store as the Go project publishes
// them (golang.org/x/crypto/x509roots); their version is pinned in go.mod, so they
// are the same on every machine that builds.
func base(a archive) error {
	certificates := certificates()
	return errors.Join(
		a.dir("etc", 0o755), a.dir("etc/ssl", 0o755), a.dir("etc/ssl/certs", 0o755),
		a.file("etc/ssl/certs/ca-certificates.crt", 0o644, int64(len(certificates)), strings.NewReader(certificates)),
		a.dir("tmp", 0o1777),
	)
}

// certificates returns the trusted roots in PEM. A root that is trusted under a
// constraint which PEM cannot express is left out.
func certificates() string {
	var blocks []string
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			blocks = append(blocks, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})))
		}
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "")
}

// program returns the content of the layer with one program.
func program(name, file string) func(archive) error {
	return func(a archive) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return a.file(name, 0o755, info.Size(), f)
	}
}

// applets are the commands of busybox that a script of a CI job may use.
var applets = strings.Fields(`ash awk base64 basename cat chmod chown cp cut date dd df diff dirname du echo env
	expr false find grep gunzip gzip head hostname id install kill ln ls md5sum mkdir mktemp mv nproc od printenv
	printf ps pwd readlink realpath rm rmdir sed seq sh sha256sum sleep sort stat stty sync tail tar tee test
	timeout touch tr true tty uname uniq unzip wc wget which xargs yes`)

// busybox returns the content of the layer with a shell.
func busybox(file string) func(archive) error {
	return func(a archive) error {
		if err := errors.Join(a.dir("bin", 0o755), program("bin/busybox", file)(a)); err != nil {
			return err
		}
		for _, name := range applets {
			if err := a.link("bin/"+name, "busybox"); err != nil {
				return err
			}
		}
		return nil
	}
}

// toolchain returns the content of the layer with a Go toolchain, from the module
// zip in which the Go project publishes it. Its own tests are left out.
func toolchain(file string) func(archive) error {
	return func(a archive) (err error) {
		r, err := zip.OpenReader(file)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		slices.SortFunc(r.File, func(x, y *zip.File) int { return strings.Compare(x.Name, y.Name) })
		for _, f := range r.File {
			// golang.org/toolchain@<version>/<path>
			_, name, ok := strings.Cut(strings.TrimPrefix(f.Name, "golang.org/"), "/")
			if !ok || !filepath.IsLocal(name) || toolchainTest(name) {
				continue
			}
			if err := copyZipped(a, f, path.Join("usr/local/go", name)); err != nil {
				return err
			}
		}
		return nil
	}
}

func toolchainTest(name string) bool {
	return strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") || strings.HasPrefix(name, "test/")
}

// copyZipped adds a file of a zip. Module zips have no modes: as the go command
// does, what lies in bin and pkg/tool becomes executable.
func copyZipped(a archive, f *zip.File, name string) (err error) {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	mode := int64(0o644)
	if strings.HasPrefix(name, "usr/local/go/bin/") || strings.HasPrefix(name, "usr/local/go/pkg/tool/") {
		mode = 0o755
	}
	return a.file(name, mode, int64(f.UncompressedSize64), r)
}
