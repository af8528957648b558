package cleanroom

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// stream is what `go test -json ./...` says about a module with a passing, a
// failing, a skipped and a panicking test and a package that does not compile.
const stream = `{"Action":"start","Package":"example.com/shop"}
{"Action":"run","Package":"example.com/shop","Test":"TestMain2"}
{"Action":"output","Package":"example.com/shop","Test":"TestMain2","Output":"=== RUN   TestMain2\n"}
{"Action":"pass","Package":"example.com/shop","Test":"TestMain2","Elapsed":0.25}
{"Action":"pass","Package":"example.com/shop","Elapsed":0.3}
{"ImportPath":"example.com/shop/bad [example.com/shop/bad.test]","Action":"build-output","Output":"# example.com/shop/bad [example.com/shop/bad.test]\n"}
{"ImportPath":"example.com/shop/bad [example.com/shop/bad.test]","Action":"build-output","Output":"bad/bad_test.go:5:2: undefined: x\n"}
{"ImportPath":"example.com/shop/bad [example.com/shop/bad.test]","Action":"build-fail"}
{"Action":"start","Package":"example.com/shop/bad"}
{"Action":"output","Package":"example.com/shop/bad","Output":"FAIL\texample.com/shop/bad [build failed]\n"}
{"Action":"fail","Package":"example.com/shop/bad","Elapsed":0,"FailedBuild":"example.com/shop/bad [example.com/shop/bad.test]"}
{"Action":"run","Package":"example.com/shop/store","Test":"TestPut"}
{"Action":"run","Package":"example.com/shop/store","Test":"TestPut/empty"}
{"Action":"output","Package":"example.com/shop/store","Test":"TestPut/empty","Output":"    put_test.go:12: got 1,"}
{"Action":"output","Package":"example.com/shop/store","Test":"TestPut/empty","Output":" want 2\n"}
{"Action":"fail","Package":"example.com/shop/store","Test":"TestPut/empty","Elapsed":0.01}
{"Action":"fail","Package":"example.com/shop/store","Test":"TestPut","Elapsed":0.01}
{"Action":"skip","Package":"example.com/shop/store","Test":"TestSlow","Elapsed":0}
{"Action":"run","Package":"example.com/shop/store","Test":"TestHang"}
{"Action":"output","Package":"example.com/shop/store","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"example.com/shop/store","Elapsed":1.5}
`

func parse(text string, chunk int) *results {
	r := newResults(Go, "example.com/shop", nil)
	feed(&goEvents{results: r}, text, chunk)
	return r
}

// feed gives a reader a text in chunks of so many bytes.
func feed(r reader, text string, chunk int) {
	for len(text) > 0 {
		n := min(chunk, len(text))
		_, _ = r.Write([]byte(text[:n])) // never fails
		text = text[n:]
	}
	r.end(exitStatus{})
}

// trialOf returns a trial that has come to these results.
func trialOf(r *results, seed uint64) *trial {
	return &trial{seed: seed, suites: []*suite{{name: string(r.kind), Suite: Suite{Runner: r.kind}, results: r, runner: runners[r.kind]}}}
}

func TestResults(t *testing.T) {
	t.Parallel()
	for _, chunk := range []int{1, 7, len(stream)} {
		r := parse(stream, chunk)
		want := []state.Check{
			{Name: "shop.TestMain2", Outcome: state.Passed}, {Name: "store.TestHang", Outcome: state.Failed},
			{Name: "store.TestPut", Outcome: state.Failed}, {Name: "store.TestPut/empty", Outcome: state.Failed},
			{Name: "store.TestSlow", Outcome: state.Skipped},
		}
		if got := r.checks(); !reflect.DeepEqual(got, want) {
			t.Errorf("chunks of %d: checks %v, want %v", chunk, got, want)
		}
		if got := r.tests[testID{"example.com/shop/store", "TestPut/empty"}].output.String(); got != "    put_test.go:12: got 1, want 2\n" {
			t.Errorf("output %q", got)
		}
		if got := r.broken(); !reflect.DeepEqual(got, []string{"example.com/shop/bad"}) {
			t.Errorf("broken packages %v", got)
		}
		if got := r.why("example.com/shop/bad"); !strings.Contains(got, "undefined: x") {
			t.Errorf("why %q", got)
		}
		if r.strange != 0 || r.incomplete() != "" {
			t.Errorf("strange %d, incomplete %q", r.strange, r.incomplete())
		}
	}
}

