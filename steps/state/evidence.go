package state

import (
	"slices"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Evidence is what a run saw while it made a claim. It is stored beside the
// claim and names the claim's digest; it is not part of the chain.
type Evidence struct {
	// Subject is the digest of the entry that this is evidence for. The pipeline fills it.
	Subject Digest `json:"subject"`
	// Kind says what the evidence is: "run" for what a phase returns with its
	// entry, "signature" for a signed verdict.
	Kind string `json:"kind"`
	// Attempt counts from 1.
	Attempt  int           `json:"attempt,omitempty"`
	Started  time.Time     `json:"started,omitzero"`
	Duration time.Duration `json:"durationNanoseconds,omitempty"`
	// Producer is who ran the phase. The pipeline fills it.
	Producer Producer `json:"producer,omitzero"`
	// Artifacts are logs, reports, signatures: bytes that may differ between runs.
	Artifacts []Artifact `json:"artifacts,omitempty"`
	// Backend is the clean room or target that was used.
	Backend string `json:"backend,omitempty"`
	// Facts are other things worth knowing, by dotted name: "isolation.level",
	// "limit.memory", "tool.go", "test.TestA.seconds".
	Facts map[string]string `json:"facts,omitempty"`
	// Findings are remarks for people and platforms.
	Findings []finding.Finding `json:"findings,omitempty"`
	// Summary is one short line for the timeline: "214 files", "12 of 12 tests passed".
	Summary string `json:"summary,omitempty"`
}

// Kinds of evidence.
const (
	KindRun       = "run"
	KindSignature = "signature"
)

// Producer is who ran a phase: a key id locally, an OIDC subject in CI.
type Producer struct {
	// Platform is "local", "github", "gitlab" or "tekton".
	Platform string `json:"platform,omitempty"`
	Identity string `json:"identity,omitempty"`
}

// Artifact returns the artifact of the evidence called name.
func (e *Evidence) Artifact(name string) (Artifact, bool) {
	for _, a := range e.Artifacts {
		if a.Name == name {
			return a, true
		}
	}
	return Artifact{}, false
}

// Run returns the newest evidence of a run of the entry; without one it is empty.
func (l *Link) Run() *Evidence {
	for i := range slices.Backward(l.Evidence) {
		if l.Evidence[i].Kind == KindRun {
			return &l.Evidence[i]
		}
	}
	return &Evidence{}
}

// Result is what a phase returns. It may return a result and a finding error at
// once: a failed check still leaves its report.
type Result struct {
	Entry    Entry
	Evidence Evidence
}
