package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// layout is an OCI image layout in a directory. Its index, index.json, is changed
// under a lock, so several processes can use it at once.
type layout struct{ files }

const maxIndex = 64 << 20 // bytes of index.json

func openLayout(dir string, existing bool) (*layout, error) {
	l := &layout{files{
		dir: dir, what: "state store " + dir,
		hint: "check that the directory is readable and writable and the disk not full, or name another store with --store",
	}}
	if _, err := os.Stat(l.path("oci-layout")); existing && errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Unavailable, "name the store into which the phase before wrote, and pass on all of it", "there is no state store in %s", dir)
	}
	if err := l.prepare(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(l.path("oci-layout")); errors.Is(err, fs.ErrNotExist) {
		// All can read every file: a store that root has made in a container is uploaded
		// by a user of the runner. The lock would be its maker's alone.
		err := errors.Join(touch(l.path("index.lock")), replace(l.path("oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)))
		if err != nil {
			return nil, l.unusable(err)
		}
	}
	_, err := l.readIndex()
	return l, err
}

func (l *layout) url() string { return layoutScheme + l.dir }

func (l *layout) close() error { return nil }

func (l *layout) open(ctx context.Context, a state.Artifact) (io.ReadCloser, error) {
	r, err := l.files.open(ctx, a)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Unavailable, "pass on the whole store of the phase before, not only the state string",
			"artifact %q (%s) is not in the store %s", a.Name, a.Digest.Short(), l.dir)
	}
	return r, err
}

func (l *layout) create(_ context.Context, mediaType string) (state.BlobWriter, error) {
	return l.files.create(mediaType, nil)
}

func (l *layout) has(_ context.Context, a state.Artifact) (bool, error) {
	info, err := os.Stat(l.blob(a.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, l.unusable(err)
	}
	return info.Size() == a.Size, nil
}

func (l *layout) manifest(ctx context.Context, what string, d state.Digest) ([]byte, error) {
	if _, err := state.ParseDigest(string(d)); err != nil {
		return nil, fault.New(fault.Finding, "", "%s: %w", what, err)
	}
	info, err := os.Stat(l.blob(d))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, absent(what, l.dir)
	case err != nil:
		return nil, l.unusable(err)
	case info.Size() > maxManifest:
		return nil, fault.New(fault.Finding, "", "%s has %d bytes; at most %d are read", what, info.Size(), maxManifest)
	}
	r, err := l.open(ctx, state.Artifact{Name: what, Digest: d, Size: info.Size()})
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

func absent(what, where string) error {
	return fault.New(fault.Unavailable, "name the store into which the phase before wrote, and pass on all of it", "%s is not in the store %s", what, where)
}

// publish keeps the manifest and lists it in the index; one with the same name
// takes the place of the old one.
func (l *layout) publish(ctx context.Context, raw []byte, d descriptor) (err error) {
	w, err := l.files.create(d.MediaType, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := w.Write(raw); err != nil {
		return err
	}
	if _, err := w.Commit(""); err != nil {
		return err
	}
	held, err := lock.Acquire(ctx, l.path("index.lock"))
	if err != nil {
		return l.unusable(err)
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
		return l.unusable(err)
	}
	return nil
}

func (l *layout) list(context.Context) (list, error) { return l.readIndex() }

// imageIndex is index.json.
type imageIndex struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

func (i *imageIndex) evidence(_ context.Context, subject state.Digest) ([]state.Digest, error) {
	var out []state.Digest
	for _, d := range i.Manifests {
		if d.ArtifactType == state.MediaTypeEvidence && d.Annotations[annotationSubject] == string(subject) {
			out = append(out, d.Digest)
		}
	}
	return out, nil
}

func (i *imageIndex) named(_ context.Context, name string) (state.Digest, bool, error) {
	for _, d := range i.Manifests {
		if d.Annotations[annotationName] == name {
			return d.Digest, true, nil
		}
	}
	return "", false, nil
}

func (i *imageIndex) entries(context.Context) ([]state.Digest, error) {
	var out []state.Digest
	for _, d := range i.Manifests {
		if d.ArtifactType == state.MediaTypeClaim && !slices.Contains(out, d.Digest) {
			out = append(out, d.Digest)
		}
	}
	return out, nil
}

func (l *layout) readIndex() (*imageIndex, error) {
	index := &imageIndex{SchemaVersion: 2, MediaType: "application/vnd.oci.image.index.v1+json"}
	f, err := os.Open(l.path("index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err != nil {
		return nil, l.unusable(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, l.unusable(err)
	}
	if len(b) > maxIndex {
		return nil, l.unusable(fmt.Errorf("index.json has more than %d bytes", maxIndex))
	}
	if err := json.Unmarshal(b, index); err != nil {
		return nil, l.unusable(fmt.Errorf("index.json: %w", err))
	}
	return index, nil
}

// touch makes an empty file that all can read, unless it is there.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// replace writes b to path so that a reader, or a run after a crash, sees the old
// content or the new one and nothing else. What a killed writer leaves is in the
// directory for such, which [files.prepare] tidies.
func replace(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Join(filepath.Dir(path), "tmp"), filepath.Base(path)+"-*")
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
