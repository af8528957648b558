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
	"slices"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// copyOutTime bounds how long results may take to come back.
const copyOutTime = 10 * time.Minute

// copyOut brings back what the container wrote into read-write mounts.
func (c *container) copyOut() error {
	if len(c.places.back) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), copyOutTime)
	defer cancel()
	c.link.close()
	// Nothing of the payload lives any more; an engine that copies from a container in
	// peace may still need it to have ended.
	select {
	case <-c.exit:
	case <-time.After(graceTime):
	}
	for _, m := range c.places.back {
		if err := c.copyBack(ctx, m); err != nil {
			return fmt.Errorf("bring back %s: %w", m.Target, err)
		}
	}
	return nil
}

func (c *container) copyBack(ctx context.Context, m sandbox.Mount) (err error) {
	r, err := c.environment.found.CopyFrom(ctx, c.id, m.Target)
	if err != nil {
		return err
	}
	defer r.Close()
	root, err := os.OpenRoot(m.Source)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return restore(root, tar.NewReader(r))
}

// maxRestore bounds the entries of a directory that comes back.
const maxRestore = 1_000_000

// restore makes root hold what the archive has, and nothing else. What is hostile in
// the archive stays below root.
func restore(root *os.Root, t *tar.Reader) error {
	seen := map[string]bool{".": true}
	type stamp struct {
		name string
		mode fs.FileMode
		at   time.Time
	}
	var dirs []stamp
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := path.Clean(belowTop(h.Name))
		if name == "." || name == "" {
			continue
		}
		if !fs.ValidPath(name) {
			return fault.New(fault.Finding, "", "the archive has the path %q", h.Name)
		}
		if len(seen) > maxRestore {
			return fault.New(fault.Finding, "", "it has more than %d files", maxRestore)
		}
		seen[name] = true
		if err := restoreOne(root, t, h, name); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeDir {
			dirs = append(dirs, stamp{name, fs.FileMode(h.Mode).Perm(), h.ModTime})
		}
	}
	if err := removeOthers(root, seen); err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if err := errors.Join(root.Chmod(d.name, d.mode), root.Chtimes(d.name, d.at, d.at)); err != nil {
			return err
		}
	}
	return nil
}

func restoreOne(root *os.Root, t *tar.Reader, h *tar.Header, name string) error {
	there, err := root.Lstat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if there != nil && there.IsDir() {
			return root.Chmod(name, 0o700|there.Mode().Perm())
		}
		return errors.Join(root.RemoveAll(name), root.Mkdir(name, 0o700))
	case tar.TypeSymlink:
		return errors.Join(root.RemoveAll(name), root.Symlink(h.Linkname, name))
	case tar.TypeLink:
		return errors.Join(root.RemoveAll(name), root.Link(path.Clean(belowTop(h.Linkname)), name))
	case tar.TypeReg:
		if there != nil && !there.Mode().IsRegular() {
			if err := root.RemoveAll(name); err != nil {
				return err
			}
		}
		return restoreFile(root, t, h, name)
	}
	return nil // nothing else carries results
}

func restoreFile(root *os.Root, t *tar.Reader, h *tar.Header, name string) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if errors.Is(err, fs.ErrPermission) { // a file that its owner may not write
		if err = root.Remove(name); err == nil {
			f, err = root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		}
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, t)
	return errors.Join(err, f.Close(), root.Chmod(name, fs.FileMode(h.Mode).Perm()), root.Chtimes(name, h.ModTime, h.ModTime))
}

// removeOthers removes what is not in seen.
func removeOthers(root *os.Root, seen map[string]bool) error {
	var others []string
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case seen[name]:
			return nil
		}
		others = append(others, name)
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	for _, name := range others {
		err = errors.Join(err, root.RemoveAll(name))
	}
	return err
}
