package sandbox_test

import (
	"encoding/json"
	"reflect"
	"regexp"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// TestJSON encodes what others read: names as in the rest of a document, and no number
// where a word says it.
func TestJSON(t *testing.T) {
	t.Parallel()
	effective := sandbox.Effective{Level: sandbox.Reduced, Why: []string{"no"}, Enforced: []sandbox.Enforcement{{Name: "memory", Value: "1", By: "rlimit"}}}
	b, err := json.Marshal(effective)
	if want := `{"level":"reduced","why":["no"],"enforced":[{"name":"memory","value":"1","by":"rlimit"}]}`; err != nil || string(b) != want {
		t.Errorf("%s, %v; want %s", b, err, want)
	}
	var back sandbox.Effective
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, effective) {
		t.Errorf("read back: %+v, %v", back, err)
	}
	names := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	for _, v := range []any{sandbox.Usage{}, sandbox.ExitStatus{Signal: "SIGKILL", OOM: true, TimedOut: true, OutputLimit: true, Left: true}} {
		b, err := json.Marshal(v)
		var fields map[string]any
		if err != nil || json.Unmarshal(b, &fields) != nil || len(fields) != reflect.TypeOf(v).NumField() {
			t.Errorf("%T: %s, %v", v, b, err)
		}
		for name := range fields {
			if !names.MatchString(name) {
				t.Errorf("%T has the field %q", v, name)
			}
		}
	}
}

// TestLevelJSON reads levels as they are written now and as journals of earlier versions
// have them.
func TestLevelJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]sandbox.Level{`"none"`: sandbox.None, `"full"`: sandbox.Full, "0": sandbox.None, "1": sandbox.Reduced, "2": sandbox.Full} {
		if got := sandbox.None; json.Unmarshal([]byte(text), &got) != nil || got != want {
			t.Errorf("%s is %s", text, got)
		}
	}
	for _, text := range []string{"3", "-1", `"fully"`, "{}", "1.5"} {
		got := sandbox.Reduced
		if err := json.Unmarshal([]byte(text), &got); err == nil || got != sandbox.Reduced {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
}
