package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// entry is one file of a layer.
type entry struct {
	kind byte
	mode int64
	uid  int
	link string
	body []byte
}

// content is what a layer holds, by path.
type content map[string]entry

// add puts what a table says over the packages.
func (p packages) add(c content) error {
	for _, line := range p.dirs {
		f := strings.Fields(line)
		mode, err := strconv.ParseInt(f[1], 8, 64)
		if err != nil {
			return err
		}
		uid, err := strconv.Atoi(f[2])
		if err != nil {
			return err
		}
		c[f[0]] = entry{kind: tar.TypeDir, mode: mode, uid: uid}
	}
	for _, line := range p.links {
		name, target, _ := strings.Cut(line, " ")
		c[name] = entry{kind: tar.TypeSymlink, mode: 0o777, link: target}
	}
	for name, body := range p.files {
		c[name] = entry{kind: tar.TypeReg, mode: 0o644, body: []byte(body)}
	}
	for name, body := range p.scripts {
		c[name] = entry{kind: tar.TypeReg, mode: 0o755, body: []byte(body)}
	}
	return nil
}

// addTree puts a directory of the host at a place, owned by uid.
func (c content) addTree(dir, at string, uid int) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		name := path.Join(at, filepath.ToSlash(rel))
		switch {
		case d.IsDir():
			c[name] = entry{kind: tar.TypeDir, mode: 0o700, uid: uid}
		case d.Type().IsRegular():
			body, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			c[name] = entry{kind: tar.TypeReg, mode: 0o600, uid: uid, body: body}
		default:
			return errors.New(file + " is no file")
		}
		return nil
	})
}

// layer packs the content: names sorted, with hard links after what they name, times
// at the Unix epoch, and a compressor whose version the module pins.
func (c content) layer() (v1.Layer, error) {
	var packed bytes.Buffer
	plain := state.NewHasher()
	zw, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(io.MultiWriter(zw, plain))
	names := slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		if la, lb := c[a].kind == tar.TypeLink, c[b].kind == tar.TypeLink; la != lb {
			if la {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		e := c[name]
		h := tar.Header{Typeflag: e.kind, Name: name, Mode: e.mode, Uid: e.uid, Gid: e.uid, Linkname: e.link, Size: int64(len(e.body)), ModTime: time.Unix(0, 0)}
		if e.kind == tar.TypeDir {
			h.Name += "/"
		}
		if err := tw.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := tw.Write(e.body); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		return nil, err
	}
	return packedLayer{static.NewLayer(packed.Bytes(), types.OCILayer), plain.Digest()}, nil
}

// packedLayer knows the digest of its tar.
type packedLayer struct {
	v1.Layer
	diffID state.Digest
}

func (l packedLayer) DiffID() (v1.Hash, error) { return v1.NewHash(string(l.diffID)) }
