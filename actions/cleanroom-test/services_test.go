package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
)

// TestServices starts real servers from their images, each asked in its own protocol
// until it answers, and a client that reaches one by its name.
func TestServices(t *testing.T) {
	t.Parallel()
	services, err := filepath.Abs("../../build/services")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(services, "index.json")); err != nil {
		t.Skip("build/services is not there: make service-images makes it, on Debian 12")
	}
	dir, cache := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		"ggen.toml":              "[cleanroom]\nmin_isolation = \"none\"\n",
		".cleanroom/config.toml": "[containers]\nregistry = \"layout:" + services + "\"\n",
		"pw":                     "a secret word\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		code := app.Main(door.New(), app.OS{
			Args: args, Dir: dir, Stdin: bytes.NewReader(nil), Stdout: &out, Stderr: &errs, Now: time.Now,
			Lookup: func(name string) (string, bool) {
				if name == "XDG_CACHE_HOME" {
					return cache, true
				}
				return "", false
			},
		})
		if both := out.String() + errs.String(); code != want || strings.Contains(both, "a secret word") {
			t.Fatalf("%q: exit code %d, want %d:\n%s", args, code, want, both)
		}
		return out.String()
	}
	run(0, "environment", "create", "--name", "services")
	defer run(0, "environment", "delete", "--name", "services", "--force")
	run(0, "container", "start", "redis", "--wait-ready", "--timeout", "60")
	run(0, "container", "start", "postgres", "--name", "db", "--db", "shop", "--user", "shop", "--password-file", filepath.Join(dir, "pw"), "--wait-ready", "--timeout", "120")
	list := run(0, "container", "list")
	if strings.Count(list, "ready") != 2 {
		t.Errorf("the list:\n%s", list)
	}
	run(0, "container", "start", "busybox", "--name", "client", "--", "sh", "-c", "printf 'PING\\r\\n' | nc redis 6379 | head -n 1")
	if said := run(0, "container", "logs", "client", "--follow"); !strings.Contains(said, "+PONG") {
		t.Errorf("a client of redis got %q", said)
	}
	if log := run(0, "container", "logs", "db"); !strings.Contains(log, "database system is ready") {
		t.Errorf("the log of postgres: %s", log)
	}
	run(0, "container", "stop", "db", "--timeout", "20")
	if m := run(0, "metrics", "show", "--detailed", "--output", "json"); !strings.Contains(m, `"name": "redis"`) {
		t.Errorf("metrics: %s", m)
	}
}
