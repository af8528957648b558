package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// container is the creator's side of one init.
type container struct {
	environment *environment
	name        string
	aliases     []string
	address     string // of its own, or empty
	order       int    // of its start among the containers of the environment
	group       *group
	limits      sandbox.Limits
	image       sandbox.Image

	init    process  // below level full
	control *channel // to the supervisor: its end kills the container
	link    *channel // to the init
	output  *output
	begin   time.Time

	launched chan struct{} // closed once it is known whether the payload runs
	reaped   *reaped       // if it ended before that

	mu   sync.Mutex
	used sandbox.Usage // the most that was ever seen

	ended  chan struct{} // closed once status and err are set
	status sandbox.ExitStatus
	err    error
}

// Start is described by [sandbox.Environment].
func (e *environment) Start(ctx context.Context, spec sandbox.ContainerSpec) (sandbox.Container, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	image, err := e.backend.unpack(ctx, spec.Image)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "start container "+spec.Name)
	}
	if spec.Image != "" {
		spec = spec.From(image.Config)
		spec.Root = image.Dir
	}
	if err := spec.CheckInside(func(string) bool { return false }); err != nil {
		image.Release()
		return nil, err
	}
	c, err := e.start(ctx, spec, image, false)
	if err != nil {
		return nil, e.backend.forget(e.found, fault.Wrap(err, fault.Unavailable, "", "start container "+spec.Name))
	}
	return c, nil
}

// rehearse starts a container that stops short of its payload.
func (e *environment) rehearse(ctx context.Context) error {
	c, err := e.start(ctx, sandbox.ContainerSpec{Name: "probe", Argv: []string{"probe"}}, noImage, true)
	if err != nil {
		return err
	}
	_, err = c.Wait(ctx)
	return err
}

// start starts a container, and on an error leaves nothing of it. The image is
// released with the container.
func (e *environment) start(ctx context.Context, spec sandbox.ContainerSpec, image sandbox.Image, rehearse bool) (_ *container, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	limits := e.limits.Narrow(spec.Limits)
	c := &container{
		environment: e, name: spec.Name, aliases: spec.Aliases, image: image, limits: limits,
		group: e.group.child("c-" + spec.Name), begin: time.Now(),
		launched: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := e.register(c); err != nil {
		image.Release()
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.release())
			close(c.ended)
		}
	}()
	init, err := e.prepare(spec, limits)
	if err != nil {
		return nil, err
	}
	init.Rehearse, init.MakeDir = rehearse, image.Dir != "" && spec.Dir != "" && spec.Dir == image.Config.WorkingDir
	if err := c.group.create(limits, true); err != nil {
		return nil, err
	}
	if c.control, err = connect(e.place.dir); err != nil {
		return nil, fmt.Errorf("reach the supervisor: %w", err)
	}
	c.output = newOutput(spec.Stdout, spec.Stderr, limits.Output, func() {
		<-c.launched // a payload may write too much before we know that it runs
		c.kill()
	})
	files, err := c.files(init, spec.Stdin)
	defer closeAll(files)
	if err != nil {
		return nil, err
	}
	err = c.launch(ctx, files, startRequest{UID: init.UID, GID: init.GID, Wall: limits.Wall})
	close(c.launched)
	if err != nil {
		return nil, err
	}
	go c.follow()
	return c, nil
}

// register takes the name of c; one container at a time may have it.
func (e *environment) register(c *container) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return fault.New(fault.Unavailable, "", "environment %s is closed", e.spec.Name)
	}
	if e.containers[c.name] != nil {
		return fault.New(fault.Usage, "choose another name, or wait for its end", "environment %s has a container %s", e.spec.Name, c.name)
	}
	if err := e.addressFor(c); err != nil {
		return err
	}
	e.started++
	c.order = e.started
	e.containers[c.name] = c
	return nil
}

// release frees what the container holds outside of its processes, and its name.
func (c *container) release() error {
	for _, ch := range []*channel{c.control, c.link} {
		if ch != nil {
			ch.close()
		}
	}
	if c.output != nil {
		c.output.stop()
	}
	err := c.group.remove(context.Background())
	if !c.environment.full() {
		err = errors.Join(err, removeDir(c.environment.work(c.name)))
	}
	c.environment.mu.Lock()
	delete(c.environment.containers, c.name)
	c.environment.mu.Unlock()
	c.image.Release()
	return err
}

