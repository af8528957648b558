package embedded_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// machineArg runs tests of this binary on a machine that allows less: as a plain
// user, without a whole /proc, without user namespaces.
const machineArg = "embedded-machine"

// plainUser has no rights on any machine.
const plainUser = 54321

// becomeMachine turns this process into one on the machine called name, which
// runs the tests called run.
func becomeMachine(name, run string) error {
	runtime.LockOSThread()
	if name == "masked-proc" {
		// As engines do it: something lies over a part of /proc.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", "/proc/irq", "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	if dir := os.Getenv("EMBEDDED_GROUP"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o600); err != nil {
			return err
		}
	}
	if name == "own-groups" {
		return becomeContainer(run)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(plainUser); err != nil {
		return err
	}
	if err := syscall.Setuid(plainUser); err != nil {
		return err
	}
	if name == "no-user-namespaces" {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		if err := embedded.FilterCalls(); err != nil {
			return err
		}
	}
	return syscall.Exec("/proc/self/exe", []string{"tests", "-test.run", run, "-test.v"}, append(os.Environ(), "EMBEDDED_MACHINE="+name))
}

// becomeContainer runs tests as a container does that engines give a namespace of
// control groups, and the right to write to them: its own group is the root.
func becomeContainer(run string) error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, ""); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{"tests", "-test.run", run, "-test.v"}, append(os.Environ(), "EMBEDDED_MACHINE=own-groups"))
}

// onMachine runs tests on a machine and returns what they print.
func onMachine(t *testing.T, name, run string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can take the part of another user")
	}
	// The user must be able to read the binary and to write temporary files.
	dir, err := os.MkdirTemp("/tmp", "embedded-machine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	temporary, exe := filepath.Join(dir, "tmp"), filepath.Join(dir, "tests")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Mkdir(temporary, 0o700), os.Chown(temporary, plainUser, plainUser), os.WriteFile(exe, b, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), exe, machineArg, name, run)
	cmd.Dir = temporary
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary, "HOME="+temporary)
	if name == "masked-proc" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return string(out)
}

func TestContractPlainUser(t *testing.T) {
	out := onMachine(t, "plain-user", "^TestContract(Full|Reduced|None)$")
	if !strings.Contains(out, "user namespace:true") || !strings.Contains(out, "--- PASS: TestContractFull") {
		t.Errorf("a plain user does not reach level full here:\n%s", out)
	}
}

// TestDelegated uses a group of version 2 as a service manager delegates it to a user.
func TestDelegated(t *testing.T) {
	dir := embedded.DelegatedGroup(t, plainUser)
	t.Setenv("EMBEDDED_GROUP", dir)
	out := onMachine(t, "delegated", "^TestDelegatedInside$")
	if !strings.Contains(out, "--- PASS: TestDelegatedInside") {
		t.Error(out)
	}
}

// TestDelegatedInside runs in that group, as that user.
func TestDelegatedInside(t *testing.T) {
	if os.Getenv("EMBEDDED_MACHINE") != "delegated" {
		t.Skip("started by TestDelegated")
	}
	dir := os.Getenv("EMBEDDED_GROUP")
	for range 2 { // a second run finds what the first one left
		if err := embedded.HandDown(dir); err != nil {
			t.Fatal(err)
		}
	}
	down, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil || len(bytes.TrimSpace(down)) == 0 {
		t.Errorf("controllers %q, %v", down, err)
	}
	// This process moved, and where it came from groups can be made.
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || !strings.Contains(string(own), "0::/"+filepath.Base(dir)+"/ultrafast-members\n") {
		t.Errorf("%s, %v", own, err)
	}
	child := filepath.Join(dir, "ultrafast-child")
	if err := os.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	has, err := os.ReadFile(filepath.Join(child, "cgroup.controllers"))
	if err != nil || string(has) != string(down) {
		t.Errorf("a new group has %q, %v, want %q", has, err, down)
	}
	if err := os.Remove(child); err != nil {
		t.Error(err)
	}
}

