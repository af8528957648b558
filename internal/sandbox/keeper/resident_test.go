package keeper

import (
	"context"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// measured is a container of which only what it has used is known.
type measured struct {
	sandbox.Container
	usage sandbox.Usage
}

func (m measured) Usage(context.Context) (sandbox.Usage, error) { return m.usage, nil }

// TestDescribeOneReading: the time of a usage is that of its reading, not since the
// container was heard of: by then it had used processor time already.
func TestDescribeOneReading(t *testing.T) {
	t.Parallel()
	want := sandbox.Usage{Wall: 120 * time.Millisecond, CPU: 60 * time.Millisecond}
	r := &resident{container: measured{usage: want}, done: make(chan struct{}), info: ContainerInfo{Created: time.Now()}}
	if got := r.describe(t.Context()).Usage; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
