package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// benchScope keeps what is made here apart from environments of others on an engine.
const benchScope = "bench-cleanroom"

// engineBackend returns the back end for an engine, and its client, with the image that
// it runs brought there.
func (b *bench) engineBackend(ctx context.Context, name, host string) (back *docker.Backend, c *engine.Client, ref string, err error) {
	if _, err := os.Stat(filepath.Join("build", "services", "index.json")); err != nil {
		return nil, nil, "", errors.New("build/services is not there: make service-images makes it, on Debian 12")
	}
	images := b.images()
	pinned, err := images.Resolve(ctx, "busybox")
	if err != nil {
		return nil, nil, "", err
	}
	if c, err = engine.Open(host, ""); err != nil {
		return nil, nil, "", err
	}
	if err := c.Ping(ctx); err != nil {
		return nil, nil, "", errors.Join(err, c.Close())
	}
	return docker.New(docker.Options{Name: name, Host: host, Images: images, Scope: benchScope}), c, pinned.String(), nil
}

// busyTrue runs true of the image in an environment, to its end.
func busyTrue(ctx context.Context, e sandbox.Environment, ref string) error {
	c, err := e.Start(ctx, sandbox.ContainerSpec{Name: "true", Image: ref, Argv: []string{"/bin/true"}})
	if err != nil {
		return err
	}
	st, err := c.Wait(ctx)
	if err == nil && !st.OK() {
		err = errors.New(st.String())
	}
	return err
}

// overRawClient compares one container of the docker back end with the calls that are
// the least for it: create, start, wait, remove.
func overRawClient(ctx context.Context, b *bench) (err error) {
	const title = "\n## The docker back end over the raw client\n\n"
	back, c, ref, err := b.engineBackend(ctx, docker.Docker, engine.Find(docker.Docker))
	if err != nil {
		b.printf("%sNot measured: %v\n", title, err)
		return nil
	}
	defer c.Close()
	limits := sandbox.Limits{Memory: 256 << 20, CPUs: 1, PIDs: 64}
	env, err := back.Create(ctx, sandbox.EnvironmentSpec{Name: "raw", Limits: limits})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, env.Close(context.WithoutCancel(ctx))) }()
	if err := busyTrue(ctx, env, ref); err != nil {
		return err
	}
	_, digest, _ := strings.Cut(ref, "sha256:")
	spec := engine.ContainerSpec{
		Image: "localhost/ultrafast-image:" + digest, Entrypoint: []string{"/bin/true"}, Network: "none", ReadOnly: true, User: "65534:65534",
		Memory: limits.Memory, CPUs: limits.CPUs, PIDs: int64(limits.PIDs), Files: 1024, UserProcesses: 1024,
	}
	var ended [2][]time.Duration // to the end of the payload: raw, ours
	raw := &run{name: "create, start, wait, remove", do: func() error {
		begin := time.Now()
		id, err := c.CreateContainer(ctx, spec)
		if err != nil {
			return err
		}
		exit := c.NextExit(ctx, id)
		if err := c.StartContainer(ctx, id); err != nil {
			return errors.Join(err, c.RemoveContainer(context.WithoutCancel(ctx), id))
		}
		e := <-exit
		ended[0] = append(ended[0], time.Since(begin))
		if e.Err == nil && e.Code != 0 {
			e.Err = fmt.Errorf("exit code %d", e.Code)
		}
		return errors.Join(e.Err, c.RemoveContainer(context.WithoutCancel(ctx), id))
	}}
	ours := &run{name: "a container of an environment (ours)", do: func() error {
		begin := time.Now()
		if err := busyTrue(ctx, env, ref); err != nil {
			return err
		}
		ended[1] = append(ended[1], time.Since(begin))
		return removed(ctx, c)
	}}
	if err := turns(ctx, b.rounds, []*run{raw, ours}); err != nil {
		return err
	}
	toEnd := []*run{{took: ended[0][1:]}, {took: ended[1][1:]}}
	b.printf("%s| | ms to the end of the program, median | ms until it is removed, median |\n|---|---|---|\n", title)
	for i, r := range []*run{raw, ours} {
		b.printf("| %s | %.1f | %.1f |\n", r.name, median(toEnd[i].took, ms), median(r.took, ms))
	}
	b.printf("| added, median of the rounds | %.0f %% | %.0f %% |\n\nAsked: 15 %% or less. The raw client has neither standard input and output, nor an init, nor reads back what is in force.\n",
		100*(toEnd[1].over(toEnd[0])-1), 100*(ours.over(raw)-1))
	return nil
}