// TestReducedCapabilities has what root keeps where no namespace holds it.
func TestReducedCapabilities(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root has capabilities")
	}
	level := sandbox.Reduced
	e, err := embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &level}).
		Create(t.Context(), sandbox.EnvironmentSpec{Name: "capabilities", MinIsolation: level})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	var out bytes.Buffer
	c, err := e.Start(t.Context(), sandbox.ContainerSpec{Name: "c", Argv: []string{"grep", "^Cap", "/proc/self/status"}, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(t.Context()); err != nil || !st.OK() {
		t.Fatal(st, err)
	}
	for line := range strings.Lines(out.String()) {
		var name string
		var set uint64
		if _, err := fmt.Sscanf(line, "%s %x", &name, &set); err != nil {
			t.Fatal(line, err)
		}
		if extra := set &^ 0x4db; extra != 0 {
			t.Errorf("%s %x is left", name, extra)
		}
		if kept := name == "CapEff:" || name == "CapPrm:"; kept && set == 0 {
			t.Errorf("%s nothing is left", name)
		}
	}
}

// TestOwnGroups has the part of a container that may make groups.
func TestOwnGroups(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can take the part of a container")
	}
	t.Setenv("EMBEDDED_GROUP", embedded.DelegatedGroup(t, 0))
	out := onMachine(t, "own-groups", "^TestOwnGroupsInside$")
	if !strings.Contains(out, "--- PASS: TestOwnGroupsInside") {
		t.Error(out)
	}
}

// TestOwnGroupsInside runs in that container: its processes move below, and groups
// can be made beside them.
func TestOwnGroupsInside(t *testing.T) {
	if os.Getenv("EMBEDDED_MACHINE") != "own-groups" {
		t.Skip("started by TestOwnGroups")
	}
	for range 2 {
		if err := embedded.HandDown("/sys/fs/cgroup"); err != nil {
			t.Fatal(err)
		}
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || !strings.Contains(string(own), "0::/ultrafast-members\n") {
		t.Errorf("%s, %v", own, err)
	}
	down, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control")
	if err != nil || len(bytes.TrimSpace(down)) == 0 {
		t.Errorf("controllers %q, %v", down, err)
	}
	if !bytes.Contains(down, []byte("memory")) {
		return // version 1 has it
	}
	b := embedded.New(embedded.Options{StateDir: t.TempDir()})
	c, err := b.Probe(t.Context())
	if err != nil || !strings.Contains(c.Notes["control groups"], "v2 memory") {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestContractMaskedProc(t *testing.T) {
	out := onMachine(t, "masked-proc", "^TestContractFull$")
	if !strings.Contains(out, "--- PASS: TestContractFull") {
		t.Errorf("level full is not reached where the kernel refuses a new /proc:\n%s", out)
	}
}

func TestRefusal(t *testing.T) {
	out := onMachine(t, "no-user-namespaces", "^TestRefusalInside$")
	if !strings.Contains(out, "--- PASS: TestRefusalInside") {
		t.Error(out)
	}
}

// TestRefusalInside runs where user namespaces are refused.
func TestRefusalInside(t *testing.T) {
	if os.Getenv("EMBEDDED_MACHINE") != "no-user-namespaces" {
		t.Skip("started by TestRefusal")
	}
	b := embedded.New(embedded.Options{StateDir: t.TempDir()})
	c, err := b.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.Level != sandbox.Reduced || len(c.Refused) != 1 {
		t.Fatalf("%s, %q", c.Level, c.Refused)
	}
	for _, part := range []string{"start a process in new namespaces", "operation not permitted", "in a user namespace", "seccomp profile"} {
		if !strings.Contains(c.Refused[0], part) {
			t.Errorf("%q does not say %q", c.Refused[0], part)
		}
	}
	_, err = b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "strict", MinIsolation: sandbox.Full})
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "--min-isolation reduced") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	e, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "lenient", MinIsolation: sandbox.Reduced})
	if err != nil {
		t.Fatal(err)
	}
	if eff := e.Effective(); eff.Level != sandbox.Reduced || len(eff.Why) == 0 {
		t.Errorf("%+v", eff)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMaxLevel(t *testing.T) {
	t.Parallel()
	for _, level := range []sandbox.Level{sandbox.None, sandbox.Reduced} {
		b := embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &level})
		_, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "strict", MinIsolation: sandbox.Full})
		if fault.KindOf(err) != fault.Unavailable || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", level, err)
		}
		if list, err := b.List(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%v, %v", list, err)
		}
	}
}

