package deploy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/attest"
	"github.com/ultrafast-ci/ultrafast/steps/deploy"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestSigned: the verdict of an untrusted key, under another policy or about
// another image is refused.
func TestSigned(t *testing.T) {
	t.Parallel()
	key, err := attest.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := attest.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	image, tree, policy := state.DigestOf([]byte("image")), state.DigestOf([]byte("tree")), state.DigestOf([]byte("policy"))
	in, blobs := judged(t, key, image, tree, policy)
	trusted := deploy.Signed{Trusted: []attest.PublicKey{stranger.Public(), key.Public()}, Policy: policy}
	v, err := trusted.Verify(t.Context(), in, blobs, image)
	if err != nil || v.KeyID != key.Public().ID() || v.Policy != policy {
		t.Errorf("%+v, %v", v, err)
	}
	for name, c := range map[string]struct {
		verifier deploy.Signed
		image    state.Digest
	}{
		"stranger": {deploy.Signed{Trusted: []attest.PublicKey{stranger.Public()}, Policy: policy}, image},
		"nobody":   {deploy.Signed{Policy: policy}, image},
		"policy":   {deploy.Signed{Trusted: trusted.Trusted, Policy: tree}, image},
		"image":    {trusted, tree},
	} {
		if _, err := c.verifier.Verify(t.Context(), in, blobs, c.image); fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// judged is a state with a signed verdict.
func judged(t *testing.T, key attest.PrivateKey, image, tree, policy state.Digest) (state.State, state.Blobs) {
	t.Helper()
	built := state.Entry{Phase: phase.Cleanroom, Outcome: state.Passed, Cleanroom: &state.Cleanroom{Image: image, Tree: tree}}
	first := link(t, built)
	second := link(t, state.Entry{
		Phase: phase.Validate, Prev: first.Digest, Outcome: state.Passed, Checks: []state.Check{{Name: "nonroot", Outcome: state.Passed}},
		Validate: &state.Validate{Image: image, Tree: tree, Policy: policy},
	})
	statement, err := attest.Verdict{
		Entry: second.Digest, Image: image, Tree: tree, Policy: policy, Passed: true,
		Verifier: "https://example.com/validate", Time: time.Unix(1e9, 0),
	}.Statement()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := attest.Sign(statement, key)
	if err != nil {
		t.Fatal(err)
	}
	a := state.Artifact{Name: "verdict", MediaType: state.MediaTypeEnvelope, Digest: state.DigestOf(envelope), Size: int64(len(envelope))}
	second.Evidence = []state.Evidence{{Subject: second.Digest, Kind: state.KindSignature, Artifacts: []state.Artifact{a}}}
	return state.State{first, second}, only{envelope}
}

func link(t *testing.T, e state.Entry) state.Link {
	t.Helper()
	e.Normalize()
	d, err := e.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return state.Link{Digest: d, Entry: e}
}

// only holds one artifact.
type only struct{ b []byte }

func (o only) Open(context.Context, state.Artifact) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(o.b)), nil
}

func (o only) Create(context.Context, string) (state.BlobWriter, error) { return nil, io.ErrShortWrite }
