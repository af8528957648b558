package embedded

import (
	"encoding/json"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// execution is a process that an init started beside its payload. Its fields are
// guarded by the payload's mutex until done is closed.
type execution struct {
	pid    int     // zero after the end
	exited *exited // nil if it went with the container
	// dying are the processes that were killed with this one and not yet waited for.
	dying map[int]struct{}
	done  chan struct{}
}

// exec starts one more process and answers as an init does for its payload. The
// end of the other side kills the process, as a signal from there does.
func (p *payload) exec(r *execRequest, files []*os.File) {
	defer closeAll(files)
	if len(files) < execStreams {
		return
	}
	link, err := newChannel(files[0])
	if err != nil {
		return
	}
	defer link.close()
	x, err := p.startBeside(r, files)
	if err != nil {
		_ = link.send(linkMessage{Failure: asFailure("start a process", err)})
		return
	}
	closeAll(files[1:]) // a reader of its output must see the end
	_ = link.send(linkMessage{Started: true})
	go func() {
		var m linkMessage
		_, _ = link.receive(&m)
		p.endBeside(x)
	}()
	<-x.done
	if x.exited != nil {
		_ = link.send(linkMessage{Exited: x.exited})
	}
}

func (p *payload) startBeside(r *execRequest, files []*os.File) (*execution, error) {
	// An init that does this may live for long, and do it often.
	debug.SetGCPercent(100)
	spec := p.spec
	spec.command = command{}
	if err := json.NewDecoder(files[1]).Decode(&spec.command); err != nil {
		return nil, fail("read the specification", err)
	}
	if len(spec.Env) == 0 {
		spec.Env = p.spec.Env
	}
	if spec.Dir == "" {
		spec.Dir = p.spec.Dir
	}
	spec.Groups = r.Groups
	streams := []uintptr{files[2].Fd(), files[3].Fd(), files[4].Fd()}
	p.mu.Lock()
	defer p.mu.Unlock()
	pid, err := launchAside(&spec, streams, files[execStreams:])
	if err != nil {
		return nil, err
	}
	x := &execution{pid: pid, done: make(chan struct{})}
	if p.beside == nil {
		p.beside = map[int]*execution{}
	}
	p.beside[pid] = x
	return x, nil
}

// besideEnded takes down that a process ended, if it has to do with an execution.
// It is called with the lock held.
func (p *payload) besideEnded(pid int, w unix.WaitStatus, u *unix.Rusage) {
	for _, x := range p.beside {
		if x.pid == pid {
			x.pid = 0
			if !p.ending {
				x.exited = exitedBy(w, u)
			}
		}
		delete(x.dying, pid)
	}
	for leader, x := range p.beside {
		if x.pid == 0 && len(x.dying) == 0 {
			delete(p.beside, leader)
			close(x.done)
		}
	}
}

// endBeside kills a process with all below it and all of its session. First they
// are stopped, until no new one appears: what is stopped starts no others.
//
// A process that took care to leave both its family and its session is not found;
// like any other it ends with the container.
func (p *payload) endBeside(x *execution) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.pid == 0 {
		return
	}
	x.dying = map[int]struct{}{x.pid: {}}
	_ = unix.Kill(x.pid, unix.SIGSTOP)
	for found := true; found; {
		found = false
		for _, m := range p.family() {
			_, parent := x.dying[m.parent]
			_, known := x.dying[m.pid]
			if known || !parent && m.session != x.pid {
				continue
			}
			_ = unix.Kill(m.pid, unix.SIGSTOP)
			x.dying[m.pid], found = struct{}{}, true
		}
	}
	for pid := range x.dying {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// measure answers what the processes of the container have used, as the kernel
// counts for each of them: those that live, and those that were waited for.
func (p *payload) measure(files []*os.File) {
	if len(files) != 1 {
		return
	}
	link, err := newChannel(files[0])
	if err != nil {
		return
	}
	defer link.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	var ended unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_CHILDREN, &ended) // cannot fail
	e := exitedBy(0, &ended)
	u := sandbox.Usage{CPU: e.CPU, PeakMemory: e.PeakMemory, ReadBytes: e.ReadBytes, WriteBytes: e.WriteBytes}
	for _, m := range p.family() {
		u.CPU += m.cpu
		u.Memory += m.memory
		u.PeakMemory = max(u.PeakMemory, m.memory, peakOf(m.outer))
		u.PIDs += m.threads
		read, written := bytesOf(m.outer)
		u.ReadBytes += read
		u.WriteBytes += written
	}
	u.PeakMemory = max(u.PeakMemory, u.Memory)
	_ = link.send(linkMessage{Used: &u})
}
