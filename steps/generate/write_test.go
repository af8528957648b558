package generate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// planFor returns a plan of the given files.
func planFor(files map[string]string) *Plan {
	p := &Plan{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := []byte(files[name])
		p.Files = append(p.Files, File{Path: name, Mode: modeOf(content), Content: content, Template: "pkg:x.tmpl"})
	}
	return p
}

// contents reads all files below dir but the papers of the writer.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if name == ".ggen" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		got[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantContents(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	if got := contents(t, dir); !maps.Equal(got, want) {
		t.Errorf("directory has %v; want %v", got, want)
	}
}

func write(t *testing.T, dir string, files map[string]string) Changes {
	t.Helper()
	changes, err := Write(t.Context(), dir, planFor(files), WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantNoTraces(t, dir)
	return changes
}

// generated makes dir look as a write of the files left it, without its syncs.
func generated(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	m := manifest{Schema: paperSchema, Files: map[string]state.Digest{}}
	for name, content := range files {
		put(t, dir, name, content)
		m.Files[name] = state.DigestOf([]byte(content))
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, manifestFile, string(b))
}

// wantNoTraces checks that only manifest, base of merges and lock are left of a write.
func wantNoTraces(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, workDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{"manifest.json", "base.tar", "lock"}, e.Name()) {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestWriteCreatesUpdatesRemoves(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "out")
	first := map[string]string{"main.go": "1", "a/b/c.txt": "c", "a/x.txt": "x", "run.sh": "#!/bin/sh\n"}
	if c := write(t, dir, first); len(c.Created) != 4 {
		t.Errorf("changes %+v; want 4 created", c)
	}
	wantContents(t, dir, first)
	if info, err := os.Stat(filepath.Join(dir, "run.sh")); err != nil || keepsModes && info.Mode().Perm()&0o100 == 0 {
		t.Errorf("run.sh is not executable: %v, %v", info.Mode(), err)
	}
	if c := write(t, dir, first); len(c.Unchanged) != 4 || len(c.Created)+len(c.Updated)+len(c.Removed) != 0 {
		t.Errorf("second write: changes %+v; want 4 unchanged", c)
	}
	second := map[string]string{"main.go": "2", "a/x.txt": "x", "n/new": "n"}
	c := write(t, dir, second)
	if !slices.Equal(c.Removed, []string{"a/b/c.txt", "run.sh"}) || !slices.Equal(c.Updated, []string{"main.go"}) || !slices.Equal(c.Created, []string{"n/new"}) {
		t.Errorf("third write: changes %+v", c)
	}
	wantContents(t, dir, second)
	if _, err := os.Stat(filepath.Join(dir, "a/b")); !os.IsNotExist(err) {
		t.Errorf("folder a/b was left empty: %v", err)
	}
}

func TestWriteTurnsFilesIntoFoldersAndBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, files := range []map[string]string{{"a": "file"}, {"a/b/c": "deep", "a/d": "d"}, {"a/b": "shallow"}, {"a": "file"}} {
		write(t, dir, files)
		wantContents(t, dir, files)
	}
}

func TestWriteKeepsHandEdits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"edited": "1", "same": "1", "edited-and-gone": "1"})
	put(t, dir, "edited", "by hand")
	put(t, dir, "edited-and-gone", "by hand")
	put(t, dir, "own", "mine")
	_, err := Write(t.Context(), dir, planFor(map[string]string{"edited": "2", "same": "2", "own": "2"}), WriteOptions{})
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "not generated: edited, own") {
		t.Fatalf("err = %v; want a finding that names edited and own", err)
	}
	wantContents(t, dir, map[string]string{"edited": "by hand", "same": "1", "edited-and-gone": "by hand", "own": "mine"})

	p := planFor(map[string]string{"edited": "2", "same": "2", "own": "2"})
	p.Files[0].Force = true        // edited: the template overwrites
	p.Files[1].UnlessExists = true // own: the template leaves it
	c, err := Write(t.Context(), dir, p, WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Skipped, []string{"own"}) || !slices.Equal(c.Kept, []string{"edited-and-gone"}) {
		t.Errorf("changes %+v", c)
	}
	wantContents(t, dir, map[string]string{"edited": "2", "same": "2", "edited-and-gone": "by hand", "own": "mine"})

	// A file that was skipped is a person's: it is not removed when the template goes.
	write(t, dir, map[string]string{"same": "2"})
	wantContents(t, dir, map[string]string{"same": "2", "edited-and-gone": "by hand", "own": "mine"})

	if _, err := Write(t.Context(), dir, planFor(map[string]string{"own": "3"}), WriteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	wantContents(t, dir, map[string]string{"own": "3", "edited-and-gone": "by hand"})
}

func TestWriteRefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("making links needs a privilege on Windows")
	}
	outside := t.TempDir()
	put(t, outside, "victim", "safe")
	for name, set := range map[string]func(dir string) error{
		"linked file":       func(dir string) error { return os.Symlink(filepath.Join(outside, "victim"), filepath.Join(dir, "f")) },
		"dangling link":     func(dir string) error { return os.Symlink("nowhere", filepath.Join(dir, "f")) },
		"linked parent":     func(dir string) error { return os.Symlink(outside, filepath.Join(dir, "sub")) },
		"inner link":        func(dir string) error { return os.Symlink(".", filepath.Join(dir, "sub")) },
		"folder":            func(dir string) error { return os.MkdirAll(filepath.Join(dir, "f", "x"), 0o755) },
		"file for a parent": func(dir string) error { return os.WriteFile(filepath.Join(dir, "sub"), nil, 0o644) },
		"linked papers":     func(dir string) error { return os.Symlink(outside, filepath.Join(dir, ".ggen")) },
	} {
		dir := t.TempDir()
		if err := set(dir); err != nil {
			t.Fatal(err)
		}
		for _, force := range []bool{false, true} {
			_, err := Write(t.Context(), dir, planFor(map[string]string{"f": "x", "sub/victim": "x", "other": "x"}), WriteOptions{Force: force})
			if fault.KindOf(err) != fault.Finding {
				t.Errorf("%s: err = %v; want a finding", name, err)
			}
			if _, err := os.Lstat(filepath.Join(dir, "other")); !os.IsNotExist(err) {
				t.Errorf("%s: other was written all the same", name)
			}
		}
	}
	wantContents(t, outside, map[string]string{"victim": "safe"})
}

func TestWriteTakesFailureBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := map[string]string{"a": "1", "b/c": "1", "z": "1", "gone": "1"}
	write(t, dir, old)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s, err := newSurvey(t.Context(), root, dir, planFor(map[string]string{"a": "2", "b/c": "2", "new/x": "2", "z": "2"}), WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// After the survey, and before its result is written, something takes the place of z.
	if err := os.Remove(filepath.Join(dir, "z")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "z", "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.commit(t.Context()); err == nil {
		t.Fatal("the write succeeded")
	}
	if err := os.RemoveAll(filepath.Join(dir, "z")); err != nil {
		t.Fatal(err)
	}
	// What could be taken back was; the person's doing at z stays.
	if _, err := Recover(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	delete(old, "z")
	wantContents(t, dir, old)
	wantNoTraces(t, dir)
}

// TestRecoverAtEveryChange stops a write after each of its changes, and a retreat
// after each of its steps, and lets Recover finish.
func TestRecoverAtEveryChange(t *testing.T) {
	t.Parallel()
	old := map[string]string{"a": "1", "b/c": "1", "b/d": "same", "f": "1", "gone/x": "1", "up/h": "1", "z": "1"}
	next := map[string]string{"a": "2", "b/c": "2", "b/d": "same", "f/g": "2", "new/deep/u": "2", "new/deep/v": "2", "new/y": "2", "up": "2", "z": "#!2"}
	const changes = 11 // f, gone/x and up/h removed; a, b/c, f/g, three below new, up, z written
	for done := range changes + 1 {
		for undone := -1; undone <= done; undone++ {
			dir := t.TempDir()
			generated(t, dir, old)
			interrupt(t, dir, next, done, undone)
			if kept, err := Recover(t.Context(), dir, nil); err != nil || len(kept) > 0 {
				t.Fatalf("after %d changes and %d steps back: %v, kept %v", done, undone, err, kept)
			}
			want := next
			if undone >= 0 {
				want = old
			}
			wantContents(t, dir, want)
			wantNoTraces(t, dir)
			// The manifest agrees with the tree: the next run needs no force.
			write(t, dir, map[string]string{"a": "3"})
			wantContents(t, dir, map[string]string{"a": "3"})
		}
	}
}

// interrupt stages and journals a write, makes the first changes of it, and, if
// undone is not negative, turns back for so many steps.
func interrupt(t *testing.T, dir string, files map[string]string, done, undone int) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := makeWorkDir(root, dir); err != nil {
		t.Fatal(err)
	}
	s, err := newSurvey(t.Context(), root, dir, planFor(files), WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	j := journal{Schema: paperSchema, Direction: forward, Changes: s.changes, Manifest: s.next}
	if _, err := s.stage(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	a := newApplier(root, s.changes, false)
	for i, c := range s.changes[:done] {
		if err := a.do(i, c); err != nil {
			t.Fatal(err)
		}
	}
	if undone >= 0 {
		j.Direction = back
		for i := range undone {
			number := len(s.changes) - 1 - i
			if err := a.undo(number, s.changes[number]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := writePaper(root, journalFile, j); err != nil {
		t.Fatal(err)
	}
}

func TestRecoverKeepsWhatChangedMeanwhile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "1", "b": "1"})
	interrupt(t, dir, map[string]string{"a": "2", "b": "2"}, 0, -1)
	put(t, dir, "a", "by hand")
	kept, err := Recover(t.Context(), dir, nil)
	if err != nil || !slices.Equal(kept, []string{"a"}) {
		t.Fatalf("kept %v, %v; want a", kept, err)
	}
	wantContents(t, dir, map[string]string{"a": "by hand", "b": "2"})
	if _, err := Write(t.Context(), dir, planFor(map[string]string{"a": "2", "b": "2"}), WriteOptions{}); fault.KindOf(err) != fault.Finding {
		t.Errorf("err = %v; want a finding about a", err)
	}
}

// TestNewFolderIsPlacedWhole sees a new folder come in one rename, and one that came
// up meanwhile file by file.
func TestNewFolderIsPlacedWhole(t *testing.T) {
	t.Parallel()
	files := map[string]string{"new/a": "1", "new/deep/b": "1", "new/deep/c": "1"}
	for name, meanwhile := range map[string]string{"whole": "", "file by file": "new/mine"} {
		dir := t.TempDir()
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := makeWorkDir(root, dir); err != nil {
			t.Fatal(err)
		}
		s, err := newSurvey(t.Context(), root, dir, planFor(files), WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.stage(t.Context(), journal{}); err != nil {
			t.Fatal(err)
		}
		want := maps.Clone(files)
		if meanwhile != "" {
			put(t, dir, meanwhile, "by hand")
			want[meanwhile] = "by hand"
		}
		a := newApplier(root, s.changes, false)
		if err := a.do(0, s.changes[0]); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := len(contents(t, dir)); meanwhile == "" && got != len(files) || meanwhile != "" && got != 2 {
			t.Errorf("%s: %d files after the first change", name, got)
		}
		for i, c := range s.changes[1:] {
			if err := a.do(i+1, c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		wantContents(t, dir, want)
		if err := root.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRecoverLooksIntoStagedFolders finds more in a staged folder than the journal
// names, as in a repository that came with one: none of it reaches the tree.
func TestRecoverLooksIntoStagedFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	interrupt(t, dir, map[string]string{"new/a": "1", "new/deep/b": "1"}, 0, -1)
	put(t, dir, stageName(0)+"/.git/config", "hostile")
	if _, err := Recover(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	wantContents(t, dir, map[string]string{"new/a": "1", "new/deep/b": "1"})

	dir = t.TempDir()
	interrupt(t, dir, map[string]string{"new/a": "1"}, 0, -1)
	put(t, dir, "secret/a", "1") // of the very content that is staged
	if err := os.RemoveAll(filepath.Join(dir, stageName(0))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../secret", filepath.Join(dir, stageName(0))); err != nil {
		t.Skip(err)
	}
	if _, err := Recover(t.Context(), dir, nil); err == nil {
		t.Error("a link among what is staged was followed")
	}
	wantContents(t, dir, map[string]string{"secret/a": "1"})
}

func TestRecoverRefusesHostilePapers(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"leaves the folder": `{"schema":1,"direction":"forward","changes":[{"path":"../x"}],"manifest":{"schema":1,"files":{}}}`,
		"into git":          `{"schema":1,"direction":"forward","changes":[{"path":".git/hooks/pre-commit"}],"manifest":{"schema":1,"files":{}}}`,
		"another folder":    `{"schema":1,"direction":"forward","changes":[{"path":"a/b","folder":"../x"}],"manifest":{"schema":1,"files":{}}}`,
		"manifest":          `{"schema":1,"direction":"forward","changes":[],"manifest":{"schema":1,"files":{"/etc/passwd":""}}}`,
		"direction":         `{"schema":1,"direction":"up","changes":[],"manifest":{"schema":1,"files":{}}}`,
		"schema":            `{"schema":9}`,
		"digest":            `{"schema":1,"direction":"forward","changes":[{"path":"x","after":"md5:0"}],"manifest":{"schema":1,"files":{}}}`,
		"no JSON":           `]`,
		"unknown field":     `{"schema":1,"run":"rm"}`,
	} {
		dir := t.TempDir()
		put(t, dir, journalFile, text)
		if _, err := Recover(t.Context(), dir, nil); fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: err = %v; want a finding", name, err)
		}
	}
	dir := t.TempDir()
	put(t, dir, manifestFile, `{"schema":1,"files":{".git/config":"sha256:`+strings.Repeat("0", 64)+`"}}`)
	if _, err := Write(t.Context(), dir, planFor(map[string]string{"a": "1"}), WriteOptions{}); fault.KindOf(err) != fault.Finding {
		t.Errorf("manifest: err = %v; want a finding", err)
	}
}

// TestRecoverFollowsNoLink plays a repository that brings a staged hook and a link
// to the folder it belongs to.
func TestRecoverFollowsNoLink(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("making links needs a privilege on Windows")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, ".git", "hooks"), 0o755); err != nil {
		t.Fatal(err)
	}
	interrupt(t, dir, map[string]string{"src/pre-commit": "#!/bin/sh\n"}, 0, -1)
	if err := os.Symlink(".git/hooks", filepath.Join(dir, "src")); err != nil {
		t.Fatal(err)
	}
	_, err := Recover(t.Context(), dir, nil)
	if fault.KindOf(err) != fault.Finding {
		t.Errorf("err = %v; want a finding", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, ".git", "hooks")); len(entries) > 0 {
		t.Errorf("%s was written", entries[0].Name())
	}
}

func TestWriteIsLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held := 0
	take := func(_ context.Context, path string) (func() error, error) {
		if want := filepath.Join(dir, filepath.FromSlash(lockFile)); path != want {
			t.Errorf("locks %s; want %s", path, want)
		}
		held++
		return func() error { held--; return nil }, nil
	}
	if _, err := Write(t.Context(), dir, planFor(map[string]string{"a": "1"}), WriteOptions{Lock: take}); err != nil {
		t.Fatal(err)
	}
	if held != 0 {
		t.Error("the lock is still held")
	}
	refuse := func(context.Context, string) (func() error, error) { return nil, fmt.Errorf("taken") }
	if _, err := Write(t.Context(), dir, planFor(map[string]string{"a": "2"}), WriteOptions{Lock: refuse}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("err = %v; want unavailable", err)
	}
	wantContents(t, dir, map[string]string{"a": "1"})
}

func TestWriteCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, dir, planFor(map[string]string{"a": "1"}), WriteOptions{}); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("err = %v (%s); want interrupted", err, fault.KindOf(err))
	}
	wantContents(t, dir, map[string]string{})
	wantNoTraces(t, dir)
}

func TestDiffShowsAndWritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "1\n", "gone": "g\n", "same": "s\n"})
	put(t, dir, "own", "mine\n")
	var buf bytes.Buffer
	err := Diff(t.Context(), &buf, dir, planFor(map[string]string{"a": "2\n", "same": "s\n", "new": "n\n", "own": "theirs\n"}), WriteOptions{})
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "own") {
		t.Errorf("err = %v; want the conflict about own", err)
	}
	want := "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-g\n" +
		"--- a/a\n+++ b/a\n@@ -1 +1 @@\n-1\n+2\n" +
		"--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+n\n" +
		"--- a/own\n+++ b/own\n@@ -1 +1 @@\n-mine\n+theirs\n"
	if buf.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &buf, want)
	}
	wantContents(t, dir, map[string]string{"a": "1\n", "gone": "g\n", "same": "s\n", "own": "mine\n"})

	missing := filepath.Join(dir, "not", "there")
	buf.Reset()
	if err := Diff(t.Context(), &buf, missing, planFor(map[string]string{"x": "y"}), WriteOptions{}); err != nil || buf.Len() == 0 {
		t.Errorf("diff with a missing folder: %v, %q", err, &buf)
	}
	if _, err := os.Stat(missing); !os.IsNotExist(err) {
		t.Error("the diff made the folder")
	}
}

