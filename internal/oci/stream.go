package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	// readSize is how much is read at once, aheadSize how many such pieces each
	// stage of a stream is before the next.
	readSize  = 256 << 10
	aheadSize = 8
	// maxWindow is the most memory that a zstd layer may ask for.
	maxWindow = 128 << 20
)

// Media types of layers, by what they end with; Docker's and OCI's differ before that.
const (
	layerPlain = "application/vnd.oci.image.layer.v1.tar"
	layerGzip  = "application/vnd.oci.image.layer.v1.tar+gzip"
	layerZstd  = "application/vnd.oci.image.layer.v1.tar+zstd"
)

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
)

func layerType(magic []byte) string {
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		return layerGzip
	case bytes.HasPrefix(magic, zstdMagic):
		return layerZstd
	}
	return layerPlain
}

// OpenLayer returns the tar in a layer whose blob is r. Its last Read is io.EOF only
// if the blob had the layer's size and digest and the tar its digest; else it is a
// fault.Finding. So what was read counts only after io.EOF was seen.
//
// Reading, decompressing and consuming run beside each other. Close ends them, and
// closes r.
func OpenLayer(ctx context.Context, l Layer, r io.ReadCloser) (io.ReadCloser, error) {
	blob := &verified{r: contextReader{ctx, r}, want: l.Digest, size: l.Size, hash: state.NewHasher(), what: "layer " + l.Digest.Short()}
	first := newAhead(blob)
	plain, closePlain, err := decompress(l, first)
	if err != nil {
		first.stop()
		return nil, errors.Join(err, r.Close(), first.Close())
	}
	tar := &verified{r: whole{plain, first}, want: l.DiffID, size: -1, hash: state.NewHasher(), what: "tar of layer " + l.Digest.Short()}
	second := newAhead(tar)
	return &layerReader{Reader: second, close: func() error {
		// What the stages wait for ends first; then each, the last before the one that
		// feeds it.
		first.stop()
		err := r.Close()
		err = errors.Join(err, second.Close())
		closePlain()
		return errors.Join(err, first.Close())
	}}, nil
}

type layerReader struct {
	io.Reader
	once  sync.Once
	close func() error
	err   error
}

func (l *layerReader) Close() error {
	l.once.Do(func() { l.err = l.close() })
	return l.err
}

func decompress(l Layer, r io.Reader) (_ io.Reader, closeIt func(), err error) {
	nothing := func() {}
	switch {
	case strings.HasSuffix(l.MediaType, "gzip"):
		zr, err := gzip.NewReader(r)
		if err != nil {
			return nil, nothing, damaged(l, err)
		}
		return &naming{zr, l}, nothing, nil
	case strings.HasSuffix(l.MediaType, "zstd"):
		zr, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nothing, damaged(l, err)
		}
		return &naming{zr, l}, zr.Close, nil
	case strings.HasSuffix(l.MediaType, "tar"):
		return r, nothing, nil
	}
	return nil, nothing, fault.New(fault.Finding, "", "layer %s has the unknown media type %.100q", l.Digest.Short(), l.MediaType)
}

func damaged(l Layer, err error) error {
	if kind := fault.KindOf(err); kind != fault.Internal {
		return err
	}
	return fault.New(fault.Finding, "the source was changed or is damaged", "layer %s cannot be decompressed: %w", l.Digest.Short(), err)
}

// naming says whose bytes could not be decompressed.
type naming struct {
	r io.Reader
	l Layer
}

func (n *naming) Read(p []byte) (int, error) {
	c, err := n.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = damaged(n.l, err)
	}
	return c, err
}

// whole reads plain and then the rest of the blob, which belongs to its digest.
type whole struct {
	plain io.Reader
	blob  io.Reader
}

func (w whole) Read(p []byte) (int, error) {
	n, err := w.plain.Read(p)
	if errors.Is(err, io.EOF) {
		if _, rest := io.Copy(io.Discard, w.blob); rest != nil {
			err = rest
		}
	}
	return n, err
}

// verified checks size (unless negative) and digest of r when it ends.
type verified struct {
	r    io.Reader
	want state.Digest
	size int64
	hash *state.Hasher
	what string
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.hash.Write(p[:n]) // never fails
	if v.size >= 0 && v.hash.Size() > v.size {
		return 0, fault.New(fault.Finding, "the source was changed or is damaged", "%s has more than %d bytes", v.what, v.size)
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if v.size >= 0 && v.hash.Size() != v.size {
		return n, fault.New(fault.Finding, "the source was changed or is damaged", "%s has %d bytes, not %d", v.what, v.hash.Size(), v.size)
	}
	if got := v.hash.Digest(); got != v.want {
		return n, fault.New(fault.Finding, "the source was changed or is damaged", "%s has digest %s, not %s", v.what, got, v.want)
	}
	return n, io.EOF
}

// Verify copies r to w and fails unless the bytes have the size and the digest.
func Verify(ctx context.Context, w io.Writer, r io.Reader, digest state.Digest, size int64) error {
	_, err := io.CopyBuffer(w, &verified{r: contextReader{ctx, r}, want: digest, size: size, hash: state.NewHasher(), what: "blob " + digest.Short()}, make([]byte, readSize))
	if err != nil {
		return fmt.Errorf("fetch blob %s: %w", digest.Short(), err)
	}
	return nil
}

// ahead reads in a goroutine of its own, a bounded number of pieces before its reader.
type ahead struct {
	full  chan piece
	empty chan []byte
	quit  chan struct{}
	ended chan struct{}
	once  sync.Once
	now   piece
	at    int
}

type piece struct {
	b   []byte
	err error
}

func newAhead(r io.Reader) *ahead {
	a := &ahead{full: make(chan piece, aheadSize), empty: make(chan []byte, aheadSize), quit: make(chan struct{}), ended: make(chan struct{})}
	for range aheadSize {
		a.empty <- nil
	}
	go a.run(r)
	return a
}

func (a *ahead) run(r io.Reader) {
	defer close(a.ended)
	for {
		var b []byte
		select {
		case b = <-a.empty:
		case <-a.quit:
			return
		}
		if b == nil {
			b = make([]byte, readSize)
		}
		n, err := fill(r, b[:readSize])
		a.full <- piece{b[:n], err} // never blocks: there are no more pieces than places
		if err != nil {
			return
		}
	}
}

// fill reads until b is full or r ends.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var c int
		c, err = r.Read(b[n:])
		n += c
	}
	return n, err
}

func (a *ahead) Read(p []byte) (int, error) {
	for a.at == len(a.now.b) {
		if a.now.err != nil {
			return 0, a.now.err
		}
		if a.now.b != nil {
			a.empty <- a.now.b
			a.now.b = nil
		}
		a.at = 0
		select {
		case a.now = <-a.full:
		case <-a.quit:
			return 0, errClosed
		}
	}
	n := copy(p, a.now.b[a.at:])
	a.at += n
	return n, nil
}

var errClosed = errors.New("the layer is closed")

func (a *ahead) stop() { a.once.Do(func() { close(a.quit) }) }

// Close ends the goroutine and waits for it.
func (a *ahead) Close() error {
	a.stop()
	<-a.ended
	return nil
}
