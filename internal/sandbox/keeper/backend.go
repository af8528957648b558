package keeper

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Backend makes and finds environments that keepers hold. As a [sandbox.Backend] it
// is the one that keepers use, but for the process that holds its environments. Its
// methods may be called from many goroutines at once.
type Backend struct {
	options Options
	log     *slog.Logger
}

// New returns a back end. It touches nothing until it is used.
func New(o Options) *Backend {
	if dir, err := filepath.Abs(o.StateDir); err == nil && o.StateDir != "" {
		o.StateDir = dir
	}
	return &Backend{options: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler))}
}

// inner returns the back end that keepers with settings use.
func (b *Backend) inner(settings json.RawMessage) (sandbox.Backend, error) {
	if b.options.Open == nil || b.options.StateDir == "" {
		return nil, fault.New(fault.Internal, "", "environments have no back end, or no state directory")
	}
	return b.options.Open(settings, b.log)
}

// Name is that of the back end behind it.
func (b *Backend) Name() string {
	inner, err := b.inner(b.options.Settings)
	if err != nil {
		return "keeper"
	}
	return inner.Name()
}

// Probe is described by [sandbox.Backend].
func (b *Backend) Probe(ctx context.Context) (sandbox.Capabilities, error) {
	inner, err := b.inner(b.options.Settings)
	if err != nil {
		return sandbox.Capabilities{}, err
	}
	return inner.Probe(ctx)
}

func (b *Backend) dir(name string) string { return filepath.Join(b.options.StateDir, name) }

// Create makes an environment that Close deletes, at the latest its time to live
// after this process has ended.
func (b *Backend) Create(ctx context.Context, spec sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	e, err := b.Keep(ctx, spec, Life{})
	if err != nil {
		return nil, err
	}
	e.owned = true
	return e, nil
}

// Keep makes an environment that stays when it is closed, until its life ends or it
// is removed. If ctx ends, or this process, before it is there, nothing is left. An
// environment of that name whose keeper was killed is removed first; a living one is
// fault.Finding.
func (b *Backend) Keep(ctx context.Context, spec sandbox.EnvironmentSpec, life Life) (*Environment, error) {
	if err := checkName(spec.Name); err != nil {
		return nil, err
	}
	if _, err := b.inner(b.options.Settings); err != nil {
		return nil, err
	}
	if !hooked.Load() {
		return nil, fault.New(fault.Internal, "", "the main of this program does not call keeper.Reexec first")
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := b.sweepName(ctx, spec.Name); err != nil {
		return nil, err
	}
	c := config{Dir: b.dir(spec.Name), ID: "env-" + newUUID(), Spec: spec, Life: life, Settings: b.options.Settings}
	info, err := b.spawn(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Environment{backend: b, dir: c.Dir, info: info, running: map[*attached]bool{}}, nil
}

// newUUID returns a random UUID, version 4 of RFC 9562.
func newUUID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // it never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// spawn starts a keeper and waits until its environment is there.
func (b *Backend) spawn(ctx context.Context, c config) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, createTime)
	defer cancel()
	line, err := json.Marshal(c)
	if err != nil {
		return Info{}, err
	}
	cmd, stdin, stdout, err := command()
	if err != nil {
		return Info{}, fault.Wrap(err, fault.Unavailable, "", "start the keeper of environment "+c.Spec.Name)
	}
	gone := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it lives on after us, or has said why not
		close(gone)
	}()
	type reply struct {
		ready
		err error
	}
	said := make(chan reply, 1)
	go func() {
		var r reply
		if _, r.err = stdin.Write(append(line, '\n')); r.err == nil {
			var answer []byte
			if answer, r.err = bufio.NewReader(stdout).ReadBytes('\n'); r.err == nil {
				r.err = json.Unmarshal(answer, &r.ready)
			}
		}
		said <- r
	}()
	var r reply
	select {
	case r = <-said:
	case <-ctx.Done():
		r.err = context.Cause(ctx)
	}
	if r.err == nil && r.Failure == nil && ctx.Err() == nil {
		// From here on it stays.
		if _, r.err = io.WriteString(stdin, "stay\n"); r.err == nil {
			stdin.Close()
			stdout.Close()
			return r.Info, nil
		}
	}
	stdin.Close() // has it undo what it did
	err = cmp.Or(context.Cause(ctx), r.Failure.err(), r.err)
	return Info{}, errors.Join(fault.Wrap(err, fault.Unavailable, "", "create environment "+c.Spec.Name), b.reap(cmd, gone, c.Spec.Name), stdout.Close())
}

// reap waits for a keeper that undoes its work, and undoes it if it does not.
func (b *Backend) reap(cmd *exec.Cmd, gone <-chan struct{}, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
	}
	_ = cmd.Process.Kill()
	<-gone
	ctx, cancel = context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return b.sweepName(ctx, name)
}

