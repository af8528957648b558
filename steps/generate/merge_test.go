package generate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// merge writes files over dir with the option to merge.
func merge(t *testing.T, dir string, files map[string]string) Changes {
	t.Helper()
	changes, err := Write(t.Context(), dir, planFor(files), WriteOptions{Merge: true})
	if err != nil {
		t.Fatal(err)
	}
	return changes
}

const mergedFirst = "one\ntwo\nthree\nfour\nfive\n"

func TestWriteMerges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.txt": mergedFirst, "b.txt": mergedFirst, "c.txt": "c\n"})
	put(t, dir, "a.txt", strings.Replace(mergedFirst, "one", "ONE", 1))
	put(t, dir, "b.txt", strings.Replace(mergedFirst, "one", "ONE", 1))

	second := map[string]string{"a.txt": strings.Replace(mergedFirst, "five", "5", 1), "b.txt": mergedFirst, "c.txt": "c2\n"}
	changes := merge(t, dir, second)
	if !slices.Equal(changes.Merged, []string{"a.txt"}) || !slices.Equal(changes.Kept, []string{"b.txt"}) || len(changes.Conflicts) > 0 {
		t.Errorf("%+v", changes)
	}
	want := map[string]string{"a.txt": "ONE\ntwo\nthree\nfour\n5\n", "b.txt": "ONE\ntwo\nthree\nfour\nfive\n", "c.txt": "c2\n"}
	wantContents(t, dir, want)

	// The next merge begins where this one ended, and without --merge both are a person's.
	second["a.txt"] = strings.Replace(second["a.txt"], "three", "3", 1)
	if _, err := Write(t.Context(), dir, planFor(second), WriteOptions{}); fault.KindOf(err) != fault.Finding {
		t.Fatalf("err = %v", err)
	}
	merge(t, dir, second)
	want["a.txt"] = "ONE\ntwo\n3\nfour\n5\n"
	wantContents(t, dir, want)
	if again := merge(t, dir, second); len(again.Merged) > 0 {
		t.Errorf("merging the same again changes %v", again.Merged)
	}
	wantContents(t, dir, want)
}

func TestWriteMarksConflicts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.txt": mergedFirst, "bin": "a\x00b", "gone.txt": "x\n", "away.txt": "x\n"})
	put(t, dir, "a.txt", strings.Replace(mergedFirst, "two", "TWO", 1))
	put(t, dir, "bin", "a\x00c")
	for _, name := range []string{"gone.txt", "away.txt"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	second := map[string]string{"a.txt": strings.Replace(mergedFirst, "two", "2", 1), "bin": "a\x00d", "gone.txt": "y\n", "away.txt": "x\n"}
	changes := merge(t, dir, second)
	wantContents(t, dir, map[string]string{
		"a.txt": "one\n<<<<<<< yours\nTWO\n=======\n2\n>>>>>>> generated\nthree\nfour\nfive\n", "bin": "a\x00c", "gone.txt": "y\n",
	})
	var paths []string
	for _, c := range changes.Conflicts {
		paths = append(paths, c.Path)
	}
	slices.Sort(paths)
	if err := changes.Unmerged(dir); !slices.Equal(paths, []string{"a.txt", "bin", "gone.txt"}) || fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "a.txt:2") {
		t.Errorf("%+v, %v", changes.Conflicts, err)
	}

	// Nothing is written while the marks are there.
	second["gone.txt"] = "z\n"
	_, err := Write(t.Context(), dir, planFor(second), WriteOptions{Merge: true})
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "a.txt still has conflicts") {
		t.Errorf("err = %v", err)
	}
	if got := contents(t, dir)["gone.txt"]; got != "y\n" {
		t.Errorf("gone.txt is %q", got)
	}
	put(t, dir, "a.txt", strings.Replace(mergedFirst, "two", "TWO and 2", 1))
	if changes = merge(t, dir, second); len(changes.Conflicts) > 0 {
		t.Errorf("%+v", changes.Conflicts)
	}
}

