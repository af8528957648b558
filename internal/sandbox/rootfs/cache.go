package rootfs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// cache is a directory with unpacked images:
//
//	images/<hex>/rootfs      the files
//	images/<hex>/image.json  an [entry]; its time is that of the last use
//	indexes/<hex>            indexes, by which an image is found without its source
//	locks/<hex>              shared by those who use the image, alone for changing it
//	work/<hex>               what is being made or removed, by the holder of the lock
//
// A kernel lock ends with its process: what lies in work without a holder is rubbish.
type cache struct{ dir string }

// entry describes an unpacked image.
type entry struct {
	Digest state.Digest        `json:"digest"`
	Config sandbox.ImageConfig `json:"config"`
	// Files and Bytes are all that lies in rootfs; Disk is about what it takes there.
	Files int   `json:"files"`
	Bytes int64 `json:"bytes"`
	Disk  int64 `json:"disk"`
	// Boot is the start of the machine in which the files were last known to be
	// whole: they are not flushed to the disk one by one, so after a loss of power
	// they are counted before they are trusted.
	Boot string `json:"boot"`
	// Left is what the image has and the directory has not.
	Left oci.Left `json:"left"`
}

const (
	entryFile = "image.json"
	rootDir   = "rootfs"
)

func (c *cache) image(d state.Digest) string { return filepath.Join(c.dir, "images", d.Hex()) }
func (c *cache) work(d state.Digest) string  { return filepath.Join(c.dir, "work", d.Hex()) }
func (c *cache) lock(d state.Digest) string  { return filepath.Join(c.dir, "locks", d.Hex()) }

// index returns an index that was kept.
func (c *cache) index(d state.Digest) ([]byte, bool) {
	b, err := os.ReadFile(filepath.Join(c.dir, "indexes", d.Hex()))
	return b, err == nil && state.DigestOf(b) == d
}

func (c *cache) keepIndex(raw []byte) error {
	dir := filepath.Join(c.dir, "indexes")
	if err := c.makeDir(dir); err != nil {
		return err
	}
	return replace(filepath.Join(dir, state.DigestOf(raw).Hex()), raw, 0o600)
}

func (c *cache) makeDir(dir string) error {
	return oci.StorageFault(os.MkdirAll(dir, 0o700))
}

// replace writes a file so that others see the old one or the whole new one.
func replace(path string, b []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return oci.StorageFault(err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Chmod(f.Name(), mode)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return oci.StorageFault(err)
}

// use returns an image of the cache, if it is there and whole, and keeps it there
// until it is released.
func (c *cache) use(ctx context.Context, d state.Digest) (_ sandbox.Image, ok bool, err error) {
	if _, err := os.Lstat(filepath.Join(c.image(d), entryFile)); err != nil {
		return sandbox.Image{}, false, nil // not there; no lock to make
	}
	held, err := lock.Share(ctx, c.lock(d))
	if err != nil {
		return sandbox.Image{}, false, fault.Wrap(err, fault.Unavailable, "", "use cached image "+d.Short())
	}
	e, ok := c.read(d)
	if !ok {
		return sandbox.Image{}, false, held.Release()
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Join(c.image(d), entryFile), now, now) // best effort: it only orders what is pruned
	return sandbox.Image{
		Digest: string(d), Dir: filepath.Join(c.image(d), rootDir), Config: e.Config,
		Release: sync.OnceFunc(func() { _ = held.Release() }), // a lock that cannot be closed ends with the process
	}, true, nil
}

// read returns what describes an image, if the image is there and whole. The caller
// holds its lock.
func (c *cache) read(d state.Digest) (entry, bool) {
	var e entry
	b, err := os.ReadFile(filepath.Join(c.image(d), entryFile))
	if err != nil || json.Unmarshal(b, &e) != nil || e.Digest != d {
		return entry{}, false
	}
	boot := bootID()
	if e.Boot == boot {
		return e, true
	}
	files, bytes, _, err := measure(filepath.Join(c.image(d), rootDir))
	if err != nil || files != e.Files || bytes != e.Bytes {
		return entry{}, false
	}
	e.Boot = boot
	return e, c.describe(c.image(d), e) == nil
}

func (c *cache) describe(dir string, e entry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, entryFile), b, 0o600)
}

// bootID names the time since the machine was started, or is empty where the system
// does not tell.
var bootID = sync.OnceValue(func() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
})

// measure counts what lies in a directory.
func measure(dir string) (files int, bytes, disk int64, err error) {
	const block = 4096
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		files++
		disk += block
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		bytes += info.Size()
		disk += info.Size()
		return nil
	})
	return files, bytes, disk, err
}

