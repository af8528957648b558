package toolchain

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func find(t *testing.T) Toolchain {
	t.Helper()
	tool, err := Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tool
}

func TestFind(t *testing.T) {
	t.Parallel()
	tool := find(t)
	if !strings.HasPrefix(tool.Version, "go") && !strings.HasPrefix(tool.Version, "devel") {
		t.Errorf("version %q", tool.Version)
	}
	if _, err := os.Stat(tool.Go(tool.Root)); err != nil {
		t.Errorf("no go command below the root: %v", err)
	}
	if again := find(t); again != tool {
		t.Errorf("found %+v, then %+v", tool, again)
	}
}

// An installation elsewhere with the same content has the same digest, and one
// changed byte in one tool gives another.
func TestDigestIsOfContent(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell script as the go command")
	}
	t.Parallel()
	install := func(compiler string) Toolchain {
		root := t.TempDir()
		tools := filepath.Join(root, "pkg", "tool", "a_b")
		for name, content := range map[string]string{
			"bin/go":           "#!/bin/sh\nroot=${0%/bin/go}\nprintf '{\"GOROOT\":\"%s\",\"GOVERSION\":\"go1.99\",\"GOOS\":\"a\",\"GOARCH\":\"b\",\"GOTOOLDIR\":\"%s/pkg/tool/a_b\"}' \"$root\" \"$root\"\n",
			"pkg/tool/a_b/asm": "asm", "pkg/tool/a_b/compile": compiler, "pkg/tool/a_b/link": "link", "pkg/tool/a_b/vet": "vet",
		} {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		tool, err := At(t.Context(), filepath.Join(root, "bin", "go"))
		if err != nil {
			t.Fatalf("%s: %v", tools, err)
		}
		return tool
	}
	a, b, c := install("compile"), install("compile"), install("compilE")
	if a.Digest != b.Digest || a.Root == b.Root {
		t.Errorf("the path is part of the digest: %+v and %+v", a, b)
	}
	if a.Digest == c.Digest {
		t.Error("another compiler has the same digest")
	}
	if a.Platform() != "a/b" {
		t.Errorf("platform %s", a.Platform())
	}
}

func TestAtRefuses(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a shell script as the go command")
	}
	t.Parallel()
	for name, c := range map[string]struct{ script, want string }{
		"fails":        {"echo broken >&2; exit 3", "broken"},
		"talks":        {"echo hello", "hello"},
		"says nothing": {"echo '{}'", "names no installation"},
		"no tools":     {`printf '{"GOROOT":"/","GOVERSION":"go1","GOTOOLDIR":"/nowhere"}'`, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "go")
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			_, err := At(t.Context(), path)
			if err == nil || fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v of kind %s, want one with %q", err, fault.KindOf(err), c.want)
			}
		})
	}
	_, err := At(t.Context(), filepath.Join(t.TempDir(), "absent"))
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("absent go command: %v", err)
	}
}

var (
	testEnv   = []string{"CGO_ENABLED=0", "GOENV=off", "GOTOOLCHAIN=local", "GOPROXY=off", "GOFLAGS="}
	testFlags = []string{"-trimpath"}
)

func TestLibrary(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the standard library")
	}
	t.Parallel()
	tool, cache := find(t), t.TempDir()
	home := filepath.Join(cache, tool.name(testEnv, testFlags))
	// What a killed run left must not be in the way.
	if err := os.MkdirAll(filepath.Join(home, "work", "library", "00"), 0o700); err != nil {
		t.Fatal(err)
	}
	dirs, warm := [3]string{}, [3]bool{}
	var wg sync.WaitGroup
	for i := range dirs {
		wg.Go(func() {
			var err error
			if dirs[i], warm[i], err = tool.Library(t.Context(), cache, testEnv, testFlags); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cold := 0
	for i := range dirs {
		if dirs[i] != dirs[0] {
			t.Errorf("two libraries: %s and %s", dirs[0], dirs[i])
		}
		if !warm[i] {
			cold++
		}
	}
	if cold != 1 {
		t.Errorf("%d of 3 made the library, want 1", cold)
	}
	entries, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "library" && e.Name() != "lock" {
			t.Errorf("%s was left behind", e.Name())
		}
	}
	checkHits(t, tool, dirs[0])
}

// checkHits builds, vets and tests a program in another directory and fails if
// the go command compiled, or touched, anything of the standard library.
func checkHits(t *testing.T, tool Toolchain, library string) {
	t.Helper()
	work := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.MkdirAll(work, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod":       "module example.com/other\n\ngo 1.26\n",
		"main.go":      "package main\n\nimport \"net/http\"\n\nfunc main() { http.Handle(\"/\", nil) }\n",
		"main_test.go": "package main\n\nimport (\"testing\"; \"net/http/httptest\")\n\nfunc TestX(t *testing.T) { httptest.NewRecorder() }\n",
	} {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := append([]string{"GOCACHE=" + library, "GOPATH=" + t.TempDir()}, testEnv...)
	before := count(t, library)
	for verb, want := range map[string]int{"build": 1, "vet": 1, "test": 2} {
		argv := []string{tool.Go(tool.Root), verb, "-trimpath", "-x"}
		if verb == "test" {
			argv = append(argv, "-vet=off")
		}
		if verb == "build" {
			argv = append(argv, "-o", filepath.Join(work, "out"))
		}
		// -x writes the commands to standard error; a failing one is needed to see it.
		cmd := append([]string{}, argv...)
		trace, err := traced(t.Context(), work, env, append(cmd, ".")...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", verb, err, trace)
		}
		if n := strings.Count(trace, "/compile"+exe()+" -o"); n > want {
			t.Errorf("%s compiled %d packages, want at most %d:\n%s", verb, n, want, trace)
		}
	}
	if added := count(t, library) - before; added == 0 || added > 40 {
		t.Errorf("%d files were added to the library; only those of the program are due", added)
	}
}

func traced(ctx context.Context, dir string, env []string, argv ...string) (string, error) {
	out := filepath.Join(dir, "trace")
	_, err := run(ctx, dir, env, append([]string{"/bin/sh", "-c", `exec "$@" >trace 2>&1`, "sh"}, argv...)...)
	b, readErr := os.ReadFile(out)
	return string(b), errors.Join(err, readErr)
}

func count(t *testing.T, dir string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestLibraryStopsWithItsContext(t *testing.T) {
	t.Parallel()
	tool, cache := find(t), t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, _, err := tool.Library(ctx, cache, testEnv, testFlags)
	if fault.KindOf(err) != fault.Unavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	left, err := filepath.Glob(filepath.Join(cache, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if filepath.Base(path) != "lock" {
			t.Errorf("%s was left behind", path)
		}
	}
}

func TestLibraryNames(t *testing.T) {
	t.Parallel()
	a, b := Toolchain{Digest: "sha256:a"}, Toolchain{Digest: "sha256:b"}
	names := map[string]string{}
	for what, name := range map[string]string{
		"plain": a.name(nil, nil), "toolchain": b.name(nil, nil), "env": a.name([]string{"x"}, nil), "flags": a.name(nil, []string{"x"}),
	} {
		if other, ok := names[name]; ok {
			t.Errorf("%s and %s share a library", what, other)
		}
		names[name] = what
	}
}

func TestRunBoundsOutput(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs head and a shell")
	}
	t.Parallel()
	out, err := run(t.Context(), "/", nil, "/bin/sh", "-c", "head -c 2000000 /dev/zero")
	if err != nil || len(out) != maxOutput {
		t.Errorf("kept %d bytes (%v), want %d", len(out), err, maxOutput)
	}
}
