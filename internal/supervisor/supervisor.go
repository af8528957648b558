// Package supervisor keeps one process of a service running without the command
// that started it.
//
// [Run] is the supervisor's own process, one for each instance, in a session of
// its own. It starts the service, starts it again when it ends by itself, keeps
// its output in a file of bounded size, and answers on a unix socket. It signals
// no process but its own child, which it has not yet waited for, so no other can
// have that number. It never decides whether a service is healthy.
package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Spec is one service process.
type Spec struct {
	// Argv is the program, as an absolute path (below Root if that is set), and
	// its arguments.
	Argv []string `json:"argv"`
	// Env is the whole environment, "KEY=value".
	Env []string `json:"env"`
	// Dir is the working directory, below Root if that is set.
	Dir string `json:"dir"`
	// Root, if set, becomes the root directory of the process; needs root.
	Root string `json:"root,omitempty"`
	// UID, GID and the further Groups, if there is a Root or not both are zero, are those
	// of the process; needs root.
	UID    int   `json:"uid,omitempty"`
	GID    int   `json:"gid,omitempty"`
	Groups []int `json:"groups,omitempty"`
	// Log is the file for stdout and stderr. At LogLimit bytes it is renamed to
	// Log + ".1", which replaces the one before.
	Log      string `json:"log"`
	LogLimit int64  `json:"logLimit"`
	// Socket is where the supervisor answers, at most 103 bytes.
	Socket string `json:"socket"`
	// Record is the file that names the running process, see [Reap].
	Record string `json:"record"`
	// StopTimeout is the time between SIGTERM and SIGKILL.
	StopTimeout time.Duration `json:"stopTimeoutNanoseconds"`
}

// maxSpec bounds a spec file, in bytes.
const maxSpec = 1 << 20

// Encode returns the spec as [ReadSpec] reads it.
func (s Spec) Encode() ([]byte, error) { return json.Marshal(s) }

// ReadSpec reads the file that an encoded spec was written to.
func ReadSpec(path string) (_ Spec, err error) {
	f, err := os.Open(path)
	if err != nil {
		return Spec{}, fault.New(fault.Usage, "", "service specification: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	dec := json.NewDecoder(io.LimitReader(f, maxSpec))
	dec.DisallowUnknownFields()
	var s Spec
	if err := dec.Decode(&s); err != nil {
		return Spec{}, fault.New(fault.Usage, "", "service specification %s: %w", path, err)
	}
	if len(s.Argv) == 0 || s.Log == "" || s.Socket == "" || s.Record == "" || s.LogLimit <= 0 {
		return Spec{}, fault.New(fault.Usage, "", "service specification %s lacks argv, log, logLimit, socket or record", path)
	}
	return s, nil
}

// Options configure a supervisor process.
type Options struct {
	Spec Spec
	// Log may be nil.
	Log *slog.Logger
	// Ready, if not nil, is called once: with nil when the socket answers and
	// before the service starts, or with the error that Run is about to return. An
	// error from it ends the supervisor: whoever started it is gone, and nobody
	// would know of the service.
	Ready func(error) error
}

// Back-off between a service's end and its next start: it doubles from the first
// to the last, and begins anew when the service ran for a while.
const (
	firstBackOff = 100 * time.Millisecond
	lastBackOff  = 5 * time.Second
	goodRun      = 10 * time.Second
)

// Run supervises until ctx ends or a client asks it to stop.
func Run(ctx context.Context, o Options) error {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l, err := listen(o.Spec.Socket)
	if o.Ready != nil {
		if readyErr := o.Ready(err); readyErr != nil && err == nil {
			return errors.Join(fmt.Errorf("report that the supervisor is ready: %w", readyErr), l.Close())
		}
	}
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &supervisor{spec: o.Spec, log: log, ended: make(chan struct{}), stop: stop}
	server := &http.Server{Handler: s.api(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		// The kernel ties "kill the child with its parent" to the thread that
		// started it, so that thread must live as long as the supervisor.
		runtime.LockOSThread()
		defer close(s.ended)
		s.keep(ctx)
	}()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		<-s.ended
		bounded, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close() // cuts what did not end by itself
		}
	}()
	err = server.Serve(l)
	stop()
	<-closed
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, forget(o.Spec.Record))
}