func TestResultsFailOnce(t *testing.T) {
	t.Parallel()
	// A process may print what it likes; a failure is never taken back.
	r := parse(`{"Action":"fail","Package":"p","Test":"T"}`+"\n"+`{"Action":"pass","Package":"p","Test":"T"}`, 9)
	if got := r.checks(); len(got) != 1 || got[0].Outcome != state.Failed {
		t.Errorf("checks %v", got)
	}
}

func TestResultsStrangeLines(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	r := newResults(Go, "m", func(s string) { log.WriteString(s) })
	feed(&goEvents{results: r}, "go: downloading\n\n{\"Action\":\n{}\n{\"Action\":\"pass\"}\n{\"Action\":\"output\",\"Package\":\"m\",\"Output\":\"hello\\n\"}", 5)
	if r.strange != 4 || !strings.Contains(log.String(), "go: downloading\n") || !strings.Contains(log.String(), "hello\n") {
		t.Errorf("%d strange lines, log %q", r.strange, log.String())
	}
}

func TestResultsBounds(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine+1)
	for name, text := range map[string]string{
		"line":    `{"Action":"output","Package":"p","Test":"T","Output":"` + long + `"}` + "\n",
		"name":    `{"Action":"pass","Package":"p","Test":"` + long[:maxName+1] + `"}` + "\n",
		"package": `{"Action":"pass","Package":"` + long[:maxName+1] + `"}` + "\n",
	} {
		if r := parse(text, 1<<16); r.incomplete() == "" {
			t.Errorf("%s: nothing was dropped", name)
		}
	}
	r := newResults(Go, "p", nil)
	events := &goEvents{results: r}
	for i := range maxTests + 2 {
		events.take(event{Action: "pass", Package: "p", Test: fmt.Sprint("T", i)})
	}
	if len(r.tests) != maxTests || r.dropped != 2 {
		t.Errorf("kept %d tests, dropped %d", len(r.tests), r.dropped)
	}
	var out tail
	for i := range 10_000 {
		out.add(fmt.Sprintln("line", i, long[:i%3000]))
	}
	text := out.String()
	if limit := maxTailBytes + (maxHeadLines+1)*maxLineKept; len(text) > limit {
		t.Errorf("tail has %d bytes, more than %d", len(text), limit)
	}
	for _, part := range []string{"line 0 ", "line 9999 ", "lines left out)"} {
		if !strings.Contains(text, part) {
			t.Errorf("tail lacks %q: %.200q", part, text)
		}
	}
}