func TestInParallelReturnsTheFirstError(t *testing.T) {
	t.Parallel()
	for range 50 {
		err := inParallel(t.Context(), maxWorkers, 100, func(_ context.Context, i int) error {
			if i%7 == 3 {
				return fmt.Errorf("job %d", i)
			}
			return nil
		})
		if err == nil || err.Error() != "job 3" {
			t.Fatalf("err = %v; want that of job 3", err)
		}
	}
}

// A link in place of the output directory, or between it and the project, would
// lead the write somewhere else.
func TestWriteRefusesLinksOnTheWay(t *testing.T) {
	t.Parallel()
	plan := planFor(map[string]string{"a.txt": "a"})
	for name, c := range map[string]struct {
		link, dir string // below the project
		within    bool
	}{
		"the directory":          {"service", "service", true},
		"with a slash":           {"service", "service/", true},
		"outside of a project":   {"service", "service", false},
		"a folder above":         {"services", "services/shop", true},
		"a folder above and new": {"services", "services/shop/new", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			project, outside := t.TempDir(), t.TempDir()
			if err := os.MkdirAll(filepath.Join(outside, "shop"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(project, c.link)); err != nil {
				t.Skip(err)
			}
			var opts WriteOptions
			if c.within {
				opts.Within = project
			}
			dir := project + "/" + c.dir
			_, err := Write(t.Context(), dir, plan, opts)
			if fault.KindOf(err) != fault.Finding || !strings.Contains(fmt.Sprint(err), "is a link") {
				t.Errorf("write: %v", err)
			}
			if err := Diff(t.Context(), &bytes.Buffer{}, dir, plan, opts); fault.KindOf(err) != fault.Finding {
				t.Errorf("diff: %v", err)
			}
			if left := contents(t, outside); len(left) > 0 {
				t.Errorf("written outside: %v", left)
			}
		})
	}
}

// The project's own directory may be reached by a link: it is where the user is.
func TestWriteBelowALinkedProject(t *testing.T) {
	t.Parallel()
	real, link := t.TempDir(), filepath.Join(t.TempDir(), "project")
	if err := os.Symlink(real, link); err != nil {
		t.Skip(err)
	}
	for _, dir := range []string{link, filepath.Join(link, "out", "deep")} {
		if _, err := Write(t.Context(), dir, planFor(map[string]string{"a.txt": "a"}), WriteOptions{Within: link}); err != nil {
			t.Error(err)
		}
		wantContents(t, dir, map[string]string{"a.txt": "a"})
		if err := os.RemoveAll(filepath.Join(real, ".ggen")); err != nil || os.Remove(filepath.Join(real, "a.txt")) != nil && dir == link {
			t.Errorf("not written to %s: %v", real, err)
		}
	}
}

// A file that is there and that no run removes is not met in another spelling.
func TestWriteRefusesOtherSpellings(t *testing.T) {
	t.Parallel()
	for there, planned := range map[string]string{"Readme.md": "README.md", "src/a.txt": "SRC/b.txt", "e\u0301.txt": "\u00e9.txt", "e\u0301/a.txt": "\u00e9/b.txt"} {
		dir := t.TempDir()
		put(t, dir, there, "mine")
		_, err := Write(t.Context(), dir, planFor(map[string]string{planned: "x", "other.txt": "x"}), WriteOptions{})
		if fault.KindOf(err) != fault.Finding {
			t.Errorf("%s beside %s: %v", planned, there, err)
		}
		edits := &Plan{Edits: []Edit{{Path: planned, Mode: Append, Text: "x"}}}
		if _, err := Write(t.Context(), dir, edits, WriteOptions{}); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "which is there") {
			t.Errorf("an edit of %s beside %s: %v", planned, there, err)
		}
		wantContents(t, dir, map[string]string{there: "mine"})
	}
	dir := t.TempDir()
	write(t, dir, map[string]string{"Readme.md": "x"})
	write(t, dir, map[string]string{"README.md": "x"}) // the old spelling goes
	wantContents(t, dir, map[string]string{"README.md": "x"})
}
