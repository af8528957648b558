package difference

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	t.Parallel()
	const base = "1\n2\n3\n4\n5\n"
	for name, c := range map[string]struct {
		base, ours, theirs, want string
		conflicts                []int
	}{
		"nothing":             {base, base, base, base, nil},
		"ours":                {base, "1\nx\n3\n4\n5\n", base, "1\nx\n3\n4\n5\n", nil},
		"theirs":              {base, base, "1\n2\n3\n4\ny\n", "1\n2\n3\n4\ny\n", nil},
		"both":                {base, "0\n1\n2\n3\n4\n5\n", "1\n2\n3\n4\n5\n6\n", "0\n1\n2\n3\n4\n5\n6\n", nil},
		"the same":            {base, "1\nx\n3\n4\n5\n", "1\nx\n3\n4\n5\n", "1\nx\n3\n4\n5\n", nil},
		"removed and kept":    {base, "1\n5\n", base, "1\n5\n", nil},
		"different":           {base, "1\nx\n3\n4\n5\n", "1\ny\n3\n4\n5\n", "1\n<<<<<<< o\nx\n=======\ny\n>>>>>>> t\n3\n4\n5\n", []int{2}},
		"touching":            {base, "1\nx\n3\n4\n5\n", "1\n2\ny\n4\n5\n", "1\n<<<<<<< o\nx\n3\n=======\n2\ny\n>>>>>>> t\n4\n5\n", []int{2}},
		"same ends":           {base, "1\na\nx\nb\n5\n", "1\na\ny\nb\n5\n", "1\na\n<<<<<<< o\nx\n=======\ny\n>>>>>>> t\nb\n5\n", []int{3}},
		"removed and changed": {base, "1\n5\n", "1\n2\nx\n4\n5\n", "1\n<<<<<<< o\n=======\n2\nx\n4\n>>>>>>> t\n5\n", []int{2}},
		"no base":             {"", "a\n", "b\n", "<<<<<<< o\na\n=======\nb\n>>>>>>> t\n", []int{1}},
		"no last newline":     {"a", "b", "c", "<<<<<<< o\nb\n=======\nc\n>>>>>>> t\n", []int{1}},
		"carriage returns":    {"a\r\n", "b\r\n", "c\r\n", "<<<<<<< o\r\nb\r\n=======\r\nc\r\n>>>>>>> t\r\n", []int{1}},
		"two":                 {"a\n1\n2\nb\n", "x\n1\n2\nx\n", "y\n1\n2\ny\n", "<<<<<<< o\nx\n=======\ny\n>>>>>>> t\n1\n2\n<<<<<<< o\nx\n=======\ny\n>>>>>>> t\n", []int{1, 8}},
	} {
		got, conflicts := Merge([]byte(c.base), []byte(c.ours), []byte(c.theirs), "o", "t")
		if string(got) != c.want || !slices.Equal(conflicts, c.conflicts) {
			t.Errorf("%s: %q, %v\nwant %q, %v", name, got, conflicts, c.want, c.conflicts)
		}
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	const base = "1\n2\n3\n4\n5\n"
	for name, c := range map[string]struct {
		base, ours, theirs, our, their string
		at                             []int
	}{
		"nothing":         {base, base, base, base, base, nil},
		"different":       {base, "1\nx\n3\n4\n5\n6\n", "0\n1\ny\n3\n4\n5\n", "0\n1\nx\n3\n4\n5\n6\n", "0\n1\ny\n3\n4\n5\n6\n", []int{3}},
		"removed":         {base, "1\n5\n", "1\n2\nx\n4\n5\n", "1\n5\n", "1\n2\nx\n4\n5\n", []int{2}},
		"same ends":       {base, "1\na\nx\nb\n5\n", "1\na\ny\nb\n5\n", "1\na\nx\nb\n5\n", "1\na\ny\nb\n5\n", []int{3}},
		"no last newline": {"a", "b", "c", "b", "c", []int{1}},
		"two":             {"a\n1\n2\nb\n", "x\n1\n2\nx\n", "y\n1\n2\ny\n", "x\n1\n2\nx\n", "y\n1\n2\ny\n", []int{1, 4}},
	} {
		for winner, want := range map[Winner]string{Ours: c.our, Theirs: c.their} {
			got, at := Settle([]byte(c.base), []byte(c.ours), []byte(c.theirs), winner)
			if string(got) != want || !slices.Equal(at, c.at) {
				t.Errorf("%s, %d wins: %q, %v; want %q, %v", name, winner, got, at, want, c.at)
			}
		}
	}
}

