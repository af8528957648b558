package shacl

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Report is the outcome of a validation (section 3.6.1).
type Report struct {
	// Conforms is true if there is no result, of whatever severity.
	Conforms bool
	// Results are sorted by focus node, path, component, value and shape.
	Results []Result
	// Truncated tells that there are more results than the limit.
	Truncated bool
}

// Result is one remark of a validation (section 3.6.2).
type Result struct {
	Focus graph.Term
	// Path is a SPARQL property path; empty for a node shape.
	Path string
	// Value is the value node; the zero Term if the remark is about all of them.
	Value graph.Term
	// Component is the IRI of the constraint component.
	Component string
	// Severity is an IRI: [Violation], [Warning], [Info], or another that the
	// shape names.
	Severity string
	// Messages are those of the shape, in the order of the graph.
	Messages []graph.Term
	Shape    graph.Term
	// ShapeName tells people where a shape without a name of its own is.
	ShapeName string
	// Text says in English what is wrong with the value, or the focus node if
	// there is none. Fix says what to change, if that is known.
	Text, Fix string
	// Details are results of the shapes that this one is about, at most 16 in all.
	Details []Result
}

// newReport sorts the results and drops what is beyond the limit.
func newReport(results []Result, limit int) *Report {
	r := &Report{Conforms: len(results) == 0, Truncated: len(results) > limit}
	r.Results = results[:min(len(results), limit)]
	sortResults(r.Results)
	return r
}

func sortResults(results []Result) {
	slices.SortStableFunc(results, func(a, b Result) int {
		return cmp.Or(
			strings.Compare(a.Focus.String(), b.Focus.String()), strings.Compare(a.Path, b.Path),
			strings.Compare(a.Component, b.Component), strings.Compare(a.Value.String(), b.Value.String()),
			strings.Compare(a.ShapeName, b.ShapeName), strings.Compare(a.Text, b.Text),
		)
	})
}

// Violations returns how many results [Result.Gates].
func (r *Report) Violations() (violations int) {
	for i := range r.Results {
		if r.Results[i].Gates() {
			violations++
		}
	}
	return violations
}

// Gates tells whether the result is a violation. Severities other than
// [Warning] and [Info] are.
func (r *Result) Gates() bool { return r.Severity != Warning && r.Severity != Info }

// Message returns what the author of the shape says of it, in English if there
// is a choice, or else what is wrong in words of this package.
func (r *Result) Message() string {
	best, rank := r.Text, 0
	for _, m := range r.Messages {
		n := 1
		switch lang := strings.ToLower(m.Lang); {
		case lang == "en" || strings.HasPrefix(lang, "en-"):
			n = 3
		case lang == "":
			n = 2
		}
		if n > rank {
			best, rank = m.Value, n
		}
	}
	return best
}

// maxQuoted bounds a term that a line of text shows, in bytes.
const maxQuoted = 200

func quoted(t graph.Term) string {
	s := t.String()
	if len(s) > maxQuoted {
		return strings.ToValidUTF8(s[:maxQuoted], "") + "…"
	}
	return s
}

// String returns the result on one line: focus node, path, value, message.
func (r *Result) String() string {
	var b strings.Builder
	b.WriteString(quoted(r.Focus))
	if r.Path != "" {
		b.WriteString(" " + r.Path)
	}
	if r.Value != (graph.Term{}) && (r.Path != "" || r.Value != r.Focus) {
		b.WriteString(" " + quoted(r.Value))
	}
	return b.String() + ": " + strings.Join(strings.Fields(r.Message()), " ")
}

// Finding returns the result for platforms to draw. A graph keeps no places,
// so where says which file to look into.
func (r *Result) Finding(where finding.Place) finding.Finding {
	f := finding.Finding{
		Rule: "shape-" + kebab(strings.TrimSuffix(strings.TrimPrefix(r.Component, SH), "ConstraintComponent")),
		What: r.String(), Where: where, Fix: r.Fix,
	}
	switch r.Severity {
	case Warning:
		f.Severity = finding.Medium
	case Info:
		f.Severity = finding.Info
	default:
		f.Severity = finding.High
	}
	var why strings.Builder
	if r.Message() != r.Text {
		why.WriteString(r.Text + "\n")
	}
	fmt.Fprintf(&why, "shape %s", r.ShapeName)
	r.details(&why, 1)
	f.Why = why.String()
	if f.Fix == "" {
		f.Fix = "change the data, or the shape"
	}
	return f
}

func (r *Result) details(b *strings.Builder, depth int) {
	for i := range r.Details {
		fmt.Fprintf(b, "\n%s%s", strings.Repeat("  ", depth), r.Details[i].String())
		r.Details[i].details(b, depth+1)
	}
}

// kebab returns "MinCount" as "min-count".
func kebab(s string) string {
	var b strings.Builder
	for i, r := range s {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// WriteText writes a line for each result, its details indented below it.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for i := range r.Results {
		result := &r.Results[i]
		fmt.Fprintf(&b, "%s: %s", strings.ToLower(strings.TrimPrefix(result.Severity, SH)), result.String())
		result.details(&b, 1)
		b.WriteByte('\n')
	}
	if r.Truncated {
		fmt.Fprintf(&b, "and more: only the first %d results are kept\n", len(r.Results))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// resultJSON has the names of the standard's vocabulary; terms are in N-Triples.
type resultJSON struct {
	Focus     string   `json:"focusNode"`
	Path      string   `json:"resultPath,omitempty"`
	Value     string   `json:"value,omitempty"`
	Component string   `json:"sourceConstraintComponent"`
	Shape     string   `json:"sourceShape"`
	Severity  string   `json:"resultSeverity"`
	Messages  []string `json:"resultMessage,omitempty"`
	Text      string   `json:"text"`
	Fix       string   `json:"fix,omitempty"`
	Details   []Result `json:"detail,omitempty"`
}

// MarshalJSON writes the result with the names of section 3.6.2.
func (r Result) MarshalJSON() ([]byte, error) {
	out := resultJSON{
		Focus: r.Focus.String(), Path: r.Path, Value: r.Value.String(), Component: r.Component,
		Shape: r.Shape.String(), Severity: r.Severity, Text: r.Text, Fix: r.Fix, Details: r.Details,
	}
	for _, m := range r.Messages {
		out.Messages = append(out.Messages, m.String())
	}
	return json.Marshal(out)
}

// MarshalJSON writes the report with the names of section 3.6.1.
func (r *Report) MarshalJSON() ([]byte, error) {
	results := r.Results
	if results == nil {
		results = []Result{}
	}
	return json.Marshal(struct {
		Conforms  bool     `json:"conforms"`
		Truncated bool     `json:"truncated,omitempty"`
		Results   []Result `json:"result"`
	}{r.Conforms, r.Truncated, results})
}
