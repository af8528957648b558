package cleanroom

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// endedWell is the stream of a package whose process came to its end: testing.M says FAIL.
var endedWell = strings.Replace(stream, `"panic: test timed out\n"`, `"FAIL\n"`, 1)

// What failed runs again, and nothing else: of Go the tests by name, or the package
// where it failed as a whole or ended before its other tests; not what does not compile.
func TestAgain(t *testing.T) {
	t.Parallel()
	k := task{suite: &suite{runner: golang{}}, units: []string{"./..."}}
	r := parse(endedWell, 100)
	units, tests := r.again(k)
	if !slices.Equal(units, []string{"example.com/shop/store"}) || runPattern(tests) != "^TestHang$|^TestPut$" {
		t.Errorf("again: %v %v", units, tests)
	}
	if units, tests = parse(stream, 100).again(k); !slices.Equal(units, []string{"example.com/shop/store"}) || tests != nil {
		t.Errorf("a package that ended too early: %v %v", units, tests)
	}
	r = newResults(Go, "m", nil)
	feed(&goEvents{results: r}, `{"Action":"fail","Package":"m/a"}`+"\n"+`{"Action":"fail","Package":"m/b","Test":"TestX"}`+"\n"+`{"Action":"fail","Package":"m/b"}`, 9)
	if units, tests = r.again(k); !slices.Equal(units, []string{"m/a", "m/b"}) || tests != nil {
		t.Errorf("with a package that failed as a whole: %v %v", units, tests)
	}
}

// A second attempt takes nothing back but failures.
func TestAbsorb(t *testing.T) {
	t.Parallel()
	first, again := newResults(Python, "", nil), newResults(Python, "", nil)
	first.endTest(testID{"u", "flaky"}, state.Failed, 0, "why")
	first.endTest(testID{"u", "bad"}, state.Failed, 0, "")
	first.endTest(testID{"u", "good"}, state.Passed, 0, "")
	again.endTest(testID{"u", "flaky"}, state.Passed, 0, "")
	again.endTest(testID{"u", "bad"}, state.Failed, 0, "")
	again.endTest(testID{"u", "good"}, state.Failed, 0, "")
	first.absorb(again)
	got := map[string]state.Outcome{}
	for id, test := range first.tests {
		got[id.name] = test.end()
	}
	if want := (map[string]state.Outcome{"flaky": state.Passed, "bad": state.Failed, "good": state.Passed}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	flaky := first.tests[testID{"u", "flaky"}]
	if !flaky.flaky || flaky.attempts != 2 || !strings.Contains(flaky.output.String(), "why") || first.tests[testID{"u", "bad"}].flaky {
		t.Errorf("flaky %+v", flaky)
	}
}

// A test that is flaky, or in quarantine, answers for itself: not for the tests that its
// end kept from running, and not for a process that fails without it.
func TestExcuse(t *testing.T) {
	t.Parallel()
	const failed = `{"Action":"fail","Package":"m/a","Test":"TestX"}` + "\n"
	const passed = `{"Action":"pass","Package":"m/a","Test":"TestX"}` + "\n"
	const said = `{"Action":"output","Package":"m/a","Output":"FAIL\n"}` + "\n"
	const bad = `{"Action":"fail","Package":"m/a"}` + "\n"
	const good = `{"Action":"pass","Package":"m/a"}` + "\n"
	for name, c := range map[string]struct {
		first, again string
		quarantine   bool
		broken       bool
	}{
		"flaky":                             {failed + said + bad, passed + good, false, false},
		"flaky, and the process fails":      {failed + said + bad, passed + said + bad, false, true},
		"ended by a test, then well":        {failed + bad, passed + good, false, false},
		"quarantined":                       {failed + said + bad, "", true, false},
		"quarantined, and ends the package": {failed + bad, "", true, true},
	} {
		tr := trialOf(newResults(Go, "m", nil), 0)
		if c.quarantine {
			tr.quarantine = []Quarantined{{Test: "a.TestX", Owner: "o", Reason: "r", Until: time.Unix(1, 0)}}
		}
		r := tr.suites[0].results
		feed(&goEvents{results: r}, c.first, 100)
		if c.again != "" {
			again := newResults(Go, "m", nil)
			feed(&goEvents{results: again}, c.again, 100)
			r.absorb(again)
		}
		tr.waive(r)
		if got := len(r.broken()) > 0; got != c.broken {
			t.Errorf("%s: broken %v", name, r.broken())
		}
	}
}

// So it is of files that are processes.
func TestExcuseOfFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, again exitStatus
		broken       bool
	}{
		"flaky":                            {exitStatus{Code: 1}, exitStatus{}, false},
		"the process fails without it":     {exitStatus{Code: 1, Wall: 3 * time.Millisecond}, exitStatus{Code: 3, Wall: time.Second}, true},
		"killed, then well":                {exitStatus{Code: 137, TimedOut: true}, exitStatus{}, false},
		"killed both times, for no test's": {exitStatus{Code: 137, TimedOut: true}, exitStatus{Code: 137, TimedOut: true}, true},
	} {
		first, again := newResults(Python, "", nil), newResults(Python, "", nil)
		first.endTest(testID{"u", "x"}, state.Failed, 0, "why")
		first.endUnit("u", c.first, &tail{}, "")
		again.endTest(testID{"u", "x"}, state.Passed, 0, "")
		again.endUnit("u", c.again, &tail{}, "")
		first.absorb(again)
		if got := len(first.broken()) > 0; got != c.broken {
			t.Errorf("%s: broken %v", name, first.broken())
		}
		if u := first.units["u"]; u.seconds != u.status.Wall.Seconds() {
			t.Errorf("%s: %g s, and the status is of a process of %s", name, u.seconds, u.status.Wall)
		}
	}
}

