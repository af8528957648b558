package cleanroom

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func tree(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func TestFindProgram(t *testing.T) {
	t.Parallel()
	const main, lib, mod = "// text\n\npackage main\n", "package lib\n", "// x\nmodule example.com/Shop // y\n\ngo 1.26\n"
	linux := Toolchain{OS: "linux", Arch: "amd64"}
	for name, c := range map[string]struct {
		files map[string]string
		pack  Package
		want  program
		err   string
	}{
		"root": {files: map[string]string{"go.mod": "module example.com/shop\n", "main.go": main},
			want: program{module: "example.com/shop", dir: ".", name: "shop"}},
		"quoted module": {files: map[string]string{"go.mod": `module "example.com/shop"`, "main.go": main},
			want: program{module: "example.com/shop", dir: ".", name: "shop"}},
		"one command": {files: map[string]string{"go.mod": mod, "lib.go": lib, "cmd/shopd/main.go": main, "cmd/README": "", "cmd/lib/lib.go": lib},
			want: program{module: "example.com/Shop", dir: "cmd/shopd", name: "shopd"}},
		"named": {files: map[string]string{"go.mod": mod, "main.go": main}, pack: Package{Name: "till"},
			want: program{module: "example.com/Shop", dir: ".", name: "till"}},
		"configured": {files: map[string]string{"go.mod": mod, "cmd/a/main.go": main, "cmd/b/main.go": main}, pack: Package{Main: "./cmd/b"},
			want: program{module: "example.com/Shop", dir: "cmd/b", name: "b"}},
		"not built": {files: map[string]string{"go.mod": mod, "gen.go": "//go:build ignore\n\npackage main\n", "cmd/x/main.go": main},
			want: program{module: "example.com/Shop", dir: "cmd/x", name: "x"}},
		"by its name not built": {files: map[string]string{"go.mod": mod, "main_windows.go": main, "tool_arm64.go": main, "cmd/x/main_linux.go": main, "cmd/y/main_darwin.go": main},
			want: program{module: "example.com/Shop", dir: "cmd/x", name: "x"}},
		"for unix and later versions": {files: map[string]string{"go.mod": mod, "cmd/x/main.go": "//go:build unix && go1.60 && !cgo\n\npackage main\n"},
			want: program{module: "example.com/Shop", dir: "cmd/x", name: "x"}},
		"built here": {files: map[string]string{"go.mod": mod, "main.go": "//go:build linux && go1.20\n\npackage main\n"}, pack: Package{Name: "x"},
			want: program{module: "example.com/Shop", dir: ".", name: "x"}},
		"no module": {files: map[string]string{"main.go": main}, err: "no go.mod"},
		"nameless":  {files: map[string]string{"go.mod": "go 1.26\n", "main.go": main}, err: "names no module"},
		"library": {files: map[string]string{"go.mod": mod, "lib.go": lib, "main_test.go": main},
			want: program{module: "example.com/Shop", name: "app", library: true}},
		"library that is to listen": {files: map[string]string{"go.mod": mod, "lib.go": lib}, pack: Package{Port: 80}, err: "no main package"},
		"library that is to start":  {files: map[string]string{"go.mod": mod, "lib.go": lib}, pack: Package{Entrypoint: []string{"x"}}, err: "no main package"},
		"two commands":              {files: map[string]string{"go.mod": mod, "cmd/a/main.go": main, "cmd/b/main.go": main}, err: "2 main packages: cmd/a, cmd/b"},
		"not a main":                {files: map[string]string{"go.mod": mod, "a/a.go": lib}, pack: Package{Main: "a"}, err: "a is not a main package"},
		"absent":                    {files: map[string]string{"go.mod": mod}, pack: Package{Main: "a"}, err: "a is not a main package"},
		"name unusable":             {files: map[string]string{"go.mod": mod, "main.go": main}, err: `"Shop", the name of the main package`},
		"not parsable": {files: map[string]string{"go.mod": mod, "main.go": "packag main"},
			want: program{module: "example.com/Shop", name: "app", library: true}},
		"go.mod too big": {files: map[string]string{"go.mod": strings.Repeat("/", maxSource+1)}, err: "no go.mod"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := findProgram(tree(t, c.files), c.pack, linux)
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || fault.KindOf(err) == fault.Internal):
				t.Fatalf("got %+v, %v; want an error with %q", got, err, c.err)
			case got != c.want:
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestOnlyFile(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"shop": "program", "secret": "no"})
	files, err := onlyFile(root, "shop")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error { names = append(names, name); return err })
	if err != nil || strings.Join(names, " ") != ". shop" {
		t.Errorf("the image holds %v (%v)", names, err)
	}
	info, err := fs.Stat(files, "shop")
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if b, err := fs.ReadFile(files, "shop"); err != nil || string(b) != "program" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := files.Open("secret"); err == nil {
		t.Error("another file can be opened")
	}
}

func TestOnlyFileRefusesLinks(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"real": "x"})
	if err := os.Symlink("real", filepath.Join(root.Name(), "shop")); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if _, err := onlyFile(root, "shop"); fault.KindOf(err) != fault.Finding {
		t.Errorf("a link was taken for the program: %v", err)
	}
	if _, err := onlyFile(root, "absent"); err == nil {
		t.Error("nothing was taken for the program")
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	goSuite := &suite{results: newResults(Go, "example.com/shop", nil)}
	tr := trial{room: &room{treeRoot: tree(t, map[string]string{"main.go": "", "store/put_test.go": "", "store/put.go": ""})}}
	for _, c := range []struct{ dir, text, want string }{
		{"store", "    put_test.go:12: got 1", "store/put_test.go:12"},
		{".", "# example.com/shop\n./main.go:3:14: undefined: x", "main.go:3:14"},
		{".", "store/put.go:1:2: oops", "store/put.go:1:2"},
		{"store", "goroutine 1\n\tnet/http/server.go:9 +0x1\n\texample.com/shop/store/put.go:7 +0x2", "store/put.go:7"},
		{".", "../../etc/main.go:1\n/etc/passwd.go:2\nother.go:3", ""},
		{"store", "", ""},
		{".", "main.go:99999999999999999999: x", ""},
	} {
		if got := tr.place(goSuite, c.dir, c.text).String(); got != c.want {
			t.Errorf("place(%q, %q) = %q, want %q", c.dir, c.text, got, c.want)
		}
	}
}
