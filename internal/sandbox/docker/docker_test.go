package docker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
)

// creatorArg makes the test binary the creator of one environment, churnArg one that makes
// environments until it is killed.
const (
	creatorArg = "docker-creator"
	churnArg   = "docker-churn"
)

func TestMain(m *testing.M) {
	if code, ok := sandboxtest.Main(os.Args, os.Stdin, os.Stdout, os.Stderr); ok {
		syscall.Exit(code)
	}
	if len(os.Args) > 2 && (os.Args[1] == creatorArg || os.Args[1] == churnArg) {
		if err := create(os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	for _, stop := range atEnd {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// atEnd stops what the tests have started.
var atEnd []func() error

// rig is an engine that the tests use.
type rig struct{ name, host string }

// rigs returns the engines of this machine. One that is not there is nil.
var rigs = sync.OnceValue(func() map[string]func() (rig, error) {
	return map[string]func() (rig, error){docker.Docker: sync.OnceValues(startDocker), docker.Podman: sync.OnceValues(startPodman)}
})

// onEngine runs a test on an engine, or says why not.
func onEngine(t *testing.T, name string, test func(*testing.T, rig)) {
	t.Helper()
	r, err := rigs()[name]()
	if err != nil {
		t.Skipf("no %s to test with: %v", name, err)
	}
	test(t, r)
}

func answers(host string) error {
	c, err := engine.Open(host, "")
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.Ping(ctx)
}

// startDocker finds a daemon that answers, or starts one with a socket and data of its
// own, which is stopped at the end.
func startDocker() (rig, error) {
	host := engine.Find(docker.Docker)
	if answers(host) == nil {
		return rig{docker.Docker, host}, nil
	}
	return start(docker.Docker, "dockerd", func(dir, socket string) []string {
		return []string{"--host", socket, "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
			"--pidfile", filepath.Join(dir, "pid"), "--bridge", "none", "--iptables=false"}
	}, nil)
}

// startPodman starts a service with storage of its own.
func startPodman() (rig, error) {
	return start(docker.Podman, "podman", func(dir, socket string) []string {
		return []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run"), "system", "service", "--time=0", socket}
	}, func(dir string) ([]string, error) {
		// What Podman sets by default needs CAP_SYS_RESOURCE; crun refuses hybrid control
		// groups; the other two are for machines without systemd.
		conf := filepath.Join(dir, "containers.conf")
		err := os.WriteFile(conf, []byte(`[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`), 0o644)
		return []string{"CONTAINERS_CONF=" + conf}, err
	})
}

func start(name, program string, args func(dir, socket string) []string, env func(dir string) ([]string, error)) (_ rig, err error) {
	path, err := exec.LookPath(program)
	if err != nil || os.Getuid() != 0 || runtime.GOOS != "linux" {
		return rig{}, fmt.Errorf("none answers, and none can be started: that needs Linux, root and %s", program)
	}
	dir, err := os.MkdirTemp("", "ultrafast-"+name+"-")
	if err != nil {
		return rig{}, err
	}
	socket := "unix://" + filepath.Join(dir, "engine.sock")
	cmd := exec.Command(path, args(dir, socket)...)
	cmd.Dir = dir // what watches containers writes files where it is
	cmd.Env = os.Environ()
	if env != nil {
		more, err := env(dir)
		if err != nil {
			return rig{}, err
		}
		cmd.Env = append(cmd.Env, more...)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return rig{}, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return rig{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	atEnd = append(atEnd, func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			return errors.Join(fmt.Errorf("%s did not end in 30 s", program), cmd.Process.Kill())
		}
		return errors.Join(unmountBelow(dir), os.RemoveAll(dir))
	})
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if err = answers(socket); err == nil {
			return rig{name, socket}, nil
		}
		select {
		case e := <-ended:
			ended <- e
			text, _ := os.ReadFile(log.Name())
			return rig{}, fmt.Errorf("%s ended: %w\n%s", program, e, text[max(0, len(text)-2000):])
		case <-again.C:
		}
	}
	return rig{}, fmt.Errorf("%s does not answer: %w", program, err)
}

// unmountBelow unmounts what an engine leaves mounted.
func unmountBelow(dir string) error {
	table, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var errs []error
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			if out, err := exec.Command("umount", f[1]).CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("umount %s: %w: %s", f[1], err, out))
			}
		}
	}
	return errors.Join(errs...)
}

// helper is the program for containers: the test binary may be linked dynamically.
var helper = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ultrafast-helper-")
	if err != nil {
		return "", err
	}
	atEnd = append(atEnd, func() error { return os.RemoveAll(dir) })
	path := filepath.Join(dir, "helper")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./testdata/helper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program for containers: %w: %s", err, out)
	}
	return path, nil
})

