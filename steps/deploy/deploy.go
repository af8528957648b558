// Package deploy brings a judged image into an environment and moves the traffic
// to it, or leaves everything as it was.
//
// A run takes the environment's lock, finishes or takes back what a killed run
// left, checks that a trusted signer judged exactly this image, pushes it by
// digest, and then rolls it out: start beside the old release, gates, switch,
// drain, commit, retire. Every effect is journalled before it happens, so the
// process may be killed anywhere. Outcomes go into a hash-chained history.
//
// The package never builds an image, never rolls out one without a trusted
// verdict, and knows no kind of target: that, the verifier and the registry are
// handed in.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/rollout"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// BlueGreen is the strategy that starts the new release beside the old one and
// moves all traffic at once.
const BlueGreen = "blue-green"

// Strategies are the names that [Step.Strategy] may have.
func Strategies() []string { return []string{BlueGreen} }

// Verifier decides whether an image may be deployed.
type Verifier interface {
	// Verify returns the verdict on image that is found in the state, if it passed
	// and a key signed it that the trust root names for this environment's policy.
	// Whatever else is in the state is not asked. Otherwise the error is a
	// fault.Finding that says what is missing.
	Verify(ctx context.Context, in state.State, blobs state.Blobs, image state.Digest) (Verdict, error)
}

// Verdict is what was relied on.
type Verdict struct {
	// KeyID names the signer.
	KeyID string
	// Policy is the digest of the rules by which was judged.
	Policy state.Digest
}

// Pusher copies the image of an entry to a registry.
type Pusher interface {
	// Push returns the reference under which the image now is, with its digest.
	Push(ctx context.Context, blobs state.Blobs, entry *state.Entry, destination string) (ref string, err error)
}

// Clock tells the time for history and durations; it reaches no claim.
type Clock interface{ Now() time.Time }

// Step is the deploy phase for one environment. Environment, Target, Verifier,
// Dir and Clock must be set.
type Step struct {
	// Environment is the name of the environment, see target.CheckID.
	Environment string
	// Strategy is one of [Strategies]; empty means [BlueGreen].
	Strategy string
	Service  Service
	Target   target.Target
	Verifier Verifier
	// Pusher copies the image to Destination; with an empty Destination nothing is
	// pushed and the target takes the image from the state's store.
	Pusher      Pusher
	Destination string
	// Dir keeps the journal and the history of the environment.
	Dir string
	// Holder says who deploys: it is recorded, and told to whoever finds the
	// environment locked.
	Holder string
	Clock  Clock
	// Log may be nil.
	Log *slog.Logger
	// Progress, if not nil, hears one line for each thing that begins.
	Progress func(message string)
	// Boundary, if not nil, is called between any two durable effects of a rollout.
	// Crash tests end the process there.
	Boundary func(point string)
}

// Phase is phase.Deploy.
func (s Step) Phase() phase.Name { return phase.Deploy }

// Key is nil: what is deployed is read from the target, never from a cache.
func (s Step) Key(context.Context, state.State) (map[string]string, error) { return nil, nil }

// Run deploys the image of the state. A failed check, of the verdict or of the
// new release, returns an entry with outcome failed besides the error; then what
// served before serves on.
func (s Step) Run(ctx context.Context, in state.State, blobs state.Blobs) (state.Result, error) {
	plan, link, err := s.plan(in)
	if err != nil {
		return state.Result{}, err
	}
	var result state.Result
	err = s.locked(ctx, func(ctx context.Context, run *run) error {
		result, err = run.deploy(ctx, in, blobs, plan, link)
		return err
	})
	return result, err
}

// run is one command that changes the environment, under its lock.
type run struct {
	Step
	session target.Session
	history []Record
}

// locked takes the environment, recovers it, and calls do. The context of do
// ends when the session is lost.
func (s Step) locked(ctx context.Context, do func(context.Context, *run) error) error {
	return s.acquired(ctx, func(ctx context.Context, r *run) error {
		if _, err := r.recover(ctx, (*rollout.Machine).Recover); err != nil {
			return err
		}
		return do(ctx, r)
	})
}

// acquired is locked without recovery.
func (s Step) acquired(ctx context.Context, do func(context.Context, *run) error) error {
	return s.held(ctx, func(ctx context.Context, r *run) error {
		history, err := readHistory(s.historyFile())
		if err != nil {
			return err
		}
		r.history = history
		return do(ctx, r)
	})
}

