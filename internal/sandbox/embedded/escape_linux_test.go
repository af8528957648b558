package embedded_test

import (
	"os"
	"strings"
	"testing"
)

// TestEscape lists the attempts to leave on machines that allow less; their contract
// tests make them too, and say nothing of it.
func TestEscape(t *testing.T) {
	if os.Getenv("ULTRAFAST_LONG") == "" {
		t.Skip("TestContractPlainUser and TestContractMaskedProc have it; ULTRAFAST_LONG=1 lists it")
	}
	for _, machine := range []string{"plain-user", "masked-proc"} {
		t.Run("escape "+machine, func(t *testing.T) {
			out := onMachine(t, machine, "^TestContractFull$/^escape")
			if !strings.Contains(out, "attempts to leave") {
				t.Errorf("there were no attempts: %s", out)
			}
			for line := range strings.Lines(out) {
				if strings.HasPrefix(line, "          ") || strings.Contains(line, "attempts to leave") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}
