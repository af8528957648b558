package sandboxtest

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Direct is a back end that isolates nothing, for tests of what uses one: the walls
// have their own tests. It says so: its level is None.
type Direct struct {
	T *testing.T
	// Started sees every container before it starts.
	Started func(spec sandbox.ContainerSpec)
	// Level is what its environments say they have.
	Level sandbox.Level
	// Open counts the environments that were not closed.
	Open sync.WaitGroup
}

func (d *Direct) Name() string { return "direct" }

func (d *Direct) Probe(context.Context) (sandbox.Capabilities, error) {
	return sandbox.Capabilities{Level: d.Level}, nil
}

func (d *Direct) Create(_ context.Context, spec sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	dir, err := os.MkdirTemp(d.T.TempDir(), "env-")
	if err != nil {
		return nil, err
	}
	d.Open.Add(1)
	return &directEnv{d: d, name: spec.Name, dir: dir}, nil
}

func (d *Direct) List(context.Context) ([]sandbox.Info, error) { return nil, nil }

func (d *Direct) Delete(context.Context, string) error { return errors.New("not here") }

type directEnv struct {
	d    *Direct
	name string
	dir  string
	mu   sync.Mutex
	runs []*directRun
	once sync.Once
}

func (e *directEnv) Name() string { return e.name }

func (e *directEnv) Effective() sandbox.Effective {
	return sandbox.Effective{
		Level: e.d.Level, Why: []string{"a test asked for no isolation"},
		Enforced: []sandbox.Enforcement{{Name: "wall", Value: "as asked", By: "deadline"}},
	}
}

func (e *directEnv) Path(container string, m sandbox.Mount) string {
	if m.Kind == sandbox.Scratch {
		return filepath.Join(e.dir, container, filepath.Base(m.Target))
	}
	return m.Source
}

func (e *directEnv) Port(int) (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (e *directEnv) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// Listen listens on the host's loopback interface.
func (e *directEnv) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", "127.0.0.1:0")
}

func (e *directEnv) Start(_ context.Context, spec sandbox.ContainerSpec) (sandbox.Container, error) {
	if e.d.Started != nil {
		e.d.Started(spec)
	}
	for _, m := range spec.Mounts {
		if err := os.MkdirAll(e.Path(spec.Name, m), 0o755); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), spec.Limits.Wall)
	cmd, err := launch(ctx, spec)
	if err != nil {
		cancel()
		return nil, err
	}
	started := time.Now()
	r := &directRun{spec: spec, ctx: ctx, started: started, cmd: cmd, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		_ = cmd.Wait() // how it ended is in ProcessState
		r.status = sandbox.ExitStatus{Code: cmd.ProcessState.ExitCode(), Wall: time.Since(started), TimedOut: ctx.Err() == context.DeadlineExceeded}
		if r.status.Code < 0 && !r.status.TimedOut {
			r.status.Signal = cmd.ProcessState.String()
		}
		cancel() // and what runs beside it
	}()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.runs = append(e.runs, r)
	return r, nil
}

// launch starts the process. A program that was just written cannot be started
// while a child that another test forked at that moment still holds it open; that
// passes (go.dev/issue/22315).
func launch(ctx context.Context, spec sandbox.ContainerSpec) (*exec.Cmd, error) {
	for {
		cmd := exec.CommandContext(ctx, spec.Argv[0], spec.Argv[1:]...)
		cmd.Env, cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = spec.Env, spec.Dir, spec.Stdin, spec.Stdout, spec.Stderr
		cmd.WaitDelay = time.Second
		killTree(cmd)
		err := cmd.Start()
		if err == nil || !strings.Contains(err.Error(), "text file busy") || ctx.Err() != nil {
			return cmd, err
		}
	}
}

func (e *directEnv) Close(ctx context.Context) (err error) {
	e.once.Do(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, r := range e.runs {
			err = errors.Join(err, r.Kill(ctx))
		}
		err = errors.Join(err, removeSoon(ctx, e.dir))
		e.d.Open.Done()
	})
	return err
}

// removeSoon removes a directory into which a process that nobody waits for may still
// write for a moment: the go command counts its uses in the background, below HOME.
func removeSoon(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		err := os.RemoveAll(dir)
		if !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

type directRun struct {
	spec    sandbox.ContainerSpec
	ctx     context.Context // ends with the time of the container
	started time.Time
	cmd     *exec.Cmd
	cancel  func()
	done    chan struct{}
	status  sandbox.ExitStatus
}

func (r *directRun) Name() string { return r.spec.Name }

// Address is the host's loopback interface.
func (r *directRun) Address() string { return "127.0.0.1" }

// Exec runs a process beside that of the container, until the end of either.
func (r *directRun) Exec(ctx context.Context, spec sandbox.ExecSpec) (sandbox.ExitStatus, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	inside := r.spec
	inside.Argv, inside.Stdin, inside.Stdout, inside.Stderr = spec.Argv, spec.Stdin, spec.Stdout, spec.Stderr
	if len(spec.Env) > 0 {
		inside.Env = spec.Env
	}
	if spec.Dir != "" {
		inside.Dir = spec.Dir
	}
	started := time.Now()
	cmd, err := launch(ctx, inside)
	if err != nil {
		return sandbox.ExitStatus{}, err
	}
	_ = cmd.Wait() // how it ended is in ProcessState
	if ctx.Err() != nil && r.ctx.Err() == nil {
		return sandbox.ExitStatus{}, context.Cause(ctx)
	}
	return sandbox.ExitStatus{Code: cmd.ProcessState.ExitCode(), Wall: time.Since(started)}, nil
}

// Usage measures the time.
func (r *directRun) Usage(context.Context) (sandbox.Usage, error) {
	return sandbox.Usage{Wall: time.Since(r.started)}, nil
}

func (r *directRun) Signal(sig os.Signal) error { return r.cmd.Process.Signal(sig) }

func (r *directRun) Wait(ctx context.Context) (sandbox.ExitStatus, error) {
	select {
	case <-r.done:
		return r.status, nil
	case <-ctx.Done():
		return sandbox.ExitStatus{}, context.Cause(ctx)
	}
}

func (r *directRun) Kill(context.Context) error {
	r.cancel()
	<-r.done
	return nil
}
