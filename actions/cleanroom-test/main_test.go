package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/app/apptest"
)

func TestMain(m *testing.M) {
	apptest.Main(m, door.Reexec, map[string]func() app.Door{"ultrafast-cleanroom-test": door.New})
}

func TestScripts(t *testing.T) {
	apptest.Run(t, "testdata", map[string]apptest.Command{"rooms": rooms, "nothing": nothing})
}

// rooms gives the script environments of its own, which end with it.
func rooms(ts *testscript.TestScript, _ bool, _ []string) {
	cache := ts.MkAbs(filepath.Join(ts.Getenv("WORK"), "cache"))
	ts.Setenv("XDG_CACHE_HOME", cache)
	ts.Defer(func() {
		for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
			path := filepath.Join(dir, "ultrafast-cleanroom-test")
			if _, err := os.Stat(path); err != nil {
				continue
			}
			cmd := exec.Command(path, "gc", "--older-than", "0s")
			cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache)
			if out, err := cmd.CombinedOutput(); err != nil {
				ts.Logf("gc: %v\n%s", err, out)
			}
			return
		}
	})
}

// nothing checks that no environment of the script is left, as directories.
func nothing(ts *testscript.TestScript, _ bool, _ []string) {
	for _, pattern := range []string{"keepers/*", "environments/environments/*"} {
		found, err := filepath.Glob(filepath.Join(ts.Getenv("XDG_CACHE_HOME"), "ultrafast", pattern))
		if err != nil || len(found) > 0 {
			ts.Fatalf("left: %q, %v", found, err)
		}
	}
}
