package embedded

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxEntries bounds the files and directories of one copied tree.
const maxEntries = 1 << 20

// copyTree copies the directory source to target, which must not exist, with
// modes, times and links as they are. More than limit bytes are an error. What is
// neither a file, a directory nor a link is left out: a copy of a device or a
// socket would not be one. The copy belongs to who, if it is not nil.
func copyTree(source, target string, limit int64, who *owner) error {
	c := &copier{left: limit, limit: limit, who: who}
	from, err := os.OpenRoot(source)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	// Times and modes of directories last: writing into one changes the first and
	// may be forbidden by the second.
	type directory struct {
		path string
		info fs.FileInfo
	}
	var dirs []directory
	err = fs.WalkDir(from.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if c.entries++; c.entries > maxEntries {
			return fmt.Errorf("%s has more than %d files", source, maxEntries)
		}
		path := filepath.Join(target, name)
		if d.IsDir() {
			dirs = append(dirs, directory{path, info})
			return os.Mkdir(path, 0o700)
		}
		return c.entry(from, name, path, info)
	})
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		err = c.finish(dirs[i].path, dirs[i].info)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", source, err)
	}
	return nil
}

type copier struct {
	left, limit int64
	entries     int
	who         *owner
}

func (c *copier) entry(from *os.Root, name, path string, info fs.FileInfo) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := from.Readlink(name)
		if err != nil {
			return err
		}
		if err := os.Symlink(to, path); err != nil {
			return err
		}
		return c.give(path)
	case info.Mode().IsRegular():
		if err := c.file(from, name, path); err != nil {
			return err
		}
		return c.finish(path, info)
	}
	return nil
}

func (c *copier) file(from *os.Root, name, path string) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, c.left+1))
	c.left -= n
	if err == nil && c.left < 0 {
		err = fmt.Errorf("more than %d bytes, the limit of disk space: %w", c.limit, syscall.ENOSPC)
	}
	return errors.Join(err, out.Close())
}

func (c *copier) finish(path string, info fs.FileInfo) error {
	if err := c.give(path); err != nil {
		return err
	}
	if err := os.Chmod(path, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(path, info.ModTime(), info.ModTime())
}

func (c *copier) give(path string) error {
	if c.who == nil {
		return nil
	}
	return os.Lchown(path, c.who.UID, c.who.GID)
}
