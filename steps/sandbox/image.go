package sandbox

import (
	"context"
	"io"
)

// Images gives back ends the images that specifications name by digest.
type Images interface {
	// Unpack returns the image as a directory of the host. Equal digests share one
	// directory, which nobody changes. The caller calls Release when no container
	// uses it any more. An image that is nowhere is fault.Finding, one that cannot
	// be fetched now fault.Unavailable.
	Unpack(ctx context.Context, ref string) (Image, error)
	// Export writes the image as an archive that container engines load, and
	// returns the name under which they will know it.
	Export(ctx context.Context, ref string, w io.Writer) (name string, err error)
}

// Image is an unpacked image.
type Image struct {
	// Digest is that of the image's manifest, "sha256:…".
	Digest string
	// Dir holds the files of all layers.
	Dir    string
	Config ImageConfig
	// Release says that the directory is not needed any more; never nil.
	Release func()
}

// ImageConfig is what back ends use of an image's configuration.
type ImageConfig struct {
	Entrypoint, Cmd, Env []string
	WorkingDir           string
	// UID and GID are those of the image's user, looked up in its own passwd and
	// group files; both zero for root or none.
	UID, GID int
	// Volumes are absolute paths, sorted. Ports are "5432/tcp", sorted.
	Volumes, Ports []string
}
