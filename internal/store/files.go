package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// files are blobs in a directory, each under its digest.
type files struct {
	dir string
	// what names the directory in messages, and hint says what to do when it
	// cannot be used.
	what, hint string
}

// staleAfter is the age at which a temporary file can only be of a killed writer.
const staleAfter = 24 * time.Hour

// prepare makes the directories and removes what killed writers left long ago.
func (f files) prepare() error {
	for _, d := range []string{f.path("blobs", "sha256"), f.path("tmp")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return f.unusable(err)
		}
	}
	entries, err := os.ReadDir(f.path("tmp"))
	if err != nil {
		return f.unusable(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > staleAfter {
			err = os.Remove(f.path("tmp", e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return f.unusable(err)
		}
	}
	return nil
}

func (f files) path(elem ...string) string {
	return filepath.Join(append([]string{f.dir}, elem...)...)
}

func (f files) blob(d state.Digest) string { return f.path("blobs", "sha256", d.Hex()) }

func (f files) unusable(err error) error { return fault.Wrap(err, fault.Unavailable, f.hint, f.what) }

// open returns a blob after it has verified it. One that is not there is fs.ErrNotExist.
func (f files) open(ctx context.Context, a state.Artifact) (io.ReadCloser, error) {
	file, err := os.Open(f.blob(a.Digest))
	if err != nil {
		return nil, f.unusable(err)
	}
	h := state.NewHasher()
	if _, err := io.Copy(h, &contextReader{ctx, file}); err != nil {
		if ctx.Err() == nil {
			err = f.unusable(err)
		}
		return nil, errors.Join(err, file.Close())
	}
	if err := verify(a, h); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(f.unusable(err), file.Close())
	}
	return &verifyingReader{file: file, artifact: a, hash: state.NewHasher()}, nil
}

func verify(a state.Artifact, h *state.Hasher) error {
	if h.Digest() == a.Digest && h.Size() == a.Size {
		return nil
	}
	return fault.New(fault.Finding, "the stored bytes were changed or damaged: run the phase that made it again, with --no-cache",
		"artifact %q has digest %s and %d bytes, not %s and %d", a.Name, h.Digest(), h.Size(), a.Digest, a.Size)
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

type verifyingReader struct {
	file     *os.File
	artifact state.Artifact
	hash     *state.Hasher
}

func (v *verifyingReader) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	_, _ = v.hash.Write(p[:n]) // a Hasher never fails
	if errors.Is(err, io.EOF) {
		if err := verify(v.artifact, v.hash); err != nil {
			return n, err
		}
	}
	return n, err
}

func (v *verifyingReader) Close() error { return v.file.Close() }

// create returns a writer for a new blob. kept, if set, is called when the blob is
// in the directory and decides whether the commit holds.
func (f files) create(mediaType string, kept func(state.Artifact) error) (*writer, error) {
	file, err := os.CreateTemp(f.path("tmp"), "blob-*")
	if err != nil {
		return nil, f.unusable(err)
	}
	return &writer{files: f, file: file, mediaType: mediaType, hash: state.NewHasher(), kept: kept}, nil
}

type writer struct {
	files     files
	file      *os.File
	mediaType string
	hash      *state.Hasher
	kept      func(state.Artifact) error
	done      bool
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	_, _ = w.hash.Write(p[:n])
	if err != nil {
		return n, w.files.unusable(err)
	}
	return n, nil
}

func (w *writer) Commit(name string) (state.Artifact, error) {
	if w.done {
		return state.Artifact{}, fmt.Errorf("artifact %q is committed twice", name)
	}
	w.done = true
	err := errors.Join(w.file.Chmod(0o444), w.file.Sync(), w.file.Close())
	a := state.Artifact{Name: name, MediaType: w.mediaType, Digest: w.hash.Digest(), Size: w.hash.Size()}
	if err == nil {
		err = os.Rename(w.file.Name(), w.files.blob(a.Digest))
	}
	if err != nil {
		return state.Artifact{}, errors.Join(w.files.unusable(err), os.Remove(w.file.Name()))
	}
	if w.kept != nil {
		if err := w.kept(a); err != nil {
			return state.Artifact{}, err
		}
	}
	return a, nil
}

func (w *writer) Close() error {
	if w.done {
		return nil
	}
	w.done = true
	return errors.Join(w.file.Close(), os.Remove(w.file.Name()))
}
