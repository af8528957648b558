package validate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/attest"
	"github.com/ultrafast-ci/ultrafast/internal/policy"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/validate"
)

const verifier = "https://example.com/verifier"

var judgedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func key(t *testing.T, n byte) attest.PrivateKey {
	t.Helper()
	k, err := attest.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// judged returns a state with a validate entry that the case may spoil.
func (l *lab) judged(t *testing.T, spoil func(e *state.Entry)) state.State {
	t.Helper()
	built := l.state(t)
	claim := l.built.Cleanroom
	entry := state.Entry{
		Phase: phase.Validate, Outcome: state.Passed,
		Validate: &state.Validate{Tree: claim.Tree, Image: claim.Image, Policy: policy.Policy{}.Digest()},
	}
	for _, c := range validate.Checks() {
		entry.Checks = append(entry.Checks, state.Check{Name: c.ID, Outcome: state.Passed})
	}
	if spoil != nil {
		spoil(&entry)
	}
	in := chain(t, built, entry)
	l.witness(t, in, nil, nil)
	return in
}

// witness gives the latest validate entry and the cleanroom-test entry before it
// evidence of a run, in which every check saw what is claimed unless spoil says else.
func (l *lab) witness(t *testing.T, in state.State, required []string, spoil func(reports []validate.Report) []validate.Report) {
	t.Helper()
	var reports []validate.Report
	for _, c := range in[len(in)-1].Entry.Checks {
		reports = append(reports, validate.Report{ID: c.Name, Outcome: c.Outcome, Evidence: []string{"seen"}, Reason: "told"})
	}
	if spoil != nil {
		reports = spoil(reports)
	}
	b, err := json.Marshal(map[string]any{"schema": 1, "required": required, "checks": reports})
	if err != nil {
		t.Fatal(err)
	}
	a, err := state.WriteBlob(t.Context(), l.blobs, validate.ArtifactChecks, state.MediaTypeJSON, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range in {
		in[i].Evidence = []state.Evidence{{Subject: in[i].Digest, Kind: state.KindRun}}
	}
	in[len(in)-1].Evidence[0].Artifacts = []state.Artifact{a}
}

// lie is a case of a verdict that nobody reached: required is the policy, claimed
// replaces the checks of the claim.
func lie(required []string, claimed []state.Check, spoil func(reports []validate.Report) []validate.Report) func(*testing.T, *lab, state.State) state.State {
	return func(t *testing.T, l *lab, s state.State) state.State {
		entry := s[2].Entry
		entry.Validate.Policy = policy.Policy{Required: required}.Digest()
		if claimed != nil {
			entry.Checks = claimed
		}
		s = chain(t, s[:2:2], entry)
		l.witness(t, s, required, spoil)
		return s
	}
}

// The whole way of a verdict: judged by doing, signed apart, believed by deploy.
func TestSign(t *testing.T) {
	t.Parallel()
	l, k := newLab(t), key(t, 1)
	in := l.state(t)
	res, err := l.run(t, in)
	if err != nil {
		t.Fatal(err)
	}
	in = chain(t, in, res.Entry)
	in[1].Evidence = []state.Evidence{{Subject: in[1].Digest, Kind: state.KindRun}}
	run := res.Evidence
	run.Subject, run.Kind = in[2].Digest, state.KindRun // as the pipeline does
	in[2].Evidence = []state.Evidence{run}
	ev, err := validate.Sign(t.Context(), in, l.blobs, k, judgedAt, verifier)
	if err != nil {
		t.Fatal(err)
	}
	if ev.Kind != state.KindSignature || ev.Subject != in.Head() || ev.Facts["key.id"] != k.Public().ID() || strings.Contains(ev.Summary, "PRIVATE") {
		t.Errorf("evidence %+v", ev)
	}
	in[len(in)-1].Evidence = []state.Evidence{run, ev}
	v, id, err := attest.VerifyVerdict(t.Context(), in, l.blobs, []attest.PublicKey{k.Public()}, policy.Policy{}.Digest())
	if err != nil {
		t.Fatal(err)
	}
	if v.Image != l.built.Cleanroom.Image || !v.Time.Equal(judgedAt) || v.Verifier != verifier || id != k.Public().ID() {
		t.Errorf("verdict %+v by %s", v, id)
	}
	again, err := validate.Sign(t.Context(), in, l.blobs, k, judgedAt, verifier)
	if err != nil || again.Artifacts[0] != ev.Artifacts[0] {
		t.Errorf("signing twice gives %+v and %+v (%v)", ev.Artifacts, again.Artifacts, err)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	other := state.DigestOf([]byte("other"))
	for name, c := range map[string]struct {
		spoil    func(e *state.Entry)
		state    func(t *testing.T, l *lab, s state.State) state.State
		key      attest.PrivateKey
		verifier string
		kind     fault.Kind
		want     string
	}{
		"failed":        {spoil: func(e *state.Entry) { e.Outcome = state.Failed }, kind: fault.Finding, want: "failed validation"},
		"another image": {spoil: func(e *state.Entry) { e.Validate.Image = other }, kind: fault.Finding, want: "judged image"},
		"another tree":  {spoil: func(e *state.Entry) { e.Validate.Tree = other }, kind: fault.Finding, want: "judged tree"},
		"not judged":    {state: func(_ *testing.T, _ *lab, s state.State) state.State { return s[:2] }, kind: fault.Finding, want: "was not validated"},
		"broken chain":  {state: func(_ *testing.T, _ *lab, s state.State) state.State { s[1].Entry.Cleanroom.Toolchain = "x"; return s }, kind: fault.Finding, want: "it was changed"},
		"built again": {state: func(t *testing.T, _ *lab, s state.State) state.State {
			again := s[1].Entry
			return chain(t, s, again)
		}, kind: fault.Finding, want: "was not validated"},
		"changed layer": {state: func(t *testing.T, l *lab, s state.State) state.State {
			a, _ := s[1].Entry.Artifact(state.ArtifactImageLayer(0))
			damage(t, l.blobs, a)
			return s
		}, kind: fault.Finding, want: `"image/layer/0"`},
		"one check only": {state: lie(nil, []state.Check{{Name: "nonroot", Outcome: state.Passed}}, nil), kind: fault.Finding, want: "no check graceful-shutdown"},
		"no checks":      {state: lie(nil, []state.Check{}, nil), kind: fault.Finding, want: "no check"},
		"nothing to prove": {state: lie([]string{"nonroot"}, []state.Check{{Name: "nonroot", Outcome: state.NotApplicable}}, nil),
			kind: fault.Finding, want: "no check passed"},
		"required check failed": {state: lie([]string{"nonroot"}, []state.Check{{Name: "nonroot", Outcome: state.Failed}}, nil),
			kind: fault.Finding, want: "check nonroot is failed"},
		"required check unknown": {state: lie([]string{"nonroot"}, []state.Check{{Name: "nonroot", Outcome: state.Unknown}}, nil),
			kind: fault.Finding, want: "check nonroot is unknown"},
		"unknown requirement": {state: lie([]string{"nonrot"}, nil, nil), kind: fault.Usage, want: "unknown check"},
		"seen otherwise": {state: lie(nil, nil, func(r []validate.Report) []validate.Report { r[0].Outcome = state.Failed; return r }),
			kind: fault.Finding, want: "the evidence says failed"},
		"seen less": {state: lie(nil, nil, func(r []validate.Report) []validate.Report { return r[1:] }),
			kind: fault.Finding, want: "5 checks are claimed, but the evidence has 4"},
		"seen another": {state: lie(nil, nil, func(r []validate.Report) []validate.Report { r[0].ID = "x"; return r }),
			kind: fault.Finding, want: "the evidence does not have it"},
		"passed on nothing": {state: lie(nil, nil, func(r []validate.Report) []validate.Report { r[0].Evidence = nil; return r }),
			kind: fault.Finding, want: "what was seen"},
		"no reason": {state: lie([]string{"nonroot"}, []state.Check{{Name: "nonroot", Outcome: state.NotApplicable}, {Name: "tests-passed", Outcome: state.Passed}},
			func(r []validate.Report) []validate.Report { r[0].Reason = ""; return r }), kind: fault.Finding, want: "does not say why"},
		"another policy": {state: func(t *testing.T, l *lab, s state.State) state.State {
			l.witness(t, s, []string{"nonroot"}, nil)
			return s
		}, kind: fault.Finding, want: "judged under policy"},
		"never run": {state: func(_ *testing.T, _ *lab, s state.State) state.State { s[2].Evidence = nil; return s },
			kind: fault.Finding, want: "the validate entry has no evidence of a run"},
		"run for another": {state: func(_ *testing.T, _ *lab, s state.State) state.State { s[2].Evidence[0].Subject = other; return s },
			kind: fault.Finding, want: "the validate entry has no evidence of a run"},
		"no report": {state: func(_ *testing.T, _ *lab, s state.State) state.State { s[2].Evidence[0].Artifacts = nil; return s },
			kind: fault.Finding, want: `no artifact "checks"`},
		"never built": {state: func(_ *testing.T, _ *lab, s state.State) state.State { s[1].Evidence = nil; return s },
			kind: fault.Finding, want: "the cleanroom-test entry has no evidence"},
		"no key":      {key: attest.PrivateKey{}, verifier: verifier, kind: fault.Usage, want: "no key"},
		"no verifier": {verifier: "-", kind: fault.Usage, want: "verifier is not named"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			in := l.judged(t, c.spoil)
			if c.state != nil {
				in = c.state(t, l, in)
			}
			k, who := key(t, 1), verifier
			if c.verifier == "-" {
				who = ""
			} else if c.verifier != "" {
				k = c.key
			}
			ev, err := validate.Sign(t.Context(), in, l.blobs, k, judgedAt, who)
			if err == nil || fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v of kind %s, want %s with %q", err, fault.KindOf(err), c.kind, c.want)
			}
			if len(ev.Artifacts) > 0 {
				t.Errorf("refused, but signed: %+v", ev)
			}
		})
	}
}

// damage changes one byte of an artifact in the store.
func damage(t *testing.T, blobs *store.Store, a state.Artifact) {
	t.Helper()
	dir := strings.TrimPrefix(blobs.URL(), "layout:")
	found := errors.New("found")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != a.Digest.Hex() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return errors.Join(found, os.Chmod(path, 0o644), os.WriteFile(path, b, 0o644))
	})
	if !errors.Is(err, found) {
		t.Fatalf("artifact %s is not in %s: %v", a.Name, dir, err)
	}
}
