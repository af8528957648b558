package generate

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// buffer is a store that keeps one blob.
type buffer struct {
	state.Blobs
	bytes.Buffer
}

func (b *buffer) Create(context.Context, string) (state.BlobWriter, error) { return b, nil }
func (b *buffer) Close() error                                             { return nil }
func (b *buffer) Commit(name string) (state.Artifact, error) {
	return state.Artifact{Name: name, Digest: state.DigestOf(b.Bytes()), Size: int64(b.Len())}, nil
}

func manyFiles(n, size int) *Plan {
	p, content := &Plan{}, make([]byte, size)
	for i := range n {
		p.Files = append(p.Files, File{Path: fmt.Sprintf("d/%06d", i), Mode: 0o644, Content: content})
	}
	return p
}

// A plan that may be claimed can be read again, however large; what cannot is
// refused before it is claimed.
func TestPlanLimits(t *testing.T) {
	t.Parallel()
	long := manyFiles(1, state.MaxInline-3*512-1024)
	long.Files[0].Path = string(bytes.Repeat([]byte("d/"), 120)) + string(bytes.Repeat([]byte("n"), 120))
	for name, c := range map[string]struct {
		plan *Plan
		fits bool
	}{
		"many files":           {manyFiles(20_001, 1), true},
		"most files":           {manyFiles(49_999, 1), true}, // and a folder
		"too many files":       {manyFiles(50_000, 1), false},
		"most bytes":           {manyFiles(1, state.MaxInline-2*512-1024), true},
		"too many bytes":       {manyFiles(1, state.MaxInline-2*512-1023), false},
		"many times too many":  {manyFiles(5, state.MaxInline/4), false},
		"long name takes more": {long, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.plan.finish()
			var blobs buffer
			var a state.Artifact
			if err == nil {
				a, err = c.plan.pack(t.Context(), &blobs)
			}
			if (err == nil) != c.fits || err != nil && fault.KindOf(err) != fault.Finding {
				t.Errorf("error %v of kind %s, fits %t", err, fault.KindOf(err), c.fits)
			}
			if err != nil {
				return
			}
			if tree, err := unpack(blobs.Bytes()); a.Size > state.MaxInline || err != nil || len(tree.files) != len(c.plan.Files) {
				t.Errorf("claimed with %d bytes, but cannot be read again: %v", a.Size, err)
			}
		})
	}
}
