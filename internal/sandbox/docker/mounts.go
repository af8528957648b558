package docker

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// places are what is mounted in a container.
type places struct {
	mounts    []engine.Mount
	temporary map[string]int64 // sizes by target
	disk      int64            // the size of others
	fills     []inside.Copy
	volumes   []string // to be removed with the container
	back      []sandbox.Mount
	fillers   []filler
}

// filler writes what a volume is to hold.
type filler struct {
	volume string
	write  func(*packer) error
	// dir is a directory of the image that write needs; empty for none.
	dir string
}

// mounts prepares what the specification mounts. What it returns is to be freed also
// after an error.
func (e *environment) mounts(ctx context.Context, s sandbox.ContainerSpec, l sandbox.Limits, ref string) (*places, error) {
	p := &places{temporary: map[string]int64{}, disk: l.Disk}
	files := map[string][]sandbox.Mount{} // single files that must be copied, by directory
	for i, m := range s.Mounts {
		m.Target = path.Clean(m.Target)
		size := m.Size
		if size == 0 {
			size = l.Disk
		}
		if m.Kind == sandbox.Scratch {
			p.temporary[m.Target] = size
			continue
		}
		look, err := look(m.Source)
		if err != nil {
			return p, fault.Wrap(err, fault.Finding, "check the path", "mount "+m.Target)
		}
		if !look.dir && m.Kind != sandbox.ReadOnly {
			return p, fault.New(fault.Usage, "mount the directory that it is in", "mount %s: %s is a file, and can be mounted read-only only", m.Target, m.Source)
		}
		as := look.public && e.backend.sharesFiles(ctx, e.found)
		switch {
		case m.Kind == sandbox.ReadWrite:
			if err := e.volume(ctx, p, m.Target, m.Source, false); err != nil {
				return p, err
			}
			p.back = append(p.back, m)
		case m.Kind == sandbox.Overlay:
			lower := fmt.Sprintf("%s/lower/%d", insideDir, i)
			p.temporary[m.Target] = size + look.bytes
			p.fills = append(p.fills, inside.Copy{From: lower, To: m.Target})
			if as {
				p.mounts = append(p.mounts, engine.Mount{Path: m.Source, Target: lower, ReadOnly: true})
			} else if err := e.volume(ctx, p, lower, m.Source, true); err != nil {
				return p, err
			}
		case as:
			p.mounts = append(p.mounts, engine.Mount{Path: m.Source, Target: m.Target, ReadOnly: true})
		case look.dir:
			if err := e.volume(ctx, p, m.Target, m.Source, true); err != nil {
				return p, err
			}
		default:
			files[parentOf(m.Target)] = append(files[parentOf(m.Target)], m)
		}
	}
	for dir, list := range files {
		if err := e.fileVolume(ctx, p, dir, list); err != nil {
			return p, err
		}
	}
	return p, e.fill(ctx, p, s, ref)
}

// volume adds a volume with a copy of a directory.
func (e *environment) volume(ctx context.Context, p *places, target, source string, readOnly bool) error {
	return e.addVolume(ctx, p, target, readOnly, filler{write: func(w *packer) error { return w.dir(source) }})
}

func (e *environment) addVolume(ctx context.Context, p *places, target string, readOnly bool, f filler) error {
	name := e.backend.engineName(e.spec.Name, randomName())
	if err := e.found.CreateVolume(ctx, engine.Volume{Name: name, Labels: e.backend.labels(e.spec.Name, roleVolume)}); err != nil {
		return err
	}
	p.volumes = append(p.volumes, name)
	p.mounts = append(p.mounts, engine.Mount{Volume: name, Target: target, ReadOnly: readOnly})
	f.volume = name
	p.fillers = append(p.fillers, f)
	return nil
}

