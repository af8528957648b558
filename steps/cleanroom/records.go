package cleanroom

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// records reads what our reporters say of the tests of one unit: a JSON object a line.
type records struct {
	*results
	unit string
	// within is cut from output; see [goEvents].
	within string
	lines  lines
	ended  bool
}

type record struct {
	// Event is "pass", "fail", "skip", "output" for what a test printed, or "end" when all
	// tests have run.
	Event   string  `json:"event"`
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Output  string  `json:"output"`
}

// Write takes a part of the stream.
func (r *records) Write(p []byte) (int, error) { return r.lines.write(p, r.line) }

func (r *records) end(status exitStatus) {
	r.lines.flush(r.line)
	if !r.ended && status.OK() {
		r.cutShort(r.unit, status)
	}
}

func (r *records) line(line []byte, tooLong bool) {
	var one record
	switch {
	case tooLong:
		r.dropped++
		return
	case len(bytes.TrimSpace(line)) == 0:
		return
	case json.Unmarshal(line, &one) == nil && one.Event == "end":
		r.ended = true
		return
	case json.Unmarshal(line, &one) != nil || one.Event != "output" && outcomes[one.Event] == "":
		r.strange++
		r.say(string(line) + "\n")
		return
	}
	one.Output = strings.ReplaceAll(one.Output, r.within, "")
	r.say(one.Output)
	if o := outcomes[one.Event]; o != "" {
		if o != state.Passed {
			r.say("# " + one.Event + ": " + one.Name + "\n")
		}
		r.endTest(r.fresh(r.unit, one.Name), o, one.Seconds, one.Output)
	}
}
