package generate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/shacl"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	maxShapeResults = 1000 // that one template tells of
	maxShapeLines   = 5    // that an error message shows
)

// verdicts keeps the outcome of validations: templates of one unit usually ask
// for the same shapes over the same graph.
type verdicts struct {
	mu    sync.Mutex
	known map[[2]*graph.Graph]*verdict
}

type verdict struct {
	once    sync.Once
	report  *shacl.Report
	remarks func(finding.Place) []finding.Finding
	err     error
}

func (v *verdicts) get(ctx context.Context, shapes, data *graph.Graph, limits Limits) *verdict {
	key := [2]*graph.Graph{shapes, data}
	v.mu.Lock()
	if v.known == nil {
		v.known = map[[2]*graph.Graph]*verdict{}
	}
	entry := v.known[key]
	if entry == nil {
		entry = &verdict{}
		v.known[key] = entry
	}
	v.mu.Unlock()
	entry.once.Do(func() {
		entry.report, entry.remarks, entry.err = validate(ctx, shapes, data, limits, maxShapeResults)
	})
	return entry
}

// validate takes no longer than one query may; results bounds those of the report.
func validate(ctx context.Context, shapes, data *graph.Graph, limits Limits, results int) (*shacl.Report, func(finding.Place) []finding.Finding, error) {
	limits = limits.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time,
		fault.New(fault.Finding, "raise the time limit, validate less data, or simplify paths with * and +", "validation takes longer than %s", limits.Time))
	defer cancel()
	parsed, err := shacl.Parse(ctx, shapes)
	if err != nil {
		return nil, nil, err
	}
	report, err := parsed.Validate(ctx, data, shacl.Limits{Results: results})
	return report, parsed.Remarks, err
}

// enforce holds the graph against the shapes that the template names (spec B1,
// `shape`). A violation stops the run before anything is queried or rendered;
// warnings and remarks become findings.
func (j *job) enforce(ctx context.Context, data *graph.Graph) error {
	if len(j.set.shapes) == 0 {
		return nil
	}
	var sources []source
	var names []string
	for i := range j.set.shapes {
		s, err := packageGraph(j.template, &j.set, &j.set.shapes[i])
		if err != nil {
			return err
		}
		sources, names = append(sources, s), append(names, j.set.shapes[i].text)
	}
	where := j.set.shapes[0].node.Place
	shapes, err := j.graphs.get(ctx, sources)
	if err != nil {
		return err
	}
	doing := fmt.Sprintf("%s: shape %s", where, strings.Join(names, ", "))
	v := j.graphs.verdicts.get(ctx, shapes, data, j.graphs.limits)
	if v.err != nil {
		return fault.Wrap(v.err, fault.KindOf(v.err), "", doing)
	}
	j.findings = append(j.findings, v.remarks(where)...)
	for i := range v.report.Results {
		j.findings = append(j.findings, v.report.Results[i].Finding(where))
	}
	if v.report.Violations() == 0 {
		return nil
	}
	return fault.New(fault.Finding, "change the graph, or the shape", "%s: %w", doing, &nonconformance{v.report, j.findings})
}

// nonconformance says that a graph violates its shapes.
type nonconformance struct {
	report   *shacl.Report
	findings []finding.Finding // of the template
}

// Error counts the violations and shows the first of them, one on a line.
func (n *nonconformance) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the graph has %s", n.summary())
	shown := 0
	for i := range n.report.Results {
		r := &n.report.Results[i]
		if !r.Gates() {
			continue
		}
		if shown++; shown > maxShapeLines {
			fmt.Fprintf(&b, "\n  and %d more", n.report.Violations()-maxShapeLines)
			break
		}
		fmt.Fprintf(&b, "\n  %s", r.String())
	}
	return b.String()
}

func (n *nonconformance) summary() string {
	switch count := n.report.Violations(); {
	case n.report.Truncated:
		return fmt.Sprintf("more than %d violations", count)
	case count == 1:
		return "1 violation"
	default:
		return fmt.Sprintf("%d violations", count)
	}
}

// refusal returns the entry of a run that ended with an error: if the graph was
// found wanting, one that keeps every finding for people and platforms.
func (s *Step) refusal(inputs []state.Input, err error) (state.Result, error) {
	var wanting *nonconformance
	if !errors.As(err, &wanting) {
		return state.Result{}, err
	}
	return state.Result{
		Entry:    state.Entry{Outcome: state.Failed, Inputs: inputs, Generate: &state.Generate{Templates: []string{}, Seed: s.Options.Seed}},
		Evidence: state.Evidence{Findings: wanting.findings, Summary: wanting.summary()},
	}, err
}

// Shapes holds documents against shapes, for whoever wants to see what the
// engine finds.
type Shapes struct {
	// Data are merged, and so are Shapes; neither may name a graph.
	Data, Shapes []Document
	Limits       Limits
}

// Validate returns the report, and remarks about the shapes themselves. A
// report that does not conform is no error.
func (s Shapes) Validate(ctx context.Context) (*shacl.Report, []finding.Finding, error) {
	data, err := Query{Documents: s.Data, Limits: s.Limits}.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	shapes, err := Query{Documents: s.Shapes, Limits: s.Limits}.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	report, remarks, err := validate(ctx, shapes, data, s.Limits, shacl.MaxResults)
	if err != nil {
		return nil, nil, fault.Wrap(err, fault.KindOf(err), "", "validate")
	}
	return report, remarks(finding.Place{}), nil
}
