package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// The files of an environment's directory.
const (
	recordFile = "keeper.json"
	socketFile = "keeper.sock"
	logFile    = "keeper.log"
	logsDir    = "logs"
)

// record is what is known of an environment without asking its keeper.
type record struct {
	Schema   int             `json:"schema_version"`
	Info     Info            `json:"environment"`
	Settings json.RawMessage `json:"settings"`
}

const recordSchema = 1

// place is the directory of an environment, held by a lock that the kernel gives
// back when the holder ends, however it ends.
type place struct {
	dir  string
	lock *os.File
}

// waitDir is [lockDir] for a directory whose holder is about to end.
func waitDir(ctx context.Context, dir string) (*place, error) {
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		p, err := lockDir(dir)
		if p != nil || err != nil {
			return p, err
		}
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the end of the keeper in %s: %w", dir, context.Cause(ctx))
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
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// there reports whether the directory is still that which was locked.
func (p *place) there() bool {
	held, err := p.lock.Stat()
	named, nerr := os.Stat(p.dir)
	return err != nil || nerr == nil && os.SameFile(held, named) || nerr != nil && !errors.Is(nerr, fs.ErrNotExist)
}

// remove removes the directory, and then gives back the lock.
func (p *place) remove() error {
	defer p.lock.Close()
	if !p.there() {
		return nil // by now it may be another's
	}
	return fault.Wrap(os.RemoveAll(p.dir), fault.Unavailable, "remove it by hand", "remove an environment's directory")
}

// readRecord reads the record in dir, and believes it only about what is there.
func readRecord(dir string) (record, error) {
	var r record
	path := filepath.Join(dir, recordFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", path, err)
	}
	switch {
	case r.Schema != recordSchema:
		return r, fmt.Errorf("%s has schema version %d, this program knows %d", path, r.Schema, recordSchema)
	case r.Info.Name != filepath.Base(dir) || checkName(r.Info.Name) != nil:
		return r, fmt.Errorf("%s is the record of another environment, %q", path, r.Info.Name)
	}
	return r, nil
}
