package inside

import (
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// TestUsageOfPayload: what an engine used to make the container is not the payload's, of
// whose time it is no part.
func TestUsageOfPayload(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	s := start{at: begun, cpu: 48 * time.Millisecond}
	got := s.until(begun.Add(5*time.Millisecond), sandbox.Usage{CPU: 52 * time.Millisecond, Memory: 7})
	if want := (sandbox.Usage{Wall: 5 * time.Millisecond, CPU: 4 * time.Millisecond, Memory: 7}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := s.until(begun, sandbox.Usage{}); got.CPU != 0 {
		t.Errorf("a counter that is not there any more gives %s", got.CPU)
	}
}
