package embedded

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// The descriptors that a supervisor inherits.
const (
	fdListener = 3
	fdBoot     = 4
)

// patience is how long an init of a weaker level may take to end its tree before
// it is killed itself.
const patience = 20 * time.Second

// supervisor holds the namespaces of one environment and starts its containers.
type supervisor struct {
	variant variant
	alone   bool // every container has a network namespace of its own

	mu      sync.Mutex
	closed  bool
	running map[*initProcess]struct{}
	ended   sync.WaitGroup
}

// supervisorMain serves one environment until its creator goes.
func supervisorMain() int {
	ignoreSignals()
	boot, err := newChannel(os.NewFile(fdBoot, "boot"))
	if err != nil {
		return 1
	}
	var config supervisorConfig
	if _, err := boot.receive(&config); err != nil {
		return 1
	}
	s := &supervisor{variant: config.Variant, alone: config.Alone, running: map[*initProcess]struct{}{}}
	l, err := s.prepare()
	if err != nil {
		_ = boot.send(reply{Failure: asFailure("start the supervisor", err)})
		return 1
	}
	if err := boot.send(reply{}); err != nil {
		return 1
	}
	go s.serve(l)
	// The creator never sends a second message: this waits for its end.
	_, _ = boot.receive(&config)
	s.close()
	return 0
}

// ignoreSignals keeps this process from being ended by a signal: what is typed on
// the creator's terminal is the creator's to handle. The signals are caught and
// dropped, since what is ignored stays so in a payload.
func ignoreSignals() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGALRM)
}

// prepare makes the namespaces usable and returns the control socket.
func (s *supervisor) prepare() (net.Listener, error) {
	if s.variant.Level == sandbox.Full {
		if err := fail("make mounts private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
			return nil, err
		}
		if !s.variant.OuterProc {
			flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
			if err := fail("mount /proc", unix.Mount("proc", "/proc", "proc", flags, "")); err != nil {
				return nil, err
			}
		}
		if err := fail("bring the loopback interface up", loopbackUp()); err != nil {
			return nil, err
		}
	} else if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fail("become a reaper", err)
	}
	f := os.NewFile(fdListener, "control socket")
	defer f.Close()
	l, err := net.FileListener(f)
	return l, fail("open the control socket", err)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// close ends every container. At level Full the namespaces do the same once more.
func (s *supervisor) close() {
	s.mu.Lock()
	s.closed = true
	for p := range s.running {
		p.kill()
	}
	s.mu.Unlock()
	s.ended.Wait()
	if s.variant.Level != sandbox.Full {
		killDescendants()
	}
}

func (s *supervisor) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		u, ok := c.(*net.UnixConn)
		if !ok {
			c.Close()
			continue
		}
		go s.answer(&channel{u})
	}
}

// answer handles the one request of a connection.
func (s *supervisor) answer(c *channel) {
	defer c.close()
	var r request
	files, err := c.receive(&r)
	if err != nil {
		return
	}
	defer closeAll(files)
	switch r.Op {
	case opPing:
		_ = c.send(reply{})
	case opPort:
		port, err := freePort(s.variant.Level, r.Port)
		_ = c.send(answerOf(reply{Port: port}, "find a free port", err))
	case opDial:
		s.dial(c, r)
	case opListen:
		s.listen(c)
	case opStart:
		s.start(c, r.Start, files)
	default:
		_ = c.send(reply{Failure: &failure{Step: "read a request", Text: "unknown operation " + strconv.Quote(r.Op)}})
	}
}

func answerOf(r reply, step string, err error) reply {
	if err != nil {
		return reply{Failure: asFailure(step, err)}
	}
	return r
}

// freePort returns preferred if nothing listens on it, and another otherwise. A
// shared network always gives another: someone may come to want the preferred one.
func freePort(level sandbox.Level, preferred int) (int, error) {
	host := ""
	if level != sandbox.Full {
		host, preferred = "127.0.0.1", 0
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(preferred)))
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// dial connects in this network and hands the socket over. It gives up when the
// other side of c does.
func (s *supervisor) dial(c *channel, r request) {
	ctx, cancel := context.WithTimeout(context.Background(), r.Timeout)
	defer cancel()
	go func() {
		var none request
		_, _ = c.receive(&none)
		cancel()
	}()
	var d net.Dialer
	conn, err := d.DialContext(ctx, r.Network, r.Address)
	if err != nil {
		_ = c.send(reply{Failure: asFailure("dial", err)})
		return
	}
	defer conn.Close()
	f, err := conn.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		_ = c.send(reply{Failure: asFailure("dial", err)})
		return
	}
	defer f.Close()
	_ = c.send(reply{}, f)
}

