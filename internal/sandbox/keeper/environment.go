package keeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Environment is an environment that a keeper holds. Containers that [Start] starts
// end with this process, as those of every environment; what [Environment.Launch]
// starts stays.
type Environment struct {
	backend *Backend
	dir     string
	info    Info
	// owned says that Close deletes the environment.
	owned bool
	// limits are those of a container for what it does not say itself.
	limits sandbox.Limits

	mu      sync.Mutex
	closed  bool
	running map[*attached]bool
	closing sync.Once
	err     error
}

// Name is described by [sandbox.Environment].
func (e *Environment) Name() string { return e.info.Name }

// Effective is described by [sandbox.Environment].
func (e *Environment) Effective() sandbox.Effective { return e.info.Effective }

// Info describes the environment as it is now.
func (e *Environment) Info(ctx context.Context) (Info, error) {
	var i Info
	err := e.call(ctx, "info", struct{}{}, &i)
	return i, err
}

func (e *Environment) call(ctx context.Context, name string, in, out any) error {
	return call(ctx, e.dir, name, in, out)
}

// quick is [Environment.call] for methods that have no context.
func (e *Environment) quick(name string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	return e.call(ctx, name, in, out)
}

// Path is described by [sandbox.Environment]. It is the target if the keeper is gone.
func (e *Environment) Path(container string, m sandbox.Mount) string {
	var a pathAnswer
	if err := e.quick("path", pathRequest{container, m}, &a); err != nil {
		return m.Target
	}
	return a.Path
}

// Port is described by [sandbox.Environment].
func (e *Environment) Port(preferred int) (int, error) {
	var a portAnswer
	err := e.quick("port", portRequest{preferred}, &a)
	return a.Port, err
}

// Dial is described by [sandbox.Environment].
func (e *Environment) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if !isDatagram(network) && (len(network) < 3 || network[:3] != "tcp") {
		return nil, fault.New(fault.Usage, "use tcp or udp", "cannot dial network %q of an environment", network)
	}
	var at listening
	l, err := open(ctx, e.dir, "dial", dialRequest{network, addr}, &at, ignore)
	if err != nil {
		return nil, err
	}
	return &conn{link: l, datagrams: isDatagram(network), local: address{network, at.Address}, remote: address{network, addr}}, nil
}

func ignore(byte, []byte) {}

// Listen is described by [sandbox.Environment].
func (e *Environment) Listen(ctx context.Context) (net.Listener, error) {
	var at listening
	l, err := open(ctx, e.dir, "listen", struct{}{}, &at, ignore)
	if err != nil {
		return nil, err
	}
	return &listener{link: l, dir: e.dir, address: address{at.Network, at.Address}}, nil
}

// listener is a listener inside of an environment.
type listener struct {
	*link
	dir     string
	address address
}

func (l *listener) Addr() net.Addr { return l.address }

func (l *listener) Close() error { return l.conn.Close() }

// Accept waits for a connection of a container.
func (l *listener) Accept() (net.Conn, error) {
	kind, b, err := l.receive()
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = net.ErrClosed
		}
		return nil, err
	}
	if kind != frameOut {
		return nil, net.ErrClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	var from listening
	c, err := open(ctx, l.dir, "accept", acceptRequest{string(b)}, &from, ignore)
	if err != nil {
		return nil, err
	}
	return &conn{link: c, local: l.address, remote: address{from.Network, from.Address}}, nil
}

// Launch starts a container that stays when this process ends; its output is kept by
// the keeper. The streams of spec are not used. What the container is, kind and port
// say to those who list it.
func (e *Environment) Launch(ctx context.Context, spec sandbox.ContainerSpec, kind, image string, port int) (ContainerInfo, error) {
	spec.Stdin, spec.Stdout, spec.Stderr = nil, nil, nil
	var i ContainerInfo
	err := e.call(ctx, "start", startRequest{Spec: spec, Type: kind, Image: image, Port: port}, &i)
	return i, err
}

// Stop asks a container to end, by SIGTERM, and kills it after grace. One that does
// not run is fault.Finding.
func (e *Environment) Stop(ctx context.Context, name string, grace time.Duration) (ContainerInfo, error) {
	var i ContainerInfo
	err := e.call(ctx, "stop", target{ID: name, Grace: grace}, &i)
	return i, err
}