// prepare turns a specification into one for an init, and makes what an
// environment without private roots needs for it.
func (e *environment) prepare(spec sandbox.ContainerSpec, l sandbox.Limits) (*initSpec, error) {
	s := &initSpec{
		Variant:  e.found.variant,
		Hostname: spec.Name,
		Hosts:    e.hosts(spec.Name),
		Stage:    filepath.Join(e.place.dir, stageDir),
		Root:     spec.Root,
		command:  command{spec.Argv, spec.Env, spec.Dir},
		Alone:    e.alone(),
		UID:      cmp.Or(spec.UID, nobody), GID: cmp.Or(spec.GID, nobody),
		Disk:    l.Disk,
		Rlimits: e.rlimits(l),
	}
	for _, m := range spec.Mounts {
		if err := checkSource(m); err != nil {
			return nil, err
		}
		m.Target = filepath.Clean(m.Target)
		s.Mounts = append(s.Mounts, m)
	}
	// What lies in another mount comes after it.
	slices.SortStableFunc(s.Mounts, func(a, b sandbox.Mount) int { return strings.Compare(a.Target, b.Target) })
	if !e.full() {
		return s, e.prepareWork(spec.Name, s, l)
	}
	return s, nil
}

// checkSource finds what is wrong with the source of a mount.
func checkSource(m sandbox.Mount) error {
	if m.Kind == sandbox.Scratch {
		return nil
	}
	st, err := os.Stat(m.Source)
	switch {
	case err != nil:
		return fault.Wrap(err, fault.Finding, "make it before it is mounted", "mount "+m.Target)
	case m.Kind == sandbox.Overlay && !st.IsDir():
		return fault.New(fault.Usage, "lay it over the directory it is in", "mount %s: %s is not a directory", m.Target, m.Source)
	}
	return nil
}

