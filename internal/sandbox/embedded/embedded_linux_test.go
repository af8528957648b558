package embedded_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
)

// creatorArg makes the test binary the creator of one environment.
const creatorArg = "embedded-creator"

func TestMain(m *testing.M) {
	if embedded.Reexec() {
		return
	}
	if code, ok := sandboxtest.Main(os.Args, os.Stdin, os.Stdout, os.Stderr); ok {
		os.Exit(code)
	}
	if len(os.Args) == 5 && os.Args[1] == creatorArg {
		if err := create(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// create is the creator: it makes an environment and waits to be killed.
func create(stateDir, level, mark string) error {
	max, err := sandbox.ParseLevel(level)
	if err != nil {
		return err
	}
	b := embedded.New(embedded.Options{StateDir: stateDir, MaxLevel: &max})
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	return sandboxtest.Hold(context.Background(), b, "killed", exe, mark, os.Stdout)
}

// contract runs the suite at one level.
func contract(t *testing.T, level sandbox.Level) {
	state := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := sandboxtest.Options{Level: level, Executable: exe}
	if level == sandbox.Full && groups(t) {
		o.Limited = []string{"memory", "pids"}
	}
	o.Leftovers = leftovers(state)
	o.Creator = func(t *testing.T, mark string) (*exec.Cmd, sandbox.Backend) {
		dir := filepath.Join(state, "killed")
		return exec.Command(exe, creatorArg, dir, level.String(), mark), embedded.New(embedded.Options{StateDir: dir, MaxLevel: &level})
	}
	sandboxtest.Run(t, func(t *testing.T) sandbox.Backend {
		return embedded.New(embedded.Options{StateDir: state, MaxLevel: &level})
	}, o)
}

// groups reports whether control groups can be used here.
func groups(t *testing.T) bool {
	c, err := embedded.New(embedded.Options{StateDir: t.TempDir()}).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, %q, %v", c.Level, c.Refused, c.Notes)
	return strings.Contains(c.Notes["control groups"], "memory") && strings.Contains(c.Notes["control groups"], "pids")
}

func TestContractFull(t *testing.T) {
	c, err := embedded.New(embedded.Options{StateDir: t.TempDir()}).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Level < sandbox.Full {
		t.Skipf("level full cannot be reached here: %q", c.Refused)
	}
	contract(t, sandbox.Full)
}

func TestContractReduced(t *testing.T) { contract(t, sandbox.Reduced) }

func TestContractNone(t *testing.T) { contract(t, sandbox.None) }

// leftovers lists what environments below state could leave: their directories,
// their control groups, and mounts.
func leftovers(state string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		t.Helper()
		var list []string
		for _, pattern := range []string{
			filepath.Join(state, "environments", "*"),
			filepath.Join(state, "killed", "environments", "*"),
		} {
			found, err := filepath.Glob(pattern)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, found...)
		}
		err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "ultrafast-") {
				list = append(list, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(mounts)) {
			list = append(list, "mount "+strings.TrimSpace(line))
		}
		return list
	}
}
