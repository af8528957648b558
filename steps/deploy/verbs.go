package deploy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/ultrafast-ci/ultrafast/internal/rollout"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// Preview is what a run would do.
type Preview struct {
	Plan   Plan         `json:"plan"`
	Digest state.Digest `json:"digest"`
	// Action is "create", "replace", or "none" when the serving release has this
	// image and configuration (a run still checks that it is well).
	Action string `json:"action"`
	// Replaces is the release that serves now.
	Replaces string `json:"replaces,omitempty"`
	// Recovers says that a run would first finish or take back an interrupted one.
	Recovers rollout.Direction `json:"recovers,omitempty"`
}

// Plan says what Run would do. It changes nothing and needs no verifier.
func (s Step) Plan(ctx context.Context, in state.State) (Preview, error) {
	plan, _, err := s.plan(in)
	if err != nil {
		return Preview{}, err
	}
	encoded, err := plan.Encode()
	if err != nil {
		return Preview{}, err
	}
	config, err := plan.Service.digest()
	if err != nil {
		return Preview{}, err
	}
	status, err := s.Status(ctx)
	if err != nil {
		return Preview{}, err
	}
	p := Preview{Plan: plan, Digest: state.DigestOf(encoded), Action: "create", Replaces: status.Serving}
	if status.Interrupted != nil {
		p.Recovers = status.Interrupted.Direction
	}
	if status.Serving != "" {
		p.Action = "replace"
	}
	for _, i := range status.Live.Instances {
		if i.Release == status.Serving && i.Running && i.Image == plan.Image && i.Config == config && status.Live.Traffic != nil {
			p.Action = "none"
		}
	}
	return p, nil
}

// Status is what is known of an environment.
type Status struct {
	Environment string `json:"environment"`
	// Serving is the release that has the traffic; empty if none has.
	Serving string      `json:"serving,omitempty"`
	Live    target.Live `json:"live"`
	// Interrupted is a rollout that is not over: a run is at it, or it was killed.
	Interrupted *Interrupted `json:"interrupted,omitempty"`
	// Last is the latest record of the history.
	Last *Record `json:"last,omitempty"`
}

// Interrupted is a rollout that is not over.
type Interrupted struct {
	Release string `json:"release"`
	// State is the last one it entered.
	State rollout.State `json:"state"`
	// Direction is where recovery will go.
	Direction rollout.Direction `json:"direction"`
}

// Status reads the environment without its lock. It changes nothing.
func (s Step) Status(ctx context.Context) (Status, error) {
	history, err := s.History()
	if err != nil {
		return Status{}, err
	}
	live, err := s.Target.Live(ctx)
	if err != nil {
		return Status{}, err
	}
	found, err := s.interrupted()
	if err != nil {
		return Status{}, err
	}
	st := Status{Environment: s.Environment, Live: live, Serving: (&run{Step: s, history: history}).serving(live)}
	if found.Direction != rollout.Nowhere {
		st.Interrupted = &Interrupted{Release: found.Plan.New, State: found.Last, Direction: found.Direction}
	}
	if n := len(history); n > 0 {
		st.Last = &history[n-1]
	}
	return st, nil
}

// History returns all records, oldest first, after checking their chain.
func (s Step) History() ([]Record, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	return readHistory(s.historyFile())
}

// Outcome is what a verb did.
type Outcome struct {
	// Release is the one that was rolled out, finished or taken back; empty if
	// there was nothing to do.
	Release string `json:"release,omitempty"`
	// Outcome is rollout.Promoted or rollout.Reverted.
	Outcome rollout.State `json:"outcome,omitempty"`
	// Serving is the release that has the traffic now.
	Serving string `json:"serving,omitempty"`
}

func outcomeOf(report rollout.Report) Outcome {
	o := Outcome{Release: report.Plan.New, Outcome: report.Outcome, Serving: report.Plan.New}
	if report.Outcome == rollout.Reverted {
		o.Serving = report.Plan.Old
	}
	return o
}

// Resume finishes or takes back an interrupted rollout: back before its commit
// point, forward after it. Without one it does nothing.
func (s Step) Resume(ctx context.Context) (Outcome, error) {
	return s.settle(ctx, (*rollout.Machine).Recover)
}

