package oci

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Archive is a file that `docker save`, `podman save` or `skopeo copy` wrote: an OCI
// layout in a tar or, from older engines, a manifest.json with its layers.
//
// The older form knows no digest of an image. It gets that of a manifest that names
// the configuration and the layers just as they lie in the archive: equal archives
// have equal digests, but not the digest that a registry has for the image.
type Archive struct {
	file  *os.File
	path  string
	parts map[string]section
	// blobs are the places of blobs by digest, made the images of manifest.json.
	blobs map[state.Digest]section
	made  map[state.Digest][]byte
	named []v1.Descriptor
}

// section is where the bytes of a file lie in the archive.
type section struct{ offset, size int64 }

const maxArchiveEntries = 10_000

// OpenArchive returns the archive in file, which must not be compressed. The caller
// closes it.
func OpenArchive(ctx context.Context, file string) (_ *Archive, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fault.Wrap(err, fault.Finding, "name a file that docker save wrote", "open image archive")
	}
	a := &Archive{file: f, path: file, parts: map[string]section{}, blobs: map[state.Digest]section{}, made: map[state.Digest][]byte{}}
	defer func() {
		if err != nil {
			err = errors.Join(fault.Wrap(err, fault.Finding, "", "image archive "+file), f.Close())
		}
	}()
	if err := a.scan(); err != nil {
		return nil, err
	}
	if _, ok := a.parts[indexFile]; ok {
		return a, a.readLayout()
	}
	return a, a.readSaved(ctx)
}

// Close closes the file.
func (a *Archive) Close() error { return a.file.Close() }

// scan notes where each file lies, without reading any.
func (a *Archive) scan() error {
	if b, err := bufio.NewReader(io.NewSectionReader(a.file, 0, 2)).Peek(2); err == nil && b[0] == 0x1f && b[1] == 0x8b {
		return fault.New(fault.Usage, "unpack it first, with gunzip", "it is compressed")
	}
	links := map[string]string{}
	tr := tar.NewReader(a.file)
	for n := 0; ; n++ {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fault.New(fault.Finding, "", "it is damaged at entry %d: %w", n+1, err)
		}
		if n == maxArchiveEntries {
			return fault.New(fault.Finding, "", "it has more than %d entries", maxArchiveEntries)
		}
		name := path.Clean("/" + header.Name)[1:]
		switch header.Typeflag {
		case tar.TypeReg:
			// The reader reads headers exactly and skips by seeking: this is where the data begins.
			offset, err := a.file.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.parts[name] = section{offset, header.Size}
			if digest, err := state.ParseDigest("sha256:" + strings.TrimPrefix(name, "blobs/sha256/")); err == nil {
				a.blobs[digest] = a.parts[name]
			}
		case tar.TypeSymlink: // older engines link a layer that occurs twice
			links[name] = path.Join(path.Dir(name), header.Linkname)
		}
	}
	for from, to := range links {
		if s, ok := a.parts[to]; ok {
			a.parts[from] = s
		}
	}
	return nil
}

func (a *Archive) read(name string) ([]byte, error) {
	s, ok := a.parts[name]
	if !ok {
		return nil, fault.New(fault.Finding, "", "it holds no %s", name)
	}
	b, err := readManifest(io.NewSectionReader(a.file, s.offset, s.size))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

func (a *Archive) readLayout() error {
	b, err := a.read(indexFile)
	if err != nil {
		return err
	}
	var index v1.IndexManifest
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&index); err != nil {
		return fault.New(fault.Finding, "", "%s: %w", indexFile, err)
	}
	a.named = index.Manifests
	return nil
}

// readSaved makes a manifest for each image of manifest.json.
func (a *Archive) readSaved(ctx context.Context) error {
	b, err := a.read("manifest.json")
	if err != nil {
		return err
	}
	var saved []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(b, &saved); err != nil {
		return fault.New(fault.Finding, "", "manifest.json: %w", err)
	}
	digests := map[string]v1.Descriptor{}
	for _, image := range saved {
		config, err := a.read(image.Config)
		if err != nil {
			return err
		}
		digest := state.DigestOf(config)
		a.blobs[digest] = a.parts[image.Config]
		m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
			Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Digest: hash(digest), Size: int64(len(config))}, Layers: []v1.Descriptor{}}
		for _, name := range image.Layers {
			d, ok := digests[name]
			if !ok {
				if d, err = a.describe(ctx, name); err != nil {
					return err
				}
				digests[name] = d
			}
			m.Layers = append(m.Layers, d)
		}
		raw, err := json.Marshal(m)
		if err != nil {
			return err
		}
		d := v1.Descriptor{MediaType: m.MediaType, Digest: hash(state.DigestOf(raw)), Size: int64(len(raw))}
		a.made[state.DigestOf(raw)] = raw
		for _, tag := range append([]string{""}, image.RepoTags...) {
			d.Annotations = map[string]string{annotationName: tag}
			a.named = append(a.named, d)
		}
	}
	return nil
}

// describe reads a layer once, for its digest.
func (a *Archive) describe(ctx context.Context, name string) (v1.Descriptor, error) {
	s, ok := a.parts[name]
	if !ok {
		return v1.Descriptor{}, fault.New(fault.Finding, "", "it holds no %s", name)
	}
	h := state.NewHasher()
	r := bufio.NewReaderSize(contextReader{ctx, io.NewSectionReader(a.file, s.offset, s.size)}, readSize)
	magic, err := r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return v1.Descriptor{}, err
	}
	if _, err := r.WriteTo(h); err != nil {
		return v1.Descriptor{}, fmt.Errorf("%s: %w", name, err)
	}
	a.blobs[h.Digest()] = s
	return v1.Descriptor{MediaType: types.MediaType(layerType(magic)), Digest: hash(h.Digest()), Size: s.size}, nil
}

// Manifest returns what has the digest or the name; the empty name stands for the
// only image of the archive.
func (a *Archive) Manifest(_ context.Context, reference string) ([]byte, error) {
	digest, err := state.ParseDigest(reference)
	if err != nil {
		if digest, err = pickNamed(a.named, reference, "archive "+a.path); err != nil {
			return nil, err
		}
	}
	if raw, ok := a.made[digest]; ok {
		return raw, nil
	}
	s, ok := a.blobs[digest]
	if !ok {
		return nil, fault.New(fault.Finding, "", "archive %s holds no manifest %s: %w", a.path, digest.Short(), ErrAbsent)
	}
	b, err := readManifest(io.NewSectionReader(a.file, s.offset, s.size))
	if err == nil && state.DigestOf(b) != digest {
		err = fault.New(fault.Finding, "save the image again", "it has digest %s", state.DigestOf(b))
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest %s of archive %s: %w", digest, a.path, err)
	}
	return b, nil
}

// Blob opens a blob of the archive.
func (a *Archive) Blob(_ context.Context, digest state.Digest) (io.ReadCloser, error) {
	s, ok := a.blobs[digest]
	if !ok {
		return nil, fault.New(fault.Finding, "save the image again", "archive %s holds no blob %s: %w", a.path, digest.Short(), ErrAbsent)
	}
	return io.NopCloser(io.NewSectionReader(a.file, s.offset, s.size)), nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
