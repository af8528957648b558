package generate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Changes tells what a write did, or would do, by sorted paths.
type Changes struct {
	Created, Updated, Removed []string
	// Unchanged had the new content already.
	Unchanged []string
	// Skipped exist and come from templates with unless_exists.
	Skipped []string
	// Kept are no longer generated, but were changed by hand, so they stay; and
	// files changed by hand while an interrupted write waited for its completion.
	Kept []string
	// Merged were changed by hand and by their templates, and have both changes now;
	// Conflicts are those where that could not be, and files that were removed by hand.
	// Settled are conflicts that [WriteOptions.Prefer] decided.
	Merged             []string
	Conflicts, Settled []Conflict
	// Edited are those of Updated that were edited in place.
	Edited []string
}

// String says how many files there are of each kind, and names those that were merged,
// edited or could not be merged. A file with a conflict counts as that alone.
func (c Changes) String() string {
	counted := map[string]bool{}
	var parts []string
	add := func(what string, named bool, paths []string) {
		var fresh []string
		for _, p := range paths {
			if !counted[p] {
				fresh, counted[p] = append(fresh, p), true
			}
		}
		if len(fresh) == 0 {
			return
		}
		part := fmt.Sprintf("%d %s", len(fresh), what)
		if named {
			part += " (" + listed(fresh) + ")"
		}
		parts = append(parts, part)
	}
	var conflicts []string
	for _, conflict := range c.Conflicts {
		conflicts = append(conflicts, conflict.Path)
	}
	add("in conflict", true, conflicts)
	add("merged", true, c.Merged)
	add("edited in place", true, c.Edited)
	add("new", false, c.Created)
	add("changed", false, c.Updated)
	add("removed", false, c.Removed)
	add("kept as yours", false, c.Kept)
	add("left alone", false, c.Skipped)
	add("unchanged", false, c.Unchanged)
	if len(parts) == 0 {
		return "no files"
	}
	return strings.Join(parts, ", ")
}