func options(tb testing.TB, r rig, scope string) docker.Options {
	tb.Helper()
	h, err := helper()
	if err != nil {
		tb.Fatal(err)
	}
	return docker.Options{Name: r.name, Host: r.host, Helper: h, Scope: scope}
}

// images is the image of the suite, made once for all engines.
var images = func() func(*testing.T) *sandboxtest.Images {
	var made *sandboxtest.Images
	return func(t *testing.T) *sandboxtest.Images {
		t.Helper()
		if _, err := os.Stat("/bin/busybox"); err != nil {
			t.Skip("no busybox to make an image of: install busybox-static")
		}
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		made = sandboxtest.NewImages(t, exe)
		return made
	}
}()

// long reports whether all cases are asked for: each takes an engine a second or two.
func long() bool { return os.Getenv("ULTRAFAST_LONG") != "" }

// short are the cases of a quick run, or nil for all.
func short(names ...string) []string {
	if long() {
		return nil
	}
	return names
}

func TestContractDocker(t *testing.T) {
	onEngine(t, docker.Docker, func(t *testing.T, r rig) {
		contract(t, options(t, r, "contract"), short("mounts", "addresses", "exec", "privileges", "killed creator"))
	})
}

func TestContractPodman(t *testing.T) {
	onEngine(t, docker.Podman, func(t *testing.T, r rig) {
		contract(t, options(t, r, "contract"), short("mounts", "privileges", "killed creator"))
	})
}

// TestContractCopies has all files copied, as for an engine on another machine.
func TestContractCopies(t *testing.T) {
	for _, name := range []string{docker.Docker, docker.Podman} {
		t.Run(name, func(t *testing.T) {
			onEngine(t, name, func(t *testing.T, r rig) {
				o := options(t, r, "copies")
				o.Copy = true
				cases := []string{"mounts"}
				if long() {
					cases = append(cases, "streams and environment", "read-only mounts", "disk limit", "image", "close leaves nothing")
				}
				contract(t, o, cases)
			})
		})
	}
}

func contract(t *testing.T, o docker.Options, only []string) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	source := images(t)
	o.Images = source
	forget(t, o.Host, source.Ref)
	t.Cleanup(func() { forget(t, o.Host, source.Ref) })
	sandboxtest.Run(t, func(*testing.T) sandbox.Backend { return docker.New(o) }, sandboxtest.Options{
		Level: sandbox.Full, Executable: exe, Image: source.Ref, OnlyImages: true,
		Measured: []string{"cpu", "memory", "pids"}, Limited: []string{"memory", "pids"},
		Leftovers: func(t *testing.T, mark string) []string { return leftovers(t, o.Host, mark) },
		Only:      only,
		Creator: func(t *testing.T, mark string) (*exec.Cmd, sandbox.Backend) {
			killed := o
			killed.Scope = "killed-" + o.Scope
			return exec.Command(exe, creatorArg, o.Name, o.Host, o.Helper, killed.Scope, source.Ref, source.Dir, mark), docker.New(killed)
		},
	})
}

// forget removes the image of the suite from an engine: another run has another one.
func forget(t *testing.T, host, ref string) {
	t.Helper()
	c, err := engine.Open(host, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, digest, _ := strings.Cut(ref, "sha256:")
	if err := c.RemoveImage(context.Background(), "localhost/ultrafast-image:"+digest); err != nil {
		t.Error(err)
	}
}

// create is the creator: it makes one environment, or more and more, until it is killed.
func create(as string, args []string) error {
	if len(args) != 7 {
		return errors.New("the creator has other arguments")
	}
	name, host, helper, scope, ref, dir, mark := args[0], args[1], args[2], args[3], args[4], args[5], args[6]
	b := docker.New(docker.Options{Name: name, Host: host, Helper: helper, Scope: scope, Images: &sandboxtest.Images{Ref: ref, Dir: dir}})
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if as == churnArg {
		return sandboxtest.Churn(context.Background(), b, ref, "churn-"+mark, exe, mark, os.Stdout)
	}
	return sandboxtest.HoldImage(context.Background(), b, ref, "killed-"+mark, exe, mark, os.Stdout)
}

// leftovers lists containers and volumes of environments with mark in their name.
func leftovers(t *testing.T, host, mark string) []string {
	t.Helper()
	c, err := engine.Open(host, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	containers, err := c.Containers(t.Context(), "dev.ultrafast.scope")
	if err != nil {
		t.Fatal(err)
	}
	volumes, err := c.Volumes(t.Context(), "dev.ultrafast.scope")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, c := range containers {
		if strings.Contains(c.Labels["dev.ultrafast.environment"], mark) {
			list = append(list, "container "+c.Name)
		}
	}
	for _, v := range volumes {
		if strings.Contains(v.Labels["dev.ultrafast.environment"], mark) {
			list = append(list, "volume "+v.Name)
		}
	}
	return list
}
