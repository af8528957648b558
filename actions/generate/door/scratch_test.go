package door

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSweepScratch removes what has no owner, and nothing else.
func TestSweepScratch(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	live, err := newScratch(t.Context(), temp)
	if err != nil {
		t.Fatal(err)
	}
	gone, err := newScratch(t.Context(), temp)
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.held.Release(); err != nil { // as the kernel does for a killed process
		t.Fatal(err)
	}
	for _, name := range []string{scratchPrefix + "young", scratchPrefix + "old", "other-old"} {
		if err := os.Mkdir(filepath.Join(temp, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * youth)
	for _, name := range []string{scratchPrefix + "old", "other-old"} {
		if err := os.Chtimes(filepath.Join(temp, name), past, past); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("other-old", filepath.Join(temp, scratchPrefix+"link")); err != nil {
		t.Log(err) // Windows asks for a right
	}
	if err := sweepScratch(t.Context(), temp, time.Now()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		filepath.Base(live.dir): true, filepath.Base(gone.dir): false,
		scratchPrefix + "young": true, scratchPrefix + "old": false, "other-old": true,
	} {
		if _, err := os.Lstat(filepath.Join(temp, name)); (err == nil) != want {
			t.Errorf("%s is there: %t; want %t", name, err == nil, want)
		}
	}
	if err := live.remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(live.dir); err == nil {
		t.Error("it was not removed")
	}
}