// listed names the first of paths.
func listed(paths []string) string {
	const most = 10
	text := strings.Join(paths[:min(most, len(paths))], ", ")
	if n := len(paths) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// survey compares a plan with what is in the directory and decides every change.
type survey struct {
	root  *os.Root
	dir   string // as the caller named it, for messages
	plan  *Plan
	last  manifest
	force bool
	merge bool

	prefer  Prefer
	given   bool // base was given by the caller
	advance Advance
	meter   *meter // of what is staged

	changes    []change
	contents   []*File // of changes; nil for a removal
	next       manifest
	report     Changes
	conflicts  []string
	frozen     bool                         // one of them has frozen regions
	gone       map[string]bool              // paths that are removed, and the folders above them
	spelling   map[string]string            // of removed files, by folded path
	unresolved []string                     // with marks of a merge in them
	generated  []*File                      // what the plan makes, with the text of slots in it
	thawed     bool                         // the text of a slot is in one of them
	base       *tree                        // of merges; nil until it is read
	archive    []byte                       // of generated
	plain      map[string]bool              // folders known to be real
	absent     map[string]string            // by folder that is not there: the topmost above it that is not there either
	names      map[string]map[string]string // in a folder, by folded name
}

func newSurvey(ctx context.Context, root *os.Root, dir string, plan *Plan, opts WriteOptions) (*survey, error) {
	last, err := readManifest(root)
	if err != nil {
		return nil, err
	}
	s := &survey{
		root: root, dir: dir, plan: plan, last: last, force: opts.Force, merge: opts.Merge, prefer: opts.Prefer, advance: opts.Advance,
		next: manifest{Schema: paperSchema, Files: map[string]state.Digest{}, Edits: map[string][]state.Digest{}},
		gone: map[string]bool{}, spelling: map[string]string{}, plain: map[string]bool{},
		absent: map[string]string{}, names: map[string]map[string]string{},
	}
	if opts.Merge && opts.Base != nil {
		if s.base, err = treeOf(opts.Base); err != nil {
			return nil, err
		}
		s.given = true
	}
	// Removals come first: a folder may have to make room for a file of its name.
	if err := s.removals(); err != nil {
		return nil, err
	}
	for i := range plan.Files {
		f, err := s.thaw(&plan.Files[i])
		if err != nil {
			return nil, err
		}
		s.generated = append(s.generated, f)
		s.thawed = s.thawed || f != &plan.Files[i]
		if err := s.file(f); err != nil {
			return nil, err
		}
	}
	if err := s.packBase(ctx); err != nil {
		return nil, err
	}
	for rest := plan.Edits; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Path == rest[0].Path {
			n++
		}
		if err := s.edits(rest[:n]); err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	return s, nil
}

// conflict returns the error that names the files that are in the way, if any are.
func (s *survey) conflict() error {
	if err := s.unmerged(); err != nil {
		return err
	}
	if len(s.conflicts) == 0 {
		return nil
	}
	hint := "keep your changes with `generate template --merge`, or overwrite them with --force"
	if s.frozen {
		hint += "; the text of a frozen region is changed in its own file"
	}
	return fault.New(fault.Finding, hint, "write to %s: there is content that was not generated: %s", s.dir, listed(s.conflicts))
}

func (s *survey) removals() error {
	planned := make(map[string]bool, len(s.plan.Files))
	for i := range s.plan.Files {
		planned[s.plan.Files[i].Path] = true
	}
	for i := range s.plan.Edits {
		planned[s.plan.Edits[i].Path] = true
	}
	for _, slot := range s.plan.slots() {
		planned[slot] = true
	}
	for name, generated := range s.last.Files {
		if planned[name] {
			continue
		}
		if err := s.removal(name, generated); err != nil {
			return err
		}
	}
	slices.SortFunc(s.changes, func(a, b change) int { return strings.Compare(a.Path, b.Path) })
	s.contents = make([]*File, len(s.changes))
	slices.Sort(s.report.Removed)
	slices.Sort(s.report.Kept)
	return nil
}

func (s *survey) removal(name string, generated state.Digest) error {
	if info, err := s.root.Lstat(name); err != nil || !info.Mode().IsRegular() || s.parents(name) != nil {
		return nil // no longer the file that was written: not ours to remove
	}
	digest, err := digestAt(s.root, name)
	if err != nil {
		return unreadable(s.dir, err)
	}
	if digest != generated {
		s.report.Kept = append(s.report.Kept, name)
		return nil
	}
	for above := name; above != "."; above = path.Dir(above) {
		s.gone[above] = true
	}
	s.spelling[fold(name)] = name
	s.report.Removed = append(s.report.Removed, name)
	s.changes = append(s.changes, change{Path: name, Before: digest})
	return nil
}

func (s *survey) file(f *File) error {
	if err := s.parents(f.Path); err != nil {
		return err
	}
	after := state.DigestOf(f.Content)
	info, err := fs.FileInfo(nil), fs.ErrNotExist
	if s.absent[path.Dir(f.Path)] == "" {
		info, err = s.root.Lstat(f.Path)
	}
	switch {
	case isAbsent(err):
		if err := s.twin(f.Path); err != nil {
			return err
		}
		if s.deleted(f, after) {
			return nil
		}
		s.report.Created = append(s.report.Created, f.Path)
		s.write(f, "", after)
		return nil
	case err != nil:
		return unreadable(s.dir, err)
	case info.IsDir() && s.emptied(f.Path), s.respelled(f.Path, info):
		s.report.Created = append(s.report.Created, f.Path)
		s.write(f, "", after)
		return nil
	case !info.Mode().IsRegular():
		return s.inTheWay(f.Path, info.Mode())
	}
	before, err := digestAt(s.root, f.Path)
	if err != nil {
		return unreadable(s.dir, err)
	}
	return s.existing(f, info.Mode(), before, after)
}

// isAbsent reports whether an error says that no file is there.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDirectory)
}

func unreadable(dir string, err error) error {
	return fault.Wrap(err, fault.Unavailable, "", "write to "+dir)
}

// existing decides about a regular file that is there already.
func (s *survey) existing(f *File, mode fs.FileMode, before, after state.Digest) error {
	last := s.lastOf(f.Path)
	whole := len(f.Regions) == 0 // the policy of a file with regions is that of these
	switch {
	case before == after && sameMode(mode, f.Mode):
		s.next.Files[f.Path] = after
		s.report.Unchanged = append(s.report.Unchanged, f.Path)
		return nil
	case f.UnlessExists, whole && f.Freeze == FreezeAlways:
		s.report.Skipped = append(s.report.Skipped, f.Path)
		return nil
	case whole && f.Freeze == FreezeChecksum && before != after && before != last:
		s.report.Kept = append(s.report.Kept, f.Path)
		if last != "" {
			s.next.Files[f.Path] = last
		}
		return nil
	case before == after, before == last, s.force, f.Force:
		s.report.Updated = append(s.report.Updated, f.Path)
	case s.merge:
		return s.mergeFile(f, before, after, last)
	default:
		s.conflicts = append(s.conflicts, f.Path) // the preview goes on; a real write stops
		s.frozen = s.frozen || !whole
	}
	if err := s.backUpAs(f); err != nil {
		return err
	}
	s.write(f, before, after)
	return nil
}

