package oci

import (
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/klauspost/compress/gzip"
)

// NewCompressor returns a writer that compresses a layer as small as gzip can, for
// images that are built once and pulled often. Equal bytes give equal bytes: the
// header is empty and the compressor's version is pinned by the module.
func NewCompressor(w io.Writer) (io.WriteCloser, error) {
	return gzip.NewWriterLevel(w, gzip.BestCompression)
}

// Transport returns the way to registries: TLS, except to loopback addresses.
func Transport() http.RoundTripper { return tlsUnlessLoopback{remote.DefaultTransport} }
