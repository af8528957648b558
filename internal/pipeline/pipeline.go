// Package pipeline runs phases in order and keeps what they return.
//
// It knows nothing of what a phase does. For each it computes the resume key,
// takes the entry from the chain when nothing that it depends on has changed,
// runs the phase when something has, and appends the result. It draws nothing:
// an [Observer] is told what happens.
package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Step is one phase, ready to run.
type Step interface {
	Phase() phase.Name
	// Key returns what the result depends on besides the state, or nil if the
	// phase must run now. It is asked again when the phase has run.
	Key(ctx context.Context, in state.State) (map[string]string, error)
	// Run returns one result. It may return a result and an error of kind
	// fault.Finding: a failed check leaves its report.
	Run(ctx context.Context, in state.State, blobs state.Blobs) (state.Result, error)
}

// Store keeps chains.
type Store interface {
	state.Blobs
	Append(ctx context.Context, s state.State, r state.Result) (state.Link, error)
	Lookup(ctx context.Context, key state.Digest) (state.Link, bool, error)
	Remember(ctx context.Context, key, entry state.Digest) error
	// Verify reads every artifact of an entry and compares digests.
	Verify(ctx context.Context, e *state.Entry) error
	URL() string
}

// Report says how one phase went.
type Report struct {
	Phase   phase.Name
	Outcome state.Outcome
	// Cached reports that the entry came from the chain.
	Cached   bool
	Duration time.Duration
	// Saved is how long the phase took when it last ran; zero if it ran now.
	Saved   time.Duration
	Summary string
	Link    state.Link
}

// Observer is told what happens, in order, from one goroutine at a time.
type Observer interface {
	Started(name phase.Name)
	Done(r Report)
}

// Runner runs steps.
type Runner struct {
	Store Store
	// Version is the module version that entries name as their tool.
	Version string
	// Code returns the digest of the program, so that a changed program runs again. It is
	// asked when the digest is needed, and may be asked often.
	Code func() (string, error)
	// Scope is the trust scope: an entry is reused within its own only.
	Scope    string
	Producer state.Producer
	// NoCache runs every phase; From, if set, only that phase and those after it.
	NoCache  bool
	From     phase.Name
	Observer Observer
	// Log hears of remembered entries that cannot be used; nil for nobody.
	Log *slog.Logger
	// After, if set, is called when a phase has passed, from the chain or not, and
	// returns the chain with what it adds to it: a signature, for example.
	After func(ctx context.Context, chain state.State, name phase.Name) (state.State, error)
	// Now is the clock for durations in evidence.
	Now func() time.Time
}

// Run runs steps after the head of in and returns the chain that results. On an
// error the chain holds what was appended up to then, the failed entry included
// if the phase returned one. Every artifact of in is verified first, also those
// that no step reads because its result comes from the chain.
func (r *Runner) Run(ctx context.Context, in state.State, steps ...Step) (state.State, []Report, error) {
	var reports []Report
	chain := in
	for i := range in {
		if err := r.Store.Verify(ctx, &in[i].Entry); err != nil {
			return chain, nil, fmt.Errorf("entry %s (%s) of the state: %w", in[i].Digest.Short(), in[i].Entry.Phase, err)
		}
	}
	for _, step := range steps {
		if ctx.Err() != nil {
			return chain, reports, context.Cause(ctx)
		}
		r.Observer.Started(step.Phase())
		report, err := r.one(ctx, chain, step)
		if report.Link.Digest != "" {
			chain = append(chain[:len(chain):len(chain)], report.Link)
		}
		if err == nil && r.After != nil {
			chain, err = r.After(ctx, chain, step.Phase())
		}
		if err != nil {
			report.Outcome = state.Failed
		}
		reports = append(reports, report)
		r.Observer.Done(report)
		if err != nil {
			return chain, reports, err
		}
	}
	return chain, reports, nil
}

func (r *Runner) one(ctx context.Context, chain state.State, step Step) (Report, error) {
	start := r.Now()
	report := Report{Phase: step.Phase(), Outcome: state.Passed}
	key, parts, err := r.key(ctx, chain, step)
	if err == nil && key != "" && !r.fresh(step.Phase()) {
		report.Link, report.Cached = r.cached(ctx, chain, step, key)
	}
	if err == nil && !report.Cached {
		return r.run(ctx, chain, step, key, parts, start)
	}
	for _, ev := range report.Link.Evidence {
		if ev.Kind == state.KindRun {
			report.Saved, report.Summary = ev.Duration, ev.Summary
		}
	}
	report.Duration = r.Now().Sub(start)
	return report, err
}