// laws hold for every merge of three texts.
func laws(t *testing.T, base, ours, theirs []byte) {
	t.Helper()
	same := func(what string, got []byte, conflicts []int, want []byte) {
		if !bytes.Equal(got, want) || len(conflicts) > 0 {
			t.Fatalf("%s of %q: %q with conflicts %v; want %q", what, base, got, conflicts, want)
		}
	}
	got, conflicts := Merge(base, ours, base, "o", "t")
	same("their nothing", got, conflicts, ours)
	got, conflicts = Merge(base, base, theirs, "o", "t")
	same("our nothing", got, conflicts, theirs)
	got, conflicts = Merge(base, ours, ours, "o", "t")
	same("the same", got, conflicts, ours)
	got, conflicts = Merge(base, ours, theirs, "o", "t")
	turned, others := Merge(base, theirs, ours, "t", "o")
	if len(conflicts) != len(others) || len(conflicts) == 0 && !bytes.Equal(got, turned) {
		t.Fatalf("merging %q and %q into %q depends on their order: %q, %q", ours, theirs, base, got, turned)
	}
	for _, winner := range []Winner{Ours, Theirs} {
		settled, places := Settle(base, ours, theirs, winner)
		if len(places) != len(conflicts) || len(conflicts) == 0 && !bytes.Equal(settled, got) {
			t.Fatalf("settling %q and %q into %q: %q, %v; merging them %v", ours, theirs, base, settled, places, conflicts)
		}
	}
	all := bytes.Split(got, []byte("\n"))
	for _, line := range conflicts {
		if !bytes.HasPrefix(all[line-1], []byte(MarkOurs+"o")) {
			t.Fatalf("line %d of %q is no mark", line, got)
		}
	}
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte("1\n2\n3\n"), []byte("1\nx\n3\n"), []byte("1\n2\n3\n4\n"))
	f.Add([]byte(""), []byte("a"), []byte("b\r\n"))
	f.Add([]byte("a\na\na\n"), []byte("a\n"), []byte("a\na\nb\na\n"))
	f.Fuzz(func(t *testing.T, base, ours, theirs []byte) { laws(t, base, ours, theirs) })
}

// changed returns base with some lines replaced, removed or added.
func changed(random *rand.Rand, base []string, mark string) []string {
	var out []string
	for _, line := range base {
		switch random.IntN(12) {
		case 0:
			continue
		case 1:
			line = fmt.Sprintf("%s%d", mark, random.IntN(3))
		case 2:
			out = append(out, fmt.Sprintf("%s%d", mark, random.IntN(3)))
		}
		out = append(out, line)
	}
	return out
}

// TestMergeAgainstGit compares with git merge-file: where the lines of the base are
// all different, it is clear what was changed, and both see the same conflicts.
func TestMergeAgainstGit(t *testing.T) {
	t.Parallel()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not installed")
	}
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	rounds := 300
	if testing.Short() {
		rounds = 40
	}
	clean, marked := 0, 0
	for range rounds {
		var base []string
		for i := range 5 + random.IntN(25) {
			base = append(base, fmt.Sprintf("line %d", i))
		}
		texts := map[string][]string{"base": base, "ours": changed(random, base, "o"), "theirs": changed(random, base, "t")}
		var all [3][]byte
		var paths []string
		for i, name := range []string{"ours", "base", "theirs"} {
			all[i] = []byte(strings.Join(texts[name], "\n") + "\n")
			paths = append(paths, filepath.Join(dir, name))
			if err := os.WriteFile(paths[i], all[i], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := exec.CommandContext(t.Context(), git, append([]string{"merge-file", "-p", "-q", "-L", "ours", "-L", "base", "-L", "theirs"}, paths...)...).Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		laws(t, all[1], all[0], all[2])
		got, conflicts := Merge(all[1], all[0], all[2], "ours", "theirs")
		if !bytes.Equal(got, want) && !closer(got, want) {
			t.Fatalf("base %q\nours %q\ntheirs %q\ngot\n%s\ngit\n%s", all[1], all[0], all[2], got, want)
		}
		if len(conflicts) > 0 {
			marked++
		} else {
			clean++
		}
	}
	if clean < rounds/20 || marked < rounds/20 {
		t.Errorf("%d clean merges, %d with conflicts: the cases are one-sided", clean, marked)
	}
	t.Logf("%d merges without and %d with conflicts are those of git", clean, marked)
}

// closer reports whether two merges differ only in how finely conflicts are cut:
// resolved for either side they are the same.
func closer(a, b []byte) bool {
	return resolved(a, true) == resolved(b, true) && resolved(a, false) == resolved(b, false) &&
		bytes.Contains(a, []byte(MarkOurs)) == bytes.Contains(b, []byte(MarkOurs))
}

// resolved takes one side of every conflict.
func resolved(text []byte, ours bool) string {
	var out []string
	inOurs, inTheirs := false, false
	for line := range strings.SplitSeq(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, MarkOurs):
			inOurs = true
		case line == markMiddle:
			inOurs, inTheirs = false, true
		case strings.HasPrefix(line, MarkTheirs):
			inTheirs = false
		case inOurs && !ours, inTheirs && ours:
		default:
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
