// Package report turns what a run found into the forms that CI systems read: a step
// summary in Markdown, SARIF, JUnit XML, GitLab's code-quality and SAST reports.
//
// It is pure: one value in, bytes out, the same for the same value. It opens no file
// and asks no clock. Every text in a report may come from outside; none of it is
// ever markup in what is written here.
package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Report is one run.
type Report struct {
	// Tool is the name of the binary, Version that of its module.
	Tool, Version string
	Passed        bool
	// Verdict is one sentence.
	Verdict string
	// Error and Hint are what ended a run that did not pass, and what to do.
	Error, Hint string
	// Kind is that of the error.
	Kind     fault.Kind
	Started  time.Time
	Duration time.Duration
	Phases   []Phase
	Findings []finding.Finding
	// Facts are lines for people: a name and a value.
	Facts [][2]string
	// State is the reference to the chain; empty if there is none.
	State string
}

// Phase is one phase of a run. Phases follow one another without a gap.
type Phase struct {
	Name     phase.Name
	Outcome  state.Outcome
	Cached   bool
	Duration time.Duration
	Summary  string
	Checks   []state.Check
}

// File is a report with its name in the directory of reports.
type File struct {
	Name    string
	Content []byte
}

// Names of the report files.
const (
	SARIFName       = "results.sarif"
	JUnitName       = "junit.xml"
	CodeQualityName = "gl-code-quality-report.json"
	SASTName        = "gl-sast-report.json"
)

// Files returns every report that is a file, in the order of the names above.
func Files(r Report) ([]File, error) {
	var files []File
	for _, f := range []struct {
		name  string
		write func(Report) ([]byte, error)
	}{{SARIFName, SARIF}, {JUnitName, JUnit}, {CodeQualityName, CodeQuality}, {SASTName, SAST}} {
		content, err := f.write(r)
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
		files = append(files, File{f.name, content})
	}
	return files, nil
}

// Below returns the findings with their places below dir, a relative directory with
// forward slashes: places are relative to the project, reports to the repository.
func Below(dir string, findings []finding.Finding) []finding.Finding {
	out := make([]finding.Finding, len(findings))
	for i, f := range findings {
		if f.Where.File != "" && dir != "" && dir != "." && !path.IsAbs(f.Where.File) {
			f.Where.File = path.Join(dir, f.Where.File)
		}
		out[i] = f
	}
	return out
}

const (
	maxField = 2000 // bytes of a line of outside text
	maxLines = 40   // lines of a field; the rest of a log is in the evidence
)

// text returns outside text of several lines, cleaned.
func text(s string) string { return strings.Join(finding.CleanLines(s, maxLines, maxField), "\n") }

// line returns outside text as one line, cleaned.
func line(s string) string { return finding.Clean(s, maxField) }

// message returns all that is known of a finding, a field to a line.
func message(f finding.Finding) string {
	var b strings.Builder
	b.WriteString(text(f.What))
	for _, field := range fields(f) {
		fmt.Fprintf(&b, "\n%s: %s", field[0], text(field[1]))
	}
	return b.String()
}

// fields returns the fields of a finding after what and where, without empty ones.
func fields(f finding.Finding) [][2]string {
	var out [][2]string
	for _, field := range [][2]string{{"why", f.Why}, {"fix", f.Fix}, {"reproduce", f.Reproduce}, {"resume", f.Resume}} {
		if strings.TrimSpace(field[1]) != "" {
			out = append(out, field)
		}
	}
	return out
}

// relative returns the file of a place as a clean path below the repository, or the
// empty string: an absolute path, or one that leads out, names nothing there.
func relative(p finding.Place) string {
	file := path.Clean(strings.ReplaceAll(p.File, `\`, "/"))
	if p.File == "" || len(file) > maxField || path.IsAbs(file) || file == "." || file == ".." || strings.HasPrefix(file, "../") || strings.HasPrefix(file, "file:") {
		return ""
	}
	return line(file)
}

// fingerprints counts equal findings, so that each gets its own fingerprint.
type fingerprints map[string]int

// of returns what tells a finding from others and stays the same from run to run:
// the digest of rule, file and text without its numbers, which are measured anew
// each time, and of how many equal ones came before. The line is left out: it moves
// with every edit above it.
func (seen fingerprints) of(f finding.Finding) string {
	what := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, f.What)
	h := sha256.New()
	for _, part := range []string{f.Rule, relative(f.Where), what} {
		fmt.Fprintf(h, "%d:%s,", len(part), part)
	}
	base := string(h.Sum(nil))
	seen[base]++
	h.Write([]byte(strconv.Itoa(seen[base])))
	return hex.EncodeToString(h.Sum(nil))
}

// encode returns v as indented JSON. HTML is not escaped: no report is part of a page.
func encode(v any) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return []byte(b.String()), err
}

// Map returns the report with f applied to every text in it that may come from
// outside, the names of rules and checks included.
func (r Report) Map(f func(string) string) Report {
	r.Verdict, r.Error, r.Hint, r.State = f(r.Verdict), f(r.Error), f(r.Hint), f(r.State)
	r.Phases = slices.Clone(r.Phases)
	for i := range r.Phases {
		p := &r.Phases[i]
		p.Summary, p.Checks = f(p.Summary), slices.Clone(p.Checks)
		for j := range p.Checks {
			p.Checks[j].Name = f(p.Checks[j].Name)
		}
	}
	r.Findings = slices.Clone(r.Findings)
	for i := range r.Findings {
		g := &r.Findings[i]
		for _, s := range []*string{&g.Rule, &g.What, &g.Where.File, &g.Why, &g.Fix, &g.Reproduce, &g.Resume} {
			*s = f(*s)
		}
	}
	r.Facts = slices.Clone(r.Facts)
	for i := range r.Facts {
		r.Facts[i] = [2]string{f(r.Facts[i][0]), f(r.Facts[i][1])}
	}
	return r
}
