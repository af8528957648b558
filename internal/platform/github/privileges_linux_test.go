package github

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// The process of a test that drops its privileges is the test binary again.
const childVariable = "PRIVILEGES_TEST_CHILD"

func TestMain(m *testing.M) {
	if how := os.Getenv(childVariable); how != "" {
		os.Exit(child(how))
	}
	os.Exit(m.Run())
}

// child drops its privileges, says who it is, and writes a file into the workspace.
func child(how string) int {
	workspace := os.Getenv("GITHUB_WORKSPACE")
	err := becomeOwner(workspace)
	if how == "drop" {
		err = Drop(os.LookupEnv)
	}
	if err != nil {
		fmt.Println(fault.KindOf(err), err, fault.HintOf(err))
		return fault.KindOf(err).ExitCode()
	}
	groups, err := os.Getgroups()
	fmt.Println(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), groups, err)
	status, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff:") || strings.HasPrefix(line, "CapPrm:") {
			fmt.Print(line)
		}
	}
	fmt.Println(err, os.WriteFile(filepath.Join(workspace, "file"), []byte("x"), 0o644), os.WriteFile(filepath.Join(filepath.Dir(workspace), "forbidden"), nil, 0o644) != nil)
	return 0
}

// newWorkspace returns a directory of that owner which others may reach.
func newWorkspace(t *testing.T, uid, gid int) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "workspace")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	dir := filepath.Join(parent, "w")
	for _, step := range []func() error{
		func() error { return os.Chmod(parent, 0o755) },
		func() error { return os.Mkdir(dir, 0o755) },
		func() error { return os.Chown(dir, uid, gid) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func runChild(t *testing.T, how, workspace string, attr *syscall.SysProcAttr) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVariable+"="+how, "GITHUB_WORKSPACE="+workspace)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: an ordinary user has nothing to drop")
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	needRoot(t)
	ways := []string{"owner"}
	if inContainer("") {
		ways = append(ways, "drop") // this machine is a container, as far as Drop can tell
	}
	for _, how := range ways {
		dir := newWorkspace(t, 1001, 121)
		out, err := runChild(t, how, dir, nil)
		if err != nil {
			t.Fatalf("%s: %v: %s", how, err, out)
		}
		if want := "1001 1001 121 121 [121] <nil>\n"; !strings.HasPrefix(out, want) {
			t.Errorf("%s: got %swant %s", how, out, want)
		}
		if strings.Count(out, "0000000000000000") != 2 {
			t.Errorf("%s: capabilities are left: %s", how, out)
		}
		if !strings.HasSuffix(out, "<nil> <nil> true\n") {
			t.Errorf("%s: may write what it must not, or not what it must: %s", how, out)
		}
		info, err := os.Stat(filepath.Join(dir, "file"))
		if err != nil {
			t.Fatal(err)
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 1001 || owner.Gid != 121 {
			t.Errorf("%s: the file belongs to %d:%d", how, owner.Uid, owner.Gid)
		}
	}
}

func TestDropNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := newWorkspace(t, 0, 0)
	out, err := runChild(t, "owner", dir, nil)
	if err != nil || !strings.HasPrefix(out, "0 0 0 0 ") {
		t.Errorf("a workspace of root's: %v %s", err, out)
	}
	if err := Drop(func(string) (string, bool) { return "", false }); err != nil || os.Getuid() != 0 {
		t.Errorf("without a workspace: %v", err)
	}
	out, err = runChild(t, "owner", filepath.Join(dir, "missing"), nil)
	if exit := new(exec.ExitError); err == nil || !asExit(err, exit) || exit.ExitCode() != 3 {
		t.Errorf("a workspace that is not there: %v %s", err, out)
	}
}

// TestDropRefused has a root that may not change users, in a user namespace with no
// other: it must not stay root without a word.
func TestDropRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	out, err := runChild(t, "owner", newWorkspace(t, 1001, 121), &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: one, GidMappings: one,
	})
	exit := new(exec.ExitError)
	if err != nil && !asExit(err, exit) {
		t.Skipf("no user namespace here: %v", err)
	}
	if exit.ProcessState == nil || exit.ExitCode() != 3 || !strings.Contains(out, "become the owner of the workspace") || !strings.Contains(out, "SETUID") {
		t.Errorf("%v %s", err, out)
	}
}

func asExit(err error, into *exec.ExitError) bool {
	exit, ok := err.(*exec.ExitError)
	if ok {
		*into = *exit
	}
	return ok
}
