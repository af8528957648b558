package embedded

import (
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// The descriptors that an init inherits after the payload's own three; those of
// user namespaces and of control groups follow.
const (
	fdSpec = 3
	fdLink = 4
	fdMore = 5
)

// payload is the process that an init runs.
type payload struct {
	link *channel
	spec initSpec
	full bool

	// mu is held while a process is started, signalled or waited for: a number
	// names the same process all the time.
	mu     sync.Mutex
	pid    int // zero before the start and after the end
	beside map[int]*execution
	ending bool // all of the container is
}

// initMain builds the container, starts the payload, and reaps whatever becomes
// its child until the payload ends. At level Full it is process 1 of the
// container, so its own end is the end of the whole tree.
func initMain() int {
	// Threads that give up their privileges must not be the main one: it would
	// outlive its goroutine.
	runtime.LockOSThread()
	terminate := make(chan os.Signal, 1)
	ignoreSignals()
	signal.Notify(terminate, syscall.SIGTERM)
	unix.Umask(0o022)

	link, err := newChannel(os.NewFile(fdLink, "link"))
	if err != nil {
		return 1
	}
	p := &payload{link: link}
	if err := p.start(); err != nil {
		_ = link.send(linkMessage{Failure: asFailure("start the container", err)})
		if !p.full {
			killDescendants() // the payload may run, and its creator be gone
		}
		return 1
	}
	go p.obey(terminate)
	e := p.reap()
	if !p.full {
		killDescendants()
	}
	if e != nil {
		_ = link.send(linkMessage{Exited: e})
	}
	return 0
}

// start does everything up to the running payload.
func (p *payload) start() error {
	f := os.NewFile(fdSpec, "spec")
	err := json.NewDecoder(f).Decode(&p.spec)
	f.Close()
	if err != nil {
		return fail("read the specification", err)
	}
	more := inherited(&p.spec)
	defer closeAll(more)
	groups := more[len(p.spec.Maps):]
	if p.full = p.spec.Variant.Level == sandbox.Full; p.full {
		err = p.enclose(more)
	} else {
		err = fail("become a reaper", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	}
	if err != nil {
		return err
	}
	pid, err := launchAside(&p.spec, []uintptr{0, 1, 2}, groups)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.pid = pid
	p.mu.Unlock()
	// The payload has them; a reader of its output must see their end.
	for fd := range 3 {
		unix.Close(fd)
	}
	return p.link.send(linkMessage{Started: true})
}

// enclose makes the namespaces of a container what they should be.
func (p *payload) enclose(maps []*os.File) error {
	if p.spec.Alone {
		if err := fail("bring the loopback interface up", loopbackUp()); err != nil {
			return err
		}
	}
	return buildRoot(&p.spec, maps)
}

// inherited are the files that belong to spec, which the payload must not inherit.
func inherited(spec *initSpec) []*os.File {
	n := len(spec.Maps)
	for _, g := range spec.Groups {
		n += g.files()
	}
	files := make([]*os.File, n)
	for i := range files {
		unix.CloseOnExec(fdMore + i)
		files[i] = os.NewFile(uintptr(fdMore+i), "inherited")
	}
	return files
}

// launchAside starts a process that spec describes from a thread that gives up
// everything for it, and returns its number.
func launchAside(spec *initSpec, streams []uintptr, groups []*os.File) (int, error) {
	type result struct {
		pid int
		err error
	}
	launched := make(chan result)
	go func() {
		// Locked and never unlocked: the thread ends with the goroutine, and with
		// it what it gave up and the control groups that it alone joined.
		runtime.LockOSThread()
		pid, err := launch(spec, streams, groups)
		launched <- result{pid, err}
	}()
	r := <-launched
	return r.pid, errors.Join(r.err, leave(spec.Groups, groups))
}

// launch confines the calling thread and starts the payload from it. What can be
// taken from a whole process only, by Landlock and limits that would hit this one
// too, another start of this executable takes from itself before it becomes the
// payload: see [launchRestricted].
func launch(spec *initSpec, streams []uintptr, groups []*os.File) (int, error) {
	if spec.Variant.Level != sandbox.Full {
		return launchRestricted(spec, streams, &syscall.SysProcAttr{Setsid: true})
	}
	if err := join(spec.Groups, groups); err != nil {
		return 0, err
	}
	if err := confine(spec); err != nil {
		return 0, err
	}
	if spec.Rehearse {
		return 0, nil
	}
	attributes := &syscall.SysProcAttr{Setsid: true}
	if !spec.Variant.UserNS {
		attributes.Credential = &syscall.Credential{Uid: uint32(spec.UID), Gid: uint32(spec.GID)}
	}
	if spec.staged() {
		return launchRestricted(spec, streams, attributes)
	}
	return launchDirectly(spec, streams, attributes)
}

func launchDirectly(spec *initSpec, streams []uintptr, attributes *syscall.SysProcAttr) (int, error) {
	path, dir, err := find(spec)
	if err != nil {
		return 0, err
	}
	pid, err := syscall.ForkExec(path, spec.Argv, &syscall.ProcAttr{
		Dir: dir, Env: spec.Env, Files: streams, Sys: attributes,
	})
	return pid, fail("start "+spec.Argv[0]+" in "+dir, err)
}

// find returns what to start, and where.
func find(spec *initSpec) (path, dir string, err error) {
	path, dir = spec.Argv[0], filepath.Join("/", spec.Dir)
	if spec.Variant.Level != sandbox.Full {
		path, dir = below(spec.Root, path), below(spec.Root, dir)
	}
	path, err = sandbox.LookPath(path, spec.Env, dir)
	return path, dir, fail("find "+spec.Argv[0], err)
}

// below returns where an absolute path of a container's root is at a level
// without a private root: under root if it is there, else the path itself.
func below(root, path string) string {
	if root == "" || !filepath.IsAbs(path) {
		return path
	}
	if in := filepath.Join(root, path); exists(in) {
		return in
	}
	return path
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// join makes this thread a member of the control groups, so that what it starts
// is. In version 2 the whole process is moved.
func join(list []groupFile, files []*os.File) error {
	for _, g := range list {
		if _, err := files[0].WriteString("0"); err != nil {
			return fail("join a control group", err)
		}
		files = files[g.files():]
	}
	return nil
}

// leave takes the init out again where the whole of it had to join. The thread that
// joined cannot do it: it has given up what the kernel asks of whoever moves a
// process between groups of processors, which is no less than the process has.
func leave(list []groupFile, files []*os.File) error {
	for _, g := range list {
		if g.Version == 2 {
			if _, err := files[1].WriteString("0"); err != nil {
				return fail("leave a control group", err)
			}
		}
		files = files[g.files():]
	}
	return nil
}

// obey delivers signals to the payload, and ends everything when the creator is
// gone or the supervisor says so.
func (p *payload) obey(terminate <-chan os.Signal) {
	go func() {
		<-terminate
		p.end()
	}()
	for {
		var m linkMessage
		files, err := p.link.receive(&m)
		if err != nil {
			break
		}
		switch {
		case m.Exec != nil:
			go p.exec(m.Exec, files)
			continue
		case m.Measure:
			p.measure(files)
		default:
			p.signal(syscall.Signal(m.Signal))
		}
		closeAll(files)
	}
	p.end()
}

func (p *payload) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid != 0 {
		_ = unix.Kill(p.pid, s)
	}
}

// end ends the container. Where no process namespace does it, all but this
// process are killed, and reap then sees the end of the payload.
func (p *payload) end() {
	if p.full {
		os.Exit(1)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ending = true
	for _, pid := range descendants(os.Getpid()) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if p.pid != 0 {
		_ = unix.Kill(p.pid, unix.SIGKILL)
	}
}

// reap waits for children until the payload ends.
func (p *payload) reap() *exited {
	for {
		var w unix.WaitStatus
		pid, err := p.waitAny(&w)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil
		case pid == 0:
			continue
		}
		var u unix.Rusage
		_ = unix.Getrusage(unix.RUSAGE_CHILDREN, &u) // cannot fail
		e := exitedBy(w, &u)
		e.Left = p.orphans()
		return e
	}
}

// orphans reports that children are left which have not ended: the payload's, since it has.
// Those of executions may come from outside, and do not count.
func (p *payload) orphans() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.beside) > 0 || p.ending {
		return false
	}
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

func exitedBy(w unix.WaitStatus, u *unix.Rusage) *exited {
	e := &exited{
		Code: w.ExitStatus(), CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano()), PeakMemory: u.Maxrss << 10,
		ReadBytes: u.Inblock * rusageBlock, WriteBytes: u.Oublock * rusageBlock,
	}
	if w.Signaled() {
		e.Signal = int(w.Signal())
		e.Code = 128 + e.Signal
	}
	return e
}

// rusageBlock is the unit of ru_inblock and ru_oublock, in bytes: getrusage(2)
// does not say it, task_io_get_inblock in linux/task_io_accounting_ops.h does.
const rusageBlock = 512

// waitAny waits for one child and returns its number, or zero if it was not the
// payload. The number of a process stays taken until it is waited for, so it is
// forgotten under the same lock under which signals are sent.
func (p *payload) waitAny(w *unix.WaitStatus) (int, error) {
	if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var u unix.Rusage
	pid, err := unix.Wait4(-1, w, unix.WNOHANG, &u)
	if err != nil || pid <= 0 {
		return 0, err
	}
	p.besideEnded(pid, *w, &u)
	if pid != p.pid {
		return 0, nil
	}
	p.pid = 0
	return pid, nil
}