// fileVolume adds a volume in place of a directory of the image, with all that the
// image has there and files besides: engines mount no single file that is not theirs.
func (e *environment) fileVolume(ctx context.Context, p *places, dir string, list []sandbox.Mount) error {
	if slices.Contains(reserved, dir) {
		return fault.New(fault.Usage, "mount it in a directory of its own", "a file cannot be copied to %s: the engine needs %s", list[0].Target, dir)
	}
	if slices.ContainsFunc(p.mounts, func(m engine.Mount) bool { return m.Target == dir }) {
		return fault.New(fault.Usage, "put the file there on this machine", "a file cannot be copied to %s: something is mounted at %s", list[0].Target, dir)
	}
	return e.addVolume(ctx, p, dir, true, filler{dir: dir, write: func(w *packer) error {
		if err := w.imageDir(list); err != nil {
			return err
		}
		for _, m := range list {
			if err := w.file(m.Source, path.Base(m.Target)); err != nil {
				return err
			}
		}
		return nil
	}})
}

// fillDir is where volumes are mounted to be filled.
const fillDir = "/fill"

// fill copies into the volumes, through a container that never starts.
func (e *environment) fill(ctx context.Context, p *places, s sandbox.ContainerSpec, ref string) (err error) {
	if len(p.fillers) == 0 {
		return nil
	}
	user := fmt.Sprintf("%d:%d", s.UID, s.GID)
	spec := engine.ContainerSpec{
		Image: ref, Entrypoint: []string{"/none"}, Network: "none", User: user, Labels: e.backend.labels(e.spec.Name, roleFiller),
	}
	for i, one := range p.fillers {
		spec.Mounts = append(spec.Mounts, engine.Mount{Volume: one.volume, Target: fmt.Sprintf("%s/%d", fillDir, i)})
	}
	id, err := e.found.CreateContainer(ctx, spec)
	if err != nil {
		return err
	}
	defer func() {
		e.later(func(ctx context.Context) error { return e.found.RemoveContainer(ctx, id) })
	}()
	for i, one := range p.fillers {
		if err := e.fillOne(ctx, id, i, one, s); err != nil {
			return err
		}
	}
	return nil
}

// fillOne copies into volume number i of a filler.
func (e *environment) fillOne(ctx context.Context, id string, i int, one filler, s sandbox.ContainerSpec) (err error) {
	// Docker takes the owner of the top directory if that is part of the archive,
	// Podman gives all to the user of the container and unpacks into one volume.
	dir, prefix := fillDir, fmt.Sprintf("%d/", i)
	if e.found.Info.Name == Podman {
		dir, prefix = fmt.Sprintf("%s/%d", fillDir, i), "./"
	}
	pack := &packer{ctx: ctx, prefix: prefix, uid: s.UID, gid: s.GID}
	if one.dir != "" {
		if pack.image, err = e.spool(ctx, id, one.dir); err != nil {
			return err
		}
		if pack.image != nil {
			defer pack.image.Close()
		}
	}
	r, w := io.Pipe()
	pack.tar = tar.NewWriter(w)
	packed := make(chan error, 1)
	go func() {
		err := one.write(pack)
		if err == nil {
			err = pack.tar.Close()
		}
		w.CloseWithError(err)
		packed <- err
	}()
	err = e.found.CopyTo(ctx, id, dir, r)
	r.CloseWithError(errStopped)
	if packErr := <-packed; packErr != nil && !errors.Is(packErr, errStopped) {
		return fmt.Errorf("copy files to the engine: %w", packErr)
	}
	return err
}

// errStopped tells a writer that the engine has ended the copy.
var errStopped = errors.New("the engine reads no more")

// maxImageDir bounds what is copied of an image because a file is mounted beside it.
const maxImageDir = 256 << 20

