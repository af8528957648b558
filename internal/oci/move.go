package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Unpack writes the root file system of the image that entry holds below dir,
// which must exist and be empty, and returns the image's configuration. Layers
// may hold regular files and directories; anything else is refused, as is a
// layer whose uncompressed bytes are not those that the configuration names.
func (Client) Unpack(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string) (_ state.ImageConfig, err error) {
	img, err := open(ctx, blobs, entry)
	if err != nil {
		return state.ImageConfig{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return state.ImageConfig{}, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if len(img.config.RootFS.DiffIDs) != len(img.manifest.Layers) {
		return state.ImageConfig{}, fault.New(fault.Finding, "", "image %s: config names %d layers, manifest %d",
			img.digest.Short(), len(img.config.RootFS.DiffIDs), len(img.manifest.Layers))
	}
	for i, d := range img.manifest.Layers {
		if err := img.unpackLayer(d, img.config.RootFS.DiffIDs[i], root); err != nil {
			return state.ImageConfig{}, fmt.Errorf("unpack layer %d of image %s: %w", i, img.digest.Short(), err)
		}
	}
	return img.imageConfig(), nil
}

func (i *image) unpackLayer(d v1.Descriptor, diffID v1.Hash, root *os.Root) (err error) {
	r, err := i.layer(d)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	plain := state.NewHasher()
	tee := io.TeeReader(r, plain)
	if err := state.Extract(i.ctx, tee, root, state.Limits{}); err != nil {
		return err
	}
	// What follows the end mark of the archive belongs to the digest too.
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	if hash(plain.Digest()) != diffID {
		return fault.New(fault.Finding, "", "uncompressed bytes have digest %s, not %s", plain.Digest(), diffID)
	}
	return nil
}

const layoutScheme = "layout:"

// Push writes the image that entry holds to destination, "layout:DIR", under its
// own digest, and returns the reference by digest. An image that is there
// already is left as it is.
func (Client) Push(ctx context.Context, blobs state.Blobs, entry *state.Entry, destination string) (string, error) {
	dir, ok := strings.CutPrefix(destination, layoutScheme)
	if !ok || dir == "" {
		return "", fault.New(fault.Usage, "write layout:DIR", "image destination %q has an unknown form", destination)
	}
	img, err := open(ctx, blobs, entry)
	if err != nil {
		return "", err
	}
	p, err := layout.FromPath(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", fault.Wrap(err, fault.Unavailable, "check that the directory is writable", "push image to "+dir)
		}
		p, err = layout.Write(dir, empty.Index)
	}
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "check that the directory is an OCI layout and writable", "push image to "+dir)
	}
	whole, err := partial.CompressedToImage(img)
	if err != nil {
		return "", err
	}
	// Replacing by digest keeps one entry in the layout's index however often an image is pushed.
	if err := p.ReplaceImage(whole, match.Digests(hash(img.digest))); err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "check that the directory is writable and the disk not full", "push image to "+dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s%s@%s", layoutScheme, abs, img.digest), nil
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
