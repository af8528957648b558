package inside

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// start opens the streams of a process and has it started.
func (g *guest) start(s *Start) {
	p := &process{number: s.Process}
	files, err := g.open(p, s)
	if err != nil {
		closeAll(files)
		g.refuse(s, failure("open streams", err))
		return
	}
	go func() {
		defer closeAll(files)
		for _, c := range s.Fill {
			if err := fill(c); err != nil {
				g.refuse(s, failure("copy into "+c.To, err))
				return
			}
		}
		done := make(chan *Failure)
		g.launches <- func() { done <- g.launch(p, s, files) }
		if f := <-done; f != nil {
			g.refuse(s, f)
		}
	}()
}

func (g *guest) refuse(s *Start, f *Failure) {
	g.send(Event{Started: &Started{Process: s.Process, Failure: f}})
}

// open returns what the process has as its three first files, and starts to carry
// them.
func (g *guest) open(p *process, s *Start) (files []*os.File, err error) {
	for i, id := range []uint32{s.Stdin, s.Stdout, s.Stderr} {
		if id == 0 {
			f, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
			if err != nil {
				return files, err
			}
			files = append(files, f)
			continue
		}
		stream, err := g.mux.Open(id)
		if err != nil {
			return files, err
		}
		r, w, err := os.Pipe()
		if err != nil {
			return files, err
		}
		if i == 0 {
			files = append(files, r)
			go func() {
				// It ends when the process stops reading, or the writer writing.
				_, _ = io.Copy(w, stream)
				w.Close()
				stream.Close()
			}()
			continue
		}
		files = append(files, w)
		p.readers = append(p.readers, r)
		p.pumps.Go(func() {
			_, _ = io.Copy(stream, r)
			r.Close()
			_ = stream.CloseWrite()
		})
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// launch starts the process, on the thread with the filter.
func (g *guest) launch(p *process, s *Start, files []*os.File) *Failure {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case s.Process == MainProcess && g.main != nil, g.processes[s.Process] != nil:
		return &Failure{Step: "start", Message: fmt.Sprintf("process %d exists", s.Process)}
	case s.Process != MainProcess && g.main == nil:
		return &Failure{Step: "start", Message: "the container has no payload yet"}
	}
	env, dir := s.Env, s.Dir
	if s.Process != MainProcess {
		if len(env) == 0 {
			env = g.main.Env
		}
		if dir == "" {
			dir = g.main.Dir
		}
	}
	dir = filepath.Join("/", dir)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		f := failure("find the working directory "+dir, orError(err, unix.ENOTDIR))
		f.Finding = true
		return f
	}
	from := start{at: time.Now()}
	if s.Process == MainProcess {
		from.cpu = readUsage().CPU
	}
	path, err := sandbox.LookPath(s.Argv[0], env, dir)
	if err == nil {
		fds := make([]uintptr, len(files))
		for i, f := range files {
			fds[i] = f.Fd()
		}
		p.pid, err = syscall.ForkExec(path, s.Argv, &syscall.ProcAttr{
			Dir: dir, Env: env, Files: fds, Sys: &syscall.SysProcAttr{Setpgid: true},
		})
	}
	if err != nil {
		f := failure("start "+s.Argv[0], err)
		f.Finding = true
		return f
	}
	p.begun = from.at
	g.processes[s.Process] = p
	if s.Process == MainProcess {
		g.main, g.begun = s, from
		g.limit(s.Wall)
	}
	select {
	case <-g.killed:
		_ = unix.Kill(-1, unix.SIGKILL)
	default:
	}
	// Told under the lock: the end comes after it.
	g.send(Event{Started: &Started{Process: s.Process}})
	select {
	case g.born <- struct{}{}:
	default:
	}
	return nil
}

func orError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// limit ends the container at its wall limit.
func (g *guest) limit(wall time.Duration) {
	if wall <= 0 {
		return
	}
	time.AfterFunc(wall, func() {
		g.timedOut.Store(true)
		g.killAll()
	})
}

// reap waits for children, as process 1 must, until the payload has ended and
// everything with it.
func (g *guest) reap() error {
	for {
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			<-g.born
			continue
		case err != nil:
			return fmt.Errorf("wait for processes: %w", err)
		}
		p, ended := g.collect()
		switch {
		case p == nil:
		case p.number == MainProcess:
			return g.finish(p, ended)
		default:
			// What it left in its group holds the output open.
			_ = unix.Kill(-ended.pid, unix.SIGKILL)
			go g.tell(p, ended)
		}
	}
}