// MarkReady notes that the service in a container answers.
func (e *Environment) MarkReady(ctx context.Context, name string) error {
	return e.call(ctx, "ready", target{ID: name}, nil)
}

// Wait waits for the end of a container that [Environment.Launch] started.
func (e *Environment) Wait(ctx context.Context, name string) (sandbox.ExitStatus, error) {
	var a ended
	if err := e.call(ctx, "wait", target{ID: name}, &a); err != nil {
		return sandbox.ExitStatus{}, err
	}
	return a.Status, a.Failure.err()
}

// Logs copies what a container wrote, the last megabytes of it, to w: until now, or
// its end if follow is set.
func (e *Environment) Logs(ctx context.Context, name string, follow bool, w io.Writer) error {
	x, resp, err := send(ctx, e.dir, "logs", target{ID: name, Follow: follow})
	if err != nil {
		return err
	}
	defer x.close()
	_, err = io.Copy(w, resp.Body)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fault.Wrap(err, fault.Unavailable, "", "read the output of container "+name)
}

// Start is described by [sandbox.Environment].
func (e *Environment) Start(ctx context.Context, spec sandbox.ContainerSpec) (sandbox.Container, error) {
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, fault.New(fault.Unavailable, "", "environment %s is closed", e.info.Name)
	}
	c := &attached{environment: e, done: make(chan struct{})}
	c.in, c.out, c.err = spec.Stdin, spec.Stdout, spec.Stderr
	want := streams{spec.Stdin != nil, spec.Stdout != nil, spec.Stderr != nil}
	spec.Stdin, spec.Stdout, spec.Stderr = nil, nil, nil
	spec.Limits = within(spec.Limits, e.limits)
	link, err := open(ctx, e.dir, "attach", startRequest{Spec: spec, Streams: want, Type: "command"}, &c.info, c.write)
	if err != nil {
		return nil, err
	}
	c.link = link
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		link.conn.Close() // ends it
		return nil, fault.New(fault.Unavailable, "", "environment %s is closed", e.info.Name)
	}
	e.running[c] = true
	go func() {
		c.follow()
		e.mu.Lock()
		delete(e.running, c)
		e.mu.Unlock()
	}()
	return c, nil
}

// within returns l, each limit that it leaves out being that of d.
func within(l, d sandbox.Limits) sandbox.Limits {
	return sandbox.Limits{
		Memory: cmp.Or(l.Memory, d.Memory), CPUs: cmp.Or(l.CPUs, d.CPUs), PIDs: cmp.Or(l.PIDs, d.PIDs), Disk: cmp.Or(l.Disk, d.Disk),
		Files: cmp.Or(l.Files, d.Files), Wall: cmp.Or(l.Wall, d.Wall), Output: cmp.Or(l.Output, d.Output),
	}
}

// Close is described by [sandbox.Environment]. Where the environment was there
// before, it stays, and what this process has started in it ends.
func (e *Environment) Close(ctx context.Context) error {
	e.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		e.mu.Lock()
		e.closed = true
		var running []*attached
		for c := range e.running {
			running = append(running, c)
		}
		e.mu.Unlock()
		if e.owned {
			e.err = e.backend.Remove(ctx, e.info.Name, Removal{Force: true})
			if fault.KindOf(e.err) == fault.Finding {
				e.err = nil // somebody else has deleted it
			}
		}
		for _, c := range running {
			if err := c.Kill(ctx); err != nil && !e.owned {
				e.err = errors.Join(e.err, err)
			}
		}
	})
	return e.err
}

// process is one whose streams are carried by a link.
type process struct {
	link     *link
	in       io.Reader
	out, err io.Writer
}

// write hands on what the process wrote. A writer that fails is its owner's loss.
func (p *process) write(kind byte, b []byte) {
	switch {
	case kind == frameOut && p.out != nil:
		_, _ = p.out.Write(b)
	case kind == frameErr && p.err != nil:
		_, _ = p.err.Write(b)
	}
}

