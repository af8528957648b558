package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// nobody is the user and group of a container that asks for none.
const nobody = 65534

// Backend is the embedded back end. Its methods may be called from many
// goroutines at once.
type Backend struct {
	options Options
	log     *slog.Logger

	// mu guards what the first probe found.
	mu    sync.Mutex
	found *findings

	live sync.Map // name to *environment: those of this process
}

// New returns a back end. It touches nothing until it is used.
func New(o Options) *Backend {
	if dir, err := filepath.Abs(o.StateDir); err == nil && o.StateDir != "" {
		o.StateDir = dir
	}
	return &Backend{options: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler))}
}

// Name is "embedded".
func (b *Backend) Name() string { return Name }

// maxLevel is the highest level to use.
func (b *Backend) maxLevel() sandbox.Level {
	if b.options.MaxLevel != nil {
		return *b.options.MaxLevel
	}
	return sandbox.Full
}

// Create makes an environment at the highest level that can be reached here. An
// environment of that name whose creator was killed is removed first; a living
// one is fault.Finding.
func (b *Backend) Create(ctx context.Context, spec sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	if err := errors.Join(spec.Check(), b.check()); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if e, err := b.createFirst(ctx, spec); err != nil {
		return nil, err
	} else if e != nil {
		return e, nil
	}
	found, err := b.probe(ctx)
	if err != nil {
		return nil, err
	}
	if found.variant.Level < spec.MinIsolation {
		return nil, found.refuse(spec.MinIsolation)
	}
	e, err := b.create(ctx, spec, found)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// check says what of the options would keep the back end from working.
func (b *Backend) check() error {
	switch {
	case b.options.StateDir == "":
		return fault.New(fault.Usage, "", "the embedded sandbox has no state directory")
	case b.options.Helper == "" && !hooked.Load():
		return fault.New(fault.Internal, "", "the main of this program does not call embedded.Reexec first")
	}
	return nil
}

// List returns the environments below StateDir, sorted by name.
func (b *Backend) List(ctx context.Context) ([]sandbox.Info, error) {
	entries, err := os.ReadDir(b.environments())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(err, fault.Unavailable, "", "list environments")
	}
	var list []sandbox.Info
	for _, e := range entries {
		r, err := readRecord(b.dir(e.Name()))
		if err != nil {
			b.log.DebugContext(ctx, "environment without a journal", "name", e.Name(), "error", err)
			continue
		}
		list = append(list, sandbox.Info{
			Name: r.Name, Backend: Name, Level: r.Level, Created: r.Created, Alive: ping(ctx, b.dir(r.Name)),
		})
	}
	slices.SortFunc(list, func(x, y sandbox.Info) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

// pingTime bounds how long a supervisor may take to say that it lives, on a machine
// however busy; one that is gone refuses at once.
const pingTime = 10 * time.Second

func ping(ctx context.Context, dir string) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	_, files, err := ask(ctx, dir, request{Op: opPing})
	closeAll(files)
	return err == nil
}

// ask sends one request to the supervisor in dir and returns its answer, a
// failure as an error.
func ask(ctx context.Context, dir string, r request) (reply, []*os.File, error) {
	if ctx.Err() != nil {
		return reply{}, nil, context.Cause(ctx)
	}
	c, err := connect(dir)
	if err != nil {
		return reply{}, nil, err
	}
	defer c.close()
	defer context.AfterFunc(ctx, c.interrupt)()
	if err := c.send(r); err != nil {
		return reply{}, nil, cmp.Or(context.Cause(ctx), err)
	}
	var a reply
	files, err := c.receive(&a)
	if err == nil && a.Failure != nil {
		closeAll(files)
		return reply{}, nil, a.Failure
	}
	if err != nil {
		return reply{}, nil, cmp.Or(context.Cause(ctx), err)
	}
	return a, files, nil
}

// Delete removes the environment called name, also one of another process.
func (b *Backend) Delete(ctx context.Context, name string) error {
	if e, ok := b.live.Load(name); ok {
		return e.(*environment).Close(ctx)
	}
	known, err := b.List(ctx)
	if err != nil {
		return err
	}
	var all []string
	for _, i := range known {
		all = append(all, i.Name)
	}
	if !slices.Contains(all, name) {
		return fault.New(fault.Finding, fault.DidYouMean(name, all), "no environment is called %q", name)
	}
	p, err := lock(b.dir(name))
	if err != nil {
		return err
	}
	if p != nil {
		return b.sweep(ctx, p)
	}
	// Its creator lives: with the supervisor gone all of it ends, and what is left
	// is removed here or by the creator, whoever comes first.
	r, err := readRecord(b.dir(name))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "delete environment "+name)
	}
	end := func() error { return r.Supervisor.kill(ctx, 0) }
	if r.Level < sandbox.Full {
		end = func() error { return r.Supervisor.killTree(ctx) } // no namespace ends the rest with it
	}
	if err := errors.Join(end(), removeGroups(ctx, r.Groups)); err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "delete environment "+name)
	}
	return removeDir(b.dir(name))
}

// GC removes what killed creators left behind and returns the names of those
// environments, sorted. Living ones are not touched.
func (b *Backend) GC(ctx context.Context) (removed []string, err error) {
	entries, err := os.ReadDir(b.environments())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(err, fault.Unavailable, "", "collect environments")
	}
	var errs []error
	for _, e := range entries {
		p, err := lockDead(ctx, b.dir(e.Name()))
		if err == nil && p != nil {
			if err = b.sweep(ctx, p); err == nil {
				removed = append(removed, e.Name())
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
		}
	}
	slices.Sort(removed)
	return removed, errors.Join(errs...)
}
