package generate

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		source, front, body string
		line                int
		found               bool
	}{
		{"", "", "", 1, false},
		{"text\n---\n", "", "text\n---\n", 1, false},
		{" ---\nx\n---\n", "", " ---\nx\n---\n", 1, false},
		{"----\nx\n---\n", "", "----\nx\n---\n", 1, false},
		{"---\n---\n", "", "", 3, true},
		{"---\n---", "", "", 3, true},
		{"---\na: 1\n---\nbody", "a: 1\n", "body", 4, true},
		{"---  \na: 1\n---\t\nbody\n---\n", "a: 1\n", "body\n---\n", 4, true},
		{"---\r\na: 1\r\n---\r\nbody", "a: 1\r\n", "body", 4, true},
		{"\ufeff---\na: 1\n---\nbody", "a: 1\n", "body", 4, true},
		{"---\na: 1\n---\n\n \n\n  body\n\n", "a: 1\n", "  body\n\n", 7, true},
		{"---\na: |\n  ---\n---\nbody", "a: |\n  ---\n", "body", 5, true},
		{"---\na: 1\n---\n\n", "a: 1\n", "", 5, true},
	} {
		front, body, line, found, err := split(c.source)
		if err != nil || front != c.front || body != c.body || line != c.line || found != c.found {
			t.Errorf("split(%q) = %q, %q, %d, %v, %v; want %q, %q, %d, %v", c.source, front, body, line, found, err, c.front, c.body, c.line, c.found)
		}
	}
	for _, source := range []string{"---", "---\n", "---\na: 1\n", "---\n ---\n"} {
		if _, _, _, _, err := split(source); err == nil {
			t.Errorf("split(%q) accepts what is not closed", source)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, seed := range []string{"---\na: 1\n---\n\nbody\n", "---\n---", "x", "---\r\n---\r\n\r\n", "---\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		front, body, line, found, err := split(source)
		if err != nil {
			return
		}
		source = strings.TrimPrefix(source, "\ufeff")
		if !strings.HasSuffix(source, body) || found && !strings.Contains(source, front) {
			t.Fatalf("split(%q) = %q, %q: not parts of it", source, front, body)
		}
		if before := source[:len(source)-len(body)]; body != "" && strings.Count(before, "\n") != line-1 {
			t.Fatalf("split(%q): body %q is said to begin at line %d", source, body, line)
		}
	})
}

func FuzzPapers(f *testing.F) {
	f.Add(`{"schema":1,"direction":"forward","changes":[{"path":"a/b","after":"sha256:` + strings.Repeat("0", 64) + `"}],"manifest":{"schema":1,"files":{"a/b":""}}}`)
	f.Add(`{"schema":1,"direction":"back","changes":[{"path":"../b"}]}`)
	f.Add(`{"changes":[{"path":".git/config"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var j journal
		if json.Unmarshal([]byte(text), &j) != nil || j.check() != nil {
			return
		}
		for _, c := range j.Changes {
			if _, err := cleanPath(c.Path, true); err != nil {
				t.Fatalf("accepted %q: %v", c.Path, err)
			}
		}
	})
}

func FuzzUnpack(f *testing.F) {
	var good bytes.Buffer
	if err := state.Pack(f.Context(), &good, os.DirFS("testdata/shop"), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	var bad bytes.Buffer
	w := tar.NewWriter(&bad)
	for _, h := range []tar.Header{{Name: "../x", Typeflag: tar.TypeReg}, {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/"}} {
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(bad.Bytes())
	f.Fuzz(func(t *testing.T, archive []byte) {
		files, err := unpack(archive)
		if err != nil {
			return
		}
		err = fs.WalkDir(files, ".", func(name string, _ fs.DirEntry, err error) error {
			if !fs.ValidPath(name) {
				t.Errorf("path %q", name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestTreeIsAFileSystem lets the standard library judge the file system in memory.
func TestTreeIsAFileSystem(t *testing.T) {
	t.Parallel()
	files := newTree()
	for _, name := range []string{"a", "b/c/d", "b/e", "z/y"} {
		files.add(name, []byte(name), 0o644)
	}
	files.index()
	if err := fstest.TestFS(files, "a", "b/c/d", "b/e", "z/y"); err != nil {
		t.Error(err)
	}
}
