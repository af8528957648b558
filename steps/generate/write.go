package generate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/internal/difference"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// maxWorkers bounds how many files are rendered or staged at once (spec B4, N-20).
const maxWorkers = 8

const keepsModes = runtime.GOOS != "windows"

// errNotDirectory is what a path through a regular file gives.
var errNotDirectory error = syscall.ENOTDIR

// Locker takes the kernel lock of the file at path, waiting until it is free or
// ctx ends, and returns what releases it.
type Locker func(ctx context.Context, path string) (release func() error, err error)

// WriteOptions say how a plan meets what is there already.
type WriteOptions struct {
	// Force overwrites files that were changed by hand.
	Force bool
	// Merge brings what is new into files that were changed by hand, instead of
	// refusing them; where both changed the same lines, both stand between marks.
	// Not with Force.
	Merge bool
	// Prefer says whose lines stay where Merge finds that both changed them; the zero
	// value marks both.
	Prefer Prefer
	// Base, if set, is what Merge takes for the last generated tree, instead of what the
	// last write kept of it.
	Base fs.FS
	// Within, if set, is the directory of the project: no folder between it and the
	// directory that is written to may be a link.
	Within string
	// Advance, if set, is told of every file that is staged.
	Advance Advance
	// Lock keeps two writes to one directory apart; nil means that the caller does.
	Lock Locker
}

// Write puts the files of plan below dir, which is made if it does not exist. All
// or nothing: new contents are staged beside the targets, a journal is synced,
// then each file is renamed into place; a failure takes everything back, and
// after a kill [Recover], which every Write begins with, finishes.
//
// A file whose content is not what the last write left is not touched: without
// Force that is an error of kind fault.Finding that names it. Files of the last
// write that the plan no longer has are removed, unless they were changed by
// hand. Links are never followed and never replaced.
func Write(ctx context.Context, dir string, plan *Plan, opts WriteOptions) (_ Changes, err error) {
	if err := plan.check(); err != nil {
		return Changes{}, err
	}
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		if _, err := plan.fresh(); err != nil { // before the directory is made for nothing
			return Changes{}, err
		}
	}
	root, err := openOutput(dir, opts.Within, true)
	if err != nil {
		return Changes{}, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := makeWorkDir(root, dir); err != nil {
		return Changes{}, err
	}
	release, err := lock(ctx, dir, opts.Lock)
	if err != nil {
		return Changes{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	kept, err := recoverLocked(root, dir)
	if err != nil {
		return Changes{}, err
	}
	s, err := newSurvey(ctx, root, dir, plan, opts)
	if err != nil {
		return Changes{}, err
	}
	if err := s.conflict(); err != nil {
		return Changes{}, err
	}
	if err := s.commit(ctx); err != nil {
		return Changes{}, err
	}
	s.report.Kept = append(s.report.Kept, kept...)
	return s.report, nil
}

// Recover finishes what a killed [Write] to dir left: it completes the write if
// all of it had been staged, and removes its traces if not. With nothing to do it
// changes nothing. It returns the files that it left alone because they were
// changed by hand in the meantime.
func Recover(ctx context.Context, dir string, lockWith Locker) (kept []string, err error) {
	root, err := openOutput(dir, "", false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if _, err := root.Lstat(workDir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err := makeWorkDir(root, dir); err != nil {
		return nil, err
	}
	release, err := lock(ctx, dir, lockWith)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release()) }()
	return recoverLocked(root, dir)
}

// Diff writes to w what [Write] would change below dir, as a unified diff, and
// changes nothing. Where Write would refuse, Diff returns the same error, after
// the diff if it could be made.
func Diff(ctx context.Context, w io.Writer, dir string, plan *Plan, opts WriteOptions) (err error) {
	if err := plan.check(); err != nil {
		return err
	}
	root, err := openOutput(dir, opts.Within, false)
	if errors.Is(err, fs.ErrNotExist) {
		return diffNew(ctx, w, plan)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	s, err := newSurvey(ctx, root, dir, plan, opts)
	if err != nil {
		return err
	}
	for i, c := range s.changes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.diff(w, c, s.contents[i]); err != nil {
			return err
		}
	}
	if err := s.conflict(); err != nil {
		return err
	}
	return s.report.Unmerged(dir)
}

func diffNew(ctx context.Context, w io.Writer, plan *Plan) error {
	edited, err := plan.fresh()
	if err != nil {
		return err
	}
	for _, f := range slices.Concat(plan.Files, edited) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := difference.Unified(w, "", f.Path, nil, f.Content); err != nil {
			return err
		}
	}
	return nil
}

func (s *survey) diff(w io.Writer, c change, f *File) error {
	var before, after []byte
	var oldName, newName string
	if c.Before != "" {
		var err error
		if before, err = s.root.ReadFile(c.Path); err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "compare with "+s.dir)
		}
		oldName = c.Path
	}
	if f != nil {
		after, newName = f.Content, f.Path
	}
	if oldName == newName && bytes.Equal(before, after) {
		_, err := fmt.Fprintf(w, "mode of %s changes to %04o\n", c.Path, f.Mode.Perm())
		return err
	}
	return difference.Unified(w, oldName, newName, before, after)
}

