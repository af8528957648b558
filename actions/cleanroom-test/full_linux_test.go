package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// mounts is set for a start of this test in a mount namespace of its own.
const mounts = "ULTRAFAST_TEST_MOUNTS"

// TestFullDisk runs commands whose cache, results or files are on a disk that is full:
// each says which file it could not write and what to do, leaves nothing, and works when
// there is space again.
func TestFullDisk(t *testing.T) {
	if os.Getenv(mounts) != "" {
		for name, check := range map[string]func(*testing.T, disk){"cache": fullCache, "results": fullResults, "files": fullFiles, "images": fullImages} {
			t.Run(name, func(t *testing.T) { check(t, newDisk(t)) })
		}
		return
	}
	t.Parallel()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestFullDisk$")
	cmd.Env = append(os.Environ(), mounts+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && cmd.ProcessState == nil:
		t.Skipf("no mount namespace: %v", err)
	case err != nil:
		t.Errorf("%s", out)
	}
}

// disk is a directory with a small file system, and a project beside it.
type disk struct {
	t            *testing.T
	dir, project string
}

// newDisk makes one of 1 MiB.
func newDisk(t *testing.T) disk {
	d := disk{t, t.TempDir(), t.TempDir()}
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		t.Skip(err)
	}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(d.dir, syscall.MNT_DETACH) })
	for name, text := range map[string]string{"one_test.sh": "echo one\n", "ggen.toml": "[cleanroom]\nmin_isolation = \"none\"\n"} {
		if err := os.WriteFile(filepath.Join(d.project, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

const filling = "filling"

// fill leaves no byte of the disk, free all that it took.
func (d disk) fill() {
	f, err := os.Create(filepath.Join(d.dir, filling))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}

// spare frees some bytes of a disk that is full.
func (d disk) spare(bytes int64) {
	path := filepath.Join(d.dir, filling)
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()-bytes)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d disk) free() {
	if err := os.Remove(filepath.Join(d.dir, filling)); err != nil {
		d.t.Fatal(err)
	}
}

// run runs the program, with its cache below a directory, and returns what it printed.
func (d disk) run(code int, cache string, args ...string) string {
	d.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = append([]string{"ultrafast-cleanroom-test"}, args...)
	cmd.Dir, cmd.Env = d.project, append(os.Environ(), "XDG_CACHE_HOME="+cache)
	out, _ := cmd.CombinedOutput() // the state has the code
	if got := cmd.ProcessState.ExitCode(); got != code {
		d.t.Errorf("%q: exit code %d, not %d: %s", args, got, code, out)
	}
	return string(out)
}

// refused runs what has no space: it names a file of the disk and what to do.
func (d disk) refused(code int, cache string, args ...string) {
	d.t.Helper()
	out := d.run(code, cache, args...)
	if strings.Contains(out, "WARN") || !strings.Contains(out, d.dir) || !strings.Contains(out, "no space left on device") || strings.Count(out, "no space") > 1 ||
		!strings.Contains(out, "fix") || !strings.Contains(out, "space") || strings.Contains(out, "Docker") {
		d.t.Errorf("%q says: %s", args, out)
	}
}

// files lists the files of the disk below a directory.
func (d disk) files(below string) (list []string) {
	err := filepath.WalkDir(filepath.Join(d.dir, below), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != filling {
			list = append(list, strings.TrimPrefix(path, d.dir+"/"))
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return list
}

// nothingLeft checks that no environment is on the disk.
func (d disk) nothingLeft() {
	d.t.Helper()
	if left := leftIn(d.t, d.dir, "no process has this in its arguments"); len(left) > 0 {
		d.t.Errorf("left: %q", left)
	}
}

func fullCache(t *testing.T, d disk) {
	d.fill()
	for code, args := range map[int][]string{
		125: {"exec", "--", "true"},
		3:   {"run", "--source", ".", "--file", "one_test.sh"},
	} {
		d.refused(code, d.dir, args...)
		d.nothingLeft()
	}
	d.refused(3, d.dir, "environment", "create", "--name", "made")
	d.nothingLeft()
	d.free()
	d.run(0, d.dir, "exec", "--", "true")
	d.run(0, d.dir, "run", "--source", ".", "--file", "one_test.sh")
	d.run(0, d.dir, "environment", "create", "--name", "made")
	d.fill() // what is there can be used, measured and removed
	d.run(0, d.dir, "exec", "--environment", "made", "--", "true")
	d.run(0, d.dir, "environment", "delete", "--name", "made")
	d.nothingLeft()
}

func fullResults(t *testing.T, d disk) {
	cache := t.TempDir()
	args := []string{"test", "run", "--results-dir", filepath.Join(d.dir, "results")}
	if err := os.Mkdir(filepath.Join(d.dir, "results"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.fill()
	d.refused(3, cache, args...)
	if got := d.files("results"); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
	d.free()
	d.run(0, cache, args...)
	first := d.files("results")
	junit := filepath.Join(d.dir, "results", "junit.xml")
	before, err := os.ReadFile(junit)
	if err != nil || !slices.Contains(first, "results/logs/sh-one_test.sh-1.log") {
		t.Fatalf("%q, %v", first, err)
	}
	d.fill()
	d.spare(6 * 4096) // for some of the files, and not for all of them
	if err := os.WriteFile(filepath.Join(d.project, "big_test.sh"), []byte("yes | head -c 100000\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.refused(3, cache, args...)
	if got := d.files("results"); !slices.Equal(got, first) {
		t.Errorf("files of the results: %q, before %q", got, first)
	}
	if after, err := os.ReadFile(junit); err != nil || string(after) != string(before) {
		t.Errorf("half of a run has replaced the one before: %s, %v", after, err)
	}
}

func fullFiles(t *testing.T, d disk) {
	cache := t.TempDir()
	d.run(0, cache, "test", "run")
	d.fill()
	file := filepath.Join(d.dir, "out")
	d.refused(3, cache, "metrics", "show", "--file", file)
	d.refused(3, cache, "test", "results", "--format", "junit", "--file", file)
	if got := d.files("."); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
	d.free()
	d.run(0, cache, "metrics", "show", "--file", file)
	d.run(0, cache, "test", "results", "--format", "junit", "--file", file)
}

func fullImages(t *testing.T, d disk) {
	places := newPlaces(t)
	for name, ref := range map[string]string{
		"layout": "layout:" + places.layout + "#tool:1", "archive": "tarball:" + places.archive, "registry": places.registry + "/tool:1",
	} {
		args := []string{"exec", "--image", ref, "--", "true"}
		cache := filepath.Join(d.dir, name)
		d.run(0, cache, "exec", "--", "true") // what is not of the image has its place
		d.fill()
		before := d.files(name)
		d.refused(125, cache, args...)
		d.nothingLeft()
		after := slices.DeleteFunc(d.files(name), func(path string) bool { return strings.Contains(path, "/locks/") })
		if !slices.Equal(before, after) {
			t.Errorf("%s: %q is left, before there was %q", name, after, before)
		}
		d.free()
		resized(t, d.dir, "64m")
		d.run(0, cache, args...)
	}
}

// resized gives a tmpfs another size.
func resized(t *testing.T, dir, size string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}
