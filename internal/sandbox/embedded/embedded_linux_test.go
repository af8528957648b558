package embedded_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
		syscall.Exit(code)
	}
	if minutes, err := strconv.Atoi(os.Getenv("ULTRAFAST_PATIENCE")); err == nil && minutes > 0 {
		sandboxtest.Patience = time.Duration(minutes) * time.Minute
	}
	if len(os.Args) == 4 && os.Args[1] == machineArg {
		fmt.Fprintln(os.Stderr, becomeMachine(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	if len(os.Args) == 5 && os.Args[1] == creatorArg {
		if err := create(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 5 && os.Args[1] == churnArg {
		if err := churn(os.Args[2], os.Args[3], os.Args[4]); err != nil {
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
	return sandboxtest.Hold(context.Background(), b, "killed-"+mark, exe, mark, os.Stdout)
}

// contract runs the suite at one level.
func contract(t *testing.T, level sandbox.Level) {
	state := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	images := sandboxtest.NewImages(t, exe)
	t.Cleanup(func() {
		if n := images.Used.Load(); n != 0 {
			t.Errorf("%d images were not released", n)
		}
	})
	o := sandboxtest.Options{Level: level, Executable: exe, Image: images.Ref, Measured: []string{"cpu", "memory", "pids"}}
	if onDisk(t, state) {
		o.Measured = append(o.Measured, "io")
	}
	if level == sandbox.Full {
		o.Limited = limited(t)
	}
	o.Leftovers = leftovers(state)
	o.Creator = func(t *testing.T, mark string) (*exec.Cmd, sandbox.Backend) {
		dir := filepath.Join(state, "killed")
		return exec.Command(exe, creatorArg, dir, level.String(), mark), embedded.New(embedded.Options{StateDir: dir, MaxLevel: &level})
	}
	sandboxtest.Run(t, func(t *testing.T) sandbox.Backend {
		return embedded.New(embedded.Options{StateDir: state, MaxLevel: &level, Images: images})
	}, o)
}

// onDisk reports whether what is written to dir passes a block device.
func onDisk(t *testing.T, dir string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Type != unix.TMPFS_MAGIC && st.Type != unix.OVERLAYFS_SUPER_MAGIC
}

// limited returns the limits that can be enforced on a whole tree here: by control
// groups, or by the processes of a user namespace.
func limited(t *testing.T) []string {
	c, err := embedded.New(embedded.Options{StateDir: t.TempDir()}).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, %q, %v", c.Level, c.Refused, c.Notes)
	var list []string
	grouped := func(controller string) bool {
		for _, note := range strings.Split(c.Notes["control groups"], "; ") {
			if version, names, _ := strings.Cut(note, " "); version == "v1" || version == "v2" {
				if slices.Contains(strings.Split(names, ","), controller) {
					return true
				}
			}
		}
		return false
	}
	if grouped("memory") {
		list = append(list, "memory")
	}
	if grouped("pids") || c.Notes["user namespace"] == "true" && os.Geteuid() != 0 {
		list = append(list, "pids")
	}
	return list
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

// leftovers lists what environments below state with mark in their name could
// leave: their directories, their control groups, their mounts.
func leftovers(state string) func(*testing.T, string) []string {
	return func(t *testing.T, mark string) []string {
		t.Helper()
		var list []string
		for _, root := range []string{state, "/sys/fs/cgroup"} {
			err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() && strings.Contains(d.Name(), mark) {
					list = append(list, path)
				}
				return nil // another's group may go while it is looked at
			})
			if err != nil {
				t.Fatal(err)
			}
		}
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
}

// BenchmarkExec is one container from the start to the end of /usr/bin/true.
func BenchmarkExec(b *testing.B) {
	e := newEnvironment(b, embedded.Options{StateDir: b.TempDir()}, "bench")
	if e.Effective().Level < sandbox.Full {
		b.Skipf("level full cannot be reached here: %q", e.Effective().Why)
	}
	for b.Loop() {
		execTrue(b, e)
	}
}

// BenchmarkEnvironment is an environment, one container in it, and its end.
func BenchmarkEnvironment(b *testing.B) {
	backend := embedded.New(embedded.Options{StateDir: b.TempDir()})
	if _, err := backend.Probe(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e, err := backend.Create(b.Context(), sandbox.EnvironmentSpec{Name: "bench"})
		if err != nil {
			b.Fatal(err)
		}
		execTrue(b, e)
		if err := e.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func newEnvironment(tb testing.TB, o embedded.Options, name string) sandbox.Environment {
	tb.Helper()
	e, err := embedded.New(o).Create(tb.Context(), sandbox.EnvironmentSpec{Name: name})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return e
}

func execTrue(tb testing.TB, e sandbox.Environment) {
	tb.Helper()
	c, err := e.Start(tb.Context(), sandbox.ContainerSpec{Name: "true", Argv: []string{"/usr/bin/true"}})
	if err != nil {
		tb.Fatal(err)
	}
	if st, err := c.Wait(tb.Context()); err != nil || !st.OK() {
		tb.Fatal(st, err)
	}
}
