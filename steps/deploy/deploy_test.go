//go:build unix

package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/rollout"
	"github.com/ultrafast-ci/ultrafast/steps/deploy"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// served asks the environment which version it serves.
func served(t *testing.T, listen string) string {
	t.Helper()
	res, err := http.Get("http://" + listen + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// running are the versions whose processes run.
func running(t *testing.T, s deploy.Step) []string {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, i := range st.Live.Instances {
		if i.Running {
			out = append(out, i.Release)
		}
	}
	return out
}

func outcomes(t *testing.T, s deploy.Step) string {
	t.Helper()
	history, err := s.History()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range history {
		out = append(out, fmt.Sprintf("%s %s", r.Action, r.Outcome))
	}
	return strings.Join(out, ", ")
}

func TestDeployReplaceUnchangedRollbackDown(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	s, in, blobs := newStep(dir, listen, "v1", "good")
	push := &pushed{}
	s.Pusher, s.Destination = push, "layout:registry"
	preview, err := s.Plan(t.Context(), in)
	if err != nil || preview.Action != "create" {
		t.Fatalf("%+v, %v", preview, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the plan made a directory")
	}
	first, err := s.Run(t.Context(), in, blobs)
	if err != nil {
		t.Fatal(err)
	}
	if got := served(t, listen); got != "v1" {
		t.Errorf("serves %q", got)
	}
	if first.Entry.Deploy.Plan != preview.Digest || len(push.refs) != 1 || !strings.Contains(push.refs[0], string(first.Entry.Deploy.Image)) {
		t.Errorf("plan %s, preview %s, pushed %v", first.Entry.Deploy.Plan, preview.Digest, push.refs)
	}
	again, err := s.Run(t.Context(), in, blobs)
	if err != nil || !strings.HasPrefix(again.Evidence.Summary, "unchanged") || again.Evidence.Facts["deploy.action"] != "unchanged" {
		t.Fatalf("%+v, %v", again.Evidence, err)
	}
	if claim(t, first) != claim(t, again) {
		t.Errorf("the same deploy claims %s, then %s", claim(t, first), claim(t, again))
	}
	mustRun(t, dir, listen, "v2")
	if got := served(t, listen); got != "v2" {
		t.Errorf("serves %q after the second deploy", got)
	}
	o, err := s.Rollback(t.Context())
	if err != nil || o.Outcome != rollout.Promoted || o.Serving != o.Release {
		t.Fatalf("%+v, %v", o, err)
	}
	if got := served(t, listen); got != "v1" {
		t.Errorf("serves %q after the rollback", got)
	}
	if got := running(t, s); len(got) != 1 || got[0] != o.Serving {
		t.Errorf("%v run", got)
	}
	if _, err := s.Rollback(t.Context()); fault.KindOf(err) != fault.Finding {
		t.Errorf("a rollback without a release to go back to: %v", err)
	}
	for range 2 {
		if err := s.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := running(t, s); len(got) != 0 {
		t.Errorf("%v run after down", got)
	}
	if c, err := net.Dial("tcp", listen); err == nil {
		_ = c.Close()
		t.Error("something listens after down")
	}
	if got := outcomes(t, s); got != "deploy promoted, deploy promoted, rollback promoted, down stopped" {
		t.Errorf("history: %s", got)
	}
}

func claim(t *testing.T, r state.Result) string {
	t.Helper()
	r.Entry.Phase = phase.Deploy
	r.Entry.Normalize()
	b, err := r.Entry.Claim()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestClaimIsTheSameElsewhere: another directory and port give equal bytes.
func TestClaimIsTheSameElsewhere(t *testing.T) {
	t.Parallel()
	var claims []string
	for range 2 {
		dir, listen := environment(t)
		res := mustRun(t, dir, listen, "v1")
		claims = append(claims, claim(t, res))
		if _, port, _ := net.SplitHostPort(listen); strings.Contains(claims[0], dir) || strings.Contains(claims[0], port) {
			t.Errorf("the claim names this host: %s", claims[0])
		}
	}
	if claims[0] != claims[1] {
		t.Errorf("claims differ:\n%s\n%s", claims[0], claims[1])
	}
}

// TestBadReleases: each is refused, taken back, recorded, and what served serves on.
func TestBadReleases(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	mustRun(t, dir, listen, "v1")
	for mode, check := range map[string]string{"sick": deploy.CheckHealth, "exits": deploy.CheckHealth, "broken": deploy.CheckSmoke} {
		s, in, blobs := newStep(dir, listen, "v2-"+mode, mode)
		s.Service.HealthTimeout = 300e6
		before := running(t, s)
		res, err := s.Run(t.Context(), in, blobs)
		if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "serves on") {
			t.Errorf("%s: %v (%v)", mode, err, fault.KindOf(err))
		}
		failed := slices.IndexFunc(res.Entry.Checks, func(c state.Check) bool { return c.Name == check && c.Outcome == state.Failed })
		if res.Entry.Outcome != state.Failed || failed < 0 || len(res.Evidence.Findings) != 1 {
			t.Errorf("%s: %+v", mode, res.Entry)
		}
		if got := running(t, s); !slices.Equal(got, before) {
			t.Errorf("%s: %v run, before %v", mode, got, before)
		}
		if got := served(t, listen); got != "v1" {
			t.Errorf("%s: serves %q", mode, got)
		}
	}
	s, _, _ := newStep(dir, listen, "v1", "good")
	if got := outcomes(t, s); got != "deploy promoted, deploy reverted, deploy reverted, deploy reverted" {
		t.Errorf("history: %s", got)
	}
}

// TestFirstReleaseBad: nothing is left running, not even the router.
func TestFirstReleaseBad(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	s, in, blobs := newStep(dir, listen, "v1", "exits")
	_, err := s.Run(t.Context(), in, blobs)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "cannot go on") || !strings.Contains(err.Error(), "nothing serves") {
		t.Errorf("%v", err)
	}
	st, err := s.Status(t.Context())
	if err != nil || st.Live.Traffic != nil || len(running(t, s)) != 0 || st.Interrupted != nil {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	dir, _ := environment(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, in, blobs := newStep(dir, l.Addr().String(), "v1", "good")
	res, err := s.Run(t.Context(), in, blobs)
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), l.Addr().String()) || fault.HintOf(err) == "" {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	if res.Entry.Outcome != "" || len(running(t, s)) != 0 {
		t.Errorf("%+v", res)
	}
}

func TestRefusedImage(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	s, in, blobs := newStep(dir, listen, "v1", "good")
	push := &pushed{}
	s.Pusher, s.Destination = push, "layout:registry"
	a, _ := in[0].Entry.Artifact(state.ArtifactImage)
	s.Verifier = trust{refuse: a.Digest}
	res, err := s.Run(t.Context(), in, blobs)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "no trusted key") || fault.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	if res.Entry.Outcome != state.Failed || len(push.refs) != 0 || len(running(t, s)) != 0 {
		t.Errorf("%+v, pushed %v", res.Entry, push.refs)
	}
	s.Verifier = nil
	if _, err := s.Run(t.Context(), in, blobs); fault.KindOf(err) != fault.Usage {
		t.Errorf("without a verifier: %v", err)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	for name, change := range map[string]func(*deploy.Step, *state.State){
		"environment": func(s *deploy.Step, _ *state.State) { s.Environment = "../x" },
		"strategy":    func(s *deploy.Step, _ *state.State) { s.Strategy = "canari" },
		"health":      func(s *deploy.Step, _ *state.State) { s.Service.HealthPath = "healthz" },
		"timeout":     func(s *deploy.Step, _ *state.State) { s.Service.StopTimeout = -1 },
		"no image":    func(_ *deploy.Step, in *state.State) { *in = nil },
	} {
		s, in, blobs := newStep(dir, listen, "v1", "good")
		change(&s, &in)
		if _, err := s.Run(t.Context(), in, blobs); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a usage error left a directory")
	}
}

// TestSecondDeployIsRefused: while one runs, another is told who has the environment.
func TestSecondDeployIsRefused(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	s, in, blobs := newStep(dir, listen, "v1", "good")
	tried := false
	s.Boundary = func(string) {
		if tried {
			return
		}
		tried = true
		other, in, blobs := newStep(dir, listen, "v2", "good")
		_, err := other.Run(context.Background(), in, blobs)
		if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), s.Holder) {
			t.Errorf("second deploy: %v", err)
		}
	}
	if _, err := s.Run(t.Context(), in, blobs); err != nil || !tried {
		t.Fatal(err)
	}
	if got := served(t, listen); got != "v1" {
		t.Errorf("serves %q", got)
	}
}

// TestHistoryCannotBeChanged: any changed byte is found.
func TestHistoryCannotBeChanged(t *testing.T) {
	t.Parallel()
	dir, listen := environment(t)
	mustRun(t, dir, listen, "v1")
	mustRun(t, dir, listen, "v2")
	s, _, _ := newStep(dir, listen, "v1", "good")
	path := filepath.Join(dir, "history.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for name, changed := range map[string]string{
		"who":     strings.Replace(string(whole), "test v1", "test v9", 1),
		"removed": lines[1],
		"swapped": lines[1] + lines[0],
		"garbage": string(whole) + "{}\n",
	} {
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.History(); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "history.jsonl:") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A line that was being written when the power failed is not a record.
	if err := os.WriteFile(path, append(whole, `{"seq":3,"pre`...), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, dir, listen, "v3")
	history, err := s.History()
	if err != nil || len(history) != 3 || history[2].Prev != history[1].Sum {
		t.Errorf("%d records, %v", len(history), err)
	}
	b, err := json.Marshal(history)
	if err != nil || !strings.Contains(string(b), "key-1") {
		t.Errorf("the signer is not recorded: %s", b)
	}
}
