package keeper_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/keeper"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
)

// settings are those of the keepers of these tests.
type settings struct {
	StateDir string
	Level    sandbox.Level
}

// openEmbedded makes the back end of a keeper.
func openEmbedded(raw json.RawMessage, log *slog.Logger) (sandbox.Backend, error) {
	var s settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	return embedded.New(embedded.Options{StateDir: s.StateDir, MaxLevel: &s.Level, Log: log}), nil
}

func TestMain(m *testing.M) {
	if embedded.Reexec() || keeper.Reexec(openEmbedded) {
		return
	}
	if code, ok := sandboxtest.Main(os.Args, os.Stdin, os.Stdout, os.Stderr); ok {
		syscall.Exit(code)
	}
	if len(os.Args) == 4 && os.Args[1] == creatorArg {
		os.Exit(create(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// newBackend returns a back end whose state is below dir.
func newBackend(t testing.TB, dir string, level sandbox.Level) *keeper.Backend {
	t.Helper()
	raw, err := json.Marshal(settings{filepath.Join(dir, "embedded"), level})
	if err != nil {
		t.Fatal(err)
	}
	return keeper.New(keeper.Options{StateDir: filepath.Join(dir, "keepers"), Settings: raw, Open: openEmbedded})
}

// contract runs the suite over the sockets of keepers.
func contract(t *testing.T, level sandbox.Level) {
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, dir, level)
	o := sandboxtest.Options{Level: level, Executable: exe, Leftovers: func(t *testing.T, mark string) []string { return leftovers(t, dir, mark) }}
	c, err := b.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if level == sandbox.Full && strings.Contains(c.Notes["control groups"], "memory") {
		o.Limited = append(o.Limited, "memory")
	}
	if level == sandbox.Full && (strings.Contains(c.Notes["control groups"], "pids") || c.Notes["user namespace"] == "true") {
		o.Limited = append(o.Limited, "pids")
	}
	sandboxtest.Run(t, func(*testing.T) sandbox.Backend { return b }, o)
	if left := leftovers(t, dir, ""); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestContract runs it at the highest level of this machine, TestContractNone, which
// asks the same of the socket, in the long form alone.
func TestContract(t *testing.T) {
	c, err := newBackend(t, t.TempDir(), sandbox.Full).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	contract(t, c.Level)
}

func TestContractNone(t *testing.T) {
	if os.Getenv("ULTRAFAST_LONG") == "" {
		t.Skip("ULTRAFAST_LONG=1 runs it")
	}
	contract(t, sandbox.None)
}

// leftovers lists the directories of environments below dir, and control groups and
// mounts, that have mark in their name.
func leftovers(t *testing.T, dir, mark string) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{filepath.Join(dir, "keepers", "*"), filepath.Join(dir, "embedded", "environments", "*")} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if strings.Contains(f, mark) {
				list = append(list, f)
			}
		}
	}
	if mark == "" {
		return list
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), mark) {
			list = append(list, path)
		}
		return nil // another's group may go while it is looked at
	})
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, mark) {
			list = append(list, "mount "+strings.TrimSpace(line))
		}
	}
	return list
}