// TestMergeKeepsFrozenRegions merges around a region that a person changed.
func TestMergeKeepsFrozenRegions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := func(text string) string {
		return "---\nto: a.txt\n---\n" + text + "\n{% startfreeze id=\"r\" %}region " + text + "{% endfreeze %}\nlast\n"
	}
	if _, err := edited(t, dir, source("v1"), nil); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "frozen/r", "mine")
	put(t, dir, "a.txt", "v1\nregion v1\nlast\nmore\n")
	_, plan, err := one(t, source("v2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if changes, err := Write(t.Context(), dir, plan, WriteOptions{Merge: true}); err != nil || len(changes.Conflicts) > 0 {
		t.Fatalf("%+v, %v", changes, err)
	}
	wantContents(t, dir, map[string]string{"a.txt": "v2\nmine\nlast\nmore\n", "frozen/r": "mine"})
}

// TestMergeWithoutBase has both versions whole where it is not known what was changed.
func TestMergeWithoutBase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put(t, dir, "a.txt", "mine\nsame\n")
	changes := merge(t, dir, map[string]string{"a.txt": "generated\nsame\n"})
	wantContents(t, dir, map[string]string{"a.txt": "<<<<<<< yours\nmine\n=======\ngenerated\n>>>>>>> generated\nsame\n"})
	if len(changes.Conflicts) != 1 {
		t.Errorf("%+v", changes)
	}
	dir = t.TempDir()
	write(t, dir, map[string]string{"a.txt": "1\n"})
	put(t, dir, "a.txt", "2\n")
	put(t, dir, baseFile, "damaged")
	if _, err := Write(t.Context(), dir, planFor(map[string]string{"a.txt": "3\n"}), WriteOptions{Merge: true}); fault.KindOf(err) != fault.Finding {
		t.Errorf("err = %v", err)
	}
}

// TestMergePrefers has one side win: of lines, of files that are no text, and of files
// that a person removed.
func TestMergePrefers(t *testing.T) {
	t.Parallel()
	base := map[string]string{"lines": "1\n2\n3\n", "binary": "\x00a", "removed": "1\n", "same": "1\n"}
	next := map[string]string{"lines": "1\ny\n3\n", "binary": "\x00c", "removed": "2\n", "same": "1\n"}
	for prefer, want := range map[Prefer]map[string]string{
		PreferManual:    {"lines": "1\nx\n3\n", "binary": "\x00b", "same": "1\n"},
		PreferGenerated: {"lines": "1\ny\n3\n", "binary": "\x00c", "removed": "2\n", "same": "1\n"},
	} {
		for _, given := range []bool{false, true} {
			dir := t.TempDir()
			opts := WriteOptions{Merge: true, Prefer: prefer}
			if given { // nothing is known of the last write but its tree
				earlier := t.TempDir()
				for name, content := range base {
					put(t, dir, name, content)
					put(t, earlier, name, content)
				}
				put(t, earlier, ".git/config", "not of the tree")
				opts.Base = os.DirFS(earlier)
			} else {
				write(t, dir, base)
			}
			put(t, dir, "lines", "1\nx\n3\n")
			put(t, dir, "binary", "\x00b")
			if err := os.Remove(filepath.Join(dir, "removed")); err != nil {
				t.Fatal(err)
			}
			changes, err := Write(t.Context(), dir, planFor(next), opts)
			if err != nil || len(changes.Conflicts) > 0 || len(changes.Settled) != 3 {
				t.Errorf("%s, %t: %+v, %v", prefer, given, changes, err)
			}
			wantContents(t, dir, want)
			wantNoTraces(t, dir)
			// What won is not in conflict again.
			changes, err = Write(t.Context(), dir, planFor(next), WriteOptions{Merge: true})
			if err != nil || len(changes.Conflicts) > 0 {
				t.Errorf("%s, %t, again: %+v, %v", prefer, given, changes, err)
			}
			wantContents(t, dir, want)
		}
	}
}

// TestChangesInWords: what a write did is counted once for each file, and the list is bounded.
func TestChangesInWords(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("f%02d", i))
	}
	for _, c := range []struct {
		changes Changes
		want    string
	}{
		{Changes{}, "no files"},
		{Changes{Merged: []string{"a", "b"}, Conflicts: []Conflict{{Path: "b"}}}, "1 in conflict (b), 1 merged (a)"},
		{Changes{Created: []string{"a"}, Conflicts: []Conflict{{Path: "a"}}}, "1 in conflict (a)"},
		{Changes{Updated: []string{"a", "b"}, Edited: []string{"b"}, Kept: []string{"c"}}, "1 edited in place (b), 1 changed, 1 kept as yours"},
		{Changes{Merged: many}, "12 merged (f00, f01, f02, f03, f04, f05, f06, f07, f08, f09 and 2 more)"},
	} {
		if got := c.changes.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
