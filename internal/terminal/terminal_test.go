package terminal_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/terminal"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func write(env map[string]string, color string, f func(*terminal.Terminal)) string {
	var buf bytes.Buffer
	start := time.Unix(0, 0)
	f(terminal.New(&buf, terminal.Options{
		Color: color, Start: start, Now: func() time.Time { return start.Add(1500 * time.Millisecond) },
		Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	}))
	return buf.String()
}

var utf8 = map[string]string{"LANG": "C.UTF-8"}

func TestFinal(t *testing.T) {
	t.Parallel()
	got := write(utf8, "auto", func(term *terminal.Terminal) {
		term.PhaseDone(terminal.Row{Name: "market", Outcome: state.Passed, Cached: true, Summary: "2 packages"})
		term.Final(true, "orders 1.0.0 is live", 71800*time.Millisecond, []terminal.Row{
			{Name: "market", Outcome: state.Passed, Cached: true, Duration: 290 * time.Millisecond, Saved: 2600 * time.Millisecond, Summary: "2 packages"},
			{Name: "cleanroom-test", Outcome: state.Passed, Duration: 15 * time.Second, Summary: "12 of 12 tests passed"},
		}, [][2]string{{"state", "layout:/x@sha256:1"}})
	})
	want := `   1.5s market          ok cached  2 packages

✓ orders 1.0.0 is live                                                  71.8 s
  market            0.3 s  cached  2 packages, 2.6 s saved
  cleanroom-test   15.0 s  12 of 12 tests passed

  state      layout:/x@sha256:1
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFailureAndFinding(t *testing.T) {
	t.Parallel()
	got := write(nil, "auto", func(term *terminal.Terminal) {
		term.Finding(finding.Finding{
			Rule: "nonroot", Severity: finding.High, What: "image runs as root", Where: finding.Place{File: "Dockerfile", Line: 3},
			Fix: "USER 65532",
		})
		term.Failure("validate: 1 gate failed\nsecond line", "mend it")
	})
	want := `FAIL high      nonroot  image runs as root
  where      Dockerfile:3
  fix        USER 65532

FAIL validate: 1 gate failed
  second line
  fix        mend it
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestColor(t *testing.T) {
	t.Parallel()
	event := func(term *terminal.Terminal) { term.Event("market", "ok", "x") }
	if got := write(utf8, "always", event); !strings.Contains(got, "\x1b[32mok") {
		t.Errorf("%q", got)
	}
	for _, color := range []string{"never", "auto"} { // a buffer is no terminal
		if got := write(utf8, color, event); strings.Contains(got, "\x1b") {
			t.Errorf("%s: %q", color, got)
		}
	}
}

func TestLocale(t *testing.T) {
	t.Parallel()
	fail := func(term *terminal.Terminal) { term.Failure("x", "") }
	for env, want := range map[string]string{"LANG": "✗", "LC_ALL": "FAIL"} {
		got := write(map[string]string{"LANG": "en_US.UTF-8", env: map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": "C"}[env]}, "auto", fail)
		if !strings.Contains(got, want) {
			t.Errorf("%s decides: %q, want %s", env, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"plain ünïcode ✓":         "plain ünïcode ✓",
		"a\x1b[2Jb":               "a[2Jb",
		"a\r\nb\tc":               "a b c",
		"bad \xff utf8":           "bad ? utf8",
		"right \u202eto left":     "right to left",
		"bell\a":                  "bell",
		strings.Repeat("x", 5000): strings.Repeat("x", 2000) + "…",
	}
	for in, want := range cases {
		if got := terminal.Clean(in); got != want {
			t.Errorf("%.40q: %.40q, want %.40q", in, got, want)
		}
	}
}

// A phase that says nothing is said to be at work, with what it said last; one that
// talks is left alone, and after its end nothing comes.
func TestWatch(t *testing.T) {
	t.Parallel()
	lines := make(lineWriter, 100)
	term := terminal.New(lines, terminal.Options{Now: time.Now, Start: time.Now(), Lookup: func(string) (string, bool) { return "", false }})
	stop := term.Watch("cleanroom-test", 20*time.Millisecond)
	if line := <-lines; !strings.Contains(line, "cleanroom-test  ..") || !strings.Contains(line, "  still at it after 0 s") {
		t.Errorf("got %q", line)
	}
	term.Event("cleanroom-test", "..", "build orders")
	for line := range lines {
		if strings.Contains(line, "build orders, still at it after") {
			break
		}
		if !strings.Contains(line, "build orders") && !strings.Contains(line, "  still at it") {
			t.Errorf("got %q", line)
		}
	}
	stop()
	stop()
	for len(lines) > 0 {
		<-lines
	}
	if got := len(lines); got > 0 {
		t.Errorf("%d lines after the end", got)
	}
}

func TestWatchQuiet(t *testing.T) {
	t.Parallel()
	lines := make(lineWriter, 100)
	term := terminal.New(lines, terminal.Options{Quiet: true, Now: time.Now, Lookup: func(string) (string, bool) { return "", false }})
	term.Watch("market", time.Nanosecond)()
	if len(lines) > 0 {
		t.Errorf("got %q", <-lines)
	}
}

type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) { w <- string(p); return len(p), nil }
