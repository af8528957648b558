package embedded_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dockerTime bounds one container of the engine, on a machine however busy.
const dockerTime = 3 * time.Minute

func docker(ctx context.Context, stdin []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// dockerImage gives the engine an image with nothing in it but places for mounts
// and links into /usr.
func dockerImage(t *testing.T, ctx context.Context) string {
	t.Helper()
	if out, err := docker(ctx, nil, "version"); err != nil {
		t.Skipf("no Docker engine: %v: %.200s", err, out)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, d := range []string{"usr", "etc", "proc", "dev", "sys", "root"} {
		if err := w.WriteHeader(&tar.Header{Name: d, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"bin", "sbin", "lib", "lib64"} {
		to, err := os.Readlink("/" + l)
		if err != nil {
			t.Skipf("/%s is not a link into /usr here", l)
		}
		if err := w.WriteHeader(&tar.Header{Name: l, Typeflag: tar.TypeSymlink, Linkname: to}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("ultrafast-embedded-test:%d", os.Getpid())
	if out, err := docker(ctx, b.Bytes(), "import", "-", name); err != nil {
		t.Skipf("the Docker engine takes no image: %v: %.200s", err, out)
	}
	t.Cleanup(func() {
		if out, err := docker(context.Background(), nil, "rmi", "--force", name); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	return name
}

// TestInsideContainer runs the contract in containers of a Docker engine: what the
// engine refuses is named, and where it refuses nothing level full is reached.
func TestInsideContainer(t *testing.T) {
	if os.Getenv("EMBEDDED_MACHINE") != "" {
		t.Skip("this is inside already")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*dockerTime)
	defer cancel()
	image := dockerImage(t, ctx)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const unconfined = "--security-opt=seccomp=unconfined"
	for _, c := range []struct {
		name  string
		flags []string
		level string // the highest
		says  []string
		long  bool
	}{
		{"default", nil, "Reduced", []string{
			"the kernel refused to start a process in new namespaces", "operation not permitted", "in a user namespace",
			"a system call filter is in force, as in a container with its default seccomp profile",
		}, false},
		{"plain user", []string{"--user=1234:1234"}, "Reduced", []string{"system call filter"}, true},
		{"administrator", []string{"--cap-add=SYS_ADMIN"}, "Reduced", []string{"mount /proc", "pivot to the root"}, true},
		{"unconfined", []string{unconfined}, "Full", []string{"user namespace:true", "read-only file system"}, false},
		{"unconfined plain user", []string{unconfined, "--user=1234:1234"}, "Full", []string{"user namespace:true"}, true},
		{"unconfined administrator", []string{unconfined, "--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN"}, "Full", []string{"as those of another user"}, true},
		{"privileged", []string{"--privileged"}, "Full", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long && os.Getenv("ULTRAFAST_LONG") == "" {
				t.Skip("set ULTRAFAST_LONG=1")
			}
			args := append([]string{"run", "--rm", "--network=none", "--env=EMBEDDED_MACHINE=container",
				"--volume=" + filepath.Clean(self) + ":/tests:ro", "--volume=/usr:/usr:ro"}, c.flags...)
			if out, err := docker(ctx, nil, append(args, image, "/usr/bin/true")...); err != nil {
				t.Skipf("the engine cannot start such a container here: %v: %.300s", err, out)
			}
			run := "^TestContract(Full|" + c.level + ")$"
			if os.Getenv("ULTRAFAST_LONG") == "" {
				run += "/^(exit codes|mounts|dial|addresses|exec|process limit|privileges|network|read-only root|usage|image|effective|close leaves nothing)$"
			}
			out, err := docker(ctx, nil, append(args, image, "/tests", "-test.v", "-test.run="+run)...)
			if err != nil || !strings.Contains(out, "--- PASS: TestContract"+c.level) {
				t.Errorf("level %s is not reached: %v\n%s", c.level, err, out)
			}
			if skipped := strings.Contains(out, "--- SKIP: TestContractFull "); skipped != (c.level != "Full") {
				t.Errorf("level full is skipped: %t\n%s", skipped, out)
			}
			for _, words := range c.says {
				if !strings.Contains(out, words) {
					t.Errorf("nothing says %q:\n%s", words, out)
				}
			}
		})
	}
}
