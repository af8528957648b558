package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/ultrafast-ci/ultrafast/internal/rollout"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// keepReleases is how many good releases stay on the target for rollbacks.
const keepReleases = 5

// change is a rollout with all that is needed to finish it after a crash; it is
// the note in the journal.
type change struct {
	Release target.Release `json:"release"`
	// Record is the line of the history that it will leave, without the outcome.
	Record Record `json:"record"`
}

// nextID names a release after its place in the history, which no other has.
func (r *run) nextID(image state.Digest) string {
	return fmt.Sprintf("r%d-%s", len(r.history)+1, image.Short())
}

// serving returns the release that has the traffic: what the front says or, when
// no front answers, what the history says.
func (r *run) serving(live target.Live) string {
	if live.Traffic != nil {
		return live.Traffic.Serving()
	}
	stack := good(r.history)
	if len(stack) == 0 {
		return ""
	}
	last := stack[len(stack)-1].Release
	if slices.ContainsFunc(live.Instances, func(i target.Instance) bool { return i.Release == last }) {
		return last
	}
	return ""
}

// unchanged reports whether the serving release is the wanted one and well.
func (r *run) unchanged(ctx context.Context, live target.Live, serving string, want target.Release, service Service) (bool, error) {
	i := slices.IndexFunc(live.Instances, func(i target.Instance) bool { return i.Release == serving })
	if i < 0 || live.Traffic == nil || !live.Instances[i].Running ||
		live.Instances[i].Image != want.Image || live.Instances[i].Config != want.Config {
		return false, nil
	}
	want.ID = serving
	// The front may have to be another one: that is an error, not a change.
	if err := r.session.Prepare(ctx, want, target.Source{}); err != nil {
		return false, err
	}
	a := &applied{run: r, change: change{Release: want, Record: Record{Service: service}}}
	for _, gate := range []func(context.Context, string) error{a.Health, a.Smoke, a.Verify} {
		if err := gate(ctx, serving); err != nil {
			r.log().Warn("serving release is not well and is replaced", "release", serving, "error", err)
			return false, context.Cause(ctx)
		}
	}
	return true, nil
}

// rollOut stops what no run answers for, and replaces the serving release.
func (r *run) rollOut(ctx context.Context, live target.Live, c change, from target.Source) (rollout.Report, error) {
	for _, i := range live.Instances {
		if i.Running && i.Release != c.Record.Replaces {
			if err := r.session.Stop(ctx, i.Release); err != nil {
				return rollout.Report{}, err
			}
		}
	}
	note, err := json.Marshal(c)
	if err != nil {
		return rollout.Report{}, err
	}
	m := r.machine(c, from)
	report, err := m.Run(ctx, rollout.Plan{New: c.Release.ID, Old: c.Record.Replaces, Note: note})
	if err == nil {
		r.prune(ctx)
	}
	return report, err
}

// prune frees the disk; that it could not is no reason to fail.
func (r *run) prune(ctx context.Context) {
	var keep []string
	stack := good(r.history)
	for _, rec := range stack[max(0, len(stack)-keepReleases):] {
		keep = append(keep, rec.Release)
	}
	if err := r.session.Prune(ctx, keep); err != nil {
		r.log().Warn("old releases were not deleted", "error", err)
	}
}

func (r *run) machine(c change, from target.Source) *rollout.Machine {
	return &rollout.Machine{
		Target:  &applied{run: r, change: c, from: from},
		Journal: journal{r.journalFile()},
		Clock:   r.Clock,
		Progress: func(s rollout.State) {
			r.log().Debug("rollout", "release", c.Release.ID, "state", s)
			r.progress("%s %s", s, c.Release.ID)
		},
		Warn:     func(err error) { r.log().Warn("rollout", "error", err) },
		Boundary: r.Boundary,
	}
}

// recover finishes or takes back a rollout that was interrupted.
func (r *run) recover(ctx context.Context, how func(*rollout.Machine, context.Context, rollout.Found) (rollout.Report, error)) (rollout.Report, error) {
	found, err := r.interrupted()
	if err != nil || found.Direction == rollout.Nowhere {
		return rollout.Report{}, err
	}
	var c change
	if err := json.Unmarshal(found.Plan.Note, &c); err != nil {
		return rollout.Report{}, fault.New(fault.Unavailable, "run `deploy down`, then deploy again", "journal's note: %w", err)
	}
	r.progress("an earlier run of %s was interrupted in state %s: go %s", c.Release.ID, found.Last, found.Direction)
	r.log().Info("recover", "release", c.Release.ID, "state", found.Last, "direction", found.Direction)
	report, err := how(r.machine(c, target.Source{}), ctx, found)
	if errors.Is(err, rollout.ErrCommitted) {
		err = fault.New(fault.Finding, "run `deploy resume`, then `deploy rollback`", "abort release %s: %w", c.Release.ID, err)
	}
	if err != nil && report.Outcome == rollout.Reverted {
		// It did not come up again; going back is a recovery as well.
		r.log().Warn("interrupted release was taken back", "release", c.Release.ID, "error", err)
		err = nil
	}
	if err != nil {
		return report, fmt.Errorf("recover the interrupted deploy of %s: %w", c.Release.ID, err)
	}
	return report, nil
}

