package inside

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
)

// dialTime bounds a dial; the caller may give up earlier.
const dialTime = time.Minute

// Reexec does the work of the program inside if the executable was started as that,
// and then does not return; otherwise it returns false at once. It must be the first
// thing that main does.
func Reexec() bool {
	if filepath.Base(os.Args[0]) != Program {
		return false
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		syscall.Exit(1)
	}
	syscall.Exit(0)
	return true
}

// guest is the program inside.
type guest struct {
	mux      *Mux
	launches chan func() // done by the one thread whose children are filtered
	born     chan struct{}
	killed   chan struct{} // closed once the payload was killed from outside
	killing  sync.Once
	timedOut atomic.Bool
	begun    start

	// mu guards what follows, and holds the number of a process that is signalled.
	mu        sync.Mutex
	main      *Start
	processes map[uint32]*process
	names     map[string]string
	listeners map[uint32]net.Listener
	accepted  uint32
}

// process is one that was started, until its end was told.
type process struct {
	number uint32
	pid    int
	begun  time.Time
	pumps  sync.WaitGroup
	// readers are our ends of its output.
	readers []*os.File
}

// serve obeys until the other end is gone or the payload has ended.
func serve(r io.Reader, w io.Writer) error {
	// The payload has the same user: what this program holds is none of its business.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide memory: %w", err)
	}
	g := &guest{
		mux: NewMux(w), launches: make(chan func()), born: make(chan struct{}, 1), killed: make(chan struct{}),
		processes: map[uint32]*process{}, names: map[string]string{}, listeners: map[uint32]net.Listener{}, begun: start{at: time.Now()},
	}
	filtered := make(chan error, 1)
	go g.launcher(filtered)
	if err := <-filtered; err != nil {
		return fmt.Errorf("filter system calls: %w", err)
	}
	facts, err := readFacts()
	if err != nil {
		return err
	}
	if err := g.mux.Send(Event{Hello: facts}); err != nil {
		return err
	}
	over := make(chan error, 1)
	go func() { over <- g.mux.Serve(r, g.obey) }()
	ended := make(chan error, 1)
	go func() { ended <- g.reap() }()
	select {
	case err := <-over: // the creator is gone; process 1 takes all others along
		return fmt.Errorf("the creator of the container is gone: %w", err)
	case err := <-ended:
		return err
	}
}

// launcher starts processes from a thread of its own, on which it loads the filter of
// system calls that every child inherits.
func (g *guest) launcher(filtered chan<- error) {
	runtime.LockOSThread()
	filtered <- embedded.RestrictCalls()
	for launch := range g.launches {
		launch()
	}
}

// obey does what a message asks. It must not wait: streams are opened here, in order,
// and everything that takes time goes on elsewhere.
func (g *guest) obey(b []byte) {
	var r Request
	if err := json.Unmarshal(b, &r); err != nil {
		fmt.Fprintln(os.Stderr, "a request is not understood:", err)
		syscall.Exit(1)
	}
	switch {
	case r.Start != nil:
		g.start(r.Start)
	case r.Signal != nil:
		g.signal(r.Signal)
	case r.Hosts != nil:
		g.answer(Answer{Call: r.Hosts.Call.Call, Failure: failure("write the names of hosts", g.setHosts(r.Hosts))})
	case r.Dial != nil:
		g.dial(r.Dial)
	case r.Listen != nil:
		g.listen(r.Listen)
	case r.Port != nil:
		port, err := freePort(r.Port.Preferred)
		g.answer(Answer{Call: r.Port.Call.Call, Port: port, Failure: failure("find a free port", err)})
	case r.Usage != nil:
		u := g.usage()
		g.answer(Answer{Call: r.Usage.Call, Usage: &u})
	}
}

func (g *guest) answer(a Answer) { g.send(Event{Answer: &a}) }

// send sends an event. If the connection has ended, so will this process.
func (g *guest) send(e Event) { _ = g.mux.Send(e) }

