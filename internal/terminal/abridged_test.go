package terminal

import (
	"fmt"
	"strings"
	"testing"
)

// TestLongReason shows how it begins and how it ends.
func TestLongReason(t *testing.T) {
	t.Parallel()
	lines := func(n int) (text string) {
		for i := range n {
			text += fmt.Sprintf("line %d\n", i+1)
		}
		return text
	}
	for n, want := range map[int]string{1: "", 17: "", 18: "line 4\n… 2 lines …\nline 7\n", 300: "line 4\n… 284 lines …\nline 289\n"} {
		got := abridged(lines(n))
		if want == "" && got != lines(n) || !strings.Contains(got, want) || !strings.HasSuffix(strings.TrimSpace(got), fmt.Sprintf("line %d", n)) {
			t.Errorf("%d lines: %s", n, got)
		}
	}
}