// held is acquired without the history.
func (s Step) held(ctx context.Context, do func(context.Context, *run) error) (err error) {
	if err := s.Check(); err != nil {
		return err
	}
	session, err := s.Target.Acquire(ctx, s.Holder)
	if err != nil {
		return fmt.Errorf("deploy to %s: %w", s.Environment, err)
	}
	defer func() { err = errors.Join(err, session.Close(context.WithoutCancel(ctx))) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-session.Lost():
			cancel(fault.New(fault.Unavailable, "run `deploy status`, then deploy again", "the right to change %s was lost", s.Environment))
		case <-ctx.Done():
		}
	}()
	return do(ctx, &run{Step: s, session: session})
}

// Check reports what is wrong with the options, as fault.Usage. Every method does
// so; whoever runs other phases before this one does it before them. Target,
// Verifier and Clock may still be missing.
func (s Step) Check() error {
	if err := target.CheckID(s.Environment); err != nil {
		return fault.New(fault.Usage, "set [deploy] environment, or --env", "environment %w", err)
	}
	if !slices.Contains(Strategies(), s.strategy()) {
		return fault.New(fault.Usage, "the strategies are "+strings.Join(Strategies(), ", "), "unknown deploy strategy %q", s.Strategy)
	}
	if s.Destination != "" && s.Pusher == nil {
		return fault.New(fault.Usage, "", "nothing can push to %s", s.Destination)
	}
	return s.Service.check()
}

func (s Step) strategy() string {
	if s.Strategy == "" {
		return BlueGreen
	}
	return s.Strategy
}

func (s Step) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s Step) progress(format string, args ...any) {
	if s.Progress != nil {
		s.Progress(fmt.Sprintf(format, args...))
	}
}

// deploy verifies, pushes and reconciles.
func (r *run) deploy(ctx context.Context, in state.State, blobs state.Blobs, plan Plan, link *state.Link) (state.Result, error) {
	encoded, err := plan.Encode()
	if err != nil {
		return state.Result{}, err
	}
	artifact, err := state.WriteBlob(ctx, blobs, "plan", state.MediaTypeJSON, encoded)
	if err != nil {
		return state.Result{}, err
	}
	result := state.Result{Entry: state.Entry{
		Outcome: state.Passed, Artifacts: []state.Artifact{artifact},
		Deploy: &state.Deploy{Environment: r.Environment, Strategy: plan.Strategy, Image: plan.Image, Plan: artifact.Digest},
	}}
	result.Evidence.Backend = r.Target.Name()
	result.Evidence.Facts = map[string]string{}

	r.progress("check the verdict on image %s", plan.Image.Short())
	verdict, err := r.verify(ctx, in, blobs, plan.Image)
	if err != nil {
		return r.failed(result, CheckVerdict, err, "nothing was changed")
	}
	pass(&result, CheckVerdict)
	result.Evidence.Facts["verdict.key"] = verdict.KeyID
	if r.Destination != "" {
		r.progress("push image %s", plan.Image.Short())
		ref, err := r.Pusher.Push(ctx, blobs, &link.Entry, r.Destination)
		if err != nil {
			return state.Result{}, fault.Wrap(err, fault.Unavailable, "", "push image "+plan.Image.Short()+" to "+r.Destination)
		}
		result.Evidence.Facts["image.ref"] = ref
	}
	return r.reconcile(ctx, result, plan, verdict, target.Source{Entry: &link.Entry, Blobs: blobs})
}

// verify asks the verifier; whatever keeps it from a verdict is a refusal.
func (r *run) verify(ctx context.Context, in state.State, blobs state.Blobs, image state.Digest) (Verdict, error) {
	if r.Verifier == nil {
		return Verdict{}, fault.New(fault.Usage, "name the trusted keys with --trust-root", "nothing says whose verdict on an image counts")
	}
	v, err := r.Verifier.Verify(ctx, in, blobs, image)
	return v, fault.Wrap(err, fault.Finding, "run `validate run` and `validate sign` on this image", "image "+image.Short()+" is not deployed")
}

