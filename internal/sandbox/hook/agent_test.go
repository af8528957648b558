//go:build linux

package hook

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// reader is the standard output of an agent; at is called before its first byte is
// taken, when the command has ended and the tree is being read.
type reader struct {
	bytes.Buffer
	at func()
}

func (r *reader) Write(p []byte) (int, error) {
	if r.at != nil {
		r.at()
		r.at = nil
	}
	return r.Buffer.Write(p)
}

// TestBackgroundWritesNothing: what a command leaves in the background has ended before
// the tree is read. Here it waits until that begins to change the tree.
func TestBackgroundWritesNothing(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	t.Chdir(outside) // and back at the end: the agent enters the tree
	beginning := filepath.Join(outside, "begins")
	script := `(until [ -e "$1" ]; do :; done; echo late > z) > /dev/null 2>&1 & echo $! > "$2"`
	out := &reader{at: func() {
		pid, err := os.ReadFile(filepath.Join(outside, "pid"))
		if err == nil {
			err = os.WriteFile(beginning, nil, 0o644)
		}
		if err != nil {
			t.Error(err)
			return
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for deadline := time.After(time.Minute); alive(strings.TrimSpace(string(pid))); {
			select {
			case <-tick.C:
			case <-deadline:
				t.Error("it still runs after a minute")
				return
			}
		}
	}}
	in := &bytes.Buffer{}
	if err := state.Pack(t.Context(), in, fstest.MapFS{"a": {Data: []byte("a")}, "z": {Data: []byte("early\n")}}, nil); err != nil {
		t.Fatal(err)
	}
	if code := agent(dir, []string{"sh", "-c", script, "sh", beginning, filepath.Join(outside, "pid")}, in, out, os.Stderr); code != 0 {
		t.Fatal("exit code", code)
	}
	if !bytes.Contains(out.Bytes(), []byte("early\n")) {
		t.Errorf("the tree that was read is not that of the command: %q", out.String())
	}
}

// alive reports whether a process runs; one that has ended and waits for its parent does not.
func alive(pid string) bool {
	if _, err := strconv.Atoi(pid); err != nil {
		return false
	}
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	_, state, found := bytes.Cut(b, []byte(") "))
	return err == nil && found && state[0] != 'Z'
}