// openOutput opens dir, and makes it if create is set. A link in its place is
// refused; if it lies below within, one in place of a folder between them too, and
// then none that comes up meanwhile leads out of within.
func openOutput(dir, within string, create bool) (_ *os.Root, err error) {
	dir = filepath.Clean(dir)
	rel, err := filepath.Rel(within, dir)
	if within == "" || err != nil || !filepath.IsLocal(rel) {
		return openAlone(dir, create)
	}
	project, err := os.OpenRoot(within)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	if rel == "." {
		return project, nil
	}
	defer func() { err = errors.Join(err, project.Close()) }()
	for i := range len(rel) + 1 {
		if i < len(rel) && !os.IsPathSeparator(rel[i]) {
			continue
		}
		info, err := project.Lstat(rel[:i])
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, unwritable(dir, err)
		}
		at := filepath.Join(within, rel[:i])
		if err := refuseLink(at, info); err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, noDirectory(dir, at)
		}
	}
	if create {
		if err := project.MkdirAll(rel, 0o755); err != nil {
			return nil, unwritable(dir, err)
		}
	}
	root, err := project.OpenRoot(rel)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	return root, nil
}

func openAlone(dir string, create bool) (*os.Root, error) {
	info, err := os.Lstat(dir)
	switch {
	case err == nil:
		err = refuseLink(dir, info)
		if err == nil && !info.IsDir() {
			err = noDirectory(dir, dir)
		}
	case errors.Is(err, fs.ErrNotExist) && create:
		err = nil
	default:
		err = unwritable(dir, err)
	}
	if err != nil {
		return nil, err
	}
	if create {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, unwritable(dir, err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, unwritable(dir, err)
	}
	return root, nil
}

// refuseLink refuses links and, on Windows, what else leads elsewhere.
func refuseLink(name string, info fs.FileInfo) error {
	if info.Mode()&(fs.ModeSymlink|fs.ModeIrregular) == 0 {
		return nil
	}
	return fault.New(fault.Finding, "remove it, or name the directory that it leads to", "write to %s: it is a link", name)
}

func noDirectory(dir, at string) error {
	return fault.New(fault.Finding, "remove it, or name another directory", "write to %s: %s is there and no directory", dir, at)
}

func unwritable(dir string, err error) error {
	return fault.New(fault.Unavailable, "check that it is a directory you may write to", "write to %s: %w", dir, err)
}

// makeWorkDir makes the folder for stage and journal and refuses links in its place.
func makeWorkDir(root *os.Root, dir string) error {
	for _, name := range []string{".ggen", workDir} {
		if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return unwritable(dir, err)
		}
		info, err := root.Lstat(name)
		if err != nil {
			return unwritable(dir, err)
		}
		if !info.IsDir() {
			return fault.New(fault.Finding, "remove it", "write to %s: %s is not a folder", dir, name)
		}
	}
	return nil
}

