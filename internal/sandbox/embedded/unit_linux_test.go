package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// FilterCalls loads the filter of payloads on the calling thread.
var FilterCalls = filterCalls

func TestParseStat(t *testing.T) {
	t.Parallel()
	line := "42 (a) b (c) S 7 41 40 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 6 0 12345 1000000 3"
	st, err := parseStat(line)
	if want := (processStat{7, 40, 100 * time.Millisecond, 6, 3 * int64(os.Getpagesize()), 12345}); err != nil || st != want {
		t.Errorf("%+v, %v", st, err)
	}
	for _, bad := range []string{"", "42", "42 (a", "42 (a) S", "42 (a) S x" + strings.Repeat(" 1", 30), "42 (a) S 7" + strings.Repeat(" 1", 18)} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	me, err := processOf(os.Getpid())
	if err != nil || me.Start == 0 {
		t.Errorf("%+v, %v", me, err)
	}
	if !slices.Contains(descendants(os.Getppid()), os.Getpid()) {
		t.Error("this process is not below its parent")
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("42 (a) b (c) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1")
	f.Add(")")
	f.Fuzz(func(_ *testing.T, line string) { _, _ = parseStat(line) })
}

func TestHierarchies(t *testing.T) {
	t.Parallel()
	const (
		hybridMounts = "30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n" +
			"31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
			"32 25 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n" +
			"33 25 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		hybridOwn = "9:name=systemd:/s\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/u\n"
	)
	cases := []struct {
		name, mounts, own string
		want              []hierarchy
	}{
		{"version 1 and 2", hybridMounts, hybridOwn, []hierarchy{
			{Version: 1, Controllers: []string{"memory"}, Dir: "/sys/fs/cgroup/memory/a/b", Mount: "/sys/fs/cgroup/memory"},
			{Version: 1, Controllers: []string{"cpu", "cpuacct"}, Dir: "/sys/fs/cgroup/cpu,cpuacct", Mount: "/sys/fs/cgroup/cpu,cpuacct"},
			{Version: 2, Dir: "/sys/fs/cgroup/unified/u", Mount: "/sys/fs/cgroup/unified"},
		}},
		{"version 2", "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n", "0::/user.slice/x.scope\n", []hierarchy{
			{Version: 2, Dir: "/sys/fs/cgroup/user.slice/x.scope", Mount: "/sys/fs/cgroup"},
		}},
		{"in a container", "30 25 0:26 /docker/1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "4:memory:/docker/1/x\n", []hierarchy{
			{Version: 1, Controllers: []string{"memory"}, Dir: "/sys/fs/cgroup/memory/x", Mount: "/sys/fs/cgroup/memory"},
		}},
		{"one tree in two places", "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
			"31 25 0:26 / /run/memory rw - cgroup cgroup rw,memory\n" +
			"30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n", "4:memory:/a\n", []hierarchy{
			{Version: 1, Controllers: []string{"memory"}, Dir: "/sys/fs/cgroup/memory/a", Mount: "/sys/fs/cgroup/memory"},
		}},
		{"outside of what is mounted", "30 25 0:26 /docker/1 /c rw - cgroup2 cgroup2 rw\n", "0::/../x\n", []hierarchy{
			{Version: 2, Dir: "/c", Mount: "/c"},
		}},
		{"none", "1 0 0:1 / / rw - ext4 /dev/vda rw\n", "", nil},
		{"nonsense", "x\n - \n1 2 3 4 5 - cgroup\n", ":\n::\n", nil},
	}
	for _, c := range cases {
		got := hierarchies(c.mounts, c.own)
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func FuzzHierarchies(f *testing.F) {
	f.Add("30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n", "4:memory:/a/b\n")
	f.Fuzz(func(t *testing.T, mounts, own string) {
		for _, h := range hierarchies(mounts, own) {
			if h.Dir != h.Mount && h.Mount != "" && !strings.HasPrefix(h.Dir, filepath.Clean(h.Mount)) {
				t.Errorf("%q is not below %q", h.Dir, h.Mount)
			}
		}
	})
}

// TestGroupVersion2 writes the limits into plain files: the file system of version
// 2 is what not every machine has with controllers.
func TestGroupVersion2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := planGroup([]hierarchy{{Version: 2, Controllers: []string{ctlMemory, ctlPIDs, ctlCPU}, Dir: dir, Mount: dir}}, "g")
	path := filepath.Join(dir, "g")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"} {
		if err := os.WriteFile(filepath.Join(path, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.parts[0].limit(sandbox.Limits{Memory: 1 << 20, PIDs: 7, CPUs: 1.5}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"memory.max": "1048576", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "7", "cpu.max": "150000 100000",
	} {
		if got := g.parts[0].read(file); got != want {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
	for file, content := range map[string]string{
		"memory.peak": "4096\n", "memory.events": "low 0\noom 1\noom_kill 1\n", "cpu.stat": "usage_usec 2500\nuser_usec 1\n",
	} {
		if err := os.WriteFile(filepath.Join(path, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if u := g.usage(); u != (sandbox.Usage{PeakMemory: 4096, CPU: 2500 * time.Microsecond}) || g.outOfMemory() != 1 {
		t.Errorf("%+v, %d", u, g.outOfMemory())
	}
	// A kernel that keeps another value than was written is an error.
	if err := g.parts[0].check("pids.max", 6); err == nil {
		t.Error("a limit of 7 passes for 6")
	}
	if err := os.Remove(filepath.Join(path, "pids.max")); err != nil {
		t.Fatal(err)
	}
	if err := g.parts[0].limit(sandbox.Limits{Memory: 1 << 20, PIDs: 7, CPUs: 1}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing limit: %v", err)
	}
}

func TestSwapped(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]int{{0, 65534}, {65534, 0}, {1000, 1001}, {5, 5}, {0, 0}} {
		maps := swapped(c[0], c[1])
		at := func(id int) int {
			for _, m := range maps {
				if id >= m.ContainerID && id < m.ContainerID+m.Size {
					return m.HostID + id - m.ContainerID
				}
			}
			return -1
		}
		if at(c[0]) != c[1] || at(c[1]) != c[0] {
			t.Errorf("%v: %d and %d", c, at(c[0]), at(c[1]))
		}
		total := 0
		for _, m := range maps {
			total += m.Size
		}
		if total != math.MaxUint32 {
			t.Errorf("%v: %d identities are mapped", c, total)
		}
		for _, id := range []int{1, 999, 1002, 70000, math.MaxUint32 - 1} {
			if !slices.Contains(c[:], id) && at(id) != id {
				t.Errorf("%v: %d becomes %d", c, id, at(id))
			}
		}
	}
}

func TestCopyTree(t *testing.T) {
	t.Parallel()
	source, target := t.TempDir(), filepath.Join(t.TempDir(), "a", "copy")
	if err := errors.Join(
		os.MkdirAll(filepath.Join(source, "dir", "empty"), 0o755),
		os.WriteFile(filepath.Join(source, "dir", "file"), []byte("content"), 0o640),
		os.Symlink("/etc/passwd", filepath.Join(source, "link")),
		syscall.Mkfifo(filepath.Join(source, "fifo"), 0o600),
		os.Chtimes(filepath.Join(source, "dir"), time.Unix(1000, 0), time.Unix(1000, 0)),
		os.Chmod(filepath.Join(source, "dir"), 0o555),
	); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(source, target, 7, nil); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(target, "dir", "file")); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	if to, err := os.Readlink(filepath.Join(target, "link")); err != nil || to != "/etc/passwd" {
		t.Errorf("%q, %v", to, err)
	}
	st, err := os.Stat(filepath.Join(target, "dir"))
	if err != nil || st.Mode().Perm() != 0o555 || !st.ModTime().Equal(time.Unix(1000, 0)) {
		t.Errorf("%v, %v", st, err)
	}
	if exists(filepath.Join(target, "fifo")) {
		t.Error("a pipe was copied")
	}
	if err := copyTree(source, target+"2", 6, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a copy over its limit: %v", err)
	}
	if err := errors.Join(removeDir(filepath.Dir(target)), removeDir(filepath.Join(source, "dir"))); err != nil {
		t.Errorf("a directory that forbids it is not removed: %v", err)
	}
}

func TestReadRecord(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "name")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	good := record{Schema: recordSchema, Name: "name", Groups: []string{"/sys/fs/cgroup/pids/ultrafast-name-1-2"}}
	p, err := lock(dir)
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	defer p.lock.Close()
	if again, err := lock(dir); again != nil || err != nil {
		t.Errorf("locked twice: %v, %v", again, err)
	}
	if err := p.write(good); err != nil {
		t.Fatal(err)
	}
	if _, err := readRecord(dir); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*record){
		"another version":     func(r *record) { r.Schema = 2 },
		"another name":        func(r *record) { r.Name = "other" },
		"the root of a tree":  func(r *record) { r.Groups = []string{"/sys/fs/cgroup/memory"} },
		"another's group":     func(r *record) { r.Groups = []string{"/sys/fs/cgroup/memory/ultrafast-other-1-2"} },
		"a path that climbs":  func(r *record) { r.Groups = []string{"/x/ultrafast-name-1/../../y"} },
		"a path from nowhere": func(r *record) { r.Groups = []string{"ultrafast-name-1-2"} },
	} {
		bad := good
		change(&bad)
		b, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, recordFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readRecord(dir); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestProcessKillSparesAnother(t *testing.T) {
	t.Parallel()
	me, err := processOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	me.Start++ // the number is ours, the start time is not: another had it before
	if err := me.kill(t.Context(), 0); err != nil {
		t.Error(err)
	}
}

func TestChannel(t *testing.T) {
	t.Parallel()
	a, other, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	b, err := newChannel(other)
	if err != nil {
		t.Fatal(err)
	}
	f, err := memoryFile("text")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := a.send(request{Op: "x"}, f); err != nil {
		t.Fatal(err)
	}
	var r request
	files, err := b.receive(&r)
	if err != nil || r.Op != "x" || len(files) != 1 {
		t.Fatal(r, files, err)
	}
	closeAll(files)
	if err := a.send(strings.Repeat("x", maxPacket)); err == nil {
		t.Error("a message without bound is sent")
	}
	a.close()
	if _, err := b.receive(&r); err == nil {
		t.Error("a message from a closed channel")
	}
	b.close()
}

// TestLastWord has a process that says how it ended, and ends before it has read what
// it was sent: its word arrives.
func TestLastWord(t *testing.T) {
	t.Parallel()
	a, other, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	b, err := newChannel(other)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	for _, err := range []error{
		b.send(linkMessage{Measure: true}), a.send(linkMessage{Started: true}), a.send(linkMessage{Exited: &exited{Code: 3}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	a.close()
	var m linkMessage
	if _, err := b.receive(&m); err != nil || !m.Started {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := b.receive(&m); err != nil || m.Exited == nil || m.Exited.Code != 3 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := b.receive(&m); !errors.Is(err, io.EOF) {
		t.Errorf("%v after the end", err)
	}
}
