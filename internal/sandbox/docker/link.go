package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// link is the connection to process 1 of a container. When it ends, so does the
// container.
type link struct {
	attachment *engine.Attachment
	mux        *inside.Mux
	hello      chan *inside.Facts
	numbers    atomic.Uint32 // of calls, processes and listeners

	mu        sync.Mutex
	streams   uint32
	calls     map[uint32]chan inside.Answer
	started   map[uint32]chan *inside.Failure
	ended     map[uint32]chan inside.Ended
	listeners map[uint32]*listener
}

// attach connects to a container that does not run yet.
func attach(ctx context.Context, f *found, id string) (*link, error) {
	a, err := f.Attach(ctx, id)
	if err != nil {
		return nil, err
	}
	l := &link{
		attachment: a, mux: inside.NewMux(a), hello: make(chan *inside.Facts, 1), streams: 1,
		calls: map[uint32]chan inside.Answer{}, started: map[uint32]chan *inside.Failure{},
		ended: map[uint32]chan inside.Ended{}, listeners: map[uint32]*listener{},
	}
	l.numbers.Store(inside.MainProcess)
	go func() {
		_ = l.mux.Serve(a, l.receive) // the end is seen by its channel
		a.Close()
	}()
	return l, nil
}

func (l *link) close() { l.attachment.Close() }

// receive takes one event. It must not wait.
func (l *link) receive(b []byte) {
	var e inside.Event
	if json.Unmarshal(b, &e) != nil {
		l.close()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case e.Hello != nil:
		offer(l.hello, e.Hello)
	case e.Started != nil:
		offer(l.started[e.Started.Process], e.Started.Failure)
	case e.Ended != nil:
		offer(l.ended[e.Ended.Process], *e.Ended)
	case e.Answer != nil:
		offer(l.calls[e.Answer.Call], *e.Answer)
		delete(l.calls, e.Answer.Call)
	case e.Accepted != nil:
		l.accept(e.Accepted)
	}
}

// offer puts v into a channel that has room for the one value that is expected.
func offer[T any](c chan T, v T) {
	select {
	case c <- v:
	default:
	}
}

// gone says why the connection has ended.
func (l *link) gone() error {
	text := l.attachment.Errors()
	if text == "" {
		text = "its process 1 has ended"
	}
	return fault.New(fault.Unavailable, "", "the container is gone: %s", text)
}

// await waits for a value, the end of the connection or that of ctx.
func await[T any](ctx context.Context, l *link, c <-chan T) (v T, err error) {
	select {
	case v = <-c:
		return v, nil
	case <-ctx.Done():
		return v, context.Cause(ctx)
	case <-l.mux.Done():
	}
	select {
	case v = <-c: // it came before the end
		return v, nil
	default:
		return v, l.gone()
	}
}

// call sends a request and waits for its answer. The error of a failure inside has
// the kind of the failure.
func (l *link) call(ctx context.Context, r func(inside.Call) inside.Request) (inside.Answer, error) {
	number := l.numbers.Add(1)
	answer := make(chan inside.Answer, 1)
	l.mu.Lock()
	l.calls[number] = answer
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.calls, number)
	}()
	if err := l.mux.Send(r(inside.Call{Call: number})); err != nil {
		return inside.Answer{}, l.gone()
	}
	a, err := await(ctx, l, answer)
	if err == nil && a.Failure != nil {
		err = a.Failure
	}
	return a, err
}

// open opens a stream that the other end will open too. Those that begin here are odd.
func (l *link) open() (uint32, *inside.Stream, error) {
	l.mu.Lock()
	l.streams += 2
	id := l.streams
	l.mu.Unlock()
	s, err := l.mux.Open(id)
	return id, s, err
}

// run is a process that was started through a link.
type run struct {
	link   *link
	number uint32
	output *output
	pumps  sync.WaitGroup
	ended  chan inside.Ended
	input  *inside.Stream
	reset  []*inside.Stream
}

// start has a process started and its streams carried, and returns once it runs.
func (l *link) start(ctx context.Context, s inside.Start, stdin io.Reader, out *output) (_ *run, err error) {
	r := &run{link: l, number: s.Process, output: out, ended: make(chan inside.Ended, 1)}
	defer func() {
		if err != nil {
			r.drop()
		}
	}()
	for i, to := range []*uint32{&s.Stdin, &s.Stdout, &s.Stderr} {
		if i == 0 && stdin == nil || i > 0 && out.to[i-1] == nil {
			continue
		}
		id, stream, err := l.open()
		if err != nil {
			return nil, err
		}
		*to = id
		r.reset = append(r.reset, stream)
		if i == 0 {
			r.input = stream
			continue
		}
		r.pumps.Go(func() { out.carry(stream, out.to[i-1]) })
	}
	started := make(chan *inside.Failure, 1)
	l.mu.Lock()
	l.started[s.Process], l.ended[s.Process] = started, r.ended
	l.mu.Unlock()
	if err := l.mux.Send(inside.Request{Start: &s}); err != nil {
		return nil, l.gone()
	}
	f, err := await(ctx, l, started)
	if err != nil {
		return nil, err
	}
	if f != nil {
		return nil, fault.Wrap(f, startKind(f), startHint(f), "set up")
	}
	if stdin != nil {
		// It ends when the process stops reading; a reader that blocks for ever keeps
		// only this goroutine.
		go func() {
			_, _ = io.Copy(r.input, stdin)
			_ = r.input.CloseWrite()
		}()
	}
	return r, nil
}

