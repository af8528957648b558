package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// environment is a container that holds a network namespace, and those that share it.
type environment struct {
	backend *Backend
	found   *found
	spec    sandbox.EnvironmentSpec
	limits  sandbox.Limits
	helper  string // a volume

	id       string // of the container that holds the network
	pid      int    // of its process 1, on the engine's machine
	link     *link
	exit     <-chan engine.Exit
	facts    *inside.Facts
	enforced []sandbox.Enforcement
	life     context.Context // until the environment is closed
	end      context.CancelFunc

	mu         sync.Mutex
	closed     bool
	sequence   int
	containers map[string]*container
	listeners  []*listener
	removals   sync.WaitGroup
	closing    sync.Once
	closeErr   error
}

// Create makes an environment. One of that name whose creator is gone is removed
// first; a living one is fault.Finding.
func (b *Backend) Create(ctx context.Context, spec sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	if err := errors.Join(spec.Check(), checkLimits(spec.Limits)); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	doing := "create environment " + spec.Name
	f, err := b.connect(ctx)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	helper, err := b.install(ctx, f)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	e := &environment{
		backend: b, found: f, spec: spec, limits: orDefault(spec.Limits, f.CPUs), helper: helper, containers: map[string]*container{},
	}
	e.life, e.end = context.WithCancel(context.WithoutCancel(ctx))
	if err := e.create(ctx); err != nil {
		return nil, fault.Wrap(errors.Join(err, e.abort(ctx)), fault.Unavailable, "", doing)
	}
	b.live.Store(spec.Name, e)
	return e, nil
}

func (e *environment) full() bool { return e.spec.Network != sandbox.NetworkNone }

// create makes the container that holds the network, and reads back what is in force
// in it.
func (e *environment) create(ctx context.Context) error {
	ask := e.networkSpec()
	var err error
	if e.id, err = e.claim(ctx, ask); err != nil {
		return err
	}
	e.exit = e.found.NextExit(e.life, e.id)
	if e.link, err = attach(ctx, e.found, e.id); err != nil {
		return err
	}
	if err := e.found.StartContainer(ctx, e.id); err != nil {
		return err
	}
	detail, err := e.found.Inspect(ctx, e.id)
	if err != nil {
		return err
	}
	e.pid = detail.PID
	if e.facts, err = await(ctx, e.link, e.link.hello); err != nil {
		return err
	}
	if weaker := compare(ask, nil, detail, e.facts); len(weaker) > 0 {
		return tooWeak(weaker)
	}
	e.enforced = e.enforcement(detail)
	return e.tellHosts(ctx)
}

// networkSpec describes the container that holds the network. Docker shares its hosts
// file with all containers of the network, and a process there has to write it: it
// belongs to root.
func (e *environment) networkSpec() engine.ContainerSpec {
	s := e.base(roleNetwork, e.limits)
	s.Name = e.backend.engineName(e.spec.Name)
	s.Image = emptyImage
	s.Hostname = e.spec.Name
	s.Network = "none"
	if e.sharesHosts() {
		s.User, s.ReadOnly = "0:0", false
	}
	return s
}

// sharesHosts reports whether containers that share a network share /etc/hosts.
func (e *environment) sharesHosts() bool { return e.found.Info.Name != Podman }