// spool reads a directory of the image into a file without a name, since an engine
// copies into and out of a container one after the other. It returns nil if there is no
// such directory.
func (e *environment) spool(ctx context.Context, id, dir string) (_ *os.File, err error) {
	r, err := e.found.CopyFrom(ctx, id, dir)
	if errors.Is(err, engine.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	f, err := os.CreateTemp("", "ultrafast-spool-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil && runtime.GOOS != "windows" {
		return nil, err
	}
	n, err := io.Copy(f, io.LimitReader(r, maxImageDir+1))
	if err != nil {
		return nil, err
	}
	if n > maxImageDir {
		return nil, fault.New(fault.Unavailable, "mount the file in a directory of its own", "the image has more than %d bytes at %s", maxImageDir, dir)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// looked is what there is to know of a source.
type looked struct {
	dir    bool
	public bool  // everybody may read all of it
	bytes  int64 // of its files, in whole pages
}

// maxLook bounds the entries that are looked at before a source counts as not public.
const maxLook = 200_000

// look looks at the source of a mount.
func look(source string) (looked, error) {
	st, err := os.Stat(source)
	if err != nil {
		return looked{}, err
	}
	l := looked{dir: st.IsDir(), public: true}
	if !l.dir {
		l.public = st.Mode().IsRegular() && public(st.Mode())
		return l, nil
	}
	resolved, err := filepath.EvalSymlinks(source)
	if err != nil {
		return looked{}, err
	}
	entries := 0
	err = filepath.WalkDir(resolved, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if entries++; entries > maxLook {
			l.public = false
		}
		switch {
		case d.Type() == fs.ModeSymlink:
		case d.IsDir(), d.Type().IsRegular():
			l.public = l.public && public(info.Mode())
		default:
			l.public = false
		}
		const block = 4096
		l.bytes += (info.Size()+block-1)/block*block + block
		return nil
	})
	return l, err
}

// public reports whether everybody may do what the owner may, writing apart.
func public(mode fs.FileMode) bool {
	if mode.IsDir() {
		return mode&0o5 == 0o5
	}
	return mode&0o4 != 0 && (mode&0o100 == 0 || mode&0o1 != 0)
}

// packer writes a tar in which all belongs to the user of the container.
type packer struct {
	ctx      context.Context
	tar      *tar.Writer
	prefix   string
	uid, gid int
	image    *os.File // a directory of the image as a tar, or nil
}

func (w *packer) header(h *tar.Header) error {
	h.Name = w.prefix + h.Name
	h.Uid, h.Gid, h.Uname, h.Gname = w.uid, w.gid, "", ""
	h.Format = tar.FormatPAX
	return w.tar.WriteHeader(h)
}

// dir writes a directory and all below it. Links stay links; sockets, pipes and
// devices carry nothing.
func (w *packer) dir(source string) error {
	root, err := os.OpenRoot(source)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if w.ctx.Err() != nil {
			return context.Cause(w.ctx)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()}
		switch {
		case d.IsDir():
			h.Typeflag, h.Name = tar.TypeDir, name+"/"
			if name == "." {
				h.Name = ""
			}
			return w.header(h)
		case d.Type() == fs.ModeSymlink:
			h.Typeflag = tar.TypeSymlink
			if h.Linkname, err = root.Readlink(name); err != nil {
				return err
			}
			return w.header(h)
		case d.Type().IsRegular():
			f, err := root.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			return w.content(h, f)
		}
		return nil
	})
}

// content writes a regular file, of the size that it has now.
func (w *packer) content(h *tar.Header, f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size()
	if err := w.header(h); err != nil {
		return err
	}
	_, err = io.CopyN(w.tar, f, h.Size)
	return err
}

func (w *packer) file(source, name string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return w.content(&tar.Header{Name: name, Mode: int64(st.Mode().Perm()), ModTime: st.ModTime()}, f)
}

// imageDir writes what the image has in the directory, without the files that come
// after it.
func (w *packer) imageDir(without []sandbox.Mount) error {
	if w.image == nil {
		return w.header(&tar.Header{Typeflag: tar.TypeDir, Mode: 0o755})
	}
	for t := tar.NewReader(w.image); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, hard := belowTop(h.Name), h.Typeflag == tar.TypeLink
		if slices.ContainsFunc(without, func(m sandbox.Mount) bool { return path.Base(m.Target) == strings.TrimSuffix(name, "/") }) {
			continue
		}
		h = &tar.Header{Name: name, Typeflag: h.Typeflag, Mode: h.Mode & 0o777, Size: h.Size, Linkname: h.Linkname, ModTime: h.ModTime}
		if hard {
			h.Linkname = w.prefix + belowTop(h.Linkname)
		}
		if err := w.header(h); err != nil {
			return err
		}
		if _, err := io.Copy(w.tar, t); err != nil {
			return err
		}
	}
}

// belowTop removes the first part of a name in an archive of an engine: Docker begins
// with the name of the directory, Podman with a slash.
func belowTop(name string) string {
	_, rest, _ := strings.Cut(strings.TrimPrefix(name, "./"), "/")
	return rest
}
