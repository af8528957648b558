package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Exec is described by [sandbox.Container]. The init of the container starts the
// process: to enter the namespaces of another takes a process of one thread, which
// this one is not.
func (c *container) Exec(ctx context.Context, spec sandbox.ExecSpec) (sandbox.ExitStatus, error) {
	where := "container " + c.name
	if err := sandbox.CheckCommand(where, spec.Argv, spec.Env); err != nil {
		return sandbox.ExitStatus{}, err
	}
	if ctx.Err() != nil {
		return sandbox.ExitStatus{}, context.Cause(ctx)
	}
	st, err := c.exec(ctx, spec)
	if ctx.Err() != nil {
		err = fmt.Errorf("run %s in %s: %w", spec.Argv[0], where, context.Cause(ctx))
	}
	if err != nil {
		return sandbox.ExitStatus{}, fault.Wrap(err, kindOr(err, fault.Unavailable), "", "run "+spec.Argv[0]+" in "+where)
	}
	return st, nil
}

// beside is the creator's side of one more process in a container.
type beside struct {
	link    *channel
	output  *output
	begin   time.Time
	stopped atomic.Bool
}

func (c *container) exec(ctx context.Context, spec sandbox.ExecSpec) (st sandbox.ExitStatus, err error) {
	x := &beside{begin: time.Now()}
	x.output = newOutput(spec.Stdout, spec.Stderr, c.limits.Output, x.kill)
	defer x.output.stop()
	ooms := c.group.outOfMemory()
	if err := c.sendExec(x, spec); err != nil {
		return st, c.orEnded(err)
	}
	defer x.link.close()
	defer context.AfterFunc(ctx, func() {
		x.kill()
		// A process may be where no signal reaches it.
		time.AfterFunc(closeTime, x.link.interrupt)
	})()
	inner, err := x.wait()
	if err != nil {
		return st, err
	}
	st = statusOf(inner)
	if inner == nil {
		// It ended with the container, or is about to.
		whole, err := c.Wait(ctx)
		if err != nil {
			return st, err
		}
		st.TimedOut, st.OOM = whole.TimedOut, whole.OOM
	}
	x.output.drain(besideDrainTime)
	st.Wall, st.OutputLimit = time.Since(x.begin), x.output.exceeded.Load()
	st.OOM = st.OOM || st.Signal == unix.SignalName(unix.SIGKILL) && !x.stopped.Load() && c.group.outOfMemory() > ooms
	return st, nil
}

// sendExec has the init start a process.
func (c *container) sendExec(x *beside, spec sandbox.ExecSpec) (err error) {
	var files []*os.File
	defer func() { closeAll(files) }()
	add := func(more ...*os.File) { files = append(files, more...) }
	link, theirs, err := pair()
	if err != nil {
		return err
	}
	x.link = link
	defer func() {
		if err != nil {
			link.close()
		}
	}()
	add(theirs)
	f, err := memoryFile(command{spec.Argv, spec.Env, spec.Dir})
	if err != nil {
		return err
	}
	add(f)
	in, err := x.output.stdin(spec.Stdin)
	if err != nil {
		return err
	}
	add(in)
	out, err := x.output.open()
	add(out...)
	if err != nil {
		return err
	}
	list, groups, err := c.group.open()
	if err != nil {
		return err
	}
	add(groups...)
	return c.link.send(linkMessage{Exec: &execRequest{list}}, files...)
}

// orEnded says that the container ended if that is why err is there.
func (c *container) orEnded(err error) error {
	select {
	case <-c.ended:
		return fault.New(fault.Finding, "look at its output for the reason", "the container has ended: %s", c.status)
	default:
		return err
	}
}

// wait waits for the end of the process; nil means that it went with its container.
func (x *beside) wait() (*exited, error) {
	var m linkMessage
	if _, err := x.link.receive(&m); err != nil {
		return nil, x.lost(err)
	}
	if m.Failure != nil {
		return nil, fault.Wrap(m.Failure, startKind(m.Failure), startHint(m.Failure), "start")
	}
	m = linkMessage{}
	if _, err := x.link.receive(&m); err != nil {
		return nil, x.lost(err)
	}
	return m.Exited, nil
}

// lost is an error unless the other side is gone.
func (x *beside) lost(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the process does not end: %w", err)
	}
	return nil
}

// kill ends the process and all below it.
func (x *beside) kill() {
	x.stopped.Store(true)
	_ = x.link.send(linkMessage{Signal: int(unix.SIGKILL)})
}

// kindOr is the kind of err, or another if it has none.
func kindOr(err error, other fault.Kind) fault.Kind {
	return cmp.Or(fault.KindOf(err), other)
}

// Usage is described by [sandbox.Container]. What no control group measures is the
// sum over the processes: pages that they share count for each, and what a process
// used that was killed and waited for by nobody is missing.
func (c *container) Usage(ctx context.Context) (sandbox.Usage, error) {
	select {
	case <-c.ended:
		s := c.status
		return sandbox.Usage{
			Wall: s.Wall, CPU: s.CPU, PeakMemory: s.PeakMemory, ReadBytes: s.ReadBytes, WriteBytes: s.WriteBytes,
		}, nil
	default:
	}
	counted, err := c.count(ctx)
	if err != nil {
		select {
		case <-c.ended:
			return c.Usage(ctx)
		default:
		}
		return sandbox.Usage{}, fault.Wrap(err, fault.Unavailable, "", "measure container "+c.name)
	}
	u := c.most(counted)
	u.Wall = time.Since(c.begin)
	return u, nil
}

// count asks the init what its processes have used.
func (c *container) count(ctx context.Context) (sandbox.Usage, error) {
	link, theirs, err := pair()
	if err != nil {
		return sandbox.Usage{}, err
	}
	defer link.close()
	err = c.link.send(linkMessage{Measure: true}, theirs)
	theirs.Close()
	if err != nil {
		return sandbox.Usage{}, err
	}
	defer context.AfterFunc(ctx, link.interrupt)()
	var m linkMessage
	if _, err := link.receive(&m); err != nil {
		return sandbox.Usage{}, cmp.Or(context.Cause(ctx), err)
	}
	if m.Used == nil {
		return sandbox.Usage{}, errors.New("the init of the container sent no answer")
	}
	return *m.Used, nil
}

// most returns what the groups measure, or else what was counted; and of what only
// grows the most that was ever seen.
func (c *container) most(counted sandbox.Usage) sandbox.Usage {
	u := c.group.usage()
	c.mu.Lock()
	defer c.mu.Unlock()
	u.Memory, u.PIDs = cmp.Or(u.Memory, counted.Memory), cmp.Or(u.PIDs, counted.PIDs)
	c.used.CPU = max(c.used.CPU, cmp.Or(u.CPU, counted.CPU))
	c.used.PeakMemory = max(c.used.PeakMemory, cmp.Or(u.PeakMemory, counted.PeakMemory))
	c.used.ReadBytes = max(c.used.ReadBytes, cmp.Or(u.ReadBytes, counted.ReadBytes))
	c.used.WriteBytes = max(c.used.WriteBytes, cmp.Or(u.WriteBytes, counted.WriteBytes))
	u.CPU, u.PeakMemory, u.ReadBytes, u.WriteBytes = c.used.CPU, c.used.PeakMemory, c.used.ReadBytes, c.used.WriteBytes
	return u
}
