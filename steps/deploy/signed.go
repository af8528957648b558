package deploy

import (
	"context"

	"github.com/ultrafast-ci/ultrafast/internal/attest"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Signed is the verifier that trusts signatures: the verdict on the image must be
// in the state, passed, made under Policy, and signed by one of Trusted. Both
// come from the trust root and from nowhere else.
type Signed struct {
	Trusted []attest.PublicKey
	// Policy is the digest of the environment's rules.
	Policy state.Digest
}

// Verify checks the signatures on the state's verdict.
func (s Signed) Verify(ctx context.Context, in state.State, blobs state.Blobs, image state.Digest) (Verdict, error) {
	v, keyID, err := attest.VerifyVerdict(ctx, in, blobs, s.Trusted, s.Policy)
	if err != nil {
		return Verdict{}, err
	}
	if v.Image != image {
		return Verdict{}, fault.New(fault.Finding, "run `validate run` on this state", "the verdict is about image %s", v.Image.Short())
	}
	return Verdict{KeyID: keyID, Policy: v.Policy}, nil
}
