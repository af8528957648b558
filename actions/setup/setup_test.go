// Package setup tests the installer that the composite actions run.
package setup

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// checkout is a copy of what the installer reads, so that a test can release a binary.
func checkout(t *testing.T, checksums string) string {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "actions", "setup")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("install.sh")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(at, "install.sh"), string(script), 0o755)
	write(t, filepath.Join(at, "checksums.txt"), checksums, 0o644)
	return filepath.Join(at, "install.sh")
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// released is the content of the binary that the stand-in for curl delivers.
const released = "#!/bin/sh\necho released\n"

// run runs the installer with PATH and returns where binaries are, what it said and
// its exit code. PATH has a curl that delivers [released] from any https URL, and a
// go that fails.
func run(t *testing.T, script string, args ...string) (bin, said string, code int) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-ins are shell scripts")
	}
	dir := t.TempDir()
	tools := filepath.Join(dir, "tools")
	if err := os.Mkdir(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "released"), released, 0o644)
	write(t, filepath.Join(tools, "curl"), "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ \"$1\" = --output ] && out=$2; shift; done\ncase \"$1\" in https://*) cp '"+dir+"/released' \"$out\";; *) exit 1;; esac\n", 0o755)
	write(t, filepath.Join(tools, "go"), "#!/bin/sh\necho no build here >&2\nexit 1\n", 0o755)
	cmd := exec.Command("bash", append([]string{script}, args...)...)
	cmd.Env = []string{
		"PATH=" + tools + ":" + os.Getenv("PATH"), "HOME=" + dir, "RUNNER_TEMP=" + dir, "GITHUB_PATH=" + filepath.Join(dir, "path"),
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return filepath.Join(dir, "ultrafast", "bin"), string(out), cmd.ProcessState.ExitCode()
}

func line(sum, name string) string {
	return fmt.Sprintf("# a release\n\n%s  https://example.com/v1.0.0/%s_%s_%s\n", sum, name, runtime.GOOS, runtime.GOARCH)
}

func TestReleasedIsVerified(t *testing.T) {
	t.Parallel()
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(released)))
	bin, said, code := run(t, checkout(t, line(sum, "ultrafast-market")), "ultrafast-market")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, said)
	}
	out, err := exec.Command(filepath.Join(bin, "ultrafast-market")).Output()
	if err != nil || string(out) != "released\n" {
		t.Errorf("the binary says %q, %v", out, err)
	}
	path, err := os.ReadFile(filepath.Join(bin, "..", "..", "path"))
	if err != nil || string(path) != bin+"\n" {
		t.Errorf("GITHUB_PATH got %q, %v", path, err)
	}
}

func TestWrongDigestIsRefused(t *testing.T) {
	t.Parallel()
	bin, said, code := run(t, checkout(t, line(strings.Repeat("0", 64), "ultrafast")), "ultrafast")
	if code != 1 || !strings.Contains(said, "is committed") {
		t.Errorf("exit %d: %s", code, said)
	}
	if left, err := os.ReadDir(bin); err != nil || len(left) > 0 {
		t.Errorf("%v was left behind, %v", left, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0", 64)
	for name, test := range map[string]struct {
		checksums string
		args      []string
		code      int
		says      string
	}{
		"unknown":        {"", []string{"ultrafast", "ultrafast-sell"}, 2, `there is no binary "ultrafast-sell"`},
		"option":         {"", []string{"-o"}, 2, "there is no binary"},
		"nothing":        {"", nil, 2, "name a binary"},
		"not built":      {"", []string{"ultrafast"}, 3, "cannot be built"},
		"not for others": {line(sum, "ultrafast-deploy"), []string{"ultrafast"}, 3, "cannot be built"},
		"no https":       {strings.Replace(line(sum, "ultrafast"), "https", "http", 1), []string{"ultrafast"}, 3, "cannot be fetched"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin, said, code := run(t, checkout(t, test.checksums), test.args...)
			if code != test.code || !strings.Contains(said, test.says) {
				t.Errorf("exit %d, want %d: %s", code, test.code, said)
			}
			if _, err := os.Stat(filepath.Join(bin, "..", "..", "path")); err == nil {
				t.Error("PATH was extended")
			}
		})
	}
}

// TestBuilt builds from this checkout, as a commit without a release does.
func TestBuilt(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a binary")
	}
	dir := t.TempDir()
	cmd := exec.Command("bash", "install.sh", "ultrafast-market")
	cmd.Env = append(os.Environ(), "RUNNER_TEMP="+dir, "GITHUB_PATH=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(filepath.Join(dir, "ultrafast", "bin", "ultrafast-market"), "--version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "ultrafast-market ") {
		t.Errorf("the binary says %q, %v", out, err)
	}
}
