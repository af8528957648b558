package embedded_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// TestPrograms runs what people test with behind the walls of level full: that the
// filter lets through what these programs do.
func TestPrograms(t *testing.T) {
	e := newEnvironment(t, embedded.Options{StateDir: t.TempDir()}, "programs")
	if e.Effective().Level < sandbox.Full {
		t.Skip("there is no filter below level full")
	}
	// What Go has compiled already it need not compile again.
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiled := sandbox.Mount{Kind: sandbox.Overlay, Source: strings.TrimSpace(string(cache)), Target: "/cache"}
	postgres, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	postgres = append(postgres, "/nowhere")
	for _, c := range []struct{ name, needs, script, want string }{
		{"go", "/usr/local/go/bin/go", `
			export GOPATH=/tmp/path GOFLAGS=-mod=mod GOTOOLCHAIN=local CGO_ENABLED=0 PATH=$PATH:/usr/local/go/bin
			mkdir /tmp/m && cd /tmp/m && go mod init m 2>/dev/null
			printf 'package m\nimport ("net"; "os/exec"; "testing")\nfunc Test(t *testing.T) { l, err := net.Listen("tcp", "127.0.0.1:0"); if err != nil { t.Fatal(err) }; l.Close(); if err := exec.Command("true").Run(); err != nil { t.Fatal(err) } }\n' >m_test.go
			go test ./... >/tmp/out || cat /tmp/out; echo tested`, "tested"},
		{"node", "/usr/bin/node", `
			node -e '
			const {Worker} = require("worker_threads"), fs = require("fs"), {execSync} = require("child_process");
			fs.watch("/tmp").close(); fs.writeFileSync("/tmp/f", "x"); execSync("true");
			require("dns").lookup("localhost", (e, a) => new Worker("1", {eval: true}).on("exit", c => console.log(a, c)))'`, "127.0.0.1 0"},
		{"python", "/usr/bin/python3", `
			python3 -c '
import asyncio, multiprocessing, socket, sqlite3, subprocess, tempfile
with multiprocessing.Pool(2) as p: n = sum(p.map(abs, [-1, -2]))
asyncio.run(asyncio.sleep(0)); subprocess.run(["true"], check=True); tempfile.TemporaryFile().write(b"x")
print(n, socket.getaddrinfo("localhost", 80, socket.AF_INET)[0][4][0], sqlite3.connect("/tmp/d").execute("select 1").fetchone()[0])'`, "3 127.0.0.1 1"},
		{"postgres", filepath.Join(postgres[0], "initdb"), `
			export PATH=$PATH:` + postgres[0] + `
			initdb -A trust -U u -N -D /tmp/d >/tmp/log 2>&1 && pg_ctl -w -D /tmp/d -l /tmp/log -o "-k /tmp -c max_worker_processes=4" start >/dev/null || cat /tmp/log
			psql -h 127.0.0.1 -U u -Atc "create table t as select generate_series(1, 1000) n" -c "vacuum t" -c "select sum(n) from t" postgres | tail -1
			pg_ctl -w -D /tmp/d -m fast stop >/dev/null`, "500500"},
		{"redis", "/usr/bin/redis-server", `
			redis-server --dir /tmp --port 7001 --daemonize yes --pidfile /tmp/p --appendonly yes --io-threads 2 >/tmp/log || cat /tmp/log
			until redis-cli -p 7001 ping >/dev/null 2>&1; do :; done
			redis-cli -p 7001 set a b; redis-cli -p 7001 save; redis-cli -p 7001 shutdown`, "OK OK"},
		{"cargo", "/usr/bin/cargo", `
			export CARGO_HOME=/tmp/home HOME=/tmp
			cargo new --quiet --vcs none /tmp/c 2>/tmp/log || cat /tmp/log
			cd /tmp/c && cargo test --quiet --offline >/tmp/log 2>&1 || cat /tmp/log; cargo run --quiet --offline`, "Hello, world!"},
		{"cc", "/usr/bin/cc", `printf 'int main(void) { return 3; }' >/tmp/a.c && cc -o /tmp/a /tmp/a.c; /tmp/a; echo $?`, "3"},
		{"java", "/usr/bin/java", `java -version >/tmp/log 2>&1 || cat /tmp/log; echo $?`, "0"},
		{"git", "/usr/bin/git", `
			export HOME=/tmp; git init -q /tmp/r && cd /tmp/r && echo a >a && git add a &&
			git -c user.name=a -c user.email=a@b commit -qm a && git gc -q && git rev-list --count HEAD`, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath(c.needs); err != nil {
				t.Skip(err)
			}
			var out bytes.Buffer
			run, err := e.Start(t.Context(), sandbox.ContainerSpec{
				Name: c.name, Argv: []string{"sh", "-c", c.script}, Stdout: &out, Stderr: &out,
				Env:    []string{"PATH=/usr/bin:/bin", "HOME=/tmp", "GOCACHE=" + compiled.Target},
				Mounts: []sandbox.Mount{compiled},
			})
			if err != nil {
				t.Fatal(err)
			}
			st, err := run.Wait(t.Context())
			if got := strings.Join(strings.Fields(out.String()), " "); err != nil || got != c.want {
				t.Errorf("%s %v: %q, want %q", st, err, got, c.want)
			}
		})
	}
}
