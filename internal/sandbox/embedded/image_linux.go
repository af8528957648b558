package embedded

import (
	"context"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// noImage is that of a container without one.
var noImage = sandbox.Image{Release: func() {}}

// unpack returns the image called ref, which the caller releases; none is noImage.
func (b *Backend) unpack(ctx context.Context, ref string) (sandbox.Image, error) {
	if ref == "" {
		return noImage, nil
	}
	if b.options.Images == nil {
		return noImage, fault.New(fault.Usage, "give a root in place of the image", "there is no source of images for %s", ref)
	}
	return b.options.Images.Unpack(ctx, ref)
}
