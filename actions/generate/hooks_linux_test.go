package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKilledInHook kills the program while a command of a template runs: nothing is
// written, the command ends too, and the next run does everything.
func TestKilledInHook(t *testing.T) {
	dir := t.TempDir()
	put := func(name, content string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("ggen.toml", "[project]\nname = \"p\"\n")
	put("templates/a.tmpl", "---\nto: a.txt\n---\na\n")
	put("templates/b.tmpl", "---\nto: b.txt\nsh_after: [sleep, \"{{ seconds }}\"]\n---\nb\n")
	start := func(seconds string) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{"ultrafast-generate", "template", "templates/a.tmpl", "templates/b.tmpl", "--allow-hooks", "--output-dir", "out", "--vars", "seconds=" + seconds}
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &said
	}
	const seconds = "29.0471" // the argument by which the command is found
	cmd, said := start(seconds)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	wait(t, "the command runs", func() bool {
		select {
		case err := <-ended:
			if strings.Contains(said.String(), "isolation") {
				t.Skipf("no sandbox here: %s", said)
			}
			t.Fatalf("ended: %v\n%s", err, said)
		default:
		}
		return sleeps(seconds)
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	wait(t, "the command ends", func() bool { return !sleeps(seconds) })
	if _, err := os.Lstat(filepath.Join(dir, "out")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the killed run has written: %v", err)
	}
	cmd, said = start("0")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, name := range []string{"a.txt", "b.txt"} {
		if _, err := os.Stat(filepath.Join(dir, "out", name)); err != nil {
			t.Error(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "cache", "*", "environments", "environments", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("environments left: %v %v", left, err)
	}
}

// wait asks until ok is true.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// sleeps reports whether a sleep of so many seconds runs.
func sleeps(seconds string) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, at := range all {
		if b, err := os.ReadFile(at); err == nil && string(b) == "sleep\x00"+seconds+"\x00" {
			return true
		}
	}
	return false
}
