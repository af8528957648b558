package validate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/attest"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Sign signs the verdict of the state's latest validate entry with key, in the
// name of verifier, a URI, at the time now. Before it does, it verifies the chain,
// that the entry passed and judges exactly the tree and image of the latest
// cleanroom-test entry, that both have evidence of a run, that every check which the
// entry's policy requires is claimed and borne out by what it saw, and every byte of
// every artifact that the chain claims. It runs nothing. The signature is evidence for the validate entry; keeping it is the
// caller's part.
func Sign(ctx context.Context, in state.State, blobs state.Blobs, key attest.PrivateKey, now time.Time, verifier string) (state.Evidence, error) {
	link, err := attest.Judged(in)
	if err != nil {
		return state.Evidence{}, fault.Wrap(err, fault.Finding, "", "sign the verdict")
	}
	rules, err := reached(ctx, in, link, blobs)
	if err != nil {
		return state.Evidence{}, fault.Wrap(err, fault.Finding, "", "sign the verdict")
	}
	if err := verifyArtifacts(ctx, in, blobs); err != nil {
		return state.Evidence{}, fault.Wrap(err, fault.Finding, "", "sign the verdict")
	}
	claim := link.Entry.Validate
	payload, err := attest.Verdict{
		Entry: link.Digest, Image: claim.Image, Tree: claim.Tree, Policy: claim.Policy,
		Required: required(rules), Passed: true, Verifier: verifier, Time: now,
	}.Statement()
	if err != nil {
		return state.Evidence{}, fault.Wrap(err, fault.Usage, "name the verifier, for example by a URL", "sign the verdict")
	}
	envelope, err := attest.Sign(payload, key)
	if err != nil {
		return state.Evidence{}, err
	}
	artifact, err := state.WriteBlob(ctx, blobs, attest.ArtifactVerdict, state.MediaTypeEnvelope, envelope)
	if err != nil {
		return state.Evidence{}, fault.Wrap(err, fault.Unavailable, "", "keep the signature")
	}
	return state.Evidence{
		Subject: link.Digest, Kind: state.KindSignature, Started: now.UTC(), Artifacts: []state.Artifact{artifact},
		Facts:   map[string]string{"key.id": key.Public().ID(), "verifier": verifier},
		Summary: "signed by key " + state.Digest(key.Public().ID()).Short(),
	}, nil
}

// verifyArtifacts reads every artifact that the entries claim. Evidence is not
// part of what is signed.
func verifyArtifacts(ctx context.Context, in state.State, blobs state.Blobs) error {
	for i := range in {
		entry := &in[i].Entry
		for _, a := range entry.Artifacts {
			if err := verifyArtifact(ctx, blobs, a); err != nil {
				return fmt.Errorf("artifact %q of the %s entry: %w", a.Name, entry.Phase, err)
			}
		}
	}
	return nil
}

func verifyArtifact(ctx context.Context, blobs state.Blobs, a state.Artifact) (err error) {
	r, err := blobs.Open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	h := state.NewHasher()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	if h.Digest() != a.Digest || h.Size() != a.Size {
		return fault.New(fault.Finding, "restore the store from one that you trust", "it was changed: its digest is %s, not %s", h.Digest().Short(), a.Digest.Short())
	}
	return nil
}
