package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// The life of a router or a supervisor is a kernel lock on a file of the
// environment, held from its start until the kernel has ended it, and a record of
// whose it is. A socket only says who answers: it closes before its process ends,
// and a cleaner of temporary files may remove it from under one that does not.
const (
	lifeLock   = "life.lock"
	lifeRecord = "life.json"
)

// life is the record.
type life struct {
	PID int `json:"pid"`
	// Born tells the process from others with its number; empty where the system
	// does not say.
	Born string `json:"born,omitempty"`
}

// lives are the locks of this process. None is given back: the kernel does it
// when the process has ended, which is what others wait for.
var lives []*lock.Lock

// Live makes this process the one that lives in dir: for a router its directory
// of state, for a supervisor that of its release. It fails with fault.Unavailable
// while another lives there. It is meant for the first moment of a process.
func Live(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.New(fault.Unavailable, "", "directory of a process: %w", err)
	}
	held, err := lock.Try(ctx, filepath.Join(dir, lifeLock))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "run `deploy down`", "another process lives in "+dir)
	}
	lives = append(lives, held)
	born, err := birth(os.Getpid())
	if err != nil {
		return fault.New(fault.Unavailable, "", "record of a process: %w", err)
	}
	b, err := json.Marshal(life{PID: os.Getpid(), Born: born})
	if err == nil {
		err = writeFile(filepath.Join(dir, lifeRecord), b)
	}
	if err != nil {
		return fault.New(fault.Unavailable, "", "record of a process: %w", err)
	}
	return nil
}

const (
	// glance is how long a lock is tried to see whether it is held: longer than a
	// process that was just forked keeps a copy of it.
	glance = 50 * time.Millisecond
	// endTimeout bounds the end of a process after its work is over.
	endTimeout = 10 * time.Second
)

// ended waits until nobody lives in dir, at most for the given time.
func ended(ctx context.Context, dir string, timeout time.Duration) error {
	path := filepath.Join(dir, lifeLock)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	held, err := lock.Acquire(bounded, path)
	if err == nil {
		// A record without its process would be taken for that of the next one.
		return errors.Join(removeIfThere(filepath.Join(dir, lifeRecord)), held.Release())
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		return fault.New(fault.Unavailable, "", "%w", err)
	}
	var l life
	if readJSON(filepath.Join(dir, lifeRecord), &l) != nil {
		return fault.New(fault.Unavailable, "end what holds the lock, then run again", "a process holds %s and left no record", path)
	}
	return fault.New(fault.Unavailable, fmt.Sprintf("end process %d, then run again", l.PID),
		"process %d does not end: it holds %s", l.PID, path)
}

// end ends whoever lives in dir without answering: politely, by force when the
// patience is over. Call it under the environment's lock, so that nobody new
// begins to live there.
func end(ctx context.Context, dir string, patience time.Duration) error {
	if err := ended(ctx, dir, glance); err == nil || ctx.Err() != nil {
		return err
	}
	for _, try := range []struct {
		signal os.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, patience + endTimeout}, {os.Kill, endTimeout}} {
		if err := tell(dir, try.signal); err != nil {
			return err
		}
		if err := ended(ctx, dir, try.wait); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return ended(ctx, dir, glance)
}

// tell signals the process that lives in dir. The handle is taken before the
// proof, so it cannot come to mean another process in between; the proof is that
// the lock is held and, where the system says it, the time of the process's birth.
func tell(dir string, signal os.Signal) error {
	var l life
	if readJSON(filepath.Join(dir, lifeRecord), &l) != nil || l.PID <= 1 {
		return nil // whoever waits for the end says so
	}
	p, err := os.FindProcess(l.PID)
	if err != nil {
		return nil // it has just ended
	}
	defer func() { _ = p.Release() }()
	if born, err := birth(l.PID); err != nil || born != l.Born {
		return nil
	}
	if ended(context.Background(), dir, glance) == nil {
		return nil
	}
	err = p.Signal(signal)
	if err != nil && signal != os.Kill && !errors.Is(err, os.ErrProcessDone) {
		err = p.Kill() // a system that knows no polite signal
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fault.New(fault.Unavailable, "end it as its owner, then run again", "end process %d: %w", l.PID, err)
	}
	return nil
}
