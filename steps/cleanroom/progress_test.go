package cleanroom

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressLater: what lies ready is not announced.
func TestProgressLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said []string
		s := Step{Progress: func(m string) { said = append(said, m) }}
		s.progressLater("at once")()
		done := s.progressLater("in a while")
		time.Sleep(2 * late)
		done()
		if want := []string{"in a while"}; !slices.Equal(said, want) {
			t.Errorf("said %q, want %q", said, want)
		}
	})
}
