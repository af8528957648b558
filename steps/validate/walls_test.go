package validate_test

import (
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// The checks that start the service must come to the same end at every level.
func TestRunBehindWalls(t *testing.T) {
	t.Parallel()
	for _, level := range []sandbox.Level{sandbox.Full, sandbox.Reduced, sandbox.None} {
		t.Run(level.String(), func(t *testing.T) {
			t.Parallel()
			back := embedded.New(embedded.Options{StateDir: t.TempDir(), MaxLevel: &level})
			caps, err := back.Probe(t.Context())
			if err != nil || caps.Level < level {
				t.Skipf("no isolation level %s here: %v %v", level, caps.Refused, err)
			}
			for mode, want := range map[string]state.Outcome{"": state.Passed, "abrupt": state.Failed} {
				l := newLab(t)
				l.step.Backend, l.step.MinIsolation = back, level
				l.mode(mode)
				res, err := l.run(t, l.state(t))
				if got := outcome(res, "graceful-shutdown"); got != want || outcome(res, "health-endpoint") != state.Passed {
					t.Errorf("mode %q: %s, want %s: %v", mode, got, want, err)
				}
				if want == state.Failed && fault.KindOf(err) != fault.Finding {
					t.Errorf("mode %q: error %v", mode, err)
				}
				if res.Evidence.Facts["isolation.level"] != level.String() {
					t.Errorf("ran at level %q", res.Evidence.Facts["isolation.level"])
				}
			}
		})
	}
}
