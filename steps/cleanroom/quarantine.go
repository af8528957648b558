package cleanroom

import (
	"fmt"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Quarantined is a test that may fail until a date: its failure is waived, listed in
// the claim as such, and never counted as passed.
type Quarantined struct {
	// Test is the name in claims, of the test itself or of the unit, file or package
	// that it is in; what is below that name is meant too.
	Test string `json:"test"`
	// Owner is who mends it, Reason why it fails.
	Owner  string `json:"owner"`
	Reason string `json:"reason"`
	// Until is the last day, in UTC, on which it may fail.
	Until time.Time `json:"until"`
}

func (q Quarantined) check() error {
	for _, field := range []struct{ name, value string }{{"test", q.Test}, {"owner", q.Owner}, {"reason", q.Reason}} {
		if strings.TrimSpace(field.value) == "" {
			return fault.New(fault.Usage, "a quarantine has test, owner, reason and expiry", "quarantine of %q without %s", q.Test, field.name)
		}
	}
	if q.Until.IsZero() {
		return fault.New(fault.Usage, `give it a last day: expiry = "2027-01-31"`, "quarantine of %q without expiry", q.Test)
	}
	return nil
}

// active reports that the day has not passed at now.
func (q Quarantined) active(now time.Time) bool {
	return now.UTC().Before(q.Until.UTC().AddDate(0, 0, 1))
}

// covers reports that name is the test, or below it.
func (q Quarantined) covers(name string) bool {
	rest, ok := strings.CutPrefix(name, q.Test)
	return ok && (rest == "" || strings.HasPrefix(rest, "/") || strings.HasPrefix(rest, "::") || strings.HasPrefix(rest, ".") || strings.HasPrefix(rest, " > "))
}

// active returns the quarantines that hold now and those that do not any more.
func (t Tests) active(now time.Time) (holds, expired []Quarantined) {
	for _, q := range t.Quarantine {
		if q.active(now) {
			holds = append(holds, q)
		} else {
			expired = append(expired, q)
		}
	}
	return holds, expired
}

// waive lets the failed tests of r fail that are in quarantine, and those that failed
// because of such a part of theirs alone.
func (t *trial) waive(r *results) {
	if len(t.quarantine) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.failed() {
		for i := range t.quarantine {
			if t.quarantine[i].covers(r.name(id)) {
				r.tests[id].waived = &t.quarantine[i]
			}
		}
	}
	for _, id := range r.failed() {
		if by := r.waivedBelow(id); by != nil {
			r.tests[id].waived = by
		}
	}
	// A file that is one test has no name of its own below it; a unit that failed as
	// a whole is waived by its name.
	for _, name := range r.broken() {
		for i := range t.quarantine {
			if u := r.units[name]; t.quarantine[i].covers(r.label(name)) && u.failedBuild == "" {
				r.tests[testID{unit: name}] = &testResult{outcome: state.Failed, attempts: 1, seconds: u.seconds, output: u.output, waived: &t.quarantine[i]}
			}
		}
	}
}

// waivedBelow returns why the failures below a test are waived, if all of them are.
func (r *results) waivedBelow(id testID) (by *Quarantined) {
	for other, test := range r.tests {
		if other.unit != id.unit || id.name == "" || !strings.HasPrefix(other.name, id.name+"/") {
			continue
		}
		switch test.end() {
		case state.Failed:
			return nil
		case state.Waived:
			by = test.waived
		}
	}
	return by
}

// quarantineFindings lists what the quarantine let fail, what it need not hold any
// more, and what its date has passed for. None of them gates.
func (t *trial) quarantineFindings() []finding.Finding {
	var found []finding.Finding
	used := map[string]bool{}
	for _, s := range t.suites {
		for _, id := range s.results.ids() {
			if test := s.results.tests[id]; test.end() == state.Waived {
				used[test.waived.Test] = true
				found = append(found, finding.Finding{
					Rule: RuleQuarantine, Severity: finding.Medium,
					What: fmt.Sprintf("test %s failed, in quarantine until %s", s.results.name(id), test.waived.Until.Format(time.DateOnly)),
					Why:  test.waived.Reason, Fix: "ask " + test.waived.Owner,
				})
			}
		}
	}
	for _, q := range t.quarantine {
		if !used[q.Test] {
			found = append(found, finding.Finding{
				Rule: RuleQuarantine, Severity: finding.Low, What: fmt.Sprintf("nothing failed of %s, which is in quarantine", q.Test),
				Why: q.Reason, Fix: "take it out of the quarantine, or correct its name there",
			})
		}
	}
	for _, q := range t.expired {
		found = append(found, finding.Finding{
			Rule: RuleQuarantine, Severity: finding.Medium, What: fmt.Sprintf("the quarantine of %s ended on %s", q.Test, q.Until.Format(time.DateOnly)),
			Why: q.Reason, Fix: "ask " + q.Owner + " to mend the test, and take it out of the quarantine",
		})
	}
	return found
}
