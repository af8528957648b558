package market

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// MaxPackage is the largest package in bytes, as a tar.
const MaxPackage = 64 << 20

// maxFiles is how many files and directories a package may have.
const maxFiles = 10_000

// Sum returns the digest of the files below fsys as an index states it: the
// SHA-256 of the sorted lines
//
//	<sha256 of content in hex>  <path>  <mode>\n
//
// with mode 0755 for executable files and 0644 for others (features.md N-12).
// Directories do not count, and nothing called .git does. Links and special
// files are an error of kind fault.Finding, as is a package over its bounds.
func Sum(fsys fs.FS) (state.Digest, error) {
	b, err := packed(fsys)
	if err != nil {
		return "", err
	}
	return sumTar(b)
}

// packed returns fsys as the tar that becomes the package's artifact.
func packed(fsys fs.FS) ([]byte, error) {
	w := &boundedBuffer{left: MaxPackage}
	if err := state.Pack(context.Background(), w, fsys, SkipGit); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

// SkipGit tells [state.Pack] to leave out version control data.
func SkipGit(path string, d fs.DirEntry) bool { return d.Name() == ".git" }

// boundedBuffer refuses to grow over its bound.
type boundedBuffer struct {
	bytes.Buffer
	left int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fault.New(fault.Finding, "", "package has more than %d bytes", MaxPackage)
	}
	return b.Buffer.Write(p)
}

// sumTar computes [Sum] of a package's tar without unpacking it. It refuses what
// could not be unpacked the same way on every platform.
func sumTar(b []byte) (state.Digest, error) {
	var lines []string
	folded := map[string]string{}
	err := eachFile(b, func(h *tar.Header, content io.Reader) error {
		if strings.ContainsAny(h.Name, "\n\r\x00") {
			return fault.New(fault.Finding, "", "file name %q has a control character", h.Name)
		}
		if other, ok := folded[strings.ToLower(h.Name)]; ok {
			return fault.New(fault.Finding, "rename one of them", "file names %q and %q are one where case does not count", other, h.Name)
		}
		folded[strings.ToLower(h.Name)] = h.Name
		sum := sha256.New()
		if _, err := io.Copy(sum, content); err != nil {
			return fmt.Errorf("read %s: %w", h.Name, err)
		}
		mode := "0644"
		if h.Mode&0o111 != 0 {
			mode = "0755"
		}
		lines = append(lines, hex.EncodeToString(sum.Sum(nil))+"  "+h.Name+"  "+mode+"\n")
		return nil
	})
	if err != nil {
		return "", err
	}
	slices.Sort(lines)
	return state.DigestOf([]byte(strings.Join(lines, ""))), nil
}

// eachFile calls do for every regular file of a package's tar.
func eachFile(b []byte, do func(h *tar.Header, content io.Reader) error) error {
	tr := tar.NewReader(bytes.NewReader(b))
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.New(fault.Finding, "", "archive is damaged at entry %d: %w", n+1, err)
		}
		if n >= maxFiles {
			return fault.New(fault.Finding, "", "more than %d files", maxFiles)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			continue
		case tar.TypeReg:
		default:
			return fault.New(fault.Finding, "", "%q is neither a file nor a directory", h.Name)
		}
		if err := do(h, tr); err != nil {
			return err
		}
	}
}

// fileOf returns the content of one file of a package's tar, and whether it is there.
func fileOf(b []byte, name string, limit int64) (content []byte, found bool, err error) {
	err = eachFile(b, func(h *tar.Header, r io.Reader) error {
		if h.Name != name || found {
			return nil
		}
		if h.Size > limit {
			return fault.New(fault.Finding, "", "%s has %d bytes; at most %d are read", name, h.Size, limit)
		}
		found = true
		var err error
		content, err = io.ReadAll(r)
		return err
	})
	return content, found, err
}