// Abort takes an interrupted rollout back. Past its commit point that is a
// fault.Finding: finish it with Resume, then roll back. Without one it does nothing.
func (s Step) Abort(ctx context.Context) (Outcome, error) {
	return s.settle(ctx, (*rollout.Machine).Abort)
}

func (s Step) settle(ctx context.Context, how func(*rollout.Machine, context.Context, rollout.Found) (rollout.Report, error)) (Outcome, error) {
	var o Outcome
	err := s.acquired(ctx, func(ctx context.Context, r *run) error {
		report, err := r.recover(ctx, how)
		o = outcomeOf(report)
		return err
	})
	return o, err
}

// Rollback rolls out again the good release before the present one, with its
// image and configuration, through the same gates. The verdict on it was checked
// when it was deployed. It is recorded; the release it replaces no longer counts
// as good, so another rollback goes one further.
func (s Step) Rollback(ctx context.Context) (Outcome, error) {
	var o Outcome
	err := s.locked(ctx, func(ctx context.Context, r *run) error {
		live, err := r.Target.Live(ctx)
		if err != nil {
			return err
		}
		c, err := r.previous(live)
		if err != nil {
			return err
		}
		report, err := r.rollOut(ctx, live, c, target.Source{})
		o = outcomeOf(report)
		return err
	})
	return o, err
}

// previous returns the change that brings back the release before.
func (r *run) previous(live target.Live) (change, error) {
	stack := good(r.history)
	i := len(stack) - 2
	for ; i >= 0; i-- { // a release that was only rolled out again is no way back
		if now := stack[len(stack)-1]; stack[i].Image != now.Image || stack[i].Config != now.Config {
			break
		}
	}
	if i < 0 {
		return change{}, fault.New(fault.Finding, "see `deploy history`", "%s has no good release before the present one", r.Environment)
	}
	before := stack[i]
	release := target.Release{ID: r.nextID(before.Image), Image: before.Image, Config: before.Config, Service: before.Service.release()}
	return change{Release: release, Record: Record{
		Action: ActionRollback, Release: release.ID, Replaces: r.serving(live), Restores: before.Release,
		Image: before.Image, Config: before.Config, Service: before.Service, Plan: before.Plan,
		Strategy: before.Strategy, KeyID: before.KeyID, Who: r.Holder,
	}}, nil
}

// Down stops everything in the environment and forgets an interrupted rollout.
// Repeating it does nothing more. The history stays; one that cannot be read keeps
// nobody from stopping and is set aside, which Progress hears.
func (s Step) Down(ctx context.Context) error {
	return s.held(ctx, func(ctx context.Context, r *run) error {
		var unread error
		if r.history, unread = readHistory(s.historyFile()); unread != nil {
			if err := r.setAside(unread); err != nil {
				return err
			}
		}
		// The journal goes first: what it would recover is stopped now.
		if err := os.Remove(s.journalFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.New(fault.Unavailable, "", "journal: %w", err)
		}
		if err := r.session.Down(ctx); err != nil {
			return err
		}
		up := slices.IndexFunc(r.history, func(rec Record) bool { return rec.Outcome == rollout.Promoted }) >= 0
		if n := len(r.history); up && r.history[n-1].Action != ActionDown {
			return r.record(Record{Action: ActionDown, Outcome: Stopped, Who: s.Holder})
		}
		return nil
	})
}

// maxAside bounds how many damaged histories are kept beside each other.
const maxAside = 1000

// setAside renames the history that could not be read, so that a new one begins.
func (r *run) setAside(why error) error {
	for i := 1; i <= maxAside; i++ {
		aside := fmt.Sprintf("%s.damaged-%d", r.historyFile(), i)
		if _, err := os.Lstat(aside); err == nil {
			continue
		}
		if err := os.Rename(r.historyFile(), aside); err != nil {
			return fault.New(fault.Unavailable, "move the file away", "set aside the history: %w", errors.Join(why, err))
		}
		r.log().Warn("history cannot be read and was set aside", "file", aside, "error", why)
		r.progress("the history cannot be read and is now %s", aside)
		return syncDir(r.Dir)
	}
	return fault.Wrap(why, fault.Unavailable, "delete the damaged histories in "+r.Dir, "set aside the history")
}
