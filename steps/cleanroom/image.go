package cleanroom

import (
	"io/fs"
	"os"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// onlyFile returns a file system that holds the file called name, executable, and
// nothing else, whatever else the directory holds. A build wrote it behind walls:
// a link or a special file in its place is refused, not followed.
func onlyFile(dir *os.Root, name string) (fs.FS, error) {
	info, err := dir.Lstat(name)
	if err != nil {
		return nil, fault.New(fault.Internal, "", "the build left no program: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Finding, "", "the build left a %s in place of the program", info.Mode().Type())
	}
	return soleFile{dir: dir, info: programInfo{info}}, nil
}

// soleFile is a file system of one file.
type soleFile struct {
	dir  *os.Root
	info programInfo
}

// Open opens the file. The root is there to be walked with ReadDir.
func (e soleFile) Open(name string) (fs.File, error) {
	if name != e.info.Name() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := e.dir.Open(name)
	if err != nil {
		return nil, err
	}
	return programFile{f, e.info}, nil
}

// ReadDir returns the one entry of the root.
func (e soleFile) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	return []fs.DirEntry{fs.FileInfoToDirEntry(e.info)}, nil
}

// Stat describes the root or the file.
func (e soleFile) Stat(name string) (fs.FileInfo, error) {
	switch name {
	case ".":
		return e.dir.Stat(".")
	case e.info.Name():
		return e.info, nil
	default:
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
}

type programFile struct {
	fs.File
	info programInfo
}

func (f programFile) Stat() (fs.FileInfo, error) { return f.info, nil }

// programInfo describes the program with mode 0755, whatever mode the build's
// umask gave it.
type programInfo struct{ fs.FileInfo }

func (programInfo) Mode() fs.FileMode { return 0o755 }

// below is a file system that has another one in a directory.
type below struct {
	dir  string
	fsys fs.FS
}

// Open opens a file of the other one, or a directory.
func (b below) Open(name string) (fs.File, error) {
	if inner, ok := b.inner(name); ok {
		return b.fsys.Open(inner)
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadDir lists a directory.
func (b below) ReadDir(name string) ([]fs.DirEntry, error) {
	if name == "." {
		info, err := fs.Stat(b.fsys, ".")
		if err != nil {
			return nil, err
		}
		return []fs.DirEntry{fs.FileInfoToDirEntry(named{info, b.dir})}, nil
	}
	if inner, ok := b.inner(name); ok {
		return fs.ReadDir(b.fsys, inner)
	}
	return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
}

// Stat describes a file; the root is like that of the other one.
func (b below) Stat(name string) (fs.FileInfo, error) {
	if inner, ok := b.inner(name); ok {
		return fs.Stat(b.fsys, inner)
	}
	if name == "." {
		return fs.Stat(b.fsys, ".")
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// ReadLink returns where a link leads.
func (b below) ReadLink(name string) (string, error) {
	if inner, ok := b.inner(name); ok {
		return fs.ReadLink(b.fsys, inner)
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrNotExist}
}

// Lstat describes a file, a link as itself.
func (b below) Lstat(name string) (fs.FileInfo, error) {
	if inner, ok := b.inner(name); ok && name != b.dir {
		return fs.Lstat(b.fsys, inner)
	}
	return b.Stat(name)
}

func (b below) inner(name string) (string, bool) {
	if name == b.dir {
		return ".", true
	}
	return strings.CutPrefix(name, b.dir+"/")
}

// named is a file by another name.
type named struct {
	fs.FileInfo
	name string
}

func (n named) Name() string { return n.name }
