package registry

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Store keeps installed packages in a directory: sha256/<hex of the sum>/… It
// holds whole packages only, since each is unpacked beside its place and renamed.
// Several processes may use one store.
type Store struct{ dir string }

const (
	storeSums    = "sha256"
	storeStaging = "staging"
	// staleStaging is the age at which what a killed run left is removed. An
	// install takes seconds.
	staleStaging = time.Hour
)

// NewStore returns the store in dir, which is made when something is installed.
func NewStore(dir string) *Store { return &Store{dir} }

// Dir returns where the package with this sum is installed, or would be.
func (s *Store) Dir(sum state.Digest) string { return filepath.Join(s.dir, storeSums, sum.Hex()) }

// Load returns an installed package as a tar, or false if it is not there. Its
// files may have been changed since: the caller verifies them.
func (s *Store) Load(ctx context.Context, sum state.Digest) (_ []byte, ok bool, err error) {
	if _, err := state.ParseDigest(string(sum)); err != nil {
		return nil, false, err
	}
	root, err := os.OpenRoot(s.Dir(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	w := &boundedBuffer{left: MaxArchive}
	if err := state.Pack(ctx, w, root.FS(), nil); err != nil {
		return nil, false, err
	}
	return w.Bytes(), true, nil
}

// Install unpacks a package in place of what is there under its sum.
func (s *Store) Install(ctx context.Context, sum state.Digest, tar []byte) (err error) {
	if _, err := state.ParseDigest(string(sum)); err != nil {
		return err
	}
	staging := filepath.Join(s.dir, storeStaging)
	for _, dir := range []string{staging, filepath.Join(s.dir, storeSums)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "make package store")
		}
	}
	removeStale(staging)
	work, err := os.MkdirTemp(staging, "install-")
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "stage package")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	unpacked := filepath.Join(work, "new")
	if err := unpack(ctx, tar, unpacked); err != nil {
		return err
	}
	return s.swap(unpacked, filepath.Join(work, "old"), s.Dir(sum))
}

func unpack(ctx context.Context, tar []byte, dir string) (err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return state.Extract(ctx, bytes.NewReader(tar), root, state.Limits{Files: maxEntries * 4, Bytes: MaxArchive})
}

// swap puts the directory at from in the place of to, whose content goes to aside.
// Another process may do the same at once; then either's content stays, which is
// the same, since both have one sum.
func (s *Store) swap(from, aside, to string) error {
	const attempts = 10
	var err error
	for range attempts {
		if err = os.Rename(to, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(err, fault.Unavailable, "", "replace installed package")
		}
		if err = os.Rename(from, to); err == nil {
			return syncDir(filepath.Dir(to))
		}
		if rest := os.RemoveAll(aside); rest != nil {
			return errors.Join(err, rest)
		}
	}
	return fault.Wrap(err, fault.Unavailable, "", "install package")
}

// removeStale removes what killed runs left. It only tidies up: what it cannot
// remove now is left to the next run.
func removeStale(staging string) {
	entries, err := os.ReadDir(staging)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), "install-") && time.Since(info.ModTime()) > staleStaging {
			_ = os.RemoveAll(filepath.Join(staging, e.Name()))
		}
	}
}
