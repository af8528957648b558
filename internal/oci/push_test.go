package oci_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// TestPushReplacesTheIndex: the index is another file after a push, never the same
// one half written, and nobody else may write it.
func TestPushReplacesTheIndex(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	dir := filepath.Join(t.TempDir(), "images")
	index := filepath.Join(dir, "index.json")
	if _, err := (oci.Client{}).Push(t.Context(), s, build(t, s, files()), "layout:"+dir); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(index)
	if err != nil {
		t.Fatal(err)
	}
	changed := files()
	changed["etc/app.conf"].Data = []byte("x = 2\n")
	if _, err := (oci.Client{}).Push(t.Context(), s, build(t, s, changed), "layout:"+dir); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(index)
	if err != nil {
		t.Fatal(err)
	}
	if os.SameFile(before, after) {
		t.Error("the index was written in place")
	}
	if mode := after.Mode().Perm(); mode != 0o644 && runtime.GOOS != "windows" {
		t.Errorf("mode %v", mode)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 3 {
		t.Errorf("directory holds %q", left)
	}
}

func TestPushToDamagedLayout(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	entry := build(t, s, files())
	for _, damage := range []string{"", "{", "[]"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := oci.Client{}.Push(t.Context(), s, entry, "layout:"+dir)
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "remove the directory") {
			t.Errorf("%q: %v (hint %q)", damage, err, fault.HintOf(err))
		}
	}
}
