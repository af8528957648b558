package generate

import (
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Limits of one plan.
const (
	maxFiles     = 100_000   // files; what state.Extract accepts
	maxPlanBytes = 512 << 20 // sum of all contents: they are held in memory
)

// File is one file to be written.
type File struct {
	// Path is clean, relative to the root of the tree, with forward slashes.
	Path string
	// Mode is 0644, or 0755 for a content that begins with "#!".
	Mode    fs.FileMode
	Content []byte
	// Template is the reference of the template that made the file.
	Template string
	// Where is the place in the template that names the path.
	Where finding.Place
	// Force overwrites what a person changed, UnlessExists leaves alone what is there.
	Force, UnlessExists bool
}

// Plan is everything a run would write, decided before the first write.
type Plan struct {
	// Files are sorted by path.
	Files []File
	// Templates are the references that were rendered, in order, globs resolved.
	Templates []string
	// Findings are warnings; none of them stops the run.
	Findings []finding.Finding
	// Seed is the seed of the run.
	Seed uint64
}

// modeOf makes scripts executable: nothing else in a template says so.
func modeOf(content []byte) fs.FileMode {
	if bytes.HasPrefix(content, []byte("#!")) {
		return 0o755
	}
	return 0o644
}

// finish sorts the files and refuses those that cannot stand in one tree.
func (p *Plan) finish() error {
	// Stable, so that of two templates for one path the earlier is named first.
	slices.SortStableFunc(p.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return p.check()
}

// check refuses a plan with a path that is not clean, two files of one path, two
// paths that differ only in case, and a file where another file needs a folder.
func (p *Plan) check() error {
	if len(p.Files) > maxFiles {
		return fault.New(fault.Finding, "generate fewer files", "plan has %d files; at most %d are written", len(p.Files), maxFiles)
	}
	taken := map[string]occupant{} // by folded path
	total := 0
	for i := range p.Files {
		f := &p.Files[i]
		if clean, err := cleanPath(f.Path, true); err != nil || clean != f.Path {
			return refused(f.Where, f.Template, f.Path, err)
		}
		if total += len(f.Content); total > maxPlanBytes {
			return fault.New(fault.Finding, "generate less in one run", "%s: contents exceed %d bytes at %s", f.Template, maxPlanBytes, f.Path)
		}
		if err := occupy(taken, f); err != nil {
			return err
		}
	}
	return nil
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
			return collision(f, other, "%s and %s differ only in case, which some file systems take for one name", name, other.path)
		case !dir && !other.dir:
			return collision(f, other, "two templates write %s", name)
		default:
			return collision(f, other, "%s is both a file and a folder", name)
		}
	}
	return nil
}

func collision(f *File, other occupant, format string, a ...any) error {
	return fault.New(fault.Finding, "change the `to` of one of them",
		format+": %s (%s) and %s (%s)", append(a, f.Template, f.Where, other.file.Template, other.file.Where)...)
}
