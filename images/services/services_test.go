package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

const built = "../../build/services"

func TestMain(m *testing.M) {
	if embedded.Reexec() {
		return
	}
	os.Exit(m.Run())
}

// start runs an image in the sandbox with its entrypoint, args and env, and returns
// the environment, the container and its output.
func start(t *testing.T, name string, args, env []string, mounts ...sandbox.Mount) (sandbox.Environment, sandbox.Container, *lines) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(built, "index.json")); err != nil {
		t.Skip("build/services is not there: make service-images makes it, on Debian 12")
	}
	images := rootfs.New(rootfs.Options{Dir: t.TempDir(), Registry: "layout:" + built})
	ref, err := images.Resolve(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	image, err := images.Unpack(t.Context(), ref.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(image.Release)
	back := embedded.New(embedded.Options{StateDir: t.TempDir()})
	e, err := back.Create(t.Context(), sandbox.EnvironmentSpec{Name: t.Name(), MinIsolation: sandbox.Full})
	if fault.KindOf(err) == fault.Unavailable {
		t.Skipf("no sandbox here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if len(args) == 0 {
		args = image.Config.Cmd
	}
	for _, v := range image.Config.Volumes {
		mounts = append(mounts, sandbox.Mount{Kind: sandbox.Scratch, Target: v})
	}
	out := &lines{}
	c, err := e.Start(t.Context(), sandbox.ContainerSpec{
		Name: "service", Root: image.Dir, Argv: append(slices.Clone(image.Config.Entrypoint), args...), Env: append(slices.Clone(image.Config.Env), env...),
		UID: max(image.Config.UID, 1), GID: max(image.Config.GID, 1), Mounts: mounts, Stdout: out, Stderr: out,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e, c, out
}

// lines keeps output for a test that fails.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// dial connects as soon as something listens; a service that ends fails the test at once.
func dial(t *testing.T, e sandbox.Environment, c sandbox.Container, port string, out *lines) io.ReadWriteCloser {
	t.Helper()
	ended := make(chan sandbox.ExitStatus, 1)
	go func() {
		status, _ := c.Wait(t.Context()) // at the end of the test it is cancelled
		ended <- status
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := e.Dial(t.Context(), "tcp", c.Address()+":"+port)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close() })
			return conn
		}
		select {
		case status := <-ended:
			t.Fatalf("the service ended: %s: %s", status, out)
		case <-tick.C:
		}
	}
}

func TestRedis(t *testing.T) {
	t.Parallel()
	e, c, out := start(t, "redis", nil, nil)
	conn := dial(t, e, c, "6379", out)
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 7)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "+PONG\r\n" {
		t.Errorf("%q, %v", answer, err)
	}
}

// TestPostgres starts the image with awkward names and a password, a script and an
// SQL file, and logs in by the network, with the wrong password too.
func TestPostgres(t *testing.T) {
	t.Parallel()
	scripts := t.TempDir()
	for name, body := range map[string]string{"1.sql": "CREATE TABLE made (n int);\n", "2.sh": "psql -q -h /tmp -U \"$POSTGRES_USER\" -d \"$POSTGRES_DB\" -c 'INSERT INTO made VALUES (7)'\n"} {
		if err := os.WriteFile(filepath.Join(scripts, name), []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const user, database, password = `o'hara "db"`, `my "own" db`, `it's "$HOME" \ ; --`
	e, c, out := start(t, "postgres", nil, []string{"POSTGRES_USER=" + user, "POSTGRES_DB=" + database, "POSTGRES_PASSWORD=" + password},
		sandbox.Mount{Kind: sandbox.ReadOnly, Source: scripts, Target: "/docker-entrypoint-initdb.d"})
	dial(t, e, c, "5432", out)
	for { // it listens before it answers
		status, err := c.Exec(t.Context(), sandbox.ExecSpec{Argv: []string{"pg_isready", "-q", "-h", "127.0.0.1"}, Env: []string{searchPath}})
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if status.OK() {
			break
		}
	}
	query := func(password string) (string, sandbox.ExitStatus) {
		var answer bytes.Buffer
		status, err := c.Exec(t.Context(), sandbox.ExecSpec{
			Argv: []string{"psql", "-tA", "-h", "127.0.0.1", "-U", user, "-d", database, "-c", "SELECT n FROM made"},
			Env:  []string{searchPath, "PGPASSWORD=" + password}, Stdout: &answer, Stderr: &answer,
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(answer.String()), status
	}
	if got, status := query(password); got != "7" || !status.OK() {
		t.Errorf("%q, %s; the server wrote %s", got, status, out.String())
	}
	if got, status := query("wrong"); status.OK() || !strings.Contains(got, "password authentication failed") {
		t.Errorf("with the wrong password: %q, %s", got, status)
	}
}

func TestPostgresRefuses(t *testing.T) {
	t.Parallel()
	_, c, out := start(t, "postgres", nil, nil)
	status, err := c.Wait(t.Context())
	if err != nil || status.Code != 1 || !strings.Contains(out.String(), "POSTGRES_PASSWORD") {
		t.Errorf("%v %v: %s", status, err, out.String())
	}
}

// TestScripts are of the shell's own grammar.
func TestScripts(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{"postgres": postgresScript, "redis": redisScript} {
		cmd := exec.CommandContext(t.Context(), "sh", "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

// TestEqualLayers: equal content gives equal bytes, whatever order it was added in.
func TestEqualLayers(t *testing.T) {
	t.Parallel()
	all := table[len(table)-1].layers[1]
	var digests []string
	for range 3 {
		c := content{}
		if err := all.add(c); err != nil {
			t.Fatal(err)
		}
		again := content{}
		maps.Copy(again, c)
		l, err := again.layer()
		if err != nil {
			t.Fatal(err)
		}
		d, err := l.Digest()
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d.String())
	}
	if len(slices.Compact(digests)) != 1 {
		t.Error(digests)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--output", "dir"}, {"--output", "layout:"}, {"x"}, {"--none"}} {
		if err := command(t.Context(), args, io.Discard, io.Discard); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestMissing says which packages are not there.
func TestMissing(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("apt is not here")
	}
	_, err := find(t.Context(), []string{"no-such-package-" + fmt.Sprint(os.Getpid())})
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "no-such-package-") || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
