//go:build linux

package hook_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/hook"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func TestMain(m *testing.M) {
	if embedded.Reexec() || hook.Reexec() {
		return
	}
	os.Exit(m.Run())
}

func newRunner(t *testing.T, limits sandbox.Limits) *hook.Runner {
	t.Helper()
	back := embedded.New(embedded.Options{StateDir: filepath.Join(t.TempDir(), "environments")})
	if c, err := back.Probe(t.Context()); err != nil || c.Level < sandbox.Full {
		t.Skipf("this machine has isolation %s only: %v %v", c.Level, c.Refused, err)
	}
	t.Cleanup(func() {
		if left, err := back.List(context.Background()); err != nil || len(left) > 0 {
			t.Errorf("environments left: %v %v", left, err)
		}
	})
	return &hook.Runner{Backend: back, MinIsolation: sandbox.Full, Limits: limits}
}

func pack(t *testing.T, files map[string]string) []byte {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	var b bytes.Buffer
	if err := state.Pack(t.Context(), &b, fsys, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpack returns the files of an archive by name.
func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := state.Extract(t.Context(), bytes.NewReader(archive), root, state.Limits{}); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(at string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(at)
		files[strings.TrimPrefix(at, dir+"/")] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTreeComesBack(t *testing.T) {
	r := newRunner(t, sandbox.Limits{})
	in := pack(t, map[string]string{"a.txt": "a\n", "sub/b.txt": "b\n", "gone.txt": "x\n"})
	left, facts, err := r.Run(t.Context(), []string{"sh", "-c", `echo printed; echo more >> sub/b.txt; rm gone.txt; mkdir -p new; printf %s "$1" > new/c.txt`, "sh", "two words; $(id)"}, in)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a.txt": "a\n", "sub/b.txt": "b\nmore\n", "new/c.txt": "two words; $(id)"}
	if got := unpack(t, left); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("left %v, want %v", got, want)
	}
	if facts["hooks.isolation.level"] != "full" {
		t.Errorf("facts %v", facts)
	}
}

// TestFailures has every way in which a command can fail; none gives a tree.
func TestFailures(t *testing.T) {
	r := newRunner(t, sandbox.Limits{Memory: 64 << 20, CPUs: 1, PIDs: 64, Disk: 4 << 20, Files: 64, Wall: time.Minute, Output: 8 << 20})
	for name, c := range map[string]struct {
		argv []string
		want string
	}{
		"exit code":   {[]string{"sh", "-c", "echo why >&2; exit 3"}, "exit code 3:\nwhy"},
		"signal":      {[]string{"sh", "-c", "kill -TERM $$"}, "exit code 143"},
		"not found":   {[]string{"no-such-command"}, "no-such-command is not in the sandbox"},
		"a link":      {[]string{"ln", "-s", "/etc/passwd", "link"}, "pack link: a symbolic link is not allowed"},
		"a pipe":      {[]string{"mkfifo", "pipe"}, "pack pipe: a named pipe is not allowed"},
		"disk":        {[]string{"sh", "-c", "head -c 16000000 /dev/zero > big"}, "No space left"},
		"disk hidden": {[]string{"sh", "-c", "exec 3> f; rm f; head -c 16000000 /dev/zero >&3"}, "No space left"},
		"memory":      {[]string{"sh", "-c", "head -c 200000000 /dev/zero | tail -c 190000000"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			left, _, err := r.Run(t.Context(), c.argv, pack(t, map[string]string{"a": "a"}))
			if fault.KindOf(err) != fault.Finding || left != nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; left %d bytes; want a finding with %q", err, len(left), c.want)
			}
		})
	}
}

func TestTime(t *testing.T) {
	limits := hook.DefaultLimits
	limits.Wall = 300 * time.Millisecond
	_, _, err := newRunner(t, limits).Run(t.Context(), []string{"sleep", "60"}, pack(t, nil))
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "ran longer than its limit") {
		t.Error(err)
	}
}

// TestForkBomb: it ends with the command, or at its time, and nothing of it is left.
func TestForkBomb(t *testing.T) {
	limits := hook.DefaultLimits
	limits.Wall = 2 * time.Second
	r := newRunner(t, limits)
	_, _, _ = r.Run(t.Context(), []string{"bash", "-c", "f() { sleep 4711 & f | f & }; f; sleep 1"}, pack(t, nil))
	if left := running("sleep\x004711"); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// TestBackground: a process that the command leaves ends with it.
func TestBackground(t *testing.T) {
	r := newRunner(t, sandbox.Limits{})
	if _, _, err := r.Run(t.Context(), []string{"sh", "-c", "sleep 4712 & setsid sleep 4712 &"}, pack(t, nil)); err != nil {
		t.Fatal(err)
	}
	if left := running("sleep\x004712"); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// running returns the processes whose command line contains text.
func running(text string) []string {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	return slices.DeleteFunc(all, func(at string) bool {
		b, err := os.ReadFile(at)
		return err != nil || !strings.Contains(string(b), text)
	})
}

// TestWalls: a command sees nothing of the host that is not of the system, reaches
// nobody, and can write its own tree alone. No script does harm if a wall is missing.
func TestWalls(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOOK_TEST_SECRET", "secret")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRunner(t, sandbox.Limits{})
	for name, script := range map[string]string{
		"file of the host":  "cat " + secret,
		"write to the host": "echo x > " + secret,
		"write to programs": "touch /usr/ultrafast-hook-test",
		"replace ourselves": "touch /ultrafast",
		"network":           "exec 3<> /dev/tcp/" + strings.ReplaceAll(l.Addr().String(), ":", "/"),
		"environment":       `test -n "$HOOK_TEST_SECRET"`,
		"parent's":          "cat /proc/1/environ | grep SECRET",
		"mount":             "mkdir at && mount --bind at at",
		"be root":           "test $(id -u) = 0",
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := r.Run(t.Context(), []string{"bash", "-c", script}, pack(t, nil)); fault.KindOf(err) != fault.Finding {
				t.Errorf("%s: %v, want a finding", script, err)
			}
		})
	}
	if b, err := os.ReadFile(secret); string(b) != "secret" {
		t.Errorf("the host's file has %q %v", b, err)
	}
}

// TestRefused: a machine that cannot do what is asked for says what it refused.
func TestRefused(t *testing.T) {
	weak := sandbox.Reduced
	back := embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &weak})
	r := &hook.Runner{Backend: back, MinIsolation: sandbox.Full}
	if _, _, err := r.Run(t.Context(), []string{"true"}, pack(t, nil)); fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "isolation") {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
	r.MinIsolation = sandbox.None
	left, facts, err := r.Run(t.Context(), []string{"sh", "-c", "echo x > x"}, pack(t, map[string]string{"a": "a"}))
	if err != nil {
		t.Skipf("a weaker level does not work here: %v", err)
	}
	if got := unpack(t, left); got["x"] != "x\n" || got["a"] != "a" || facts["hooks.isolation.level"] == "full" || facts["hooks.isolation.why"] == "" {
		t.Errorf("left %v, facts %v", got, facts)
	}
}