// base is what all containers of the environment have in common.
func (e *environment) base(role string, l sandbox.Limits) engine.ContainerSpec {
	s := engine.ContainerSpec{
		Labels: e.backend.labels(e.spec.Name, role), Entrypoint: []string{insideDir + "/bin/" + inside.Program},
		// The program inside is small and does little: it shall look like that.
		Env:  []string{"GOMAXPROCS=1", "GOTRACEBACK=single"},
		User: fmt.Sprintf("%d:%d", nobody, nobody), ReadOnly: true,
		Memory: l.Memory, CPUs: l.CPUs, PIDs: int64(l.PIDs), Files: int64(l.Files), Shared: min(l.Disk, 64<<20),
		Mounts: []engine.Mount{{Volume: e.helper, Target: insideDir + "/bin", ReadOnly: true}},
	}
	if e.found.Info.Name == Podman {
		// Left out, it would be raised to what an engine without CAP_SYS_RESOURCE may not
		// set. Processes are bounded by their number in the container.
		s.UserProcesses = userProcesses()
		// With a root that is read-only, Podman makes these of its own, unbounded.
		s.Temporary = map[string]string{
			"/run": temporary(l.Disk, "755") + ",notmpcopyup", "/tmp": temporary(l.Disk, "1777") + ",notmpcopyup",
			"/var/tmp": temporary(l.Disk, "1777") + ",notmpcopyup",
		}
	}
	return s
}

// temporary are the options of a memory file system.
func temporary(size int64, mode string) string {
	return "rw,nosuid,nodev,exec,size=" + strconv.FormatInt(size, 10) + ",mode=" + mode
}

// claim creates the container whose name is that of the environment, after removing
// what a creator that is gone left of one of that name.
func (e *environment) claim(ctx context.Context, s engine.ContainerSpec) (string, error) {
	for attempt := range 3 {
		id, err := e.backend.create(ctx, e.found, s)
		switch {
		case err == nil:
			return id, nil
		case errors.Is(err, engine.ErrNotFound) && attempt == 0:
			// Somebody removed the images that nobody used.
			if e.helper, err = e.backend.reinstall(ctx, e.found); err != nil {
				return "", err
			}
			s.Mounts[0].Volume = e.helper
			continue
		case !errors.Is(err, engine.ErrConflict):
			return "", err
		}
		looked := time.Now()
		there, err := e.found.Inspect(ctx, s.Name)
		switch {
		case errors.Is(err, engine.ErrNotFound):
			continue
		case err != nil:
			return "", err
		}
		if there.Labels[labelEnvironment] != e.spec.Name || !isDead(there.Container) {
			break
		}
		if err := e.backend.remove(ctx, e.found, e.spec.Name, looked); err != nil {
			return "", err
		}
	}
	return "", fault.New(fault.Finding, "choose another name, or delete the environment", "an environment called %q exists", e.spec.Name)
}

// abort frees what a create that failed has made.
func (e *environment) abort(ctx context.Context) error {
	e.end()
	if e.link != nil {
		e.link.close()
	}
	if e.id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	return e.found.RemoveContainer(ctx, e.id)
}

// Name is that of the specification.
func (e *environment) Name() string { return e.spec.Name }

// Effective is described by [sandbox.Environment]. The limits are those of one
// container: engines know none for several.
func (e *environment) Effective() sandbox.Effective {
	return sandbox.Effective{Level: sandbox.Full, Enforced: slices.Clone(e.enforced)}
}

// Path is the target itself.
func (e *environment) Path(_ string, m sandbox.Mount) string { return path.Clean(m.Target) }

// noNetwork refuses what needs a network.
func (e *environment) noNetwork(doing string) error {
	return fault.New(fault.Usage, "create the environment with network "+string(sandbox.NetworkInternal), "environment %s has no network: %s", e.spec.Name, doing)
}

// Port is described by [sandbox.Environment].
func (e *environment) Port(preferred int) (int, error) {
	if preferred < 0 || preferred > 65535 {
		return 0, fault.New(fault.Usage, "use 1 to 65535, or 0 for any", "there is no port %d", preferred)
	}
	a, err := e.link.call(e.life, func(c inside.Call) inside.Request {
		return inside.Request{Port: &inside.Port{Call: c, Preferred: preferred}}
	})
	return a.Port, fault.Wrap(err, fault.Unavailable, "", "environment "+e.spec.Name)
}

// Dial is described by [sandbox.Environment]. The connection is carried by the engine.
func (e *environment) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	doing := "dial " + address + " in environment " + e.spec.Name
	if !e.full() {
		return nil, e.noNetwork(doing)
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	id, s, err := e.link.open()
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	_, err = e.link.call(ctx, func(c inside.Call) inside.Request {
		return inside.Request{Dial: &inside.Dial{Call: c, Network: network, Address: address, Stream: id}}
	})
	if err != nil {
		s.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w", doing, context.Cause(ctx))
		}
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	return s, nil
}