// run carries the streams until the end of the process.
func (p *process) run() (sandbox.ExitStatus, error) {
	defer p.link.conn.Close()
	taken := make(chan struct{}, window)
	ended := make(chan struct{})
	defer close(ended)
	if p.in != nil {
		go p.feed(taken, ended)
	}
	for {
		kind, b, err := p.link.receive()
		switch {
		case err != nil:
			return sandbox.ExitStatus{}, fault.New(fault.Unavailable, "", "%w", errGone)
		case kind == frameTaken:
			select {
			case taken <- struct{}{}:
			default:
			}
		case kind == frameEnded:
			return endedOf(b)
		default:
			p.write(kind, b)
		}
	}
}

func endedOf(b []byte) (sandbox.ExitStatus, error) {
	var e ended
	if err := json.Unmarshal(b, &e); err != nil {
		return sandbox.ExitStatus{}, err
	}
	return e.Status, e.Failure.err()
}

// feed sends standard input, no more than the window ahead of what the process has
// taken. A reader that blocks for ever keeps only this goroutine.
func (p *process) feed(taken <-chan struct{}, ended <-chan struct{}) {
	b := make([]byte, 32<<10)
	free := window
	for {
		n, err := p.in.Read(b)
		if n > 0 {
			if free == 0 {
				select {
				case <-taken:
					free++
				case <-ended:
					return
				}
			}
			free--
			if p.link.send(frameIn, b[:n]) != nil {
				return
			}
		}
		if err != nil {
			_ = p.link.send(frameEOF, nil)
			return
		}
	}
}

// attached is a container that ends with the link.
type attached struct {
	process
	environment *Environment
	info        ContainerInfo

	done   chan struct{} // closed once status and err are set
	status sandbox.ExitStatus
	werr   error
}

func (c *attached) follow() {
	c.status, c.werr = c.run()
	close(c.done)
}

// Name is described by [sandbox.Container].
func (c *attached) Name() string { return c.info.Name }

// Address is described by [sandbox.Container].
func (c *attached) Address() string { return c.info.Address }

// Exec is described by [sandbox.Container].
func (c *attached) Exec(ctx context.Context, spec sandbox.ExecSpec) (sandbox.ExitStatus, error) {
	return c.environment.Exec(ctx, c.info.ID, spec)
}

// Exec runs a process in a container, by id or name, and waits for its end.
func (e *Environment) Exec(ctx context.Context, container string, spec sandbox.ExecSpec) (sandbox.ExitStatus, error) {
	p := &process{in: spec.Stdin, out: spec.Stdout, err: spec.Stderr}
	want := streams{spec.Stdin != nil, spec.Stdout != nil, spec.Stderr != nil}
	spec.Stdin, spec.Stdout, spec.Stderr = nil, nil, nil
	x, _, err := send(ctx, e.dir, "exec", execRequest{ID: container, Spec: spec, Streams: want})
	if err != nil {
		return sandbox.ExitStatus{}, err
	}
	defer x.close()
	p.link = newLink(x.conn, x.r)
	if !x.stop() {
		return sandbox.ExitStatus{}, context.Cause(ctx)
	}
	// The end of ctx ends the process, and that is waited for.
	defer context.AfterFunc(ctx, func() {
		_ = x.conn.SetReadDeadline(time.Now().Add(closeTime))
		_ = p.link.send(frameKill, nil)
	})()
	status, err := p.run()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return status, err
}

// Usage is described by [sandbox.Container].
func (c *attached) Usage(ctx context.Context) (sandbox.Usage, error) {
	var u sandbox.Usage
	err := c.environment.call(ctx, "usage", target{ID: c.info.ID}, &u)
	return u, err
}

// Signal is described by [sandbox.Container].
func (c *attached) Signal(sig os.Signal) error {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return fault.New(fault.Usage, "", "signal %v has no number", sig)
	}
	select {
	case <-c.done:
		return nil
	default:
		return c.environment.quick("signal", target{ID: c.info.ID, Signal: int(number)}, nil)
	}
}

// Wait is described by [sandbox.Container].
func (c *attached) Wait(ctx context.Context) (sandbox.ExitStatus, error) {
	select {
	case <-c.done:
		return c.status, c.werr
	case <-ctx.Done():
		return sandbox.ExitStatus{}, context.Cause(ctx)
	}
}

// Kill is described by [sandbox.Container].
func (c *attached) Kill(ctx context.Context) error {
	select {
	case <-c.done:
		return nil
	default:
	}
	err := c.environment.call(ctx, "kill", target{ID: c.info.ID}, nil)
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
