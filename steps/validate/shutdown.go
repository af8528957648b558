package validate

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// fixStop is what a service must do; Go's net/http does it in Server.Shutdown.
const fixStop = "on SIGTERM stop accepting, finish the requests that were accepted, then exit with code 0"

// gracefulShutdown stops the service under load; see load for what counts.
func gracefulShutdown(ctx context.Context, s *subject) (_ opinion, err error) {
	service := s.step.Service
	in, err := s.start(ctx, "shutdown")
	if err != nil {
		return opinion{}, err
	}
	if in == nil {
		return unknown("there is no image"), nil
	}
	defer func() { err = errors.Join(err, in.stop(ctx)) }()
	if h := in.healthy(ctx, service.Health, service.StartTimeout); !h.ok {
		o := unknown("the service did not get healthy, so there was nothing to stop")
		o.finding = in.sick(h, service)
		return o, nil
	}
	ctx, cancel := context.WithTimeout(ctx, loadWarm+service.StopTimeout+probeTimeout)
	defer cancel()
	end, reason, err := in.stopUnderLoad(ctx, newLoad(in, service.Health), service.StopTimeout)
	if err != nil || reason != "" {
		return unknown(reason), err
	}
	return end.opinion(service), nil
}

// ending is how a service ended under load.
type ending struct {
	in   *instance
	load *load
	// inTime reports whether it ended by itself, after how long.
	inTime bool
	after  time.Duration
}

// stopUnderLoad puts load on the service, tells it to stop, and waits for its end
// and that of the load. A reason says why that could not be done.
func (in *instance) stopUnderLoad(ctx context.Context, l *load, timeout time.Duration) (e ending, reason string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	// Held first: what is answered later proves that these were accepted.
	requests := make([]held, heldRequests)
	for i := range requests {
		if requests[i], err = l.hold(ctx, i%2 == 1); err != nil {
			return e, "send a request to the healthy service: " + rootCause(err), nil
		}
		defer requests[i].Close()
	}
	for i := range loadWorkers {
		workers.Go(func() { l.work(ctx, i%2 == 0) })
	}
	warm := time.NewTimer(loadWarm)
	defer warm.Stop()
	select {
	case <-l.enough:
	case <-in.done:
		return e, "the service ended under load before it was told to: " + in.status.String(), in.err
	case <-warm.C:
		return e, fmt.Sprintf("the service answered %d requests in %s, fewer than the %d that make a load", l.answered.Load(), loadWarm, loadFirst), nil
	case <-ctx.Done():
		return e, "", context.Cause(ctx)
	}

	if err := l.stop(); err != nil {
		return e, "", err
	}
	stopped := time.Now()
	workers.Go(func() { l.finishHeld(requests, in) })
	e = ending{in: in, load: l}
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case <-in.done:
		e.inTime, e.after = true, time.Since(stopped)
	case <-late.C:
		cancel()
	case <-ctx.Done():
		return e, "", context.Cause(ctx)
	}
	if !e.inTime { // nothing more can be learnt from what it still does
		if err := in.stop(ctx); err != nil {
			return e, "", err
		}
	}
	workers.Wait()
	return e, "", in.err
}

// stop sends SIGTERM while no request but the held ones is under way.
func (l *load) stop() error {
	l.gate.Lock()
	defer l.gate.Unlock()
	l.stopped = true
	if err := l.in.container.Signal(syscall.SIGTERM); err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "send SIGTERM to the service")
	}
	return nil
}

// finishHeld finishes the held requests when the listener has closed, the service
// has ended, or heldMost is over.
func (l *load) finishHeld(requests []held, in *instance) {
	timer := time.NewTimer(heldMost)
	defer timer.Stop()
	select {
	case <-l.closed:
	case <-in.done:
	case <-timer.C:
	}
	for _, h := range requests {
		l.finish(h)
	}
}

// opinion judges the ending.
func (e ending) opinion(service Service) opinion {
	l := e.load
	evidence := []string{
		fmt.Sprintf("SIGTERM under the load of %d workers after %d answered requests, with %d begun and held", loadWorkers, loadFirst, heldRequests),
		fmt.Sprintf("%d requests answered, %d of them, begun after SIGTERM, not with 200; %d lost", l.answered.Load(), l.notOK.Load(), l.failed),
		fmt.Sprintf("%d requests begun after SIGTERM were turned away without a byte, as they may be", l.turnedAway.Load()),
		fmt.Sprintf("%s, %s after SIGTERM", e.in.status, e.after.Round(time.Millisecond)),
	}
	facts := map[string]string{
		"answered": strconv.FormatInt(l.answered.Load(), 10), "lost": strconv.Itoa(l.failed), "turned-away": strconv.FormatInt(l.turnedAway.Load(), 10),
		"seconds": fmt.Sprintf("%.3f", e.after.Seconds()), "exit": e.in.status.String(),
	}
	f := finding.Finding{Fix: fixStop, Why: strings.Join(l.failures, "\n")}
	switch {
	case !e.inTime:
		f.What = fmt.Sprintf("the service still ran %s after SIGTERM", service.StopTimeout)
		f.Why = e.in.said.String()
		f.Fix = fixStop + ", or raise [service] stop_timeout_seconds"
	case l.failed > 0:
		f.What = fmt.Sprintf("%d of %d accepted requests were lost in the stop; 0 are allowed", l.failed, int64(l.failed)+l.answered.Load())
	case !e.in.status.OK():
		f.What = "the service did not end with exit code 0 after SIGTERM: " + e.in.status.String()
		f.Why = e.in.said.String()
	default:
		o := pass(evidence...)
		o.facts = facts
		return o
	}
	o := fail(f, evidence...)
	o.facts = facts
	return o
}
