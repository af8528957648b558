package generate

import (
	"errors"
	"io/fs"
	"os"
)

// shelf is a folder that is held open while many files are made in it, so that its
// path is walked once.
type shelf struct {
	root *os.Root
	dir  *os.File
}

func openShelf(root *os.Root, name string) (*shelf, error) {
	folder, err := root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	dir, err := folder.Open(".")
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return &shelf{folder, dir}, nil
}

func (s *shelf) close() error { return errors.Join(s.dir.Close(), s.root.Close()) }

// put makes a new file; name has no folder in it. Unless it is synced, the caller makes
// it last.
func (s *shelf) put(name string, content []byte, mode fs.FileMode, synced bool) error {
	if !synced {
		if done, err := s.putBare(name, content, mode); done {
			return err
		}
	}
	return writeWhole(s.root, name, content, mode, synced)
}
