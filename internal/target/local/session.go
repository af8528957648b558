package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// session is the kernel lock and, from the first command that needs it, the
// router's lease.
type session struct {
	t      *Target
	holder string
	unlock func() error

	mu      sync.Mutex
	closed  bool
	ending  bool   // everything is being stopped: whatever router runs is the right one
	epoch   uint64 // zero: no lease yet
	address string
	stop    context.CancelFunc // ends the renewal
	renewed chan struct{}      // closed when the renewal has ended

	lost     chan struct{}
	loseOnce sync.Once
}

// Prepare also opens the front, so that a taken address is found before anything
// is started.
func (s *session) Prepare(ctx context.Context, r target.Release, from target.Source) error {
	if _, err := s.lease(ctx); err != nil {
		return err
	}
	return s.t.prepare(ctx, r, from)
}

// lease returns the epoch of the router's lease. The first call starts the router
// if none answers, and takes over a lease in force: its holder had the kernel
// lock, which we have now, so it is dead.
func (s *session) lease(ctx context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, fault.New(fault.Internal, "", "session is closed")
	}
	select {
	case <-s.lost:
		return 0, fault.New(fault.Unavailable, "run `deploy resume`", "the router's lease was lost")
	default:
	}
	if s.epoch != 0 {
		return s.epoch, nil
	}
	address, err := s.t.openFront(ctx, s.ending)
	if err != nil {
		return 0, err
	}
	epoch, err := s.t.router().Acquire(ctx, s.holder, s.t.o.LeaseTTL, true)
	if err != nil {
		return 0, fmt.Errorf("take the router's lease: %w", err)
	}
	s.epoch, s.address = epoch, address
	renewal, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.renewed = stop, make(chan struct{})
	go s.renew(renewal, epoch)
	return epoch, nil
}

// openFront makes sure that the router runs and returns its address. Unless
// anyAddress is set, it must be the one that was asked for.
func (t *Target) openFront(ctx context.Context, anyAddress bool) (string, error) {
	traffic, ok, err := t.traffic(ctx)
	if err != nil {
		return "", err
	}
	if ok {
		if !anyAddress && !sameAddress(traffic.Address, t.o.Listen) {
			return "", fault.New(fault.Usage, "run `deploy down` first: another address means another router",
				"the router serves %s, not %s", traffic.Address, t.o.Listen)
		}
		return traffic.Address, nil
	}
	// One that does not answer would keep the address.
	if err := end(ctx, t.routerDir(), 0); err != nil {
		return "", err
	}
	l := RouterLaunch{Listen: t.o.Listen, AdminSocket: t.routerSocket(), StateDir: t.routerDir()}
	if err := t.detach(ctx, "router", filepath.Join(t.dir, "router.log"), t.o.RouterArgv(l)); err != nil {
		return "", err
	}
	traffic, err = t.router().Status(ctx)
	return traffic.Address, err
}

// renew keeps the lease until ctx ends. A renewal that fails is tried again
// until the lease must have lapsed.
func (s *session) renew(ctx context.Context, epoch uint64) {
	defer close(s.renewed)
	every := time.NewTicker(s.t.o.LeaseTTL / 3)
	defer every.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		begun := time.Now()
		err := s.t.router().Renew(ctx, epoch)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			last = begun
		case time.Since(last) >= s.t.o.LeaseTTL || s.t.gaveAway(ctx, epoch):
			s.t.o.Log.Error("router's lease lost", "epoch", epoch, "error", err)
			s.loseOnce.Do(func() { close(s.lost) })
			return
		}
	}
}

// gaveAway reports whether the router says that the lease of epoch is over.
func (t *Target) gaveAway(ctx context.Context, epoch uint64) bool {
	traffic, err := t.router().Status(ctx)
	return err == nil && (traffic.Epoch != epoch || traffic.Holder == "")
}

// Start spawns the supervisor of a release, unless one answers.
func (s *session) Start(ctx context.Context, release string) error {
	p, err := s.t.mustKnow(release)
	if err != nil {
		return err
	}
	_, _, _, running, err := s.t.supervisor(release).State(ctx)
	if err != nil || running {
		return err
	}
	// What a killed supervisor left would keep the port.
	if err := s.Stop(ctx, release); err != nil {
		return err
	}
	l, err := s.t.launch(p)
	if err != nil {
		return fmt.Errorf("release %s: %w", release, err)
	}
	b, err := s.t.o.EncodeSpec(l)
	if err != nil {
		return err
	}
	spec := filepath.Join(s.t.releaseDir(release), "spec.json")
	if err := writeFile(spec, b); err != nil {
		return fault.New(fault.Unavailable, "", "release %s: %w", release, err)
	}
	return s.t.detach(ctx, "supervisor of release "+release, s.t.supervisorLog(release), s.t.o.SupervisorArgv(spec))
}

