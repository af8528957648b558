package oci

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Limits bound an unpacked image. The zero value of a field means its default.
type Limits struct {
	// Entries of all layers together; default 500,000.
	Entries int
	// Bytes of all layers together, uncompressed; default 16 GiB.
	Bytes int64
	// Ratio of uncompressed to compressed bytes above which an image is refused
	// once it has 256 MiB; default 200.
	Ratio int64
}

const (
	defaultEntries = 500_000
	defaultBytes   = 16 << 30
	defaultRatio   = 200
	ratioFrom      = 256 << 20
)

func (l Limits) orDefault() Limits {
	return Limits{
		Entries: cmp.Or(l.Entries, defaultEntries), Bytes: cmp.Or(l.Bytes, defaultBytes), Ratio: cmp.Or(l.Ratio, defaultRatio),
	}
}

// Applier puts layers on a tree, one after the other.
type Applier struct {
	tree   *Tree
	limits Limits
	// packed is the size of all blobs.
	packed  int64
	entries int
	// bytes are those of the tars, files those of all files, holes included.
	bytes, files int64
	// made are the real paths that the layer at hand has made: no whiteout of the
	// same layer removes them.
	made map[string]bool
	// exact keeps modes, and owners if the caller is root.
	exact bool
	left  Left
	buf   []byte
}

// Left counts what an image has and an unpacked one does not: owners, devices, bits that
// give a program another's rights, extended attributes, and other modes.
type Left struct {
	Devices  int `json:"devices,omitempty"`
	Setuid   int `json:"setuid,omitempty"`
	Owned    int `json:"owned,omitempty"`
	Widened  int `json:"widened,omitempty"`
	Narrowed int `json:"narrowed,omitempty"`
	Xattrs   int `json:"xattrs,omitempty"`
}

// NewApplier returns what puts the layers of an image on t, which are packed bytes in all.
func NewApplier(t *Tree, packed int64, limits Limits) *Applier {
	return &Applier{tree: t, packed: packed, limits: limits.orDefault(), buf: make([]byte, 1<<20)}
}

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	internal = ".wh..wh." // of aufs; means nothing in an image
)

// Left returns what was left out until now.
func (a *Applier) Left() Left { return a.left }

// Apply puts the layer whose tar is r on the tree, and reads r to its end. What the layer
// is to blame for, bad names, links out of the image, too much of anything, is
// fault.Finding.
func (a *Applier) Apply(ctx context.Context, r io.Reader) error {
	a.made = map[string]bool{}
	counted := &counter{r: r, a: a}
	tr := tar.NewReader(counted)
	for {
		header, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			// What follows the end mark of the archive belongs to the digest too.
			_, err = io.CopyBuffer(io.Discard, onlyReader{counted}, a.buf)
			return err
		case err != nil:
			return malformed(err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if a.entries++; a.entries > a.limits.Entries {
			return fault.New(fault.Finding, "", "it has more than %d entries", a.limits.Entries)
		}
		if err := a.entry(header, tr); err != nil {
			return fmt.Errorf("entry %.200q: %w", header.Name, err)
		}
	}
}

// onlyReader hides all else that a reader can do.
type onlyReader struct{ io.Reader }

// malformed says that a tar is none, unless reading it failed for a reason of its own.
func malformed(err error) error {
	if fault.KindOf(err) == fault.Internal {
		return fault.New(fault.Finding, "", "the tar is damaged: %w", err)
	}
	return err
}

// counter bounds what a layer may unpack to.
type counter struct {
	r io.Reader
	a *Applier
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.a.bytes += int64(n)
	if over := c.a.bounded(); over != nil {
		return 0, over
	}
	return n, err
}

// bounded refuses an image that unpacks to too much: a file of holes is large too.
func (a *Applier) bounded() error {
	most := max(a.bytes, a.files)
	if most > a.limits.Bytes {
		return fault.New(fault.Finding, "", "it unpacks to more than %d bytes", a.limits.Bytes)
	}
	if most > ratioFrom && most/a.limits.Ratio > a.packed {
		return fault.New(fault.Finding, "", "it unpacks to more than %d times its size", a.limits.Ratio)
	}
	return nil
}

func (a *Applier) entry(h *tar.Header, r io.Reader) error {
	name, err := clean(h.Name)
	if err != nil || name == "." {
		return err
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		a.left.Devices++
		return nil
	}
	if base := path.Base(name); strings.HasPrefix(base, whiteout) {
		return a.whiteOut(path.Dir(name), base)
	}
	at, err := a.tree.find(name, true)
	if err != nil {
		return StorageFault(err)
	}
	switch h.Typeflag {
	case tar.TypeDir:
		err = a.directory(h, at)
	case tar.TypeReg, tar.TypeGNUSparse:
		err = a.file(h, at, r)
	case tar.TypeSymlink:
		err = a.symlink(h, at)
	case tar.TypeLink:
		err = a.link(h, at)
	default:
		return fault.New(fault.Finding, "", "the type %q is unknown", h.Typeflag)
	}
	if err != nil {
		return StorageFault(err)
	}
	a.mark(at.real)
	if err := a.own(h, at); err != nil {
		return StorageFault(err)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			a.left.Xattrs++
			break
		}
	}
	return nil
}