// command starts this executable as a keeper. It inherits no file and little of the
// environment: what is secret there is none of its business, and a CI system finds by
// a variable what it has to kill.
func command() (cmd *exec.Cmd, stdin io.WriteCloser, stdout io.ReadCloser, err error) {
	path := "/proc/self/exe"
	if _, err := os.Stat(path); err != nil {
		if path, err = os.Executable(); err != nil {
			return nil, nil, nil, err
		}
	}
	cmd = &exec.Cmd{Path: path, Args: []string{argv}, Env: inherited(os.Environ()), SysProcAttr: detached()}
	if stdin, err = cmd.StdinPipe(); err != nil {
		return nil, nil, nil, err
	}
	// Not StdoutPipe: Wait would close it before it is read.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer w.Close()
	cmd.Stdout = w
	closeOnExec()
	if err := cmd.Start(); err != nil {
		r.Close()
		return nil, nil, nil, err
	}
	return cmd, stdin, r, nil
}

// inherited returns the variables that a back end may need.
func inherited(environ []string) []string {
	keep := []string{"PATH=", "HOME=", "USER=", "TMPDIR=", "LANG=", "GOCOVERDIR=", "XDG_", "DOCKER_", "CONTAINER_"}
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		return !slices.ContainsFunc(keep, func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
}

// Open returns a living environment. An unknown name, and one whose keeper is gone,
// is fault.Finding.
func (b *Backend) Open(ctx context.Context, name string) (*Environment, error) {
	e := &Environment{backend: b, dir: b.dir(name), running: map[*attached]bool{}}
	e.info.Name = name
	info, err := e.Info(ctx)
	if errors.Is(err, errGone) || checkName(name) != nil {
		return nil, b.unknown(name)
	}
	e.info = info
	return e, err
}

// In returns a back end whose environments are all the one called name: what makes an
// environment for itself then runs in that, and its Close leaves it. It must have the
// isolation that is asked for. The limits bound each container that is started.
func (b *Backend) In(name string) sandbox.Backend { return session{b, name} }

// Bounds of what a session starts, where neither it nor the container says any: those
// of the environment are for services that run for weeks.
const (
	sessionWall   = 10 * time.Minute
	sessionOutput = 64 << 20
)

// session is described by [Backend.In].
type session struct {
	*Backend
	name string
}

// Create opens the environment.
func (s session) Create(ctx context.Context, spec sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	e, err := s.Open(ctx, s.name)
	if err != nil {
		return nil, err
	}
	if got := e.Effective().Level; got < spec.MinIsolation {
		return nil, fault.New(fault.Unavailable, "make it anew, or accept less with --min-isolation", "environment %s has isolation %s where %s is asked for", s.name, got, spec.MinIsolation)
	}
	e.limits = spec.Limits
	e.limits.Wall = cmp.Or(e.limits.Wall, sessionWall)
	e.limits.Output = cmp.Or(e.limits.Output, sessionOutput)
	return e, nil
}

func (b *Backend) unknown(name string) error {
	if checkName(name) == nil {
		if _, err := readRecord(b.dir(name)); err == nil {
			return fault.New(fault.Finding, "delete it, or run gc", "the keeper of environment %s was killed", name)
		}
	}
	return fault.New(fault.Finding, cmp.Or(fault.DidYouMean(name, b.all()), "environment list shows those that there are"), "no environment is called %q", name)
}

// all returns the names of the environments, sorted.
func (b *Backend) all() []string {
	entries, _ := os.ReadDir(b.options.StateDir) // without one there are none
	var all []string
	for _, e := range entries {
		if e.IsDir() && checkName(e.Name()) == nil {
			all = append(all, e.Name())
		}
	}
	return all
}

// Kept returns the environments, sorted by name: those that live, and those that
// killed keepers have left.
func (b *Backend) Kept(ctx context.Context) ([]Info, error) {
	list := []Info{}
	for _, name := range b.all() {
		e := &Environment{backend: b, dir: b.dir(name), info: Info{Name: name}}
		asking, cancel := context.WithTimeout(ctx, callTime)
		info, err := e.Info(asking)
		cancel()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			r, rerr := readRecord(e.dir)
			if rerr != nil {
				b.log.DebugContext(ctx, "environment without a record", "name", name, "error", rerr)
				continue
			}
			info = r.Info
			info.Status, info.Used, info.Containers = Stopped, info.Created, []ContainerInfo{}
		}
		list = append(list, info)
	}
	return list, nil
}