// drainTime bounds how long the output of a process may stay open after its end,
// because something that it started outlives it.
const drainTime = 2 * time.Second

type end struct {
	Ended
	pid int
	err error
}

// tell tells the end of a process once its output has been carried.
func (g *guest) tell(p *process, e end) {
	late := time.AfterFunc(drainTime, func() {
		for _, r := range p.readers {
			_ = r.SetReadDeadline(time.Now()) // closed: nothing to stop
		}
	})
	defer late.Stop()
	p.pumps.Wait()
	g.send(Event{Ended: &e.Ended})
}

// collect takes one child that has ended and returns it if it was started from
// outside.
func (g *guest) collect() (*process, end) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wait(unix.WNOHANG)
}

// wait waits for a child; g.mu is held: the number of a process stays taken until it
// is waited for, and is forgotten under the lock under which signals are sent.
func (g *guest) wait(options int) (*process, end) {
	var w unix.WaitStatus
	var u unix.Rusage
	pid, err := unix.Wait4(-1, &w, options, &u)
	if err != nil || pid <= 0 {
		return nil, end{pid: -1, err: err}
	}
	for number, p := range g.processes {
		if p.pid != pid {
			continue
		}
		delete(g.processes, number)
		e := end{Ended: Ended{Process: number, Code: w.ExitStatus()}, pid: pid}
		if w.Signaled() {
			e.Signal = int(w.Signal())
			e.Code = 128 + e.Signal
		}
		e.Wall = time.Since(p.begun)
		e.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
		e.PeakMemory = u.Maxrss << 10
		return p, e
	}
	return nil, end{pid: pid}
}

// finish ends what the payload left and tells how all of it ended, the container last.
func (g *guest) finish(p *process, e end) error {
	type told struct {
		*process
		end
	}
	var others []told
	g.mu.Lock()
	_ = unix.Kill(-1, unix.SIGKILL)
	for {
		other, ended := g.wait(0)
		if ended.err != nil && !errors.Is(ended.err, unix.EINTR) {
			break // there is none
		}
		if other != nil {
			ended.TimedOut = g.timedOut.Load()
			others = append(others, told{other, ended})
		}
	}
	g.mu.Unlock()
	for _, o := range others {
		g.tell(o.process, o.end)
	}
	u := g.usage()
	if u.CPU == 0 {
		u.CPU = e.CPU
	}
	if u.PeakMemory == 0 {
		u.PeakMemory = e.PeakMemory
	}
	e.Usage, e.OOM, e.TimedOut = u, oomKills() > 0, g.timedOut.Load()
	g.tell(p, e)
	syscall.Exit(e.Code & 0xff)
	return nil
}

// killTree ends a process and all that descends from it, first what is below: an orphan
// would be nobody's. g.mu is held.
func killTree(pid int) {
	const rounds = 1000 // something may start processes as fast as they are ended
	for range rounds {
		below := descendants(pid)
		if len(below) == 0 {
			break
		}
		for _, d := range below {
			_ = unix.Kill(d, unix.SIGKILL)
		}
	}
	_ = unix.Kill(-pid, unix.SIGKILL)
	_ = unix.Kill(pid, unix.SIGKILL)
}

// descendants are the processes below one that have not ended.
func descendants(of int) (list []int) {
	parents := map[int]int{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// The name in parentheses may hold anything: proc_pid_stat(5).
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 2 || f[0] == "Z" || f[0] == "X" {
			continue
		}
		if parent, err := strconv.Atoi(f[1]); err == nil {
			parents[pid] = parent
		}
	}
	for pid := range parents {
		for p, steps := parents[pid], 0; p > 0 && steps < len(parents)+1; p, steps = parents[p], steps+1 {
			if p == of {
				list = append(list, pid)
				break
			}
		}
	}
	return list
}

// usage is what the container has used until now.
func (g *guest) usage() sandbox.Usage {
	u := readUsage()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.begun.until(time.Now(), u)
}

// start is when the payload began, and the processor time that the container had used:
// the engine's own, which made it.
type start struct {
	at  time.Time
	cpu time.Duration
}

// until is what was used from the start until u was read, and then the clock.
func (s start) until(now time.Time, u sandbox.Usage) sandbox.Usage {
	u.Wall, u.CPU = now.Sub(s.at), max(u.CPU-s.cpu, 0)
	return u
}