// fresh reports whether the phase must run whatever the chain holds.
func (r *Runner) fresh(name phase.Name) bool {
	return r.NoCache || r.From != "" && !name.Before(r.From)
}

func (r *Runner) run(ctx context.Context, chain state.State, step Step, key state.Digest, parts map[string]string, start time.Time) (Report, error) {
	report := Report{Phase: step.Phase(), Outcome: state.Passed}
	result, err := step.Run(ctx, chain, r.Store)
	report.Duration = r.Now().Sub(start)
	if err != nil && result.Entry.Outcome == "" {
		return report, err
	}
	var keyErr error
	if err == nil && key == "" {
		// A phase that had to run because it would change what it reads, a lock
		// file, has a key now that it has run.
		key, parts, keyErr = r.key(ctx, chain, step)
	}
	code, codeErr := r.Code()
	result.Entry.Phase = step.Phase()
	result.Entry.Tool = state.Tool{Name: string(step.Phase()), Version: r.Version}
	result.Evidence.Kind = state.KindRun
	result.Evidence.Attempt = 1
	result.Evidence.Started = start.UTC().Round(0)
	result.Evidence.Duration = report.Duration
	result.Evidence.Producer = r.Producer
	result.Evidence.Facts = facts(result.Evidence.Facts, parts, code)
	// What was done is kept also when the run was interrupted while it was done.
	link, appendErr := r.Store.Append(context.WithoutCancel(ctx), chain, result)
	if appendErr != nil {
		return report, errors.Join(err, fmt.Errorf("keep the entry of phase %s: %w", step.Phase(), appendErr))
	}
	report.Link, report.Summary = link, result.Evidence.Summary
	if err == nil && result.Entry.Outcome == state.Failed {
		err = fault.New(fault.Internal, "", "phase %s failed and did not say why", step.Phase())
	}
	if err == nil {
		err = errors.Join(keyErr, codeErr)
	}
	if err == nil && key != "" {
		err = r.Store.Remember(ctx, key, link.Digest)
	}
	return report, err
}

// cached returns the remembered entry. One that is damaged is no reason to stop:
// the phase runs again and replaces it.
func (r *Runner) cached(ctx context.Context, chain state.State, step Step, key state.Digest) (state.Link, bool) {
	link, ok, err := r.Store.Lookup(ctx, key)
	if err == nil && ok {
		err = r.Store.Verify(ctx, &link.Entry)
	}
	if err != nil && r.Log != nil {
		r.Log.Warn("remembered result is not usable, the phase runs again", "phase", string(step.Phase()), "error", err)
	}
	if err != nil || !ok {
		return state.Link{}, false
	}
	usable := link.Entry.Phase == step.Phase() && link.Entry.Prev == chain.Head() && link.Entry.Outcome == state.Passed
	return link, usable
}

// Facts in the evidence of a run that say what it depended on, so that a replay can
// say what was different.
const (
	FactPlatform = "run.platform" // GOOS/GOARCH
	FactProgram  = "run.program"  // digest of the program
	// FactKey begins the names of the parts of the resume key.
	FactKey = "key."
)

// maxFact bounds a part of a key that is kept as it is, in bytes; of a longer one
// the digest is.
const maxFact = 256

// facts returns the facts of a phase and those of its run.
func facts(of, parts map[string]string, code string) map[string]string {
	facts := map[string]string{FactPlatform: runtime.GOOS + "/" + runtime.GOARCH, FactProgram: code}
	for name, value := range parts {
		if len(value) > maxFact {
			value = string(state.DigestOf([]byte(value)))
		}
		facts[FactKey+name] = value
	}
	maps.Copy(facts, of)
	return facts
}

// key returns the digest under which the result of step is remembered, or the
// empty digest if the step must always run, and what it was made of.
func (r *Runner) key(ctx context.Context, chain state.State, step Step) (state.Digest, map[string]string, error) {
	parts, err := step.Key(ctx, chain)
	if err != nil || parts == nil {
		return "", nil, err
	}
	code, err := r.Code()
	if err != nil {
		return "", nil, err
	}
	b, err := json.Marshal(struct {
		Phase                                         phase.Name
		Prev                                          state.Digest
		Version, Code, Scope, GOOS, GOARCH, Statement string
		Parts                                         map[string]string
	}{step.Phase(), chain.Head(), r.Version, code, r.Scope, runtime.GOOS, runtime.GOARCH, "resume key 1", parts})
	if err != nil {
		return "", nil, err
	}
	return state.DigestOf(b), parts, nil
}