func TestResultsLabelsAreUnique(t *testing.T) {
	t.Parallel()
	r := newResults(Go, "example.com/shop", nil)
	events := &goEvents{results: r}
	for _, pkg := range []string{"example.com/shop", "example.com/shop/shop", "example.com/shop/a"} {
		events.take(event{Action: "pass", Package: pkg, Test: "TestX"})
		events.take(event{Action: "pass", Package: pkg})
	}
	want := []string{"a.TestX", "example.com/shop.TestX", "shop.TestX"}
	var got []string
	for _, c := range r.checks() {
		got = append(got, c.Name)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
}

func TestReports(t *testing.T) {
	t.Parallel()
	tr := trialOf(parse(stream, 100), 7)
	b, err := tr.junit()
	if err != nil {
		t.Fatal(err)
	}
	var suites junitSuites
	if err := xml.Unmarshal(b, &suites); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if suites.Tests != 6 || suites.Failures != 3 || suites.Errors != 1 || suites.Skipped != 1 || len(suites.Suites) != 3 {
		t.Errorf("%d tests, %d failures, %d skipped in %d suites\n%s", suites.Tests, suites.Failures, suites.Skipped, len(suites.Suites), b)
	}
	if s := suites.Suites[0]; s.Name != "bad" || s.Errors != 1 || len(s.Cases) != 1 || s.Cases[0].Error == nil || !strings.Contains(s.Cases[0].Error.Text, "undefined: x") {
		t.Errorf("broken package reported as %+v", s)
	}
	if b, err = tr.json(); err != nil {
		t.Fatal(err)
	}
	var doc report
	if err := json.Unmarshal(b, &doc); err != nil || len(doc.Tests) != 5 || doc.Seed != "7" {
		t.Errorf("%v: %s", err, b)
	}
}

// How a process ended is said where it did not say so itself, and where it could not.
func TestJUnitSaysHowAProcessEnded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		printed string
		status  exitStatus
		named   bool // whether the test has a name of its own in the file
		want    string
	}{
		{"", exitStatus{Code: 3}, false, "exit code 3"},
		{"no such table\n", exitStatus{Code: 3}, false, "no such table"},
		{"", exitStatus{Code: 139, Signal: "SIGSEGV"}, false, "ended by signal SIGSEGV"},
		{"a line of many\n", exitStatus{Code: 137, OutputLimit: true}, false, "killed: wrote more output than its limit"},
		{"waiting\n", exitStatus{Code: 137, TimedOut: true}, true, "killed: ran longer than its limit (0s)"},
	} {
		r := newResults(Shell, "", nil)
		var text tail
		text.add(c.printed)
		id := testID{unit: "a_test.sh"}
		outcome := state.Failed
		if c.named {
			id.name, outcome = "test x", state.Passed
		}
		r.endTest(id, outcome, 0, c.printed)
		r.endUnit("a_test.sh", c.status, &text, "")
		s := r.junit()["a_test.sh"]
		last := s.Cases[len(s.Cases)-1]
		got := last.Failure
		if c.named {
			got = last.Error
		}
		if got == nil || got.Message != c.want || s.Failures+s.Errors != 1 {
			t.Errorf("%q, %s: %+v in %+v", c.printed, c.status, got, s)
		}
	}
}

// Control characters cannot be in XML; a report that no reader accepts is lost.
func TestJUnitIsXMLWhateverIsPrinted(t *testing.T) {
	t.Parallel()
	r := newResults(Go, "p", nil)
	events := &goEvents{results: r}
	events.take(event{Action: "output", Package: "p", Test: "T", Output: "\x00\x1b[31m\xff]]>&<\n"})
	events.take(event{Action: "fail", Package: "p", Test: "T"})
	b, err := trialOf(r, 0).junit()
	if err != nil {
		t.Fatal(err)
	}
	var suites junitSuites
	if err := xml.Unmarshal(b, &suites); err != nil {
		t.Errorf("%v\n%q", err, b)
	}
}

func FuzzResults(f *testing.F) {
	f.Add([]byte(stream))
	f.Add([]byte("{\"Action\":\"fail\",\"Package\":\"example.com/shop\"}\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newResults(Go, "example.com/shop", nil)
		events := &goEvents{results: r}
		if n, err := events.Write(b); n != len(b) || err != nil {
			t.Fatal(n, err)
		}
		events.end(exitStatus{})
		names := map[string]bool{}
		for _, c := range r.checks() {
			if names[c.Name] {
				t.Fatalf("check %q occurs twice", c.Name)
			}
			names[c.Name] = true
		}
		x, err := trialOf(r, 0).junit()
		if err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(x, new(junitSuites)); err != nil {
			t.Fatalf("%v\n%q", err, x)
		}
		if _, err := trialOf(r, 0).json(); err != nil {
			t.Fatal(err)
		}
	})
}