// fill unpacks an image, unless another process has done so meanwhile.
func (c *cache) fill(ctx context.Context, src *source, m *oci.Manifest, limits oci.Limits) (err error) {
	if err := c.makeDir(filepath.Join(c.dir, "images")); err != nil {
		return err
	}
	held, err := c.own(ctx, m.Digest)
	if held == nil {
		return fault.Wrap(err, fault.Unavailable, "another process unpacks it, or uses a damaged one: run again", "lock the image in the cache")
	}
	defer func() { err = errors.Join(err, held.Release()) }()
	// What is there is the rest of a run that was killed, or is not whole.
	work := c.work(m.Digest)
	if err := errors.Join(os.RemoveAll(work), os.RemoveAll(c.image(m.Digest))); err != nil {
		return oci.StorageFault(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	made := filepath.Join(work, "image")
	if err := c.makeDir(filepath.Join(made, rootDir)); err != nil {
		return err
	}
	e, err := build(ctx, src, m, work, filepath.Join(made, rootDir), limits)
	if err != nil {
		return err
	}
	if err := c.describe(made, e); err != nil {
		return err
	}
	return oci.StorageFault(os.Rename(made, c.image(m.Digest)))
}

// own takes the lock of an image alone, to make the image, or returns nil when the
// image is there: who made it may use it, and share its lock, for as long as it likes.
func (c *cache) own(ctx context.Context, d state.Digest) (*lock.Lock, error) {
	for {
		held, err := acquireSoon(ctx, c.lock(d))
		if err == nil {
			if _, ok := c.read(d); !ok {
				return held, nil
			}
			return nil, held.Release()
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		shared, err := lock.Share(ctx, c.lock(d))
		if err != nil {
			return nil, err
		}
		_, ok := c.read(d)
		if err := shared.Release(); ok || err != nil {
			return nil, err
		}
	}
}

func acquireSoon(ctx context.Context, path string) (*lock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	return lock.Acquire(ctx, path)
}

// build unpacks the layers of an image into dir, and describes it.
func build(ctx context.Context, src *source, m *oci.Manifest, work, dir string, limits oci.Limits) (_ entry, err error) {
	blobs, err := fetch(ctx, src, m, filepath.Join(work, "blobs"))
	if err != nil {
		return entry{}, err
	}
	defer func() { err = errors.Join(err, blobs.close()) }()
	if err := os.Chmod(dir, 0o755); err != nil { // the root of containers, whatever the umask
		return entry{}, oci.StorageFault(err)
	}
	t, err := oci.OpenTree(dir)
	if err != nil {
		return entry{}, oci.StorageFault(err)
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	var packed int64
	for _, l := range m.Layers {
		packed += l.Size
	}
	a := oci.NewApplier(t, packed, limits)
	for i, l := range m.Layers {
		if err := applyLayer(ctx, a, l, blobs); err != nil {
			return entry{}, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	e := entry{Digest: m.Digest, Boot: bootID(), Left: a.Left(), Config: sandbox.ImageConfig{
		Entrypoint: m.Config.Entrypoint, Cmd: m.Config.Cmd, Env: m.Config.Env, WorkingDir: m.Config.WorkingDir,
		Volumes: m.Volumes, Ports: m.Config.Ports,
	}}
	if e.Config.UID, e.Config.GID, err = t.User(m.Config.User); err != nil {
		return entry{}, err
	}
	e.Files, e.Bytes, e.Disk, err = measure(dir)
	return e, oci.StorageFault(err)
}

func applyLayer(ctx context.Context, a *oci.Applier, l oci.Layer, blobs *blobs) (err error) {
	blob, err := blobs.open(ctx, l)
	if err != nil {
		return err
	}
	r, err := oci.OpenLayer(ctx, l, blob)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return a.Apply(ctx, r)
}

// blobs are the layers of an image: where they are, if that is this machine, else
// in files, to which they are fetched side by side.
type blobs struct {
	src    *source
	dir    string
	ready  map[state.Digest]chan error
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

const fetchers = 3 // layers that are fetched at once, as engines have it

func fetch(ctx context.Context, src *source, m *oci.Manifest, dir string) (*blobs, error) {
	b := &blobs{src: src, dir: dir, cancel: func() {}}
	if !src.remote {
		return b, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, oci.StorageFault(err)
	}
	ctx, b.cancel = context.WithCancel(ctx)
	b.ready = map[state.Digest]chan error{}
	turns := make(chan struct{}, fetchers)
	for _, l := range m.Layers {
		if b.ready[l.Digest] != nil {
			continue
		}
		done := make(chan error, 1)
		b.ready[l.Digest] = done
		b.wait.Go(func() {
			select {
			case turns <- struct{}{}:
				done <- fetchBlob(ctx, src, l, filepath.Join(dir, l.Digest.Hex()))
				<-turns
			case <-ctx.Done():
				done <- context.Cause(ctx)
			}
		})
	}
	return b, nil
}

// fetchAttempts is how often a connection may break off.
const fetchAttempts = 3

func fetchBlob(ctx context.Context, src *source, l oci.Layer, path string) error {
	var err error
	for range fetchAttempts {
		err = fetchOnce(ctx, src, l, path)
		if err == nil || ctx.Err() != nil || fault.KindOf(err) != fault.Unavailable {
			break
		}
	}
	return err
}

func fetchOnce(ctx context.Context, src *source, l oci.Layer, path string) (err error) {
	r, err := src.Blob(ctx, l.Digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.Create(path)
	if err != nil {
		return oci.StorageFault(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	err = oci.Verify(ctx, f, r, l.Digest, l.Size)
	if errors.Is(err, syscall.ENOSPC) {
		return oci.StorageFault(err)
	}
	return fault.Wrap(err, fault.Unavailable, "run again when the registry can be reached", "fetch layer "+l.Digest.Short())
}

// open returns the bytes of a layer, when they are there.
func (b *blobs) open(ctx context.Context, l oci.Layer) (io.ReadCloser, error) {
	done := b.ready[l.Digest]
	if done == nil {
		return b.src.Blob(ctx, l.Digest)
	}
	select {
	case err := <-done:
		done <- err // for a layer that occurs twice
		if err != nil {
			return nil, err
		}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	f, err := os.Open(filepath.Join(b.dir, l.Digest.Hex()))
	if err != nil {
		return nil, oci.StorageFault(err)
	}
	return f, nil
}

// close ends what is being fetched and removes it.
func (b *blobs) close() error {
	b.cancel()
	b.wait.Wait()
	return oci.StorageFault(os.RemoveAll(b.dir))
}

// prune removes rubbish, and images whose last use was before a time, until those
// that stay have at most maxBytes.
func (c *cache) prune(maxBytes int64, before time.Time) (removed []string, freed int64, err error) {
	err = c.sweep()
	type candidate struct {
		digest state.Digest
		disk   int64
		used   time.Time
	}
	var all []candidate
	var total int64
	for _, d := range c.list("images") {
		info, statErr := os.Lstat(filepath.Join(c.image(d), entryFile))
		if statErr != nil {
			continue
		}
		var e entry
		if b, readErr := os.ReadFile(filepath.Join(c.image(d), entryFile)); readErr != nil || json.Unmarshal(b, &e) != nil {
			continue
		}
		all = append(all, candidate{d, e.Disk, info.ModTime()})
		total += e.Disk
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(a.used.Compare(b.used), strings.Compare(string(a.digest), string(b.digest)))
	})
	for _, one := range all {
		if total <= maxBytes || !one.used.Before(before) {
			break
		}
		gone, removeErr := c.remove(one.digest)
		err = errors.Join(err, removeErr)
		if gone {
			total -= one.disk
			freed += one.disk
			removed = append(removed, string(one.digest))
		}
	}
	slices.Sort(removed)
	return removed, freed, errors.Join(err, c.pruneIndexes())
}

// list returns the digests that name the files of a directory of the cache.
func (c *cache) list(name string) []state.Digest {
	files, _ := os.ReadDir(filepath.Join(c.dir, name)) // none yet
	var out []state.Digest
	for _, f := range files {
		if d, err := state.ParseDigest("sha256:" + f.Name()); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// sweep removes what killed processes left.
func (c *cache) sweep() error {
	var failed error
	for _, d := range c.list("work") {
		failed = errors.Join(failed, c.alone(d, func() error { return os.RemoveAll(c.work(d)) }))
	}
	return failed
}

// alone runs f if nobody else uses the image at this moment.
func (c *cache) alone(d state.Digest, f func() error) error {
	held, err := lock.TryNow(c.lock(d))
	if errors.Is(err, lock.ErrTaken) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f(), held.Release())
}

// remove takes an image out of the cache unless somebody uses it. It is gone at once,
// however long its files take.
func (c *cache) remove(d state.Digest) (gone bool, err error) {
	err = c.alone(d, func() error {
		if err := os.MkdirAll(filepath.Dir(c.work(d)), 0o700); err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(c.work(d)), os.Rename(c.image(d), c.work(d))); err != nil {
			return err
		}
		gone = true
		return os.RemoveAll(c.work(d))
	})
	return gone, err
}

// pruneIndexes removes indexes of which no image is left.
func (c *cache) pruneIndexes() error {
	var failed error
	for _, d := range c.list("indexes") {
		raw, ok := c.index(d)
		if ok {
			child, err := oci.PickPlatform(raw, platform())
			if err == nil {
				_, err = os.Lstat(c.image(child))
			}
			ok = err == nil
		}
		if !ok {
			failed = errors.Join(failed, os.Remove(filepath.Join(c.dir, "indexes", d.Hex())))
		}
	}
	return failed
}