// Ready asks the release's health path every few milliseconds, and its
// supervisor whether the process still runs.
func (s *session) Ready(ctx context.Context, release string) error {
	p, err := s.t.mustKnow(release)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.Service.HealthTimeout, errUnhealthy)
	defer cancel()
	_, before, _, _, err := s.t.supervisor(release).State(ctx)
	if err != nil {
		return err
	}
	every := time.NewTicker(probeEvery)
	defer every.Stop()
	said := "nothing"
	for {
		pid, ends, lastEnd, running, err := s.t.supervisor(release).State(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err == nil && (!running || ends > before || ends > 0 && pid == 0):
			return s.t.dead(p, lastEnd)
		}
		res, err := s.t.probe(ctx, p.Address, target.Request{Path: p.Service.HealthPath, Timeout: time.Second})
		switch {
		case err == nil && res.Status/100 == 2:
			return nil
		case err == nil:
			said = fmt.Sprintf("status %d", res.Status)
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errUnhealthy) {
				return context.Cause(ctx)
			}
			return fault.New(fault.Finding, "read "+s.t.logOf(release)+", or raise [deploy] health_timeout_seconds",
				"release %s is not healthy after %s: %s answers %s; %s",
				release, p.Service.HealthTimeout, p.Service.HealthPath, said, tail(s.t.logOf(release), 5))
		}
	}
}

const probeEvery = 10 * time.Millisecond

var errUnhealthy = errors.New("release did not become healthy")

func (t *Target) supervisorLog(release string) string {
	return filepath.Join(t.releaseDir(release), "supervisor.log")
}

func (t *Target) logOf(release string) string {
	return filepath.Join(t.releaseDir(release), serviceLog)
}

func (t *Target) dead(p prepared, how string) error {
	if how == "" {
		how = "its supervisor is gone"
	}
	return fault.New(fault.Finding, "read "+t.logOf(p.ID), "release %s ended before it was healthy: %s; %s",
		p.ID, how, tail(t.logOf(p.ID), 5))
}

// Route tells the router the addresses of the releases.
func (s *session) Route(ctx context.Context, weights []target.Weight) error {
	if err := target.CheckWeights(weights); err != nil {
		return fault.New(fault.Usage, "", "route: %w", err)
	}
	backends := make([]target.Backend, 0, len(weights))
	for _, w := range weights {
		p, err := s.t.mustKnow(w.Release)
		if err != nil {
			return err
		}
		backends = append(backends, target.Backend{Release: w.Release, Weight: w.Weight, Addresses: []string{p.Address}})
	}
	epoch, err := s.lease(ctx)
	if err != nil {
		return err
	}
	return s.t.router().Set(ctx, epoch, backends)
}

// Commit tells the router to keep the present weights.
func (s *session) Commit(ctx context.Context) error {
	epoch, err := s.lease(ctx)
	if err != nil {
		return err
	}
	return s.t.router().Commit(ctx, epoch)
}

// Drain asks the router, if there is one, to wait.
func (s *session) Drain(ctx context.Context, release string, timeout time.Duration) error {
	if !answers(s.t.routerSocket()) {
		return nil
	}
	left, err := s.t.router().Drain(ctx, release, timeout)
	if err == nil && left > 0 {
		err = fault.New(fault.Unavailable, "raise [deploy] drain_seconds", "%d requests are in flight in release %s after %s", left, release, timeout)
	}
	return err
}

// Stop ends the release's supervisor, and with it the process, and returns when
// both are gone. A supervisor that does not answer is ended first: it would start
// the service again.
func (s *session) Stop(ctx context.Context, release string) error {
	p, err := s.t.known(release)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !answers(s.t.socketOf(release)) {
		err = end(ctx, s.t.releaseDir(release), p.Service.StopTimeout)
	}
	if err == nil {
		err = s.t.supervisor(release).Stop(ctx, p.Service.StopTimeout)
	}
	if err == nil {
		err = ended(ctx, s.t.releaseDir(release), endTimeout)
	}
	if err != nil {
		return fmt.Errorf("stop release %s: %w", release, err)
	}
	return nil
}

