//go:build unix

package deploy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// TestDownWithoutHistory: what cannot be read keeps nobody from stopping; it is
// set aside, and said.
func TestDownWithoutHistory(t *testing.T) {
	dir, listen := environment(t)
	mustRun(t, dir, listen, "v1")
	history := filepath.Join(dir, "history.jsonl")
	for _, damage := range []func() error{
		func() error {
			f, err := os.OpenFile(history, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			if _, err := f.WriteString("half a reco\n"); err != nil {
				return err
			}
			return f.Close()
		},
		func() error { // more than a history may have
			if err := os.WriteFile(history, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(history, 64<<20+1)
		},
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		s, _, _ := newStep(dir, listen, "down", "good")
		var said []string
		s.Progress = func(m string) { said = append(said, m) }
		if err := s.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		live, err := s.Target.Live(t.Context())
		if err != nil || live.Traffic != nil || len(live.Instances) != 0 {
			t.Errorf("left: %+v, %v", live, err)
		}
		if !strings.Contains(strings.Join(said, "\n"), "history.jsonl.damaged") {
			t.Errorf("said %q", said)
		}
		if records, err := s.History(); err != nil || len(records) != 0 {
			t.Errorf("new history: %v, %v", records, err)
		}
	}
	if aside, _ := filepath.Glob(history + ".damaged*"); len(aside) != 2 {
		t.Errorf("set aside: %q", aside)
	}
	mustRun(t, dir, listen, "v2")
}

// TestCheck: what is wrong with the options is known before anything runs.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, env := range []string{"", "../../..", "Staging", "a/b"} {
		s, _, _ := newStep(dir, "127.0.0.1:0", "v1", "good")
		s.Environment = env
		if _, err := s.Status(t.Context()); fault.KindOf(err) != fault.Usage {
			t.Errorf("status of %q: %v", env, err)
		}
		if _, err := s.History(); fault.KindOf(err) != fault.Usage {
			t.Errorf("history of %q: %v", env, err)
		}
		if err := s.Down(t.Context()); fault.KindOf(err) != fault.Usage {
			t.Errorf("down of %q: %v", env, err)
		}
	}
}

// TestEmptyHistoryIsAList: programs read it.
func TestEmptyHistoryIsAList(t *testing.T) {
	t.Parallel()
	s, _, _ := newStep(t.TempDir(), "127.0.0.1:0", "v1", "good")
	if records, err := s.History(); err != nil || records == nil {
		t.Errorf("%#v, %v", records, err)
	}
}
