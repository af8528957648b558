package validate

import (
	"context"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// The rules of opinions hold whatever a check says.
func TestDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		opinion opinion
		want    state.Outcome
		kind    fault.Kind
	}{
		"pass with evidence":            {pass("seen"), state.Passed, 0},
		"pass without evidence":         {pass(), state.Unknown, 0},
		"not applicable with a reason":  {notApplicable("why"), state.NotApplicable, 0},
		"not applicable without reason": {notApplicable(""), state.Unknown, 0},
		"fail":                          {fail(finding.Finding{What: "x"}), state.Failed, 0},
		"unknown":                       {unknown("why"), state.Unknown, 0},
		"waived by itself":              {opinion{outcome: state.Waived, evidence: []string{"x"}}, "", fault.Internal},
		"nothing":                       {opinion{}, "", fault.Internal},
	} {
		check := Check{ID: "x", Severity: finding.High, run: func(context.Context, *subject) (opinion, error) { return c.opinion, nil }}
		r, err := check.decide(t.Context(), nil)
		if r.Outcome != c.want || (c.want == "") != (err != nil) {
			t.Errorf("%s: %s, %v; want %s", name, r.Outcome, err, c.want)
		}
		if f, bad := r.finding(); bad != (r.Outcome == state.Failed || r.Outcome == state.Unknown) || bad && (f.Rule != "x" || f.What == "" || f.Severity != finding.High) {
			t.Errorf("%s: finding %+v, %v", name, f, bad)
		}
	}
}

// What a check saw of a run that was cut short proves nothing.
func TestDecideAfterCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	check := Check{ID: "x", run: func(context.Context, *subject) (opinion, error) { cancel(); return pass("seen"), nil }}
	if r, err := check.decide(ctx, nil); fault.KindOf(err) != fault.Interrupted || r.Outcome != "" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestRecent(t *testing.T) {
	t.Parallel()
	var r recent
	for range 3 * maxSaid {
		_, _ = r.Write([]byte("ab"))
	}
	_, _ = r.Write([]byte(strings.Repeat("x", 2*maxSaid) + "end"))
	if got := r.String(); len(got) != maxSaid || !strings.HasSuffix(got, "xend") {
		t.Errorf("kept %d bytes: …%s", len(got), got[max(0, len(got)-20):])
	}
}

func FuzzLock(f *testing.F) {
	f.Add("module x\n\nrequire (\n\ta v1 // indirect\n)\nreplace a v1 => ./b\n", "a v1 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	f.Add("require \"a\" v1\nreplace a => b v2", "b v2/go.mod h1:x")
	f.Fuzz(func(t *testing.T, mod, sum string) {
		m, err := parseMod(mod)
		if err != nil {
			return
		}
		sums, err := parseSums(sum)
		if err != nil {
			return
		}
		for _, r := range m.missing(sums) {
			if r.line < 1 || r.path == "" {
				t.Fatalf("requirement without a place: %+v", r)
			}
		}
	})
}