// Prune deletes the directories of releases that are neither supervised nor
// kept, and of images that no release left needs.
func (s *session) Prune(ctx context.Context, keep []string) error {
	releases, err := s.t.releases()
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	var failed error
	for _, p := range releases {
		_, _, _, running, err := s.t.supervisor(p.ID).State(ctx)
		if err != nil || running || slices.Contains(keep, p.ID) {
			needed[p.Image.Hex()] = true
			continue
		}
		if err := s.Stop(ctx, p.ID); err != nil { // one that does not answer may live
			needed[p.Image.Hex()] = true
			failed = errors.Join(failed, err)
			continue
		}
		failed = errors.Join(failed, os.RemoveAll(s.t.releaseDir(p.ID)))
	}
	images, err := os.ReadDir(filepath.Join(s.t.dir, "images"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(failed, err)
	}
	for _, e := range images {
		if !needed[e.Name()] {
			failed = errors.Join(failed, os.RemoveAll(filepath.Join(s.t.dir, "images", e.Name())))
		}
	}
	return failed
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Down stops the router first, so that no request meets a stopped release.
func (s *session) Down(ctx context.Context) error {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	if err := s.closeFront(ctx); err != nil {
		return fmt.Errorf("stop the router: %w", err)
	}
	releases, err := s.t.releases()
	if err != nil {
		return err
	}
	var failed error
	for _, p := range releases {
		failed = errors.Join(failed, s.Stop(ctx, p.ID))
	}
	if failed != nil {
		return failed
	}
	if err := s.Prune(ctx, nil); err != nil {
		return err
	}
	if err := os.RemoveAll(s.t.runs); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(s.t.runs)) // fails, as it should, while other environments are in it
	return removeIfThere(filepath.Join(s.t.dir, socketNote))
}

// closeFront commits an empty route, so that the next router restores nothing,
// and stops the router. Where none answers its file is removed instead; that
// forgets the epoch too, which only a live session could still use, and we have
// the lock that every session holds.
func (s *session) closeFront(ctx context.Context) error {
	if !answers(s.t.routerSocket()) {
		if err := end(ctx, s.t.routerDir(), 0); err != nil {
			return err
		}
		return removeIfThere(filepath.Join(s.t.routerDir(), "router.json"))
	}
	if err := s.Route(ctx, nil); err != nil {
		return err
	}
	if err := s.Commit(ctx); err != nil {
		return err
	}
	epoch, err := s.lease(ctx)
	if err != nil {
		return err
	}
	return s.shutdown(ctx, epoch)
}

func (s *session) shutdown(ctx context.Context, epoch uint64) error {
	s.endRenewal()
	err := s.t.router().Shutdown(ctx, epoch)
	if err == nil {
		err = ended(ctx, s.t.routerDir(), endTimeout)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.epoch = 0
	}
	return err
}

func (s *session) endRenewal() {
	s.mu.Lock()
	stop, renewed := s.stop, s.renewed
	s.stop = nil
	s.mu.Unlock()
	if stop != nil {
		stop()
		<-renewed
	}
}

// Facts are the router's address and the epoch of the lease.
func (s *session) Facts() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.address == "" {
		return nil
	}
	return map[string]string{"router.address": s.address, "router.epoch": fmt.Sprint(s.epoch)}
}

// Lost is closed when the lease was lost.
func (s *session) Lost() <-chan struct{} { return s.lost }

// Close gives the lease back, stops a router that serves nothing, and unlocks.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	closed, epoch := s.closed, s.epoch
	s.closed = true
	s.mu.Unlock()
	if closed {
		return nil
	}
	err := s.giveBack(ctx, epoch)
	return errors.Join(err, s.unlock())
}

func (s *session) giveBack(ctx context.Context, epoch uint64) error {
	s.endRenewal()
	if epoch == 0 {
		return nil
	}
	select {
	case <-s.lost:
		return nil // the router has taken back what there was
	default:
	}
	traffic, ok, err := s.t.traffic(ctx)
	if err != nil || !ok {
		return err
	}
	if len(traffic.Stable) == 0 {
		return s.shutdown(ctx, epoch)
	}
	if err := s.t.router().Release(ctx, epoch); err != nil && !s.t.gaveAway(ctx, epoch) {
		return err
	}
	return nil // also when the lease lapsed: then the router has done the same by itself
}
