package keeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// maxEnded bounds the ended containers that are remembered.
const maxEnded = 200

// resident is a container of the environment, running or ended.
type resident struct {
	container sandbox.Container
	log       *outputLog // nil if a caller reads the output
	done      chan struct{}

	mu   sync.Mutex
	info ContainerInfo
}

// isAlive reports whether it runs.
func (r *resident) isAlive() bool {
	select {
	case <-r.done:
		return false
	default:
		return true
	}
}

// describe says what it is and what it has used.
func (r *resident) describe(ctx context.Context) ContainerInfo {
	var usage sandbox.Usage
	if r.isAlive() {
		usage, _ = r.container.Usage(ctx) // of one that just ended it is in its status
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.info.Exit == nil {
		r.info.Usage = usage // its time is of the same reading: the container is older than what we know of it
	}
	return r.info
}

// follow waits for the end.
func (r *resident) follow() {
	status, err := r.container.Wait(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.info.Exit = &status
	r.info.Status = Stopped
	if !status.OK() && status.Signal == "" || err != nil || status.OOM || status.TimedOut {
		r.info.Status = Failed
	}
	if err != nil {
		r.info.Failure = err.Error()
	}
	r.info.Usage = sandbox.Usage{
		Wall: status.Wall, CPU: status.CPU, PeakMemory: status.PeakMemory, ReadBytes: status.ReadBytes, WriteBytes: status.WriteBytes,
	}
	if r.log != nil {
		r.log.finish()
	}
	close(r.done)
}

// halt asks it to end, and ends it after grace.
func (r *resident) halt(ctx context.Context, grace time.Duration) error {
	if grace > 0 {
		if err := r.container.Signal(syscall.SIGTERM); err == nil {
			late := time.NewTimer(grace)
			defer late.Stop()
			select {
			case <-r.done:
				return nil
			case <-late.C:
			case <-ctx.Done():
			}
		}
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	return r.container.Kill(limit)
}

// start starts a container with the streams that spec has.
func (k *keeper) start(ctx context.Context, q startRequest, log *outputLog) (*resident, error) {
	if err := k.admit(); err != nil {
		return nil, err
	}
	c, err := k.env.Start(ctx, q.Spec)
	if err != nil {
		return nil, err
	}
	r := &resident{container: c, log: log, done: make(chan struct{})}
	r.info = ContainerInfo{
		Name: q.Spec.Name, Type: cmp.Or(q.Type, "generic"), Image: cmp.Or(q.Image, q.Spec.Image), Port: q.Port,
		Status: Running, Address: c.Address(), Created: time.Now().UTC(),
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count++
	r.info.ID = "c" + strconv.Itoa(k.count)
	k.forget(q.Spec.Name)
	k.containers = append(k.containers, r)
	go r.follow()
	return r, nil
}

// admit holds the policy's bound on containers.
func (k *keeper) admit() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopping {
		return fault.New(fault.Unavailable, "", "environment %s is closed", k.Spec.Name)
	}
	alive := 0
	for _, r := range k.containers {
		if r.isAlive() {
			alive++
		}
	}
	if most := k.Life.MaxContainers; most > 0 && alive >= most {
		return fault.New(fault.Finding, "stop one, or raise max_containers in [policy] of .cleanroom/config.toml",
			"environment %s has %d containers, and the policy allows no more", k.Spec.Name, most)
	}
	return nil
}

// forget drops ended containers: those called name, whose place is taken, and the
// oldest if there are too many. k.mu is held.
func (k *keeper) forget(name string) {
	dead := 0
	for _, r := range k.containers {
		if !r.isAlive() {
			dead++
		}
	}
	k.containers = slices.DeleteFunc(k.containers, func(r *resident) bool {
		if r.isAlive() || r.info.Name != name && dead <= maxEnded {
			return false
		}
		dead--
		if r.log != nil {
			r.log.close()
		}
		return true
	})
}

// find returns the container of an id, or the last of a name.
func (k *keeper) find(id string) (*resident, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for _, r := range slices.Backward(k.containers) {
		if r.info.ID == id || r.info.Name == id {
			return r, nil
		}
		all = append(all, r.info.Name)
	}
	return nil, fault.New(fault.Finding, fault.DidYouMean(id, all), "environment %s has no container %q", k.Spec.Name, id)
}

// doStart starts a container that outlives the call; its output goes to a file.
func (k *keeper) doStart(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[startRequest](w, r)
	if err != nil {
		return err
	}
	if err := sandbox.CheckName("container", q.Spec.Name); err != nil {
		return err
	}
	if c, err := k.find(q.Spec.Name); err == nil && c.isAlive() {
		return fault.New(fault.Usage, "choose another name, or stop it first", "environment %s has a container %s", k.Spec.Name, q.Spec.Name)
	}
	k.mu.Lock()
	k.count++
	file := fmt.Sprintf("%s-%d.log", q.Spec.Name, k.count)
	k.mu.Unlock()
	log, err := newLog(filepath.Join(k.Dir, logsDir, file))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "keep the output of container "+q.Spec.Name)
	}
	q.Spec.Stdout, q.Spec.Stderr = log, log
	c, err := k.start(r.Context(), q, log)
	if err != nil {
		said := log.tail(1 << 10)
		log.close()
		if len(said) > 0 {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return err
	}
	return answer(w, c.describe(k.base))
}

// doAttach starts a container that ends with the connection, which carries its
// streams.
func (k *keeper) doAttach(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[startRequest](w, r)
	if err != nil {
		return err
	}
	l, err := takeOver(w)
	if err != nil {
		return nil
	}
	defer l.conn.Close()
	s := carry(k.base, l, q.Streams)
	defer s.cancel()
	q.Spec.Stdin, q.Spec.Stdout, q.Spec.Stderr = s.in, s.out, s.err
	c, err := k.start(s.ctx, q, nil)
	if err != nil {
		_ = l.sendJSON(frameEnded, ended{Failure: failureOf(err)})
		return nil
	}
	_ = l.sendJSON(frameStarted, c.describe(k.base))
	select {
	case <-c.done:
	case <-s.ctx.Done():
		if err := c.halt(k.base, 0); err != nil {
			k.log.Error("kill the container of a caller that is gone", "container", q.Spec.Name, "error", err)
		}
		<-c.done
	}
	_ = l.sendJSON(frameEnded, c.ended())
	return nil
}

// ended is how it ended.
func (r *resident) ended() ended {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := ended{Status: *r.info.Exit}
	if r.info.Failure != "" {
		e.Failure = failureOf(fault.New(fault.Unavailable, "", "%s", r.info.Failure))
	}
	return e
}

// streamed are the streams of a process whose caller is at the other end of a link.
type streamed struct {
	in       io.Reader
	out, err io.Writer
	ctx      context.Context // ends when the caller is gone
	cancel   func()
}

// carry makes of a link the streams that are wanted. What the caller sends is always
// read, so that its end is seen also while the process reads nothing: it sends no
// more than a window ahead of what the process has taken.
func carry(base context.Context, l *link, want streams) *streamed {
	ctx, gone := context.WithCancel(context.WithoutCancel(base))
	s := &streamed{ctx: ctx, cancel: gone}
	if want.Out {
		s.out = writer{l, frameOut}
	}
	if want.Err {
		s.err = writer{l, frameErr}
	}
	input := make(chan []byte, window)
	if want.In {
		r, w := io.Pipe()
		s.in = r
		s.cancel = func() { gone(); r.Close() }
		go func() {
			defer w.Close()
			for b := range input {
				_, _ = w.Write(b) // a process that reads no more loses it
				_ = l.send(frameTaken, nil)
			}
		}()
	}
	go func() {
		defer gone()
		end := sync.OnceFunc(func() { close(input) })
		defer end()
		for open := want.In; ; {
			kind, b, err := l.receive()
			switch {
			case err != nil:
				return
			case kind == frameKill:
				gone()
			case open && kind == frameEOF:
				end()
				open = false
			case open && kind == frameIn:
				select {
				case input <- b:
				default: // it does not keep to the window
					return
				}
			}
		}
	}()
	return s
}

// doExec runs a process in a container until it, or the connection, ends.
func (k *keeper) doExec(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[execRequest](w, r)
	if err != nil {
		return err
	}
	c, err := k.find(q.ID)
	if err != nil {
		return err
	}
	l, err := takeOver(w)
	if err != nil {
		return nil
	}
	defer l.conn.Close()
	s := carry(k.base, l, q.Streams)
	defer s.cancel()
	q.Spec.Stdin, q.Spec.Stdout, q.Spec.Stderr = s.in, s.out, s.err
	status, err := c.container.Exec(s.ctx, q.Spec)
	_ = l.sendJSON(frameEnded, ended{Status: status, Failure: failureOf(err)})
	return nil
}

// onContainer is a call that is about one container.
func (k *keeper) onContainer(w http.ResponseWriter, r *http.Request, f func(c *resident, q target) (any, error)) error {
	q, err := decode[target](w, r)
	if err != nil {
		return err
	}
	c, err := k.find(q.ID)
	if err != nil {
		return err
	}
	v, err := f(c, q)
	if err != nil {
		return err
	}
	return answer(w, v)
}

func (k *keeper) doUsage(w http.ResponseWriter, r *http.Request) error {
	return k.onContainer(w, r, func(c *resident, _ target) (any, error) {
		if !c.isAlive() {
			return c.describe(k.base).Usage, nil
		}
		return c.container.Usage(r.Context())
	})
}

func (k *keeper) doSignal(w http.ResponseWriter, r *http.Request) error {
	return k.onContainer(w, r, func(c *resident, q target) (any, error) {
		return struct{}{}, c.container.Signal(syscall.Signal(q.Signal))
	})
}

func (k *keeper) doKill(w http.ResponseWriter, r *http.Request) error {
	return k.onContainer(w, r, func(c *resident, _ target) (any, error) {
		err := c.container.Kill(r.Context())
		if err == nil {
			<-c.done
		}
		return struct{}{}, err
	})
}

func (k *keeper) doStop(w http.ResponseWriter, r *http.Request) error {
	return k.onContainer(w, r, func(c *resident, q target) (any, error) {
		if !c.isAlive() {
			return nil, fault.New(fault.Finding, "", "container %s does not run: it %s", c.info.Name, c.info.Exit)
		}
		if err := c.halt(r.Context(), q.Grace); err != nil {
			return nil, err
		}
		<-c.done
		return c.describe(k.base), nil
	})
}

func (k *keeper) doReady(w http.ResponseWriter, r *http.Request) error {
	return k.onContainer(w, r, func(c *resident, _ target) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.info.Status == Running {
			c.info.Status = Ready
		}
		return struct{}{}, nil
	})
}

func (k *keeper) doWait(w http.ResponseWriter, r *http.Request) error {
	return k.onContainer(w, r, func(c *resident, _ target) (any, error) {
		select {
		case <-c.done:
			return c.ended(), nil
		case <-r.Context().Done():
			return nil, orInterrupted(r.Context(), errors.New("wait"))
		}
	})
}

// doLogs sends what a container wrote and, if it is to follow, what it writes until
// its end.
func (k *keeper) doLogs(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[target](w, r)
	if err != nil {
		return err
	}
	c, err := k.find(q.ID)
	if err != nil {
		return err
	}
	if c.log == nil {
		return fault.New(fault.Finding, "", "the output of container %s went to the command that started it", q.ID)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	b := make([]byte, 32<<10)
	for at := int64(0); ; {
		n, next, more := c.log.read(b, at)
		at = next
		switch {
		case n > 0:
			if _, err := w.Write(b[:n]); err != nil {
				return nil
			}
		case more == nil || !q.Follow:
			return nil
		default:
			_ = flush.Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return nil
			}
		}
	}
}
