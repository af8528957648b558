package generate

import (
	"context"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/internal/graph/sparql"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Limits bound what one query costs, with the reading of its graphs (spec N-19).
// A field that is 0 has the default of [DefaultLimits].
type Limits struct {
	// Rows of a result, or its triples.
	Rows int
	// Time of one query.
	Time time.Duration
	// Memory in bytes: what a query keeps, and apart from that what its graphs take.
	Memory int64
	// Depth of nesting in queries and graph files. Queries have 256 at most.
	Depth int
	// PathLength is the steps of a property path with * or +.
	PathLength int
}

// queryTime is the default of Limits.Time.
const queryTime = 2 * time.Minute

// DefaultLimits returns the limits that hold where no others are set.
func DefaultLimits() Limits {
	return Limits{Rows: 1_000_000, Time: queryTime, Memory: 1 << 30, Depth: sparql.MaxDepth, PathLength: sparql.MaxPathLength}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	if l.Rows == 0 {
		l.Rows = d.Rows
	}
	if l.Time == 0 {
		l.Time = d.Time
	}
	if l.Memory == 0 {
		l.Memory = d.Memory
	}
	if l.Depth == 0 {
		l.Depth = d.Depth
	}
	if l.PathLength == 0 {
		l.PathLength = d.PathLength
	}
	return l
}

// engine returns the limits of a run of the engine.
func (l Limits) engine() sparql.Limits {
	return sparql.Limits{Rows: l.Rows, Memory: l.Memory, PathLength: l.PathLength}
}

// builder returns a builder of graphs that the memory is for.
func (l Limits) builder() *graph.Builder {
	b := graph.NewBuilder()
	b.MaxMemory = l.Memory
	return b
}

// within bounds the time of doing something.
func (l Limits) within(ctx context.Context, doing string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, l.Time,
		fault.New(fault.Finding, "raise the time limit, or make the query more selective", "%s takes longer than %s", doing, l.Time))
}
