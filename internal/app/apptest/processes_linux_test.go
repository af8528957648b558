package apptest

import (
	"os/exec"
	"strings"
	"testing"
)

// A process is found by where it works, by its arguments, and no longer once it is gone.
func TestProcessesIn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, cmd := range map[string]*exec.Cmd{
		"by directory": {Dir: dir, Args: []string{"sleep", "60"}},
		"by argument":  {Args: []string{"sh", "-c", "sleep 60; :", dir + "/x"}},
	} {
		path, err := exec.LookPath(cmd.Args[0])
		if err != nil {
			t.Skip(err)
		}
		cmd.Path = path
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left := workingIn(dir)
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
		if len(left) != 1 || !strings.Contains(left[0], "sleep 60") {
			t.Errorf("%s: found %q", name, left)
		}
		if left := processesIn(dir); len(left) > 0 {
			t.Errorf("%s: found %q after its end", name, left)
		}
	}
}
