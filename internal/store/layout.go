package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Layout is a store in a directory, an OCI image layout. It is safe for use by
// several goroutines and several processes at once.
type Layout struct{ dir string }

const (
	maxChain    = 256      // entries in one chain
	maxManifest = 4 << 20  // bytes of one manifest or claim
	maxIndex    = 64 << 20 // bytes of index.json
	staleAfter  = 24 * time.Hour

	annotationSubject = "dev.ultrafast.subject"
	annotationName    = "org.opencontainers.image.ref.name"
	keyPrefix         = "k-"
)

func openLayout(ctx context.Context, dir string) (*Layout, error) {
	l := &Layout{dir: dir}
	for _, d := range []string{l.path("blobs", "sha256"), l.path("tmp")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, l.unreadable(err)
		}
	}
	if _, err := os.Stat(l.path("oci-layout")); errors.Is(err, fs.ErrNotExist) {
		if err := replace(l.path("oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
			return nil, l.unreadable(err)
		}
	}
	if _, err := l.readIndex(); err != nil {
		return nil, err
	}
	return l, l.sweep()
}

// URL returns the URL under which any process on this machine finds the store.
func (l *Layout) URL() string { return layoutScheme + l.dir }

func (l *Layout) path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

func (l *Layout) blob(d state.Digest) string { return l.path("blobs", "sha256", d.Hex()) }