func lock(ctx context.Context, dir string, take Locker) (release func() error, err error) {
	if take == nil {
		return func() error { return nil }, nil
	}
	release, err = take(ctx, filepath.Join(dir, filepath.FromSlash(lockFile)))
	hint := ""
	if ctx.Err() != nil { // it was taken until then
		hint = "wait for the other run to end"
	}
	return release, outside(ctx, err, hint, "lock "+dir)
}

// outside is the error for something outside that was missing, unless the run was
// cancelled.
func outside(ctx context.Context, err error, hint, doing string) error {
	kind := fault.Unavailable
	if ctx.Err() != nil {
		kind = fault.KindOf(context.Cause(ctx))
	}
	return fault.Wrap(err, kind, hint, doing)
}

// commit stages everything, writes the journal and carries it out.
func (s *survey) commit(ctx context.Context) (err error) {
	if len(s.changes) == 0 && s.next.Base == s.last.Base {
		return s.commitManifest()
	}
	j := journal{Schema: paperSchema, Direction: forward, Changes: s.changes, Manifest: s.next}
	papers, err := s.stage(ctx, j)
	if err != nil {
		return errors.Join(outside(ctx, err, "", "write to "+s.dir), sweep(s.root))
	}
	if papers {
		err = placePaper(s.root, journalFile)
	} else {
		err = writePaper(s.root, journalFile, j)
	}
	if err != nil {
		return errors.Join(unwritable(s.dir, err), sweep(s.root))
	}
	a := newApplier(s.root, j.Changes, false)
	a.papers = papers
	return a.carryOut(s.dir, j)
}

// commitManifest records the manifest of a write that changed no file, if it differs.
func (s *survey) commitManifest() error {
	if equalManifests(s.last, s.next) {
		return nil
	}
	if err := writePaper(s.root, manifestFile, s.next); err != nil {
		return unwritable(s.dir, err)
	}
	return nil
}

func equalManifests(a, b manifest) bool {
	return a.Base == b.Base && maps.Equal(a.Files, b.Files) && maps.EqualFunc(a.Edits, b.Edits, slices.Equal)
}

// stage writes and syncs the new contents, and backs up the old ones. It reports whether
// it did the same for the journal and the manifest, so that they are only to be placed.
func (s *survey) stage(ctx context.Context, j journal) (papers bool, err error) {
	for _, name := range []string{stageDir, backupDir} {
		if err := s.root.Mkdir(name, 0o755); err != nil {
			return false, err
		}
	}
	// Many files are made to last together, few one by one: the file system may have
	// much of others to write.
	together := len(s.changes) >= manyChanges
	lots, folders := s.lots()
	s.meter = newMeter(s.advance, len(s.changes))
	for _, folder := range folders {
		if err := s.root.Mkdir(folder, 0o755); err != nil {
			return false, err
		}
	}
	var tasks []func(context.Context) error // the papers and the base beside the lots, and first: they take longest
	if together {
		tasks = append(tasks,
			func(context.Context) error { return stagePaper(s.root, journalFile, j) },
			func(context.Context) error { return stagePaper(s.root, manifestFile, j.Manifest) })
	}
	if s.next.Base != s.last.Base {
		tasks = append(tasks, func(context.Context) error {
			if err := writeWhole(s.root, baseStage, s.archive, 0o644, !together); err != nil {
				return fmt.Errorf("stage %s: %w", baseFile, err)
			}
			return nil
		})
	}
	for _, l := range lots {
		tasks = append(tasks, func(ctx context.Context) error { return s.stageLot(ctx, l, !together) })
	}
	if err := inParallel(ctx, maxWorkers, len(tasks), func(ctx context.Context, i int) error { return tasks[i](ctx) }); err != nil {
		return false, err
	}
	if together {
		if done, err := s.flush(); done || err != nil {
			return done, err
		}
		if err := s.syncLots(ctx, lots); err != nil {
			return false, err
		}
	}
	for _, folder := range slices.Backward(folders) {
		if err := syncDir(s.root, folder); err != nil {
			return false, err
		}
	}
	return false, errors.Join(syncDir(s.root, stageDir), syncDir(s.root, backupDir))
}

