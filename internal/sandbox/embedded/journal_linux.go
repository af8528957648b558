package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// The files of an environment's directory.
const (
	recordFile    = "environment.json"
	controlSocket = "control.sock"
	logFile       = "supervisor.log"
	stageDir      = "root"       // where inits build their roots
	workDir       = "containers" // what a mount becomes without a private root
)

// groupPrefix starts the names of all our control groups; nothing else is removed.
const groupPrefix = "ultrafast-"

// record is the journal of one environment. It is written before anything that
// it names is made.
type record struct {
	Schema  int           `json:"schema_version"`
	Name    string        `json:"name"`
	Level   sandbox.Level `json:"level"`
	Created time.Time     `json:"created"`
	// Creator and Supervisor name processes for good: by number and start time.
	Creator    process  `json:"creator"`
	Supervisor process  `json:"supervisor"`
	Groups     []string `json:"control_groups"`
}

const recordSchema = 1

// process names a process for good.
type process struct {
	PID int `json:"pid"`
	// Start is in clock ticks since boot.
	Start uint64 `json:"start"`
}

func processOf(pid int) (process, error) {
	st, err := readStat(pid)
	return process{pid, st.start}, err
}

// lives reports whether the process is still there.
func (p process) lives() bool {
	now, err := processOf(p.PID)
	return err == nil && now == p
}

// kill kills the process if it is still the one meant, after the grace in which it may
// end by itself, and waits for its end.
func (p process) kill(ctx context.Context, grace time.Duration) error {
	if p.PID <= 1 {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", p.PID, err)
	}
	defer unix.Close(fd)
	// The descriptor pins the number: now a look tells whose it is.
	if !p.lives() {
		return nil
	}
	if grace > 0 {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(grace.Milliseconds()))
		if n > 0 && err == nil {
			return nil
		}
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return fmt.Errorf("wait for the end of process %d: %w", p.PID, context.Cause(ctx))
}

// place is an environment's directory, held by a lock that the kernel gives back
// when the holder ends, however it ends.
type place struct {
	dir  string
	lock *os.File
}

func (b *Backend) environments() string { return filepath.Join(b.options.StateDir, "environments") }

func (b *Backend) dir(name string) string { return filepath.Join(b.environments(), name) }

// claim makes and locks the directory of a new environment, after removing what a
// killed creator left of one of that name.
func (b *Backend) claim(ctx context.Context, name string) (*place, error) {
	if err := os.MkdirAll(b.environments(), 0o700); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "choose a state directory that can be written", "make the journal of environments")
	}
	taken := fault.New(fault.Finding, "choose another name, or delete the environment", "an environment called %q exists", name)
	dir := b.dir(name)
	for range 2 {
		err := os.Mkdir(dir, 0o700)
		if err == nil {
			p, err := lock(dir)
			if p == nil && err == nil {
				err = taken // someone took it for a leftover
			}
			return p, err
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, fault.Wrap(err, fault.Unavailable, "choose a state directory that can be written", "make the directory of environment "+name)
		}
		p, err := lockDead(ctx, dir)
		if err != nil {
			return nil, err
		}
		if p == nil {
			return nil, taken
		}
		if err := b.sweep(ctx, p); err != nil {
			return nil, err
		}
	}
	return nil, taken
}

// lock locks dir. It returns nil if somebody else holds it, or it is gone.
func lock(dir string) (*place, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "open an environment's directory")
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Between the two calls its last holder may have removed it.
		var held, named unix.Stat_t
		if unix.Fstat(int(f.Fd()), &held) == nil && unix.Stat(dir, &named) == nil && held.Ino == named.Ino {
			return &place{dir, f}, nil
		}
	}
	f.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fault.Wrap(err, fault.Unavailable, "keep the state directory on a local file system", "lock "+dir)
	}
	return nil, nil
}

// lockTime bounds the wait for the lock of a creator that is gone.
const lockTime = 2 * time.Second

// lockDead locks dir if its creator is gone. A child that was being started when the
// creator was killed holds the lock a moment longer: for that it waits.
func lockDead(ctx context.Context, dir string) (*place, error) {
	ctx, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for {
		p, err := lock(dir)
		if p != nil || err != nil || !exists(dir) {
			return p, err
		}
		if r, err := readRecord(dir); err == nil && r.Creator.lives() {
			return nil, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-again.C:
		}
	}
}

// write replaces the record: a reader sees the old one or the new one.
func (p *place) write(r record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(p.dir, recordFile)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readRecord reads the journal of the environment in dir, and trusts it only with
// what could be ours.
func readRecord(dir string) (record, error) {
	var r record
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", filepath.Join(dir, recordFile), err)
	}
	switch {
	case r.Schema != recordSchema:
		return r, fmt.Errorf("%s has schema version %d, this program knows %d", filepath.Join(dir, recordFile), r.Schema, recordSchema)
	case r.Name != filepath.Base(dir) || sandbox.CheckName("environment", r.Name) != nil:
		return r, fmt.Errorf("%s is the journal of another environment, %q", filepath.Join(dir, recordFile), r.Name)
	}
	for _, g := range r.Groups {
		if !filepath.IsAbs(g) || filepath.Clean(g) != g || !strings.HasPrefix(filepath.Base(g), groupPrefix+r.Name+"-") {
			return r, fmt.Errorf("%s names a control group that is not ours, %q", filepath.Join(dir, recordFile), g)
		}
	}
	return r, nil
}

// sweep removes all that is left of an environment whose lock p holds, and then
// the lock.
func (b *Backend) sweep(ctx context.Context, p *place) error {
	defer p.lock.Close()
	r, err := readRecord(p.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // nothing was made yet
	case err != nil:
		return fault.Wrap(err, fault.Unavailable, "remove the directory by hand", "remove an environment")
	default:
		var grace time.Duration
		if r.Level < sandbox.Full {
			// Nothing but the supervisor knows what is below it; it has seen that its
			// creator ended, and is about to end it.
			grace = closeTime
		}
		if err := errors.Join(r.Supervisor.kill(ctx, grace), removeGroups(ctx, r.Groups)); err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "remove environment "+r.Name)
		}
	}
	return removeDir(p.dir)
}

// removeDir removes dir and all in it, also what was made unreadable.
func removeDir(dir string) error {
	err := os.RemoveAll(dir)
	if err != nil {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				_ = os.Chmod(path, 0o700)
			}
			return nil
		})
		err = os.RemoveAll(dir)
	}
	return fault.Wrap(err, fault.Unavailable, "remove it by hand", "remove an environment's directory")
}
