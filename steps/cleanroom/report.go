package cleanroom

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/xml"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// report is the evidence artifact "results": what the tests did and how long it took.
type report struct {
	Schema int `json:"schema"`
	// Module is the module path of a Go tree.
	Module string `json:"module,omitempty"`
	Seed   string `json:"seed"`
	// Order is that in which test processes started, if there were several.
	Order    []string     `json:"order,omitempty"`
	Packages []unitReport `json:"packages"`
	Tests    []testReport `json:"tests"`
	// NotRun are test processes that never began, or were ended with the run.
	NotRun []string `json:"not_run,omitempty"`
	// Quarantine is what may fail now, and Expired what may not any more.
	Quarantine []Quarantined `json:"quarantine,omitempty"`
	Expired    []Quarantined `json:"quarantine_expired,omitempty"`
}

// unitReport is what was tested apart: a package, a file, an executable.
type unitReport struct {
	Name    string        `json:"name"`
	Suite   string        `json:"suite,omitempty"`
	Outcome state.Outcome `json:"outcome"`
	Seconds float64       `json:"seconds"`
	Output  string        `json:"output,omitempty"`
	Flaky   bool          `json:"flaky,omitempty"`
	// CPUSeconds, PeakMemory in bytes and Status are those of the unit's own process.
	CPUSeconds float64 `json:"cpu_seconds,omitempty"`
	PeakMemory int64   `json:"peak_memory_bytes,omitempty"`
	Status     string  `json:"status,omitempty"`
	// Log is a file below the directory of the results.
	Log string `json:"log,omitempty"`
}

type testReport struct {
	Name    string        `json:"name"`
	Suite   string        `json:"suite,omitempty"`
	Outcome state.Outcome `json:"outcome"`
	Seconds float64       `json:"seconds"`
	// Output holds the last lines of a test that did not pass.
	Output string `json:"output,omitempty"`
	// Attempts is more than 1 if it ran again; Flaky that it passed then.
	Attempts int  `json:"attempts,omitempty"`
	Flaky    bool `json:"flaky,omitempty"`
}

func (r *results) unitNames() []string { return slices.Sorted(maps.Keys(r.units)) }

// json encodes the results of all suites.
func (t *trial) json() ([]byte, error) {
	doc := report{
		Schema: 1, Seed: strconv.FormatUint(t.seed, 10), Packages: []unitReport{}, Tests: []testReport{},
		Quarantine: t.quarantine, Expired: t.expired, NotRun: t.notRun,
	}
	if len(t.order) > 1 {
		doc.Order = t.order
	}
	for _, s := range t.suites {
		doc.Module = cmp.Or(doc.Module, s.results.module)
		suite := ""
		if len(t.suites) > 1 {
			suite = s.name
		}
		s.results.describe(&doc, suite)
	}
	return json.MarshalIndent(doc, "", "  ")
}

func (r *results) describe(doc *report, suite string) {
	for _, name := range r.unitNames() {
		u := r.units[name]
		item := unitReport{Name: r.label(name), Suite: suite, Outcome: u.outcome, Seconds: u.seconds, Flaky: u.flaky, Log: u.log}
		if u.outcome != state.Passed {
			item.Output = u.output.String()
		}
		if u.status != nil {
			item.CPUSeconds, item.PeakMemory, item.Status = u.status.CPU.Seconds(), u.status.PeakMemory, u.status.String()
		}
		doc.Packages = append(doc.Packages, item)
	}
	for _, id := range r.ids() {
		test := r.tests[id]
		item := testReport{Name: r.name(id), Suite: suite, Outcome: test.end(), Seconds: test.seconds, Output: test.output.String(), Flaky: test.flaky}
		if test.attempts > 1 {
			item.Attempts = test.attempts
		}
		doc.Tests = append(doc.Tests, item)
	}
}

