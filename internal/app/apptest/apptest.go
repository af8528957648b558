// Package apptest runs script tests (testscript) against the real binaries.
//
// A test main calls [Main] with the binaries by name; [Run] runs the scripts of a
// directory. Scripts find a small template package in $WORK/tiny and a registry
// that holds it in $WORK/registry. The command `exits CODE COMMAND…` runs a command
// that must end with exactly this code, `layout DIR NAME:TAG PROGRAM` makes an image. A script after which a process still works in
// $WORK has failed: what it started, it stops.
package apptest

import (
	"embed"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ultrafast-ci/ultrafast/internal/app"
)

//go:embed tiny
var tiny embed.FS

// Main runs the tests of m, or one of the binaries if this process was started as
// that. reexec, if not nil, is what the binaries' mains call first.
func Main(m *testing.M, reexec func() bool, doors map[string]func() app.Door) {
	if reexec != nil && reexec() {
		return
	}
	commands := map[string]func(){}
	for name, door := range doors {
		commands[name] = func() { os.Exit(app.Main(door(), app.System())) }
	}
	testscript.Main(m, commands)
}

// Command is a command of scripts, besides the binaries.
type Command = func(ts *testscript.TestScript, neg bool, args []string)

// exits runs a command that must end with the given code: exits CODE COMMAND…
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("exits: %v", err)
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("%s: exit code %d, want %d", args[1], code, want)
	}
}

// Run runs every script in dir.
func Run(t *testing.T, dir string, commands map[string]Command) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	goCommand, err := exec.LookPath("go")
	if err != nil {
		t.Fatalf("the scripts need the go command: %v", err)
	}
	all := map[string]Command{"exits": exits, "layout": layout}
	maps.Copy(all, commands)
	testscript.Run(t, testscript.Params{
		Dir: dir, Cmds: all, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Defer(func() {
				if left := processesIn(env.WorkDir); len(left) > 0 {
					env.T().Fatal("left running: " + strings.Join(left, "; "))
				}
			})
			// The compiled standard library is shared by all scripts: it is a cache.
			env.Setenv("XDG_CACHE_HOME", cache)
			env.Setenv("LANG", "C.UTF-8")
			// Where the programs are built for the race detector: how long each waits at its end.
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+filepath.Dir(goCommand))
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			if err := os.MkdirAll(home, 0o755); err != nil {
				return err
			}
			for _, at := range []string{"tiny", filepath.Join("registry", "packages", "tiny")} {
				if err := writeTiny(filepath.Join(env.WorkDir, at)); err != nil {
					return err
				}
			}
			return os.WriteFile(filepath.Join(env.WorkDir, "registry", "index.json"), []byte(index), 0o644)
		},
	})
}

const index = `{"version": "1.0", "packages": [{
  "id": "tiny", "name": "Tiny", "version": "1.0.0", "description": "A service of one file.", "tags": ["go"], "quality_score": 50,
  "templates": [{"name": "main", "path": "templates/main.go.tmpl", "description": "The service"}],
  "versions": {"1.0.0": {"path": "packages/tiny", "sha256": "` + tinySum + `"}}
}]}
`

// tinySum is the digest of the tiny package's files; a test keeps it right.
const tinySum = "3c9a8134acac99ff7f9bfb7400c3988c21a1466708fbe75e46e08a87a4001d5a"

// writeTiny writes the package to dir.
func writeTiny(dir string) error {
	return fs.WalkDir(tiny, "tiny", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(name, "tiny")))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		b, err := tiny.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o644)
	})
}
