package generate

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const crashDirVariable = "ULTRAFAST_TEST_WRITE_DIR"

// crashSize is the number of files and of kills: many in the long form, where
// ULTRAFAST_LONG is set.
func crashSize() (files, kills int) {
	switch {
	case os.Getenv("ULTRAFAST_LONG") != "":
		return 1000, 30
	case testing.Short():
		return 300, 6
	default:
		return 300, 16
	}
}

func crashTree(generation string) map[string]string {
	files := map[string]string{}
	n, _ := crashSize()
	for i := range n {
		content := fmt.Sprintf("file %d of generation %s\n", i, generation)
		name := fmt.Sprintf("dir%02d/file%03d.txt", i%17, i)
		switch {
		case i%10 == 0: // each generation has files of its own
			name = fmt.Sprintf("only-%s/part%d/file%03d.txt", generation, i%3, i)
		case i%10 == 1: // and some that never change
			content = "constant\n"
		}
		files[name] = content
	}
	return files
}

// TestWriterChild is the process that [TestKilledWrite] kills.
func TestWriterChild(t *testing.T) {
	dir := os.Getenv(crashDirVariable)
	if dir == "" {
		t.Skip("runs in a child process only")
	}
	fmt.Println("ready")
	if _, err := Write(t.Context(), dir, planFor(crashTree("new")), WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("done")
}

// TestKilledWrite kills a writer at random moments: after Recover the tree is
// wholly the old or wholly the new one, and the next run needs no force.
func TestKilledWrite(t *testing.T) {
	t.Parallel()
	_, kills := crashSize()
	old, next := crashTree("old"), crashTree("new")
	duration := killedWrite(t, 0, old, next) // undisturbed, to learn how long it takes
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	before, after := 0, 0
	for range kills {
		moment := time.Duration(random.Int64N(int64(duration) + int64(duration)/8))
		dir := t.TempDir()
		generated(t, dir, old)
		startAndKill(t, dir, moment)
		if _, err := Recover(t.Context(), dir, nil); err != nil {
			t.Fatalf("killed after %v: %v", moment, err)
		}
		switch got := contents(t, dir); {
		case maps.Equal(got, old):
			before++
		case maps.Equal(got, next):
			after++
		default:
			t.Fatalf("killed after %v: the tree is neither the old nor the new one", moment)
		}
		if _, err := os.Stat(filepath.Join(dir, workDir)); err == nil {
			wantNoTraces(t, dir)
			wantBase(t, dir)
		}
		// The manifest agrees with the tree: nothing in it is taken for a person's.
		last := map[string]string{"dir02/file002.txt": "again\n"}
		if changes := write(t, dir, last); len(changes.Kept) > 0 {
			t.Fatalf("killed after %v: %v are taken for changed by hand", moment, changes.Kept)
		}
		wantContents(t, dir, last)
	}
	t.Logf("a write takes %v; of %d killed ones %d were taken back and %d completed", duration, kills, before, after)
}

// wantBase checks that the base of a later merge is the one that the manifest names.
func wantBase(t *testing.T, dir string) {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m, err := readManifest(root)
	if err != nil {
		t.Fatal(err)
	}
	if digest, err := digestAt(root, baseFile); err != nil || digest != m.Base {
		t.Fatalf("the base is %s, %v; the manifest says %s", digest, err, m.Base)
	}
}

func killedWrite(t *testing.T, moment time.Duration, old, next map[string]string) time.Duration {
	t.Helper()
	dir := t.TempDir()
	generated(t, dir, old)
	took := startAndKill(t, dir, moment)
	wantContents(t, dir, next)
	return took
}

// startAndKill runs the child and kills it so long after it began to write; zero
// lets it end. It returns how long the write took.
func startAndKill(t *testing.T, dir string, moment time.Duration) time.Duration {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriterChild$")
	child.Env = append(os.Environ(), crashDirVariable+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	began := time.Now()
	if moment > 0 {
		timer := time.AfterFunc(moment, func() { _ = child.Process.Kill() })
		defer timer.Stop()
	}
	said, err := lines.ReadString('\n')
	took := time.Since(began)
	if moment == 0 && (said != "done\n" || err != nil) {
		t.Fatalf("the child says %q, %v", said, err)
	}
	_, _ = io.Copy(io.Discard, lines)
	_ = child.Wait() // a killed child is what was asked for
	return took
}
