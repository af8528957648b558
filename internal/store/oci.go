package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// registry is a repository of an OCI registry. Blobs lie in a temporary directory
// too, as long as the store is open: an artifact is verified whole before its
// first byte is given out, and read more than once.
//
// Entries and evidence are manifests under their digests; evidence is a referrer
// of its entry; a resume key is a tag. A registry may delete manifests without a
// tag: keep those of a repository for as long as its states are of use.
type registry struct {
	repository *oci.Repository
	local      files
	mu         sync.Mutex
	// sent are the blobs known to be in the repository.
	sent map[state.Digest]bool
}

func openRegistry(ctx context.Context, name string, credentials oci.Credentials) (*registry, error) {
	repository, err := oci.OpenRepository(ctx, name, credentials)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "state store "+registryScheme+name)
	}
	dir, err := os.MkdirTemp("", "ultrafast-store-*")
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "set TMPDIR to a directory that can be written", "state store "+registryScheme+name)
	}
	r := &registry{repository: repository, sent: map[state.Digest]bool{}, local: files{
		dir: dir, what: "temporary directory " + dir + " of the state store", hint: "check that the disk is not full",
	}}
	if err := r.local.prepare(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *registry) url() string { return registryScheme + r.repository.Name() }

func (r *registry) close() error { return os.RemoveAll(r.local.dir) }

func (r *registry) open(ctx context.Context, a state.Artifact) (io.ReadCloser, error) {
	blob, err := r.local.open(ctx, a)
	if !errors.Is(err, fs.ErrNotExist) {
		return blob, err
	}
	if err := r.fetch(ctx, a); err != nil {
		return nil, err
	}
	return r.local.open(ctx, a)
}

// fetch brings a blob into the local directory, if it has the digest it should.
func (r *registry) fetch(ctx context.Context, a state.Artifact) (err error) {
	blob, err := r.repository.Blob(ctx, a.Digest)
	if errors.Is(err, oci.ErrAbsent) {
		return fault.New(fault.Unavailable, "run the phase that made it again, with --no-cache, and look whether the registry deletes what has no tag",
			"artifact %q (%s) is not in the store %s", a.Name, a.Digest.Short(), r.url())
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	w, err := r.local.create(a.MediaType, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := io.Copy(w, io.LimitReader(&contextReader{ctx, blob}, a.Size+1)); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fault.Wrap(err, fault.Unavailable, "run again", fmt.Sprintf("read artifact %q from the store %s", a.Name, r.url()))
	}
	if err := verify(a, w.hash); err != nil {
		return err
	}
	if _, err := w.Commit(a.Name); err != nil {
		return err
	}
	r.known(a.Digest)
	return nil
}

func (r *registry) known(d state.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent[d] = true
}

func (r *registry) isKnown(d state.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[d]
}

func (r *registry) create(ctx context.Context, mediaType string) (state.BlobWriter, error) {
	return r.local.create(mediaType, func(a state.Artifact) error {
		open := func() (io.ReadCloser, error) { return os.Open(r.local.blob(a.Digest)) }
		if err := r.repository.PutBlob(ctx, a, open); err != nil {
			return fmt.Errorf("keep artifact %q: %w", a.Name, err)
		}
		r.known(a.Digest)
		return nil
	})
}

func (r *registry) has(ctx context.Context, a state.Artifact) (bool, error) {
	if r.isKnown(a.Digest) {
		return true, nil
	}
	return r.repository.HasBlob(ctx, a.Digest)
}

func (r *registry) manifest(ctx context.Context, what string, d state.Digest) ([]byte, error) {
	if _, err := state.ParseDigest(string(d)); err != nil {
		return nil, fault.New(fault.Finding, "", "%s: %w", what, err)
	}
	raw, err := r.repository.Manifest(ctx, string(d))
	if errors.Is(err, oci.ErrAbsent) {
		return nil, absent(what, r.url())
	}
	return raw, err
}

func (r *registry) publish(ctx context.Context, raw []byte, d descriptor) error {
	reference := d.Annotations[annotationName]
	if reference == "" {
		reference = string(d.Digest)
	}
	return r.repository.PutManifest(ctx, reference, raw)
}

// list returns the repository itself: it is asked anew each time.
func (r *registry) list(context.Context) (list, error) { return r, nil }

func (r *registry) evidence(ctx context.Context, subject state.Digest) ([]state.Digest, error) {
	referrers, err := r.repository.Referrers(ctx, subject)
	if err != nil {
		return nil, err
	}
	var out []state.Digest
	for _, referrer := range referrers {
		if referrer.ArtifactType == state.MediaTypeEvidence {
			out = append(out, referrer.Digest)
		}
	}
	return out, nil
}

func (r *registry) named(ctx context.Context, name string) (state.Digest, bool, error) {
	raw, err := r.repository.Manifest(ctx, name)
	if errors.Is(err, oci.ErrAbsent) {
		return "", false, nil
	}
	return state.DigestOf(raw), err == nil, err
}

func (r *registry) entries(context.Context) ([]state.Digest, error) {
	return nil, fault.New(fault.Usage, "give the state as it was printed, <store>@sha256:<64 hex digits>", "a registry is not searched: %s finds whole digests of entries only", r.url())
}
