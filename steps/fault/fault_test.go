package fault_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func TestKindAndExitCode(t *testing.T) {
	t.Parallel()
	base := errors.New("boom")
	cases := []struct {
		name string
		err  error
		want fault.Kind
		code int
	}{
		{"plain error is a bug", base, fault.Internal, 4},
		{"finding", fault.New(fault.Finding, "", "x"), fault.Finding, 1},
		{"usage", fault.New(fault.Usage, "", "x"), fault.Usage, 2},
		{"unavailable", fault.New(fault.Unavailable, "", "x"), fault.Unavailable, 3},
		{"wrapped by fmt", fmt.Errorf("more: %w", fault.New(fault.Usage, "", "x")), fault.Usage, 2},
		{"wrapped keeps the inner kind", fault.Wrap(fault.New(fault.Finding, "", "x"), fault.Unavailable, "", "doing"), fault.Finding, 1},
		{"wrapped plain takes the outer kind", fault.Wrap(base, fault.Unavailable, "", "doing"), fault.Unavailable, 3},
		{"joined", errors.Join(base, fault.New(fault.Usage, "", "x")), fault.Usage, 2},
		{"cancelled", fmt.Errorf("x: %w", context.Canceled), fault.Interrupted, 130},
		{"deadline", context.DeadlineExceeded, fault.Unavailable, 3},
	}
	for _, c := range cases {
		if got := fault.KindOf(c.err); got != c.want || got.ExitCode() != c.code {
			t.Errorf("%s: kind %v code %d, want %v %d", c.name, got, got.ExitCode(), c.want, c.code)
		}
	}
}

func TestHint(t *testing.T) {
	t.Parallel()
	inner := fault.New(fault.Finding, "inner", "x")
	outer := fault.Wrap(inner, fault.Usage, "outer", "doing")
	if got := fault.HintOf(outer); got != "inner" {
		t.Errorf("hint %q, want that of who was nearest", got)
	}
	if got := fault.HintOf(fault.Wrap(errors.New("x"), fault.Usage, "outer", "doing")); got != "outer" {
		t.Errorf("hint %q", got)
	}
	if got := outer.Error(); got != "doing: x" {
		t.Errorf("message %q", got)
	}
	if fault.Wrap(nil, fault.Usage, "", "x") != nil {
		t.Error("Wrap(nil) is not nil")
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"market", "generate", "validate", "deploy", "name", "q"}
	cases := []struct{ word, want string }{
		{"markte", "market"}, {"generat", "generate"}, {"validaet", "validate"}, {"deplyo", "deploy"},
		{"nmae", "name"}, {"zebra", ""}, {"x", ""}, {"", ""}, {strings.Repeat("a", 1000), ""},
	}
	for _, c := range cases {
		if got, _ := fault.Nearest(c.word, known); got != c.want {
			t.Errorf("Nearest(%.20q) = %q, want %q", c.word, got, c.want)
		}
	}
	if got := fault.DidYouMean("markte", known); got != `did you mean "market"?` {
		t.Errorf("DidYouMean: %q", got)
	}
	if got := fault.DidYouMean("zebra", known); got != "" {
		t.Errorf("DidYouMean: %q", got)
	}
}
