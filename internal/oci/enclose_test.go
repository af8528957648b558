package oci_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
)

// TestEnclose opens the files of an image from outside: each link leads to the image's,
// and none to the host's.
func TestEnclose(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("windows has not these links")
	}
	host := t.TempDir()
	root := filepath.Join(host, "root")
	write := func(path, text string) error {
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
	}
	secret := filepath.Join(host, "secret")
	link := func(to, name string) error {
		path := filepath.Join(root, name)
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(to, path))
	}
	if err := errors.Join(
		write(secret, "host"), write(filepath.Join(root, "etc/passwd"), "image"), write(filepath.Join(root, "usr/lib/deep/file"), "deep"),
		link("/etc/passwd", "a/b/absolute"), link("../../../../../../../../etc/passwd", "a/b/climbs"), link(secret, "a/host"),
		link("/usr/lib", "lib"), link("/lib/deep", "a/chain"), link("../a/chain/file", "b/through"), link("deep/file", "usr/lib/plain"),
		link("/", "a/b/top"), link("/dev/stdout", "log"), link("/loop", "loop"), link("../chain/../../../secret", "a/b/out"),
		link("/chain/../etc/passwd", "words"), link("/proc/self/root"+secret, "magic"),
	); err != nil {
		t.Fatal(err)
	}
	if err := (oci.Client{}).Enclose(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a/b/absolute": "image", "a/b/climbs": "image", "a/host": "", "lib/deep/file": "deep", "a/chain/file": "deep", "b/through": "deep",
		"usr/lib/plain": "deep", "a/b/top/etc/passwd": "image", "loop": "", "a/b/out": "", "words": "", "magic": "",
	} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if string(b) != want || (err != nil) != (want == "") {
			t.Errorf("%s from outside is %q, %v; want %q", name, b, err, want)
		}
	}
	if to, err := os.Readlink(filepath.Join(root, "log")); err != nil || to != "/dev/stdout" {
		t.Errorf("the link to what every container has leads to %q, %v", to, err)
	}
}
