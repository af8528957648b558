package door

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/auto"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Limits of code that nobody trusts (S-06 to S-09).
var untrusted = sandbox.Limits{Memory: 256 << 20, CPUs: 1, PIDs: 128, Disk: 100 << 20, Wall: 30 * time.Second}

// command returns what is to run.
func (e *Exec) command() ([]string, error) {
	argv := trimDashes(e.Argv)
	switch {
	case e.Code != "" && !e.Sandbox:
		return nil, fault.New(fault.Usage, "add --sandbox", "--code is for code that nobody trusts")
	case e.Code != "" && len(argv) > 0:
		return nil, fault.New(fault.Usage, "give one of them", "both --code and a command")
	case e.Sandbox && e.Environment != "":
		return nil, fault.New(fault.Usage, "give one of them", "--sandbox makes an environment of its own, and --environment names another")
	case e.Code != "":
		return []string{"bash", "-c", e.Code}, nil
	case len(argv) == 0 && e.Image != "":
		return nil, nil // the image's
	case len(argv) == 0 || argv[0] == "":
		return nil, fault.New(fault.Usage, "write it after --", "no command was named")
	}
	return argv, nil
}

// job is one command with the environment that it is for.
type job struct {
	argv []string
	// image is pinned; empty for the files of this machine. env is what it leaves out.
	image  string
	env    []string
	level  sandbox.Level
	limits sandbox.Limits
	policy cleanroom.Policy
	// enter returns the environment.
	enter func(ctx context.Context, spec sandbox.EnvironmentSpec) (sandbox.Environment, error)
	// name is that of the environment, container that of the process in it.
	name, container string
	// own says that the environment is made for the command, with its limits; report
	// that every one that is not enforced is named.
	own, report bool
}

// job returns how the command is run, within the policy.
func (e *Exec) job(ctx context.Context, a *app.App, project *config.Project) (job, error) {
	level, err := e.level(project)
	if err != nil {
		return job{}, err
	}
	j := job{level: level, limits: e.limits(project), policy: policyOf(project), report: e.Sandbox}
	j.container = "exec"
	j.name = "exec-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(a.Now().UnixNano(), 36)
	if e.Sandbox {
		j.name, j.limits = "sandbox-"+uuid(), e.over(untrusted)
		if e.MinIsolation == "" {
			j.level = sandbox.Full // whatever the project accepts for its own tests
		}
	}
	if err := j.policy.Check(cleanroom.Demand{Limits: j.limits}); err != nil {
		return job{}, err
	}
	if t := project.Backend.Type; e.Image == "" && e.Environment == "" && t != auto.Name && t != embedded.Name {
		return job{}, fault.New(fault.Usage, "name one with --image", "back end %s runs commands in images alone", t)
	}
	r, err := newRooms(a, project)
	if err != nil {
		return job{}, err
	}
	var config sandbox.ImageConfig
	if e.Image != "" {
		if j.image, config, err = r.fetch(ctx, e.Image); err != nil {
			return job{}, err
		}
	}
	j.env = commonEnv(config.Env)
	if e.Environment != "" {
		j.enter, j.container = r.keeper.In(e.Environment).Create, j.name // others may run there
		return j, nil
	}
	cache, err := a.CacheDir()
	if err != nil {
		return job{}, err
	}
	back, err := Backend(a, project, cache)
	if err != nil {
		return job{}, err
	}
	j.enter, j.own = back.Create, true
	return j, nil
}

// outlet writes what a command prints, and ends the command when that fails.
type outlet struct {
	to   io.Writer
	stop context.CancelCauseFunc

	mu  sync.Mutex
	err error
}

func (o *outlet) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if err != nil {
		o.mu.Lock()
		o.err = cmp.Or(o.err, err)
		o.mu.Unlock()
		o.stop(err)
	}
	return n, err
}

// failed returns the first error of a write.
func (o *outlet) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// over returns limits with what the flags say in their place.
func (o Options) over(limits sandbox.Limits) sandbox.Limits {
	if o.Memory != nil {
		limits.Memory = int64(*o.Memory) << 20
	}
	if o.CPUs != nil {
		limits.CPUs = *o.CPUs
	}
	if o.PIDs != nil {
		limits.PIDs = *o.PIDs
	}
	if o.Timeout != nil {
		limits.Wall = *o.Timeout
	}
	return limits
}

// uuid returns a random UUID, version 4 of RFC 9562.
func uuid() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // it never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// title is the command, or the image whose own it is.
func (j job) title() string { return slices.Concat(j.argv, []string{j.image})[0] }

// run returns the exit code, and the error that is to be shown if it is not the
// command's own. Whatever happens, nothing of it is left.
//
// A command whose output nobody takes any more is ended: with the code that SIGPIPE
// gives where the reader has gone, as if it had met the closed pipe itself.
func (j job) run(ctx context.Context, a *app.App) (code int, err error) {
	defer app.WithoutSIGPIPE()()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	stdout, stderr := &outlet{to: a.Stdout, stop: stop}, &outlet{to: a.Stderr, stop: stop}
	var left error // what could not be removed
	defer func() {
		switch lost := cmp.Or(stdout.failed(), stderr.failed()); {
		case lost == nil:
		case errors.Is(lost, syscall.EPIPE):
			code, err = exitPipe, left
		default:
			code, err = exitOurs, errors.Join(fault.Wrap(lost, fault.Unavailable, "check where the output goes: a full disk?", "write what "+j.title()+" printed"), left)
		}
	}()
	env, err := j.enter(ctx, sandbox.EnvironmentSpec{Name: j.name, MinIsolation: j.level, Limits: j.limits})
	if err != nil {
		return exitOurs, err
	}
	defer func() {
		cleanUp, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		if left = env.Close(cleanUp); left != nil {
			code, err = exitOurs, errors.Join(err, left)
		}
	}()
	effective := env.Effective()
	for _, why := range effective.Why {
		a.Log.Warn("isolation is "+effective.Level.String(), "why", why)
	}
	if j.own {
		notes, err := j.policy.Verify(j.level, j.limits, effective)
		if err != nil {
			return exitOurs, err
		}
		for _, note := range notes {
			if j.report {
				a.Log.Warn(note)
			}
		}
	}
	container, err := env.Start(ctx, sandbox.ContainerSpec{
		Name: j.container, Argv: j.argv, Image: j.image, Env: j.env, Limits: j.limits, Stdin: a.Stdin, Stdout: stdout, Stderr: stderr,
	})
	if notSeen(a, err, j.argv) {
		err = fault.Also(err, "the project is not seen here: give a script as input, `exec -- sh -s <FILE`, or an image that holds it, --image layout:DIR#NAME:TAG or tarball:FILE")
	}
	if err != nil {
		return notStarted(err), err
	}
	status, err := container.Wait(ctx)
	if err != nil {
		return exitOurs, errors.Join(err, container.Kill(context.WithoutCancel(ctx)))
	}
	if status.OOM || status.TimedOut || status.OutputLimit {
		hint := "raise the limit, or find what uses so much"
		if status.OOM {
			hint += ": files that it writes, such as in /tmp, are memory too"
		}
		return exitOurs, fault.New(fault.Finding, hint, "%s: %s", j.title(), status)
	}
	return status.Code, nil
}
