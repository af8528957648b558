package attest

import (
	"bytes"
	"context"
	"io"
	"reflect"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// memory holds blobs by digest, and verifies them as a store does.
type memory map[state.Digest][]byte

func (m memory) Open(_ context.Context, a state.Artifact) (io.ReadCloser, error) {
	b, ok := m[a.Digest]
	if !ok || int64(len(b)) != a.Size || state.DigestOf(b) != a.Digest {
		return nil, fault.New(fault.Finding, "", "artifact %q is missing or was changed", a.Name)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (m memory) Create(context.Context, string) (state.BlobWriter, error) {
	return nil, fault.New(fault.Internal, "", "the gate writes nothing")
}

func (m memory) put(name, mediaType string, b []byte) state.Artifact {
	d := state.DigestOf(b)
	m[d] = b
	return state.Artifact{Name: name, MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// world is a state that was built, judged and signed, for a case to spoil.
type world struct {
	entries []state.Entry
	verdict Verdict
	key     PrivateKey
	trusted []PublicKey
	policy  state.Digest
	// evidence, when set, replaces the signature.
	evidence func(memory, state.Evidence) []state.Evidence
}

func newWorld(t *testing.T) *world {
	v := testVerdict()
	key := testKey(t, 1)
	w := &world{verdict: v, key: key, trusted: []PublicKey{key.Public()}, policy: v.Policy}
	w.entries = []state.Entry{
		{Phase: phase.Cleanroom, Outcome: state.Passed, Cleanroom: &state.Cleanroom{Tree: v.Tree, Image: v.Image, Toolchain: "go"}},
		{Phase: phase.Validate, Outcome: state.Passed, Checks: []state.Check{{Name: "health-endpoint", Outcome: state.Passed}, {Name: "nonroot", Outcome: state.NotApplicable}}, Validate: &state.Validate{Tree: v.Tree, Image: v.Image, Policy: v.Policy}},
	}
	return w
}

// chain links the entries and signs the verdict for the last one. The verdict's
// entry stays as the case set it, if it did.
func (w *world) chain(t *testing.T, blobs memory) state.State {
	t.Helper()
	var s state.State
	for _, e := range w.entries {
		e.Prev, e.Schema = s.Head(), state.Schema
		d, err := e.Digest()
		if err != nil {
			t.Fatal(err)
		}
		s = append(s, state.Link{Digest: d, Entry: e})
	}
	if w.verdict.Entry == testVerdict().Entry {
		w.verdict.Entry = s.Head()
	}
	payload, err := w.verdict.Statement()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := Sign(payload, w.key)
	if err != nil {
		t.Fatal(err)
	}
	ev := state.Evidence{Subject: s.Head(), Kind: state.KindSignature,
		Artifacts: []state.Artifact{blobs.put(ArtifactVerdict, state.MediaTypeEnvelope, envelope)}}
	last := &s[len(s)-1]
	last.Evidence = []state.Evidence{{Kind: state.KindRun}, ev}
	if w.evidence != nil {
		last.Evidence = w.evidence(blobs, ev)
	}
	return s
}

func TestVerifyVerdict(t *testing.T) {
	t.Parallel()
	w, blobs := newWorld(t), memory{}
	v, id, err := VerifyVerdict(t.Context(), w.chain(t, blobs), blobs, w.trusted, w.policy)
	if err != nil {
		t.Fatal(err)
	}
	if v.Image != w.verdict.Image || id != w.key.Public().ID() {
		t.Errorf("got verdict %+v of key %s", v, id)
	}
}

// What the policy does not require may fail.
func TestVerifyVerdictAsksForWhatIsRequired(t *testing.T) {
	t.Parallel()
	w, blobs := newWorld(t), memory{}
	w.verdict.Required = []string{"health-endpoint"}
	w.entries[1].Checks[1].Outcome = state.Failed
	v, _, err := VerifyVerdict(t.Context(), w.chain(t, blobs), blobs, w.trusted, w.policy)
	if err != nil || !reflect.DeepEqual(v.Required, w.verdict.Required) {
		t.Errorf("required %q, error %v", v.Required, err)
	}
}

// A bad signature beside a good one must neither pass nor block.
func TestVerifyVerdictTakesAnyGoodSignature(t *testing.T) {
	t.Parallel()
	w, blobs := newWorld(t), memory{}
	w.evidence = func(m memory, ev state.Evidence) []state.Evidence {
		bad := state.Evidence{Kind: state.KindSignature, Artifacts: []state.Artifact{m.put(ArtifactVerdict, state.MediaTypeEnvelope, []byte("{}"))}}
		return []state.Evidence{bad, ev}
	}
	if _, _, err := VerifyVerdict(t.Context(), w.chain(t, blobs), blobs, w.trusted, w.policy); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyVerdictRefuses(t *testing.T) {
	t.Parallel()
	other := state.DigestOf([]byte("other"))
	for name, c := range map[string]struct {
		spoil func(t *testing.T, w *world)
		want  string
	}{
		"nothing built":    {func(_ *testing.T, w *world) { w.entries = w.entries[1:] }, "no cleanroom-test entry"},
		"tests failed":     {func(_ *testing.T, w *world) { w.entries[0].Outcome = state.Failed }, "did not pass"},
		"no image":         {func(_ *testing.T, w *world) { w.entries[0].Cleanroom.Image = "" }, "did not pass"},
		"not validated":    {func(_ *testing.T, w *world) { w.entries = w.entries[:1] }, "was not validated"},
		"built again":      {func(_ *testing.T, w *world) { w.entries = append(w.entries, w.entries[0]) }, "was not validated"},
		"failed":           {func(_ *testing.T, w *world) { w.entries[1].Outcome = state.Failed }, "failed validation"},
		"another image":    {func(_ *testing.T, w *world) { w.entries[1].Validate.Image = other }, "judged image"},
		"another tree":     {func(_ *testing.T, w *world) { w.entries[1].Validate.Tree = other }, "judged tree"},
		"signed image":     {func(_ *testing.T, w *world) { w.verdict.Image = other }, "about image"},
		"signed tree":      {func(_ *testing.T, w *world) { w.verdict.Tree = other }, "about tree"},
		"signed entry":     {func(_ *testing.T, w *world) { w.verdict.Entry = other }, "about entry"},
		"signed policy":    {func(_ *testing.T, w *world) { w.verdict.Policy = other }, "about policy"},
		"signed as failed": {func(_ *testing.T, w *world) { w.verdict.Passed = false }, "is FAILED"},
		"weaker policy":    {func(_ *testing.T, w *world) { w.policy = other }, "the trust root asks for"},
		"nothing checked":  {func(_ *testing.T, w *world) { w.entries[1].Checks = nil }, "no check passed"},
		"none applied": {func(_ *testing.T, w *world) {
			w.entries[1].Checks = w.entries[1].Checks[1:]
		}, "no check passed"},
		"check failed": {func(_ *testing.T, w *world) { w.entries[1].Checks[1].Outcome = state.Failed }, "check nonroot is failed"},
		"check unknown": {func(_ *testing.T, w *world) {
			w.entries[1].Checks[1].Outcome = state.Unknown
		}, "check nonroot is unknown"},
		"required check missing": {func(_ *testing.T, w *world) { w.verdict.Required = []string{"graceful-shutdown"} }, "has no check graceful-shutdown"},
		"required check failed": {func(_ *testing.T, w *world) {
			w.verdict.Required = []string{"nonroot"}
			w.entries[1].Checks[1].Outcome = state.Failed
		}, "check nonroot is failed"},
		"untrusted key":  {func(t *testing.T, w *world) { w.key = testKey(t, 9) }, "not trusted"},
		"nobody trusted": {func(_ *testing.T, w *world) { w.trusted = nil }, "no trusted key"},
		"not signed": {func(_ *testing.T, w *world) {
			w.evidence = func(memory, state.Evidence) []state.Evidence { return nil }
		}, "is not signed"},
		"no envelope": {func(_ *testing.T, w *world) {
			w.evidence = func(_ memory, ev state.Evidence) []state.Evidence { ev.Artifacts = nil; return []state.Evidence{ev} }
		}, "no artifact"},
		"changed in the store": {func(_ *testing.T, w *world) {
			w.evidence = func(m memory, ev state.Evidence) []state.Evidence {
				m[ev.Artifacts[0].Digest] = bytes.ToUpper(m[ev.Artifacts[0].Digest])
				return []state.Evidence{ev}
			}
		}, `artifact "verdict" is missing or was changed`},
		"huge envelope": {func(_ *testing.T, w *world) {
			w.evidence = func(_ memory, ev state.Evidence) []state.Evidence {
				ev.Artifacts[0].Size = MaxEnvelope + 1
				return []state.Evidence{ev}
			}
		}, "at most"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, blobs := newWorld(t), memory{}
			c.spoil(t, w)
			v, id, err := VerifyVerdict(t.Context(), w.chain(t, blobs), blobs, w.trusted, w.policy)
			wantFault(t, err, fault.Finding, c.want)
			if !reflect.DeepEqual(v, Verdict{}) || id != "" {
				t.Errorf("refused, but gave %+v of %q", v, id)
			}
		})
	}
}

func TestVerifyVerdictChecksTheChain(t *testing.T) {
	t.Parallel()
	w, blobs := newWorld(t), memory{}
	s := w.chain(t, blobs)
	s[0].Entry.Cleanroom.Toolchain = "another"
	_, _, err := VerifyVerdict(t.Context(), s, blobs, w.trusted, w.policy)
	wantFault(t, err, fault.Finding, "it was changed")

	_, _, err = VerifyVerdict(t.Context(), w.chain(t, blobs), blobs, w.trusted, "")
	wantFault(t, err, fault.Usage, "policy")
}
