package app

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/report"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Note adds a finding that is of no phase to what is shown of the run.
func (a *App) Note(f finding.Finding) {
	a.run.Findings = append(a.run.Findings, f)
	a.Terminal.Finding(f)
}

// Checked says that this command checks something: its reports are written if it finds
// nothing too, for what uploads them takes a missing file for a failure.
func (a *App) Checked() { a.checked = true }

// WithoutSecret reports whether what is left out for want of the secret that flag
// names, since the platform gives this run none. That is noted as a finding and is
// no failure. Elsewhere a missing secret is a mistake of the call.
func (a *App) WithoutSecret(what, flag string) bool {
	why := a.Platform.NoSecrets()
	if why == "" {
		return false
	}
	a.Note(finding.Finding{
		Rule: "no-secrets", Severity: finding.Info,
		What: fmt.Sprintf("%s is skipped: %s gets no secrets, and --%s is empty", what, why, flag),
		Fix:  "nothing to do here; it runs when the change is on a branch of the repository itself",
	})
	return true
}

// publish shows the run where the platform shows such things: annotations, the
// summary page, report files. A report that cannot be written is logged and changes
// no exit code, for the run itself is done.
func (a *App) publish(failure error, kind fault.Kind, hint string) {
	r := a.run
	r.Tool, r.Version, r.Started, r.Duration = a.Tool, Version(), a.start, a.Now().Sub(a.start)
	r.Passed = failure == nil
	if failure != nil {
		r.Error, r.Hint, r.Kind = failure.Error(), hint, kind
	}
	if r.Passed && len(r.Phases) == 0 && len(r.Findings) == 0 && !a.checked {
		return // nothing was checked: a listing, the help
	}
	if r.Verdict == "" {
		r.Verdict = a.Tool
	}
	r.Findings = report.Below(a.projectBelowRoot(), r.Findings)
	if len(a.redact) > 0 {
		r = r.Map(strings.NewReplacer(a.redactions()...).Replace)
	}
	a.annotate(r)
	if limit := a.Platform.SummaryLimit(); limit > 0 {
		if err := a.Platform.Summary(report.Summary(r, limit)); err != nil {
			a.Log.Warn("no summary", "error", err)
		}
	}
	if err := a.writeReports(r); err != nil {
		a.Log.Warn("no reports", "error", err)
	}
}

// redactions returns the pairs for a replacer, longest secret first: of two that
// begin alike a replacer takes the one that was named first.
func (a *App) redactions() []string {
	pairs := slices.Collect(slices.Chunk(a.redact, 2))
	slices.SortStableFunc(pairs, func(x, y []string) int { return len(y[0]) - len(x[0]) })
	return slices.Concat(pairs...)
}

// annotate shows what ended the run first, so that it is among those that fit, and
// the gravest findings next.
func (a *App) annotate(r report.Report) {
	if r.Error != "" {
		a.Platform.Annotate(finding.Finding{Rule: r.Tool, Severity: finding.High, What: r.Error, Fix: r.Hint})
	}
	for _, f := range report.Gravest(r.Findings) {
		a.Platform.Annotate(f)
	}
}

// projectBelowRoot returns the project's directory relative to the repository's, with
// forward slashes; empty if they are the same or one is not known.
func (a *App) projectBelowRoot() string {
	root := a.Platform.Root()
	if root == "" || a.projectDir == "" {
		return ""
	}
	rel, err := filepath.Rel(root, a.projectDir)
	if err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	return filepath.ToSlash(rel)
}

// writeReports writes the report files into --report-dir, or where the platform
// looks for them.
func (a *App) writeReports(r report.Report) error {
	dir := a.ReportDir
	if dir == "" {
		dir = a.Platform.ReportDir()
	}
	if dir == "" {
		return nil
	}
	dir = a.Abs(dir)
	files, err := report.Files(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
