package cleanroom

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/attest"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// What is written of SLSA provenance v1 (https://slsa.dev/spec/v1.0/provenance).
type (
	provenanceStatement struct {
		Type          string               `json:"_type"`
		Subject       []resourceDescriptor `json:"subject"`
		PredicateType string               `json:"predicateType"`
		Predicate     provenance           `json:"predicate"`
	}
	provenance struct {
		Definition struct {
			BuildType    string               `json:"buildType"`
			External     externalParameters   `json:"externalParameters"`
			Dependencies []resourceDescriptor `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		Run struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
	externalParameters struct {
		Package Package `json:"package"`
		Suites  []Suite `json:"suites,omitempty"`
		Network Network `json:"network"`
	}
	resourceDescriptor struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
)

const (
	provenanceType = "https://slsa.dev/provenance/v1"
	// buildType says how the parameters are to be understood, builderID who is trusted:
	// this program, on whatever machine. Which one it was is evidence.
	buildType = projectURL + "/cleanroom-test/v1"
	builderID = projectURL + "/steps/cleanroom"
)

// provenance says from what the image was made: an in-toto statement that nobody has
// signed. It names neither host nor time nor back end, so it is the same wherever the
// same image is.
func (t *trial) provenance(image state.Digest, base state.BaseImage) ([]byte, error) {
	s := provenanceStatement{
		Type: attest.StatementType, PredicateType: provenanceType,
		Subject: []resourceDescriptor{{Name: t.program.name, Digest: sha256Of(image)}},
	}
	p := t.step.Package
	if t.baseRef.Transport != "" { // a path of this machine
		p.Base = t.baseRef.Name()
	}
	s.Predicate.Definition.BuildType = buildType
	s.Predicate.Definition.External = externalParameters{p, t.step.Suites, cmp.Or(t.step.Network, NetworkNone)}
	needs := []resourceDescriptor{{Name: "tree", URI: "urn:ultrafast:tree:" + string(t.tree), Digest: sha256Of(t.tree)}}
	if base.Digest != "" {
		needs = append(needs, resourceDescriptor{Name: "base", URI: cmp.Or(base.Name, "urn:ultrafast:image:"+string(base.Digest)), Digest: sha256Of(base.Digest)})
	}
	for _, s := range t.suites {
		r := resourceDescriptor{Name: "toolchain", URI: purl("generic", string(s.kind()), s.tool.Version)}
		if s.Image != "" { // pinned; the host's tools are known by their versions
			r.URI, r.Digest = s.Image, sha256Of(s.tool.Digest)
		}
		if !slices.ContainsFunc(needs, func(known resourceDescriptor) bool { return known.URI == r.URI }) {
			needs = append(needs, r)
		}
	}
	slices.SortFunc(needs, func(a, b resourceDescriptor) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.URI, b.URI))
	})
	s.Predicate.Definition.Dependencies = needs
	s.Predicate.Run.Builder.ID = builderID
	return encode(s)
}

func sha256Of(d state.Digest) map[string]string { return map[string]string{"sha256": d.Hex()} }
