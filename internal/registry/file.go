package registry

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// maxLock is the largest lock file in bytes that is read.
const maxLock = 1 << 20

// LockFile is a lock file by its path.
type LockFile string

// Read returns the bytes of the file, nil if there is none.
func (f LockFile) Read() ([]byte, error) {
	data, err := readFile(string(f), maxLock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if data == nil && err == nil {
		data = []byte{}
	}
	return data, err
}

// Write replaces the file in one step: after a crash it has the old bytes or the new.
func (f LockFile) Write(data []byte) error { return writeFile(string(f), data) }

// writeFile writes a file beside its place, makes it durable and renames it.
func writeFile(name string, data []byte) (err error) {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// syncDir makes a rename durable. Windows does so itself and cannot sync a directory.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
