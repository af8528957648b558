package router

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// Why the router refuses a command of an administrator.
var (
	// ErrTaken means that another holder has a lease that did not lapse.
	ErrTaken = errors.New("another run holds the router's lease")
	// ErrStale means that the command's epoch is not that of a lease in force:
	// a later one was issued, or it lapsed, or it was given back.
	ErrStale = errors.New("the router's lease was lost")
	// ErrInvalid means that the command makes no sense.
	ErrInvalid = errors.New("the router refuses the command")
)

// maxTTL bounds a lease, so that a dead holder cannot keep the router for long.
const maxTTL = 5 * time.Minute

// control holds the lease and decides what is routed.
type control struct {
	table *table
	file  string
	log   *slog.Logger

	mu      sync.Mutex
	saved   saved
	current []target.Backend
	lease   *lease
}

// lease is the right to change the route.
type lease struct {
	holder   string
	ttl      time.Duration
	deadline time.Time
	timer    *time.Timer
}

func newControl(s saved, file string, log *slog.Logger) *control {
	c := &control{table: newTable(), file: file, log: log, saved: s, current: s.Stable}
	c.table.set(s.Stable)
	return c
}

func (c *control) epochNow() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.saved.Epoch
}

// acquire issues the next epoch. The epoch is on disk before it is told, so that
// no two leases ever have the same one. With takeover a lease in force is ended:
// for a caller that knows, by a kernel lock, that its holder is dead. The route
// stays as it is: the new holder decides, or its lease lapses.
func (c *control) acquire(holder string, ttl time.Duration, takeover bool) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	if ttl <= 0 || ttl > maxTTL {
		return 0, fmt.Errorf("%w: a lease of %s is not between 0 and %s", ErrInvalid, ttl, maxTTL)
	}
	if c.lease != nil && !takeover {
		return 0, fmt.Errorf("%w: %s", ErrTaken, c.lease.holder)
	}
	next := c.saved
	next.Epoch++
	if err := save(c.file, next); err != nil {
		return 0, err
	}
	c.endLease()
	c.saved = next
	l := &lease{holder: holder, ttl: ttl, deadline: time.Now().Add(ttl)}
	l.timer = time.AfterFunc(ttl, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.lease == l {
			c.expire()
		}
	})
	c.lease = l
	c.log.Info("lease issued", "holder", holder, "epoch", next.Epoch)
	return next.Epoch, nil
}

// expire ends a lease whose time is over and takes back what it did not commit.
func (c *control) expire() {
	l := c.lease
	if l == nil {
		return
	}
	if left := time.Until(l.deadline); left > 0 {
		l.timer.Reset(left) // it was renewed while the timer fired
		return
	}
	c.log.Warn("lease lapsed", "holder", l.holder, "epoch", c.saved.Epoch)
	c.endLease()
	c.restore()
}

func (c *control) endLease() {
	if c.lease != nil {
		c.lease.timer.Stop()
		c.lease = nil
	}
}

// restore returns to the committed weights.
func (c *control) restore() {
	if !slices.EqualFunc(c.current, c.saved.Stable, sameBackend) {
		c.log.Warn("uncommitted weights taken back", "stable", weights(c.saved.Stable))
		c.current = c.saved.Stable
		c.table.set(c.current)
	}
}

// check refuses a command whose epoch is not that of the lease in force.
func (c *control) check(epoch uint64) error {
	c.expire()
	switch {
	case epoch != c.saved.Epoch:
		return fmt.Errorf("%w: epoch %d is over, the router is at %d", ErrStale, epoch, c.saved.Epoch)
	case c.lease == nil:
		return fmt.Errorf("%w: the lease of epoch %d ended", ErrStale, epoch)
	}
	return nil
}

func (c *control) renew(epoch uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(epoch); err != nil {
		return err
	}
	c.lease.deadline = time.Now().Add(c.lease.ttl)
	c.lease.timer.Reset(c.lease.ttl)
	return nil
}

func (c *control) release(epoch uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(epoch); err != nil {
		return err
	}
	c.endLease()
	c.restore()
	return nil
}

func (c *control) set(epoch uint64, backends []target.Backend) error {
	if err := checkBackends(backends); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(epoch); err != nil {
		return err
	}
	c.current = backends
	c.table.set(backends)
	c.log.Info("weights set", "epoch", epoch, "weights", weights(backends))
	return nil
}

