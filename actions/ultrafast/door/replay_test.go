package door

import (
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/difference"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestHintOfFlaky names a recorded run that was flaky where tests end otherwise, and
// there alone.
func TestHintOfFlaky(t *testing.T) {
	t.Parallel()
	flaky := &state.Link{Evidence: []state.Evidence{{
		Kind: state.KindRun, Facts: map[string]string{cleanroom.FactRetries: "2", cleanroom.FactFlaky: "1"},
	}}}
	for _, c := range []struct {
		recorded    *state.Link
		field, want string
	}{
		{flaky, "checks[a]", "the recorded run was flaky: 1 of its tests passed within 2 retries"},
		{flaky, "cleanroom.image", "these circumstances are not: key.package"},
		{&state.Link{}, "checks[a]", "these circumstances are not: key.package"},
	} {
		r := Replayed{
			Differences:   &difference.Report{Fields: []difference.Field{{Path: c.field}}},
			Circumstances: []difference.Field{{Path: "key.package"}},
		}
		if got := r.hint(c.recorded); !strings.Contains(got, c.want) {
			t.Errorf("%s differs: %q, want %q", c.field, got, c.want)
		}
	}
}
