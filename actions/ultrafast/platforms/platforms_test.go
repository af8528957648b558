// Package platforms takes the example orders through its phases on real CI runners,
// with the images, actions and templates that a user gets, and compares the claims
// of the chain with those that the command line makes. It holds tests alone.
//
// The environment variable ULTRAFAST_PLATFORMS names the platforms, separated by
// commas, and asks for the full form: what is missing is then an error.
//
//	ULTRAFAST_PLATFORMS=act-host,act-image,gitlab,tekton go test ./actions/ultrafast/platforms
//
// Without it a short form runs for act on the host alone, and is skipped where there
// is no act or no Docker.
package platforms

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

const variable = "ULTRAFAST_PLATFORMS"

// The platforms.
const (
	actHost  = "act-host"
	actImage = "act-image"
	gitlab   = "gitlab"
	tekton   = "tekton"
)

// asked are the platforms that the environment asks for; empty for the short form.
var asked = strings.FieldsFunc(os.Getenv(variable), func(r rune) bool { return r == ',' || r == ' ' })

func TestMain(m *testing.M) {
	for _, name := range asked {
		if known := []string{actHost, actImage, gitlab, tekton}; !slices.Contains(known, name) {
			fmt.Fprintf(os.Stderr, "%s: unknown platform %q; write some of %s\n", variable, name, strings.Join(known, ","))
			os.Exit(2)
		}
	}
	os.Exit(withRig(m.Run))
}

// on skips the test unless it is about a platform that was asked for, or about the one
// of the short form.
func on(t *testing.T, platform string) {
	t.Helper()
	switch {
	case slices.Contains(asked, platform):
	case len(asked) == 0 && platform == actHost && !testing.Short():
	default:
		t.Skipf("%s does not ask for %s", variable, platform)
	}
}

// full reports whether platforms were asked for by name.
func full() bool { return len(asked) > 0 }

// missing ends the test that cannot run here: skipped in the short form, failed where
// it was asked for.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if full() {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
