package attest

import (
	"context"
	"errors"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// ArtifactVerdict is the name of the envelope in signature evidence.
const ArtifactVerdict = "verdict"

// VerifyVerdict is the gate in front of a deploy. It returns the verdict on the
// image of the state's latest cleanroom-test entry, and the ID of the trusted key
// that signed it, if all of this holds:
//
//   - the chain is unbroken, and its latest validate entry follows its latest
//     cleanroom-test entry, passed, and is about that entry's tree and image;
//   - a signature on exactly that validate entry was made by a trusted key;
//   - the signed verdict passed and is about the same entry, image and tree, under
//     the rules with the digest policy;
//   - the entry has every check that the signed verdict says these rules require,
//     passed or not applicable, or, if it names none, has none that failed or could
//     not be decided; and at least one check passed.
//
// All else is an error of kind fault.Finding that says which of these failed.
// An empty policy is refused: rules that nobody named cannot have been applied.
func VerifyVerdict(ctx context.Context, in state.State, blobs state.Blobs, trusted []PublicKey, policy state.Digest) (Verdict, string, error) {
	if _, err := state.ParseDigest(string(policy)); err != nil {
		return Verdict{}, "", fault.New(fault.Usage, "give the policy of the trust root", "check the verdict: policy: %w", err)
	}
	link, err := Judged(in)
	if err != nil {
		return Verdict{}, "", err
	}
	var failures []error
	for i := range link.Evidence {
		ev := &link.Evidence[i]
		if ev.Kind != state.KindSignature {
			continue
		}
		if len(failures) >= maxSignatures {
			break
		}
		v, keyID, err := verifySignature(ctx, blobs, ev, trusted)
		if err == nil {
			err = v.matches(link, policy)
		}
		if err == nil {
			return v, keyID, nil
		}
		if ctx.Err() != nil {
			return Verdict{}, "", context.Cause(ctx)
		}
		failures = append(failures, err)
	}
	if len(failures) == 0 {
		return Verdict{}, "", fault.New(fault.Finding, "sign it with `validate sign --key FILE`",
			"verdict on image %s is not signed", link.Entry.Validate.Image.Short())
	}
	err = errors.Join(failures...)
	return Verdict{}, "", fault.Wrap(err, fault.Finding, "", "verdict on image "+link.Entry.Validate.Image.Short())
}

// Judged returns the validate entry that judges the state's latest
// cleanroom-test entry. No such entry, a failed one, or one about another tree or
// image is a fault.Finding. It looks at no signature.
func Judged(in state.State) (*state.Link, error) {
	const again = "run `validate run` on this state"
	if err := in.Verify(); err != nil {
		return nil, fault.New(fault.Finding, "start again from a state that you trust", "check the chain: %w", err)
	}
	built, ok := in.Last(phase.Cleanroom)
	if !ok {
		return nil, fault.New(fault.Finding, "run `cleanroom-test run` first", "the state has no cleanroom-test entry, so no image to judge")
	}
	if built.Entry.Outcome != state.Passed || built.Entry.Cleanroom.Image == "" {
		return nil, fault.New(fault.Finding, "fix the tests and run `cleanroom-test run` again", "the cleanroom-test entry %s did not pass", built.Digest.Short())
	}
	link, ok := in.Last(phase.Validate)
	if !ok || !follows(in, built, link) {
		return nil, fault.New(fault.Finding, again, "image %s was not validated", built.Entry.Cleanroom.Image.Short())
	}
	claim, want := link.Entry.Validate, built.Entry.Cleanroom
	switch {
	case claim.Image != want.Image:
		return nil, fault.New(fault.Finding, again, "validate judged image %s, but cleanroom-test made %s", claim.Image.Short(), want.Image.Short())
	case claim.Tree != want.Tree:
		return nil, fault.New(fault.Finding, again, "validate judged tree %s, but cleanroom-test built %s", claim.Tree.Short(), want.Tree.Short())
	case link.Entry.Outcome != state.Passed:
		return nil, fault.New(fault.Finding, "fix what the checks found and run `validate run` again", "image %s failed validation", claim.Image.Short())
	}
	return link, nil
}

// follows reports whether link b comes after link a in the chain.
func follows(in state.State, a, b *state.Link) bool {
	for i := range in {
		switch &in[i] {
		case a:
			return true
		case b:
			return false
		}
	}
	return false
}

func verifySignature(ctx context.Context, blobs state.Blobs, ev *state.Evidence, trusted []PublicKey) (Verdict, string, error) {
	a, ok := ev.Artifact(ArtifactVerdict)
	switch {
	case !ok || a.MediaType != state.MediaTypeEnvelope:
		return Verdict{}, "", fault.New(fault.Finding, hintSign, "signature evidence has no artifact %q of type %s", ArtifactVerdict, state.MediaTypeEnvelope)
	case a.Size > MaxEnvelope:
		return Verdict{}, "", fault.New(fault.Finding, hintSign, "signature envelope has %d bytes; at most %d are read", a.Size, MaxEnvelope)
	}
	envelope, err := state.ReadBlob(ctx, blobs, a)
	if err != nil {
		return Verdict{}, "", err
	}
	payload, keyID, err := Verify(envelope, trusted)
	if err != nil {
		return Verdict{}, "", err
	}
	v, err := ParseVerdict(payload)
	return v, keyID, err
}

// matches reports, as a fault.Finding, what the verdict says about something
// else than the validate entry of link under policy.
func (v Verdict) matches(link *state.Link, policy state.Digest) error {
	claim := link.Entry.Validate
	for _, part := range []struct {
		name        string
		signed, due state.Digest
	}{
		{"image", v.Image, claim.Image}, {"tree", v.Tree, claim.Tree},
		{"entry", v.Entry, link.Digest}, {"policy", v.Policy, claim.Policy},
	} {
		if part.signed != part.due {
			return fault.New(fault.Finding, hintSign, "signed verdict is about %s %s, not %s", part.name, part.signed.Short(), part.due.Short())
		}
	}
	switch {
	case !v.Passed:
		return fault.New(fault.Finding, "fix what the checks found and run `validate run` again", "signed verdict is FAILED")
	case v.Policy != policy:
		return fault.New(fault.Finding, "run `validate run` with the trust root's policy",
			"signed verdict was made under policy %s, but the trust root asks for %s", v.Policy.Short(), policy.Short())
	}
	return Covers(link.Entry.Checks, v.Required)
}

// Covers reports, as a fault.Finding, what keeps checks from being a passed
// judgement: a check of required that is missing, that failed or that could not be
// decided, or that nothing passed. If required is empty, every check counts.
func Covers(checks []state.Check, required []string) error {
	const again = "run `validate run` again"
	outcomes := make(map[string]state.Outcome, len(checks))
	proven := false
	for _, c := range checks {
		outcomes[c.Name] = c.Outcome
		proven = proven || c.Outcome == state.Passed
	}
	if len(required) == 0 {
		for _, c := range checks {
			required = append(required, c.Name)
		}
	}
	for _, id := range required {
		switch outcome, ok := outcomes[id]; {
		case !ok:
			return fault.New(fault.Finding, again, "the validate entry has no check %s, which the policy requires", id)
		case outcome != state.Passed && outcome != state.NotApplicable:
			return fault.New(fault.Finding, "fix what it found and "+again, "check %s is %s", id, outcome)
		}
	}
	if !proven {
		return fault.New(fault.Finding, again, "the validate entry proves nothing: no check passed")
	}
	return nil
}
