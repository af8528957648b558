package embedded

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

const (
	// startTime bounds how long a supervisor or an init may take to start, on a
	// machine however busy.
	startTime = 30 * time.Second
	// dialTime bounds a dial whose context has no deadline.
	dialTime = time.Minute
	// closeTime bounds how long a supervisor may take to end.
	closeTime = 30 * time.Second
)

// environment is the creator's side of one supervisor.
type environment struct {
	backend *Backend
	spec    sandbox.EnvironmentSpec
	found   *findings
	limits  sandbox.Limits
	place   *place
	group   *group
	users   identities

	boot    *channel
	process *os.Process   // the supervisor, once it was started
	gone    chan struct{} // closed once it was waited for

	mu         sync.Mutex
	closed     bool
	containers map[string]*container
	started    int // containers so far
	lastNumber byte
	listeners  map[*listener]struct{}
	closing    sync.Once
	closeErr   error
}

// create makes an environment as found says.
func (b *Backend) create(ctx context.Context, spec sandbox.EnvironmentSpec, found *findings) (_ *environment, err error) {
	p, err := b.claim(ctx, spec.Name)
	if err != nil {
		return nil, unrecorded{err}
	}
	e := &environment{
		backend: b, spec: spec, found: found, limits: spec.Limits.Or(defaults()), place: p,
		gone: make(chan struct{}), containers: map[string]*container{}, listeners: map[*listener]struct{}{},
	}
	creator, err := processOf(os.Getpid())
	// Another environment may have this name, of another state directory or seen from
	// another process namespace; what is random is told by the journal.
	e.group = planGroup(found.parents, groupPrefix+spec.Name+"-"+strings.ToLower(rand.Text()))
	r := record{
		Schema: recordSchema, Name: spec.Name, Level: found.variant.Level, Created: time.Now().UTC().Truncate(time.Second),
		Creator: creator, Groups: e.group.paths(),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err := errors.Join(err, p.write(r)); err != nil {
		return nil, e.errorf(unrecorded{err}, "journal")
	}
	for _, d := range []string{stageDir, workDir} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o700); err != nil {
			return nil, e.errorf(unrecorded{err}, "make directories for")
		}
	}
	if err := e.group.create(e.limits, false); err != nil {
		return nil, e.errorf(err, "limit")
	}
	if err := e.launch(ctx); err != nil {
		return nil, e.errorf(err, "start the supervisor of")
	}
	if r.Supervisor, err = processOf(e.process.Pid); err == nil {
		err = p.write(r)
	}
	if err != nil {
		return nil, e.errorf(unrecorded{err}, "journal")
	}
	b.live.Store(spec.Name, e)
	return e, nil
}

// unrecorded is why there is no journal, as of a disk that is full: it says nothing of
// what the kernel allows.
type unrecorded struct{ error }

func (u unrecorded) Unwrap() error { return u.error }

func isUnrecorded(err error) bool { return errors.As(err, new(unrecorded)) }

func (e *environment) errorf(err error, doing string) error {
	return fault.Wrap(err, fault.Unavailable, "", doing+" environment "+e.spec.Name)
}

// launch starts the supervisor and waits until it is ready.
func (e *environment) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	listener, err := listen(e.place.dir)
	if err != nil {
		return err
	}
	defer listener.Close()
	boot, theirs, err := pair()
	if err != nil {
		return err
	}
	defer theirs.Close()
	e.boot = boot
	said, err := os.OpenFile(filepath.Join(e.place.dir, logFile), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer said.Close()
	cmd := &exec.Cmd{
		Args:       []string{argvSupervisor},
		Env:        []string{"GOMAXPROCS=2", "GOTRACEBACK=single"},
		Stderr:     said, // a crash report, if there ever is one
		ExtraFiles: []*os.File{listener, theirs},

		SysProcAttr: e.found.variant.attributes(),
	}
	if err := e.spawn(cmd); err != nil {
		return fail("start a process in new namespaces", err)
	}
	theirs.Close() // or the end of a supervisor that fails is never seen
	defer context.AfterFunc(ctx, boot.interrupt)()
	if err := boot.send(supervisorConfig{Variant: e.found.variant, Alone: e.alone()}); err != nil {
		return err
	}
	var ready reply
	if _, err := boot.receive(&ready); err != nil {
		report := make([]byte, 2<<10)
		n, _ := said.ReadAt(report, 0)
		return cmp.Or(context.Cause(ctx), fmt.Errorf("the supervisor ended before it was ready: %w %s", err, report[:n]))
	}
	if ready.Failure != nil {
		return ready.Failure
	}
	return nil
}

// attributes are those of a supervisor's process.
func (v variant) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true}
	if v.Level != sandbox.Full {
		return a
	}
	// Where processes have a namespace the kernel ends them with the creator;
	// elsewhere the supervisor sees its end and has to do it.
	a.Pdeathsig = syscall.SIGKILL
	a.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWIPC
	if !v.OuterProc {
		a.Cloneflags |= unix.CLONE_NEWPID
	}
	if v.UserNS {
		a.Cloneflags |= unix.CLONE_NEWUSER
		a.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		a.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return a
}

// spawn starts the supervisor on a thread that lives as long as it does: to the
// kernel that thread is the parent whose death PDEATHSIG tells.
func (e *environment) spawn(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		cmd, err := e.backend.startAgain(cmd)
		if err == nil {
			e.process = cmd.Process
		}
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(e.gone)
	}()
	return <-started
}

func (e *environment) Name() string { return e.spec.Name }

// full reports whether containers have a private root.
func (e *environment) full() bool { return e.found.variant.Level == sandbox.Full }

// Path is described by [sandbox.Environment].
func (e *environment) Path(name string, m sandbox.Mount) string {
	switch {
	case e.full():
		return m.Target
	case m.Kind == sandbox.ReadOnly || m.Kind == sandbox.ReadWrite:
		return m.Source
	default:
		return filepath.Join(e.work(name), filepath.Join("/", m.Target))
	}
}

// work is the directory of a container's temporary mounts where there is no
// private root.
func (e *environment) work(name string) string { return filepath.Join(e.place.dir, workDir, name) }

// Close is described by [sandbox.Environment].
func (e *environment) Close(ctx context.Context) error {
	e.closing.Do(func() { e.closeErr = e.close(ctx) })
	return e.closeErr
}

func (e *environment) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.backend.live.CompareAndDelete(e.spec.Name, e)
	if e.boot != nil {
		e.boot.close()
	}
	if e.process != nil {
		e.stop(ctx)
	}
	e.mu.Lock()
	running := make([]*container, 0, len(e.containers))
	for _, c := range e.containers {
		running = append(running, c)
	}
	listening := slices.Collect(maps.Keys(e.listeners))
	e.mu.Unlock()
	for _, l := range listening {
		l.Close()
	}
	for _, c := range running {
		c.awaitEnd(ctx)
	}
	e.users.close()
	err := e.group.remove(ctx)
	err = errors.Join(err, removeDir(e.place.dir))
	e.place.lock.Close()
	return e.errorf(err, "close") // what is gone already is no error of either
}

// stop ends the supervisor: at once where a namespace ends the rest with it,
// otherwise after it had the time to do so.
func (e *environment) stop(ctx context.Context) {
	if e.full() {
		_ = e.process.Kill()
		<-e.gone
		return
	}
	select {
	case <-e.gone:
	case <-ctx.Done():
		e.backend.log.WarnContext(ctx, "supervisor did not end by itself", "environment", e.spec.Name)
		_ = e.process.Kill()
		<-e.gone
	}
}
