//go:build unix

package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSignals ends commands as a CI system does, by SIGINT and then SIGTERM, at many
// moments: nothing is left, whatever the moment.
func TestSignals(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	moments := []time.Duration{0, 20, 40, 80, 160, 320}
	if os.Getenv("ULTRAFAST_LONG") != "" {
		for ms := range time.Duration(100) {
			moments = append(moments, ms*7)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ggen.toml"), []byte("[cleanroom]\nmin_isolation = \"none\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"create":  {"environment", "create", "--name", "made", "--persistent"},
		"start":   {"container", "start", "host", "--name", "waited", "--port", "1", "--wait-ready", "--", "sleep", "MARK"},
		"exec":    {"exec", "--", "sh", "-c", "sleep MARK & wait"},
		"sandbox": {"exec", "--sandbox", "--min-isolation", "none", "--code", "trap '' INT TERM; while :; do sleep MARK; done"},
	} {
		t.Run(name, func(t *testing.T) {
			for i, moment := range moments {
				mark := strconv.FormatInt(time.Now().UnixNano()/1000, 10)
				cache := t.TempDir()
				cmd := exec.Command(exe)
				cmd.Args = []string{"ultrafast-cleanroom-test"}
				for _, arg := range args {
					cmd.Args = append(cmd.Args, strings.ReplaceAll(arg, "MARK", mark))
				}
				cmd.Dir, cmd.Env = dir, append(os.Environ(), "XDG_CACHE_HOME="+cache)
				var said bytes.Buffer
				cmd.Stdout, cmd.Stderr = &said, &said
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				err, over := error(nil), false
				for n, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
					wait := moment * time.Millisecond
					if n > 0 {
						wait = time.Duration(i) * 30 * time.Millisecond
					}
					select {
					case err = <-ended:
						over = true
					case <-time.After(wait):
						_ = cmd.Process.Signal(sig)
						continue
					}
					break
				}
				if !over {
					select {
					case err = <-ended:
					case <-time.After(30 * time.Second):
						_ = cmd.Process.Kill()
						t.Fatalf("after %s: it does not end: %s", moment, said.String())
					}
				}
				// It was there before the signal, which then may meet a process that has said so
				// and is about to end.
				if name == "create" && (err == nil || strings.Contains(said.String(), "environment  made")) {
					again := exec.Command(exe)
					again.Args = []string{"ultrafast-cleanroom-test", "environment", "delete", "--name", "made"}
					again.Dir, again.Env = dir, cmd.Env
					if out, err := again.CombinedOutput(); err != nil {
						t.Errorf("delete: %v: %s", err, out)
					}
				}
				// A keeper that was being made undoes that by itself, at the latest in a moment.
				left := leftIn(t, cache, mark)
				for late := time.After(20 * time.Second); len(left) > 0; left = leftIn(t, cache, mark) {
					select {
					case <-time.After(20 * time.Millisecond):
						continue
					case <-late:
					}
					break
				}
				if len(left) > 0 {
					t.Errorf("after %d ms, %v: left %q; it said: %s", moment, err, left, said.String())
				}
			}
		})
	}
}

// TestTimeout ends a command at the moment at which its payload begins: what was made is
// removed, at once. To the kernel, the second of the two signals that timeout(1) sends may
// be one with the first: TestObey of the app has each taken.
func TestTimeout(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	mark := strconv.FormatInt(time.Now().UnixNano()/1000, 10)
	cmd := exec.Command(exe)
	cmd.Args = []string{"ultrafast-cleanroom-test", "exec", "--min-isolation", "none", "--", "sh", "-c", "echo ready; sleep " + mark + " & wait"}
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "XDG_CACHE_HOME="+cache)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	late := time.AfterFunc(8*time.Second, func() { _ = cmd.Process.Kill() }) // a drain that nobody ends takes 10 s
	_ = cmd.Wait()
	late.Stop()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d", code)
	}
	if left := leftIn(t, cache, mark); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestOutputNobodyTakes pipes a command that does not end into a reader that goes, and
// into a device that is full: the command is ended, and nothing of it is left.
func TestOutputNobodyTakes(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for name, c := range map[string]struct {
		code int
		says string
	}{
		"a reader that goes": {141, ""},
		"a full device":      {125, "write what sh printed: "},
	} {
		cache := t.TempDir()
		mark := strconv.FormatInt(time.Now().UnixNano()/1000, 10)
		cmd := exec.Command(exe)
		cmd.Args = []string{"ultrafast-cleanroom-test", "exec", "--min-isolation", "none", "--", "sh", "-c", "sleep " + mark + " & while echo y; do :; done"}
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "XDG_CACHE_HOME="+cache)
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &said
		if c.says == "" {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout = w
			go func() {
				_, _ = r.Read(make([]byte, 1))
				r.Close()
			}()
			defer w.Close()
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // the state has the code
		late.Stop()
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(said.String(), c.says) || c.says == "" && said.Len() > 0 {
			t.Errorf("%s: exit code %d: %s", name, code, said.String())
		}
		if left := leftIn(t, cache, mark); len(left) > 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
}

// leftIn lists what is left of environments below cache, and processes with mark.
func leftIn(t *testing.T, cache, mark string) []string {
	t.Helper()
	var left []string
	for _, pattern := range []string{"keepers/*", "environments/environments/*"} {
		found, err := filepath.Glob(filepath.Join(cache, "ultrafast", pattern))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if b, err := os.ReadFile(l); err == nil && bytes.Contains(b, []byte(mark)) {
			left = append(left, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return left
}

// TestHangUp closes the terminal of a command: what was made is removed, unless it was
// started to outlive that.
func TestHangUp(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "ultrafast-cleanroom-test") // a name that nohup(1) keeps
	if err := os.Symlink(exe, program); err != nil {
		t.Fatal(err)
	}
	for _, outlives := range []bool{false, true} {
		cache := t.TempDir()
		mark := strconv.FormatInt(time.Now().UnixNano()/1000, 10)
		argv := []string{program, "exec", "--min-isolation", "none", "--", "sh", "-c", "echo ready; read x; echo $x; sleep " + mark + " & kill $!"}
		if outlives {
			argv = append([]string{"nohup"}, argv...)
		}
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "XDG_CACHE_HOME="+cache)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		want := 130
		if outlives {
			want = 0
			if _, err := io.WriteString(in, "on\n"); err != nil {
				t.Fatal(err)
			}
		}
		said, _ := io.ReadAll(out)
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != want || outlives != (string(said) == "on\n") {
			t.Errorf("outlives %v: exit code %d, %q", outlives, code, said)
		}
		if left := leftIn(t, cache, mark); len(left) > 0 {
			t.Errorf("outlives %v: left %q", outlives, left)
		}
	}
}
