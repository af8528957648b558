package validate

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/ultrafast-ci/ultrafast/internal/attest"
	"github.com/ultrafast-ci/ultrafast/internal/policy"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// maxDecided bounds the size of the artifact [ArtifactChecks] that is read, in bytes.
const maxDecided = 16 << 20

// decided is the artifact [ArtifactChecks]: the rules and what every check saw.
type decided struct {
	Schema int `json:"schema"`
	// Required is [policy.Policy.Required]. The claim holds the digest of it.
	Required []string `json:"required,omitempty"`
	Checks   []Report `json:"checks"`
}

const hintAgain = "run `validate run` on this state and sign what it hands on"

// required returns the ids of the checks that must have passed, sorted.
func required(p policy.Policy) []string {
	var out []string
	for _, c := range Checks() {
		if p.Requires(c.ID, c.Severity.Gates()) {
			out = append(out, c.ID)
		}
	}
	slices.Sort(out)
	return out
}

// reached reports, as a fault.Finding, what keeps the validate entry of link from
// being a verdict that was reached by doing: a required check that the claim does
// not have as passed, or a claim that what the checks saw does not bear out. It
// returns the rules of the verdict. The claim alone is no proof: anybody who can
// write to the store can write one.
func reached(ctx context.Context, in state.State, link *state.Link, blobs state.Blobs) (policy.Policy, error) {
	built, ok := in.Last(phase.Cleanroom)
	if !ok || len(runs(built)) == 0 {
		return policy.Policy{}, fault.New(fault.Finding, "run `cleanroom-test run` and hand on its state", "the cleanroom-test entry has no evidence of a run")
	}
	evidence := runs(link)
	if len(evidence) == 0 {
		return policy.Policy{}, fault.New(fault.Finding, hintAgain, "the validate entry has no evidence of a run")
	}
	var rules policy.Policy
	for _, ev := range evidence {
		d, err := readDecided(ctx, ev, blobs)
		if err != nil {
			return policy.Policy{}, err
		}
		rules = policy.Policy{Required: d.Required}
		if rules.Digest() != link.Entry.Validate.Policy {
			return policy.Policy{}, fault.New(fault.Finding, hintAgain, "the entry was judged under policy %s, its evidence under %s", link.Entry.Validate.Policy.Short(), rules.Digest().Short())
		}
		if err := d.agrees(link.Entry.Checks); err != nil {
			return policy.Policy{}, err
		}
	}
	if err := rules.CheckRequired(ids(Checks())); err != nil {
		return policy.Policy{}, err
	}
	return rules, attest.Covers(link.Entry.Checks, required(rules))
}

// runs returns the evidence of runs that is about the entry of link.
func runs(link *state.Link) []*state.Evidence {
	var out []*state.Evidence
	for i := range link.Evidence {
		if ev := &link.Evidence[i]; ev.Kind == state.KindRun && ev.Subject == link.Digest {
			out = append(out, ev)
		}
	}
	return out
}

func readDecided(ctx context.Context, ev *state.Evidence, blobs state.Blobs) (decided, error) {
	a, ok := ev.Artifact(ArtifactChecks)
	switch {
	case !ok:
		return decided{}, fault.New(fault.Finding, hintAgain, "the evidence of the validate entry has no artifact %q", ArtifactChecks)
	case a.Size > maxDecided:
		return decided{}, fault.New(fault.Finding, hintAgain, "artifact %q has %d bytes; at most %d are read", a.Name, a.Size, maxDecided)
	}
	b, err := state.ReadBlob(ctx, blobs, a)
	if err != nil {
		return decided{}, err
	}
	var d decided
	if err := json.Unmarshal(b, &d); err != nil {
		return decided{}, fault.New(fault.Finding, hintAgain, "artifact %q: %w", a.Name, err)
	}
	if d.Schema != decidedSchema {
		return decided{}, fault.New(fault.Finding, hintAgain, "artifact %q has schema %d; this program reads %d", a.Name, d.Schema, decidedSchema)
	}
	return d, nil
}

const decidedSchema = 1

// agrees reports, as a fault.Finding, where what the checks saw and what is
// claimed of them differ.
func (d decided) agrees(claimed []state.Check) error {
	seen := make(map[string]Report, len(d.Checks))
	for _, r := range d.Checks {
		seen[r.ID] = r
	}
	if len(seen) != len(d.Checks) || len(seen) != len(claimed) {
		return fault.New(fault.Finding, hintAgain, "%d checks are claimed, but the evidence has %d", len(claimed), len(d.Checks))
	}
	for _, c := range claimed {
		r, ok := seen[c.Name]
		switch {
		case !ok:
			return fault.New(fault.Finding, hintAgain, "check %s is claimed, but the evidence does not have it", c.Name)
		case r.Outcome != c.Outcome:
			return fault.New(fault.Finding, hintAgain, "check %s is claimed as %s, but the evidence says %s", c.Name, c.Outcome, r.Outcome)
		case c.Outcome == state.Passed && len(r.Evidence) == 0:
			return fault.New(fault.Finding, hintAgain, "check %s is claimed as passed, but the evidence does not say what was seen", c.Name)
		case c.Outcome == state.NotApplicable && r.Reason == "":
			return fault.New(fault.Finding, hintAgain, "check %s is claimed not to apply, but the evidence does not say why", c.Name)
		}
	}
	return nil
}
