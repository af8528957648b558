package door

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const (
	scratchPrefix = "ultrafast-verify-"
	scratchLock   = "lock"
	// youth is how long a directory without a lock is taken for one that is being made.
	youth = time.Hour
	// patience is how long a lock is tried.
	patience = 20 * time.Millisecond
	// maxSwept bounds how many directories one run removes.
	maxSwept = 100
)

// scratch is a temporary directory that lasts as long as its process: whoever finds
// one whose lock is free may remove it.
type scratch struct {
	dir  string
	held *lock.Lock
}

// newScratch makes a directory below temp.
func newScratch(ctx context.Context, temp string) (*scratch, error) {
	const doing = "make a directory to render in"
	for range 3 {
		dir, err := os.MkdirTemp(temp, scratchPrefix)
		if err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "", doing)
		}
		held, err := lock.Acquire(ctx, filepath.Join(dir, scratchLock))
		if err != nil {
			return nil, errors.Join(fault.Wrap(err, fault.Unavailable, "", doing), os.RemoveAll(dir))
		}
		// Another process may have swept it before it was locked.
		if _, err := os.Lstat(filepath.Join(dir, scratchLock)); err == nil {
			return &scratch{dir, held}, nil
		}
		if err := held.Release(); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "", doing)
		}
	}
	return nil, fault.New(fault.Unavailable, "run again", "%s: it was removed at once, three times", doing)
}

// remove ends it.
func (s *scratch) remove() error {
	err, released := os.RemoveAll(s.dir), s.held.Release()
	if err != nil {
		err = os.RemoveAll(s.dir) // Windows keeps a file that is open
	}
	return errors.Join(err, released)
}

// sweepScratch removes the directories below temp whose processes are gone. What
// cannot be removed is left: it may be another user's.
func sweepScratch(ctx context.Context, temp string, now time.Time) error {
	entries, err := os.ReadDir(temp)
	if err != nil {
		return fmt.Errorf("look for what killed runs left: %w", err)
	}
	swept := 0
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), scratchPrefix) || swept == maxSwept {
			continue
		}
		if abandoned(ctx, filepath.Join(temp, e.Name()), now) {
			swept++
		}
	}
	return nil
}

// tidy removes what killed runs of verify left in the temporary directory; that it
// cannot is no reason to stop.
func tidy(ctx context.Context, a *app.App) {
	if err := sweepScratch(ctx, os.TempDir(), a.Now()); err != nil {
		a.Log.Debug("not tidied up", "error", err)
	}
}

// abandoned removes dir if nobody holds it, and reports whether it did.
func abandoned(ctx context.Context, dir string, now time.Time) bool {
	at := filepath.Join(dir, scratchLock)
	info, err := os.Lstat(at)
	if errors.Is(err, os.ErrNotExist) {
		made, err := os.Lstat(dir)
		return err == nil && now.Sub(made.ModTime()) > youth && os.RemoveAll(dir) == nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	free, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	held, err := lock.Acquire(free, at)
	if err != nil {
		return false
	}
	return (&scratch{dir, held}).remove() == nil
}
