package state

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Limits bound what [Extract] accepts. The zero value of a field means its default.
type Limits struct {
	Files int   // entries; default 100,000
	Bytes int64 // sum of all file sizes; default 4 GiB
	Path  int   // bytes in one path; default 1,024
}

const (
	defaultFiles = 100_000
	defaultBytes = 4 << 30
	defaultPath  = 1024
)

func (l Limits) orDefault() Limits {
	if l.Files == 0 {
		l.Files = defaultFiles
	}
	if l.Bytes == 0 {
		l.Bytes = defaultBytes
	}
	if l.Path == 0 {
		l.Path = defaultPath
	}
	return l
}

// Pack writes the tree below fsys to w as a tar that depends on nothing but the
// names, the contents and the executable bit: entries sorted by path, owner 0,
// mode 0755 for directories and executables and 0644 for other files, times at
// the Unix epoch, ustar or, for what does not fit it, PAX. Paths for which skip
// returns true are left out with all below them; skip may be nil. Links, devices
// and other special files are an error of kind fault.Finding.
func Pack(ctx context.Context, w io.Writer, fsys fs.FS, skip func(path string, d fs.DirEntry) bool) error {
	return pack(ctx, w, fsys, skip, packEntry)
}

// PackLinked is [Pack] for the layer of an image: it also takes symbolic links, if
// fsys is a [fs.ReadLinkFS] and the link is relative and stays in the tree. [Extract]
// refuses what has one.
func PackLinked(ctx context.Context, w io.Writer, fsys fs.FS) error {
	return pack(ctx, w, fsys, nil, packLinked)
}

func packLinked(tw *tar.Writer, fsys fs.FS, name string, d fs.DirEntry) error {
	if d.Type()&fs.ModeSymlink == 0 {
		return packEntry(tw, fsys, name, d)
	}
	to, err := fs.ReadLink(fsys, name)
	if err != nil {
		return err
	}
	if inside := path.Join(path.Dir(name), to); to == "" || path.IsAbs(to) || !fs.ValidPath(inside) || strings.ContainsRune(to, '\\') {
		return fault.New(fault.Finding, "replace it by a file, or by a link to a file beside it", "the link leads out of the image, to %.200q", to)
	}
	return tw.WriteHeader(&tar.Header{Name: name, Linkname: to, ModTime: time.Unix(0, 0), Mode: 0o777, Typeflag: tar.TypeSymlink})
}

func pack(ctx context.Context, w io.Writer, fsys fs.FS, skip func(path string, d fs.DirEntry) bool,
	packEntry func(tw *tar.Writer, fsys fs.FS, name string, d fs.DirEntry) error) error {
	tw := tar.NewWriter(w)
	walk := func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case name == ".":
			return nil
		case skip != nil && skip(name, d):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := packEntry(tw, fsys, name, d); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		return nil
	}
	// fs.WalkDir visits each directory in lexical order, which sorts by path component.
	if err := fs.WalkDir(fsys, ".", walk); err != nil {
		return err
	}
	return tw.Close()
}

func packEntry(tw *tar.Writer, fsys fs.FS, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	header := &tar.Header{Name: name, ModTime: time.Unix(0, 0), Mode: 0o644, Typeflag: tar.TypeReg}
	switch {
	case d.IsDir():
		header.Name, header.Typeflag, header.Mode = name+"/", tar.TypeDir, 0o755
		return tw.WriteHeader(header)
	case !info.Mode().IsRegular():
		return fault.New(fault.Finding, "replace it by a regular file", "%s is not allowed in a tree", special(info.Mode()))
	}
	if info.Mode()&0o111 != 0 {
		header.Mode = 0o755
	}
	header.Size = info.Size()
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(tw, f, info.Size())
	if errors.Is(err, io.EOF) {
		return fault.New(fault.Unavailable, "run it again when nothing writes to the tree", "file became shorter while it was read")
	}
	return err
}

// special names what is neither a file nor a directory.
func special(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device or special file"
	}
}

// Extract unpacks a tar made by [Pack] below root, which should be empty. It
// accepts directories and regular files only and refuses, as a fault.Finding,
// absolute paths, "..", links, devices, an entry that occurs twice, and more
// than limits allow. Files get mode 0644 or 0755.
func Extract(ctx context.Context, r io.Reader, root *os.Root, limits Limits) error {
	limits = limits.orDefault()
	tr := tar.NewReader(r)
	left := limits.Bytes
	for n := 0; ; n++ {
		header, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fault.New(fault.Finding, "", "archive is damaged at entry %d: %w", n+1, err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case n >= limits.Files:
			return fault.New(fault.Finding, "", "archive has more than %d entries", limits.Files)
		}
		name, err := safePath(header.Name, limits.Path)
		if err != nil {
			return err
		}
		if left -= header.Size; left < 0 {
			return fault.New(fault.Finding, "", "archive unpacks to more than %d bytes", limits.Bytes)
		}
		if err := extractEntry(tr, root, header, name); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
}

func extractEntry(tr *tar.Reader, root *os.Root, header *tar.Header, name string) error {
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
	default:
		return fault.New(fault.Finding, "", "entry type %q is not allowed; only files and directories are", header.Typeflag)
	}
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	mode := fs.FileMode(0o644)
	if header.Mode&0o111 != 0 {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fault.New(fault.Finding, "", "entry occurs twice")
	}
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, tr, header.Size)
	return errors.Join(err, f.Close())
}

// safePath returns name cleaned, or an error if it is not a plain relative path.
func safePath(name string, limit int) (string, error) {
	clean := strings.TrimSuffix(name, "/")
	bad := clean == "" || len(clean) > limit || !fs.ValidPath(clean) || clean == "." ||
		strings.ContainsAny(clean, "\\\x00") || slices.Contains(strings.Split(clean, "/"), "..")
	if bad {
		return "", fault.New(fault.Finding, "", "archive has an entry with the unsafe path %.200q", name)
	}
	return clean, nil
}
