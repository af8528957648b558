package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// everything is what a build with every flavour gives, by the digest of a salt.
func everything(salt string) []built {
	var images []built
	for _, i := range table {
		for _, f := range i.flavours {
			images = append(images, built{Name: i.name, suffix: f.suffix, Digest: string(state.DigestOf([]byte(i.name + f.suffix + salt)))})
		}
	}
	return images
}

// tree copies the files of this repository that a release writes.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, pattern := range []string{"actions/*/action.yml", "actions/*/gitlab.yml", "actions/*/tekton.yaml", ".github/workflows/pipeline.yml"} {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v %v", pattern, found, err)
		}
		for _, name := range found {
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			writeText(t, filepath.Join(dir, rel), readText(t, name))
		}
	}
	return dir
}

func readText(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeText(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	r := release{dir: dir, registry: registry, tag: "v1.2.3", images: everything("")}
	if err := r.check(); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "without a digest") {
		t.Errorf("a tree that names no digest passes: %v", err)
	}
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	if err := r.check(); err != nil {
		t.Error(err)
	}
	market, _ := r.digest("ultrafast-market", "")
	validate, _ := r.digest("ultrafast-validate", "")
	for file, want := range map[string]string{
		"actions/market/action.yml":      "  image: docker://ghcr.io/ultrafast-ci/ultrafast-market:v1.2.3@" + market + "\n",
		"actions/sign/action.yml":        "  image: docker://ghcr.io/ultrafast-ci/ultrafast-validate:v1.2.3@" + validate + "\n",
		"actions/market/gitlab.yml":      "ghcr.io/ultrafast-ci/ultrafast-market:v1.2.3-shell@sha256:",
		"actions/market/tekton.yaml":     `"ghcr.io/ultrafast-ci/ultrafast-market:v1.2.3@` + market + `"`,
		".github/workflows/pipeline.yml": "uses: ultrafast-ci/ultrafast/actions/market@v1.2.3\n",
	} {
		if text := readText(t, filepath.Join(dir, file)); !strings.Contains(text, want) || strings.Contains(text, ":main") || strings.Contains(text, "@main") {
			t.Errorf("%s has no %q, or something of main", file, want)
		}
	}
	// A rebuild that gives other bytes, one wrong digest, another tag, another place.
	name := filepath.Join(dir, "actions", "market", "action.yml")
	whole := readText(t, name)
	for what, change := range map[string]func(r *release){
		"a rebuild":    func(r *release) { r.images = everything("other") },
		"one digest":   func(*release) { writeText(t, name, strings.Replace(whole, market, validate, 1)) },
		"by tag alone": func(*release) { writeText(t, name, strings.Replace(whole, "docker://", "../../Dockerfile\n  # ", 1)) },
		"another tag":  func(r *release) { r.tag = "v1.2.4" },
		"registry":     func(r *release) { r.registry = "example.com/x" },
		"not built":    func(r *release) { r.images = r.images[1:] },
	} {
		other := r
		change(&other)
		if err := other.check(); fault.KindOf(err) != fault.Finding || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", what, err)
		}
		writeText(t, name, whole)
	}
	if err := r.check(); err != nil {
		t.Error(err)
	}
}

// TestReleaseOfAPart leaves what was not asked for, and what was asked for must be
// there.
func TestReleaseOfAPart(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	r := release{dir: dir, registry: registry, tag: "test", images: everything("")[:1]}
	if err := r.write(); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "ultrafast-deploy was not built") {
		t.Errorf("an image that was not built: %v", err)
	}
	r.dir, r.partial = tree(t), true
	if err := r.check(); fault.KindOf(err) != fault.Finding {
		t.Errorf("nothing to compare passes: %v", err)
	}
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	if err := r.check(); err != nil {
		t.Error(err)
	}
	if text := readText(t, filepath.Join(r.dir, "actions", "deploy", "action.yml")); !strings.Contains(text, "image: ../../Dockerfile\n") {
		t.Errorf("%s", text)
	}
	for _, dir := range []string{filepath.Join(dir, "none"), t.TempDir()} {
		r.dir = dir
		if err := r.write(); fault.KindOf(err) != fault.Usage {
			t.Errorf("no tree: %v", err)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]bool{
		"v1.2.3": true, "v0.0.0-rc.1": true, "main": false, "v1.2": false, "v01.2.3": false, "1.2.3": false, "v1.2.3 -X x=y": false, "v1.2.3-": false,
	} {
		if version.MatchString(tag) != want {
			t.Errorf("%q: %t", tag, !want)
		}
	}
}
