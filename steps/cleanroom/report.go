package cleanroom

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// report is the evidence artifact "results": what the tests did and how long it took.
type report struct {
	Schema   int             `json:"schema"`
	Module   string          `json:"module"`
	Seed     string          `json:"seed"`
	Packages []packageReport `json:"packages"`
	Tests    []testReport    `json:"tests"`
}

type packageReport struct {
	Name    string        `json:"name"`
	Outcome state.Outcome `json:"outcome"`
	Seconds float64       `json:"seconds"`
	Output  string        `json:"output,omitempty"`
}

type testReport struct {
	Name    string        `json:"name"`
	Outcome state.Outcome `json:"outcome"`
	Seconds float64       `json:"seconds"`
	// Output holds the last lines of a test that did not pass.
	Output string `json:"output,omitempty"`
}

func (r *results) packageNames() []string {
	names := make([]string, 0, len(r.packages))
	for pkg := range r.packages {
		names = append(names, pkg)
	}
	slices.Sort(names)
	return names
}

// json encodes the results.
func (r *results) json(seed uint64) ([]byte, error) {
	doc := report{Schema: 1, Module: r.module, Seed: strconv.FormatUint(seed, 10), Packages: []packageReport{}, Tests: []testReport{}}
	for _, pkg := range r.packageNames() {
		p := r.packages[pkg]
		item := packageReport{Name: r.label(pkg), Outcome: p.outcome, Seconds: p.seconds}
		if p.outcome != state.Passed {
			item.Output = p.output.String()
		}
		doc.Packages = append(doc.Packages, item)
	}
	for _, id := range r.ids() {
		t := r.tests[id]
		doc.Tests = append(doc.Tests, testReport{Name: r.name(id), Outcome: t.end(), Seconds: t.seconds, Output: t.output.String()})
	}
	return json.MarshalIndent(doc, "", "  ")
}

// The part of the JUnit format that every CI system reads.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
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
	// SystemErr holds why a package failed without a failing test.
	SystemErr string `xml:"system-err,omitempty"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// junit encodes the results as JUnit XML.
func (r *results) junit() ([]byte, error) {
	suites := map[string]*junitSuite{}
	for _, pkg := range r.packageNames() {
		suites[pkg] = &junitSuite{Name: r.label(pkg), Time: seconds(r.packages[pkg].seconds)}
	}
	var doc junitSuites
	for _, id := range r.ids() {
		suite, ok := suites[id.pkg]
		if !ok { // a test of a package that said nothing of itself
			suite = &junitSuite{Name: r.label(id.pkg), Time: seconds(0)}
			suites[id.pkg] = suite
		}
		suite.add(r.label(id.pkg), id.name, r.tests[id])
	}
	for _, pkg := range r.brokenPackages() {
		suites[pkg].Errors, suites[pkg].SystemErr = 1, r.why(pkg)
	}
	for _, suite := range suites {
		doc.Suites = append(doc.Suites, *suite)
		doc.Tests, doc.Failures, doc.Skipped = doc.Tests+suite.Tests, doc.Failures+suite.Failures, doc.Skipped+suite.Skipped
	}
	slices.SortFunc(doc.Suites, func(a, b junitSuite) int { return strings.Compare(a.Name, b.Name) })
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

func (s *junitSuite) add(class, name string, t *testResult) {
	c := junitCase{Class: class, Name: name, Time: seconds(t.seconds)}
	s.Tests++
	switch t.end() {
	case state.Failed:
		s.Failures++
		c.Failure = &junitMessage{Message: firstLine(t.output.String(), "failed"), Text: t.output.String()}
	case state.Skipped:
		s.Skipped++
		c.Skipped = &junitMessage{Message: firstLine(t.output.String(), "skipped")}
	}
	s.Cases = append(s.Cases, c)
}

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 3, 64) }

// firstLine returns the first line that the test wrote itself, or instead.
func firstLine(text, instead string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			return line
		}
	}
	return instead
}

// why returns what a broken package printed: its build's output, or its own.
func (r *results) why(pkg string) string {
	p := r.packages[pkg]
	if b, ok := r.builds[p.failedBuild]; ok && p.failedBuild != "" {
		return b.String()
	}
	return p.output.String()
}
