package platforms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
)

// published is an image that the daemon has.
type published struct {
	Name, Phase, Flavour, Digest string
	// ref is its reference by digest in a registry that has ended: the daemon need not
	// ask for it again.
	ref string
}

var (
	imagesMu sync.Mutex
	byFlavor = map[string]map[string]published{}
)

// images returns the images of a flavour ("scratch", "shell", "toolchain") by phase,
// "all" for the one with all, as the release builds them, in the daemon.
func images(t *testing.T, flavour string) map[string]published {
	t.Helper()
	docker(t)
	if flavour == "scratch" {
		releaseTree(t) // has them built
	}
	imagesMu.Lock()
	defer imagesMu.Unlock()
	if byFlavor[flavour] == nil {
		byFlavor[flavour] = pull(t, publish(t, ocitest.New(t).Host, flavour))
	}
	return byFlavor[flavour]
}

// publish builds the images of a flavour and pushes them below host/test, with more
// arguments of the program that builds.
func publish(t *testing.T, host, flavour string, args ...string) []published {
	t.Helper()
	out := call(t, command{dir: root(), args: append([]string{
		imageBuilder(t), "--json", "--flavour", flavour, "--platform", native, "--push", host + "/test", "--tag", "test",
	}, args...)})
	var list []published
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	for i := range list {
		list[i].ref = fmt.Sprintf("%s/test/%s@%s", host, list[i].Name, list[i].Digest)
	}
	return list
}

// imageBuilder returns the program of the directory images.
func imageBuilder(t testing.TB) string {
	t.Helper()
	program := kept("platforms", "images")
	call(t, command{dir: root(), env: goEnv, args: append(append([]string{}, goBuild...), "-o", program, "./images")})
	return program
}

func pull(t *testing.T, list []published) map[string]published {
	t.Helper()
	byPhase := map[string]published{}
	for _, p := range list {
		call(t, command{args: []string{"docker", "pull", "--quiet", p.ref}})
		atEnd = append(atEnd, func() error { return removeImage(p.ref) })
		byPhase[p.Phase] = p
	}
	return byPhase
}

// releaseTree returns a copy of this work tree whose actions name images by digest
// instead of building the Dockerfile: what a release is, but for its binaries. The
// daemon has the images. It is made once and must not be changed.
func releaseTree(t *testing.T) string {
	t.Helper()
	docker(t)
	imagesMu.Lock()
	defer imagesMu.Unlock()
	dir := filepath.Join(scratch, "release")
	if byFlavor["scratch"] == nil {
		copyTree(t, dir)
		host := ocitest.New(t).Host
		byFlavor["scratch"] = pull(t, publish(t, host, "scratch", "--registry", host+"/test", "--actions", dir))
		// Nothing serves the binaries that a release names by URL: these are built.
		checksums := filepath.Join("actions", "setup", "checksums.txt")
		if err := copyFile(filepath.Join(root(), checksums), filepath.Join(dir, checksums), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// copyTree copies the files that git knows, and new ones that it does not ignore.
func copyTree(t testing.TB, dir string) {
	t.Helper()
	list := call(t, command{dir: root(), args: []string{"git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"}})
	seen := map[string]bool{}
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		from, to := filepath.Join(root(), name), filepath.Join(dir, name)
		if parent := filepath.Dir(from); !seen[parent] {
			seen[parent] = true
			// What a test has read is how the go command knows that a cached result is still
			// good. A new file shows in its directory.
			if _, err := os.ReadDir(parent); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		info, err := os.Lstat(from)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not yet committed
		}
		if err == nil {
			err = copyFile(from, to, info.Mode().Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func copyFile(from, to string, mode os.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, mode)
}

// runnerImage returns the tag of an image that stands for a hosted runner: Debian with
// bash, git and rsync. It holds no Go.
func runnerImage(t *testing.T) string {
	t.Helper()
	const tag = "ultrafast.test/runner:bookworm"
	imported(t, tag, func() error {
		archive, err := runnerArchive()
		if err != nil {
			return err
		}
		_, all, err := command{args: []string{"docker", "import", "--change", `CMD ["bash"]`, archive, tag}}.output(t.Context())
		if err != nil {
			return fmt.Errorf("%w\n%s", err, all)
		}
		return nil
	})
	return tag
}

// debianMirror is named in full: the first source of a machine's apt may be another
// vendor's.
func debianMirror() string {
	if mirror := os.Getenv("DEBIAN_MIRROR"); mirror != "" {
		return mirror
	}
	return "http://deb.debian.org/debian"
}

// runnerArchive returns the file system of the runner's image, made when it is first
// asked for.
var runnerArchive = sync.OnceValues(func() (string, error) {
	archive := kept("platforms", "runner-bookworm.tar")
	if _, err := os.Stat(archive); err == nil {
		return archive, nil
	}
	dir := filepath.Join(scratch, "rootfs")
	for _, args := range [][]string{
		{"debootstrap", "--variant=minbase", "--include=ca-certificates,git,rsync", "bookworm", dir, debianMirror()},
		{"tar", "--directory", dir, "--exclude=./var/cache/apt/archives/*.deb", "--create", "--file", archive + ".part", "."},
	} {
		if _, all, err := (command{args: args}).output(context.Background()); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", args[0], err, all[max(0, len(all)-2000):])
		}
	}
	return archive, os.Rename(archive+".part", archive)
})
