package difference

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnified(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, before, after, want string }{
		{"same", "a\n", "a\n", ""},
		{"one line", "a\nb\nc\n", "a\nB\nc\n", "--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
		{"no newline", "a\nb", "a\nb\n", "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"},
		{"emptied", "a\n", "", "--- a/f\n+++ b/f\n@@ -1 +0,0 @@\n-a\n"},
		{"two hunks", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "0\n2\n3\n4\n5\n6\n7\n8\n0\n",
			"--- a/f\n+++ b/f\n@@ -1,4 +1,4 @@\n-1\n+0\n 2\n 3\n 4\n@@ -6,4 +6,4 @@\n 6\n 7\n 8\n-9\n+0\n"},
		{"binary", "a\x00", "b", "Binary files a/f and b/f differ\n"},
	} {
		var buf bytes.Buffer
		if err := Unified(&buf, "f", "f", []byte(c.before), []byte(c.after)); err != nil {
			t.Fatal(err)
		}
		if buf.String() != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, &buf, c.want)
		}
	}
	var buf bytes.Buffer
	if err := Unified(&buf, "", "new", nil, []byte("x\n")); err != nil {
		t.Fatal(err)
	}
	if want := "--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n"; buf.String() != want {
		t.Errorf("creation: got\n%s", &buf)
	}
}

// TestUnifiedApplies lets patch(1), where there is one, make the new text of the
// old and the diff.
func TestUnifiedApplies(t *testing.T) {
	t.Parallel()
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("patch is not installed")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		before, after := randomText(random), randomText(random)
		dir := t.TempDir()
		file := filepath.Join(dir, "f")
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		var diff bytes.Buffer
		if err := Unified(&diff, "f", "f", []byte(before), []byte(after)); err != nil {
			t.Fatal(err)
		}
		if diff.Len() == 0 {
			continue
		}
		cmd := exec.Command(patch, "-s", "-p1")
		cmd.Dir, cmd.Stdin = dir, bytes.NewReader(diff.Bytes())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("patch: %v\n%s\n%s", err, out, &diff)
		}
		got, err := os.ReadFile(file)
		if err != nil && after != "" { // patch removes a file that becomes empty
			t.Fatal(err)
		}
		if string(got) != after {
			t.Fatalf("patched %q to %q; want %q\n%s", before, got, after, &diff)
		}
	}
}

// TestEditsRebuild checks without any tool that the edits lead from one text to the other.
func TestEditsRebuild(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		before, after := randomText(random), randomText(random)
		a, b := lines([]byte(before)), lines([]byte(after))
		var got bytes.Buffer
		nextA, nextB := 0, 0
		for _, e := range edits(a, b) {
			if e.a0 != nextA || e.b0 != nextB {
				t.Fatalf("edits of %q to %q leave a gap: %+v", before, after, e)
			}
			nextA, nextB = e.a1, e.b1
			if e.equal && !bytes.Equal(bytes.Join(a[e.a0:e.a1], nil), bytes.Join(b[e.b0:e.b1], nil)) {
				t.Fatalf("edits of %q to %q call different lines equal: %+v", before, after, e)
			}
			got.Write(bytes.Join(b[e.b0:e.b1], nil))
		}
		if got.String() != after || nextA != len(a) {
			t.Fatalf("edits of %q make %q; want %q", before, &got, after)
		}
	}
}

func TestUnifiedIsBounded(t *testing.T) {
	t.Parallel()
	before := strings.Repeat("a\nb\n", 40_000)
	after := strings.Repeat("c\nd\n", 40_000)
	var buf bytes.Buffer
	if err := Unified(&buf, "f", "f", []byte(before), []byte(after)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(buf.String(), "--- a/f\n+++ b/f\n@@ -1,80000 +1,80000 @@\n") {
		t.Errorf("begins with %.80q", buf.String())
	}
}

func randomText(random *rand.Rand) string {
	var b strings.Builder
	for range random.IntN(14) {
		b.WriteString(string(rune('a' + random.IntN(3))))
		b.WriteByte('\n')
	}
	s := b.String()
	if random.IntN(4) == 0 {
		s = strings.TrimSuffix(s, "\n")
	}
	return s
}
