package platforms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// root is the root of the repository, absolute.
var root = sync.OnceValue(func() string {
	dir, err := filepath.Abs(filepath.Join("..", "..", ".."))
	if err != nil {
		panic(err)
	}
	return dir
})

// kept is a directory below build/ for what is slow to make: tools and binaries. It
// stays for the next run.
func kept(names ...string) string {
	return filepath.Join(append([]string{root(), "build"}, names...)...)
}

var (
	// scratch is a directory of this process, removed when it ends.
	scratch string
	// atEnd is called when all tests have run, last first.
	atEnd []func() error
)

// withRig calls run with a scratch directory, and cleans up after it.
func withRig(run func() int) int {
	var err error
	if scratch, err = os.MkdirTemp("", "ultrafast-platforms-*"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	atEnd = append(atEnd, func() error { return removeAll(scratch) })
	code := run()
	for i := len(atEnd) - 1; i >= 0; i-- {
		if err := atEnd[i](); err != nil {
			fmt.Fprintln(os.Stderr, "cleaning up:", err)
			code = max(code, 1)
		}
	}
	return code
}

// removeAll removes dir also where it holds directories that cannot be written, as
// module caches do.
func removeAll(dir string) error {
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(name, 0o755)
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(dir))
}

// command is a program to run. Nothing of it reaches a shell.
type command struct {
	dir string
	// env are variables besides those of the process.
	env []string
	// limit is the time that it may take; ten minutes if zero.
	limit time.Duration
	args  []string
}

// output runs c, and returns what it wrote to standard output and all that it wrote.
func (c command) output(ctx context.Context) (stdout, all string, err error) {
	if c.limit == 0 {
		c.limit = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	var out bytes.Buffer
	both := &locked{}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, both), both
	// What runs containers removes them when it is interrupted.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	if err = cmd.Run(); err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w after %s", err, c.limit)
	}
	return out.String(), both.text.String(), err
}

// locked is a buffer that two streams are copied into.
type locked struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// call runs c, which must succeed, and returns its standard output.
func call(t testing.TB, c command) string {
	t.Helper()
	stdout, all, err := c.output(t.Context())
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(c.args, " "), err, all)
	}
	return stdout
}

// goBuild are the variables and arguments with which everything that is published is
// built: a build on the host has the bytes of the build in an image, so that results
// in a shared store count for both.
var (
	goEnv   = []string{"CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off", "GO111MODULE=on", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off"}
	goBuild = []string{"go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="}
)

// doors are the programs by the names that they have in images.
var doors = []string{"market", "generate", "cleanroom-test", "validate", "deploy", "ultrafast"}

var buildBinaries = sync.OnceValues(func() (string, error) {
	dir := kept("platforms", "bin")
	args := append(goBuild, "-o", dir+string(filepath.Separator))
	for _, d := range doors {
		args = append(args, "./actions/"+d)
	}
	_, all, err := command{dir: root(), env: goEnv, args: args}.output(context.Background())
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, all)
	}
	return dir, nil
})

// binaries returns the directory of the programs, built from this work tree.
func binaries(t testing.TB) string {
	t.Helper()
	dir, err := buildBinaries()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// goTool returns the program name of a Go module at a version, built into build/tools
// when it is first asked for.
func goTool(t *testing.T, name, pkg, version string) string {
	t.Helper()
	dir := kept("tools", version)
	program := filepath.Join(dir, name)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	_, all, err := command{env: append(goEnv, "GOBIN="+dir), args: []string{"go", "install", pkg + "@" + version}}.output(t.Context())
	if err != nil {
		missing(t, "%s cannot be installed: %v\n%s", name, err, all)
	}
	return program
}

// startDocker returns once a Docker daemon answers. It starts one where none does and
// this is possible, with a socket and data of its own, and has it stopped at the end.
var startDocker = sync.OnceValue(func() error {
	if answers() == nil {
		return nil
	}
	daemon, err := exec.LookPath("dockerd")
	if err != nil || os.Getuid() != 0 {
		return errors.New("no Docker daemon answers, and none can be started: that needs root and dockerd")
	}
	log, err := os.Create(filepath.Join(scratch, "dockerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	dir := filepath.Join(scratch, "dockerd")
	socket := "unix://" + filepath.Join(scratch, "docker.sock")
	cmd := exec.Command(daemon, "--host", socket, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := os.Setenv("DOCKER_HOST", socket); err != nil {
		return err
	}
	atEnd = append(atEnd, func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-ended:
			return unmountBelow(dir)
		case <-time.After(30 * time.Second):
			return errors.Join(errors.New("dockerd did not end in 30 s"), cmd.Process.Kill())
		}
	})
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); {
		if err = answers(); err == nil {
			return nil
		}
		select {
		case e := <-ended:
			ended <- e
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("dockerd ended: %w\n%s", e, text[max(0, len(text)-2000):])
		case <-time.After(100 * time.Millisecond): // between two probes
		}
	}
	return fmt.Errorf("dockerd does not answer after 60 s: %w", err)
})

// unmountBelow unmounts what a daemon leaves mounted: the network namespace of containers
// that had the host's.
func unmountBelow(dir string) error {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(table)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			_, all, err := command{args: []string{"umount", fields[1]}}.output(context.Background())
			if err != nil {
				errs = append(errs, fmt.Errorf("umount %s: %w: %s", fields[1], err, all))
			}
		}
	}
	return errors.Join(errs...)
}

func answers() error {
	if runtime.GOOS != "linux" {
		return errors.New("the tests need a Docker daemon on this machine, and Linux")
	}
	_, all, err := command{limit: 10 * time.Second, args: []string{"docker", "version", "--format", "{{.Server.Version}}"}}.output(context.Background())
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(all))
	}
	return nil
}

// docker ends the test where there is no Docker daemon.
func docker(t *testing.T) {
	t.Helper()
	if err := startDocker(); err != nil {
		missing(t, "%v", err)
	}
}

// imported makes sure that the daemon has an image called tag, made by build if it is
// not there, and has it removed at the end if it was made.
func imported(t *testing.T, tag string, build func() error) {
	t.Helper()
	docker(t)
	if _, _, err := (command{args: []string{"docker", "image", "inspect", tag}}).output(t.Context()); err == nil {
		return
	}
	if err := build(); err != nil {
		missing(t, "image %s: %v", tag, err)
	}
	atEnd = append(atEnd, func() error { return removeImage(tag) })
}

func removeImage(tag string) error {
	_, all, err := command{args: []string{"docker", "rmi", "--force", tag}}.output(context.Background())
	if err != nil {
		return fmt.Errorf("remove image %s: %w: %s", tag, err, all)
	}
	return nil
}

// freeAddress returns a loopback address on which nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// exitCode returns the exit code that err tells of; zero if it is nil, -1 if the
// program did not come to an end by itself.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}
