package platforms

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestContainerAction starts an image as GitHub's runner starts a container action: as
// root, in a workspace of the runner's user, with command files.
func TestContainerAction(t *testing.T) {
	on(t, actHost)
	if !full() {
		t.Skip("not in the short form")
	}
	if os.Getuid() != 0 {
		missing(t, "a workspace of another user needs root")
	}
	image := images(t, "scratch")["market"].ref
	const uid, gid = 1001, 121
	for name, test := range map[string]struct {
		output string // GITHUB_OUTPUT
		code   int
		says   string
	}{
		"command files":           {"/github/file_commands/output", 0, ""},
		"no command files":        {"", 0, ""},
		"a command file too many": {"/nowhere/output", 3, "output state"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := workspace(t, "127.0.0.1:1")
			commands := filepath.Join(t.TempDir(), "commands")
			write(t, filepath.Join(commands, "output"), "")
			home := t.TempDir()
			for _, d := range []string{dir, commands, home} {
				own(t, d, uid, gid)
			}
			args := []string{"docker", "run", "--rm", "-v", dir + ":/github/workspace", "-v", commands + ":/github/file_commands", "-v", home + ":/github/home",
				"--workdir", "/github/workspace", "-e", "GITHUB_ACTIONS=true", "-e", "GITHUB_WORKSPACE=/github/workspace", "-e", "INPUT_PROJECT=orders",
				"-e", "INPUT_REPORT-DIR=reports", "-e", "HOME=/github/home"}
			if test.output != "" {
				args = append(args, "-e", "GITHUB_OUTPUT="+test.output)
			}
			_, all, err := command{args: append(args, image, "add")}.output(t.Context())
			code := 0
			if err != nil {
				code = exitCode(err)
			}
			if code != test.code || !strings.Contains(all, test.says) || strings.Contains(all, "goroutine") {
				t.Fatalf("exit %d, want %d: %s", code, test.code, all)
			}
			if test.code != 0 {
				return
			}
			checkOwner(t, filepath.Join(dir, "orders", ".ggen"), uid, gid)
			checkOwner(t, filepath.Join(dir, "reports"), uid, gid)
			if got := read(t, filepath.Join(commands, "output")); (test.output != "") != regexp.MustCompile(`^state<<end_[0-9a-f]{32}\n.*\nend_[0-9a-f]{32}\n$`).MatchString(got) {
				t.Errorf("the output file holds %q", got)
			}
		})
	}
}

func own(t *testing.T, dir string, uid, gid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, uid, gid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// checkOwner wants everything in dir to be of an owner.
func checkOwner(t *testing.T, dir string, uid, gid uint32) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n++
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != uid || owner.Gid != gid {
			t.Errorf("%s belongs to %d:%d", name, owner.Uid, owner.Gid)
		}
		return nil
	})
	if err != nil || n < 2 {
		t.Errorf("%s: %d files, %v", dir, n, err)
	}
}
