package report

import (
	"net/url"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

const (
	homepage    = "https://github.com/ultrafast-ci/ultrafast"
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	// srcRoot is what GitHub calls the root of the repository.
	srcRoot = "%SRCROOT%"
	// fingerprintName is versioned, so that another rule for fingerprints gets
	// another name (SARIF 2.1.0, 3.27.17).
	fingerprintName = "ultrafast/v1"
	// maxResults is what GitHub's code scanning takes of a run.
	maxResults = 25000
)

type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool        sarifTool         `json:"tool"`
	Invocations []sarifInvocation `json:"invocations"`
	ColumnKind  string            `json:"columnKind"`
	Results     []sarifResult     `json:"results"`
}

type sarifTool struct {
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	Version        string      `json:"version,omitempty"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID               string       `json:"id"`
	ShortDescription sarifMessage `json:"shortDescription"`
}

type sarifMessage struct {
	Text string `json:"text"`
}

type sarifInvocation struct {
	ExecutionSuccessful bool                `json:"executionSuccessful"`
	Notifications       []sarifNotification `json:"toolExecutionNotifications,omitempty"`
}

type sarifNotification struct {
	Level      string         `json:"level"`
	Message    sarifMessage   `json:"message"`
	Descriptor sarifReference `json:"descriptor"`
}

type sarifReference struct {
	ID string `json:"id"`
}

type sarifResult struct {
	RuleID              string            `json:"ruleId"`
	RuleIndex           int               `json:"ruleIndex"`
	Level               string            `json:"level"`
	Message             sarifMessage      `json:"message"`
	Locations           []sarifLocation   `json:"locations"`
	PartialFingerprints map[string]string `json:"partialFingerprints"`
}

type sarifLocation struct {
	PhysicalLocation sarifPhysical `json:"physicalLocation"`
}

type sarifPhysical struct {
	ArtifactLocation sarifArtifact `json:"artifactLocation"`
	Region           *sarifRegion  `json:"region,omitempty"`
}

type sarifArtifact struct {
	URI       string `json:"uri"`
	URIBaseID string `json:"uriBaseId"`
}

type sarifRegion struct {
	StartLine   int `json:"startLine"`
	StartColumn int `json:"startColumn,omitempty"`
}

// SARIF returns the findings as SARIF 2.1.0. One without a place in the repository
// is a notification of the run: code scanning refuses a result without a location.
func SARIF(r Report) ([]byte, error) {
	run := sarifRun{
		Tool: sarifTool{sarifDriver{
			Name: r.Tool, Version: r.Version, InformationURI: homepage, Rules: []sarifRule{},
		}},
		Invocations: []sarifInvocation{{ExecutionSuccessful: r.Passed}},
		ColumnKind:  "unicodeCodePoints",
		Results:     []sarifResult{},
	}
	rules, seen := map[string]int{}, fingerprints{}
	for _, f := range r.Findings[:min(len(r.Findings), maxResults)] {
		rule := line(f.Rule)
		if relative(f.Where) == "" {
			notes := &run.Invocations[0].Notifications
			*notes = append(*notes, sarifNotification{sarifLevel(f.Severity), sarifMessage{message(f)}, sarifReference{rule}})
			continue
		}
		index, known := rules[rule]
		if !known {
			index = len(rules)
			rules[rule] = index
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: rule, ShortDescription: sarifMessage{rule}})
		}
		run.Results = append(run.Results, sarifResult{
			RuleID: rule, RuleIndex: index, Level: sarifLevel(f.Severity), Message: sarifMessage{message(f)},
			Locations:           []sarifLocation{{physical(f.Where)}},
			PartialFingerprints: map[string]string{fingerprintName: seen.of(f)},
		})
	}
	return encode(sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}})
}

func physical(p finding.Place) sarifPhysical {
	out := sarifPhysical{ArtifactLocation: sarifArtifact{
		URI: (&url.URL{Path: relative(p)}).String(), URIBaseID: srcRoot,
	}}
	if p.Line > 0 {
		out.Region = &sarifRegion{StartLine: p.Line, StartColumn: max(0, p.Column)}
	}
	return out
}

func sarifLevel(s finding.Severity) string {
	switch {
	case s.Gates():
		return "error"
	case s == finding.Medium:
		return "warning"
	}
	return "note"
}
