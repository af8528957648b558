package attest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// PayloadType is the DSSE payload type of an in-toto statement.
const PayloadType = "application/vnd.in-toto+json"

const (
	// MaxEnvelope bounds an envelope in bytes; a verdict has about 2,000.
	MaxEnvelope = 1 << 20
	// maxSignatures bounds the signatures of one envelope.
	maxSignatures = 16
)

const hintSign = "sign the verdict again with `validate sign`"

// Sign returns a DSSE envelope that holds payload, an in-toto statement, and its
// signature. The same payload and key give the same bytes.
func Sign(payload []byte, key PrivateKey) (envelope []byte, err error) {
	if len(key.key) == 0 {
		return nil, fault.New(fault.Usage, hintKeygen, "sign: there is no key")
	}
	signer, err := dsse.NewEnvelopeSigner(edwards{private: key.key, public: key.Public()})
	if err != nil {
		return nil, err
	}
	// The context is for remote signers; this one computes.
	signed, err := signer.SignPayload(context.Background(), PayloadType, payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signed)
}

// Verify returns the payload of a DSSE envelope and the ID of the trusted key
// that signed it. It fails closed, with fault.Finding: on anything that is not an
// envelope of [PayloadType], on no signature, on two signatures of one key, and
// when no signature of a trusted key fits the payload. At most [MaxEnvelope]
// bytes and 16 signatures are read.
func Verify(envelope []byte, trusted []PublicKey) (payload []byte, keyID string, err error) {
	e, err := decodeEnvelope(envelope)
	if err != nil {
		return nil, "", err
	}
	known := make(map[string]bool, len(trusted))
	var verifiers []dsse.Verifier
	for _, k := range trusted {
		if id := k.ID(); id != "" && !known[id] {
			known[id] = true
			verifiers = append(verifiers, edwards{public: k})
		}
	}
	if len(verifiers) == 0 {
		return nil, "", fault.New(fault.Finding, "name at least one public key in the trust root", "there is no trusted key to check the signature with")
	}
	verifier, err := dsse.NewEnvelopeVerifier(verifiers...)
	if err != nil {
		return nil, "", err
	}
	accepted, payload, err := verifier.VerifyAndDecode(context.Background(), e)
	if err != nil || len(accepted) == 0 {
		return nil, "", refused(e, known)
	}
	return payload, accepted[0].KeyID, nil
}

func decodeEnvelope(b []byte) (*dsse.Envelope, error) {
	if len(b) > MaxEnvelope {
		return nil, fault.New(fault.Finding, hintSign, "signature envelope has %d bytes; at most %d are read", len(b), MaxEnvelope)
	}
	var e dsse.Envelope
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&e); err != nil {
		return nil, fault.New(fault.Finding, hintSign, "signature envelope is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fault.New(fault.Finding, hintSign, "there is more after the signature envelope")
	}
	switch {
	case e.PayloadType != PayloadType:
		return nil, fault.New(fault.Finding, hintSign, "signature envelope has payload type %.80q, not %q", e.PayloadType, PayloadType)
	case len(e.Signatures) == 0:
		return nil, fault.New(fault.Finding, hintSign, "signature envelope has no signature")
	case len(e.Signatures) > maxSignatures:
		return nil, fault.New(fault.Finding, hintSign, "signature envelope has %d signatures; at most %d are read", len(e.Signatures), maxSignatures)
	}
	return &e, checkUnique(e.Signatures)
}

// checkUnique refuses two signatures of one key. One honest signer never makes
// them, and whoever counts signatures must not be fooled by a copy.
func checkUnique(signatures []dsse.Signature) error {
	ids, sigs := map[string]bool{}, map[string]bool{}
	for _, s := range signatures {
		if ids[s.KeyID] || sigs[s.Sig] {
			return fault.New(fault.Finding, hintSign, "signature envelope has two signatures of key %.80q", s.KeyID)
		}
		ids[s.KeyID], sigs[s.Sig] = true, true
	}
	return nil
}

// refused says why no signature was accepted.
func refused(e *dsse.Envelope, known map[string]bool) error {
	var ids []string
	for _, s := range e.Signatures {
		if known[s.KeyID] {
			return fault.New(fault.Finding, hintSign, "signature of key %s does not fit what it signs: it was changed after signing", s.KeyID)
		}
		id := s.KeyID
		if id == "" {
			id = "an unnamed key"
		}
		ids = append(ids, strings.ToValidUTF8(id[:min(len(id), 80)], "?"))
	}
	return fault.New(fault.Finding, "if the key is yours, add its public half to the trust root; else sign with a trusted key",
		"signed by %s, which is not trusted", strings.Join(ids, ", "))
}

// edwards signs and verifies with Ed25519 for the dsse package.
type edwards struct {
	private ed25519.PrivateKey
	public  PublicKey
}

func (k edwards) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(k.private, data), nil
}

func (k edwards) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(k.public.key, data, sig) {
		return errors.New("signature does not fit")
	}
	return nil
}

func (k edwards) KeyID() (string, error) { return k.public.ID(), nil }

func (k edwards) Public() crypto.PublicKey { return k.public.key }
