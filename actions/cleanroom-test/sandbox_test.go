package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// TestUntrusted runs code that nobody trusts in a project that accepts no isolation
// for its own tests: here that counts for nothing.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	c, err := embedded.New(embedded.Options{StateDir: t.TempDir()}).Probe(t.Context())
	if err != nil || c.Level < sandbox.Full {
		t.Skipf("isolation full cannot be reached here: %v, %q", err, c.Refused)
	}
	dir, cache := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ggen.toml"), []byte("[cleanroom]\nmin_isolation = \"none\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code string
		exit int
		want string // pattern in the output or the errors
	}{
		{"cat /proc/self/status", 0, `(?m)^CapEff:\s+0+$`},
		{"cat /proc/self/status", 0, `(?m)^NoNewPrivs:\s+1$`},
		{"id -u", 0, `^65534`},
		{": > /etc/new", 1, "Read-only file system"},
		{"head -c 110000000 /dev/zero > /tmp/x", 1, "No space left"},
		{"exec 3<>/dev/tcp/192.0.2.1/80", 1, "unreachable"},
		{"head -c 400000000 /dev/zero | tail", 125, "killed: out of memory"},
		{"sleep 1000", 125, "killed: ran longer than its limit"},
	} {
		var out, errs bytes.Buffer
		args := []string{"exec", "--sandbox", "--code", c.code}
		if strings.HasPrefix(c.code, "sleep") {
			args = append(args, "--timeout", "500ms")
		}
		code := app.Main(door.New(), app.OS{
			Args: args, Dir: dir, Stdin: bytes.NewReader(nil), Stdout: &out, Stderr: &errs, Now: time.Now,
			Lookup: func(name string) (string, bool) {
				if name == "XDG_CACHE_HOME" {
					return cache, true
				}
				return "", false
			},
		})
		both := out.String() + errs.String()
		if code != c.exit || !regexp.MustCompile(c.want).MatchString(both) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", c.code, code, c.exit, c.want, both)
		}
	}
	left, err := filepath.Glob(filepath.Join(cache, "ultrafast", "environments", "environments", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}