// creator starts a process that creates an environment below dir and holds it.
func creator(t *testing.T, dir string, level sandbox.Level, mark string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, creatorArg, dir, level.String(), mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := io.ReadAtLeast(out, make([]byte, 1), 1); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestGC leaves a killed creator's environment to the collector.
func TestGC(t *testing.T) {
	dir, mark := t.TempDir(), fmt.Sprint("gc", os.Getpid())
	cmd := creator(t, dir, sandbox.Full, mark)
	b := embedded.New(embedded.Options{StateDir: dir})
	if removed, err := b.GC(t.Context()); err != nil || len(removed) != 0 {
		t.Errorf("collected from a living creator: %q, %v", removed, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if removed, err := b.GC(t.Context()); err != nil || len(removed) != 1 || removed[0] != "killed-"+mark {
		t.Errorf("collected %q, %v", removed, err)
	}
	if left := leftovers(dir)(t, mark); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestCreateAfterKill takes the name of an environment whose creator was killed.
func TestCreateAfterKill(t *testing.T) {
	dir, mark := t.TempDir(), fmt.Sprint("again", os.Getpid())
	cmd := creator(t, dir, sandbox.Full, mark)
	b := embedded.New(embedded.Options{StateDir: dir})
	spec := sandbox.EnvironmentSpec{Name: "killed-" + mark}
	if _, err := b.Create(t.Context(), spec); fault.KindOf(err) != fault.Finding {
		t.Errorf("the creator lives: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	e, err := b.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left := leftovers(dir)(t, mark); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestDeleteOfAnother deletes the environment of a living process.
func TestDeleteOfAnother(t *testing.T) {
	for _, level := range []sandbox.Level{sandbox.Full, sandbox.Reduced, sandbox.None} {
		t.Run(level.String(), func(t *testing.T) {
			dir, mark := t.TempDir(), fmt.Sprintf("other%d%s", os.Getpid(), level)
			cmd := creator(t, dir, level, mark)
			if len(marked(t, mark, cmd.Process.Pid)) == 0 {
				t.Fatal("nothing runs")
			}
			b := embedded.New(embedded.Options{StateDir: dir})
			if err := b.Delete(t.Context(), "killed-"+mark); err != nil {
				t.Error(err)
			}
			if left := marked(t, mark, cmd.Process.Pid); len(left) > 0 {
				t.Errorf("runs on: %q", left)
			}
			// Its container ended, and so does what waited for it.
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if left := leftovers(dir)(t, mark); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// marked lists the processes with mark in their arguments, but for one.
func marked(t *testing.T, mark string, creator int) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f) // one that has ended has none
		if bytes.Contains(b, []byte(mark)) && f != fmt.Sprintf("/proc/%d/cmdline", creator) {
			list = append(list, string(b))
		}
	}
	return list
}

func TestHosts(t *testing.T) {
	t.Parallel()
	b := embedded.New(embedded.Options{StateDir: t.TempDir()})
	for host, address := range map[string]string{"a\n1.2.3.4 b": "127.0.0.1", "": "127.0.0.1", "a": "b", "b": "127.0.0.1\n::1 c"} {
		_, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "hosts", Hosts: map[string]string{host: address}})
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%q %q: %v", host, address, err)
		}
	}
}

// TestRootLinks runs a command in a root with links that lead out of it, where
// what is mounted has to go through them.
func TestRootLinks(t *testing.T) {
	e := newEnvironment(t, embedded.Options{StateDir: t.TempDir()}, "links")
	if e.Effective().Level < sandbox.Full {
		t.Skip("no private root")
	}
	// Not below /tmp, which is another one inside.
	outside, err := os.MkdirTemp("/var/tmp", "embedded-outside-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(outside) })
	root := systemRoot(t)
	up := strings.Repeat("../", 20)
	for name, to := range map[string]string{"escape": up + outside, "absolute": outside, "inside": "/escape"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	// Inside, the links lead to the same path below the root.
	if err := os.MkdirAll(filepath.Join(root, outside), 0o755); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(source, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	start := func() (string, error) {
		var stdout bytes.Buffer
		c, err := e.Start(t.Context(), sandbox.ContainerSpec{
			Name: "rooted", Root: root, Stdout: &stdout,
			Argv: []string{"sh", "-c", "cat /absolute/deep/file /escape/file; ls -A " + outside},
			Mounts: []sandbox.Mount{
				{Kind: sandbox.ReadOnly, Source: "/usr", Target: "/usr"},
				{Kind: sandbox.ReadOnly, Source: source, Target: "/absolute/deep/file"},
				{Kind: sandbox.ReadOnly, Source: source, Target: "/inside/file"},
				{Kind: sandbox.Scratch, Target: "/escape/scratch"},
			},
		})
		if err != nil {
			return "", err
		}
		_, err = c.Wait(t.Context())
		return stdout.String(), err
	}
	out, err := start()
	if err == nil && out != "contentcontentdeep\nfile\nscratch\n" {
		t.Errorf("inside: %q", out)
	}
	// A place whose links lead nowhere makes the root unusable, and that is all.
	dangling := filepath.Join(root, "etc", "hosts")
	if err2 := errors.Join(os.Mkdir(filepath.Dir(dangling), 0o755), os.Symlink(up+outside+"/no/hosts", dangling)); err2 != nil {
		t.Fatal(err2)
	}
	if _, err2 := start(); err == nil && err2 == nil {
		t.Error("a mount on a link that leads nowhere")
	}
	if err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("a link led out of the root: %v, %v", entries, err)
	}
}

// systemRoot returns a root whose programs are those of a /usr to be mounted.
func systemRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, l := range []string{"bin", "lib", "lib64"} {
		to, err := os.Readlink("/" + l)
		if err != nil {
			t.Skipf("/%s is not a link into /usr here", l)
		}
		if err := os.Symlink(to, filepath.Join(root, l)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestRootMissingPlaces runs a command in a root that has no place for anything.
func TestRootMissingPlaces(t *testing.T) {
	e := newEnvironment(t, embedded.Options{StateDir: t.TempDir()}, "places")
	if e.Effective().Level < sandbox.Full {
		t.Skip("no private root")
	}
	root := systemRoot(t)
	if err := os.Chmod(root, 0o700); err != nil {
		t.Fatal(err)
	}
	run := func() {
		t.Helper()
		before, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		var stdout, stderr bytes.Buffer
		c, err := e.Start(t.Context(), sandbox.ContainerSpec{
			Name: "rooted", Root: root, Stdout: &stdout, Stderr: &stderr,
			Argv:   []string{"sh", "-c", "grep -c localhost /etc/hosts; echo x >/tmp/x; cat /tmp/x; test ! -e /etc/passwd; touch /y; touch /etc/y"},
			Mounts: []sandbox.Mount{{Kind: sandbox.ReadOnly, Source: "/usr", Target: "/usr"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := c.Wait(t.Context()); err != nil || st.Code != 1 || stdout.String() != "2\nx\n" || strings.Count(stderr.String(), "Read-only") != 2 {
			t.Errorf("%v, %v: %s%s", st, err, stdout.String(), stderr.String())
		}
		if after, err := os.ReadDir(root); err != nil || len(after) != len(before) {
			t.Errorf("the root was written: %v, %v", after, err)
		}
	}
	run()
	for _, d := range []string{"proc", "dev", "etc", "tmp", "usr"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "hosts"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	run()
}
