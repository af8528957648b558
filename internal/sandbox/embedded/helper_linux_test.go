package embedded

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// withHelper makes image the helper of this process for one test, which no other may
// run beside.
func withHelper(t *testing.T, image string) {
	t.Helper()
	before := helperPath
	t.Cleanup(func() { helperPath = before })
	fd, err := openHelper(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	helperPath = func() string { return memoryPath(fd) }
}

// supervisorPath runs a container and returns what the supervisor of its environment is.
func supervisorPath(t *testing.T) string {
	t.Helper()
	e, err := New(Options{StateDir: t.TempDir()}).Create(t.Context(), sandbox.EnvironmentSpec{Name: "helper"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	c, err := e.Start(t.Context(), sandbox.ContainerSpec{Name: "true", Argv: []string{"true"}})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(t.Context()); err != nil || !st.OK() {
		t.Errorf("%v, %v", st, err)
	}
	// Another user's process may hide its program.
	path, err := os.Readlink("/proc/" + strconv.Itoa(e.(*environment).process.Pid) + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHelper runs a container by the helper in a memory file.
func TestHelper(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a program")
	}
	file := filepath.Join(t.TempDir(), "helper")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", file, "./helper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	image, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	withHelper(t, string(image))
	if path := supervisorPath(t); !strings.HasPrefix(path, "/memfd:helper") {
		t.Errorf("the supervisor is %s", path)
	}
	// What may come upon it cannot change it: CVE-2019-5736.
	for _, flags := range []int{os.O_WRONLY, os.O_RDWR | os.O_TRUNC} {
		f, err := os.OpenFile(helperPath(), flags, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("x"), 0)
			f.Close()
		}
		if err == nil {
			t.Errorf("opened with %#x, the helper can be written", flags)
		}
	}
	if now, err := os.ReadFile(helperPath()); err != nil || string(now) != string(image) {
		t.Errorf("the helper changed: %v", err)
	}
}

// TestHelperRefused starts this program where a policy refuses memory files.
func TestHelperRefused(t *testing.T) {
	withHelper(t, "no program at all")
	if err := exec.Command(helperPath()).Run(); !errors.Is(err, syscall.ENOEXEC) {
		t.Fatal(err)
	}
	own, err := os.Readlink(self)
	if err != nil {
		t.Fatal(err)
	}
	if path := supervisorPath(t); path != own {
		t.Errorf("the supervisor is %s, want %s", path, own)
	}
}

// TestHelperIsSmall keeps what costs time at every start out of the helper.
func TestHelperIsSmall(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./helper").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, heavy := range []string{"net/http", "crypto/tls", "text/template", "encoding/xml", "compress/", "github.com/google/"} {
			if strings.HasPrefix(dep, heavy) {
				t.Errorf("the helper links %s", dep)
			}
		}
	}
}
