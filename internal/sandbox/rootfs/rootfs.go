// Package rootfs brings images to the back ends of the clean room: it finds out what
// a name stands for, pins it, and unpacks what is pinned into a cache of this machine.
//
// Images come from registries, from OCI layouts and from what `docker save` wrote.
// An unpacked image is a directory under the digest of its manifest. Every byte of it
// was verified before the directory has its name; equal digests share one directory,
// also between processes; a run that is killed leaves nothing that counts as an image.
//
// The directory holds what containers see read-only. Owners are not kept, since a
// plain user cannot give files away: all files belong to the caller, may be read by
// everybody and written by the caller alone. Devices, set-user-id bits and extended
// attributes are left out. Links are kept as they are, and never followed out of the
// directory by this package; whoever opens a path in it from outside uses [os.Root].
//
// The package starts no process, keeps no blob and trusts no name: what is not pinned
// by a digest is not unpacked.
package rootfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Options configure [Images].
type Options struct {
	// Dir is the cache. It is made, with mode 0700, when it is needed first.
	Dir string
	// Project is the directory that relative paths of layouts and tarballs begin in;
	// empty means the working directory.
	Project string
	// LockFile pins names to digests, see [LockName]; empty means that nothing is
	// pinned for later runs.
	LockFile string
	// Registry is where names without a registry are looked for, see
	// [sandbox.ParseReference].
	Registry string
	// Environment is what the run is for; [sandbox.Strict] ones accept pinned images only.
	Environment string
	// AlwaysPull asks the registry what a name stands for even if the lock file says
	// it, and writes the answer there. A strict environment goes by the lock file.
	AlwaysPull bool
	// PullTimeout bounds each resolving and each unpacking; zero means 300 s.
	PullTimeout time.Duration
	// MaxBytes is how large the cache may become before images that were not used
	// for longest are removed; zero means 20 GiB. What is in use stays.
	MaxBytes int64
	// Limits bound one image.
	Limits oci.Limits
	// Credentials are asked before Docker's configuration file; may be nil.
	Credentials oci.Credentials
	// Log receives what is not worth an error; nil discards it.
	Log *slog.Logger
}

// DefaultMaxBytes is the size of the cache unless [Options] say another.
const DefaultMaxBytes = 20 << 30

const defaultTimeout = 300 * time.Second

// Images is a [sandbox.Images]. It is safe for use by several goroutines, and several
// processes may share a cache.
type Images struct {
	o     Options
	cache *cache
}

var _ sandbox.Images = (*Images)(nil)

// New returns the images that o describes. It touches nothing.
func New(o Options) *Images {
	// Back ends mount what is unpacked, from whatever directory they are in.
	if abs, err := filepath.Abs(o.Dir); err == nil {
		o.Dir = abs
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.PullTimeout = cmp.Or(o.PullTimeout, defaultTimeout)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	return &Images{o: o, cache: &cache{dir: o.Dir}}
}

// platform is what containers run on: Linux, whatever system the caller has.
func platform() oci.Platform { return oci.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// Resolve returns the reference in full and pinned to a digest: its own, that of the
// lock file, or what the name stands for now, which it adds to the lock file. Images
// of layouts and tarballs are on this machine and not locked. A name that nobody
// knows, or that the environment does not accept, is fault.Finding.
func (i *Images) Resolve(ctx context.Context, text string) (sandbox.Reference, error) {
	ref, err := sandbox.ParseReference(text, i.o.Registry)
	if err != nil || ref.Pinned() {
		return ref, err
	}
	locked, err := i.locked(ref)
	if err != nil {
		return sandbox.Reference{}, err
	}
	if err := ref.CheckPinned(i.o.Environment, locked != ""); err != nil {
		return sandbox.Reference{}, err
	}
	if locked != "" && (!i.o.AlwaysPull || sandbox.Strict(i.o.Environment)) {
		return ref.At(locked), nil
	}
	asking, cancel := i.deadline(ctx, ref)
	defer cancel()
	digest, err := i.ask(asking, ref)
	if err != nil {
		err = doing(ctx, err, "find image "+ref.String())
		if ref.Transport == sandbox.FromRegistry && fault.KindOf(err) == fault.Unavailable {
			err = fault.Also(err, "without one, name an image that is on this machine: layout:DIR#NAME:TAG or tarball:FILE")
		}
		return sandbox.Reference{}, err
	}
	if locked != "" && locked != digest {
		i.o.Log.WarnContext(ctx, "an image has changed", "image", ref.String(), "from", locked, "to", digest)
	}
	if ref.Transport == sandbox.FromRegistry && i.o.LockFile != "" && locked != digest {
		if err := i.pin(ctx, ref, digest); err != nil {
			return sandbox.Reference{}, err
		}
	}
	return ref.At(digest), nil
}

func (i *Images) deadline(ctx context.Context, ref sandbox.Reference) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, i.o.PullTimeout, fault.New(fault.Unavailable,
		"check that the registry can be reached, or raise containers.pull_timeout_seconds", "image %s took longer than %s", ref, i.o.PullTimeout))
}

