package cleanroom

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const tapText = `TAP version 13
1..6
ok 1 adds
not ok 2 - rounds
# (in test file /src/till.bats, line 8)
#   got 3
ok 3 later # SKIP not today
not ok 4 some day # TODO
ok
not ok 6 adds
`

const libtestText = `
running 4 tests
test tests::adds ... ok
test tests::slow ... ignored, takes long
test tests::rounds ... FAILED
test tests::panics - should panic ... ok

failures:

---- tests::rounds stdout ----
thread 'tests::rounds' panicked at src/lib.rs:9:9:
assertion failed

failures:
    tests::rounds

test result: FAILED. 2 passed; 1 failed; 1 ignored
`

func TestReaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		read func(*results) reader
		text string
		want map[string]state.Outcome
		// output is that of the failed test.
		failed, output string
	}{
		"TAP": {func(r *results) reader { return newTAP(r, "u", "/src/") }, tapText, map[string]state.Outcome{
			"adds": state.Passed, "rounds": state.Failed, "later": state.Skipped, "some day": state.Skipped, "": state.Passed, "adds #2": state.Failed,
		}, "rounds", "(in test file till.bats, line 8)\n  got 3\n"},
		"libtest": {func(r *results) reader { return &libtest{results: r, unit: "u", within: "/src/"} }, libtestText, map[string]state.Outcome{
			"tests::adds": state.Passed, "tests::slow": state.Skipped, "tests::rounds": state.Failed, "tests::panics": state.Passed,
		}, "tests::rounds", "thread 'tests::rounds' panicked at src/lib.rs:9:9:\nassertion failed\n"},
		"records": {func(r *results) reader { return &records{results: r, unit: "u", within: "/src/"} },
			"{\"event\":\"pass\",\"name\":\"a\"}\nnot JSON\n{\"event\":\"strange\"}\n{\"event\":\"fail\",\"name\":\"b\",\"output\":\"/src/x.py:3\\n\"}\n{\"event\":\"output\",\"output\":\"x\"}\n{\"event\":\"skip\",\"name\":\"c\"}\n{\"event\":\"end\"}",
			map[string]state.Outcome{"a": state.Passed, "b": state.Failed, "c": state.Skipped}, "b", "x.py:3\n"},
	} {
		for _, chunk := range []int{1, 11, 4096} {
			r := newResults(Bats, "", nil)
			feed(c.read(r), c.text, chunk)
			got := map[string]state.Outcome{}
			for id, test := range r.tests {
				got[id.name] = test.end()
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s in chunks of %d: %v, want %v", name, chunk, got, c.want)
			}
			if out := r.tests[testID{"u", c.failed}].output.String(); out != c.output {
				t.Errorf("%s: output %q, want %q", name, out, c.output)
			}
		}
	}
}

// A file that ends before its plan has not passed.
func TestFilesThatEndEarly(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1..3\nok 1 a\n", "1..1\nBail out! no\n", "ok 1 a\n", ""} {
		r := newResults(Bats, "", nil)
		feed(newTAP(r, "u", "/src/"), text, 5)
		if !r.gates() {
			t.Errorf("%q passes: %v", text, r.checks())
		}
	}
	for name, read := range map[string]func(*results) reader{
		"libtest": func(r *results) reader { return &libtest{results: r, unit: "u", within: "/src/"} },
		"records": func(r *results) reader { return &records{results: r, unit: "u", within: "/src/"} },
	} {
		r := newResults(Python, "", nil)
		feed(read(r), "test a ... ok\n{\"event\":\"pass\",\"name\":\"a\"}\n", 5)
		if !r.gates() {
			t.Errorf("%s passes: %v", name, r.checks())
		}
	}
}

func FuzzReaders(f *testing.F) {
	f.Add([]byte(tapText))
	f.Add([]byte(libtestText))
	f.Add([]byte(`{"event":"fail","name":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func(*results) reader{
			func(r *results) reader { return newTAP(r, "u", "/src/") },
			func(r *results) reader { return &libtest{results: r, unit: "u", within: "/src/"} },
			func(r *results) reader { return &records{results: r, unit: "u", within: "/src/"} },
		} {
			r := newResults(Bats, "", nil)
			feed(read(r), string(b), 64)
			names := map[string]bool{}
			for _, c := range r.checks() {
				if names[c.Name] {
					t.Fatalf("check %q occurs twice", c.Name)
				}
				names[c.Name] = true
			}
			if _, err := trialOf(r, 0).junit(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Every unit is in one shard; the longest units are apart; and equal durations give
// equal plans.
func TestCutByDurations(t *testing.T) {
	t.Parallel()
	s := &suite{name: "sh"}
	var all []share
	for i := range 20 {
		all = append(all, share{suite: s, unit: fmt.Sprintf("%02d", i), seconds: float64(i % 7)}) // some are not known
	}
	seen := map[string]int{}
	plans := map[state.Digest]bool{}
	var loads []float64
	for index := 1; index <= 3; index++ {
		own, plan := cut(slices.Clone(all), state.Shard{Index: index, Count: 3})
		plans[plan] = true
		load := 0.0
		for _, one := range own {
			seen[one.unit]++
			load += one.seconds
		}
		loads = append(loads, load)
	}
	if len(seen) != 20 || len(plans) != 1 || plans[""] || slices.Max(loads)-slices.Min(loads) > 3 {
		t.Errorf("%d units, plans %v, loads %v", len(seen), plans, loads)
	}
	for unit, n := range seen {
		if n != 1 {
			t.Errorf("unit %s is in %d shards", unit, n)
		}
	}
	for i := range all {
		all[i].seconds = 0
	}
	own, plan := cut(all, state.Shard{Index: 2, Count: 3})
	if plan != "" || own[0].unit != "01" || own[1].unit != "04" {
		t.Errorf("without durations: %q, %v", plan, own)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, file string
		want          bool
	}{
		{"**/*_test.sh", "a_test.sh", true}, {"**/*_test.sh", "x/y/a_test.sh", true}, {"tests/**/a.sh", "tests/a.sh", true},
		{"tests/**/a.sh", "other/a.sh", false}, {"*.sh", "x/a.sh", false}, {"a/**", "a/b/c", true}, {"**", "a", true}, {"a", "a/b", false},
		{"**/**/**/**/x", strings.Repeat("a/", 40) + "y", false}, {"**/a/**/b", "a/x/a/y/b", true}, {"a/**/b/**/c", "a/b/b/c/c", true},
		{"a/**", "a", true}, {"a/**/b", "a/b", true}, {"**/a/b", "a/a/a/b", true}, {"**/[/b", "[/b", false},
		{strings.Repeat("**/a/", 30) + "b", strings.Repeat("a/", 60) + "c", false}, // the work must not double with each
	} {
		if got := match(c.pattern, c.file); got != c.want {
			t.Errorf("match(%q, %q) = %t", c.pattern, c.file, got)
		}
	}
}

func TestStripTypes(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{
		"node v20.1.0": "--import tsx", "node v22.5.1": "--import tsx", "node v22.6.0": "--experimental-strip-types", "node v22.18.0": "", "node v23.5.0": "--experimental-strip-types", "node v24.0.0": "",
	} {
		if got := strings.Join(stripTypes(version), " "); got != want {
			t.Errorf("%s: %q, want %q", version, got, want)
		}
	}
}