// listen opens a port in this network and hands the socket over.
func (s *supervisor) listen(c *channel) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = c.send(reply{Failure: asFailure("listen", err)})
		return
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		_ = c.send(reply{Failure: asFailure("listen", err)})
		return
	}
	defer f.Close()
	_ = c.send(reply{}, f)
}

// initProcess is a started init.
type initProcess struct {
	cmd  *exec.Cmd
	full bool

	mu       sync.Mutex
	done     bool
	timedOut bool
	last     *time.Timer
}

// start runs one container and answers twice: once it was started, once all of
// it is gone. The end of the connection kills the container.
func (s *supervisor) start(c *channel, r *startRequest, files []*os.File) {
	if r == nil || len(files) < streams {
		_ = c.send(reply{Failure: &failure{Step: "read a request", Text: "a start without its files"}})
		return
	}
	p := &initProcess{cmd: s.command(r, files), full: s.variant.Level == sandbox.Full}
	// The thread that starts a process is, to the kernel, its parent: it must
	// live as long, or PDEATHSIG would strike.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := s.run(p); err != nil {
		_ = c.send(reply{Failure: asFailure("start a process in new namespaces", err)})
		return
	}
	defer s.ended.Done()
	closeAll(files)
	_ = c.send(reply{PID: p.cmd.Process.Pid})
	wall := time.AfterFunc(r.Wall, p.timeout)
	go func() {
		var kill request
		for kill.Op != opKill {
			if _, err := c.receive(&kill); err != nil {
				break
			}
		}
		p.kill()
	}()
	_ = p.cmd.Wait()
	wall.Stop()
	_ = c.send(reply{Reaped: s.finish(p)})
}

// run starts p unless the supervisor is closing.
func (s *supervisor) run(p *initProcess) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("the environment is closing")
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	s.running[p] = struct{}{}
	s.ended.Add(1)
	return nil
}

func (s *supervisor) finish(p *initProcess) *reaped {
	s.mu.Lock()
	delete(s.running, p)
	s.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = true
	if p.last != nil {
		p.last.Stop()
	}
	r := &reaped{TimedOut: p.timedOut}
	if w, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		r.Signal = int(w.Signal())
	}
	return r
}

// command describes the init of a container.
func (s *supervisor) command(r *startRequest, files []*os.File) *exec.Cmd {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{argvInit},
		// One processor and no collector: an init lives for a few system calls.
		Env:   []string{"GOMAXPROCS=1", "GOGC=off", "GOTRACEBACK=none"},
		Stdin: files[2], Stdout: files[3], Stderr: files[4],
		ExtraFiles:  append([]*os.File{files[0], files[1]}, files[streams:]...),
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	a := cmd.SysProcAttr
	if s.variant.Level != sandbox.Full {
		a.Pdeathsig = syscall.SIGTERM // the supervisor was killed: end the tree
		return cmd
	}
	a.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	if s.alone {
		a.Cloneflags |= unix.CLONE_NEWNET
	}
	a.Pdeathsig = syscall.SIGKILL
	if s.variant.UserNS {
		// One identity, mapped to ours: needs no helper program. It is not zero,
		// so the capabilities of the new namespace survive the start as ambient ones only.
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: r.UID, HostID: os.Getuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: r.GID, HostID: os.Getgid(), Size: 1}}
		a.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_DAC_OVERRIDE, unix.CAP_CHOWN, unix.CAP_FOWNER}
		if s.alone {
			a.AmbientCaps = append(a.AmbientCaps, unix.CAP_NET_ADMIN)
		}
	}
	return cmd
}

// timeout kills the container because its time is over.
func (p *initProcess) timeout() {
	p.mu.Lock()
	p.timedOut = !p.done
	p.mu.Unlock()
	p.kill()
}

// kill ends the tree: at once where a process namespace sees to that, otherwise
// by asking the init, which knows its descendants.
func (p *initProcess) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.done:
	case p.full:
		_ = p.cmd.Process.Kill()
	case p.last == nil:
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		p.last = time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	}
}
