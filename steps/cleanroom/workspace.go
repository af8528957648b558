package cleanroom

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// workspace is a directory of the host that one run uses and removes.
type workspace struct {
	dir string
	// name is unique on the host while the workspace exists.
	name string
	// tree is the source tree, below dir; the sandbox sees it read-only.
	tree *os.Root
	// out is where the sandbox may write the program, below dir.
	out *os.Root
	// logs holds a log of each test, below dir; the sandbox does not see it.
	logs *os.Root
}

func unpack(ctx context.Context, temp string, blobs state.Blobs, tree state.Artifact) (_ *workspace, err error) {
	dir, err := os.MkdirTemp(temp, "cleanroom-")
	if err != nil {
		return nil, fault.New(fault.Unavailable, "set TMPDIR to a directory that can be written", "make a working directory: %w", err)
	}
	w := &workspace{dir: dir, name: filepath.Base(dir)}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.remove())
		}
	}()
	// The processes inside run as another user than this one: what they read
	// must be open to all, what they write too. The directory around it is not.
	if w.tree, err = makeRoot(filepath.Join(dir, "src"), 0o755); err != nil {
		return nil, err
	}
	if w.out, err = makeRoot(filepath.Join(dir, "out"), 0o777); err != nil {
		return nil, err
	}
	if w.logs, err = makeRoot(filepath.Join(dir, "logs"), 0o700); err != nil {
		return nil, err
	}
	r, err := blobs.Open(ctx, tree)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := state.Extract(ctx, r, w.tree, state.Limits{}); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "unpack the tree "+tree.Digest.Short())
	}
	return w, nil
}

func makeRoot(path string, mode os.FileMode) (*os.Root, error) {
	if err := os.Mkdir(path, mode); err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		return nil, err
	}
	return os.OpenRoot(path)
}

func (w *workspace) remove() error {
	var errs []error
	for _, root := range []*os.Root{w.tree, w.out, w.logs} {
		if root != nil {
			errs = append(errs, root.Close())
		}
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}