const (
	// manyChanges is from how many on files are made to last together.
	manyChanges = 256
	// lotSize is the most files that one worker stages in a row: enough to be worth
	// the opening of their folder, few enough to share one large folder.
	lotSize = 128
)

// lot are changes whose new contents are staged in one folder.
type lot struct {
	folder  string
	changes []int
	names   []string // of the staged files, in the folder
}

// lots divides the changes, and returns the folders that have to be made for them, in
// order.
func (s *survey) lots() (lots []lot, folders []string) {
	made := map[string]bool{stageDir: true}
	var need func(folder string)
	need = func(folder string) {
		if !made[folder] {
			need(path.Dir(folder))
			made[folder] = true
			folders = append(folders, folder)
		}
	}
	for i, name := range staged(s.changes) {
		folder := path.Dir(name)
		last := len(lots) - 1
		if last < 0 || lots[last].folder != folder || len(lots[last].changes) == lotSize {
			need(folder)
			lots = append(lots, lot{folder: folder})
			last++
		}
		lots[last].changes = append(lots[last].changes, i)
		lots[last].names = append(lots[last].names, path.Base(name))
	}
	return lots, folders
}

// stageLot writes the new contents of a lot, and keeps the old ones.
func (s *survey) stageLot(ctx context.Context, l lot, synced bool) (err error) {
	folder, err := openShelf(s.root, l.folder) // once: a path is opened part by part
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.close()) }()
	for k, i := range l.changes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if f := s.contents[i]; f != nil {
			if err := folder.put(l.names[k], f.Content, f.Mode, synced); err != nil {
				return fmt.Errorf("stage %s: %w", f.Path, err)
			}
		}
		if s.changes[i].Before != "" {
			if err := s.backUp(i); err != nil {
				return err
			}
		}
		s.meter.did(s.changes[i].Path)
	}
	return nil
}

// flush makes all that was staged last in one go, where the system can.
func (s *survey) flush() (done bool, err error) {
	dir, err := s.root.Open(stageDir)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	return flush(dir)
}

// syncLots makes what was staged together last one by one, where the system cannot do
// it in one go.
func (s *survey) syncLots(ctx context.Context, lots []lot) error {
	sync := func(name string) error {
		f, err := s.root.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	}
	if s.next.Base != s.last.Base {
		if err := sync(baseStage); err != nil {
			return err
		}
	}
	return inParallel(ctx, maxWorkers, len(lots), func(_ context.Context, k int) error {
		for n, i := range lots[k].changes {
			if s.contents[i] == nil {
				continue
			}
			if err := sync(path.Join(lots[k].folder, lots[k].names[n])); err != nil {
				return err
			}
		}
		return nil
	})
}

// backUp keeps the present file under a second name; where the file system has
// no hard links, as a copy.
func (s *survey) backUp(i int) error {
	name := s.changes[i].Path
	if err := s.root.Link(name, backupName(i)); err == nil {
		return nil
	}
	info, err := s.root.Lstat(name)
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	content, err := s.root.ReadFile(name)
	if err == nil {
		err = writeSynced(s.root, backupName(i), content, info.Mode().Perm())
	}
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	return nil
}

// inParallel calls do for 0 to n-1 with at most workers at once, zero means [maxWorkers]. The error
// is that of the lowest index that failed, so it does not depend on timing; after
// a failure no index above it is begun.
func inParallel(ctx context.Context, workers, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, n)
	var mu sync.Mutex
	next, stop := 0, n
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if next >= stop || ctx.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var group sync.WaitGroup
	if workers < 1 {
		workers = maxWorkers
	}
	for range min(workers, n) {
		group.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if errs[i] = do(ctx, i); errs[i] != nil {
					mu.Lock()
					stop = min(stop, i)
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return errs[i]
	}
	return context.Cause(ctx)
}
