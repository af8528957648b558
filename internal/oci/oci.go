// Package oci builds, unpacks and moves OCI images.
//
// It is the only importer of go-containerregistry and of klauspost/compress. It
// needs no daemon and never imports go-containerregistry's daemon package. An
// image lives in the chain as artifacts (manifest, config, layers) and keeps its
// digest wherever it is pushed.
package oci

import (
	"cmp"
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
// module pins. Only regular files, directories and links that stay below root are
// accepted.
func (c Client) Build(ctx context.Context, blobs state.Blobs, root fs.FS, cfg state.ImageConfig) ([]state.Artifact, error) {
	return c.BuildOn(ctx, blobs, state.BaseImage{}, []fs.FS{root}, cfg)
}

// BuildOn is [Client.Build] on a base, with a layer for each root, the lowest first.
// The layers of the base are artifacts of the image, byte for byte as they are. What
// cfg leaves empty is as in the base, but for labels, which say what the base is;
// variables are joined, and those of cfg win. Arguments of the base go with its entry
// point. The zero base is empty.
func (Client) BuildOn(ctx context.Context, blobs state.Blobs, base state.BaseImage, roots []fs.FS, cfg state.ImageConfig) ([]state.Artifact, error) {
	if n := len(base.Layers) + len(roots); n > maxLayers {
		return nil, fault.New(fault.Finding, "choose a base with fewer layers", "the image would have %d layers; at most %d are allowed", n, maxLayers)
	}
	file, err := configFile(cfg, base)
	if err != nil {
		return nil, fmt.Errorf("build image: %w", err)
	}
	layers := slices.Clone(base.Layers)
	for _, root := range roots {
		layer, diffID, err := buildLayer(ctx, blobs, root, len(layers))
		if err != nil {
			return nil, fmt.Errorf("build image: %w", err)
		}
		layers = append(layers, layer)
		file.RootFS.DiffIDs = append(file.RootFS.DiffIDs, hash(diffID))
	}
	config, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	configArtifact, err := state.WriteBlob(ctx, blobs, state.ArtifactImageConfig, state.MediaTypeImageConfig, config)
	if err != nil {
		return nil, err
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: descriptor(configArtifact), Annotations: cfg.Labels}
	for _, layer := range layers {
		m.Layers = append(m.Layers, descriptor(layer))
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	image, err := state.WriteBlob(ctx, blobs, state.ArtifactImage, state.MediaTypeImageManifest, manifest)
	return append([]state.Artifact{image, configArtifact}, layers...), err
}

func buildLayer(ctx context.Context, blobs state.Blobs, root fs.FS, n int) (_ state.Artifact, diffID state.Digest, err error) {
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
	if err := state.PackLinked(ctx, io.MultiWriter(zw, plain), root); err != nil {
		return state.Artifact{}, "", err
	}
	if err := zw.Close(); err != nil {
		return state.Artifact{}, "", err
	}
	layer, err := w.Commit(state.ArtifactImageLayer(n))
	return layer, plain.Digest(), err
}

// configFile returns the configuration of an image on the base, without own layers.
func configFile(cfg state.ImageConfig, base state.BaseImage) (*v1.ConfigFile, error) {
	var of v1.ConfigFile
	if base.RawConfig != nil {
		if err := json.Unmarshal(base.RawConfig, &of); err != nil {
			return nil, fault.New(fault.Finding, "", "configuration of the base: %w", err)
		}
	}
	if len(of.RootFS.DiffIDs) != len(base.Layers) {
		return nil, fault.New(fault.Finding, "", "the base names %d layers and its configuration %d", len(base.Layers), len(of.RootFS.DiffIDs))
	}
	c := of.Config
	c.OnBuild = nil // is for those who build by a Dockerfile
	c.Labels, c.Env = cfg.Labels, joinEnv(c.Env, cfg.Env)
	if cfg.Entrypoint != nil {
		c.Entrypoint, c.Cmd = cfg.Entrypoint, nil
	}
	if cfg.Cmd != nil {
		c.Cmd = cfg.Cmd
	}
	c.User, c.WorkingDir = cmp.Or(cfg.User, c.User), cmp.Or(cfg.WorkingDir, c.WorkingDir)
	if len(cfg.Ports) > 0 || c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range cfg.Ports {
		c.ExposedPorts[p] = struct{}{}
	}
	return &v1.ConfigFile{
		Architecture: cmp.Or(cfg.Architecture, of.Architecture), OS: cmp.Or(cfg.OS, of.OS), Variant: of.Variant, OSVersion: of.OSVersion, OSFeatures: of.OSFeatures,
		Created: v1.Time{Time: time.Unix(0, 0).UTC()},
		Config:  c,
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: of.RootFS.DiffIDs},
	}, nil
}

// joinEnv returns the variables of both; of one name, own wins in the place of base.
func joinEnv(base, own []string) []string {
	name := func(v string) string { before, _, _ := strings.Cut(v, "="); return before }
	joined := slices.Clone(base)
	for _, v := range own {
		if i := slices.IndexFunc(joined, func(known string) bool { return name(known) == name(v) }); i >= 0 {
			joined[i] = v
			continue
		}
		joined = append(joined, v)
	}
	return joined
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

// layer returns the uncompressed tar of a layer; its end proves its digests.
func (i *image) layer(d v1.Descriptor, diffID v1.Hash) (io.ReadCloser, error) {
	r, err := i.blobs.Open(i.ctx, i.parts[d.Digest])
	if err != nil {
		return nil, err
	}
	return OpenLayer(i.ctx, Layer{Digest: state.Digest(d.Digest.String()), DiffID: state.Digest(diffID.String()), Size: d.Size, MediaType: string(d.MediaType)}, r)
}
