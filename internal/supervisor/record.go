package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// record names a process so that no later one with the same number is taken for it.
type record struct {
	PID int `json:"pid"`
	// Born tells the process from others that had or will have its number; empty
	// where the system does not say.
	Born string `json:"born"`
}

func writeRecord(path string, pid int) error {
	born, err := birth(pid)
	if err != nil {
		return err
	}
	b, err := json.Marshal(record{PID: pid, Born: born})
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// Reap ends the process that a killed supervisor left behind, if it still runs
// and is provably the one in the record. Call it only when no supervisor answers.
func Reap(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil || r.PID <= 1 {
		return forget(path) // half a record: the process never ran under it
	}
	if err := kill(r); err != nil {
		return err
	}
	return forget(path)
}

func forget(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func kill(r record) error {
	// The handle is taken before the proof, so it cannot come to mean another
	// process in between.
	p, err := os.FindProcess(r.PID)
	if err != nil {
		return nil // there is no such process
	}
	defer func() { _ = p.Release() }()
	born, err := birth(r.PID)
	if err != nil || r.Born == "" || born != r.Born {
		return nil // it ended, and its number may be somebody else's
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fault.New(fault.Unavailable, "", "end process %d: %w", r.PID, err)
	}
	probe := time.NewTicker(2 * time.Millisecond)
	defer probe.Stop()
	limit := time.NewTimer(5 * time.Second)
	defer limit.Stop()
	for {
		if now, err := birth(r.PID); err != nil || now != r.Born {
			return nil
		}
		select {
		case <-probe.C:
		case <-limit.C:
			return fault.New(fault.Unavailable, "", "process %d does not end", r.PID)
		}
	}
}

// errNoProcess means that nothing runs under a number.
var errNoProcess = fmt.Errorf("no such process")
