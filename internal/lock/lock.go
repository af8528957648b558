// Package lock takes kernel advisory locks on files, so that two processes do
// not change one thing at once. A lock ends with its process, however it ends.
//
// It is the only importer of gofrs/flock. It never waits without a context and
// never removes a lock file: removing one that another process is about to lock
// would let two processes in.
package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// poll is how often a taken lock is tried again; the kernel has no wait with a
// deadline for advisory locks.
const poll = 5 * time.Millisecond

// Lock is a held lock.
type Lock struct{ file *flock.Flock }

// ErrTaken reports that another process holds the lock.
var ErrTaken = errors.New("lock is held by another process")

// Acquire takes the lock file at path, making its directory if need be, and waits
// until it is free or ctx ends.
func Acquire(ctx context.Context, path string) (*Lock, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	ok, err := f.TryLockContext(ctx, poll)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	if !ok {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, ErrTaken), f.Close())
	}
	return &Lock{f}, nil
}

// Share takes the lock file at path together with others that share it, and waits
// until nobody has it alone or ctx ends.
func Share(ctx context.Context, path string) (*Lock, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	ok, err := f.TryRLockContext(ctx, poll)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("share lock %s: %w", path, err), f.Close())
	}
	if !ok {
		return nil, errors.Join(fmt.Errorf("share lock %s: %w", path, ErrTaken), f.Close())
	}
	return &Lock{f}, nil
}

// TryNow takes the lock file at path if it is free at this moment; if not, the error
// is [ErrTaken].
func TryNow(path string) (*Lock, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	ok, err := f.TryLock()
	if err == nil && !ok {
		err = ErrTaken
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return &Lock{f}, nil
}

// grace is how long [Try] takes a lock for held by a process that is not there any
// more: one that was killed while it started another holds its lock until the
// other has become its own program.
const grace = time.Second

// Try takes the lock file at path if it is free, or becomes so within a second. If
// not, the error is [ErrTaken] and says what the holder wrote with [Lock.Note].
func Try(ctx context.Context, path string) (*Lock, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	ok, err := f.TryLockContext(wait, poll)
	if err != nil && (ctx.Err() != nil || wait.Err() == nil) {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	if !ok {
		note, _ := os.ReadFile(path + ".holder") // best effort: the note only explains
		return nil, errors.Join(fmt.Errorf("lock %s: %w %s", path, ErrTaken, strings.TrimSpace(string(note))), f.Close())
	}
	return &Lock{f}, nil
}

func open(path string) (*flock.Flock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	// The opening of a pipe would wait for a writer, and no signal would end that.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("lock %s: it is not a regular file (%s)", path, info.Mode())
	}
	return flock.New(path), nil
}

// Note leaves a line for those who find the lock taken: who holds it and why.
func (l *Lock) Note(line string) error {
	return os.WriteFile(l.file.Path()+".holder", []byte(line+"\n"), 0o600)
}

// Release gives the lock back. It may be called more than once.
func (l *Lock) Release() error { return l.file.Close() }
