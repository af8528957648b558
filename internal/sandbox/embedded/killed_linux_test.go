package embedded_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
)

// churnArg makes the test binary a creator that makes environments until it is killed.
const churnArg = "embedded-churn"

// churn is that creator.
func churn(stateDir, level, mark string) error {
	max, err := sandbox.ParseLevel(level)
	if err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	b := embedded.New(embedded.Options{StateDir: stateDir, MaxLevel: &max})
	return sandboxtest.Churn(context.Background(), b, "", "churn-"+mark, exe, mark, os.Stdout)
}

// TestKilledRuns kills runs at random moments and collects; with ULTRAFAST_LONG a hundred
// at each level.
func TestKilledRuns(t *testing.T) {
	runs := 5
	if os.Getenv("ULTRAFAST_LONG") != "" {
		runs = 100
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []sandbox.Level{sandbox.Full, sandbox.Reduced} {
		t.Run(level.String(), func(t *testing.T) {
			dir := t.TempDir()
			b := embedded.New(embedded.Options{StateDir: dir, MaxLevel: &level})
			if c, err := b.Probe(t.Context()); err != nil || c.Level < level {
				t.Skipf("level %s cannot be reached here: %q, %v", level, c.Refused, err)
			}
			sandboxtest.KilledRuns(t, sandboxtest.Killed{
				Runs: runs, Backend: b, Leftovers: leftovers(dir),
				Creator: func(t *testing.T, mark string) *exec.Cmd {
					return exec.Command(exe, churnArg, dir, level.String(), mark)
				},
			})
		})
	}
}
