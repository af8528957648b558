package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	// maxFull is how many findings are shown with all their fields.
	maxFull = 50
	// reserve is kept for what stands below the findings, in bytes.
	reserve = 8 << 10
	// minSummary is the least room in which a summary makes sense.
	minSummary = 64 << 10
)

// Summary returns the page that a CI system shows for a step, in GitHub's Markdown,
// at most limit bytes of it: the verdict, what to do, a table and a chart of the
// phases, the findings. When there are too many the gravest are shown in full, then
// names, then a count of what was left out. With less than 64 KiB of room there is
// no page.
func Summary(r Report, limit int) string {
	if limit < minSummary {
		return ""
	}
	p := &page{limit: limit - reserve}
	p.head(r)
	p.phases(r.Phases)
	p.findings(r.Findings)
	p.limit = limit
	p.foot(r)
	return p.b.String()
}

// page is Markdown that stays below a limit.
type page struct {
	b     strings.Builder
	limit int
}

// add writes a part that stands by itself, and reports whether it had room.
func (p *page) add(part string) bool {
	if p.b.Len()+len(part) > p.limit {
		return false
	}
	p.b.WriteString(part)
	return true
}

func (p *page) head(r Report) {
	shape := "✓"
	if !r.Passed {
		shape = "✗"
	}
	p.add(fmt.Sprintf("## %s %s\n\n", shape, words(r.Verdict)))
	if r.Error != "" {
		first, rest, _ := strings.Cut(r.Error, "\n")
		p.add(bold(first) + "\n\n")
		if strings.TrimSpace(rest) != "" {
			p.add(block(rest) + "\n")
		}
	}
	if next := whatNext(r); next != "" {
		p.add(next + "\n\n")
	}
}

// whatNext names the way out on one line.
func whatNext(r Report) string {
	var parts []string
	add := func(label, value string) {
		if value != "" {
			parts = append(parts, "**"+label+"** "+value)
		}
	}
	add("Fix", words(r.Hint))
	for _, f := range r.Findings {
		if r.Passed || !f.Severity.Gates() {
			continue
		}
		if len(parts) == 0 {
			add("Fix", words(f.Fix))
		}
		add("Reproduce", code(f.Reproduce))
		add("Resume", code(f.Resume))
		break
	}
	return strings.Join(parts, " · ")
}

func (p *page) phases(phases []Phase) {
	if len(phases) == 0 {
		return
	}
	var b strings.Builder
	b.WriteString("|Phase|Result|Time||\n|---|---|--:|---|\n")
	for _, ph := range phases {
		fmt.Fprintf(&b, "|%s|%s|%s|%s|\n", words(string(ph.Name)), result(ph), elapsed(ph.Duration), words(ph.Summary))
	}
	p.add(b.String() + "\n")
	p.add(gantt(phases))
}

func result(p Phase) string {
	switch {
	case p.Outcome != state.Passed:
		return "✗ " + words(string(p.Outcome))
	case p.Cached:
		return "✓ cached"
	}
	return "✓"
}

func elapsed(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// gantt returns the chart of the phases (mermaid 11). The axis follows the time zone
// of the reader, so that times stand in the labels.
func gantt(phases []Phase) string {
	var b strings.Builder
	b.WriteString("```mermaid\ngantt\n  dateFormat x\n  axisFormat %S s\n  todayMarker off\n")
	var at time.Duration
	for _, p := range phases {
		tag, name := "", elapsed(p.Duration)
		switch {
		case p.Outcome != state.Passed:
			tag, name = "crit, ", "failed "+name
		case p.Cached:
			tag, name = "done, ", "cached "+name
		}
		// A bar of no length would be left out.
		end := at + max(p.Duration, time.Millisecond)
		fmt.Fprintf(&b, "  section %s\n  %s :%s%d, %d\n", label(string(p.Name)), label(name), tag, at.Milliseconds(), end.Milliseconds())
		at = end
	}
	return b.String() + "```\n\n"
}

// findings writes the gravest first: gates open, others folded.
func (p *page) findings(all []finding.Finding) {
	if len(all) == 0 {
		return
	}
	sorted := Gravest(all)
	shown := 0
	for _, f := range sorted[:min(len(sorted), maxFull)] {
		if !p.add(full(f)) {
			break
		}
		shown++
	}
	if shown == len(sorted) {
		return
	}
	p.names(sorted[shown:])
}

// Gravest returns the findings with the gravest first, otherwise in their order.
func Gravest(all []finding.Finding) []finding.Finding {
	order := []finding.Severity{finding.Critical, finding.High, finding.Medium, finding.Low, finding.Info}
	rank := func(f finding.Finding) int {
		if i := slices.Index(order, f.Severity); i >= 0 {
			return i
		}
		return len(order)
	}
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b finding.Finding) int { return rank(a) - rank(b) })
	return sorted
}

// full returns a finding with all its fields.
func full(f finding.Finding) string {
	if len(fields(f)) == 0 {
		return "- " + name(f) + "\n\n"
	}
	var b strings.Builder
	open := ""
	if f.Severity.Gates() {
		open = " open"
	}
	fmt.Fprintf(&b, "<details%s><summary>%s</summary>\n\n", open, name(f))
	for _, field := range fields(f) {
		fmt.Fprintf(&b, "%s\n%s\n", bold(field[0]), block(field[1]))
	}
	b.WriteString("</details>\n\n")
	return b.String()
}

// name returns a finding as one line.
func name(f finding.Finding) string {
	shape := "!"
	if f.Severity.Gates() {
		shape = "✗"
	}
	parts := []string{shape, words(string(f.Severity)), code(f.Rule), words(f.What)}
	if f.Where.File != "" {
		parts = append(parts, code(f.Where.String()))
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

func (p *page) names(rest []finding.Finding) {
	var b strings.Builder
	fmt.Fprintf(&b, "<details><summary>%d more findings</summary>\n\n", len(rest))
	const end = "\n</details>\n\n"
	left := p.limit - p.b.Len() - b.Len() - len(end)
	shown := 0
	for _, f := range rest {
		entry := "- " + name(f) + "\n"
		if left -= len(entry); left < 0 {
			break
		}
		b.WriteString(entry)
		shown++
	}
	if shown > 0 {
		p.add(b.String() + end)
	}
	if n := len(rest) - shown; n > 0 {
		p.b.WriteString(fmt.Sprintf("%d findings are left out for want of room; the SARIF file has them all.\n\n", n))
	}
}

func (p *page) foot(r Report) {
	for _, f := range r.Facts {
		if value := code(f[1]); value != "" {
			p.add(fmt.Sprintf("- %s %s\n", bold(f[0]), value))
		}
	}
	if r.State != "" {
		p.add("- **state** " + code(r.State) + "\n")
	}
	p.add("\n")
}
