package generate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Limits of one plan, and so of the tree that it becomes and of one package. They
// are the same where a tree is planned, packed and read again: what is claimed can
// be written, also from the chain.
const (
	maxEntries = 50_000          // files and folders; fewer than state.Extract accepts
	maxArchive = state.MaxInline // bytes of the archive, which is held in memory

	tarBlock = 512          // a header takes one, a content is filled up to whole ones
	tarEnd   = 2 * tarBlock // POSIX.1-2017, pax, "ustar Interchange Format"

	hintLess = "generate less in one run"

	backupEnd = ".backup"
)

// File is one file to be written.
type File struct {
	// Path is clean, relative to the root of the tree, with forward slashes.
	Path string
	// Mode is 0755 for a content that begins with "#!" and for what a command of a
	// template makes executable, else 0644.
	Mode    fs.FileMode
	Content []byte
	// Template is the reference of the template that made the file.
	Template string
	// Where is the place in the template that names the path, or the command that
	// made the file.
	Where finding.Place
	hook  *Hook // that command
	row   int   // of for_each or a matrix, from 1; 0 if there is none
	// Force overwrites what a person changed, UnlessExists leaves alone what is there.
	Force, UnlessExists bool
	// Backup keeps what is replaced under the name with [backupEnd] behind.
	Backup bool
	// Freeze says what stays of what is there; Regions are parts of Content that
	// have a Freeze of their own, in order.
	Freeze  Freeze
	Regions []Region
}

// Plan is everything a run would write, decided before the first write.
type Plan struct {
	// Files are sorted by path.
	Files []File
	// Edits are of files that the plan does not make, sorted by path, those of one
	// path in the order in which they are made.
	Edits []Edit
	// Templates are the references that were rendered, in order, globs resolved.
	Templates []string
	// Findings are warnings; none of them stops the run.
	Findings []finding.Finding
	// Seed is the seed of the run.
	Seed uint64
	// Hooks are the commands of templates, in the order in which [Step.Run] runs them
	// over the tree; until then Files are as they were rendered.
	Hooks []Hook

	outputs []output // of every template, kept if there are Hooks
	packed  packed   // of Files, once they are an artifact; they do not change after that
}

// packed is a tree as an archive; the zero value is none.
type packed struct {
	archive []byte
	digest  state.Digest
}

// modeOf makes scripts executable: nothing else in a template says so, save a command.
func modeOf(content []byte) fs.FileMode {
	if bytes.HasPrefix(content, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

// finish sorts the files and refuses those that cannot stand in one tree.
func (p *Plan) finish() error {
	if err := p.settle(); err != nil {
		return err
	}
	// Stable, so that of two templates for one path the earlier is named first.
	slices.SortStableFunc(p.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return p.check()
}

// check refuses a plan with a path that is not clean, two files of one path, two
// paths that some file system takes for one, and a file where another file needs a folder.
func (p *Plan) check() error {
	if len(p.Files) > maxEntries {
		return tooMany(len(p.Files))
	}
	taken := map[string]occupant{} // by folded path
	total := tarEnd
	for i := range p.Files {
		f := &p.Files[i]
		if clean, err := cleanPath(f.Path, true); err != nil || clean != f.Path {
			return refused(f.Where, f.Template, f.Path, err)
		}
		before := len(taken)
		if err := occupy(taken, f); err != nil {
			return err
		}
		total += (len(taken)-before)*tarBlock + (len(f.Content)+tarBlock-1)/tarBlock*tarBlock
		if total > maxArchive {
			return fault.New(fault.Finding, hintLess, "%s: the tree takes more than %d bytes as an archive at %s", f.Template, maxArchive, f.Path)
		}
	}
	if len(taken) > maxEntries {
		return tooMany(len(taken))
	}
	return errors.Join(p.checkSlots(taken), p.checkEdits(taken), p.checkBackups(taken))
}

// checkBackups refuses a file that is kept under a name that the tree has for another.
func (p *Plan) checkBackups(taken map[string]occupant) error {
	kept := func(f *File) error {
		if other, ok := taken[fold(f.Path+backupEnd)]; ok {
			return fault.New(fault.Finding, "change the `to` of one of them, or leave out backup",
				"%s would be kept as %s, which the tree has: %s and %s", f.Path, other.path, f.origin(), other.file.origin())
		}
		return nil
	}
	for i := range p.Edits {
		if e := &p.Edits[i]; e.Backup {
			if err := kept(&File{Path: e.Path, Template: e.Template, Where: e.Where}); err != nil {
				return err
			}
		}
	}
	for i := range p.Files {
		if p.Files[i].Backup {
			if err := kept(&p.Files[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkEdits refuses an edit of a path that is not clean, or that the plan has for
// something else.
func (p *Plan) checkEdits(taken map[string]occupant) error {
	if len(p.Edits) > maxEntries {
		return tooMany(len(p.Edits))
	}
	for i := range p.Edits {
		e := &p.Edits[i]
		if clean, err := cleanPath(e.Path, true); err != nil || clean != e.Path {
			return refused(e.Where, e.Template, e.Path, err)
		}
		f := &File{Path: e.Path, Template: e.Template, Where: e.Where}
		for name := e.Path; name != "."; name = path.Dir(name) {
			if other, ok := taken[fold(name)]; ok && (other.path != name || name == e.Path || !other.dir) {
				return collision(f, other, "%s is edited, and the tree has %s", e.Path, other.path)
			}
		}
	}
	return nil
}

func tooMany(n int) error {
	return fault.New(fault.Finding, hintLess, "plan has %d files and folders; at most %d are written", n, maxEntries)
}

type occupant struct {
	path string
	dir  bool
	file *File
}

// occupy enters f and the folders above it into taken.
func occupy(taken map[string]occupant, f *File) error {
	for name, dir := f.Path, false; name != "."; name, dir = path.Dir(name), true {
		key := fold(name)
		other, ok := taken[key]
		switch {
		case !ok:
			taken[key] = occupant{name, dir, f}
		case dir && other.dir && other.path == name:
			return nil // the folders above were entered with this one
		case other.path != name:
			return collision(f, other, "%s and %s %s, which some file systems take for one name", name, other.path, alike(name, other.path))
		case !dir && !other.dir && f.row != other.file.row && f.Template == other.file.Template:
			return fault.New(fault.Finding, "put a column into `to` that tells the rows apart, or add DISTINCT to the query",
				"%s: rows %d and %d of template %s both write %s", f.Where, other.file.row, f.row, f.Template, name)
		case !dir && !other.dir:
			return collision(f, other, "two templates write %s", name)
		default:
			return collision(f, other, "%s is both a file and a folder", name)
		}
	}
	return nil
}

func collision(f *File, other occupant, format string, a ...any) error {
	hint := "change the `to` of one of them"
	if f.hook != nil || other.file.hook != nil {
		hint = "change what the command makes, or the `to` of the other"
	}
	return fault.New(fault.Finding, hint, format+": %s and %s", append(a, f.origin(), other.file.origin())...)
}

// origin says what made the file, and where.
func (f *File) origin() string {
	if f.hook != nil {
		return fmt.Sprintf("%s of %s (%s)", f.hook.Key, f.Template, f.Where)
	}
	return fmt.Sprintf("%s (%s)", f.Template, f.Where)
}
