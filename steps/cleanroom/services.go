package cleanroom

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/service"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// startServices starts what tests need beside them. The builds go on meanwhile: see
// [trial.carryOut].
func (t *trial) startServices(ctx context.Context) (err error) {
	if len(t.step.Services) == 0 {
		return nil
	}
	t.services, err = service.Start(ctx, service.Room{
		Env: t.room.env, Template: t.step.Templates.Get, Parallel: t.parallel(), Log: t.step.Log,
	}, t.step.Services)
	return err
}

// servicesReady waits for them, and tells their state to the log.
func (t *trial) servicesReady(ctx context.Context) error {
	if t.services == nil {
		return nil
	}
	names := make([]string, len(t.step.Services))
	for i, s := range t.step.Services {
		names[i] = s.Name
	}
	t.step.progress("wait for " + strings.Join(names, ", "))
	return t.services.Ready(ctx)
}

// expectTests tells the services how many tests will want data of their own.
func (t *trial) expectTests(tasks []task) {
	if t.services == nil {
		return
	}
	n := 0
	for _, k := range tasks {
		if k.suite.runner.whole() {
			n += len(k.suite.directories())
			continue
		}
		n++
	}
	t.services.Expect(n)
}

// releaseServices lets go of them: they end with the environment, at once with all that
// is in it.
func (t *trial) releaseServices(ctx context.Context) {
	if t.services == nil {
		return
	}
	failed := slices.ContainsFunc(t.suites, func(s *suite) bool { return s.test.ran && !s.test.ok })
	t.dead = t.services.Check(context.WithoutCancel(ctx), failed)
	t.services.Release()
}

// environment returns the variables that a test process gets besides those of its
// suite, the proxy that leads out and the addresses and credentials of services, and
// what is to be done when it has ended. A process that tests one unit gets data that no
// other test sees; one that tests many starts each with [trial.lend].
func (t *trial) environment(ctx context.Context, s *suite, c *command) (env []string, done func() error, err error) {
	done = func() error { return nil }
	if t.proxy != "" {
		env = proxyEnv(t.proxy)
	}
	switch {
	case t.services == nil:
		return env, done, nil
	case s.runner.whole() && t.services.Own():
		done, err = t.lend(ctx, s, c)
		return env, done, err
	case s.runner.whole():
		return append(env, t.services.Variables()...), done, nil
	}
	own, done, err := t.freshData(ctx)
	return append(env, own...), done, err
}

// freshData returns the variables of data that no other test sees, and what gives it back.
func (t *trial) freshData(ctx context.Context) (env []string, done func() error, err error) {
	env, end, err := t.services.Fresh(ctx)
	if err != nil {
		return nil, nil, err
	}
	return env, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		return end(ctx)
	}, nil
}

// serviceFindings name services that ended while tests ran: tests that failed may have
// failed for that.
func (t *trial) serviceFindings() []finding.Finding {
	var found []finding.Finding
	for _, err := range unjoin(t.dead) {
		found = append(found, finding.Finding{
			Rule: RuleService, Severity: finding.Medium, What: "a service ended before the tests did", Why: err.Error(),
			Fix: "see its last lines; give it more memory if it was killed",
		})
	}
	return found
}

// unjoin returns the errors that errors.Join has joined.
func unjoin(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	if err != nil {
		return []error{err}
	}
	return nil
}

// servicesKey is what of the services a result depends on: all but passwords, which
// differ from run to run.
func (s Step) servicesKey() (string, error) {
	if len(s.Services) == 0 {
		return "", nil
	}
	public := make([]service.Spec, len(s.Services))
	for i, spec := range s.Services {
		spec.Password = ""
		public[i] = spec
	}
	b, err := json.Marshal(public)
	return string(b), err
}

// serviceInputs name the images of services by digest, for the claim.
func (s Step) serviceInputs() []state.Input {
	var inputs []state.Input
	for _, spec := range s.Services {
		if _, digest, ok := strings.Cut(spec.Image, "@"); ok {
			inputs = append(inputs, state.Input{Name: "service/" + spec.Name, Digest: state.Digest(digest)})
		}
	}
	return inputs
}
