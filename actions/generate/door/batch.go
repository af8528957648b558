package door

import (
	"context"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// maxParallel is the most that --max-parallel accepts.
const maxParallel = 64

// Batch renders several templates with shared variables.
type Batch struct {
	Template
	Parallel    bool `negatable:"" default:"true" help:"Render several templates at once."`
	MaxParallel int  `placeholder:"N" help:"Most templates rendered at once, 1 to 64. Default: as the project says, else 8."`
}

// Help shows how it is called.
func (*Batch) Help() string {
	return `All templates are rendered before the first file is written; all are written, or none.
The result is the same whatever --max-parallel is. The time that templates see is that of
SOURCE_DATE_EPOCH where that is set, else 1970-01-01T00:00:00Z.

Examples:
  ultrafast-generate batch 'go-http-service:*' docs:README.md.tmpl --vars-file shared.yaml --output-dir out
  ultrafast-generate batch 'go-http-service:*' --max-parallel 2 --dry-run --output-dir out`
}

// Run renders them all, or nothing.
func (b *Batch) Run(ctx context.Context, a *app.App) error {
	if b.MaxParallel < 0 || b.MaxParallel > maxParallel {
		return fault.New(fault.Usage, "", "--max-parallel %d: it may be 1 to %d", b.MaxParallel, maxParallel)
	}
	if b.Workers = b.MaxParallel; !b.Parallel {
		b.Workers = 1
	}
	return b.Template.Run(ctx, a)
}