// List is described by [sandbox.Backend].
func (b *Backend) List(ctx context.Context) ([]sandbox.Info, error) {
	kept, err := b.Kept(ctx)
	var list []sandbox.Info
	for _, k := range kept {
		level, _ := sandbox.ParseLevel(k.Level) // one that never began has none
		list = append(list, sandbox.Info{Name: k.Name, Backend: k.Backend, Level: level, Created: k.Created, Alive: k.Status.Alive()})
	}
	return list, err
}

// Removal says how an environment is removed.
type Removal struct {
	// Force ends containers at once, and a keeper that does not answer.
	Force bool
	// Grace is how long containers have after SIGTERM; zero means ten seconds.
	Grace time.Duration
	// Answer is how long a keeper may take beyond that; zero means half a minute.
	Answer time.Duration
}

// Delete is described by [sandbox.Backend].
func (b *Backend) Delete(ctx context.Context, name string) error {
	return b.Remove(ctx, name, Removal{Force: true})
}

// Remove removes an environment and all it holds, also one whose keeper was killed.
// An unknown name is fault.Finding.
func (b *Backend) Remove(ctx context.Context, name string, how Removal) error {
	dir := b.dir(name)
	if _, err := os.Stat(dir); checkName(name) != nil || errors.Is(err, fs.ErrNotExist) {
		return b.unknown(name)
	}
	grace := cmp.Or(how.Grace, stopGrace)
	if how.Force {
		grace = 0
	}
	asking, cancel := context.WithTimeout(ctx, grace+cmp.Or(how.Answer, closeTime))
	err := farewell(asking, dir, grace)
	cancel()
	if err != nil && !errors.Is(err, errGone) {
		if !how.Force {
			return fault.Wrap(err, fault.Unavailable, "use --force to end its keeper too", "delete environment "+name)
		}
		b.log.WarnContext(ctx, "a keeper does not end by itself", "environment", name, "error", err)
		c, err := connect(ctx, dir)
		if err == nil {
			err = kill(c)
			c.Close()
		}
		if err != nil && !isGone(err) {
			return fault.Wrap(err, fault.Unavailable, "", "end the keeper of environment "+name)
		}
	}
	p, err := waitDir(ctx, dir)
	if err != nil || p == nil {
		return fault.Wrap(err, fault.Unavailable, "", "delete environment "+name)
	}
	return b.sweep(ctx, p)
}

// farewell asks a keeper to end and waits until its process has ended.
func farewell(ctx context.Context, dir string, grace time.Duration) error {
	x, _, err := send(ctx, dir, "delete", deleteRequest{grace})
	if err != nil {
		return err
	}
	defer x.close()
	l := newLink(x.conn, x.r)
	var failed error
	for {
		kind, b, err := l.receive()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return failed
		}
		if err != nil {
			return x.errorf(err)
		}
		if kind == frameEnded {
			_, failed = endedOf(b)
		}
	}
}

// sweepName removes what a killed keeper left of an environment.
func (b *Backend) sweepName(ctx context.Context, name string) error {
	p, err := lockDir(b.dir(name))
	if err != nil {
		return err
	}
	if p == nil {
		if _, err := os.Stat(b.dir(name)); err == nil {
			return taken(name)
		}
		return nil
	}
	return b.sweep(ctx, p)
}

// sweep removes all that is left of an environment whose lock p holds.
func (b *Backend) sweep(ctx context.Context, p *place) error {
	r, err := readRecord(p.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // nothing was made yet
	case err != nil:
		p.lock.Close()
		return fault.Wrap(err, fault.Unavailable, "remove the directory by hand", "remove an environment")
	default:
		inner, err := b.inner(r.Settings)
		if err == nil {
			err = inner.Delete(ctx, r.Info.Name)
		}
		if err != nil && fault.KindOf(err) != fault.Finding { // it may be gone already
			p.lock.Close()
			return err
		}
	}
	return p.remove()
}

// GC removes what killed keepers left behind, and returns the names of those
// environments, sorted. Living ones it leaves alone.
func (b *Backend) GC(ctx context.Context) (removed []string, err error) {
	var errs []error
	for _, name := range b.all() {
		p, err := lockDir(b.dir(name))
		if err == nil && p != nil {
			if err = b.sweep(ctx, p); err == nil {
				removed = append(removed, name)
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return removed, errors.Join(errs...)
}

// GCUnused removes the environments that nobody has used for the time given,
// persistent ones too, and returns their names, sorted.
func (b *Backend) GCUnused(ctx context.Context, unused time.Duration) (removed []string, err error) {
	kept, err := b.Kept(ctx)
	errs := []error{err}
	for _, k := range kept {
		if k.Status.Alive() && time.Since(k.Used) >= unused {
			if err := b.Remove(ctx, k.Name, Removal{}); err != nil {
				errs = append(errs, err)
				continue
			}
			removed = append(removed, k.Name)
		}
	}
	return removed, errors.Join(errs...)
}
