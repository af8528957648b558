package registry_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the sums in index.json")

const (
	indexFile = "index.json"
	// lockFiles pin the packages of the example projects by the same sums.
	lockFiles = "../*/ggen.lock"
)

type index struct {
	Packages []struct {
		ID           string   `json:"id"`
		Version      string   `json:"version"`
		Dependencies []string `json:"dependencies"`
		Templates    []struct {
			Path string `json:"path"`
		} `json:"templates"`
		Versions map[string]struct {
			Path   string `json:"path"`
			SHA256 string `json:"sha256"`
		} `json:"versions"`
	} `json:"packages"`
}

// TestIndex wants the index, and the locks of the example projects, to describe
// the directories beside it. The sum is computed here from its definition, apart
// from the code that verifies packages.
func TestIndex(t *testing.T) {
	content, err := os.ReadFile(indexFile)
	if err != nil {
		t.Fatal(err)
	}
	var parsed index
	if err := json.Unmarshal(content, &parsed); err != nil {
		t.Fatal(err)
	}
	locks := readLocks(t)
	fresh := map[string][]byte{indexFile: content}
	listed := map[string]bool{}
	for _, p := range parsed.Packages {
		for number, version := range p.Versions {
			if want := "packages/" + p.ID + "/" + number; version.Path != want {
				t.Errorf("%s %s: path is %s, want %s", p.ID, number, version.Path, want)
			}
			listed[filepath.FromSlash(version.Path)] = true
			want := sum(t, filepath.FromSlash(version.Path))
			stale := version.SHA256 != want
			locked := false
			for name, lock := range locks {
				at := bytes.Index(lock, []byte(`source = "`+version.Path+`"`))
				if at < 0 {
					continue
				}
				locked = true
				locks[name] = pinSum(t, name, lock, at, want)
				stale = stale || !bytes.Equal(locks[name], lock)
				fresh[name] = locks[name]
			}
			if !locked {
				t.Errorf("%s %s: no example project uses it", p.ID, number)
			}
			if !*update && stale {
				t.Errorf("%s %s: %s or a lock does not have the sum %s; run go test ./examples/registry -update", p.ID, number, indexFile, want)
			}
			fresh[indexFile] = replaceSum(t, fresh[indexFile], version.Path, want)
		}
		current, found := p.Versions[p.Version]
		if !found {
			t.Errorf("%s: version %s has no entry in versions", p.ID, p.Version)
		}
		for _, template := range p.Templates {
			if _, err := os.Stat(filepath.FromSlash(current.Path + "/" + template.Path)); err != nil {
				t.Errorf("%s: %v", p.ID, err)
			}
		}
	}
	directories, err := filepath.Glob("packages/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range directories {
		if !listed[dir] {
			t.Errorf("%s is not in the index", dir)
		}
	}
	if !*update {
		return
	}
	for name, content := range fresh {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// readLocks returns the locks of the example projects.
func readLocks(t *testing.T) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(lockFiles)
	if err != nil || len(names) == 0 {
		t.Fatalf("no locks: %v", err)
	}
	locks := map[string][]byte{}
	for _, name := range names {
		if locks[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	return locks
}

// pinSum changes the sum of a lock that stands before the source at a position.
func pinSum(t *testing.T, name string, lock []byte, at int, sum string) []byte {
	t.Helper()
	const key = `sha256 = "`
	start := bytes.LastIndex(lock[:at], []byte(key))
	if start < 0 {
		t.Fatalf("%s: no sha256 before %s", name, lock[at:])
	}
	start += len(key)
	return slices.Concat(lock[:start], []byte(sum), lock[start+len(sum):])
}

// replaceSum changes the sum that follows path, and nothing else of the layout.
func replaceSum(t *testing.T, content []byte, path, sum string) []byte {
	t.Helper()
	const key = `"sha256": "`
	at := bytes.Index(content, []byte(`"path": "`+path+`"`))
	if at < 0 {
		t.Fatalf("no path %s in %s", path, indexFile)
	}
	offset := bytes.Index(content[at:], []byte(key))
	if offset < 0 {
		t.Fatalf("no sha256 after path %s in %s", path, indexFile)
	}
	start := at + offset + len(key)
	return slices.Concat(content[:start], []byte(sum), content[start+len(sum):])
}

// sum returns the SHA-256 over the sorted lines "content sum, path, mode" of all files in dir.
func sum(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		mode := "0644"
		if info.Mode()&0o100 != 0 {
			mode = "0755"
		}
		lines = append(lines, fmt.Sprintf("%x  %s  %s\n", sha256.Sum256(content), filepath.ToSlash(relative), mode))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	total := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(total[:])
}