func (s Step) interrupted() (rollout.Found, error) {
	records, err := readJournal(s.journalFile())
	if err != nil {
		return rollout.Found{}, err
	}
	found, err := rollout.Read(records)
	return found, fault.Wrap(err, fault.Unavailable, "run `deploy down`, then deploy again", "read "+s.journalFile())
}

// applied carries out the effects of one rollout through the session.
type applied struct {
	*run
	change change
	from   target.Source
}

func (a *applied) Prepare(ctx context.Context, _ string) error {
	return a.session.Prepare(ctx, a.change.Release, a.from)
}

func (a *applied) Start(ctx context.Context, release string) error {
	return a.session.Start(ctx, release)
}

func (a *applied) Health(ctx context.Context, release string) error {
	return a.session.Ready(ctx, release)
}

func (a *applied) Smoke(ctx context.Context, release string) error { return a.smoke(ctx, release) }

func (a *applied) Verify(ctx context.Context, _ string) error { return a.smoke(ctx, "") }

// smoke runs the smoke tests, and the health path as the first of them, on a
// release or, with an empty name, on the front.
func (a *applied) smoke(ctx context.Context, release string) error {
	where := "release " + release
	if release == "" {
		where = "the front"
	}
	res, err := a.Target.Probe(ctx, release, target.Request{Path: a.change.Record.Service.HealthPath})
	if err == nil && res.Status/100 != 2 {
		err = fault.New(fault.Finding, "", "%s answers %d, not 2xx", a.change.Record.Service.HealthPath, res.Status)
	}
	if err != nil {
		return fmt.Errorf("smoke test of %s: %w", where, err)
	}
	for i, t := range a.change.Record.Service.Smoke {
		if err := t.run(ctx, a.Target, release); err != nil {
			return fmt.Errorf("smoke test %d of %s: %w", i+1, where, err)
		}
	}
	return nil
}

func (t Smoke) run(ctx context.Context, on target.Target, release string) error {
	res, err := on.Probe(ctx, release, target.Request{Method: t.Method, Path: t.Path})
	if err != nil {
		return err
	}
	method := t.Method
	if method == "" {
		method = http.MethodGet
	}
	if res.Status != t.Status {
		return fault.New(fault.Finding, "", "%s %s answers %d, not %d: %.200q", method, t.Path, res.Status, t.Status, res.Body)
	}
	if !bytes.Contains(res.Body, []byte(t.Contains)) {
		return fault.New(fault.Finding, "", "%s %s answers without %q: %.200q", method, t.Path, t.Contains, res.Body)
	}
	return nil
}

func (a *applied) Switch(ctx context.Context, release string) error {
	if release == "" {
		return a.session.Route(ctx, nil)
	}
	return a.session.Route(ctx, []target.Weight{{Release: release, Weight: 1}})
}

// Drain waits; requests that are still there afterwards are cut when the release
// is retired, which the service's own shutdown may prevent.
func (a *applied) Drain(ctx context.Context, release string) error {
	err := a.session.Drain(ctx, release, a.change.Record.Service.DrainTimeout)
	if err != nil && context.Cause(ctx) == nil {
		a.log().Warn("release was not drained", "release", release, "error", err)
		return nil
	}
	return err
}

func (a *applied) Commit(ctx context.Context) error { return a.session.Commit(ctx) }

func (a *applied) Retire(ctx context.Context, release string) error {
	return a.session.Stop(ctx, release)
}

// Record writes the outcome, unless the history has it: recovery may repeat it.
func (a *applied) Record(_ context.Context, p rollout.Plan, outcome rollout.State, reason string) error {
	if n := len(a.history); n > 0 && a.history[n-1].Release == p.New {
		return nil
	}
	rec := a.change.Record
	rec.Outcome, rec.Reason = outcome, reason
	return a.record(rec)
}
