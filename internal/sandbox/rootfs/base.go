package rootfs

import (
	"context"
	"errors"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Base copies the layers of an image that is pinned into blobs, to build another one
// on it, and describes it; of an index it is the image for this machine. Nothing is
// unpacked, and a layer that blobs hold is not fetched.
func (i *Images) Base(ctx context.Context, blobs state.Blobs, text string) (state.BaseImage, error) {
	ref, err := i.pinned(text)
	if err != nil {
		return state.BaseImage{}, err
	}
	asking, cancel := i.deadline(ctx, ref)
	defer cancel()
	base, err := i.base(asking, blobs, ref)
	if err != nil {
		return state.BaseImage{}, doing(ctx, ended(asking, absent(err)), "copy image "+ref.String())
	}
	return base, nil
}

func (i *Images) base(ctx context.Context, blobs state.Blobs, ref sandbox.Reference) (state.BaseImage, error) {
	src, err := i.open(ctx, ref)
	if err != nil {
		return state.BaseImage{}, err
	}
	defer src.close()
	m, err := i.find(ctx, src, ref.Digest)
	if err != nil {
		return state.BaseImage{}, err
	}
	base := state.BaseImage{Digest: m.Digest, Config: m.Config, RawConfig: m.RawConfig}
	if ref.Transport == sandbox.FromRegistry {
		ref.Digest = ""
		base.Name = ref.String()
	}
	for n, l := range m.Layers {
		a, err := layerArtifact(n, l)
		if err != nil {
			return state.BaseImage{}, err
		}
		if err := copyLayer(ctx, blobs, src, l, a); err != nil {
			return state.BaseImage{}, err
		}
		base.Layers = append(base.Layers, a)
	}
	return base, nil
}

// layerTypes are the media types of layers as OCI names them, by those of Docker's that
// stand for the same bytes.
var layerTypes = map[string]string{
	"application/vnd.docker.image.rootfs.diff.tar.gzip": state.MediaTypeImageLayerGzip,
	"application/vnd.docker.image.rootfs.diff.tar":      "application/vnd.oci.image.layer.v1.tar",
}

func layerArtifact(n int, l oci.Layer) (state.Artifact, error) {
	mediaType := l.MediaType
	if own, ok := layerTypes[mediaType]; ok {
		mediaType = own
	}
	if !strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.v1.tar") {
		return state.Artifact{}, fault.New(fault.Finding, "choose a base whose layers may be handed on", "layer %d has the media type %.100q", n, l.MediaType)
	}
	return state.Artifact{Name: state.ArtifactImageLayer(n), MediaType: mediaType, Digest: l.Digest, Size: l.Size}, nil
}

// copyLayer brings a layer into blobs, verified.
func copyLayer(ctx context.Context, blobs state.Blobs, src *source, l oci.Layer, a state.Artifact) (err error) {
	if r, err := blobs.Open(ctx, a); err == nil {
		return r.Close()
	}
	for range fetchAttempts {
		err = copyOnce(ctx, blobs, src, l, a)
		if err == nil || ctx.Err() != nil || fault.KindOf(err) != fault.Unavailable {
			break
		}
	}
	return err
}

func copyOnce(ctx context.Context, blobs state.Blobs, src *source, l oci.Layer, a state.Artifact) (err error) {
	r, err := src.Blob(ctx, l.Digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := blobs.Create(ctx, a.MediaType)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := oci.Verify(ctx, w, r, l.Digest, l.Size); err != nil {
		return fault.Wrap(err, fault.Unavailable, "run again when the registry can be reached", "copy layer "+l.Digest.Short())
	}
	_, err = w.Commit(a.Name)
	return err
}
