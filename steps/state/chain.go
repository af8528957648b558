package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ultrafast-ci/ultrafast/steps/phase"
)

// Media types of a stored entry: its claim is the config of an OCI manifest.
const (
	MediaTypeClaim    = "application/vnd.ultrafast.claim.v1+json"
	MediaTypeEvidence = "application/vnd.ultrafast.evidence.v1+json"
	mediaTypeEmpty    = "application/vnd.oci.empty.v1+json"

	// AnnotationPrev and AnnotationPhase are set on the manifest of an entry.
	AnnotationPrev  = "dev.ultrafast.prev"
	AnnotationPhase = "dev.ultrafast.phase"
	// AnnotationTitle carries the name of an artifact on its descriptor.
	AnnotationTitle = "org.opencontainers.image.title"
)

// Link is one entry of a chain with its digest and the evidence known for it.
type Link struct {
	Digest   Digest
	Entry    Entry
	Evidence []Evidence
}

// State is a chain, oldest entry first. The empty state is valid.
type State []Link

// Head returns the digest of the last entry, or the empty digest.
func (s State) Head() Digest {
	if len(s) == 0 {
		return ""
	}
	return s[len(s)-1].Digest
}

// Last returns the latest entry of the given phase.
func (s State) Last(name phase.Name) (*Link, bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i].Entry.Phase == name {
			return &s[i], true
		}
	}
	return nil, false
}

// Verify checks every digest and every link of the chain.
func (s State) Verify() error {
	prev := Digest("")
	for i := range s {
		digest, err := s[i].Entry.Digest()
		if err != nil {
			return fmt.Errorf("entry %d of the chain: %w", i+1, err)
		}
		if digest != s[i].Digest {
			return fmt.Errorf("entry %d of the chain (%s) has digest %s, not %s: it was changed", i+1, s[i].Entry.Phase, digest, s[i].Digest)
		}
		if s[i].Entry.Prev != prev {
			return fmt.Errorf("entry %d of the chain (%s) follows %q, not %q", i+1, s[i].Entry.Phase, s[i].Entry.Prev, prev)
		}
		prev = digest
	}
	return nil
}

// Claim returns the canonical encoding of the entry: JSON in field order, without
// white space or HTML escapes. Equal entries give equal bytes.
func (e *Entry) Claim() ([]byte, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	return canonical(e)
}

// Digest returns the digest of the entry's manifest, by which the chain names it.
func (e *Entry) Digest() (Digest, error) {
	manifest, err := e.Manifest()
	if err != nil {
		return "", err
	}
	return DigestOf(manifest), nil
}

// Manifest returns the OCI image manifest under which the entry is stored: the
// claim is its config, every distinct artifact a layer, the digest of the entry
// before it an annotation. It is a function of the claim alone, so any store
// gives an entry the same digest.
func (e *Entry) Manifest() ([]byte, error) {
	claim, err := e.Claim()
	if err != nil {
		return nil, err
	}
	annotations := map[string]string{AnnotationPhase: string(e.Phase)}
	if e.Prev != "" {
		annotations[AnnotationPrev] = string(e.Prev)
	}
	return canonical(manifest{
		SchemaVersion: 2,
		MediaType:     MediaTypeImageManifest,
		ArtifactType:  MediaTypeClaim,
		Config:        describe(MediaTypeClaim, claim),
		Layers:        layers(e.Artifacts),
		Annotations:   annotations,
	})
}

// EvidenceManifest returns the OCI manifest under which evidence is stored: it
// refers to the entry's manifest, of the given digest and size, as its subject.
// The second result is the encoded evidence, the manifest's config.
func EvidenceManifest(ev Evidence, subjectSize int64) (manifestBytes, config []byte, err error) {
	if config, err = canonical(ev); err != nil {
		return nil, nil, err
	}
	manifestBytes, err = canonical(manifest{
		SchemaVersion: 2,
		MediaType:     MediaTypeImageManifest,
		ArtifactType:  MediaTypeEvidence,
		Config:        describe(MediaTypeEvidence, config),
		Layers:        layers(ev.Artifacts),
		Subject:       &descriptor{MediaType: MediaTypeImageManifest, Digest: ev.Subject, Size: subjectSize},
	})
	return manifestBytes, config, err
}

// DecodeClaim returns the entry encoded in claim. Unknown fields are refused: a
// claim with a field that this program does not know cannot be judged by it.
func DecodeClaim(claim []byte) (Entry, error) {
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(claim))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("claim: %w", err)
	}
	if err := e.Check(); err != nil {
		return Entry{}, fmt.Errorf("claim: %w", err)
	}
	again, err := canonical(&e)
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, claim) {
		return Entry{}, fmt.Errorf("claim of phase %s is not in canonical form", e.Phase)
	}
	return e, nil
}

// EmptyBlob is the content of the layer of a manifest that has no artifacts, as
// the OCI image specification asks.
var EmptyBlob = []byte("{}")

// The part of the OCI image manifest that is used here, in canonical field order.
type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Subject       *descriptor       `json:"subject,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      Digest            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func describe(mediaType string, b []byte) descriptor {
	return descriptor{MediaType: mediaType, Digest: DigestOf(b), Size: int64(len(b))}
}

func layers(artifacts []Artifact) []descriptor {
	if len(artifacts) == 0 {
		return []descriptor{describe(mediaTypeEmpty, EmptyBlob)}
	}
	out := make([]descriptor, 0, len(artifacts))
	for _, a := range artifacts {
		out = append(out, descriptor{
			MediaType: a.MediaType, Digest: a.Digest, Size: a.Size,
			Annotations: map[string]string{AnnotationTitle: a.Name},
		})
	}
	return slices.Clip(out)
}

func canonical(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
