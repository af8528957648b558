// Package auto is the sandbox back end that takes the first of several that can do
// what is asked for on this machine.
package auto

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Name is the name of the back end.
const Name = "auto"

// Backend asks its back ends in order.
type Backend struct {
	backends []sandbox.Backend
	used     sync.Map // by the name of the environment that it made, that of a back end
}

// New returns a back end of others, the best one first.
func New(backends ...sandbox.Backend) *Backend { return &Backend{backends: backends} }

// Name is "auto". An environment tells in its list whose it is; see also [Backend.Used].
func (b *Backend) Name() string { return Name }

// Used returns the name of the back end that made an environment in this process; empty
// if none did.
func (b *Backend) Used(environment string) string {
	name, _ := b.used.Load(environment)
	used, _ := name.(string)
	return used
}

// create makes the environment with one of the back ends, and remembers which.
func (b *Backend) create(ctx context.Context, one sandbox.Backend, spec sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	e, err := one.Create(ctx, spec)
	if err == nil {
		b.used.Store(spec.Name, one.Name())
	}
	return e, err
}

// Probe reports what the first back end can do that reaches level full, or else the one
// that reaches most.
func (b *Backend) Probe(ctx context.Context) (sandbox.Capabilities, error) {
	_, c, err := b.choose(ctx, sandbox.Full)
	return c, err
}

// choose returns the first back end that reaches a level; with an error that says what
// each of them lacks, the one that reaches most.
func (b *Backend) choose(ctx context.Context, level sandbox.Level) (best sandbox.Backend, of sandbox.Capabilities, err error) {
	var why []string
	for _, one := range b.backends {
		c, err := one.Probe(ctx)
		if ctx.Err() != nil {
			return nil, c, context.Cause(ctx)
		}
		if err != nil {
			why = append(why, fmt.Sprintf("%s: %v", one.Name(), err))
			continue
		}
		if best == nil || c.Level > of.Level {
			best, of = one, c
		}
		if c.Level >= level {
			return one, c, nil
		}
		why = append(why, fmt.Sprintf("%s reaches level %s only: %s", one.Name(), c.Level, strings.Join(c.Refused, ", ")))
	}
	if best != nil {
		of.Refused = slices.Concat(of.Refused, why)
		return best, of, nil
	}
	return nil, of, fault.New(fault.Unavailable,
		"run on Linux with user namespaces, or as root; or install Docker (apt-get install docker.io) or Podman (apt-get install podman) and start it",
		"no sandbox can be made on this machine: %s", strings.Join(why, "; "))
}

// Create makes an environment with the first back end that reaches the level that is
// asked for.
//
// The first one is not probed before: it says itself what it cannot do, and where it can,
// as nearly everywhere, a probe takes as long as the environment.
func (b *Backend) Create(ctx context.Context, spec sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	var first error
	if len(b.backends) > 0 {
		var e sandbox.Environment
		e, first = b.create(ctx, b.backends[0], spec)
		if first == nil || fault.KindOf(first) != fault.Unavailable || ctx.Err() != nil || isFull(first) {
			return e, first
		}
	}
	one, c, err := b.choose(ctx, spec.MinIsolation)
	if err != nil {
		return nil, err
	}
	if c.Level < spec.MinIsolation {
		return nil, fault.New(fault.Unavailable,
			"install Docker (apt-get install docker.io) or Podman (apt-get install podman) and start it, or accept less by --min-isolation "+c.Level.String(),
			"isolation level %s cannot be reached: %s", spec.MinIsolation, strings.Join(c.Refused, "; "))
	}
	if one == b.backends[0] {
		return nil, first // it can do what is asked for, and failed
	}
	e, err := b.create(ctx, one, spec)
	if err != nil {
		return e, fmt.Errorf("%w (%s was taken, since the first choice failed: %w)", err, one.Name(), first)
	}
	return e, nil
}

// isFull reports that a disk is full: the engines would have no place for it either.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// List returns the environments of all back ends that answer, sorted by name.
func (b *Backend) List(ctx context.Context) ([]sandbox.Info, error) {
	var all []sandbox.Info
	err := b.all(ctx, func(one sandbox.Backend) error {
		list, err := one.List(ctx)
		all = append(all, list...)
		return err
	})
	slices.SortFunc(all, func(x, y sandbox.Info) int {
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Backend, y.Backend))
	})
	return all, err
}

// all calls do for each back end. One that is not there has nothing; what one that is
// there could not do is told.
func (b *Backend) all(ctx context.Context, do func(sandbox.Backend) error) error {
	var errs []error
	for _, one := range b.backends {
		err := do(one)
		if fault.KindOf(err) == fault.Unavailable {
			if _, absent := one.Probe(ctx); absent != nil {
				continue
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", one.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Delete removes the environment called name, whichever back end has it.
func (b *Backend) Delete(ctx context.Context, name string) error {
	list, err := b.List(ctx)
	if err != nil {
		return err
	}
	var known []string
	for _, i := range list {
		known = append(known, i.Name)
		if i.Name != name {
			continue
		}
		for _, one := range b.backends {
			if one.Name() == i.Backend {
				return one.Delete(ctx, name)
			}
		}
	}
	return fault.New(fault.Finding, fault.DidYouMean(name, known), "no environment is called %q", name)
}

// rememberer is a back end that may know, from an earlier process, that it reaches level
// full here.
type rememberer interface{ Remembers() bool }

// GC collects with the back end that would be used: what others left is for
// [Backend.CollectAll], since each of them costs a round trip or a wait. A first one that
// remembers what it can do is not probed for it.
func (b *Backend) GC(ctx context.Context) (removed []string, err error) {
	if len(b.backends) > 0 {
		if r, ok := b.backends[0].(rememberer); ok && r.Remembers() {
			return collect(ctx, b.backends[0])
		}
	}
	one, _, err := b.choose(ctx, sandbox.Full)
	if err != nil {
		return nil, err
	}
	return collect(ctx, one)
}

// CollectAll collects with every back end that answers.
func (b *Backend) CollectAll(ctx context.Context) (removed []string, err error) {
	err = b.all(ctx, func(one sandbox.Backend) error {
		names, err := collect(ctx, one)
		removed = append(removed, names...)
		return err
	})
	slices.Sort(removed)
	return removed, err
}

func collect(ctx context.Context, one sandbox.Backend) ([]string, error) {
	c, ok := one.(sandbox.Collector)
	if !ok {
		return nil, nil
	}
	return c.GC(ctx)
}
