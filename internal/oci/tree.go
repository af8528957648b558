package oci

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const (
	maxHops  = 40 // links in one path, as in the kernel
	maxOpen  = 64 // directories that a tree holds open
	maxPath  = 4096
	maxDepth = 128
)

// Tree is the unpacked root file system of an image. Paths are those of the
// image, without the leading slash; links in them are followed as a process would
// that has the tree for its root, so ".." stops there and an absolute link begins
// there. Every change goes through an [os.Root]: nothing outside is touched, whatever
// the links say.
type Tree struct {
	root *os.Root
	// open are directories by their real path, without links, and order their paths,
	// the last used at the end.
	open  map[string]*os.Root
	order []string
	// known are the real paths of parents by the path that an archive has for them.
	known map[string]string
}

// OpenTree opens a directory as the root of an image.
func OpenTree(dir string) (*Tree, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Tree{root: root, open: map[string]*os.Root{}, known: map[string]string{}}, nil
}

// Close frees the directories that are open.
func (t *Tree) Close() error {
	t.forgetBelow(".")
	return t.root.Close()
}

// forgetBelow closes the directory at a real path and those below. After a directory
// or a link is gone, what was known of paths through it is wrong.
func (t *Tree) forgetBelow(real string) {
	clear(t.known)
	t.order = slices.DeleteFunc(t.order, func(p string) bool {
		gone := real == "." || p == real || strings.HasPrefix(p, real+"/")
		if gone {
			t.close(p)
		}
		return gone
	})
}

func (t *Tree) close(real string) {
	_ = t.open[real].Close() // opened for reading: nothing can be lost
	delete(t.open, real)
}

// place is where an entry belongs: a directory, and a name in it.
type place struct {
	dir  *os.Root
	name string
	// real is the path without links.
	real string
}

// find returns the place of an entry, whose last part is not followed. Directories
// that are missing on the way are made if create.
func (t *Tree) find(name string, create bool) (place, error) {
	parent, base := path.Split(name)
	real, ok := t.known[parent]
	if !ok {
		var err error
		if real, err = t.resolve(parent, create); err != nil {
			return place{}, err
		}
		t.known[parent] = real
	}
	dir, err := t.dir(real)
	return place{dir: dir, name: base, real: path.Join(real, base)}, err
}

// Follow returns the path, without links, of what a process that has the tree for its
// root would find at name, and what it is. Both are inside, whatever the links say. What
// is not there is fs.ErrNotExist.
func (t *Tree) Follow(name string) (real string, info fs.FileInfo, err error) {
	for range maxHops {
		parts := split(name)
		if len(parts) == 0 || parts[len(parts)-1] == ".." {
			if real, err = t.resolve(name, false); err == nil {
				info, err = t.root.Lstat(real)
			}
			return real, info, err
		}
		p, err := t.find(strings.Join(parts, "/"), false)
		if err != nil {
			return "", nil, err
		}
		info, err := p.dir.Lstat(p.name)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return p.real, info, err
		}
		target, err := p.dir.Readlink(p.name)
		if err != nil {
			return "", nil, err
		}
		if name = target; !path.IsAbs(target) {
			name = path.Dir(p.real) + "/" + target
		}
	}
	return "", nil, fault.New(fault.Finding, "", "/%s goes through too many links", name)
}

// dir returns the directory at a real path, open until maxOpen others were used.
func (t *Tree) dir(real string) (*os.Root, error) {
	if real == "." {
		return t.root, nil
	}
	if d, ok := t.open[real]; ok {
		if last := len(t.order) - 1; t.order[last] != real {
			i := slices.Index(t.order, real)
			copy(t.order[i:], t.order[i+1:])
			t.order[last] = real
		}
		return d, nil
	}
	if len(t.order) == maxOpen {
		t.close(t.order[0])
		t.order = slices.Delete(t.order, 0, 1)
	}
	d, err := t.root.OpenRoot(real)
	if err == nil {
		t.open[real] = d
		t.order = append(t.order, real)
	}
	return d, err
}

// resolve returns the real path of a directory.
func (t *Tree) resolve(name string, create bool) (string, error) {
	at, rest := ".", split(name)
	for hops := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == ".." {
			at = path.Dir(at)
			continue
		}
		dir, err := t.dir(at)
		if err != nil {
			return "", err
		}
		info, err := dir.Lstat(part)
		switch {
		case errors.Is(err, fs.ErrNotExist) && create:
			err = mkdir(dir, part)
		case err != nil:
		case info.IsDir():
		case info.Mode()&fs.ModeSymlink != 0:
			if hops++; hops > maxHops {
				return "", fault.New(fault.Finding, "", "%.200q goes through too many links", name)
			}
			target, err := dir.Readlink(part)
			if err != nil {
				return "", err
			}
			if path.IsAbs(target) {
				at = "."
			}
			rest = append(split(target), rest...)
			continue
		default:
			err = fault.New(fault.Finding, "", "%.200q lies below a file", name)
		}
		if err != nil {
			return "", err
		}
		at = path.Join(at, part)
	}
	if len(at) > maxPath || strings.Count(at, "/") > maxDepth {
		return "", fault.New(fault.Finding, "", "%.200q… is too deep: at most %d bytes and %d directories", name, maxPath, maxDepth)
	}
	return at, nil
}

func split(name string) []string {
	var out []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			out = append(out, part)
		}
	}
	return out
}

// mkdir makes a directory that everybody can read, whatever the umask.
func mkdir(dir *os.Root, name string) error {
	if err := dir.Mkdir(name, 0o755); err != nil {
		return err
	}
	return dir.Chmod(name, 0o755)
}

// ReadFile returns at most limit bytes of a file, found through links as a process in
// the image would find it. One that is not there is fs.ErrNotExist.
func (t *Tree) ReadFile(name string, limit int64) ([]byte, error) {
	real, info, err := t.Follow(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular() || info.Size() > limit:
		return nil, fault.New(fault.Finding, "", "/%s is not a file of at most %d bytes", real, limit)
	}
	return t.root.ReadFile(real)
}

// Make makes a directory with a mode, whatever the umask, where the image has none; those
// on the way get 0755. What is there stays as it is.
func (t *Tree) Make(name string, mode fs.FileMode) error {
	_, info, err := t.Follow(name)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fault.New(fault.Finding, "", "/%s is not a directory", strings.TrimLeft(name, "/"))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	real, err := t.resolve(name, true)
	if err != nil {
		return err
	}
	return t.root.Chmod(real, mode)
}