// failure describes err as the other end can take it.
func failure(step string, err error) *Failure {
	if err == nil {
		return nil
	}
	f := &Failure{Step: step, Message: err.Error()}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.Errno, f.Message = int(errno), errno.Error()
	}
	return f
}

// signal delivers a signal. The main process is killed with all others, a further one
// with what it started.
func (g *guest) signal(s *Signal) {
	if s.Process == MainProcess && s.Number == int(unix.SIGKILL) {
		g.killAll()
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.processes[s.Process]
	if p == nil || p.pid == 0 {
		return
	}
	if s.Number == int(unix.SIGKILL) {
		killTree(p.pid)
		return
	}
	_ = unix.Kill(p.pid, unix.Signal(s.Number))
}

// killAll ends every process but this one, now and should one be starting.
func (g *guest) killAll() {
	g.killing.Do(func() { close(g.killed) })
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = unix.Kill(-1, unix.SIGKILL)
}

func (g *guest) setHosts(h *Hosts) error {
	g.mu.Lock()
	g.names = h.Names
	g.mu.Unlock()
	if !h.File {
		return nil
	}
	return writeHosts("/etc/hosts", h.Names)
}

// address replaces a name that the environment knows.
func (g *guest) address(hostPort string) (string, error) {
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	known, ok := g.names[host]
	g.mu.Unlock()
	switch {
	case ok:
		host = known
	case host == "localhost" || host == "":
		host = "127.0.0.1"
	case net.ParseIP(host) == nil:
		return "", fmt.Errorf("no host of the environment is called %q", host)
	}
	return net.JoinHostPort(host, port), nil
}

func (g *guest) dial(d *Dial) {
	s, err := g.mux.Open(d.Stream)
	if err != nil {
		g.answer(Answer{Call: d.Call.Call, Failure: failure("dial "+d.Address, err)})
		return
	}
	go func() {
		address, err := g.address(d.Address)
		var c net.Conn
		if err == nil {
			c, err = (&net.Dialer{Timeout: dialTime}).Dial(d.Network, address)
		}
		g.answer(Answer{Call: d.Call.Call, Failure: failure("dial "+d.Address, err)})
		if err != nil {
			s.Close()
			return
		}
		carry(c, s)
	}()
}

// carry copies between a connection and a stream until both directions have ended.
func carry(c net.Conn, s *Stream) {
	var both sync.WaitGroup
	both.Go(func() {
		_, err := io.Copy(s, c)
		if err != nil {
			s.Close()
			return
		}
		_ = s.CloseWrite()
	})
	both.Go(func() {
		_, err := io.Copy(c, s)
		half, ok := c.(interface{ CloseWrite() error })
		if err != nil || !ok {
			c.Close()
			return
		}
		_ = half.CloseWrite()
	})
	both.Wait()
	c.Close()
}

func (g *guest) listen(l *Listen) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l.Close {
		if open := g.listeners[l.Listener]; open != nil {
			open.Close()
			delete(g.listeners, l.Listener)
		}
		return
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		g.answer(Answer{Call: l.Call.Call, Failure: failure("listen", err)})
		return
	}
	g.listeners[l.Listener] = listener
	g.answer(Answer{Call: l.Call.Call, Address: listener.Addr().String()})
	go g.accept(l.Listener, listener)
}

func (g *guest) accept(number uint32, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		g.mu.Lock()
		g.accepted += 2
		id := g.accepted
		g.mu.Unlock()
		s, err := g.mux.Open(id)
		if err != nil {
			c.Close()
			continue
		}
		g.send(Event{Accepted: &Accepted{Listener: number, Stream: id, Remote: c.RemoteAddr().String()}})
		go carry(c, s)
	}
}

// freePort returns a port on which nothing listens, preferred if it is free.
func freePort(preferred int) (int, error) {
	var l net.Listener
	err := error(unix.EADDRINUSE)
	if preferred != 0 {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", preferred))
	}
	if err != nil {
		l, err = net.Listen("tcp", ":0")
	}
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
