package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// LockName is where a project pins its images: beside the project file, to be
// committed. It is a file of its own, since ggen.lock belongs to the market and each
// of the two is written whole by its owner.
const LockName = ".cleanroom/images.lock"

const (
	lockVersion = 1
	maxLock     = 4 << 20 // bytes
)

type lockFile struct {
	Version int         `doc:"version,required"`
	Images  []lockImage `doc:"image"`
}

type lockImage struct {
	Reference string `doc:"reference,required"`
	Digest    string `doc:"digest,required"`
}

// parsePins reads a lock file: digests by reference in full. Errors are fault.Usage.
func parsePins(name string, b []byte) (map[string]state.Digest, error) {
	node, err := document.ParseTOML(name, b)
	if err != nil {
		return nil, err
	}
	var file lockFile
	if err := document.Decode(node, &file); err != nil {
		return nil, err
	}
	if file.Version != lockVersion {
		return nil, fault.New(fault.Usage, "use the version of this program that wrote it", "%s has version %d; this program reads %d", name, file.Version, lockVersion)
	}
	pins := map[string]state.Digest{}
	for i, image := range file.Images {
		at := node.Get("image").Items[i].Place
		ref, err := sandbox.ParseReference(image.Reference, "")
		if err == nil && (ref.String() != image.Reference || ref.Pinned()) {
			err = fmt.Errorf("%q is not a reference in full without a digest", image.Reference)
		}
		digest, digestErr := state.ParseDigest(image.Digest)
		if _, twice := pins[image.Reference]; twice {
			err = errors.Join(err, fmt.Errorf("image %s occurs twice", image.Reference))
		}
		if err = errors.Join(err, digestErr); err != nil {
			return nil, fault.New(fault.Usage, "restore the file from version control, or remove the entry and run again", "%s: %w", at, err)
		}
		pins[image.Reference] = digest
	}
	return pins, nil
}

// formatPins writes a lock file. Equal pins give equal bytes.
func formatPins(pins map[string]state.Digest) []byte {
	var b strings.Builder
	b.WriteString("# Written by cleanroom-test; keep it in version control. An entry that is removed is looked up again.\n")
	fmt.Fprintf(&b, "version = %d\n", lockVersion)
	for _, ref := range slices.Sorted(maps.Keys(pins)) {
		fmt.Fprintf(&b, "\n[[image]]\nreference = %s\ndigest = %s\n", document.QuoteTOML(ref), document.QuoteTOML(string(pins[ref])))
	}
	return []byte(b.String())
}

// locked returns the digest that the lock file has for a reference, or nothing.
func (i *Images) locked(ref sandbox.Reference) (state.Digest, error) {
	if i.o.LockFile == "" || ref.Transport != sandbox.FromRegistry {
		return "", nil
	}
	pins, err := i.pins()
	return pins[ref.String()], err
}

func (i *Images) pins() (_ map[string]state.Digest, err error) {
	info, err := os.Stat(i.o.LockFile)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]state.Digest{}, nil
	}
	if err == nil && !info.Mode().IsRegular() { // a pipe would be waited for
		return nil, fault.New(fault.Usage, "remove it", "%s is not a file", i.o.LockFile)
	}
	f, err := os.Open(i.o.LockFile)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "check who may read the file", "read the lock of images")
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxLock+1))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "read "+i.o.LockFile)
	}
	if len(b) > maxLock {
		return nil, fault.New(fault.Usage, "restore the file from version control", "%s has more than %d bytes", i.o.LockFile, maxLock)
	}
	return parsePins(i.o.LockFile, b)
}

// pin adds an image to the lock file.
func (i *Images) pin(ctx context.Context, ref sandbox.Reference, digest state.Digest) (err error) {
	path, err := filepath.Abs(i.o.LockFile)
	if err != nil {
		return err
	}
	held, err := lock.Acquire(ctx, i.cache.lock(state.DigestOf([]byte(path))))
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "another run writes it: run again", "pin image "+ref.String())
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	pins, err := i.pins()
	if err != nil {
		return err
	}
	pins[ref.String()] = digest
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fault.Wrap(err, fault.Unavailable, "check who may write there", "pin image "+ref.String())
	}
	return fault.Wrap(replace(path, formatPins(pins), 0o644), fault.Unavailable, "check who may write there", "pin image "+ref.String())
}