// A part in quarantine excuses what failed because of it alone.
func TestWaive(t *testing.T) {
	t.Parallel()
	q := func(name string) []Quarantined {
		return []Quarantined{{Test: name, Owner: "o", Reason: "r", Until: time.Unix(1, 0)}}
	}
	for name, c := range map[string]struct {
		quarantine []Quarantined
		gates      bool
		waived     int
	}{
		"the subtest":   {q("store.TestPut/empty"), true, 2}, // its parent too; TestHang and bad remain
		"the package":   {q("store"), true, 4},               // and its end, which was no test's
		"a prefix":      {q("store.TestP"), true, 0},
		"another":       {q("shop.TestPut"), true, 0},
		"not compiling": {q("bad"), true, 0},
	} {
		tr := trialOf(parse(stream, 100), 0)
		tr.quarantine = c.quarantine
		r := tr.suites[0].results
		tr.waive(r)
		n, _ := r.count(state.Waived)
		if n != c.waived || r.gates() != c.gates {
			t.Errorf("%s: %d waived, gates %t", name, n, r.gates())
		}
	}
}

func TestLastOfEach(t *testing.T) {
	t.Parallel()
	if got := lastOfEach([]string{"A=1", "B=2", "A=3", "C"}); !slices.Equal(got, []string{"B=2", "A=3", "C"}) {
		t.Errorf("got %v", got)
	}
}

// The first image is that of the first suite, whatever else is tested.
func TestDetectOrder(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"go.mod": "module m\n", "package.json": `{"scripts":{"test":"jest"}}`, "a_test.sh": "", "x.bats": "", "node_modules/y/z.bats": "", "testdata/w_test.sh": ""})
	suites, err := Step{}.suites(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range suites {
		got = append(got, s.name+" "+strings.Join(s.Command, " ")+strings.Join(s.tests, " "))
	}
	if want := []string{"go ", "js npm test", "bats x.bats", "sh a_test.sh"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if _, err := (Step{}).suites(tree(t, map[string]string{"README.md": ""})); err == nil || !strings.Contains(err.Error(), "no go.mod") {
		t.Errorf("got %v", err)
	}
}
