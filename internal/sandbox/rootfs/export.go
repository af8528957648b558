package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// export writes an image in the form of `docker save`. Layers go as they are, except
// those in zstd, which engines of before 2021 do not read.
func (c *cache) export(ctx context.Context, src *source, m *oci.Manifest, name string, w io.Writer) error {
	tw := tar.NewWriter(w)
	config := m.ConfigDigest.Hex() + ".json"
	if err := exportFile(tw, config, int64(len(m.RawConfig)), bytes.NewReader(m.RawConfig)); err != nil {
		return err
	}
	layers := make([]string, len(m.Layers))
	written := map[string]bool{}
	for i, l := range m.Layers {
		layers[i] = l.Digest.Hex() + "/layer.tar"
		if written[layers[i]] {
			continue
		}
		written[layers[i]] = true
		if err := c.exportLayer(ctx, tw, src, l, layers[i]); err != nil {
			return err
		}
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": config, "RepoTags": []string{name}, "Layers": layers}})
	if err != nil {
		return err
	}
	if err := exportFile(tw, "manifest.json", int64(len(manifest)), bytes.NewReader(manifest)); err != nil {
		return err
	}
	return tw.Close()
}

func exportFile(tw *tar.Writer, name string, size int64, r io.Reader) error {
	err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
	if err == nil {
		_, err = io.Copy(tw, r)
	}
	return err
}

func (c *cache) exportLayer(ctx context.Context, tw *tar.Writer, src *source, l oci.Layer, name string) (err error) {
	r, err := src.Blob(ctx, l.Digest)
	if err != nil {
		return err
	}
	if strings.HasSuffix(l.MediaType, "zstd") {
		return c.exportPlain(ctx, tw, r, l, name)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: l.Size, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	return oci.Verify(ctx, tw, r, l.Digest, l.Size)
}

// exportPlain decompresses a layer into a file first, since its size comes before it.
func (c *cache) exportPlain(ctx context.Context, tw *tar.Writer, blob io.ReadCloser, l oci.Layer, name string) (err error) {
	r, err := oci.OpenLayer(ctx, l, blob)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	dir := filepath.Join(c.dir, "work")
	if err := c.makeDir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "layer-*")
	if err != nil {
		return oci.StorageFault(err)
	}
	// Without its name it ends with this process, however that ends.
	unlinked := os.Remove(f.Name()) == nil
	defer func() {
		err = errors.Join(err, f.Close())
		if !unlinked {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	h := state.NewHasher()
	if _, err := io.Copy(io.MultiWriter(f, h), r); err != nil {
		return oci.StorageFault(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return exportFile(tw, name, h.Size(), f)
}