func (s *survey) write(f *File, before, after state.Digest) {
	s.next.Files[f.Path] = after
	s.change(f, before, after)
}

// change plans one change, of a file that the manifest may not have.
func (s *survey) change(f *File, before, after state.Digest) {
	s.changes = append(s.changes, change{Path: f.Path, Folder: s.absent[path.Dir(f.Path)], Before: before, After: after})
	s.contents = append(s.contents, f)
}

// parents refuses a path that leads through a link or through a file that stays.
func (s *survey) parents(name string) error {
	components := strings.Split(path.Dir(name), "/")
	if s.absent[path.Dir(name)] != "" {
		return nil
	}
	for i := range components {
		folder := strings.Join(components[:i+1], "/")
		if folder == "." || s.plain[folder] {
			continue
		}
		info, err := s.root.Lstat(folder)
		switch {
		case isAbsent(err):
			s.absent[path.Dir(name)] = folder
			return nil // nothing is there, so nothing below it
		case err == nil && info.Mode().IsRegular() && s.gone[folder]:
			return nil
		case err != nil:
			return unreadable(s.dir, err)
		case !info.IsDir():
			return s.inTheWay(folder, info.Mode())
		}
		s.plain[folder] = true
	}
	return nil
}

// twin refuses a new file if some file system would take another that stays, or a
// folder on the way, for it.
func (s *survey) twin(name string) error {
	for at := name; at != "."; at = path.Dir(at) {
		folder, base := path.Split(at)
		folder = path.Clean(folder)
		known, listed := s.names[folder]
		if !listed {
			known = map[string]string{}
			entries, err := fs.ReadDir(s.root.FS(), folder)
			if err != nil && !isAbsent(err) {
				return unreadable(s.dir, err)
			}
			for _, e := range entries {
				known[fold(e.Name())] = e.Name()
			}
			s.names[folder] = known
		}
		if other := known[fold(base)]; other != "" && other != base && !s.gone[path.Join(folder, other)] {
			return fault.New(fault.Finding, "rename one of them", "write to %s: %s and %s, which is there, %s, which some file systems take for one name",
				s.dir, name, path.Join(folder, other), alike(base, other))
		}
	}
	return nil
}

func (s *survey) inTheWay(name string, mode fs.FileMode) error {
	kind := "a regular file"
	switch {
	case mode&fs.ModeSymlink != 0:
		kind = "a symbolic link"
	case mode.IsDir():
		kind = "a folder"
	case !mode.IsRegular():
		kind = "a special file"
	}
	return fault.New(fault.Finding, "remove or rename it; generated files replace regular files only", "write to %s: %s is %s", s.dir, name, kind)
}

// respelled reports whether what is at name is a file about to be removed under
// another spelling, as a file system without case shows it.
func (s *survey) respelled(name string, info fs.FileInfo) bool {
	old, ok := s.spelling[fold(name)]
	if !ok || old == name {
		return false
	}
	other, err := s.root.Lstat(old)
	return err == nil && os.SameFile(info, other)
}

// emptied reports whether the folder goes away with the files below it that are
// about to be removed.
func (s *survey) emptied(folder string) bool {
	err := fs.WalkDir(s.root.FS(), folder, func(name string, _ fs.DirEntry, err error) error {
		if err == nil && !s.gone[name] {
			err = fs.ErrExist
		}
		return err
	})
	return err == nil
}

// sameMode compares what a plan can express: whether the file is executable.
// Windows keeps no such bit.
func sameMode(have, want fs.FileMode) bool {
	return !keepsModes || have&0o100 == want&0o100
}

// digestAt returns the digest of a regular file, or the empty digest if nothing
// is there. Anything else is an error.
func digestAt(root *os.Root, name string) (state.Digest, error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotDirectory):
		return "", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("%s is not a regular file (%s)", name, info.Mode().Type())
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hasher := state.NewHasher()
	if _, err := io.Copy(hasher, f); err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return hasher.Digest(), nil
}
