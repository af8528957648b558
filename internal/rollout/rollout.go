// Package rollout is the state machine that moves traffic from one release to
// the next, and finishes or takes back what a killed run left.
//
// Every state is journalled, durably, before its effect, and every effect is
// idempotent: so whoever reads the journal knows which effects may have
// happened, and may repeat them. Before the commit point an interrupted rollout
// is taken back, after it completed. A terminal state wins over whatever follows it.
//
// The engine acts only through what it is handed. It opens no file or
// connection and reads no clock of its own.
package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// State is a step of a rollout, as it is journalled.
type State string

// The states in the order of a rollout that goes well.
const (
	Begun    State = "begun"
	Prepare  State = "prepare"  // image and configuration are brought to the target
	Start    State = "start"    // the new release runs, without traffic
	Health   State = "health"   // gate: it answers
	Smoke    State = "smoke"    // gate: it answers rightly
	Switch   State = "switch"   // all new requests go to it
	Verify   State = "verify"   // gate: users reach it, and it does well
	Drain    State = "drain"    // requests in the old release end
	Commit   State = "commit"   // the commit point: from here on only forward
	Retire   State = "retire"   // the old release is stopped
	Promoted State = "promoted" // terminal
	// The way back.
	Revert   State = "revert"   // traffic returns to the old release, the new one is stopped
	Reverted State = "reverted" // terminal
)

// forward are the states with an effect, in order.
var forward = []State{Prepare, Start, Health, Smoke, Switch, Verify, Drain, Commit, Retire}

// Terminal reports whether nothing can follow s.
func (s State) Terminal() bool { return s == Promoted || s == Reverted }

// Plan is one rollout.
type Plan struct {
	// New is the release that shall serve, Old the one that does; Old is empty
	// when none does.
	New string `json:"new"`
	Old string `json:"old,omitempty"`
	// Note is kept for the caller and handed back on recovery.
	Note json.RawMessage `json:"note,omitempty"`
}

// Record is one line of the journal.
type Record struct {
	State State `json:"state"`
	// Plan is set in the first record only.
	Plan *Plan `json:"plan,omitempty"`
	// Reason says why a rollout goes back.
	Reason string `json:"reason,omitempty"`
}

// Journal keeps records. Append returns once the record would survive a power
// failure. The first record of a rollout replaces those of the one before.
type Journal interface {
	Append(ctx context.Context, r Record) error
}

// Target carries out effects on releases. Every effect is idempotent. A gate's
// error means that the release did not pass.
type Target interface {
	Prepare(ctx context.Context, release string) error
	Start(ctx context.Context, release string) error
	Health(ctx context.Context, release string) error
	Smoke(ctx context.Context, release string) error
	// Switch gives all new requests to release; an empty one serves nothing.
	Switch(ctx context.Context, release string) error
	Verify(ctx context.Context, release string) error
	Drain(ctx context.Context, release string) error
	// Commit makes the present route last.
	Commit(ctx context.Context) error
	Retire(ctx context.Context, release string) error
	// Record writes the outcome into the history, once for each rollout however
	// often it is called.
	Record(ctx context.Context, p Plan, outcome State, reason string) error
}

// Clock tells the time; it is used for durations in the report only.
type Clock interface{ Now() time.Time }

// Machine runs rollouts. Target, Journal and Clock must be set.
type Machine struct {
	Target  Target
	Journal Journal
	Clock   Clock
	// Progress, if not nil, hears of every state that is entered.
	Progress func(State)
	// Warn, if not nil, hears of failures that do not change the outcome.
	Warn func(error)
	// Boundary, if not nil, is called between any two durable effects, with the
	// name of the point. Crash tests end the process there.
	Boundary func(point string)
}

// Report says how a rollout went.
type Report struct {
	Plan Plan
	// Outcome is Promoted or Reverted; empty if the rollout is not over.
	Outcome State
	// Passed are the states whose effects succeeded, in order.
	Passed []State
	// Failed is the state that failed, if one did.
	Failed State
	// Steps are the effects with their durations.
	Steps []Step
}

// Step is one effect that was carried out.
type Step struct {
	State    State
	Duration time.Duration
}

// Run carries out p from the beginning. The error says why the new release does
// not serve; the report then has the outcome Reverted, or none if going back
// failed too and [Machine.Recover] must finish. An error with the outcome
// Promoted cannot occur.
func (m *Machine) Run(ctx context.Context, p Plan) (Report, error) {
	rep := Report{Plan: p}
	if err := m.journal(ctx, Record{State: Begun, Plan: &p}); err != nil {
		return rep, err
	}
	for _, s := range forward {
		if err := m.step(ctx, &rep, s); err != nil {
			rep.Failed = s
			if s == Retire {
				return rep, fmt.Errorf("release %s serves, but the one before it could not be retired: %w", p.New, err)
			}
			return m.back(ctx, rep, err.Error(), reached(s), err)
		}
	}
	return m.finish(ctx, rep, Promoted, "")
}