// drop lets go of the streams and of what is expected.
func (r *run) drop() {
	for _, s := range r.reset {
		s.Close()
	}
	r.link.mu.Lock()
	defer r.link.mu.Unlock()
	delete(r.link.started, r.number)
	delete(r.link.ended, r.number)
}

// signal sends a signal to the process.
func (r *run) signal(number int) error {
	return r.link.mux.Send(inside.Request{Signal: &inside.Signal{Process: r.number, Number: number}})
}

// startKind says whose turn it is when a process could not be started.
func startKind(f *inside.Failure) fault.Kind {
	if f.Finding {
		return fault.Finding
	}
	return fault.Unavailable
}

// Numbers of errors on Linux, whatever this system calls them.
const (
	errnoENOENT = 2
	errnoEAGAIN = 11
	errnoEACCES = 13
	errnoENOSPC = 28
)

func startHint(f *inside.Failure) string {
	switch f.Errno {
	case errnoENOENT:
		return "check that the command, its interpreter and the working directory exist in the image"
	case errnoEACCES:
		return "check that the user of the container may execute the command"
	case errnoEAGAIN:
		return "raise the limit of processes"
	case errnoENOSPC:
		return "raise the limit of disk space"
	}
	if f.Finding {
		return "check that the command is a program for the system of the engine"
	}
	return ""
}

// output carries the streams of a process and bounds them together.
type output struct {
	to       [2]io.Writer
	limit    int64 // negative: none
	exceed   func()
	exceeded atomic.Bool

	mu      sync.Mutex
	written int64
}

// carry copies until the end or the limit, and then reads on, so that a payload is
// stopped by being killed and not by a full pipe.
func (o *output) carry(from io.Reader, to io.Writer) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && !o.write(to, b[:n]) && o.exceeded.CompareAndSwap(false, true) {
			o.exceed()
		}
		if err != nil {
			return
		}
	}
}

// write writes what the limit leaves of b and reports whether that was all. One call
// at a time: both streams may have the same writer.
func (o *output) write(to io.Writer, b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	within := true
	if o.limit >= 0 {
		left := o.limit - o.written
		within = int64(len(b)) <= left
		b = b[:min(int64(len(b)), max(left, 0))]
	}
	o.written += int64(len(b))
	// A writer that fails is its owner's loss; the payload must not notice.
	_, _ = to.Write(b)
	return within
}

// listener accepts connections from containers.
type listener struct {
	link   *link
	number uint32
	addr   net.Addr
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// backlog is how many connections may wait to be accepted.
const backlog = 256

// listen opens a port in the network of the environment.
func (l *link) listen(ctx context.Context) (*listener, error) {
	ln := &listener{link: l, number: l.numbers.Add(1), queue: make(chan net.Conn, backlog), closed: make(chan struct{})}
	l.mu.Lock()
	l.listeners[ln.number] = ln
	l.mu.Unlock()
	a, err := l.call(ctx, func(c inside.Call) inside.Request {
		return inside.Request{Listen: &inside.Listen{Call: c, Listener: ln.number}}
	})
	if err == nil {
		ln.addr, err = net.ResolveTCPAddr("tcp", a.Address)
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

// accept hands a connection to its listener; l.mu is held.
func (l *link) accept(a *inside.Accepted) {
	s, err := l.mux.Open(a.Stream)
	if err != nil {
		return // the connection is about to end
	}
	ln := l.listeners[a.Listener]
	if ln != nil {
		select {
		case ln.queue <- s:
			return
		default: // nobody accepts
		}
	}
	go s.Close() // it writes, and this must not wait
}

// Accept is described by [net.Listener].
func (ln *listener) Accept() (net.Conn, error) {
	select {
	case c := <-ln.queue:
		return c, nil
	case <-ln.closed:
	case <-ln.link.mux.Done():
	}
	return nil, fmt.Errorf("accept from containers: %w", net.ErrClosed)
}

// Addr is where containers connect to.
func (ln *listener) Addr() net.Addr { return ln.addr }

// Close is described by [net.Listener].
func (ln *listener) Close() error {
	ln.once.Do(func() {
		close(ln.closed)
		ln.link.mu.Lock()
		delete(ln.link.listeners, ln.number)
		ln.link.mu.Unlock()
		// If the connection has ended, so has the port.
		_ = ln.link.mux.Send(inside.Request{Listen: &inside.Listen{Listener: ln.number, Close: true}})
		for {
			select {
			case c := <-ln.queue:
				c.Close()
			default:
				return
			}
		}
	})
	return nil
}

// statusOf describes the end of a process.
func statusOf(e inside.Ended) sandbox.ExitStatus {
	return sandbox.ExitStatus{
		Code: e.Code, Signal: signalName(e.Signal), OOM: e.OOM, TimedOut: e.TimedOut,
		Wall: e.Wall, CPU: e.CPU, PeakMemory: e.PeakMemory, ReadBytes: e.ReadBytes, WriteBytes: e.WriteBytes,
	}
}

// signalNames are those of Linux, from 1, whatever this system calls them: signal(7).
var signalNames = strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS")

func signalName(n int) string {
	switch {
	case n <= 0:
		return ""
	case n <= len(signalNames):
		return "SIG" + signalNames[n-1]
	}
	return fmt.Sprintf("SIG%d", n)
}
