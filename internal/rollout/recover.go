package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Direction is where recovery goes.
type Direction string

// The directions.
const (
	Nowhere  Direction = "nowhere" // nothing was interrupted
	Backward Direction = "back"
	Onward   Direction = "forward"
)

// Found is what a journal says.
type Found struct {
	Plan      Plan
	Direction Direction
	// Last is the last state that was entered.
	Last State
	// Reason is that of a rollout which was going back.
	Reason string
	// retired reports that Retire was entered, traffic that Switch was.
	retired, traffic bool
}

// Read decides what is to be done about the records of one rollout. Records
// that no rollout writes are an error.
func Read(records []Record) (Found, error) {
	if len(records) == 0 {
		return Found{Direction: Nowhere}, nil
	}
	if records[0].State != Begun || records[0].Plan == nil || records[0].Plan.New == "" {
		return Found{}, errors.New("journal does not begin with a plan")
	}
	f := Found{Plan: *records[0].Plan, Direction: Backward, Last: Begun}
	for i, r := range records[1:] {
		if f.Last.Terminal() {
			break // a terminal state wins
		}
		if !follows(f.Last, r.State) {
			return Found{}, fmt.Errorf("journal has state %q after %q in record %d", r.State, f.Last, i+2)
		}
		f.Last = r.State
		switch {
		case r.State.Terminal():
			f.Direction = Nowhere
		case r.State == Revert:
			f.Direction, f.Reason = Backward, r.Reason
		case r.State == Commit:
			f.Direction = Onward
		case r.State == Retire:
			f.retired = true
		}
		f.traffic = f.traffic || slices.Contains(forward, r.State) && reached(r.State)
	}
	return f, nil
}

// follows reports whether next may be journalled after last. Recovery enters
// Commit, Retire and Revert again.
func follows(last, next State) bool {
	switch next {
	case Revert:
		return last != Retire
	case Reverted:
		return last == Revert
	case Promoted:
		return last == Retire
	case Commit, Retire:
		if last == next {
			return true
		}
	}
	i := slices.Index(forward, next)
	if i == 0 {
		return last == Begun
	}
	return i > 0 && last == forward[i-1]
}

// Recover finishes what was found. Going back has no error of its own: the
// report's outcome tells. Going forward, a new release that does not come up
// again is taken back while the old one has not been retired.
func (m *Machine) Recover(ctx context.Context, f Found) (Report, error) {
	rep := Report{Plan: f.Plan}
	switch f.Direction {
	case Backward:
		reason := f.Reason
		if reason == "" {
			reason = fmt.Sprintf("interrupted in state %s", f.Last)
		}
		return m.back(ctx, rep, reason, f.traffic, nil)
	case Onward:
		return m.onward(ctx, rep, f)
	}
	return rep, nil
}

func (m *Machine) onward(ctx context.Context, rep Report, f Found) (Report, error) {
	if !f.retired {
		for _, s := range []State{Start, Health, Switch} {
			if err := m.effect(ctx, &rep, s); err != nil {
				rep.Failed = s
				return m.back(ctx, rep, err.Error(), true, err)
			}
		}
		if err := m.step(ctx, &rep, Commit); err != nil {
			return rep, err
		}
	}
	if err := m.step(ctx, &rep, Retire); err != nil {
		return rep, err
	}
	return m.finish(ctx, rep, Promoted, "")
}

// ErrCommitted means that a rollout passed its commit point and cannot be aborted.
var ErrCommitted = errors.New("the rollout is past its commit point")

// Abort takes back what was found, if it may be.
func (m *Machine) Abort(ctx context.Context, f Found) (Report, error) {
	if f.Direction == Onward {
		return Report{Plan: f.Plan}, ErrCommitted
	}
	if f.Direction == Backward && f.Reason == "" {
		f.Reason = "aborted"
	}
	return m.Recover(ctx, f)
}