func listen(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return nil, errors.Join(fault.New(fault.Unavailable, "", "a supervisor already answers on %s", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Unavailable, "", "supervisor socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "", "supervisor socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fault.New(fault.Unavailable, "", "supervisor socket: %w", err), l.Close())
	}
	return l, nil
}

// State is what a supervisor tells.
type State struct {
	// PID is the service's process, zero while none runs.
	PID int `json:"pid"`
	// Ends counts how often the service ended without being asked to.
	Ends int `json:"ends"`
	// LastEnd says how, the last time.
	LastEnd string `json:"lastEnd,omitempty"`
}

type supervisor struct {
	spec  Spec
	log   *slog.Logger
	stop  func()
	ended chan struct{}

	mu    sync.Mutex
	state State
}

func (s *supervisor) api() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/state", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		_ = json.NewEncoder(w).Encode(s.state) // a client that left is not our failure
	})
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, _ *http.Request) {
		s.stop()
		<-s.ended
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// keep runs the service until ctx ends.
func (s *supervisor) keep(ctx context.Context) {
	wait := firstBackOff
	for ctx.Err() == nil {
		begun := time.Now()
		how := s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.state.PID, s.state.LastEnd = 0, how
		s.state.Ends++
		s.mu.Unlock()
		if time.Since(begun) >= goodRun {
			wait = firstBackOff
		}
		s.log.Warn("service ended", "how", how, "again", wait)
		again := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		again.Stop()
		wait = min(2*wait, lastBackOff)
	}
}

// once runs the service to its end and says how it ended.
func (s *supervisor) once(ctx context.Context) (how string) {
	out, err := openLog(s.spec.Log, s.spec.LogLimit)
	if err != nil {
		return fmt.Sprintf("log cannot be opened: %v", err)
	}
	defer out.Close()
	cmd := exec.Command(s.spec.Argv[0], s.spec.Argv[1:]...)
	cmd.Env, cmd.Dir = s.spec.Env, s.spec.Dir
	cmd.Stdout, cmd.Stderr = out, out
	// Grandchildren that keep the output open must not keep the supervisor.
	cmd.WaitDelay = time.Second
	if err := isolate(cmd, s.spec); err != nil {
		return err.Error()
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(out, "cannot be started: %v\n", err)
		return fmt.Sprintf("cannot be started: %v", err)
	}
	pid := cmd.Process.Pid
	if err := writeRecord(s.spec.Record, pid); err != nil {
		s.log.Warn("process not recorded", "error", err)
	}
	s.mu.Lock()
	s.state.PID = pid
	s.mu.Unlock()
	s.log.Info("service started", "pid", pid)
	exited := make(chan error, 1)
	go func() {
		awaitEnd(pid)
		// Until it is waited for, the service's number is its own, and so is the
		// number of its group: what is left in it may be ended.
		killGroup(pid)
		exited <- cmd.Wait()
	}()
	select {
	case err = <-exited:
	case <-ctx.Done():
		err = s.end(cmd, exited)
	}
	if err == nil {
		return "exit code 0"
	}
	return err.Error()
}

// end asks the service to stop and forces it when the time is over.
func (s *supervisor) end(cmd *exec.Cmd, exited <-chan error) error {
	if err := terminate(cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.log.Warn("service cannot be asked to stop", "error", err)
	}
	limit := time.NewTimer(s.spec.StopTimeout)
	defer limit.Stop()
	select {
	case err := <-exited:
		return err
	case <-limit.C:
	}
	s.log.Warn("service killed", "after", s.spec.StopTimeout)
	_ = cmd.Process.Kill() // an error means that it has just ended
	return <-exited
}
