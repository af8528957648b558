package validate

import (
	"context"
	"slices"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Need is what a check looks at.
type Need string

// The needs, from cheap to dear.
const (
	Repository Need = "repository"
	Image      Need = "image"
	Running    Need = "service"
)

// Check is one thing that must hold of a release.
type Check struct {
	// ID is unique, and the check's name in claims, policies and findings.
	ID string
	// Severity says whether a failure stops a release; see finding.Severity.Gates.
	Severity finding.Severity
	Needs    Need
	// Doc says in a sentence what is checked and how it is decided.
	Doc string

	run func(ctx context.Context, s *subject) (opinion, error)
}

// Checks returns the table of checks, in the order in which they run.
func Checks() []Check {
	return []Check{
		{
			ID: "tests-passed", Severity: finding.Critical, Needs: Repository, run: testsPassed,
			Doc: "The cleanroom-test entry passed, ran at least one test that passed, and is about exactly the generated tree.",
		},
		{
			ID: "lockfile-consistent", Severity: finding.High, Needs: Repository, run: lockfileConsistent,
			Doc: "Every module that go.mod requires has its checksums in go.sum.",
		},
		{
			ID: "nonroot", Severity: finding.High, Needs: Image, run: nonroot,
			Doc: "The image's configured user is numeric and not 0.",
		},
		{
			ID: "health-endpoint", Severity: finding.Critical, Needs: Running, run: healthEndpoint,
			Doc: "The service is started from the image and answers its health path with 200 in time.",
		},
		{
			ID: "graceful-shutdown", Severity: finding.Critical, Needs: Running, run: gracefulShutdown,
			Doc: "The service gets SIGTERM under load: every request it had accepted is answered with 200 and it ends in time with exit code 0.",
		},
	}
}

func ids(checks []Check) []string {
	var out []string
	for _, c := range checks {
		out = append(out, c.ID)
	}
	return out
}

// opinion is what a check came to.
type opinion struct {
	outcome state.Outcome
	// evidence is what was seen, a line each. Nothing passes without.
	evidence []string
	// reason says why the outcome is Unknown or NotApplicable.
	reason string
	// finding holds What, Where, Why, Fix and Reproduce of a failure.
	finding finding.Finding
	facts   map[string]string
}

func pass(evidence ...string) opinion { return opinion{outcome: state.Passed, evidence: evidence} }

func unknown(reason string) opinion { return opinion{outcome: state.Unknown, reason: reason} }

func notApplicable(reason string) opinion {
	return opinion{outcome: state.NotApplicable, reason: reason}
}

func fail(f finding.Finding, evidence ...string) opinion {
	return opinion{outcome: state.Failed, finding: f, evidence: evidence}
}

// Report says how one check ended, for people and for whoever judges the judge.
type Report struct {
	ID       string           `json:"id"`
	Severity finding.Severity `json:"severity"`
	Needs    Need             `json:"needs"`
	Doc      string           `json:"doc"`
	// Required reports whether the policy asks for it.
	Required bool          `json:"required"`
	Outcome  state.Outcome `json:"outcome"`
	// Evidence is what was seen, a line each.
	Evidence []string `json:"evidence,omitempty"`
	// Reason says why the outcome is unknown or not-applicable.
	Reason string            `json:"reason,omitempty"`
	Facts  map[string]string `json:"facts,omitempty"`

	Finding finding.Finding `json:"finding,omitzero"`
}

// decide runs the check and turns its opinion into a report. An opinion that
// breaks the rules of opinions is unknown, never passed.
func (c Check) decide(ctx context.Context, s *subject) (Report, error) {
	o, err := c.run(ctx, s)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx) // what a check saw of a run that was cut short proves nothing
	}
	if err != nil {
		return Report{}, err
	}
	r := Report{
		ID: c.ID, Severity: c.Severity, Needs: c.Needs, Doc: c.Doc,
		Outcome: o.outcome, Evidence: o.evidence, Reason: o.reason, Facts: o.facts, Finding: o.finding,
	}
	switch {
	case o.outcome == state.Passed && len(o.evidence) == 0:
		r.Outcome, r.Reason = state.Unknown, "the check gave no evidence"
	case o.outcome == state.NotApplicable && o.reason == "":
		r.Outcome, r.Reason = state.Unknown, "the check gave no reason not to apply"
	case !slices.Contains([]state.Outcome{state.Passed, state.Failed, state.Unknown, state.NotApplicable}, o.outcome):
		return Report{}, fault.New(fault.Internal, "", "check %s came to %q, which is no outcome of a check", c.ID, o.outcome)
	}
	return r, nil
}

// finding returns what is to be said about the check, if it did not go well.
func (r Report) finding() (finding.Finding, bool) {
	f := r.Finding
	switch r.Outcome {
	case state.Failed:
	case state.Unknown:
		f.What = "could not be decided: " + r.Reason
		if f.Fix == "" {
			f.Fix = "give the check what it needs; what is not known does not pass"
		}
	default:
		return finding.Finding{}, false
	}
	f.Rule, f.Severity = r.ID, r.Severity
	if f.Reproduce == "" {
		f.Reproduce = "ultrafast validate run"
	}
	return f, true
}
