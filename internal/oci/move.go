package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Unpack writes the root file system of the image that entry holds below dir, which must
// exist and be empty, and returns the image's configuration. What a directory of the
// caller's cannot have is left out, see [Left]; the working directory is made if no layer
// has it, as container engines do; links stay as they are, and whoever opens
// a path below dir from outside uses [Tree]. A layer that would leave dir is refused, as
// is one whose uncompressed bytes are not those that the configuration names.
func (Client) Unpack(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string) (state.ImageConfig, error) {
	return unpack(ctx, blobs, entry, dir, false)
}

// Install is Unpack for a service that writes where its image lets it: files keep their
// modes, and their owners if the caller is root, and /tmp and /run are there. Others of
// the host are kept out by a directory above dir. Programs lose setuid and setgid still.
func (Client) Install(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string) (state.ImageConfig, error) {
	return unpack(ctx, blobs, entry, dir, true)
}

func unpack(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string, exact bool) (_ state.ImageConfig, err error) {
	img, err := open(ctx, blobs, entry)
	if err != nil {
		return state.ImageConfig{}, err
	}
	if len(img.config.RootFS.DiffIDs) != len(img.manifest.Layers) {
		return state.ImageConfig{}, fault.New(fault.Finding, "", "image %s: config names %d layers, manifest %d",
			img.digest.Short(), len(img.config.RootFS.DiffIDs), len(img.manifest.Layers))
	}
	config := img.imageConfig()
	tree, err := OpenTree(dir)
	if err != nil {
		return state.ImageConfig{}, StorageFault(err)
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	var packed int64
	for _, d := range img.manifest.Layers {
		packed += d.Size
	}
	a := NewApplier(tree, packed, Limits{})
	a.exact = exact
	for i, d := range img.manifest.Layers {
		if err := img.unpackLayer(d, img.config.RootFS.DiffIDs[i], a); err != nil {
			return state.ImageConfig{}, fmt.Errorf("unpack layer %d of image %s: %w", i, img.digest.Short(), err)
		}
	}
	if err := furnish(tree, config.WorkingDir, exact); err != nil {
		return state.ImageConfig{}, fmt.Errorf("furnish image %s: %w", img.digest.Short(), err)
	}
	return config, nil
}

// furnish makes the directories that a service counts on and its image may lack.
func furnish(tree *Tree, workdir string, exact bool) error {
	if exact {
		if err := errors.Join(tree.Make("tmp", fs.ModeSticky|0o777), tree.Make("run", 0o755)); err != nil {
			return StorageFault(err)
		}
	}
	if err := tree.Make(workdir, 0o755); err != nil {
		return fmt.Errorf("working directory: %w", StorageFault(err))
	}
	return nil
}

func (i *image) unpackLayer(d v1.Descriptor, diffID v1.Hash, a *Applier) (err error) {
	r, err := i.layer(d, diffID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return a.Apply(i.ctx, r)
}

const layoutScheme = "layout:"

// Push writes the image that entry holds, and its referrers, to destination under its
// own digest, and returns the reference by digest: "layout:DIR", or
// "oci://host/path[:tag]" for a registry. What is there already is left as it is. Two
// pushes into one directory must not run at once: the second to end would not know of
// the first.
func (Client) Push(ctx context.Context, blobs state.Blobs, entry *state.Entry, destination string) (string, error) {
	dir, local := strings.CutPrefix(destination, layoutScheme)
	repository, remote := strings.CutPrefix(destination, registryScheme)
	if local && dir == "" || !local && !remote {
		return "", fault.New(fault.Usage, "write layout:DIR or oci://host/path", "image destination %q has an unknown form", destination)
	}
	img, err := open(ctx, blobs, entry)
	if err != nil {
		return "", err
	}
	referrers, err := img.referrers(entry)
	if err != nil {
		return "", err
	}
	if local {
		return pushLayout(img, referrers, dir)
	}
	return pushRemote(ctx, img, referrers, repository)
}

const (
	indexFile = "index.json"
	maxIndex  = 16 << 20 // bytes; some 50,000 images
)

// pushTo writes the image into the layout and then names it in its index, which is
// replaced as a whole: whoever reads meanwhile sees the old index or the new one.
func pushTo(dir string, img *image, referrers []attached) error {
	index, err := readIndex(dir)
	if err != nil {
		return err
	}
	whole, err := partial.CompressedToImage(img)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := replace(dir, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := layout.Path(dir).WriteImage(whole); err != nil {
		return err
	}
	desc, err := partial.Descriptor(whole)
	if err != nil {
		return err
	}
	descs := []v1.Descriptor{*desc}
	for _, r := range referrers {
		d, err := img.writeReferrer(dir, r)
		if err != nil {
			return err
		}
		descs = append(descs, d)
	}
	// One entry for each digest keeps the index small however often an image is pushed.
	descs = slices.DeleteFunc(descs, func(own v1.Descriptor) bool {
		return slices.ContainsFunc(index.Manifests, func(d v1.Descriptor) bool { return d.Digest == own.Digest })
	})
	if len(descs) == 0 {
		return nil
	}
	index.Manifests = append(index.Manifests, descs...)
	b, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return err
	}
	return replace(dir, indexFile, append(b, '\n'))
}

// readIndex returns the index of a layout, or an empty one if there is none.
func readIndex(dir string) (_ *v1.IndexManifest, err error) {
	index := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	f, err := os.Open(filepath.Join(dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := json.NewDecoder(io.LimitReader(f, maxIndex)).Decode(index); err != nil {
		return nil, fault.New(fault.Unavailable, "remove the directory: it only copies images that the chain still has, and the next deploy makes it again",
			"index of the images: %w", err)
	}
	return index, nil
}

// replace writes a file of a layout so that after any crash the old or the new one
// is there.
func replace(dir, name string, b []byte) (err error) {
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // best effort: the first error is the one that counts
		}
	}()
	_, err = f.Write(b)
	if err == nil && runtime.GOOS != "windows" {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil || runtime.GOOS == "windows" {
		return err // windows cannot sync a directory, and journals names by itself
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// The methods of partial.CompressedImageCore, by which go-containerregistry reads
// an image that lies in the chain.

func (i *image) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *image) RawConfigFile() ([]byte, error)      { return i.rawConfig, nil }
func (i *image) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
func (i *image) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	a, ok := i.parts[h]
	if !ok {
		return nil, fmt.Errorf("image %s has no part %s", i.digest.Short(), h)
	}
	return &part{i, a}, nil
}

// part is a layer (or the config) of an image in the chain.
type part struct {
	image    *image
	artifact state.Artifact
}

func (p *part) Digest() (v1.Hash, error) { return hash(p.artifact.Digest), nil }
func (p *part) Size() (int64, error)     { return p.artifact.Size, nil }
func (p *part) MediaType() (types.MediaType, error) {
	return types.MediaType(p.artifact.MediaType), nil
}
func (p *part) Compressed() (io.ReadCloser, error) {
	return p.image.blobs.Open(p.image.ctx, p.artifact)
}
