package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Source holds images: a [Repository], a [Layout] or an [Archive]. It is safe for
// use by several goroutines.
type Source interface {
	// Manifest returns the manifest or the index under a digest or a name. One
	// that is not there is [ErrAbsent]; one that does not have the digest is a
	// fault.Finding.
	Manifest(ctx context.Context, reference string) ([]byte, error)
	// Blob returns the bytes of a blob, not verified.
	Blob(ctx context.Context, digest state.Digest) (io.ReadCloser, error)
}

// Layout is a directory with an OCI image layout.
type Layout struct{ dir string }

// OpenLayout returns the layout in dir. A directory that is none is fault.Finding.
func OpenLayout(dir string) (*Layout, error) {
	if _, err := os.Stat(filepath.Join(dir, indexFile)); err != nil {
		kind := fault.Unavailable
		if errors.Is(err, fs.ErrNotExist) {
			kind = fault.Finding
		}
		return nil, fault.Wrap(err, kind, "name a directory that has an index.json and blobs", dir+" is not an OCI image layout")
	}
	return &Layout{dir}, nil
}

// Annotations under which an index names its images.
const (
	annotationName   = "org.opencontainers.image.ref.name"
	annotationEngine = "io.containerd.image.name"
)

// Manifest returns what has the digest or the name; the empty name stands for the
// only image of the layout.
func (l *Layout) Manifest(_ context.Context, reference string) ([]byte, error) {
	digest, err := state.ParseDigest(reference)
	if err != nil {
		if digest, err = l.named(reference); err != nil {
			return nil, err
		}
	}
	f, err := l.open(digest)
	if err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", digest.Short(), err)
	}
	defer f.Close()
	b, err := readManifest(f)
	if err == nil && state.DigestOf(b) != digest {
		err = fault.New(fault.Finding, "make the layout again", "it has digest %s", state.DigestOf(b))
	}
	if err != nil {
		return nil, fmt.Errorf("read manifest %s of layout %s: %w", digest, l.dir, err)
	}
	return b, nil
}

func (l *Layout) named(name string) (state.Digest, error) {
	index, err := readIndex(l.dir)
	if err != nil {
		return "", fault.New(fault.Finding, "make the layout again", "layout %s: %w", l.dir, err)
	}
	return pickNamed(index.Manifests, name, "layout "+l.dir)
}

// pickNamed returns the digest of the one descriptor that has the name.
func pickNamed(all []v1.Descriptor, name, where string) (state.Digest, error) {
	found := map[state.Digest]bool{}
	var names []string
	for _, d := range all {
		if name == "" && d.ArtifactType != "" && !types.MediaType(d.ArtifactType).IsConfig() {
			continue // a referrer beside the image
		}
		known := []string{d.Annotations[annotationName], d.Annotations[annotationEngine]}
		names = append(names, known[0])
		if name == "" || slices.Contains(known, name) {
			found[state.Digest(d.Digest.String())] = true
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" })
	switch {
	case len(found) == 1:
		return slices.Collect(maps.Keys(found))[0], nil
	case len(found) == 0 && name != "":
		return "", fault.New(fault.Finding, hintNames(names), "%s holds no image called %q: %w", where, name, ErrAbsent)
	case len(found) == 0:
		return "", fault.New(fault.Finding, "", "%s holds no image: %w", where, ErrAbsent)
	}
	return "", fault.New(fault.Usage, hintNames(names), "%s holds %d images that may be meant", where, len(found))
}

func hintNames(names []string) string {
	if len(names) == 0 {
		return "its images have no names: name the one that is meant by its digest, after @"
	}
	slices.Sort(names)
	if len(names) > 10 {
		names = append(names[:10], "…")
	}
	return "it holds " + strings.Join(names, ", ")
}

// Blob opens a blob of the layout.
func (l *Layout) Blob(_ context.Context, digest state.Digest) (io.ReadCloser, error) {
	f, err := l.open(digest)
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", digest.Short(), err)
	}
	return f, nil
}

func (l *Layout) open(digest state.Digest) (*os.File, error) {
	f, err := os.Open(filepath.Join(l.dir, "blobs", "sha256", digest.Hex()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Finding, "make the layout again", "layout %s: %w", l.dir, ErrAbsent)
	}
	return f, err
}

// Platform is what an image runs on, as in GOOS and GOARCH.
type Platform struct{ OS, Architecture string }

// Manifest is one image as its manifest and its configuration describe it, both
// verified.
type Manifest struct {
	// Digest is that of the manifest, Raw its bytes.
	Digest state.Digest
	Raw    []byte
	// ConfigDigest is that of the configuration: what an engine calls the image's id.
	ConfigDigest state.Digest
	RawConfig    []byte
	// Config says how to run the image; its User is as the image has it, a name
	// or a number, and Volumes are sorted.
	Config  state.ImageConfig
	Volumes []string
	// Layers begin with the lowest.
	Layers []Layer
}

// Layer is one layer of an image.
type Layer struct {
	// Digest and Size are those of the blob, DiffID is the digest of the tar in it.
	Digest, DiffID state.Digest
	Size           int64
	MediaType      string
}

// maxBlob bounds the size that a manifest may claim for a layer, in bytes.
const maxBlob = 64 << 30

// Find returns the image that reference stands for in src. Of an index it is the
// one for the platform.
func Find(ctx context.Context, src Source, reference string, p Platform) (*Manifest, error) {
	raw, err := src.Manifest(ctx, reference)
	if err != nil {
		return nil, err
	}
	digest, err := PickPlatform(raw, p)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", reference, err)
	}
	if digest != "" {
		if raw, err = src.Manifest(ctx, string(digest)); err != nil {
			return nil, err
		}
	}
	m, err := readImage(ctx, src, raw)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", state.DigestOf(raw), err)
	}
	return m, nil
}

