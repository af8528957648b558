package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/match"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// annotationName carries the name of an image in a layout's index.
const annotationName = "org.opencontainers.image.ref.name"

// writeLayout puts images into the OCI image layout dir under "<name>:<tag>", in
// place of what had that name.
func writeLayout(dir, tag string, images []built) error {
	p, err := layout.FromPath(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fault.Wrap(err, fault.Unavailable, "name a directory that can be written", "write images")
		}
		p, err = layout.Write(dir, empty.Index)
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "name a directory that is an OCI layout, or none yet", "write images to "+dir)
	}
	for _, b := range images {
		ref := b.Name + ":" + tag + b.suffix
		err := p.ReplaceIndex(b.index, match.Name(ref), layout.WithAnnotations(map[string]string{annotationName: ref}))
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "check that the disk is not full", "write image "+ref)
		}
	}
	return nil
}

// push sends images to "<prefix>/<name>:<tag>", without a daemon, with the
// credentials of Docker's configuration file.
func push(ctx context.Context, prefix, tag string, images []built) error {
	pusher, err := remote.NewPusher(remote.WithTransport(oci.Transport()), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return err
	}
	for _, b := range images {
		ref, err := name.NewTag(fmt.Sprintf("%s/%s:%s%s", prefix, b.Name, tag, b.suffix), name.StrictValidation)
		if err != nil {
			return fault.New(fault.Usage, "write --push host/path and --tag with letters, digits, dots and dashes", "image reference: %w", err)
		}
		if err := pusher.Push(ctx, ref, b.index); err != nil {
			return fault.Wrap(err, fault.Unavailable, "check that the registry can be reached and `docker login` was done", "push "+ref.Name())
		}
	}
	return nil
}
