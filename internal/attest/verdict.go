package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Type names of what is signed: https://in-toto.io/Statement/v1 and
// https://slsa.dev/spec/v1.1/verification_summary.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://slsa.dev/verification_summary/v1"

	slsaVersion = "1.1"
	imageName   = "image"
	// A level says what was verified. It claims nothing about SLSA's own build
	// levels: those are for whoever verifies provenance to grant.
	levelPassed = "ULTRAFAST_RELEASE_CHECKS"
	levelFailed = "FAILED"

	resultPassed = "PASSED"
	resultFailed = "FAILED"

	uriImage  = "urn:ultrafast:image:"
	uriPolicy = "urn:ultrafast:policy"
	uriEntry  = "urn:ultrafast:entry"
)

// MaxRequired bounds the required checks of one verdict.
const MaxRequired = 200

// Verdict is the judgement on one image.
type Verdict struct {
	// Entry is the digest of the validate entry that holds the checks.
	Entry state.Digest
	// Image is the manifest that was judged, Tree what it was built from.
	Image, Tree state.Digest
	// Policy is the digest of the rules that were applied.
	Policy state.Digest
	// Required are the ids of the checks that must have passed under the policy,
	// sorted, at most [MaxRequired]; none stands for all that the entry has.
	Required []string
	Passed   bool
	// Verifier is a URI that names who judged.
	Verifier string
	// Time is when it was judged; written in UTC to the second.
	Time time.Time
}

// The parts of the statement that are used here.
type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     predicate  `json:"predicate"`
}

type resource struct {
	Name   string    `json:"name,omitempty"`
	URI    string    `json:"uri,omitempty"`
	Digest digestSet `json:"digest,omitzero"`
}

type digestSet struct {
	SHA256 string `json:"sha256,omitempty"`
}

type predicate struct {
	Verifier struct {
		ID string `json:"id"`
	} `json:"verifier"`
	TimeVerified       string     `json:"timeVerified"`
	ResourceURI        string     `json:"resourceUri"`
	Policy             resource   `json:"policy"`
	InputAttestations  []resource `json:"inputAttestations"`
	VerificationResult string     `json:"verificationResult"`
	VerifiedLevels     []string   `json:"verifiedLevels"`
	SLSAVersion        string     `json:"slsaVersion"`
	// Tree is an extension field, named <vendor>_<field> as SLSA asks.
	Tree digestSet `json:"ultrafast_tree"`
	// Required is one too.
	Required []string `json:"ultrafast_required,omitempty"`
}

// Statement returns the verdict as an in-toto statement in canonical form: equal
// verdicts give equal bytes. A verdict that lacks a part is an error.
func (v Verdict) Statement() ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	s := statement{
		Type:          StatementType,
		Subject:       []resource{{Name: imageName, Digest: hexOf(v.Image)}},
		PredicateType: PredicateType,
		Predicate: predicate{
			TimeVerified:       v.Time.UTC().Format(time.RFC3339),
			ResourceURI:        uriImage + string(v.Image),
			Policy:             resource{URI: uriPolicy, Digest: hexOf(v.Policy)},
			InputAttestations:  []resource{{URI: uriEntry, Digest: hexOf(v.Entry)}},
			VerificationResult: resultFailed,
			VerifiedLevels:     []string{levelFailed},
			SLSAVersion:        slsaVersion,
			Tree:               hexOf(v.Tree),
			Required:           v.Required,
		},
	}
	s.Predicate.Verifier.ID = v.Verifier
	if v.Passed {
		s.Predicate.VerificationResult, s.Predicate.VerifiedLevels = resultPassed, []string{levelPassed}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// ParseVerdict reads a statement made by [Verdict.Statement]. Another type, a
// missing part or a result that is neither PASSED nor FAILED is an error of kind
// fault.Finding. Fields that it does not know are ignored, as in-toto asks.
func ParseVerdict(payload []byte) (Verdict, error) {
	v, err := parseVerdict(payload)
	if err != nil {
		return Verdict{}, fault.New(fault.Finding, "sign the verdict again with `validate sign`", "verdict: %w", err)
	}
	return v, nil
}

func parseVerdict(payload []byte) (Verdict, error) {
	var s statement
	dec := json.NewDecoder(bytes.NewReader(payload))
	if err := dec.Decode(&s); err != nil {
		return Verdict{}, fmt.Errorf("statement is not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Verdict{}, errors.New("there is more after the statement")
	}
	p := s.Predicate
	switch {
	case s.Type != StatementType:
		return Verdict{}, fmt.Errorf("statement has type %.80q, not %q", s.Type, StatementType)
	case s.PredicateType != PredicateType:
		return Verdict{}, fmt.Errorf("statement has predicate type %.80q, not %q", s.PredicateType, PredicateType)
	case len(s.Subject) != 1 || s.Subject[0].Name != imageName:
		return Verdict{}, fmt.Errorf("statement is not about exactly one subject called %q", imageName)
	case len(p.InputAttestations) != 1:
		return Verdict{}, fmt.Errorf("statement rests on %d entries, not 1", len(p.InputAttestations))
	case p.VerificationResult != resultPassed && p.VerificationResult != resultFailed:
		return Verdict{}, fmt.Errorf("verification result is %.80q, not %q or %q", p.VerificationResult, resultPassed, resultFailed)
	}
	at, err := time.Parse(time.RFC3339, p.TimeVerified)
	if err != nil {
		return Verdict{}, fmt.Errorf("time of verification: %w", err)
	}
	v := Verdict{
		Entry: digestFrom(p.InputAttestations[0].Digest), Image: digestFrom(s.Subject[0].Digest),
		Tree: digestFrom(p.Tree), Policy: digestFrom(p.Policy.Digest), Required: p.Required,
		Passed: p.VerificationResult == resultPassed, Verifier: p.Verifier.ID, Time: at.UTC(),
	}
	if want := uriImage + string(v.Image); p.ResourceURI != want {
		return Verdict{}, fmt.Errorf("resource is %.120q, not %q", p.ResourceURI, want)
	}
	return v, v.check()
}

func (v Verdict) check() error {
	for _, part := range []struct {
		name   string
		digest state.Digest
	}{{"entry", v.Entry}, {"image", v.Image}, {"tree", v.Tree}, {"policy", v.Policy}} {
		if _, err := state.ParseDigest(string(part.digest)); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	switch {
	case len(v.Required) > MaxRequired:
		return fmt.Errorf("%d checks are required; at most %d are read", len(v.Required), MaxRequired)
	case slices.Contains(v.Required, ""):
		return errors.New("a required check has no id")
	case !slices.IsSorted(v.Required):
		return errors.New("required checks are out of order")
	case v.Verifier == "":
		return errors.New("verifier is not named")
	case v.Time.IsZero():
		return errors.New("time is not set")
	case v.Time.UTC().Year() < 1970 || v.Time.UTC().Year() > 9999:
		return fmt.Errorf("year %d is out of range", v.Time.UTC().Year())
	}
	return nil
}

func hexOf(d state.Digest) digestSet { return digestSet{SHA256: d.Hex()} }

func digestFrom(d digestSet) state.Digest { return state.Digest("sha256:" + d.SHA256) }
