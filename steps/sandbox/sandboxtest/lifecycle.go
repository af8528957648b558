package sandboxtest

import (
	"bufio"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

func (s *suite) names(t *testing.T) {
	for _, name := range []string{"", "-a", "a-", "a/b", "..", "a b", strings.Repeat("a", 64)} {
		e, err := s.backend.Create(deadline(t), sandbox.EnvironmentSpec{Name: name})
		if err == nil {
			_ = e.Close(context.Background())
		}
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("environment %q: %v, want a usage error", name, err)
		}
	}
	e := s.environment(t, sandbox.Limits{})
	_, err := s.backend.Create(deadline(t), sandbox.EnvironmentSpec{Name: e.Name()})
	if fault.KindOf(err) != fault.Finding {
		t.Errorf("a second environment of one name: %v", err)
	}
	first := s.running(t, e, s.spec(e, "same", "hold"))
	if _, err := e.Start(deadline(t), s.spec(e, "same", "hold")); fault.KindOf(err) != fault.Usage {
		t.Errorf("a second container of one name: %v", err)
	}
	if err := first.Kill(deadline(t)); err != nil {
		t.Error(err)
	}
	run(t, e, s.spec(e, "same", "exit", "0")).want(t, "")
}

func (s *suite) listDelete(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	mark := markOf(t)
	c := s.running(t, e, s.spec(e, "tree", "tree", mark))
	find := func() (sandbox.Info, bool) {
		list, err := s.backend.List(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(list, func(a, b sandbox.Info) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("the list is not sorted: %v", list)
		}
		i := slices.IndexFunc(list, func(i sandbox.Info) bool { return i.Name == e.Name() })
		if i < 0 {
			return sandbox.Info{}, false
		}
		return list[i], true
	}
	info, ok := find()
	if !ok || !info.Alive || info.Level != s.Level || info.Backend != s.backend.Name() || time.Since(info.Created) > time.Hour {
		t.Errorf("%+v, %t", info, ok)
	}
	if err := s.backend.Delete(deadline(t), "no-such-environment"); fault.KindOf(err) != fault.Finding {
		t.Errorf("delete of nothing: %v", err)
	}
	if err := s.backend.Delete(deadline(t), e.Name()); err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(deadline(t)); err != nil || st.OK() {
		t.Errorf("a container of a deleted environment: %v, %v", st, err)
	}
	none(t, mark)
	if info, ok := find(); ok {
		t.Errorf("%+v is still listed", info)
	}
	if _, err := e.Start(deadline(t), s.spec(e, "late", "exit", "0")); err == nil {
		t.Error("a container starts in a deleted environment")
	}
}

func (s *suite) effective(t *testing.T) {
	e := s.environment(t, sandbox.Limits{Memory: 300 << 20, PIDs: 77})
	eff := e.Effective()
	if eff.Level != s.Level || (eff.Level < sandbox.Full) != (len(eff.Why) > 0) {
		t.Errorf("level %s, because %q", eff.Level, eff.Why)
	}
	byName := map[string]sandbox.Enforcement{}
	last := ""
	for _, en := range eff.Enforced {
		if en.Name <= last || en.Value == "" || en.By == "" {
			t.Errorf("%+v after %q", en, last)
		}
		byName[en.Name], last = en, en.Name
	}
	for _, name := range []string{"memory", "pids", "cpu", "disk", "files", "wall", "output", "network", "processes", "filesystem", "user", "capabilities", "seccomp", "privileges"} {
		if _, ok := byName[name]; !ok {
			t.Errorf("nothing is said of %s", name)
		}
	}
	for _, name := range s.Limited {
		if byName[name].By == notEnforced {
			t.Errorf("%+v", byName[name])
		}
	}
	if !slices.Contains(s.Limited, "pids") && byName["pids"].By != notEnforced {
		t.Errorf("%+v, and it is not", byName["pids"])
	}
	if slices.Contains(s.Limited, "memory") && !strings.Contains(byName["memory"].Value, "314572800") ||
		slices.Contains(s.Limited, "pids") && !strings.Contains(byName["pids"].Value, "77") {
		t.Errorf("%+v %+v are not what was asked for", byName["memory"], byName["pids"])
	}
	if s.Level == sandbox.None && byName["network"].By != notEnforced {
		t.Errorf("%+v at level none", byName["network"])
	}
}

func (s *suite) closeLeavesNothing(t *testing.T) {
	mark := markOf(t)
	e, err := s.backend.Create(deadline(t), sandbox.EnvironmentSpec{Name: "closed-" + mark, MinIsolation: s.Level})
	if err != nil {
		t.Fatal(err)
	}
	c := s.running(t, e, s.spec(e, "tree", "tree", mark))
	s.payload(t, e, "exit", "0").want(t, "")
	for range 2 {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Wait(deadline(t)); err != nil {
		t.Error(err)
	}
	none(t, mark)
	s.nothingLeft(t, mark)
}

// notEnforced is the mechanism of what is not enforced: see [sandbox.Enforcement].
const notEnforced = "not enforced"

// nothingLeft checks that nothing is left of environments with mark in their name.
func (s *suite) nothingLeft(t *testing.T, mark string) {
	t.Helper()
	if s.Leftovers == nil {
		return
	}
	if left := s.Leftovers(t, mark); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func (s *suite) closeAfterCancel(t *testing.T) {
	mark := markOf(t)
	ctx, cancel := context.WithCancel(deadline(t))
	e, err := s.backend.Create(ctx, sandbox.EnvironmentSpec{Name: "cancelled-" + mark, MinIsolation: s.Level})
	if err != nil {
		t.Fatal(err)
	}
	s.running(t, e, s.spec(e, "tree", "tree", mark))
	cancel()
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
	none(t, mark)
	if e, err := s.backend.Create(ctx, sandbox.EnvironmentSpec{Name: "late-" + mark}); err == nil {
		_ = e.Close(context.Background())
		t.Error("a cancelled create succeeds")
	}
}

func (s *suite) killedCreator(t *testing.T) {
	if s.Creator == nil {
		t.Skip("the environments of this back end do not depend on their creator")
	}
	mark := markOf(t)
	cmd, backend := s.Creator(t, mark)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != readyLine {
		_ = cmd.Process.Kill()
		t.Fatalf("the creator says %q, %v", line, err)
	}
	list, err := backend.List(deadline(t))
	if err != nil || len(list) != 1 || !list[0].Alive {
		t.Errorf("before: %+v, %v", list, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	// The kernel, or the supervisor, ends the rest after the creator and tells nobody.
	eventually(t, "a process outlives its creator", func() bool { return len(marked(t, mark)) == 0 })
	eventually(t, "the environment still answers", func() bool {
		list, err = backend.List(deadline(t))
		return err != nil || len(list) != 1 || !list[0].Alive
	})
	if err != nil || len(list) != 1 {
		t.Fatalf("afterwards: %+v, %v", list, err)
	}
	if err := backend.Delete(deadline(t), list[0].Name); err != nil {
		t.Error(err)
	}
	s.nothingLeft(t, mark)
}

// eventually waits until ok.
func eventually(t *testing.T, otherwise string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for ctx := deadline(t); !ok(); {
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatal(otherwise)
		}
	}
}
