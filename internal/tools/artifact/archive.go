package main

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// pack writes the regular files of fsys to w as a zip, and returns its size in bytes.
// As with the action that it stands in for, modes are lost.
func pack(w io.Writer, fsys fs.FS) (int64, error) {
	counter := &counter{w: w}
	z := zip.NewWriter(counter)
	files := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		return packFile(z, fsys, name)
	})
	if err == nil && files == 0 {
		err = errors.New("there are no files")
	}
	err = errors.Join(err, z.Close())
	return counter.n, err
}

func packFile(z *zip.Writer, fsys fs.FS, name string) (err error) {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	entry, err := z.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(entry, f)
	return err
}

// extract writes the files of a zip below target, which no name leads out of.
func extract(archive io.ReaderAt, size int64, target *os.Root) error {
	z, err := zip.NewReader(archive, size)
	if err != nil {
		return err
	}
	left := int64(maxArtifact)
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		if !f.Mode().IsRegular() || !filepath.IsLocal(f.Name) {
			return fmt.Errorf("it holds %q, which is no plain file below it", f.Name)
		}
		n, err := extractFile(f, target, left)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		left -= n
	}
	return nil
}

func extractFile(f *zip.File, target *os.Root, limit int64) (n int64, err error) {
	r, err := f.Open()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := target.MkdirAll(path.Dir(f.Name), 0o755); err != nil {
		return 0, err
	}
	w, err := target.Create(f.Name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	n, err = io.Copy(w, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("it unpacks to more than %d bytes", maxArtifact)
	}
	return n, err
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