// sweep removes what killed writers left more than a day ago.
func (l *Layout) sweep() error {
	entries, err := os.ReadDir(l.path("tmp"))
	if err != nil {
		return l.unreadable(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > staleAfter {
			err = os.Remove(l.path("tmp", e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return l.unreadable(err)
		}
	}
	return nil
}

func (l *Layout) unreadable(err error) error {
	return fault.Wrap(err, fault.Unavailable, "check that the directory is readable and writable and the disk not full, or name another store with --store", "state store "+l.dir)
}

// Open returns the bytes of a after it has verified all of them. They are
// verified once more while they are read, so a change in between is found too.
func (l *Layout) Open(ctx context.Context, a state.Artifact) (io.ReadCloser, error) {
	if _, err := state.ParseDigest(string(a.Digest)); err != nil {
		return nil, fault.New(fault.Finding, "", "artifact %q: %w", a.Name, err)
	}
	f, err := os.Open(l.blob(a.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Unavailable, "pass on the whole store of the phase before, not only the state string",
			"artifact %q (%s) is not in the store %s", a.Name, a.Digest.Short(), l.dir)
	}
	if err != nil {
		return nil, l.unreadable(err)
	}
	h := state.NewHasher()
	if _, err := io.Copy(h, &contextReader{ctx, f}); err != nil {
		return nil, errors.Join(l.unreadable(err), f.Close())
	}
	if err := verify(a, h); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(l.unreadable(err), f.Close())
	}
	return &verifyingReader{file: f, artifact: a, hash: state.NewHasher()}, nil
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

// Create returns a writer for a new blob.
func (l *Layout) Create(_ context.Context, mediaType string) (state.BlobWriter, error) {
	f, err := os.CreateTemp(l.path("tmp"), "blob-*")
	if err != nil {
		return nil, l.unreadable(err)
	}
	return &writer{layout: l, file: f, mediaType: mediaType, hash: state.NewHasher()}, nil
}

type writer struct {
	layout    *Layout
	file      *os.File
	mediaType string
	hash      *state.Hasher
	done      bool
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	_, _ = w.hash.Write(p[:n])
	if err != nil {
		return n, w.layout.unreadable(err)
	}
	return n, nil
}

func (w *writer) Commit(name string) (state.Artifact, error) {
	if w.done {
		return state.Artifact{}, fmt.Errorf("artifact %q is committed twice", name)
	}
	w.done = true
	err := errors.Join(w.file.Chmod(0o444), w.file.Sync(), w.file.Close())
	digest := w.hash.Digest()
	if err == nil {
		err = os.Rename(w.file.Name(), w.layout.blob(digest))
	}
	if err != nil {
		return state.Artifact{}, errors.Join(w.layout.unreadable(err), os.Remove(w.file.Name()))
	}
	return state.Artifact{Name: name, MediaType: w.mediaType, Digest: digest, Size: w.hash.Size()}, nil
}

func (w *writer) Close() error {
	if w.done {
		return nil
	}
	w.done = true
	return errors.Join(w.file.Close(), os.Remove(w.file.Name()))
}

func (l *Layout) put(ctx context.Context, mediaType string, b []byte) (descriptor, error) {
	a, err := state.WriteBlob(ctx, l, "", mediaType, b)
	return descriptor{MediaType: mediaType, Digest: a.Digest, Size: a.Size}, err
}

// Append adds the entry of r after the head of s, with its evidence, and returns
// the new link. Every artifact must be in the store already.
func (l *Layout) Append(ctx context.Context, s state.State, r state.Result) (state.Link, error) {
	entry := r.Entry
	entry.Prev = s.Head()
	entry.Normalize()
	claim, err := entry.Claim()
	if err != nil {
		return state.Link{}, err
	}
	manifest, err := entry.Manifest()
	if err != nil {
		return state.Link{}, err
	}
	for _, a := range slices.Concat(entry.Artifacts, r.Evidence.Artifacts) {
		if err := l.has(a); err != nil {
			return state.Link{}, err
		}
	}
	if len(entry.Artifacts) == 0 {
		if _, err := l.put(ctx, state.MediaTypeJSON, state.EmptyBlob); err != nil {
			return state.Link{}, err
		}
	}
	if _, err := l.put(ctx, state.MediaTypeClaim, claim); err != nil {
		return state.Link{}, err
	}
	d, err := l.put(ctx, state.MediaTypeImageManifest, manifest)
	if err != nil {
		return state.Link{}, err
	}
	d.ArtifactType = state.MediaTypeClaim
	if err := l.index(ctx, d); err != nil {
		return state.Link{}, err
	}
	ev := r.Evidence
	ev.Subject = d.Digest
	if ev, err = l.AddEvidence(ctx, ev); err != nil {
		return state.Link{}, err
	}
	return state.Link{Digest: d.Digest, Entry: entry, Evidence: []state.Evidence{ev}}, nil
}

func (l *Layout) has(a state.Artifact) error {
	info, err := os.Stat(l.blob(a.Digest))
	if err != nil {
		return fault.New(fault.Internal, "", "artifact %q was not written to the store: %w", a.Name, err)
	}
	if info.Size() != a.Size {
		return verify(a, state.NewHasher())
	}
	return nil
}

// AddEvidence keeps ev beside the entry that it names and returns it as stored.
func (l *Layout) AddEvidence(ctx context.Context, ev state.Evidence) (state.Evidence, error) {
	info, err := os.Stat(l.blob(ev.Subject))
	if err != nil {
		return ev, l.unreadable(fmt.Errorf("evidence for %s: %w", ev.Subject, err))
	}
	manifest, config, err := state.EvidenceManifest(ev, info.Size())
	if err != nil {
		return ev, err
	}
	if len(ev.Artifacts) == 0 {
		if _, err := l.put(ctx, state.MediaTypeJSON, state.EmptyBlob); err != nil {
			return ev, err
		}
	}
	if _, err := l.put(ctx, state.MediaTypeEvidence, config); err != nil {
		return ev, err
	}
	d, err := l.put(ctx, state.MediaTypeImageManifest, manifest)
	if err != nil {
		return ev, err
	}
	d.ArtifactType = state.MediaTypeEvidence
	d.Annotations = map[string]string{annotationSubject: string(ev.Subject)}
	return ev, l.index(ctx, d)
}

// Load returns the chain that ends at head, every digest verified.
func (l *Layout) Load(ctx context.Context, head state.Digest) (state.State, error) {
	index, err := l.readIndex()
	if err != nil {
		return nil, err
	}
	var chain state.State
	for d := head; d != ""; {
		if len(chain) == maxChain {
			return nil, fault.New(fault.Finding, "", "chain of %s has more than %d entries", head.Short(), maxChain)
		}
		link, err := l.link(ctx, index, d)
		if err != nil {
			return nil, err
		}
		chain = append(chain, link)
		d = link.Entry.Prev
	}
	slices.Reverse(chain)
	if err := chain.Verify(); err != nil {
		return nil, fault.New(fault.Finding, "", "state %s: %w", head.Short(), err)
	}
	return chain, nil
}

func (l *Layout) link(ctx context.Context, index *imageIndex, d state.Digest) (state.Link, error) {
	manifest, err := l.read(ctx, "entry "+d.Short(), d)
	if err != nil {
		return state.Link{}, err
	}
	var m struct {
		Config descriptor `json:"config"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil || m.Config.MediaType != state.MediaTypeClaim {
		return state.Link{}, fault.New(fault.Finding, "pass on the output `state` of a phase", "%s in %s is not an entry of a chain", d, l.dir)
	}
	claim, err := l.read(ctx, "claim of entry "+d.Short(), m.Config.Digest)
	if err != nil {
		return state.Link{}, err
	}
	entry, err := state.DecodeClaim(claim)
	if err != nil {
		return state.Link{}, fault.New(fault.Finding, "", "entry %s: %w", d.Short(), err)
	}
	again, err := entry.Manifest()
	if err != nil {
		return state.Link{}, err
	}
	if !bytes.Equal(again, manifest) {
		return state.Link{}, fault.New(fault.Finding, "", "entry %s: manifest does not say what its claim says", d.Short())
	}
	evidence, err := l.evidence(ctx, index, d)
	return state.Link{Digest: d, Entry: entry, Evidence: evidence}, err
}

func (l *Layout) evidence(ctx context.Context, index *imageIndex, subject state.Digest) ([]state.Evidence, error) {
	var out []state.Evidence
	for _, d := range index.Manifests {
		if d.ArtifactType != state.MediaTypeEvidence || d.Annotations[annotationSubject] != string(subject) {
			continue
		}
		manifest, err := l.read(ctx, "evidence for "+subject.Short(), d.Digest)
		if err != nil {
			return nil, err
		}
		var m struct {
			Config descriptor `json:"config"`
		}
		var ev state.Evidence
		if err := json.Unmarshal(manifest, &m); err != nil {
			return nil, fault.New(fault.Finding, "", "evidence for %s: %w", subject.Short(), err)
		}
		config, err := l.read(ctx, "evidence for "+subject.Short(), m.Config.Digest)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(config, &ev); err != nil || ev.Subject != subject {
			return nil, fault.New(fault.Finding, "", "evidence %s is not for entry %s", d.Digest.Short(), subject.Short())
		}
		out = append(out, ev)
	}
	return out, nil
}

// read returns a small blob, verified.
func (l *Layout) read(ctx context.Context, what string, d state.Digest) ([]byte, error) {
	if _, err := state.ParseDigest(string(d)); err != nil {
		return nil, fault.New(fault.Finding, "", "%s: %w", what, err)
	}
	info, err := os.Stat(l.blob(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.New(fault.Unavailable, "name the store into which the phase before wrote, and pass on all of it", "%s is not in the store %s", what, l.dir)
	case err != nil:
		return nil, l.unreadable(err)
	case info.Size() > maxManifest:
		return nil, fault.New(fault.Finding, "", "%s has %d bytes; at most %d are read", what, info.Size(), maxManifest)
	}
	return state.ReadBlob(ctx, l, state.Artifact{Name: what, Digest: d, Size: info.Size()})
}

// Verify reads every artifact of an entry; a difference names the artifact.
func (l *Layout) Verify(ctx context.Context, e *state.Entry) error {
	for _, a := range e.Artifacts {
		r, err := l.Open(ctx, a) // reads and compares all of it
		if err != nil {
			return err
		}
		if err := r.Close(); err != nil {
			return l.unreadable(err)
		}
	}
	return nil
}

// Lookup returns the entry remembered under a resume key, if it and all its
// artifacts are still there.
func (l *Layout) Lookup(ctx context.Context, key state.Digest) (state.Link, bool, error) {
	index, err := l.readIndex()
	if err != nil {
		return state.Link{}, false, err
	}
	for _, d := range index.Manifests {
		if d.Annotations[annotationName] != keyPrefix+key.Hex() {
			continue
		}
		link, err := l.link(ctx, index, d.Digest)
		if err != nil {
			return state.Link{}, false, err
		}
		for _, a := range link.Entry.Artifacts {
			if l.has(a) != nil {
				return state.Link{}, false, nil
			}
		}
		return link, true, nil
	}
	return state.Link{}, false, nil
}

// Remember keeps the entry under a resume key.
func (l *Layout) Remember(ctx context.Context, key, entry state.Digest) error {
	info, err := os.Stat(l.blob(entry))
	if err != nil {
		return l.unreadable(err)
	}
	return l.index(ctx, descriptor{
		MediaType: state.MediaTypeImageManifest, ArtifactType: state.MediaTypeClaim, Digest: entry, Size: info.Size(),
		Annotations: map[string]string{annotationName: keyPrefix + key.Hex()},
	})
}

type imageIndex struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type descriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Digest       state.Digest      `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// index adds d to index.json under the store's lock; a descriptor with the same
// name takes the place of the old one.
func (l *Layout) index(ctx context.Context, d descriptor) (err error) {
	held, err := lock.Acquire(ctx, l.path("index.lock"))
	if err != nil {
		return l.unreadable(err)
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	index, err := l.readIndex()
	if err != nil {
		return err
	}
	name := d.Annotations[annotationName]
	index.Manifests = slices.DeleteFunc(index.Manifests, func(old descriptor) bool {
		oldName := old.Annotations[annotationName]
		return oldName == name && (name != "" || old.Digest == d.Digest)
	})
	index.Manifests = append(index.Manifests, d)
	b, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := replace(l.path("index.json"), b); err != nil {
		return l.unreadable(err)
	}
	return nil
}

func (l *Layout) readIndex() (*imageIndex, error) {
	empty := &imageIndex{SchemaVersion: 2, MediaType: "application/vnd.oci.image.index.v1+json"}
	f, err := os.Open(l.path("index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return nil, l.unreadable(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, l.unreadable(err)
	}
	if len(b) > maxIndex {
		return nil, l.unreadable(fmt.Errorf("index.json has more than %d bytes", maxIndex))
	}
	if err := json.Unmarshal(b, empty); err != nil {
		return nil, l.unreadable(fmt.Errorf("index.json: %w", err))
	}
	return empty, nil
}

// replace writes b to path so that a reader, or a run after a crash, sees the old
// content or the new one and nothing else.
func replace(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir durable, where the system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // not possible on every system and file system; the rename itself is atomic everywhere
	return d.Close()
}
