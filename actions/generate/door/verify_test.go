package door

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/terminal"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestCompare sees what differs between two renderings.
func TestCompare(t *testing.T) {
	t.Parallel()
	one := rendering{"sha256:1", map[string]state.Digest{"a": "x", "b": "y"}}
	for name, c := range map[string]struct {
		other rendering
		want  string // part of what is told; empty: the same
	}{
		"same":      {one, ""},
		"content":   {rendering{"sha256:1", map[string]state.Digest{"a": "x", "b": "z"}}, "b differs"},
		"more":      {rendering{"sha256:1", map[string]state.Digest{"a": "x", "b": "y", "c": "z"}}, "c differs"},
		"the claim": {rendering{"sha256:2", one.files}, "sha256:1 and sha256:2"},
	} {
		var out, errs bytes.Buffer
		a := &app.App{OS: app.OS{Stdout: &out}, Terminal: terminal.New(&errs, terminal.Options{
			Lookup: func(string) (string, bool) { return "", false }, Now: time.Now,
		})}
		err := compare(a, one, c.other)
		switch {
		case c.want == "" && err != nil, c.want != "" && fault.KindOf(err) != fault.Finding:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && !strings.Contains(errs.String()+err.Error(), c.want):
			t.Errorf("%s: %s%v; want %q", name, &errs, err, c.want)
		}
	}
}
