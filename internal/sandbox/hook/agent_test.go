//go:build linux

package hook

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestBackgroundWritesNothing: what a command leaves in the background has ended before
// the tree is read. Here it waits until that begins to change the tree.
func TestBackgroundWritesNothing(t *testing.T) {
	for name, script := range map[string]string{
		"of its group":                `sh -c "$1" > /dev/null 2>&1 & true`,
		"in a session of its own":     `setsid sh -c "$1" > /dev/null 2>&1 & true`,
		"below one in such a session": `setsid sh -c "setsid sh -c '$1' & sleep 60" > /dev/null 2>&1 & true`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside, dir := t.TempDir(), t.TempDir()
			begins, pid := filepath.Join(outside, "begins"), filepath.Join(outside, "pid")
			script += `; until [ -s "$2" ]; do :; done`
			late := "echo $$ > " + pid + "; until [ -e " + begins + " ]; do :; done; echo late > z"
			in := &bytes.Buffer{}
			long := bytes.Repeat([]byte("a"), 1<<20) // more than a pipe takes: the reading of the tree stops in it
			if err := state.Pack(t.Context(), in, fstest.MapFS{"a": {Data: long}, "z": {Data: []byte("early\n")}}, nil); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", agentWord, dir, "sh", "-c", script, "sh", late, pid)
			cmd.Stdin, cmd.Stderr = in, os.Stderr
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			first := make([]byte, 1)
			if _, err := io.ReadFull(out, first); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(begins, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			waitForEnd(t, pid)
			tree, err := io.ReadAll(out)
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if err != nil || !bytes.Contains(tree, []byte("early\n")) {
				t.Errorf("the tree that was read is not that of the command: %v", err)
			}
		})
	}
}

// waitForEnd waits until the process whose number is in the file has ended.
func waitForEnd(t *testing.T, file string) {
	t.Helper()
	number, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); alive(strings.TrimSpace(string(number))); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it still runs after a minute")
		}
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