// clean returns the path of an entry without the leading "/" or "./" that some tools
// write. A path with ".." is refused, as no tool writes one.
func clean(name string) (string, error) {
	switch {
	case len(name) > maxPath || strings.ContainsRune(name, 0):
		return "", fault.New(fault.Finding, "", "the path is longer than %d bytes or has a zero byte", maxPath)
	case strings.HasPrefix(name, "../") || strings.HasSuffix(name, "/..") || name == ".." || strings.Contains(name, "/../"):
		return "", fault.New(fault.Finding, "", `the path has ".."`)
	}
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return ".", nil
	}
	return name, nil
}

// mark notes that the layer has made a path, and so all directories above.
func (a *Applier) mark(real string) {
	for ; real != "." && !a.made[real]; real = path.Dir(real) {
		a.made[real] = true
	}
}

// own gives what was unpacked its owner, where that is wanted and allowed: a user
// namespace has no room for some.
func (a *Applier) own(h *tar.Header, at place) error {
	if a.exact && os.Geteuid() == 0 {
		err := at.dir.Lchown(at.name, h.Uid, h.Gid)
		if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	if h.Uid != 0 || h.Gid != 0 {
		a.left.Owned++
	}
	return nil
}

// mode returns the bits that an unpacked file gets. Its owner cannot be kept, so
// everybody may read what only its owner could; and nobody but the caller may write,
// since containers have the tree read-only and other users of the host are not to
// change it. Bits that give a program another's rights are dropped.
func (a *Applier) mode(h *tar.Header) fs.FileMode {
	had := h.FileInfo().Mode()
	if had&(fs.ModeSetuid|fs.ModeSetgid) != 0 && !had.IsDir() {
		a.left.Setuid++
	}
	if a.exact {
		return exactMode(had)
	}
	was := had.Perm()
	mode := was&^0o022 | 0o644
	if was&0o111 != 0 || had.IsDir() {
		mode |= 0o111
	}
	if mode&^was&0o555 != 0 {
		a.left.Widened++
	}
	if was&0o022 != 0 {
		a.left.Narrowed++
	}
	if had.IsDir() {
		mode |= 0o755
	}
	return mode
}

// exactMode returns the bits of an image's own, but for those that give a program
// another's rights: a root directory alone does not hold whoever becomes root in it. One
// who is not root could neither fill a directory that its owner may not write nor remove it.
func exactMode(had fs.FileMode) fs.FileMode {
	if !had.IsDir() {
		return had.Perm()
	}
	mode := had.Perm() | had&(fs.ModeSticky|fs.ModeSetgid)
	if os.Geteuid() != 0 {
		mode |= 0o700
	}
	return mode
}

func (a *Applier) directory(h *tar.Header, at place) error {
	info, err := at.dir.Lstat(at.name)
	if err == nil && !info.IsDir() {
		if err := a.remove(at, info); err != nil {
			return err
		}
	}
	if err != nil || !info.IsDir() {
		if err := at.dir.Mkdir(at.name, 0o755); err != nil {
			return err
		}
	}
	return at.dir.Chmod(at.name, a.mode(h))
}

func (a *Applier) file(h *tar.Header, at place, r io.Reader) error {
	a.files += h.Size
	if err := a.bounded(); err != nil {
		return err
	}
	mode := a.mode(h)
	f, err := a.create(at, mode)
	if err != nil {
		return err
	}
	err = a.copy(f, r, h.Size)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// Interpreters compare times of sources with those in what they compiled.
	return at.dir.Chtimes(at.name, h.ModTime, h.ModTime)
}

// create makes a new file. What has its name is unlinked, never written to: it may
// have other names.
func (a *Applier) create(at place, mode fs.FileMode) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := at.dir.OpenFile(at.name, flags, mode)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if err := a.clear(at); err != nil {
		return nil, err
	}
	return at.dir.OpenFile(at.name, flags, mode)
}

