package rootfs

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// FuzzLayer puts arbitrary archives on a tree: each is applied or refused with a
// kind, and nothing outside the tree changes.
func FuzzLayer(f *testing.F) {
	for _, entries := range [][]tar.Header{
		{{Typeflag: tar.TypeReg, Name: "a/b", Mode: 0o755}},
		{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../../outside"}, {Typeflag: tar.TypeReg, Name: "l/f"}, {Typeflag: tar.TypeLink, Name: "h", Linkname: "l/f"}},
		{{Typeflag: tar.TypeDir, Name: "d/"}, {Typeflag: tar.TypeReg, Name: "d/.wh..wh..opq"}, {Typeflag: tar.TypeReg, Name: ".wh.d"}},
		{{Typeflag: tar.TypeBlock, Name: "dev"}, {Typeflag: tar.TypeSymlink, Name: "d", Linkname: "/"}, {Typeflag: tar.TypeReg, Name: "d/d/x"}},
	} {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for _, h := range entries {
			if err := tw.WriteHeader(&h); err != nil {
				f.Fatal(err)
			}
		}
		if err := tw.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, layer []byte) {
		// Deep enough that no climb of the seeds leaves it.
		dir := filepath.Join(t.TempDir(), "outside", "a", "b", "tree")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		tree, err := oci.OpenTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		a := oci.NewApplier(tree, int64(len(layer)), oci.Limits{Entries: 200, Bytes: 1 << 20})
		for range 2 { // the second time there is something to replace
			if err := a.Apply(t.Context(), bytes.NewReader(layer)); err != nil && fault.KindOf(err) != fault.Finding {
				t.Fatalf("%v: %v", fault.KindOf(err), err)
			}
		}
		if _, _, err := tree.User("root:root"); err != nil && fault.KindOf(err) != fault.Finding {
			t.Fatalf("user: %v: %v", fault.KindOf(err), err)
		}
		if err := tree.Close(); err != nil {
			t.Fatal(err)
		}
		check(t, dir)
	})
}

// check fails if anything lies beside the tree, or a file in it gives rights.
func check(t *testing.T, dir string) {
	t.Helper()
	for at := dir; filepath.Base(at) != "outside"; at = filepath.Dir(at) {
		beside, err := os.ReadDir(filepath.Dir(at))
		if err != nil || len(beside) != 1 {
			t.Fatalf("beside %s: %v, %v", filepath.Base(at), beside, err)
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || runtime.GOOS == "windows" {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		const never = fs.ModeSetuid | fs.ModeSetgid | fs.ModeDevice | fs.ModeNamedPipe | fs.ModeSocket
		if info.Mode()&never != 0 || info.Mode()&fs.ModeSymlink == 0 && info.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