// reached reports whether traffic may have been touched when s was entered.
func reached(s State) bool { return slices.Index(forward, s) >= slices.Index(forward, Switch) }

// step journals a state and carries out its effect.
func (m *Machine) step(ctx context.Context, rep *Report, s State) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := m.journal(ctx, Record{State: s}); err != nil {
		return err
	}
	return m.effect(ctx, rep, s)
}

func (m *Machine) journal(ctx context.Context, r Record) error {
	if err := m.Journal.Append(ctx, r); err != nil {
		return fmt.Errorf("journal state %s: %w", r.State, err)
	}
	m.boundary("journalled " + string(r.State))
	if m.Progress != nil {
		m.Progress(r.State)
	}
	return nil
}

func (m *Machine) boundary(point string) {
	if m.Boundary != nil {
		m.Boundary(point)
	}
}

// effect carries out what belongs to a state.
func (m *Machine) effect(ctx context.Context, rep *Report, s State) error {
	begun := m.Clock.Now()
	if err := m.do(ctx, rep.Plan, s); err != nil {
		return err
	}
	rep.Passed = append(rep.Passed, s)
	rep.Steps = append(rep.Steps, Step{State: s, Duration: m.Clock.Now().Sub(begun)})
	m.boundary("done " + string(s))
	return nil
}

func (m *Machine) do(ctx context.Context, p Plan, s State) error {
	switch s {
	case Prepare:
		return m.Target.Prepare(ctx, p.New)
	case Start:
		return m.Target.Start(ctx, p.New)
	case Health:
		return m.Target.Health(ctx, p.New)
	case Smoke:
		return m.Target.Smoke(ctx, p.New)
	case Switch:
		return m.Target.Switch(ctx, p.New)
	case Verify:
		return m.Target.Verify(ctx, p.New)
	case Commit:
		return m.Target.Commit(ctx)
	case Drain, Retire:
		if p.Old == "" {
			return nil
		}
		if s == Drain {
			return m.Target.Drain(ctx, p.Old)
		}
		return m.Target.Retire(ctx, p.Old)
	}
	return fmt.Errorf("state %q has no effect", s)
}

// back returns to the old release. It goes on when ctx is cancelled: a user who
// interrupts wants the old state, not half of the new one.
func (m *Machine) back(ctx context.Context, rep Report, reason string, traffic bool, why error) (Report, error) {
	ctx = context.WithoutCancel(ctx)
	if err := m.journal(ctx, Record{State: Revert, Reason: reason}); err != nil {
		return rep, errors.Join(why, err)
	}
	if err := m.undo(ctx, rep.Plan, traffic); err != nil {
		return rep, errors.Join(why, fmt.Errorf("go back to release %s: %w", orNone(rep.Plan.Old), err))
	}
	m.boundary("done " + string(Revert))
	rep, err := m.finish(ctx, rep, Reverted, reason)
	return rep, errors.Join(why, err)
}

func orNone(release string) string {
	if release == "" {
		return "(none)"
	}
	return release
}

func (m *Machine) undo(ctx context.Context, p Plan, traffic bool) error {
	if traffic {
		if p.Old != "" {
			// It runs, normally. If it cannot be started it still gets the traffic
			// back: the new release did not pass, and waiting would leave both.
			if err := m.Target.Start(ctx, p.Old); err != nil && m.Warn != nil {
				m.Warn(fmt.Errorf("release %s gets the traffic back but cannot be started: %w", p.Old, err))
			}
		}
		if err := m.Target.Switch(ctx, p.Old); err != nil {
			return err
		}
		m.boundary("switched back")
		if err := m.Target.Commit(ctx); err != nil {
			return err
		}
		m.boundary("committed back")
		if err := m.Target.Drain(ctx, p.New); err != nil {
			return err
		}
	}
	return m.Target.Retire(ctx, p.New)
}

// finish writes the outcome, first into the history, then as the terminal state.
func (m *Machine) finish(ctx context.Context, rep Report, outcome State, reason string) (Report, error) {
	ctx = context.WithoutCancel(ctx)
	if err := m.Target.Record(ctx, rep.Plan, outcome, reason); err != nil {
		return rep, fmt.Errorf("record the outcome %s: %w", outcome, err)
	}
	m.boundary("recorded " + string(outcome))
	if err := m.journal(ctx, Record{State: outcome, Reason: reason}); err != nil {
		return rep, err
	}
	rep.Outcome = outcome
	return rep, nil
}
