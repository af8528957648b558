package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// container is one container of the engine.
type container struct {
	environment *environment
	spec        sandbox.ContainerSpec
	limits      sandbox.Limits
	sequence    int
	address     string
	uid, gid    int

	id      string
	link    *link
	exit    <-chan engine.Exit
	run     *run
	places  *places
	begun   time.Time
	settled chan struct{} // closed once it is known whether the payload runs
	dead    atomic.Bool   // by our own deadline
	killing sync.Once

	ended  chan struct{} // closed once status and err are set
	status sandbox.ExitStatus
	err    error
}

// Start is described by [sandbox.Environment].
func (e *environment) Start(ctx context.Context, spec sandbox.ContainerSpec) (sandbox.Container, error) {
	if err := checkContainer(spec); err != nil {
		return nil, err
	}
	doing := "start container " + spec.Name
	image, ref, err := e.backend.image(ctx, e.found, spec.Image)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	if spec, err = e.backend.complete(ctx, e.found, spec, image, ref); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	if err := checkInside(spec); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	c := &container{
		environment: e, spec: spec, limits: narrow(e.limits, spec.Limits), uid: spec.UID, gid: spec.GID,
		settled: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := e.register(c); err != nil {
		return nil, err
	}
	err = c.start(ctx, ref, image)
	if err != nil {
		c.free(ctx)
		close(c.ended)
		close(c.settled)
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	go c.follow()
	close(c.settled)
	return c, nil
}

// start makes the container and starts the payload in it.
func (c *container) start(ctx context.Context, ref string, image engine.Image) (err error) {
	e := c.environment
	if c.places, err = e.mounts(ctx, c.spec, c.limits, ref); err != nil {
		return err
	}
	if err := e.tellHosts(ctx); err != nil {
		return err
	}
	ask := c.engineSpec(ref)
	if c.id, err = e.backend.create(ctx, e.found, ask); err != nil {
		return err
	}
	// Subscribed to before the start: no end is missed.
	c.exit = e.found.NextExit(e.life, c.id)
	if c.link, err = attach(ctx, e.found, c.id); err != nil {
		return err
	}
	type inspected struct {
		engine.Detail
		error
	}
	said := make(chan inspected, 1)
	go func() {
		d, err := e.found.Inspect(ctx, c.id)
		said <- inspected{d, err}
	}()
	c.begun = time.Now()
	if err := e.found.StartContainer(ctx, c.id); err != nil {
		return err
	}
	facts, err := await(ctx, c.link, c.link.hello)
	if err != nil {
		return err
	}
	detail := <-said
	if detail.error != nil {
		return detail.error
	}
	if weaker := compare(ask, c.places, detail.Detail, facts); len(weaker) > 0 {
		return tooWeak(weaker)
	}
	out := &output{limit: c.limits.Output, exceed: func() {
		<-c.settled // a payload may write too much before we know that it runs
		c.kill()
	}}
	if c.spec.Stdout != nil {
		out.to[0] = c.spec.Stdout
	}
	if c.spec.Stderr != nil {
		out.to[1] = c.spec.Stderr
	}
	c.run, err = c.link.start(ctx, inside.Start{
		Process: inside.MainProcess, Argv: c.spec.Argv, Env: c.spec.Env, Dir: c.spec.Dir, Wall: c.limits.Wall, Fill: c.places.fills,
	}, c.spec.Stdin, out)
	return err
}

// engineSpec is what the engine is asked for.
func (c *container) engineSpec(ref string) engine.ContainerSpec {
	e := c.environment
	s := e.base(roleContainer, c.limits)
	s.Name = e.backend.engineName(e.spec.Name, c.spec.Name, fmt.Sprint(c.sequence))
	s.Image = ref
	s.User = fmt.Sprintf("%d:%d", c.uid, c.gid)
	switch {
	case !e.full():
		s.Network, s.Hostname, s.Hosts = "none", c.spec.Name, e.spec.Hosts
	case e.sharesHosts():
		s.Network = "container:" + e.id
	default:
		s.Network, s.Hostname, s.Hosts = fmt.Sprintf("ns:/proc/%d/ns/net", e.pid), c.spec.Name, e.names()
	}
	if s.Temporary == nil {
		s.Temporary = map[string]string{"/tmp": temporary(c.limits.Disk, "1777")}
	}
	for target, size := range c.places.temporary {
		s.Temporary[target] = temporary(size, "1777")
		if e.found.Info.Name == Podman {
			s.Temporary[target] += ",notmpcopyup"
		}
	}
	for _, m := range c.places.mounts {
		delete(s.Temporary, m.Target)
		s.Mounts = append(s.Mounts, m)
	}
	return s
}

// follow waits for the end of the container and takes down how it ended.
func (c *container) follow() {
	late := time.AfterFunc(c.limits.Wall+startTime, func() { // process 1 should have done it
		c.dead.Store(true)
		c.force()
	})
	defer late.Stop()
	select {
	case e := <-c.run.ended:
		c.finish(e)
	case <-c.link.mux.Done():
		select {
		case e := <-c.run.ended:
			c.finish(e)
		default:
			c.lost()
		}
	}
	c.run.pumps.Wait()
	c.status.OutputLimit = c.run.output.exceeded.Load()
	c.run.drop()
	c.err = fault.Wrap(c.copyOut(), fault.Unavailable, "", "end container "+c.spec.Name)
	c.free(context.Background())
	close(c.ended)
}

// finish takes what process 1 told last.
func (c *container) finish(e inside.Ended) {
	c.status = statusOf(e)
	c.status.TimedOut = c.status.TimedOut || c.dead.Load()
}

// lost asks the engine how a container ended whose process 1 told nothing: it was
// killed from outside, or by the kernel.
func (c *container) lost() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	c.status = sandbox.ExitStatus{Code: 137, Signal: "SIGKILL", Wall: time.Since(c.begun), TimedOut: c.dead.Load()}
	select {
	case <-c.exit:
	case <-ctx.Done():
	}
	if d, err := c.environment.found.Inspect(ctx, c.id); err == nil {
		c.status.OOM = d.OOM
	}
}

// free gives back all that the container has. What the engine has of it is removed in
// the background.
func (c *container) free(ctx context.Context) {
	e := c.environment
	if c.link != nil {
		c.link.close()
	}
	e.forget(c)
	e.later(func(ctx context.Context) error {
		if c.id != "" {
			select {
			case <-c.exit: // a container that is just ending is not ended well by force
			case <-time.After(graceTime):
			}
			if err := e.found.RemoveContainer(ctx, c.id); err != nil {
				return err
			}
		}
		var errs []error
		if c.places != nil {
			for _, v := range c.places.volumes {
				errs = append(errs, e.found.RemoveVolume(ctx, v))
			}
		}
		return errors.Join(errs...)
	})
}

// Name is that of the specification.
func (c *container) Name() string { return c.spec.Name }

// Address is described by [sandbox.Container].
func (c *container) Address() string { return c.address }

// Exec is described by [sandbox.Container].
func (c *container) Exec(ctx context.Context, spec sandbox.ExecSpec) (sandbox.ExitStatus, error) {
	doing := "run a process in container " + c.spec.Name
	if err := sandbox.CheckCommand(doing, spec.Argv, spec.Env); err != nil {
		return sandbox.ExitStatus{}, err
	}
	if ctx.Err() != nil {
		return sandbox.ExitStatus{}, context.Cause(ctx)
	}
	select {
	case <-c.ended:
		return sandbox.ExitStatus{}, fault.New(fault.Unavailable, "", "%s: it has ended", doing)
	default:
	}
	out := &output{limit: c.limits.Output}
	if spec.Stdout != nil {
		out.to[0] = spec.Stdout
	}
	if spec.Stderr != nil {
		out.to[1] = spec.Stderr
	}
	number := c.link.numbers.Add(1)
	kill := func() {
		_ = c.link.mux.Send(inside.Request{Signal: &inside.Signal{Process: number, Number: int(syscall.SIGKILL)}})
	}
	out.exceed = kill
	r, err := c.link.start(ctx, inside.Start{Process: number, Argv: spec.Argv, Env: spec.Env, Dir: spec.Dir}, spec.Stdin, out)
	if err != nil {
		return sandbox.ExitStatus{}, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	defer r.drop()
	begun := time.Now()
	ended, err := await(ctx, c.link, r.ended)
	if ctx.Err() != nil {
		kill()
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceTime)
		defer cancel()
		_, _ = await(late, c.link, r.ended) // so that nothing of it is left
		return sandbox.ExitStatus{}, fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	if err != nil { // the container was killed from outside, and this with it
		<-c.ended
		ended = inside.Ended{Code: 137, Signal: int(syscall.SIGKILL), TimedOut: c.status.TimedOut, OOM: c.status.OOM}
		ended.Wall = time.Since(begun)
	}
	r.pumps.Wait()
	st := statusOf(ended)
	st.OutputLimit = out.exceeded.Load()
	return st, nil
}

// Usage is described by [sandbox.Container]. It is read from the kernel, inside.
func (c *container) Usage(ctx context.Context) (sandbox.Usage, error) {
	select {
	case <-c.ended:
		s := c.status
		return sandbox.Usage{Wall: s.Wall, CPU: s.CPU, PeakMemory: s.PeakMemory, ReadBytes: s.ReadBytes, WriteBytes: s.WriteBytes}, nil
	default:
	}
	a, err := c.link.call(ctx, func(n inside.Call) inside.Request { return inside.Request{Usage: &n} })
	if err == nil && a.Usage == nil {
		err = errors.New("the answer is empty")
	}
	if err != nil {
		return sandbox.Usage{}, fault.Wrap(err, fault.Unavailable, "", "measure container "+c.spec.Name)
	}
	return *a.Usage, nil
}

// Signal is described by [sandbox.Container]. One that ended is left alone.
func (c *container) Signal(sig os.Signal) error {
	n, ok := sig.(syscall.Signal)
	if !ok {
		return fault.New(fault.Usage, "", "signal %v is unknown here", sig)
	}
	select {
	case <-c.ended:
		return nil
	default:
	}
	if err := c.run.signal(int(n)); err != nil && c.link.mux.Err() == nil {
		return fault.Wrap(err, fault.Unavailable, "", "signal container "+c.spec.Name)
	}
	return nil
}

// Wait is described by [sandbox.Container].
func (c *container) Wait(ctx context.Context) (sandbox.ExitStatus, error) {
	select {
	case <-c.ended:
		return c.status, c.err
	case <-ctx.Done():
		return sandbox.ExitStatus{}, fmt.Errorf("wait for container %s: %w", c.spec.Name, context.Cause(ctx))
	}
}

// Kill is described by [sandbox.Container].
func (c *container) Kill(ctx context.Context) error {
	c.kill()
	_, err := c.Wait(ctx)
	return err
}

// kill tells process 1 to end everything, and the engine to do it if that takes long.
func (c *container) kill() {
	select {
	case <-c.ended:
		return
	default:
	}
	c.killing.Do(func() {
		if c.run == nil || c.run.signal(int(syscall.SIGKILL)) != nil {
			c.force()
			return
		}
		late := time.AfterFunc(graceTime, c.force)
		go func() {
			<-c.ended
			late.Stop()
		}()
	})
}

// force has the engine kill the container.
func (c *container) force() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	if err := c.environment.found.Kill(ctx, c.id); err != nil {
		c.environment.backend.log.WarnContext(ctx, "kill a container", "name", c.spec.Name, "error", err)
	}
}

// complete fills in what the image's configuration gives. Nothing runs as root.
func (b *Backend) complete(ctx context.Context, f *found, s sandbox.ContainerSpec, image engine.Image, ref string) (sandbox.ContainerSpec, error) {
	c := sandbox.ImageConfig{
		Entrypoint: image.Entrypoint, Cmd: image.Cmd, Env: image.Env, WorkingDir: image.WorkingDir, Volumes: slices.Sorted(slices.Values(image.Volumes)),
	}
	if s.UID == 0 || s.GID == 0 {
		var err error
		if c.UID, c.GID, err = b.user(ctx, f, image, ref); err != nil {
			return s, err
		}
		if c.UID == 0 || s.UID != 0 {
			c.UID, c.GID = nobody, nobody
		}
		c.GID = cmp.Or(c.GID, nobody)
	}
	return s.From(c), nil
}
