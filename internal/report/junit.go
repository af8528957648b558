package report

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Skipped *junitSkipped `xml:"skipped,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

// JUnit returns the phases as test suites with their tests and checks as cases. A
// phase that has none is one case. A check that neither passed nor failed was
// skipped; its outcome is the reason. Times are in seconds.
func JUnit(r Report) ([]byte, error) {
	all := junitSuites{Name: r.Tool, Time: seconds(r.Duration)}
	for _, p := range r.Phases {
		suite := junitSuite{Name: string(p.Name), Time: seconds(p.Duration)}
		checks := p.Checks
		if len(checks) == 0 || p.Outcome == state.Failed && !anyFailed(checks) {
			checks = append(checks[:len(checks):len(checks)], state.Check{Name: string(p.Name), Outcome: p.Outcome})
		}
		for _, c := range checks {
			suite.add(junitCaseOf(r, p, c))
		}
		all.Tests, all.Failures, all.Skipped = all.Tests+suite.Tests, all.Failures+suite.Failures, all.Skipped+suite.Skipped
		all.Suites = append(all.Suites, suite)
	}
	body, err := xml.MarshalIndent(all, "", "  ")
	return append([]byte(xml.Header), append(body, '\n')...), err
}

func anyFailed(checks []state.Check) bool {
	for _, c := range checks {
		if c.Outcome == state.Failed {
			return true
		}
	}
	return false
}

func (s *junitSuite) add(c junitCase) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	if c.Failure != nil {
		s.Failures++
	}
	if c.Skipped != nil {
		s.Skipped++
	}
}

func junitCaseOf(r Report, p Phase, c state.Check) junitCase {
	out := junitCase{Class: string(p.Name), Name: line(c.Name)}
	switch c.Outcome {
	case state.Passed:
	case state.Failed:
		out.Failure = failureOf(r, p, c)
	default:
		out.Skipped = &junitSkipped{line(string(c.Outcome))}
	}
	return out
}

// failureOf says why a check failed: by its findings, or for the phase itself by
// what ended the run.
func failureOf(r Report, p Phase, c state.Check) *junitFailure {
	var about []finding.Finding
	for _, f := range r.Findings {
		if f.Rule == c.Name {
			about = append(about, f)
		}
	}
	if len(about) == 0 {
		what := "failed"
		if c.Name == string(p.Name) && r.Error != "" {
			what = r.Error
		}
		return &junitFailure{Message: line(what), Text: text(what + "\n" + r.Hint)}
	}
	var b strings.Builder
	for _, f := range about {
		if at := relative(f.Where); at != "" {
			fmt.Fprintf(&b, "%s: ", finding.Place{File: at, Line: f.Where.Line, Column: f.Where.Column})
		}
		b.WriteString(message(f) + "\n")
	}
	return &junitFailure{Message: line(about[0].What), Text: b.String()}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
