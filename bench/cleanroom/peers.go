package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// sample is one start: to the first instruction, and to the end.
type sample struct{ exec, total time.Duration }

// peer runs the probe in a sandbox and returns what it printed.
type peer struct {
	name string
	run  func(context.Context) ([]byte, error)
	// close frees what the peer holds between the turns.
	close func() error

	samples []sample
}

// monotonic is the clock that the probe reads.
func monotonic() time.Duration {
	const clock = 1
	var now syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		panic(errno)
	}
	return time.Duration(now.Nano())
}

// turn runs p once.
func (p *peer) turn(ctx context.Context) (sample, error) {
	begin := monotonic()
	out, err := p.run(ctx)
	end := monotonic()
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", p.name, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return sample{}, fmt.Errorf("%s: the probe printed %q", p.name, out)
	}
	return sample{time.Duration(n) - begin, end - begin}, nil
}

// command is a peer that is a program.
func command(name string, env []string, argv ...string) *peer {
	return &peer{name: name, close: func() error { return nil }, run: func(ctx context.Context) ([]byte, error) {
		return output(ctx, env, argv...)
	}}
}

func output(ctx context.Context, env []string, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %.300s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// starts compares the time from asking for a container to its first instruction. The
// embedded supervisor runs already, as Docker's and containerd's do.
func starts(ctx context.Context, b *bench) error {
	var peers []*peer
	defer func() {
		for _, p := range peers {
			if err := p.close(); err != nil {
				fmt.Fprintln(os.Stderr, "bench-cleanroom:", p.name, err)
			}
		}
	}()
	var absent []string
	for _, make := range []func(context.Context) (*peer, error){b.bare, b.embedded, b.bubblewrap, b.runc, b.podman, b.docker} {
		p, err := make(ctx)
		if err == nil {
			if _, err = p.turn(ctx); err != nil {
				err = errors.Join(err, p.close())
			}
		}
		if err != nil {
			absent = append(absent, err.Error())
			continue
		}
		peers = append(peers, p)
	}
	for range b.rounds {
		for _, p := range peers {
			s, err := p.turn(ctx)
			if err != nil {
				return err
			}
			p.samples = append(p.samples, s)
		}
	}
	i := slices.IndexFunc(peers, func(p *peer) bool { return p.name == ours })
	if i < 0 {
		return fmt.Errorf("the embedded sandbox does not work here: %s", strings.Join(absent, "; "))
	}
	b.printf("\n## From asking for a container to its first instruction\n\n| | start → exec ms, median | least | to the end, median | times as long as ours, median of the rounds |\n|---|---|---|---|---|\n")
	for _, p := range peers {
		var times []float64
		for n := range p.samples {
			times = append(times, float64(p.samples[n].exec)/float64(peers[i].samples[n].exec))
		}
		b.printf("| %s | %.1f | %.1f | %.1f | %.1f |\n", p.name,
			median(p.samples, func(s sample) float64 { return ms(s.exec) }), least(p.samples, func(s sample) float64 { return ms(s.exec) }),
			median(p.samples, func(s sample) float64 { return ms(s.total) }), median(times, func(f float64) float64 { return f }))
	}
	for _, a := range absent {
		b.printf("\nNot compared: %s\n", a)
	}
	b.printf("\nAsked: ours 7.5 ms, and 30 times faster than docker run.\n")
	return nil
}

// ours is the name of the peer that the others are compared with.
const ours = "embedded (ours)"

func (b *bench) bare(context.Context) (*peer, error) {
	return command("no sandbox: fork and exec", nil, filepath.Join(b.root, "probe")), nil
}

func (b *bench) embedded(ctx context.Context) (*peer, error) {
	env, err := embedded.New(embedded.Options{StateDir: b.state}).Create(ctx, sandbox.EnvironmentSpec{Name: "bench-start", MinIsolation: sandbox.Full})
	if err != nil {
		return nil, err
	}
	return &peer{name: ours, close: func() error { return env.Close(context.WithoutCancel(ctx)) }, run: func(ctx context.Context) ([]byte, error) {
		return runProbe(ctx, env, b.root, "/probe")
	}}, nil
}

// runProbe runs a program of root in env and returns its output.
func runProbe(ctx context.Context, env sandbox.Environment, root, program string) ([]byte, error) {
	var out bytes.Buffer
	c, err := env.Start(ctx, sandbox.ContainerSpec{Name: "probe", Root: root, Argv: []string{program}, Stdout: &out})
	if err != nil {
		return nil, err
	}
	st, err := c.Wait(ctx)
	if err == nil && !st.OK() {
		err = errors.New(st.String())
	}
	return out.Bytes(), err
}

func (b *bench) bubblewrap(context.Context) (*peer, error) {
	return command("bubblewrap", nil, "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
		"--ro-bind", b.root, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "/probe"), nil
}

// runc runs a bundle of its own specification, with our program and a read-only root.
func (b *bench) runc(ctx context.Context) (*peer, error) {
	bundle := filepath.Join(b.work, "bundle")
	if err := os.RemoveAll(bundle); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		return nil, err
	}
	if _, err := output(ctx, nil, "runc", "spec", "--bundle", bundle); err != nil {
		return nil, fmt.Errorf("runc: %w", err)
	}
	file := filepath.Join(bundle, "config.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		return nil, err
	}
	process, ok := spec["process"].(map[string]any)
	if !ok {
		return nil, errors.New("runc: its specification has no process")
	}
	process["terminal"], process["args"] = false, []string{"/probe"}
	spec["root"] = map[string]any{"path": b.root, "readonly": true}
	if text, err = json.Marshal(spec); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return nil, err
	}
	return command("runc", nil, "runc", "--root", filepath.Join(b.work, "runc"), "run", "--bundle", bundle, "bench-start"), nil
}

