package report

import (
	"cmp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// qualityIssue is one entry of GitLab's code-quality report, a subset of Code
// Climate's format.
type qualityIssue struct {
	Description string          `json:"description"`
	CheckName   string          `json:"check_name"`
	Fingerprint string          `json:"fingerprint"`
	Severity    string          `json:"severity"`
	Location    qualityLocation `json:"location"`
}

type qualityLocation struct {
	Path  string       `json:"path"`
	Lines qualityLines `json:"lines"`
}

type qualityLines struct {
	Begin int `json:"begin"`
}

// CodeQuality returns the findings that have a place in the repository as GitLab's
// code-quality report. The format needs a line; where none is known it is the first.
func CodeQuality(r Report) ([]byte, error) {
	issues, seen := []qualityIssue{}, fingerprints{}
	for _, f := range r.Findings[:min(len(r.Findings), maxResults)] {
		file := relative(f.Where)
		if file == "" {
			continue
		}
		issues = append(issues, qualityIssue{
			Description: cmp.Or(line(f.What), ruleName(f)), CheckName: ruleName(f), Fingerprint: seen.of(f), Severity: qualitySeverity(f.Severity),
			Location: qualityLocation{Path: file, Lines: qualityLines{max(1, f.Where.Line)}},
		})
	}
	return encode(issues)
}

func qualitySeverity(s finding.Severity) string {
	switch s {
	case finding.Critical:
		return "blocker"
	case finding.High:
		return "critical"
	case finding.Medium:
		return "major"
	case finding.Low:
		return "minor"
	default:
		return "info"
	}
}

// sastVersion is the version of GitLab's security report schema that is written.
const sastVersion = "15.0.7"

// Bounds of that schema, there in characters, here in bytes.
const (
	maxSASTName     = 255
	maxSASTSolution = 7000
)

type sastReport struct {
	Version         string     `json:"version"`
	Scan            sastScan   `json:"scan"`
	Vulnerabilities []sastItem `json:"vulnerabilities"`
}

type sastScan struct {
	Analyzer  sastScanner `json:"analyzer"`
	Scanner   sastScanner `json:"scanner"`
	Type      string      `json:"type"`
	StartTime string      `json:"start_time"`
	EndTime   string      `json:"end_time"`
	Status    string      `json:"status"`
}

type sastScanner struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	URL     string     `json:"url"`
	Vendor  sastVendor `json:"vendor"`
	Version string     `json:"version"`
}

type sastVendor struct {
	Name string `json:"name"`
}

type sastItem struct {
	ID          string           `json:"id"`
	Name        string           `json:"name"`
	Description string           `json:"description"`
	Severity    string           `json:"severity"`
	Solution    string           `json:"solution,omitempty"`
	Location    sastLocation     `json:"location"`
	Identifiers []sastIdentifier `json:"identifiers"`
}

type sastLocation struct {
	File      string `json:"file"`
	StartLine int    `json:"start_line,omitempty"`
}

type sastIdentifier struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// SAST returns the findings that have a place in the repository as GitLab's SAST
// report. The scan succeeded when it came to a judgement, whatever that was.
func SAST(r Report) ([]byte, error) {
	scanner := sastScanner{ID: "ultrafast", Name: r.Tool, URL: homepage, Vendor: sastVendor{"Ultrafast"}, Version: r.Version}
	status := "success"
	if !r.Passed && r.Kind != fault.Finding {
		status = "failure"
	}
	out := sastReport{
		Version: sastVersion,
		Scan: sastScan{
			Analyzer: scanner, Scanner: scanner, Type: "sast", Status: status,
			StartTime: sastTime(r.Started), EndTime: sastTime(r.Started.Add(r.Duration)),
		},
		Vulnerabilities: []sastItem{},
	}
	seen := fingerprints{}
	for _, f := range r.Findings[:min(len(r.Findings), maxResults)] {
		file := relative(f.Where)
		if file == "" {
			continue
		}
		rule := ruleName(f)
		out.Vulnerabilities = append(out.Vulnerabilities, sastItem{
			ID: seen.of(f), Name: rule, Description: message(f), Severity: sastSeverity(f.Severity), Solution: cut(text(f.Fix), maxSASTSolution),
			Location:    sastLocation{File: file, StartLine: max(0, f.Where.Line)},
			Identifiers: []sastIdentifier{{Type: "ultrafast_check", Name: rule, Value: rule}},
		})
	}
	return encode(out)
}

// ruleName names the rule of a finding: GitLab takes no empty name, and none longer.
func ruleName(f finding.Finding) string {
	return cmp.Or(cut(line(f.Rule), maxSASTName), "unnamed")
}

// cut returns the first most bytes of s that are whole characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// sastTime is the schema's form: UTC, seconds, no zone.
func sastTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05") }

func sastSeverity(s finding.Severity) string {
	switch s {
	case finding.Critical, finding.High, finding.Medium, finding.Low, finding.Info:
		return strings.ToUpper(string(s[:1])) + string(s[1:])
	default:
		return "Unknown"
	}
}