// ask returns the digest that a name has at its source, and keeps what it stands for.
func (i *Images) ask(ctx context.Context, ref sandbox.Reference) (state.Digest, error) {
	src, err := i.open(ctx, ref)
	if err != nil {
		return "", err
	}
	defer src.close()
	raw, err := src.Manifest(ctx, src.name)
	if err != nil {
		return "", ended(ctx, absent(err))
	}
	return state.DigestOf(raw), nil
}

// ended returns why ctx ended, if that is what err comes from.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// doing says what failed. What the caller has cancelled keeps its kind.
func doing(ctx context.Context, err error, what string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	return fault.Wrap(err, fault.Unavailable, "", what)
}

// absent gives what is nowhere its kind.
func absent(err error) error {
	if errors.Is(err, oci.ErrAbsent) && fault.KindOf(err) == fault.Internal {
		return fault.Wrap(err, fault.Finding, "check the name and the tag", "no such image")
	}
	return err
}

// source is where an image comes from.
type source struct {
	oci.Source
	// name is what the source calls an image that is not pinned.
	name string
	// remote sources are slow, and can break off.
	remote bool
	close  func()
}

func (i *Images) open(ctx context.Context, ref sandbox.Reference) (*source, error) {
	s := &source{name: ref.Name(), close: func() {}}
	path := ref.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(i.o.Project, path)
	}
	var err error
	switch ref.Transport {
	case sandbox.FromLayout:
		s.Source, err = oci.OpenLayout(path)
	case sandbox.FromTarball:
		var a *oci.Archive
		if a, err = oci.OpenArchive(ctx, path); err == nil {
			s.Source, s.close = a, func() { _ = a.Close() } // opened for reading: nothing can be lost
		}
	default:
		s.name, s.remote = ref.Tag, true
		s.Source, err = oci.OpenRepository(ctx, ref.Registry+"/"+ref.Repository, i.o.Credentials)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Unpack returns an image that is pinned, from the cache or its source.
func (i *Images) Unpack(ctx context.Context, text string) (sandbox.Image, error) {
	ref, err := i.pinned(text)
	if err != nil {
		return sandbox.Image{}, err
	}
	digest := ref.Digest
	if raw, ok := i.cache.index(digest); ok {
		if child, err := oci.PickPlatform(raw, platform()); err == nil && child != "" {
			digest = child
		}
	}
	if image, ok, err := i.cache.use(ctx, digest); ok || err != nil {
		return image, err
	}
	image, err := i.pull(ctx, ref)
	if err != nil {
		return sandbox.Image{}, doing(ctx, err, "unpack image "+ref.String())
	}
	return image, nil
}

func (i *Images) pinned(text string) (sandbox.Reference, error) {
	ref, err := sandbox.ParseReference(text, i.o.Registry)
	if err == nil && !ref.Pinned() {
		err = fault.New(fault.Usage, "resolve the name first", "image %s is not pinned to a digest", ref)
	}
	return ref, err
}

// pull unpacks an image from its source into the cache. Another process may remove it
// before it is used, so there is more than one attempt.
func (i *Images) pull(ctx context.Context, ref sandbox.Reference) (sandbox.Image, error) {
	ctx, cancel := i.deadline(ctx, ref)
	defer cancel()
	src, err := i.open(ctx, ref)
	if err != nil {
		return sandbox.Image{}, err
	}
	defer src.close()
	m, err := i.find(ctx, src, ref.Digest)
	if err != nil {
		return sandbox.Image{}, ended(ctx, absent(err))
	}
	const attempts = 3
	for range attempts {
		if err := i.cache.fill(ctx, src, m, i.o.Limits); err != nil {
			return sandbox.Image{}, ended(ctx, absent(err))
		}
		image, ok, err := i.cache.use(ctx, m.Digest)
		if err != nil {
			return sandbox.Image{}, err
		}
		if ok {
			i.bound(ctx)
			return image, nil
		}
	}
	return sandbox.Image{}, fault.New(fault.Unavailable, "give the cache more room", "it was removed from the cache %d times before it was used", attempts)
}

// find returns the image that a digest stands for, and keeps an index, so that the
// next call needs no source.
func (i *Images) find(ctx context.Context, src *source, digest state.Digest) (*oci.Manifest, error) {
	raw, err := src.Manifest(ctx, string(digest))
	if err != nil {
		return nil, err
	}
	child, err := oci.PickPlatform(raw, platform())
	if err != nil {
		return nil, err
	}
	if child == "" {
		return oci.Find(ctx, src, string(digest), platform())
	}
	m, err := oci.Find(ctx, src, string(child), platform())
	if err == nil {
		err = i.cache.keepIndex(raw)
	}
	return m, err
}

// bound removes what was not used for longest if the cache is too large.
func (i *Images) bound(ctx context.Context) {
	removed, _, err := i.cache.prune(i.o.MaxBytes, time.Now().Add(-keepUsed))
	if err != nil || len(removed) > 0 {
		i.o.Log.DebugContext(ctx, "cache of images", "removed", removed, "error", err)
	}
}

// keepUsed is how long an image stays after its last use, for environments that
// outlive the process that made them.
const keepUsed = time.Hour

// Pruned is what [Images.Prune] removed.
type Pruned struct {
	// Images are digests, sorted.
	Images []string
	// Bytes are those of the removed images on disk.
	Bytes int64
}

// Prune removes what killed runs left, and images that nobody uses, beginning with
// the one that was not used for longest, until the cache has at most maxBytes. One
// that was used in the last hour stays unless all.
func (i *Images) Prune(ctx context.Context, maxBytes int64, all bool) (Pruned, error) {
	before := time.Now().Add(-keepUsed)
	if all {
		before = time.Now().Add(keepUsed)
	}
	removed, bytes, err := i.cache.prune(maxBytes, before)
	if err != nil {
		err = fault.Wrap(err, fault.Unavailable, "check who owns the directory", "prune the images in "+i.o.Dir)
	}
	return Pruned{removed, bytes}, errors.Join(err, context.Cause(ctx))
}

// Export writes an archive that `docker load` and `podman load` read. The name is
// [ExportName] of the image's manifest.
func (i *Images) Export(ctx context.Context, text string, w io.Writer) (string, error) {
	ref, err := i.pinned(text)
	if err != nil {
		return "", err
	}
	name, err := i.export(ctx, ref, w)
	if err != nil {
		return "", doing(ctx, err, "export image "+ref.String())
	}
	return name, nil
}

func (i *Images) export(ctx context.Context, ref sandbox.Reference, w io.Writer) (string, error) {
	ctx, cancel := i.deadline(ctx, ref)
	defer cancel()
	src, err := i.open(ctx, ref)
	if err != nil {
		return "", err
	}
	defer src.close()
	m, err := i.find(ctx, src, ref.Digest)
	if err != nil {
		return "", absent(err)
	}
	name := ExportName(m.Digest)
	return name, ended(ctx, absent(i.cache.export(ctx, src, m, name, w)))
}

// ExportName returns the name that engines know an exported image by. It belongs to
// this machine: no engine looks for it in a registry.
func ExportName(manifest state.Digest) string { return "localhost/ultrafast:" + manifest.Hex() }
