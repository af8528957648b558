package local

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestLocate finds programs of an image behind links, and never on the host.
func TestLocate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("windows has not these links")
	}
	root := t.TempDir()
	err := errors.Join(
		os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755), os.MkdirAll(filepath.Join(root, "etc/alternatives"), 0o755),
		os.WriteFile(filepath.Join(root, "usr/bin/busybox"), []byte("program"), 0o755),
		os.Symlink("usr/bin", filepath.Join(root, "bin")), os.Symlink("busybox", filepath.Join(root, "usr/bin/ls")),
		os.Symlink("/etc/alternatives/awk", filepath.Join(root, "usr/bin/awk")), os.Symlink("/usr/bin/busybox", filepath.Join(root, "etc/alternatives/awk")),
		os.Symlink("../../../../../../../../../../bin/sh", filepath.Join(root, "usr/bin/out")), os.Symlink("/bin/sh", filepath.Join(root, "usr/bin/absolute")),
	)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := directory(root, "/etc/alternatives/../../bin"); err != nil || got != filepath.Join(root, "usr/bin") {
		t.Errorf("a directory from outside is %q, %v", got, err)
	}
	if got, err := directory(root, "/"); err != nil || got != root {
		t.Errorf("the root from outside is %q, %v", got, err)
	}
	for _, c := range []struct{ name, program, real, outside string }{
		{"busybox", "/bin/busybox", "/usr/bin/busybox", "/bin/busybox"},
		{"/bin/ls", "/bin/ls", "/usr/bin/busybox", "/bin/ls"},
		{"awk", "/bin/awk", "/usr/bin/busybox", "/usr/bin/busybox"}, // the host would look in its own /etc
		{"out", "", "", ""}, {"absolute", "", "", ""}, {"/bin/sh", "", "", ""}, {"/bin", "", "", ""},
	} {
		program, real, err := locate(root, "/", "/sbin:/bin", c.name)
		if (err != nil) != (c.program == "") || program != c.program || real != c.real {
			t.Errorf("%s is %q, %q, %v", c.name, program, real, err)
			continue
		}
		if err != nil {
			continue
		}
		if got, err := outside(root, program, real); err != nil || got != filepath.Join(root, c.outside) {
			t.Errorf("%s from outside is %q, %v", c.name, got, err)
		}
	}
}
