// Package oci builds, unpacks and moves OCI images.
//
// It is the only importer of go-containerregistry and of klauspost/compress. It
// needs no daemon and never imports go-containerregistry's daemon package. An
// image lives in the chain as artifacts (manifest, config, layers) and keeps its
// digest wherever it is pushed.
package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Client builds and moves images. The zero value is ready.
type Client struct{}

// Build packs the files below root into one layer on an empty base and returns
// the artifacts of the image: manifest, config and layer. Equal files and an
// equal configuration give an equal digest on every machine: names sorted, owner
// 0, modes 0755 and 0644, times at the Unix epoch, a compressor whose version the
// module pins. Only regular files and directories are accepted.
func (Client) Build(ctx context.Context, blobs state.Blobs, root fs.FS, cfg state.ImageConfig) ([]state.Artifact, error) {
	layer, diffID, err := buildLayer(ctx, blobs, root)
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	config, err := json.Marshal(configFile(cfg, diffID))
	if err != nil {
		return nil, err
	}
	configArtifact, err := state.WriteBlob(ctx, blobs, state.ArtifactImageConfig, state.MediaTypeImageConfig, config)
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        descriptor(configArtifact),
		Layers:        []v1.Descriptor{descriptor(layer)},
		Annotations:   cfg.Labels,
	})
	if err != nil {
		return nil, err
	}
	image, err := state.WriteBlob(ctx, blobs, state.ArtifactImage, state.MediaTypeImageManifest, manifest)
	return []state.Artifact{image, configArtifact, layer}, err
}

func buildLayer(ctx context.Context, blobs state.Blobs, root fs.FS) (_ state.Artifact, diffID state.Digest, err error) {
	w, err := blobs.Create(ctx, state.MediaTypeImageLayerGzip)
	if err != nil {
		return state.Artifact{}, "", err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return state.Artifact{}, "", err
	}
	plain := state.NewHasher()
	if err := state.Pack(ctx, io.MultiWriter(zw, plain), root, nil); err != nil {
		return state.Artifact{}, "", err
	}
	if err := zw.Close(); err != nil {
		return state.Artifact{}, "", err
	}
	layer, err := w.Commit(state.ArtifactImageLayer(0))
	return layer, plain.Digest(), err
}

func configFile(cfg state.ImageConfig, diffID state.Digest) *v1.ConfigFile {
	ports := map[string]struct{}{}
	for _, p := range cfg.Ports {
		ports[p] = struct{}{}
	}
	return &v1.ConfigFile{
		Architecture: cfg.Architecture,
		OS:           cfg.OS,
		Created:      v1.Time{Time: time.Unix(0, 0).UTC()},
		Config: v1.Config{
			User: cfg.User, Env: cfg.Env, Entrypoint: cfg.Entrypoint, Cmd: cfg.Cmd,
			WorkingDir: cfg.WorkingDir, Labels: cfg.Labels, ExposedPorts: ports,
		},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{hash(diffID)}},
	}
}

func descriptor(a state.Artifact) v1.Descriptor {
	return v1.Descriptor{MediaType: types.MediaType(a.MediaType), Digest: hash(a.Digest), Size: a.Size}
}

func hash(d state.Digest) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: d.Hex()} }

// Config returns the configuration of the image that entry holds.
func (Client) Config(ctx context.Context, blobs state.Blobs, entry *state.Entry) (state.ImageConfig, error) {
	img, err := open(ctx, blobs, entry)
	if err != nil {
		return state.ImageConfig{}, err
	}
	return img.imageConfig(), nil
}

func (i *image) imageConfig() state.ImageConfig {
	c := i.config.Config
	return state.ImageConfig{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir,
		Ports: slices.Sorted(maps.Keys(c.ExposedPorts)), Labels: c.Labels,
		OS: i.config.OS, Architecture: i.config.Architecture,
	}
}

// image is an image in the chain: what the manifest says, and where its parts are.
type image struct {
	ctx       context.Context
	blobs     state.Blobs
	digest    state.Digest
	raw       []byte
	manifest  v1.Manifest
	rawConfig []byte
	config    v1.ConfigFile
	// parts are the artifacts of the entry by digest.
	parts map[v1.Hash]state.Artifact
}

const maxLayers = 127 // what the kernel's overlay and every engine can stack

func open(ctx context.Context, blobs state.Blobs, entry *state.Entry) (*image, error) {
	a, ok := entry.Artifact(state.ArtifactImage)
	if !ok {
		return nil, fault.New(fault.Finding, "run cleanroom-test until its tests pass", "the %s entry holds no image", entry.Phase)
	}
	img := &image{ctx: ctx, blobs: blobs, digest: a.Digest, parts: map[v1.Hash]state.Artifact{}}
	for _, part := range entry.Artifacts {
		img.parts[hash(part.Digest)] = part
	}
	var err error
	if img.raw, err = state.ReadBlob(ctx, blobs, a); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(img.raw, &img.manifest); err != nil {
		return nil, fault.New(fault.Finding, "", "image %s: manifest: %w", a.Digest.Short(), err)
	}
	if len(img.manifest.Layers) > maxLayers {
		return nil, fault.New(fault.Finding, "", "image %s has %d layers; at most %d are allowed", a.Digest.Short(), len(img.manifest.Layers), maxLayers)
	}
	for _, d := range append([]v1.Descriptor{img.manifest.Config}, img.manifest.Layers...) {
		if _, ok := img.parts[d.Digest]; !ok {
			return nil, fault.New(fault.Finding, "", "image %s: %s is not an artifact of the %s entry", a.Digest.Short(), d.Digest, entry.Phase)
		}
	}
	if img.rawConfig, err = state.ReadBlob(ctx, blobs, img.parts[img.manifest.Config.Digest]); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(img.rawConfig, &img.config); err != nil {
		return nil, fault.New(fault.Finding, "", "image %s: config: %w", a.Digest.Short(), err)
	}
	return img, nil
}

// layer returns the uncompressed tar of a layer.
func (i *image) layer(d v1.Descriptor) (io.ReadCloser, error) {
	r, err := i.blobs.Open(i.ctx, i.parts[d.Digest])
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(string(d.MediaType), "+gzip") && !strings.HasSuffix(string(d.MediaType), ".gzip") {
		return r, nil
	}
	zr, err := gzip.NewReader(r)
	if err != nil {
		return nil, errors.Join(fault.New(fault.Finding, "", "layer %s: %w", d.Digest, err), r.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{zr, r}, nil
}