func (c *control) commit(epoch uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.check(epoch); err != nil {
		return err
	}
	next := c.saved
	next.Stable = c.current
	if err := save(c.file, next); err != nil {
		return err
	}
	c.saved = next
	// A slow disk must not cost the holder, who waits for it, the lease.
	c.lease.deadline = time.Now().Add(c.lease.ttl)
	c.lease.timer.Reset(c.lease.ttl)
	c.log.Info("weights committed", "epoch", epoch, "weights", weights(next.Stable))
	return nil
}

// drain waits until the release has nothing in flight and returns what is left
// when ctx or the timeout ends.
func (c *control) drain(ctx context.Context, name string, timeout time.Duration) int64 {
	r, ok := c.table.release(name)
	if !ok {
		return 0
	}
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for {
		left := r.inFlight.Load()
		if left == 0 {
			r.signal() // another drain of the same release may wait too
			return 0
		}
		select {
		case <-r.idle:
		case <-limit.C:
			return r.inFlight.Load()
		case <-ctx.Done():
			return r.inFlight.Load()
		}
	}
}

func (c *control) traffic(address string) target.Traffic {
	c.mu.Lock()
	c.expire()
	t := target.Traffic{Address: address, Epoch: c.saved.Epoch, Current: weights(c.current), Stable: weights(c.saved.Stable)}
	if c.lease != nil {
		t.Holder = c.lease.holder
	}
	c.mu.Unlock()
	t.Releases = c.table.served()
	return t
}

// stop ends the timer of a lease, if there is one.
func (c *control) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLease()
}

func weights(backends []target.Backend) []target.Weight {
	out := make([]target.Weight, 0, len(backends))
	for _, b := range backends {
		out = append(out, target.Weight{Release: b.Release, Weight: b.Weight})
	}
	slices.SortFunc(out, func(a, b target.Weight) int { return cmp.Compare(a.Release, b.Release) })
	return out
}

func sameBackend(a, b target.Backend) bool {
	return a.Release == b.Release && a.Weight == b.Weight && slices.Equal(a.Addresses, b.Addresses)
}

const (
	maxBackends  = 32
	maxAddresses = 64
)

func checkBackends(backends []target.Backend) error {
	if len(backends) > maxBackends {
		return fmt.Errorf("%w: %d releases; at most %d are routed", ErrInvalid, len(backends), maxBackends)
	}
	if err := target.CheckWeights(weights(backends)); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for _, b := range backends {
		if len(b.Addresses) == 0 || len(b.Addresses) > maxAddresses {
			return fmt.Errorf("%w: release %s has %d addresses, not 1 to %d", ErrInvalid, b.Release, len(b.Addresses), maxAddresses)
		}
		for _, a := range b.Addresses {
			if _, port, err := net.SplitHostPort(a); err != nil || port == "" {
				return fmt.Errorf("%w: release %s has the address %q, which is not host:port", ErrInvalid, b.Release, a)
			}
		}
	}
	return nil
}

// saved is what survives a restart of the router.
type saved struct {
	Schema int              `json:"schema"`
	Epoch  uint64           `json:"epoch"`
	Stable []target.Backend `json:"stable"`
}

const (
	stateFile   = "router.json"
	stateSchema = 1
	maxState    = 1 << 20
)

// load returns the saved state of path, or the first state if there is no file.
func load(path string) (saved, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return saved{Schema: stateSchema}, nil
	}
	if err != nil {
		return saved{}, fault.New(fault.Unavailable, "", "router state: %w", err)
	}
	defer f.Close()
	s, err := decode(io.LimitReader(f, maxState))
	if err != nil {
		return saved{}, fault.New(fault.Unavailable, "move the file away and deploy again", "router state %s: %w", path, err)
	}
	return s, nil
}

func decode(r io.Reader) (saved, error) {
	var s saved
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return saved{}, err
	}
	if s.Schema != stateSchema {
		return saved{}, fmt.Errorf("schema is %d, not %d", s.Schema, stateSchema)
	}
	return s, checkBackends(s.Stable)
}

// save writes the state so that after any crash path holds the old or the new
// one: temporary file, fsync, rename, fsync of the directory.
func save(path string, s saved) (err error) {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	defer func() { err = fault.Wrap(err, fault.Unavailable, "", "save the router's state") }()
	temp := path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
