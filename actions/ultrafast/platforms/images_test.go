package platforms

import (
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
	imagesMu.Lock()
	defer imagesMu.Unlock()
	if byFlavor[flavour] == nil {
		byFlavor[flavour] = pull(t, publish(t, ocitest.New(t).Host, flavour))
	}
	return byFlavor[flavour]
}

// publish builds the images of a flavour and pushes them below host/test.
func publish(t *testing.T, host, flavour string) []published {
	t.Helper()
	out := call(t, command{dir: root(), args: []string{
		imageBuilder(t), "--json", "--flavour", flavour, "--platform", native, "--push", host + "/test", "--tag", "test",
	}})
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

// releaseTree returns a copy of this work tree, as git has it, whose actions name
// images by digest instead of building the Dockerfile: what a release is.
func releaseTree(t *testing.T, byPhase map[string]published) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "release")
	copyTree(t, dir)
	for _, action := range []string{"market", "generate", "validate", "sign", "deploy"} {
		phase := action
		if action == "sign" {
			phase = "validate"
		}
		name := filepath.Join(dir, "actions", action, "action.yml")
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		const from = "image: ../../Dockerfile"
		if !strings.Contains(string(text), from) {
			t.Fatalf("%s does not say %q", name, from)
		}
		write(t, name, strings.Replace(string(text), from, "image: docker://"+byPhase[phase].ref, 1))
	}
	return dir
}

// copyTree copies the files that git knows, and new ones that it does not ignore.
func copyTree(t testing.TB, dir string) {
	t.Helper()
	list := call(t, command{dir: root(), args: []string{"git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"}})
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		from, to := filepath.Join(root(), name), filepath.Join(dir, name)
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