// image is the name under which engines know the root.
const image = "ultrafast-bench-cleanroom:1"

// engineRun are the arguments of a run that has what the embedded sandbox has.
func engineRun(engine ...string) []string {
	return append(engine, "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--memory", "512m", "--pids-limit", "128", image, "/probe")
}

// importRoot gives an engine the root as an image.
func (b *bench) importRoot(ctx context.Context, env []string, engine ...string) error {
	tarball := filepath.Join(b.work, "root.tar")
	if _, err := output(ctx, nil, "tar", "-C", b.root, "-cf", tarball, "."); err != nil {
		return err
	}
	_, err := output(ctx, env, append(engine, "import", tarball, image)...)
	return err
}

func (b *bench) docker(ctx context.Context) (*peer, error) {
	if err := b.importRoot(ctx, nil, "docker"); err != nil {
		return nil, fmt.Errorf("docker run: %w", err)
	}
	p := command("docker run", nil, engineRun("docker")...)
	p.close = func() error {
		_, err := output(context.WithoutCancel(ctx), nil, "docker", "image", "rm", "--force", image)
		return err
	}
	return p, nil
}

// podmanConf is for machines without systemd, without the right to raise limits and with
// both versions of control groups, where its defaults do not work.
const podmanConf = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`

func (b *bench) podman(ctx context.Context) (*peer, error) {
	conf := filepath.Join(b.work, "containers.conf")
	if err := os.WriteFile(conf, []byte(podmanConf), 0o644); err != nil {
		return nil, err
	}
	env := []string{"CONTAINERS_CONF=" + conf}
	engine := []string{"podman", "--root", filepath.Join(b.work, "podman"), "--runroot", filepath.Join(b.work, "podman-run")}
	if err := b.importRoot(ctx, env, engine...); err != nil {
		return nil, fmt.Errorf("podman run: %w", err)
	}
	p := command("podman run", env, engineRun(engine...)...)
	p.close = func() error {
		_, err := output(context.WithoutCancel(ctx), env, append(engine, "system", "reset", "--force")...)
		return err
	}
	return p, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median[T any](list []T, of func(T) float64) float64 {
	var values []float64
	for _, v := range list {
		values = append(values, of(v))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func least[T any](list []T, of func(T) float64) float64 {
	best := of(list[0])
	for _, v := range list {
		best = min(best, of(v))
	}
	return best
}