// Listen is described by [sandbox.Environment].
func (e *environment) Listen(ctx context.Context) (net.Listener, error) {
	doing := "listen in environment " + e.spec.Name
	if !e.full() {
		return nil, e.noNetwork(doing)
	}
	ln, err := e.link.listen(ctx)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.Join(e.isClosed(), ln.Close())
	}
	e.listeners = append(e.listeners, ln)
	return ln, nil
}

func (e *environment) isClosed() error {
	return fault.New(fault.Unavailable, "", "environment %s is closed", e.spec.Name)
}

// names are all names of the environment and their addresses.
func (e *environment) names() map[string]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[string]string{}
	for _, c := range e.containers {
		for _, name := range append([]string{c.spec.Name}, c.spec.Aliases...) {
			all[name] = c.address
		}
	}
	maps.Copy(all, e.spec.Hosts)
	return all
}

// tellHosts gives the names of now to what resolves them.
func (e *environment) tellHosts(ctx context.Context) error {
	if !e.full() {
		return nil
	}
	_, err := e.link.call(ctx, func(c inside.Call) inside.Request {
		return inside.Request{Hosts: &inside.Hosts{Call: c, Names: e.names(), File: e.sharesHosts()}}
	})
	return err
}

// register takes the name and an address for c; one container at a time may have them.
func (e *environment) register(c *container) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return e.isClosed()
	}
	if e.containers[c.spec.Name] != nil {
		return fault.New(fault.Usage, "choose another name, or wait for its end", "environment %s has a container %s", e.spec.Name, c.spec.Name)
	}
	if e.full() {
		taken := map[string]bool{}
		for _, other := range e.containers {
			taken[other.address] = true
		}
		for n := 1; c.address == "" && n < 255*255; n++ {
			if a := fmt.Sprintf("127.0.%d.%d", 1+n/255, n%255); n%255 != 0 && !taken[a] {
				c.address = a
			}
		}
		if c.address == "" {
			return fault.New(fault.Unavailable, "", "environment %s has no address left", e.spec.Name)
		}
	}
	e.sequence++
	c.sequence = e.sequence
	e.containers[c.spec.Name] = c
	return nil
}

// forget gives the name of c back.
func (e *environment) forget(c *container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.containers[c.spec.Name] == c {
		delete(e.containers, c.spec.Name)
	}
}

// later removes things in the background; Close waits for it.
func (e *environment) later(remove func(context.Context) error) {
	e.removals.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		if err := remove(ctx); err != nil {
			// Close tries again, and tells.
			e.backend.log.DebugContext(ctx, "what a container leaves", "environment", e.spec.Name, "error", err)
		}
	})
}

// Close is described by [sandbox.Environment].
func (e *environment) Close(ctx context.Context) error {
	e.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		e.closeErr = fault.Wrap(e.close(ctx), fault.Unavailable, "run gc once the engine answers", "close environment "+e.spec.Name)
		e.backend.live.CompareAndDelete(e.spec.Name, e)
	})
	return e.closeErr
}

func (e *environment) close(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	running := slices.Collect(maps.Values(e.containers))
	listeners := e.listeners
	e.mu.Unlock()
	for _, ln := range listeners {
		ln.Close()
	}
	err := each(running, func(c *container) error {
		<-c.settled // it may be starting
		return c.Kill(ctx)
	})
	e.removals.Wait()
	e.link.close()
	select {
	case <-e.exit: // process 1 ends with its standard input
	case <-time.After(graceTime):
	case <-ctx.Done():
	}
	e.end()
	// What there is by its labels, and not what is remembered.
	return errors.Join(err, e.backend.remove(ctx, e.found, e.spec.Name, time.Now()))
}
