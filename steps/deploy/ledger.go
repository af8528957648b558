package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/rollout"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Record is one line of an environment's history.
type Record struct {
	// Seq counts from 1.
	Seq int `json:"seq"`
	// Prev is the Sum of the record before; empty in the first.
	Prev state.Digest `json:"prev,omitempty"`
	Time time.Time    `json:"time"`
	// Action is what was wanted, Outcome what came of it.
	Action  string        `json:"action"`
	Outcome rollout.State `json:"outcome"`
	// Release is the one that was rolled out, Replaces the one that served before.
	Release  string `json:"release,omitempty"`
	Replaces string `json:"replaces,omitempty"`
	// Restores is, in a rollback, the earlier release whose image and
	// configuration Release has.
	Restores string       `json:"restores,omitempty"`
	Image    state.Digest `json:"image,omitempty"`
	Config   state.Digest `json:"config,omitempty"`
	// Service is the configuration that Config is the digest of.
	Service  Service      `json:"service,omitzero"`
	Plan     state.Digest `json:"plan,omitempty"`
	Strategy string       `json:"strategy,omitempty"`
	// KeyID names the signer of the verdict that was relied on.
	KeyID string `json:"keyID,omitempty"`
	// Who asked for it.
	Who string `json:"who,omitempty"`
	// Reason says why it was taken back.
	Reason string `json:"reason,omitempty"`
	// Sum is the digest of the record without Sum.
	Sum state.Digest `json:"sum"`
}

// The actions of a history.
const (
	ActionDeploy   = "deploy"
	ActionRollback = "rollback"
	ActionDown     = "down"
)

// Stopped is the outcome of [ActionDown]: nothing was promoted.
const Stopped rollout.State = "stopped"

func (s Step) historyFile() string { return filepath.Join(s.Dir, "history.jsonl") }
func (s Step) journalFile() string { return filepath.Join(s.Dir, "journal.jsonl") }

// maxLedger bounds a journal or a history, in bytes: some 100,000 records.
const maxLedger = 64 << 20

func (r Record) sum() (state.Digest, error) {
	r.Sum = ""
	b, err := canonical(r)
	return state.DigestOf(b), err
}

// readHistory returns the records of a history whose chain is whole.
func readHistory(path string) ([]Record, error) {
	b, err := readLines(path)
	if err != nil {
		return nil, err
	}
	return decodeHistory(path, b)
}

func decodeHistory(path string, b []byte) ([]Record, error) {
	records := []Record{}
	prev := state.Digest("")
	for line := range bytes.Lines(b) {
		var r Record
		err := json.Unmarshal(line, &r)
		if err == nil {
			var sum state.Digest
			sum, err = r.sum()
			if err == nil && (sum != r.Sum || r.Prev != prev || r.Seq != len(records)+1) {
				err = errors.New("the record does not fit the one before it, or was changed")
			}
		}
		if err != nil {
			return nil, fault.New(fault.Finding, "restore the file from a backup, or move it away to begin a new history",
				"history %s:%d: %w", path, len(records)+1, err)
		}
		records, prev = append(records, r), r.Sum
	}
	return records, nil
}

// record appends to the history.
func (r *run) record(rec Record) error {
	rec.Seq, rec.Prev = len(r.history)+1, ""
	if n := len(r.history); n > 0 {
		rec.Prev = r.history[n-1].Sum
	}
	rec.Time = r.Clock.Now().UTC().Truncate(time.Millisecond)
	sum, err := rec.sum()
	if err != nil {
		return err
	}
	rec.Sum = sum
	line, err := canonical(rec)
	if err != nil {
		return err
	}
	if err := appendLine(r.historyFile(), line); err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "write the history")
	}
	r.history = append(r.history, rec)
	return nil
}

// good returns the releases that served, oldest first, without those that were
// rolled back: the last is the present one. After "down" there is none.
func good(history []Record) []Record {
	var stack []Record
	for _, rec := range history {
		switch {
		case rec.Action == ActionDown:
			stack = nil
		case rec.Outcome != rollout.Promoted:
		case rec.Action == ActionRollback:
			// What was rolled back was not good; what it goes back to has a new name.
			if i := slices.IndexFunc(stack, func(r Record) bool { return r.Release == rec.Restores }); i >= 0 {
				stack = stack[:i]
			}
			stack = append(stack, rec)
		default:
			stack = append(stack, rec)
		}
	}
	return stack
}

// journal is the file of the rollout in progress.
type journal struct{ path string }

// Append writes a record through to the disk. The first record of a rollout
// replaces the file as a whole.
func (j journal) Append(_ context.Context, r rollout.Record) error {
	line, err := canonical(r)
	if err != nil {
		return err
	}
	if r.State == rollout.Begun {
		err = replaceFile(j.path, append(line, '\n'))
	} else {
		err = appendLine(j.path, line)
	}
	return fault.Wrap(err, fault.Unavailable, "", "write the journal")
}

// readJournal returns the records of the last rollout.
func readJournal(path string) ([]rollout.Record, error) {
	b, err := readLines(path)
	if err != nil {
		return nil, err
	}
	var records []rollout.Record
	for line := range bytes.Lines(b) {
		var r rollout.Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fault.New(fault.Unavailable, "run `deploy down`, then deploy again", "journal %s:%d: %w", path, len(records)+1, err)
		}
		records = append(records, r)
	}
	return records, nil
}

// readLines returns the whole lines of a file. A last line without its end was
// being written when the machine stopped; what it announces did not happen.
func readLines(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.New(fault.Unavailable, "", "%w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxLedger+1))
	if err != nil {
		return nil, fault.New(fault.Unavailable, "", "read %s: %w", path, err)
	}
	if len(b) > maxLedger {
		return nil, fault.New(fault.Unavailable, "move the file away", "%s has more than %d bytes", path, maxLedger)
	}
	return b[:bytes.LastIndexByte(b, '\n')+1], nil
}

// appendLine adds a line and returns when it is on the disk.
func appendLine(path string, line []byte) error {
	whole, err := readLines(path)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(int64(len(whole)))
	if err == nil {
		_, err = f.WriteAt(append(line, '\n'), int64(len(whole)))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil || len(whole) > 0 {
		return err
	}
	return syncDir(filepath.Dir(path)) // the file is new
}

// replaceFile writes a file so that after any crash the old or the new one is there.
func replaceFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a new name in dir survive a power failure. Windows cannot open a
// directory for it, and journals names by itself.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
