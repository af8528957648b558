package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestKilledVerify kills a verify between its renderings: the next command removes
// what it left.
func TestKilledVerify(t *testing.T) {
	t.Parallel()
	project, temp := t.TempDir(), t.TempDir()
	template := "---\nto: out.txt\n---\n{% for i in range(end=700) %}{% for j in range(end=700) %}{% endfor %}{% endfor %}\n"
	if err := os.Mkdir(filepath.Join(project, "templates"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(project, "templates", "slow.tmpl"), []byte(template), 0o644); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := func(verb string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Args = []string{"ultrafast-generate", verb, "templates/slow.tmpl", "--project", project}
		cmd.Dir, cmd.Env = project, append(os.Environ(), "TMPDIR="+temp, "TMP="+temp)
		return cmd
	}
	left := func() []string {
		found, err := filepath.Glob(filepath.Join(temp, "ultrafast-verify-*", "lock"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	kill(t, command("verify"), left)
	if len(left()) == 0 {
		t.Fatal("it was over before it was killed")
	}
	if out, err := command("template").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if found, _ := filepath.Glob(filepath.Join(temp, "ultrafast-verify-*")); len(found) > 0 {
		t.Errorf("%v is left", found)
	}
	kill(t, command("verify"), left)
	if out, err := command("verify").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if found, _ := filepath.Glob(filepath.Join(temp, "ultrafast-verify-*")); len(found) > 0 {
		t.Errorf("%v is left", found)
	}
}

// kill starts cmd and kills it as soon as it has left something.
func kill(t *testing.T, cmd *exec.Cmd, left func() []string) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for len(left()) == 0 {
		select {
		case <-look.C:
		case <-limit.C:
			_ = cmd.Process.Kill()
			t.Fatal("verify makes no directory")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}
