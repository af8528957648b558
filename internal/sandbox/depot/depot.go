// Package depot keeps directories that are made once for each key, by whichever process
// asks first, and used by all: dependencies that a lock file names, for example.
//
// A directory is made whole or not at all: in a place of its own, under a lock that ends
// with its process, and then renamed. What a killed process left there goes when the next
// directory is made. Nothing in a depot is ever changed; what nobody used for a month goes.
package depot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// unused is how long a directory is kept that nobody asks for.
const unused = 30 * 24 * time.Hour

// maxEntries bounds the directories that are looked at for what may go.
const maxEntries = 10_000

var keys = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`) })

// Depot is a directory of the host; see the package comment. Its zero value is not used.
type Depot struct {
	// Root is made, open to its owner alone, when it is needed.
	Root string
	// Now is the clock for what nobody used; nil for the system's.
	Now func() time.Time
}

// Dir returns the directory of a key, and whether it was there already. If not, fill is
// given a new one that every user may write to, below one that is open to the caller
// alone. What fill left when it fails is removed.
func (d Depot) Dir(ctx context.Context, key string, fill func(ctx context.Context, dir string) error) (dir string, warm bool, err error) {
	if !keys().MatchString(key) {
		return "", false, fault.New(fault.Internal, "", "%q is no key of a depot", key)
	}
	home := filepath.Join(d.Root, key)
	dir = filepath.Join(home, "ready")
	if isDir(dir) {
		return dir, true, d.touch(home)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", false, fault.New(fault.Unavailable, "name a cache directory that can be written", "make a directory of the depot: %w", err)
	}
	held, err := lock.Acquire(ctx, filepath.Join(home, "lock"))
	if err != nil {
		return "", false, fault.Wrap(err, fault.Unavailable, "", "wait for who fills "+home)
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	if isDir(dir) { // made by another process while this one waited
		return dir, true, d.touch(home)
	}
	d.sweep(ctx, key)
	work := filepath.Join(home, "work")
	if err := os.RemoveAll(work); err != nil { // of a killed process: the lock is ours
		return "", false, fault.Wrap(err, fault.Unavailable, "", "remove what a killed run left")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := errors.Join(os.Mkdir(work, 0o777), os.Chmod(work, 0o777)); err != nil {
		return "", false, fault.Wrap(err, fault.Unavailable, "", "make a directory of the depot")
	}
	if err := fill(ctx, work); err != nil {
		return "", false, err
	}
	if err := errors.Join(os.Rename(work, dir), d.touch(home)); err != nil {
		return "", false, fault.Wrap(err, fault.Unavailable, "", "keep a directory in the depot")
	}
	return dir, false, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func (d Depot) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// touch notes that the directory was used.
func (d Depot) touch(home string) error {
	err := os.Chtimes(home, d.now(), d.now())
	if errors.Is(err, os.ErrPermission) {
		return nil // another user's, to be read: it is his to keep
	}
	return err
}

// sweep removes what killed processes left below other keys, and what nobody used for
// long. What cannot be removed stays for the next time.
func (d Depot) sweep(ctx context.Context, own string) {
	entries, err := os.ReadDir(d.Root)
	if err != nil {
		return
	}
	for _, e := range entries[:min(len(entries), maxEntries)] {
		home := filepath.Join(d.Root, e.Name())
		info, err := e.Info()
		if err != nil || !e.IsDir() || e.Name() == own {
			continue
		}
		old := d.now().Sub(info.ModTime()) > unused
		if !old && !isDir(filepath.Join(home, "work")) {
			continue
		}
		held, err := lock.Try(ctx, filepath.Join(home, "lock"))
		if err != nil {
			continue // somebody fills it
		}
		_ = os.RemoveAll(filepath.Join(home, "work"))
		if old {
			_ = os.RemoveAll(filepath.Join(home, "ready"))
		}
		_ = held.Release() // the lock file stays: see package lock
	}
}
