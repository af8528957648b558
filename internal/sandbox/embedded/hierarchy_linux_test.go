package embedded

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// HandDown tries what a group that is ours is used for, with all its controllers.
func HandDown(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	top := hierarchy{Version: 2, Dir: dir, Mount: dir}
	if !delegated(dir) && !top.top() {
		return fmt.Errorf("%s is not seen to be delegated", dir)
	}
	return handDown(dir, strings.Fields(string(b)))
}

// recorded lays out a tree: the content of cgroup.subtree_control by group.
func recorded(t *testing.T, tree map[string]string) string {
	t.Helper()
	mount := t.TempDir()
	for group, down := range tree {
		dir := filepath.Join(mount, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string]string{"cgroup.subtree_control": down, "cgroup.controllers": "cpuset cpu io memory pids\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return mount
}

// TestParents looks for places for groups in trees as they are found in the field.
func TestParents(t *testing.T) {
	t.Parallel()
	const all = "cpuset cpu io memory pids\n"
	user := map[string]string{
		".": all, "user.slice": "cpu memory pids\n", "user.slice/user-1000.slice": "cpu memory pids\n",
		"user.slice/user-1000.slice/user@1000.service":                     "cpu memory pids\n",
		"user.slice/user-1000.slice/user@1000.service/app.slice":           "memory pids\n",
		"user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope": "",
		"user.slice/user-1000.slice/session-3.scope":                       "",
	}
	for name, c := range map[string]struct {
		tree        map[string]string
		own         string
		dir         string // where groups go, or
		why         string // what is said, with no place
		controllers string
	}{
		"a terminal of a desktop":        {user, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte.scope\n", "user.slice/user-1000.slice/user@1000.service/app.slice", "", "memory pids"},
		"a login by ssh":                 {user, "0::/user.slice/user-1000.slice/session-3.scope\n", "user.slice/user-1000.slice", "", "memory pids cpu"},
		"a service of the system":        {map[string]string{".": all, "system.slice": all, "system.slice/runner.service": ""}, "0::/system.slice/runner.service\n", "system.slice", "", "memory pids cpu io"},
		"a group that hands down itself": {map[string]string{".": all, "ci": "memory\n"}, "0::/ci\n", "ci", "", "memory"},
		"only measuring":                 {map[string]string{".": "io\n", "ci": ""}, "0::/ci\n", "", "systemd-run --user --scope", ""},
		"a container":                    {map[string]string{".": ""}, "0::/\n", "", "systemd-run --user --scope", ""},
		"a group that is gone":           {map[string]string{".": ""}, "0::/x/y/z\n", "", "systemd-run --user --scope", ""},
	} {
		mount := recorded(t, c.tree)
		mountinfo := "30 25 0:26 / " + mount + " rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
		got, why := parentsIn(hierarchies(mountinfo, c.own))
		if c.dir == "" {
			if len(got) != 0 || !strings.Contains(why, c.why) {
				t.Errorf("%s: %+v, %q", name, got, why)
			}
			continue
		}
		want := hierarchy{Version: 2, Controllers: strings.Fields(c.controllers), Dir: filepath.Join(mount, c.dir), Mount: mount}
		if len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) || why != "" {
			t.Errorf("%s: %+v, want %+v; %q", name, got, want, why)
		}
	}
	if got, why := parentsIn(nil); len(got) != 0 || why == "" {
		t.Errorf("nothing is mounted: %v, %q", got, why)
	}
	// Beside version 1, a version 2 without controllers is of no use and no concern.
	v1 := hierarchy{Version: 1, Controllers: []string{ctlMemory}, Dir: "/m/a", Mount: "/m"}
	bare := recorded(t, map[string]string{".": "hugetlb\n"})
	if got, why := parentsIn([]hierarchy{v1, {Version: 2, Dir: bare, Mount: bare}}); len(got) != 1 || got[0].Version != 1 || why != "" {
		t.Errorf("hybrid: %v, %q", got, why)
	}
}

func TestParseIO(t *testing.T) {
	t.Parallel()
	read, written := parseIO("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:16 rbytes=1 wbytes=2\n7:0 \n")
	if read != 4097 || written != 8194 {
		t.Errorf("%d, %d", read, written)
	}
	if read, written := parseIO(""); read != 0 || written != 0 {
		t.Errorf("%d, %d of nothing", read, written)
	}
}

// unified is a tree of version 2 of this machine, and a controller that it has.
func unified(t *testing.T) (h hierarchy, controller string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make groups here")
	}
	mountinfo, own, err := processGroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hierarchies(mountinfo, own) {
		b, _ := os.ReadFile(filepath.Join(h.Mount, "cgroup.controllers"))
		if names := strings.Fields(string(b)); h.Version == 2 && len(names) > 0 {
			return h, names[0]
		}
	}
	t.Skip("no version 2 with a controller is mounted here")
	return h, ""
}

// delegatedGroup makes a group of version 2 that belongs to a user, with a controller.
func delegatedGroup(t *testing.T, uid int) string {
	t.Helper()
	h, controller := unified(t)
	root := h.Mount
	b, err := os.ReadFile(filepath.Join(root, "cgroup.subtree_control"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(string(b)), controller) {
		if err := writeGroup(root, "cgroup.subtree_control", "+"+controller); err != nil {
			t.Skip(err)
		}
		t.Cleanup(func() { _ = writeGroup(root, "cgroup.subtree_control", "-"+controller) })
	}
	dir := filepath.Join(root, fmt.Sprintf("%sdelegated-%d-%d", groupPrefix, os.Getpid(), uid))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := removeGroups(t.Context(), []string{dir}); err != nil {
			t.Error(err)
		}
	})
	for _, file := range []string{".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		if err := os.Chown(filepath.Join(dir, file), uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// DelegatedGroup is for tests that take the part of that user.
var DelegatedGroup = delegatedGroup

// TestGroupVersion2ForReal has containers in groups of version 2, with whatever
// controller this machine has there.
func TestGroupVersion2ForReal(t *testing.T) {
	h, controller := unified(t)
	dir := delegatedGroup(t, 0)
	h.Controllers, h.Dir = []string{controller}, dir
	b := New(Options{StateDir: t.TempDir()})
	found, err := b.probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found.variant.Level != sandbox.Full {
		t.Skip(found.refused)
	}
	e, err := b.create(t.Context(), sandbox.EnvironmentSpec{Name: "version2"}, &findings{variant: found.variant, parents: []hierarchy{h}})
	if err == nil {
		// Now dir hands a controller down, and so does the environment's group.
		t.Error("a group that hands nothing down is used")
		_ = e.Close(t.Context())
	}
	if err := writeGroup(dir, "cgroup.subtree_control", "+"+controller); err != nil {
		t.Fatal(err)
	}
	if e, err = b.create(t.Context(), sandbox.EnvironmentSpec{Name: "version2"}, &findings{variant: found.variant, parents: []hierarchy{h}}); err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var out bytes.Buffer
	spec := sandbox.ContainerSpec{Name: "c", Argv: []string{"sh", "-c", "cat /proc/self/cgroup; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; cat"}, Stdin: r, Stdout: &out}
	c, err := e.Start(t.Context(), spec)
	r.Close()
	if err != nil {
		t.Fatal(err)
	}
	var beside bytes.Buffer
	if st, err := c.Exec(t.Context(), sandbox.ExecSpec{Argv: []string{"cat", "/proc/self/cgroup"}, Stdout: &beside}); err != nil || !st.OK() {
		t.Fatal(st, err)
	}
	// A namespace makes its own group the root.
	if !strings.Contains(beside.String(), "0::/\n") {
		t.Errorf("a process beside is in %q", beside.String())
	}
	group := e.group.child("c-c").parts[0]
	if n := len(strings.Fields(group.read("cgroup.procs"))); n < 1 {
		t.Errorf("%d processes in %s", n, group.path)
	}
	if u, err := c.Usage(t.Context()); err != nil || u.CPU <= 0 || u.CPU > time.Minute || u.Memory <= 0 || u.PIDs < 1 {
		t.Errorf("%+v, %v", u, err)
	}
	w.Close()
	if st, err := c.Wait(t.Context()); err != nil || !st.OK() || st.CPU < time.Millisecond {
		t.Errorf("%+v, %v", st, err)
	}
	if !strings.Contains(out.String(), "0::/\n") {
		t.Errorf("the container is in %q", out.String())
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(dir + "/*/"); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestAddresses gives addresses back and takes them again.
func TestAddresses(t *testing.T) {
	t.Parallel()
	e := &environment{
		found: &findings{variant: variant{Level: sandbox.Full}}, containers: map[string]*container{},
		spec: sandbox.EnvironmentSpec{Name: "e", Hosts: map[string]string{"taken": "127.0.1.2", "b": "127.0.0.1"}},
	}
	seen := map[string]bool{}
	for i := range lastAddress - 1 {
		c := &container{name: fmt.Sprint("c", i)}
		if err := e.register(c); err != nil {
			t.Fatal(err)
		}
		if seen[c.address] || c.address == "127.0.1.2" || c.address == "127.0.1.0" || c.address == "127.0.1.255" {
			t.Fatalf("%s twice, or never", c.address)
		}
		seen[c.address] = true
	}
	err := e.register(&container{name: "one-more"})
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "no address left") {
		t.Errorf("%v", err)
	}
	free := e.containers["c7"].address
	delete(e.containers, "c7")
	c := &container{name: "b", aliases: []string{"c3", "taken", "x", "localhost"}}
	if err := e.register(c); err != nil || c.address != free {
		t.Errorf("%s, %v; want %s, which is free again", c.address, err, free)
	}
	delete(e.containers, "c9")
	names := e.names()
	for name, want := range map[string]string{"b": "127.0.0.1", "taken": "127.0.1.2", "x": c.address, "c3": e.containers["c3"].address, "c9": "", "localhost": localhost} {
		if names[name] != want {
			t.Errorf("%s is %q, want %q", name, names[name], want)
		}
	}
}

// TestFamily finds a process by its parents, whatever numbers /proc has for it.
func TestFamily(t *testing.T) {
	t.Parallel()
	if n := innerNumber(os.Getpid()); n != os.Getpid() {
		t.Errorf("this process is %d to itself, not %d", n, os.Getpid())
	}
	if n := innerNumber(-1); n != 0 {
		t.Errorf("nobody is %d", n)
	}
	if peak := peakOf(os.Getpid()); peak < 1<<20 {
		t.Errorf("this process never had more than %d bytes", peak)
	}
	me, err := readStat(os.Getpid())
	var most time.Duration // what the kernel says a moment later, of this process and the children that ended
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if err := unix.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		most += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	if err != nil || me.threads < 1 || me.memory <= 0 || me.cpu > most+time.Second {
		t.Errorf("%+v, %v; it used %v", me, err, most)
	}
}