// reconcile makes the plan true, or finds that it is.
func (r *run) reconcile(ctx context.Context, result state.Result, plan Plan, verdict Verdict, from target.Source) (state.Result, error) {
	config, err := plan.Service.digest()
	if err != nil {
		return state.Result{}, err
	}
	live, err := r.Target.Live(ctx)
	if err != nil {
		return state.Result{}, err
	}
	serving := r.serving(live)
	release := target.Release{Image: plan.Image, Config: config, Service: plan.Service.release()}
	if ok, err := r.unchanged(ctx, live, serving, release, plan.Service); err != nil {
		return state.Result{}, err
	} else if ok {
		for _, c := range []string{CheckHealth, CheckSmoke, CheckFront} {
			pass(&result, c)
		}
		return r.done(result, "unchanged", serving), nil
	}
	release.ID = r.nextID(plan.Image)
	report, err := r.rollOut(ctx, live, change{
		Release: release,
		Record: Record{
			Action: ActionDeploy, Release: release.ID, Replaces: serving, Image: plan.Image, Config: config,
			Service: plan.Service, Plan: result.Entry.Deploy.Plan, Strategy: plan.Strategy, KeyID: verdict.KeyID, Who: r.Holder,
		},
	}, from)
	for _, step := range report.Steps {
		result.Evidence.Facts["step."+string(step.State)+".seconds"] = fmt.Sprintf("%.3f", step.Duration.Seconds())
	}
	for state, check := range gates {
		if slices.Contains(report.Passed, state) {
			pass(&result, check)
		}
	}
	if err != nil {
		if report.Outcome == rollout.Reverted {
			err = fmt.Errorf("release %s is taken back, %s: %w", release.ID, serves(serving), err)
		}
		return r.failed(result, gates[report.Failed], err, undone(report, serving))
	}
	action := "replaced " + serving
	if serving == "" {
		action = "created"
	}
	return r.done(result, action, release.ID), nil
}

// undone says what a rollout that failed left.
func undone(report rollout.Report, serving string) string {
	switch {
	case report.Outcome != rollout.Reverted:
		return "and taking it back failed too"
	case slices.Contains(report.Passed, rollout.Switch):
		return "the traffic was taken back: " + serves(serving)
	}
	return "no traffic was moved: " + serves(serving)
}

func serves(release string) string {
	if release == "" {
		return "nothing serves, as before"
	}
	return release + " serves on"
}

// The checks of a deploy entry.
const (
	// CheckVerdict: a trusted signer judged this image, and it passed.
	CheckVerdict = "verdict"
	// CheckHealth: the release answered its health path.
	CheckHealth = "health"
	// CheckSmoke: its smoke tests passed before it had traffic.
	CheckSmoke = "smoke"
	// CheckFront: they passed again through the front.
	CheckFront = "front"
)

// gates are the states of a rollout in which a check is decided.
var gates = map[rollout.State]string{rollout.Health: CheckHealth, rollout.Smoke: CheckSmoke, rollout.Verify: CheckFront}

func pass(result *state.Result, check string) {
	result.Entry.Checks = append(result.Entry.Checks, state.Check{Name: check, Outcome: state.Passed})
}

// failed returns the entry of a check that failed, or no entry when the failure
// says nothing about what was deployed. After says how things are now.
func (r *run) failed(result state.Result, check string, err error, after string) (state.Result, error) {
	if fault.KindOf(err) != fault.Finding || check == "" {
		return state.Result{}, err
	}
	result.Entry.Outcome = state.Failed
	result.Entry.Checks = append(result.Entry.Checks, state.Check{Name: check, Outcome: state.Failed})
	result.Evidence.Summary = check + " failed, " + after
	result.Evidence.Findings = []finding.Finding{{
		Rule: "deploy/" + check, Severity: finding.Critical, What: err.Error(), Fix: fault.HintOf(err), Resume: "ultrafast run --from deploy",
	}}
	return result, err
}

// done completes the evidence of a run that went well.
func (r *run) done(result state.Result, action, release string) state.Result {
	for name, value := range r.session.Facts() {
		result.Evidence.Facts[name] = value
	}
	result.Evidence.Facts["deploy.action"] = action
	result.Evidence.Facts["deploy.release"] = release
	result.Evidence.Summary = fmt.Sprintf("%s serves %s", release, r.Environment)
	if action == "unchanged" {
		result.Evidence.Summary = "unchanged: " + result.Evidence.Summary
	}
	return result
}