// prepareWork makes the temporary mounts of a container as directories of the
// host, and says what Landlock has to allow. /tmp is one of them.
func (e *environment) prepareWork(name string, s *initSpec, l sandbox.Limits) error {
	s.Writable = []string{e.work(name)}
	if err := os.MkdirAll(e.Path(name, sandbox.Mount{Kind: sandbox.Scratch, Target: "/tmp"}), 0o700); err != nil {
		return err
	}
	var shown []sandbox.Mount
	for _, m := range s.Mounts {
		to := e.Path(name, m)
		var err error
		switch m.Kind {
		case sandbox.Overlay:
			// The place may be there as part of the mount around it.
			if err = os.RemoveAll(to); err == nil {
				err = copyTree(m.Source, to, l.Narrow(sandbox.Limits{Disk: m.Size}).Disk, nil)
			}
		case sandbox.Scratch:
			err = os.MkdirAll(to, 0o700)
		default:
			shown = append(shown, m)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	s.Mounts = shown
	return nil
}

// files returns what a start sends along: see [request]. They are the caller's to
// close, also after an error.
func (c *container) files(init *initSpec, stdin io.Reader) (files []*os.File, err error) {
	var more []*os.File
	if init.Variant.Level == sandbox.Full && !init.Variant.UserNS {
		var maps []*os.File
		if init.Maps, maps, err = c.environment.users.need(init); err != nil {
			return nil, err
		}
		// The environment keeps these: what is sent is a copy.
		for _, f := range maps {
			if f, err = duplicate(f); err != nil {
				return more, err
			}
			more = append(more, f)
		}
	}
	var groups []*os.File
	if init.Groups, groups, err = c.group.open(); err != nil {
		return more, err
	}
	more = append(more, groups...)
	spec, err := memoryFile(init)
	if err != nil {
		return more, err
	}
	files = append(files, spec)
	link, theirs, err := pair()
	if err != nil {
		return append(files, more...), err
	}
	c.link = link
	files = append(files, theirs)
	in, err := c.output.stdin(stdin)
	if err != nil {
		return append(files, more...), err
	}
	files = append(files, in)
	out, err := c.output.open()
	files = append(files, out...)
	return append(files, more...), err
}

// launch has the supervisor start the init and waits until the payload runs.
func (c *container) launch(ctx context.Context, files []*os.File, r startRequest) error {
	stop := context.AfterFunc(ctx, func() { c.control.interrupt(); c.link.interrupt() })
	defer stop()
	if err := c.control.send(request{Op: opStart, Start: &r}, files...); err != nil {
		return fmt.Errorf("reach the supervisor: %w", cmp.Or(context.Cause(ctx), err))
	}
	closeAll(files)
	var a reply
	if _, err := c.control.receive(&a); err != nil {
		return fmt.Errorf("the supervisor ended: %w", cmp.Or(context.Cause(ctx), err))
	}
	if a.Failure != nil {
		return a.Failure
	}
	if !c.environment.full() {
		// Below level full it is the same number here. One that ended has none.
		c.init, _ = processOf(a.PID)
	}
	var m linkMessage
	if _, err := c.link.receive(&m); err != nil {
		// Its time may be over already: that is an end as any other.
		if _, err := c.control.receive(&a); err == nil && a.Reaped != nil && a.Reaped.TimedOut {
			c.reaped = a.Reaped
			return nil
		}
		return fmt.Errorf("the init of the container ended: %w", cmp.Or(context.Cause(ctx), err))
	}
	if m.Failure != nil {
		return fault.Wrap(m.Failure, startKind(m.Failure), startHint(m.Failure), "set up")
	}
	if !stop() {
		// Too late to keep the payload from running, and the channels are of no use any
		// more: its end would not be noticed.
		return context.Cause(ctx)
	}
	return nil
}

// startKind says whose turn it is when an init could not start its payload.
func startKind(f *failure) fault.Kind {
	if strings.HasPrefix(f.Step, "find ") || strings.HasPrefix(f.Step, "start ") {
		return fault.Finding
	}
	return fault.Unavailable
}

func startHint(f *failure) string {
	switch {
	case errors.Is(f, syscall.ENOENT):
		return "check that the command, its interpreter and the working directory exist inside the container"
	case errors.Is(f, syscall.EACCES):
		return "check that the user of the container may execute the command"
	case errors.Is(f, syscall.EAGAIN):
		return "raise the limit of processes"
	case errors.Is(f, syscall.ENOSPC):
		return "raise the limit of disk space"
	}
	return ""
}

// follow waits for the end of the container and takes down how it ended.
func (c *container) follow() {
	var inner *exited
	var m linkMessage
	if _, err := c.link.receive(&m); err == nil {
		inner = m.Exited
	}
	ended := c.reaped
	if ended == nil {
		var a reply
		if _, err := c.control.receive(&a); err == nil {
			ended = a.Reaped
		}
	}
	c.output.drain(drainTime)
	s := statusOf(inner)
	s.Wall, s.OutputLimit, s.OOM = time.Since(c.begin), c.output.exceeded.Load(), c.group.outOfMemory() > 0
	if ended != nil {
		s.TimedOut = ended.TimedOut
	}
	u := c.most(sandbox.Usage{CPU: s.CPU, PeakMemory: s.PeakMemory, ReadBytes: s.ReadBytes, WriteBytes: s.WriteBytes})
	s.CPU, s.PeakMemory, s.ReadBytes, s.WriteBytes = u.CPU, u.PeakMemory, u.ReadBytes, u.WriteBytes
	c.status = s
	if err := c.release(); err != nil {
		c.err = fault.Wrap(err, fault.Unavailable, "", "end container "+c.name)
	}
	close(c.ended)
}

// statusOf is how a process ended, by what its init says; nil means that it was
// killed, and its init with it.
func statusOf(e *exited) sandbox.ExitStatus {
	if e == nil {
		return sandbox.ExitStatus{Code: 128 + int(unix.SIGKILL), Signal: unix.SignalName(unix.SIGKILL)}
	}
	s := sandbox.ExitStatus{
		Code: e.Code, Left: e.Left, CPU: e.CPU, PeakMemory: e.PeakMemory, ReadBytes: e.ReadBytes, WriteBytes: e.WriteBytes,
	}
	if e.Signal != 0 {
		s.Signal = unix.SignalName(syscall.Signal(e.Signal))
	}
	return s
}

func (c *container) Name() string { return c.name }

// Signal is described by [sandbox.Container]. One that ended is left alone.
func (c *container) Signal(sig os.Signal) error {
	n, ok := sig.(syscall.Signal)
	if !ok {
		return fault.New(fault.Usage, "", "signal %v is unknown here", sig)
	}
	err := c.link.send(linkMessage{Signal: int(n)})
	select {
	case <-c.ended:
		return nil
	default:
	}
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, os.ErrClosed) {
		return nil // it is about to
	}
	return fault.Wrap(err, fault.Unavailable, "", "signal container "+c.name)
}

// Wait is described by [sandbox.Container].
func (c *container) Wait(ctx context.Context) (sandbox.ExitStatus, error) {
	select {
	case <-c.ended:
		return c.status, c.err
	case <-ctx.Done():
		return sandbox.ExitStatus{}, fmt.Errorf("wait for container %s: %w", c.name, context.Cause(ctx))
	}
}

// Kill is described by [sandbox.Container].
func (c *container) Kill(ctx context.Context) error {
	c.kill()
	_, err := c.Wait(ctx)
	return err
}

// orphanTime bounds how long an init whose supervisor is gone may take to end its tree.
const orphanTime = 5 * time.Second

// awaitEnd waits for the end of a container whose supervisor is gone. Its init ends the
// tree then; one that does not, because it was stopped, is killed with all below it.
func (c *container) awaitEnd(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, orphanTime)
	defer cancel()
	select {
	case <-c.ended:
		return
	case <-ctx.Done():
	}
	c.environment.backend.log.WarnContext(ctx, "a container did not end by itself", "container", c.name)
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), orphanTime)
	defer stop()
	if err := c.init.killTree(last); err != nil {
		c.environment.backend.log.WarnContext(ctx, "a container cannot be killed", "container", c.name, "error", err)
	}
	// Whoever still holds the other ends has nothing more to say.
	c.link.interrupt()
	c.control.interrupt()
	<-c.ended
}

func (c *container) kill() { _ = c.control.send(request{Op: opKill}) }