// removed waits until the engine has nothing of ours but what holds the network.
func removed(ctx context.Context, c *engine.Client) error {
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		list, err := c.Containers(ctx, "dev.ultrafast.scope="+benchScope)
		if err != nil || len(list) <= 1 {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// manyEnvironments makes many environments at once on each back end, each with a
// container, and removes them.
func manyEnvironments(ctx context.Context, b *bench) error {
	b.printf("\n## Environments at once, each with a container\n\n| | environments | s | left | peak memory of the tool, MB |\n|---|---|---|---|---|\n")
	back := embedded.New(embedded.Options{StateDir: b.state})
	err := b.atOnce(ctx, back, 50, func(ctx context.Context, e sandbox.Environment) error {
		_, err := runProbe(ctx, e, b.root, "/probe")
		return err
	}, func(context.Context) ([]string, error) { return b.leftOnMachine() })
	if err != nil {
		return errors.Join(err, os.RemoveAll(b.state))
	}
	var absent []string
	for _, name := range []string{docker.Docker, docker.Podman} {
		if err := b.atOnceOn(ctx, name); err != nil {
			var none *absence
			if !errors.As(err, &none) {
				return err
			}
			absent = append(absent, name+": "+err.Error())
		}
	}
	for _, a := range absent {
		b.printf("\nNot measured: %s\n", a)
	}
	b.printf("\nAsked: all pass, nothing left, under 150 MB.\n")
	return os.RemoveAll(b.state)
}

// absence is an engine that is not there.
type absence struct{ error }

// atOnceOn does it on an engine.
func (b *bench) atOnceOn(ctx context.Context, name string) error {
	host := engine.Find(name)
	if name == docker.Podman {
		var stop func() error
		var err error
		if host, stop, err = b.podmanService(ctx); err != nil {
			return &absence{err}
		}
		defer func() {
			if err := stop(); err != nil {
				fmt.Fprintln(os.Stderr, "bench-cleanroom: podman:", err)
			}
		}()
	}
	back, c, ref, err := b.engineBackend(ctx, name, host)
	if err != nil {
		return &absence{err}
	}
	defer c.Close()
	warm, err := back.Create(ctx, sandbox.EnvironmentSpec{Name: "warm"})
	if err != nil {
		return err
	}
	if err := errors.Join(busyTrue(ctx, warm, ref), warm.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	return b.atOnce(ctx, back, 10, func(ctx context.Context, e sandbox.Environment) error { return busyTrue(ctx, e, ref) },
		func(ctx context.Context) (left []string, err error) {
			list, err := c.Containers(ctx, "dev.ultrafast.scope="+benchScope)
			for _, one := range list {
				left = append(left, one.Name)
			}
			return left, err
		})
}

// atOnce makes count environments at once and removes them, and asks what is left.
func (b *bench) atOnce(ctx context.Context, back sandbox.Backend, count int, use func(context.Context, sandbox.Environment) error, leftovers func(context.Context) ([]string, error)) error {
	// Write "5" and the kernel forgets the peak so far (proc_pid_clear_refs(5)).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return err
	}
	begin := time.Now()
	err := inParallel(count, count, func(i int) error {
		env, err := back.Create(ctx, sandbox.EnvironmentSpec{Name: "bench-at-once-" + strconv.Itoa(i), MinIsolation: sandbox.Full})
		if err != nil {
			return err
		}
		return errors.Join(use(ctx, env), env.Close(context.WithoutCancel(ctx)))
	})
	if err != nil {
		return fmt.Errorf("%s: %w", back.Name(), err)
	}
	took := time.Since(begin)
	left, err := leftovers(ctx)
	if err != nil {
		return err
	}
	peak, err := peakMemory()
	if err != nil {
		return err
	}
	b.printf("| %s | %d, all passed | %.2f | %d | %.0f |\n", back.Name(), count, took.Seconds(), len(left), peak)
	if len(left) > 0 {
		return fmt.Errorf("%s left: %s", back.Name(), strings.Join(left, " "))
	}
	return nil
}

// peakMemory is the peak of this process's resident memory, in MB.
func peakMemory() (float64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kilobytes, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kilobytes), "kB")))
			return float64(n) / 1024, err
		}
	}
	return 0, errors.New("the kernel does not tell the peak of memory")
}

// leftOnMachine lists what the embedded sandbox may leave.
func (b *bench) leftOnMachine() (left []string, err error) {
	for _, pattern := range []string{b.state + "/environments/*", "/sys/fs/cgroup/*/ultrafast-bench-at-once*", "/sys/fs/cgroup/ultrafast-bench-at-once*"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		left = append(left, found...)
	}
	return left, nil
}

// podmanService starts podman's service with storage of its own.
func (b *bench) podmanService(ctx context.Context) (host string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "bench-podman-") // its name may not be long
	if err != nil {
		return "", nil, err
	}
	conf := filepath.Join(dir, "containers.conf")
	if err := os.WriteFile(conf, []byte(podmanConf), 0o644); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	host = "unix://" + filepath.Join(dir, "podman.sock")
	storage := []string{"--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run")}
	cmd := exec.Command("podman", append(storage, "system", "service", "--time=0", host)...)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+conf)
	cmd.Dir = dir // what watches containers writes files where it is
	if err := cmd.Start(); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_, err := output(context.WithoutCancel(ctx), []string{"CONTAINERS_CONF=" + conf}, append(append([]string{"podman"}, storage...), "system", "reset", "--force")...)
		return errors.Join(err, os.RemoveAll(dir))
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(time.Minute)
	for {
		if err = answers(ctx, host); err == nil {
			return host, stop, nil
		}
		select {
		case e := <-ended:
			ended <- e
			return "", nil, errors.Join(fmt.Errorf("podman's service ended: %w", e), stop())
		case <-deadline:
			return "", nil, errors.Join(fmt.Errorf("podman's service does not answer: %w", err), stop())
		case <-again.C:
		}
	}
}

func answers(ctx context.Context, host string) error {
	c, err := engine.Open(host, "")
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Ping(ctx)
}
