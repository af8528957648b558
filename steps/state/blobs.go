package state

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Blobs moves the bytes of artifacts. The caller of a phase supplies it.
type Blobs interface {
	// Open returns the bytes of a. Size and digest are verified before the first
	// byte is returned; a difference is an error of kind fault.Finding that
	// names the artifact.
	Open(ctx context.Context, a Artifact) (io.ReadCloser, error)
	// Create returns a writer for new bytes.
	Create(ctx context.Context, mediaType string) (BlobWriter, error)
}

// BlobWriter receives the bytes of a new artifact.
type BlobWriter interface {
	io.Writer
	// Commit keeps what was written and returns its artifact, named name.
	Commit(name string) (Artifact, error)
	// Close frees the writer; before Commit it discards what was written. It may
	// be called more than once, so `defer w.Close()` is right in every case.
	Close() error
}

// MaxInline is the largest artifact in bytes that [ReadBlob] reads into memory.
const MaxInline = 64 << 20

// ReadBlob returns the bytes of a, which may have at most [MaxInline].
func ReadBlob(ctx context.Context, blobs Blobs, a Artifact) (_ []byte, err error) {
	if a.Size > MaxInline {
		return nil, fault.New(fault.Finding, "", "artifact %q has %d bytes; at most %d are read into memory", a.Name, a.Size, MaxInline)
	}
	r, err := blobs.Open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b, err := io.ReadAll(io.LimitReader(r, a.Size+1))
	if err != nil {
		return nil, fmt.Errorf("read artifact %q: %w", a.Name, err)
	}
	return b, nil
}

// WriteBlob keeps b as an artifact.
func WriteBlob(ctx context.Context, blobs Blobs, name, mediaType string, b []byte) (_ Artifact, err error) {
	w, err := blobs.Create(ctx, mediaType)
	if err != nil {
		return Artifact{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := w.Write(b); err != nil {
		return Artifact{}, fmt.Errorf("write artifact %q: %w", name, err)
	}
	return w.Commit(name)
}
