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
	// One process each: a shell that is about to start another is two for a moment.
	for name, cmd := range map[string]*exec.Cmd{
		"by directory": {Dir: dir, Args: []string{"sleep", "60"}},
		"by argument":  {Args: []string{"tail", "-f", "/dev/null", dir + "/x"}},
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
		if len(left) != 1 || !strings.Contains(left[0], strings.Join(cmd.Args, " ")) {
			t.Errorf("%s: found %q", name, left)
		}
		if left := processesIn(dir); len(left) > 0 {
			t.Errorf("%s: found %q after its end", name, left)
		}
	}
}
