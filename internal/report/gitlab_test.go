package report_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/report"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// TestGitLabSchemas holds the reports to what GitLab's schemas ask for: SAST 15.0.7
// (security-report-schemas) and the code-quality format of GitLab's documentation. A
// report that breaks them is dropped by GitLab as a whole.
func TestGitLabSchemas(t *testing.T) {
	t.Parallel()
	var all []finding.Finding
	for _, text := range append(slices.Clone(hostile), "", strings.Repeat("é", 9000), strings.Repeat("word\n", 9000)) {
		all = append(all, finding.Finding{
			Rule: text, What: text, Why: text, Fix: text, Severity: finding.Severity(text), Where: finding.Place{File: "main.go", Line: -1},
		})
	}
	all = append(all, failed().Findings...)
	r := failed()
	r.Findings = all
	for _, r := range []report.Report{r, failed()} {
		sast, err := report.SAST(r)
		if err != nil {
			t.Fatal(err)
		}
		checkSAST(t, sast)
		quality, err := report.CodeQuality(r)
		if err != nil {
			t.Fatal(err)
		}
		checkQuality(t, quality)
	}
}

type object = map[string]any

func checkSAST(t *testing.T, content []byte) {
	t.Helper()
	var doc struct {
		Version         string
		Scan            object
		Vulnerabilities []object
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Version != "15.0.7" || doc.Vulnerabilities == nil {
		t.Errorf("version %q, vulnerabilities %v", doc.Version, doc.Vulnerabilities)
	}
	stamp := regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}$`)
	for _, name := range []string{"start_time", "end_time"} {
		if s, _ := doc.Scan[name].(string); !stamp.MatchString(s) {
			t.Errorf("%s is %q", name, s)
		}
	}
	if doc.Scan["type"] != "sast" || !slices.Contains([]any{"success", "failure"}, doc.Scan["status"]) {
		t.Errorf("scan of type %v with status %v", doc.Scan["type"], doc.Scan["status"])
	}
	for _, name := range []string{"analyzer", "scanner"} {
		program, _ := doc.Scan[name].(object)
		vendor, _ := program["vendor"].(object)
		fields := object{"id": program["id"], "name": program["name"], "version": program["version"], "vendor": vendor["name"]}
		for field, v := range fields {
			if s, _ := v.(string); s == "" {
				t.Errorf("%s has no %s", name, field)
			}
		}
	}
	ids := map[any]bool{}
	for _, v := range doc.Vulnerabilities {
		for field, most := range map[string]int{"id": 1 << 20, "name": 255, "description": 1 << 20, "solution": 7000} {
			s, _ := v[field].(string)
			if n := utf8.RuneCountInString(s); n > most || field == "id" && n == 0 {
				t.Errorf("%s has %d characters: %.40q", field, n, s)
			}
		}
		if ids[v["id"]] {
			t.Errorf("id %v occurs twice", v["id"])
		}
		ids[v["id"]] = true
		if !slices.Contains([]any{"Info", "Unknown", "Low", "Medium", "High", "Critical"}, v["severity"]) {
			t.Errorf("severity %v", v["severity"])
		}
		if place, _ := v["location"].(object); place["file"] == nil {
			t.Errorf("location %v", v["location"])
		}
		identifiers, _ := v["identifiers"].([]any)
		if len(identifiers) == 0 {
			t.Error("no identifiers")
		}
		for _, i := range identifiers {
			for _, field := range []string{"type", "name", "value"} {
				if s, _ := i.(object)[field].(string); s == "" {
					t.Errorf("an identifier has no %s", field)
				}
			}
		}
	}
}

func checkQuality(t *testing.T, content []byte) {
	t.Helper()
	var issues []object
	if err := json.Unmarshal(content, &issues); err != nil || issues == nil {
		t.Fatalf("%v: %.40s", err, content)
	}
	prints := map[any]bool{}
	for _, i := range issues {
		for _, field := range []string{"description", "check_name", "fingerprint", "severity"} {
			if s, _ := i[field].(string); s == "" {
				t.Errorf("an issue has no %s: %v", field, i)
			}
		}
		if !slices.Contains([]any{"info", "minor", "major", "critical", "blocker"}, i["severity"]) {
			t.Errorf("severity %v", i["severity"])
		}
		if prints[i["fingerprint"]] {
			t.Errorf("fingerprint %v occurs twice", i["fingerprint"])
		}
		prints[i["fingerprint"]] = true
		place, _ := i["location"].(object)
		lines, _ := place["lines"].(object)
		path, _ := place["path"].(string)
		if begin, _ := lines["begin"].(float64); begin < 1 || path == "" || strings.HasPrefix(path, "./") {
			t.Errorf("location %v", place)
		}
	}
}