// The part of the JUnit format that every CI system reads.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Error   *junitMessage `xml:"error"`
	Skipped *junitMessage `xml:"skipped"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// junit encodes the results of all suites as JUnit XML.
func (t *trial) junit() ([]byte, error) {
	var doc junitSuites
	for _, s := range t.suites {
		for _, suite := range s.results.junit() {
			doc.Suites = append(doc.Suites, *suite)
			doc.Tests, doc.Failures = doc.Tests+suite.Tests, doc.Failures+suite.Failures
			doc.Errors, doc.Skipped = doc.Errors+suite.Errors, doc.Skipped+suite.Skipped
		}
	}
	for _, name := range t.notRun {
		c := junitCase{Class: name, Name: name, Time: seconds(0), Skipped: &junitMessage{Message: "not run: the run ended before"}}
		doc.Suites = append(doc.Suites, junitSuite{Name: name, Tests: 1, Skipped: 1, Time: c.Time, Cases: []junitCase{c}})
		doc.Tests, doc.Skipped = doc.Tests+1, doc.Skipped+1
	}
	slices.SortStableFunc(doc.Suites, func(a, b junitSuite) int { return strings.Compare(a.Name, b.Name) })
	var buf bytes.Buffer
	buf.WriteString(xml.Header)
	enc := xml.NewEncoder(&buf)
	enc.Indent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, err
	}
	buf.WriteByte('\n')
	return buf.Bytes(), nil
}

// junit returns a suite for each unit.
func (r *results) junit() map[string]*junitSuite {
	suites := map[string]*junitSuite{}
	for _, name := range r.unitNames() {
		suites[name] = &junitSuite{Name: r.label(name), Time: seconds(r.units[name].seconds)}
	}
	for _, id := range r.ids() {
		suite, ok := suites[id.unit]
		if !ok { // a test of a unit that said nothing of itself
			suite = &junitSuite{Name: r.label(id.unit), Time: seconds(0)}
			suites[id.unit] = suite
		}
		instead, limit := "failed", false
		if u := r.units[id.unit]; id.name == "" && u != nil {
			instead, limit = u.ending()
		}
		suite.add(r.label(id.unit), cmp.Or(id.name, r.label(id.unit)), r.tests[id], instead, limit)
	}
	// Most readers look at test cases alone: what failed without a failing test is one.
	for _, name := range r.broken() {
		s, why := suites[name], r.why(name)
		message, limit := r.units[name].ending()
		if !limit {
			message = firstLine(why, message)
		}
		s.Tests, s.Errors = s.Tests+1, 1
		s.Cases = append(s.Cases, junitCase{Class: s.Name, Name: s.Name, Time: s.Time, Error: &junitMessage{Message: message, Text: why}})
	}
	return suites
}

// ending says how the process of a unit ended, and whether that is what made it fail,
// whatever it printed.
func (u *unitResult) ending() (text string, limit bool) {
	if u.status == nil || u.status.OK() {
		return "failed", false
	}
	return u.status.String(), u.cut()
}

// add adds a test; ending is why it failed if it did not say so, or in any case.
func (s *junitSuite) add(class, name string, t *testResult, ending string, always bool) {
	c := junitCase{Class: class, Name: name, Time: seconds(t.seconds)}
	s.Tests++
	switch t.end() {
	case state.Failed:
		s.Failures++
		c.Failure = &junitMessage{Message: ending, Text: t.output.String()}
		if !always {
			c.Failure.Message = firstLine(t.output.String(), ending)
		}
	case state.Skipped:
		s.Skipped++
		c.Skipped = &junitMessage{Message: firstLine(t.output.String(), "skipped")}
	case state.Waived: // JUnit has no word for it; a failure it is not
		s.Skipped++
		c.Skipped = &junitMessage{Message: "failed, in quarantine: " + t.waived.Reason, Text: t.output.String()}
	}
	s.Cases = append(s.Cases, c)
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }

// firstLine returns the first line that the test wrote itself, or instead.
func firstLine(text, instead string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") && !strings.HasPrefix(line, "-test.shuffle ") {
			return line
		}
	}
	return instead
}

// why returns what a broken unit printed: its build's output, or its own.
func (r *results) why(unit string) string {
	p := r.units[unit]
	if b, ok := r.builds[p.failedBuild]; ok && p.failedBuild != "" {
		return b.String()
	}
	return p.output.String()
}
