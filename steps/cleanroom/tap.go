package cleanroom

import (
	"regexp"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// tap reads the Test Anything Protocol of one unit, versions 12 to 14 without
// subtests, which are lines of their test (https://testanything.org).
type tap struct {
	*results
	unit   string
	within string
	lines  lines
	// last is the test that comment lines belong to.
	last testID
	// planned is the number of tests in the plan, -1 before it; seen how many came.
	planned, seen int
	bailed        bool
}

func newTAP(r *results, unit, within string) *tap {
	return &tap{results: r, unit: unit, within: within, planned: -1}
}

// Write takes a part of the stream.
func (t *tap) Write(p []byte) (int, error) { return t.lines.write(p, t.line) }

// end makes a test of the tests that were planned and never came.
func (t *tap) end(status exitStatus) {
	t.lines.flush(t.line)
	if t.seen < t.planned || t.planned < 0 && status.OK() || t.bailed {
		t.cutShort(t.unit, status)
	}
}

var (
	tapTest = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(not )?ok\b *(\d*)(?: -)? *(.*)$`) })
	tapPlan = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^1\.\.(\d{1,6})\b`) })
	tapWord = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)^(.*?)\s*(?:[^\\]|^)# *(skip|todo)\b\S*\s*(.*)$`)
	})
)

func (t *tap) line(line []byte, tooLong bool) {
	if tooLong {
		t.dropped++
		return
	}
	text := strings.ReplaceAll(string(line), t.within, "")
	t.say(text + "\n")
	if m := tapTest().FindStringSubmatch(text); m != nil {
		t.take(m[1] != "", m[2], m[3])
		return
	}
	if m := tapPlan().FindStringSubmatch(text); m != nil {
		t.planned = 0
		for _, digit := range m[1] {
			t.planned = t.planned*10 + int(digit-'0')
		}
		return
	}
	t.bailed = t.bailed || strings.HasPrefix(text, "Bail out!")
	if t.last.unit == "" || strings.TrimSpace(text) == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if test := t.tests[t.last]; test != nil && test.outcome == state.Failed {
		test.output.add(strings.TrimPrefix(strings.TrimPrefix(text, "#"), " ") + "\n")
	}
}

func (t *tap) take(failed bool, number, name string) {
	t.seen++
	o, why := state.Passed, ""
	if failed {
		o = state.Failed
	}
	if m := tapWord().FindStringSubmatch(name); m != nil {
		name, why = m[1], m[3]
		// A todo that fails is expected to, and one that passes has no promise yet.
		o = state.Skipped
	}
	if name = strings.TrimSpace(name); name == "" {
		name = number
	}
	t.last = t.fresh(t.unit, name)
	t.endTest(t.last, o, 0, why)
}