func (a *Applier) copy(f *os.File, r io.Reader, size int64) error {
	for size > 0 {
		n, err := io.ReadFull(r, a.buf[:min(size, int64(len(a.buf)))])
		if err != nil {
			return malformed(err)
		}
		if _, err := f.Write(a.buf[:n]); err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

func (a *Applier) symlink(h *tar.Header, at place) error {
	if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
		return fault.New(fault.Finding, "", "the link leads nowhere")
	}
	if err := a.clear(at); err != nil {
		return err
	}
	return at.dir.Symlink(h.Linkname, at.name)
}

// link makes one more name of a file that is in the image already.
func (a *Applier) link(h *tar.Header, at place) error {
	target, err := clean(h.Linkname)
	if err != nil {
		return fmt.Errorf("link to %.200q: %w", h.Linkname, err)
	}
	from, err := a.tree.find(target, false)
	if err == nil {
		var info fs.FileInfo
		info, err = from.dir.Lstat(from.name)
		if err == nil && info.IsDir() {
			err = fault.New(fault.Finding, "", "it is a directory")
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fault.New(fault.Finding, "", "it is not there")
	}
	if err != nil {
		return fmt.Errorf("link to %.200q: %w", h.Linkname, err)
	}
	if from.real == at.real {
		return nil
	}
	if err := a.clear(at); err != nil {
		return err
	}
	return a.tree.root.Link(from.real, at.real)
}

// clear removes what is at a place, if anything is.
func (a *Applier) clear(at place) error {
	info, err := at.dir.Lstat(at.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return a.remove(at, info)
}

func (a *Applier) remove(at place, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return at.dir.Remove(at.name)
	}
	err := at.dir.RemoveAll(at.name)
	// Paths led through it.
	a.tree.forgetBelow(at.real)
	return err
}

// whiteOut removes what lower layers have: one name, or all of a directory.
func (a *Applier) whiteOut(parent, base string) error {
	name := strings.TrimPrefix(base, whiteout)
	if base != opaque && strings.HasPrefix(base, internal) {
		return nil
	}
	if base != opaque && (name == "" || name == "." || name == "..") {
		return fault.New(fault.Finding, "", "the whiteout names nothing")
	}
	if base == opaque {
		name = "."
	}
	at, err := a.tree.find(path.Join(parent, "x"), false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no lower layer has it
	}
	if err != nil {
		return StorageFault(err)
	}
	return StorageFault(a.removeLower(path.Join(path.Dir(at.real), name)))
}

// removeLower removes what this layer has not made, at a real path and below.
func (a *Applier) removeLower(real string) error {
	if real != "." && !a.made[real] {
		p, err := a.tree.find(real, false)
		if err != nil {
			return err
		}
		return a.clear(p)
	}
	info, err := a.tree.root.Lstat(real)
	if err != nil || !info.IsDir() {
		return err
	}
	dir, err := a.tree.root.Open(real)
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if err := a.removeLower(path.Join(real, name)); err != nil {
			return err
		}
	}
	return nil
}

// StorageFault gives what the file system refuses its kind.
func StorageFault(err error) error {
	switch {
	case err == nil || fault.KindOf(err) != fault.Internal:
		return err
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.EINVAL):
		return fault.New(fault.Finding, "", "%w", err)
	case errors.Is(err, syscall.ENOSPC):
		return fault.New(fault.Unavailable, "free space where images are unpacked, or set XDG_CACHE_HOME or TMPDIR to a larger disk", "%w", err)
	}
	return fault.New(fault.Unavailable, "check that the directory where images are unpacked can be written", "%w", err)
}