// PickPlatform returns the digest that an index has for the platform, or nothing if
// raw is the manifest of one image.
func PickPlatform(raw []byte, p Platform) (state.Digest, error) {
	var index v1.IndexManifest
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&index); err != nil {
		return "", fault.New(fault.Finding, "", "manifest: %w", err)
	}
	if len(index.Manifests) == 0 {
		if index.MediaType.IsIndex() {
			return "", fault.New(fault.Finding, "", "the index holds no image")
		}
		return "", nil
	}
	var known []string
	for _, d := range index.Manifests {
		if d.Platform == nil {
			if len(index.Manifests) == 1 {
				return parseDigest(d.Digest)
			}
			continue
		}
		if d.Platform.OS == p.OS && d.Platform.Architecture == p.Architecture && d.MediaType.IsImage() {
			return parseDigest(d.Digest)
		}
		if d.Platform.OS != "unknown" { // an attestation beside the images
			known = append(known, d.Platform.OS+"/"+d.Platform.Architecture)
		}
	}
	return "", fault.New(fault.Finding, "it is there for "+strings.Join(known, ", "), "it is not there for %s/%s", p.OS, p.Architecture)
}

func parseDigest(h v1.Hash) (state.Digest, error) {
	d, err := state.ParseDigest(h.String())
	if err != nil {
		err = fault.New(fault.Finding, "", "%w", err)
	}
	return d, err
}

func readImage(ctx context.Context, src Source, raw []byte) (*Manifest, error) {
	var m v1.Manifest
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&m); err != nil {
		return nil, fault.New(fault.Finding, "", "manifest: %w", err)
	}
	if !m.Config.MediaType.IsConfig() {
		return nil, fault.New(fault.Finding, "", "it is no image: its configuration is %q", m.Config.MediaType)
	}
	out := &Manifest{Digest: state.DigestOf(raw), Raw: raw}
	var err error
	if out.ConfigDigest, err = parseDigest(m.Config.Digest); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if out.RawConfig, err = readConfig(ctx, src, out.ConfigDigest); err != nil {
		return nil, err
	}
	var config v1.ConfigFile
	if err := json.NewDecoder(bytes.NewReader(out.RawConfig)).Decode(&config); err != nil {
		return nil, fault.New(fault.Finding, "", "configuration: %w", err)
	}
	c := config.Config
	out.Config = state.ImageConfig{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir,
		Ports: slices.Sorted(maps.Keys(c.ExposedPorts)), Labels: c.Labels,
		OS: config.OS, Architecture: config.Architecture,
	}
	out.Volumes = slices.Sorted(maps.Keys(c.Volumes))
	out.Layers, err = readLayers(m.Layers, config.RootFS.DiffIDs)
	return out, err
}

func readConfig(ctx context.Context, src Source, digest state.Digest) ([]byte, error) {
	r, err := src.Blob(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := readManifest(r)
	if err == nil && state.DigestOf(b) != digest {
		err = fault.New(fault.Finding, "the source was changed or is damaged", "it has digest %s", state.DigestOf(b))
	}
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", digest, err)
	}
	return b, nil
}

func readLayers(blobs []v1.Descriptor, diffIDs []v1.Hash) ([]Layer, error) {
	if len(blobs) != len(diffIDs) || len(blobs) > maxLayers {
		return nil, fault.New(fault.Finding, "", "the manifest names %d layers and the configuration %d; both must be the same, and at most %d",
			len(blobs), len(diffIDs), maxLayers)
	}
	out := make([]Layer, len(blobs))
	for i, d := range blobs {
		digest, err := parseDigest(d.Digest)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		diffID, err := parseDigest(diffIDs[i])
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		if d.Size < 0 || d.Size > maxBlob {
			return nil, fault.New(fault.Finding, "", "layer %d has %d bytes; at most %d are allowed", i, d.Size, int64(maxBlob))
		}
		out[i] = Layer{Digest: digest, DiffID: diffID, Size: d.Size, MediaType: string(d.MediaType)}
	}
	return out, nil
}
