package cleanroom

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Source is a directory that is built in place of a tree that was generated.
//
// What Git ignores by .gitignore files of the directory, .git and other directories of
// version control, .ggen and .cleanroom are no part of it, nor are results of a test run
// and directories without files. A link to a file of the directory is that file; a link
// to anything else is left out, as are pipes, sockets and devices, which a finding says.
type Source struct {
	// Dir is a directory of the host.
	Dir string
	// Seed decides over the order of tests; zero means [DefaultSeed].
	Seed uint64
}

// SourceInput is the name of the input that is a source: its digest is that of an
// artifact of the entry.
const SourceInput = "source"

// DefaultSeed is the seed where nobody chose one.
const DefaultSeed = 42

// Bounds on a source directory: those of [state.Limits], which unpacks it.
const (
	maxSourceFiles = 100_000
	maxSourceBytes = 4 << 30
)

// findTree returns the tree to build, and notes what else is known of it.
func (t *trial) findTree(ctx context.Context, in state.State, blobs state.Blobs) (tree state.Artifact, err error) {
	if t.step.Source == nil {
		tree, t.seed, err = generated(in)
		return tree, err
	}
	if len(in) > 0 {
		return tree, fault.New(fault.Usage, "leave one of the two out", "both a state and a source directory say what is built")
	}
	t.seed = cmp.Or(t.step.Source.Seed, DefaultSeed)
	t.step.progress("read " + t.step.Source.Dir)
	tree, t.leftOut, err = t.step.Source.pack(ctx, blobs, t.step.Tests)
	t.source = tree
	return tree, err
}

// pack keeps the directory as a tree, and returns what it left out.
func (s Source) pack(ctx context.Context, blobs state.Blobs, tests Tests) (_ state.Artifact, _ []leftOut, err error) {
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return state.Artifact{}, nil, fault.Wrap(err, fault.Usage, "name a directory that can be read", "open the source")
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	w, err := blobs.Create(ctx, state.MediaTypeTree)
	if err != nil {
		return state.Artifact{}, nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	files := &sourceFS{FS: root.FS(), root: root, kept: tests.keptIn(root), listed: map[string][]fs.DirEntry{}, left: maxSourceFiles, bytes: maxSourceBytes}
	if err := state.Pack(ctx, w, files, nil); err != nil {
		return state.Artifact{}, nil, fault.Wrap(err, fault.Unavailable, "", "read the source "+s.Dir)
	}
	tree, err := w.Commit(state.ArtifactTree)
	return tree, files.leftOut, err
}

// refused are directories that are never part of a source.
var refused = []string{".git", ".hg", ".svn", ".bzr", ".jj", ".ggen", ".cleanroom"}

// sourceFS shows a directory as its source: without what is no part of it, and a link to
// a file in it as that file.
type sourceFS struct {
	fs.FS
	root    *os.Root
	ignored ignores
	kept    map[string]bool // results of an earlier run
	leftOut []leftOut
	listed  map[string][]fs.DirEntry
	// left and bytes are how much more there may be.
	left  int
	bytes int64
}

// leftOut is a file that is no part of the source although nothing ignores it.
type leftOut struct{ name, what, why string }

// ReadDir lists what of a directory is source.
func (s *sourceFS) ReadDir(dir string) ([]fs.DirEntry, error) {
	if entries, ok := s.listed[dir]; ok {
		delete(s.listed, dir)
		return entries, nil
	}
	return s.list(dir)
}

// list reads a directory. One without files, which Git does not keep, is no source: it
// lists those below first, and keeps the lists for [sourceFS.ReadDir].
func (s *sourceFS) list(dir string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(s.FS, dir)
	if err != nil {
		return nil, err
	}
	kept := entries[:0]
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if s.skip(name, e) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has gone since
		}
		if err != nil {
			return nil, err
		}
		if e.Type()&fs.ModeSymlink != 0 {
			// A root does not follow a link out of it.
			if info, err = s.root.Stat(name); err != nil || !info.Mode().IsRegular() {
				s.leftOut = append(s.leftOut, leftOut{name, "a link was left out of the source", "it leads to no file of the directory"})
				continue
			}
			e = fs.FileInfoToDirEntry(named{info, e.Name()})
		}
		switch {
		case !info.Mode().IsRegular() && !info.IsDir():
			s.leftOut = append(s.leftOut, leftOut{name, "a special file was left out of the source", "it is a pipe, a socket or a device"})
			continue
		case !utf8.ValidString(e.Name()):
			return nil, fault.New(fault.Finding, "rename it, or ignore it by a .gitignore", "the file name %q is not valid UTF-8", name)
		}
		if s.left--; s.left < 0 {
			return nil, fault.New(fault.Finding, tooMuch, "there are more than %d files", maxSourceFiles)
		}
		if info.IsDir() {
			below, err := s.list(name)
			if err != nil {
				return nil, err
			}
			if len(below) == 0 {
				continue
			}
			s.listed[name] = below
		}
		if info.Mode().IsRegular() {
			if s.bytes -= info.Size(); s.bytes < 0 {
				return nil, fault.New(fault.Finding, tooMuch, "the files have more than %d bytes", int64(maxSourceBytes))
			}
		}
		kept = append(kept, e)
	}
	return kept, nil
}

const tooMuch = "ignore what is not source by a .gitignore"

// skip reports what is no part of any source.
func (s *sourceFS) skip(name string, d fs.DirEntry) bool {
	if slices.Contains(refused, path.Base(name)) && (d.IsDir() || path.Base(name) == ".git") {
		return true // .git is a file in a work tree
	}
	return s.kept[name] || s.ignored.match(s.root, name, d.IsDir())
}

// markSource makes the entry the first of a chain, if a directory was built.
func (t *trial) markSource(e *state.Entry) {
	if t.step.Source == nil {
		return
	}
	e.Inputs = append(e.Inputs, state.Input{Name: SourceInput, Digest: t.source.Digest})
	e.Artifacts = append(e.Artifacts, t.source)
}

// leftOutFindings names the files that are no part of the source.
func (t *trial) leftOutFindings() []finding.Finding {
	var found []finding.Finding
	for _, l := range t.leftOut[:min(len(t.leftOut), maxFindings)] {
		found = append(found, finding.Finding{
			Rule: RuleSource, Severity: finding.Low, What: l.what, Where: finding.Place{File: l.name},
			Why: l.why, Fix: "replace it by a file, or ignore it by a .gitignore",
		})
	}
	return found
}

// generated returns the tree to build and the seed of its generation.
func generated(in state.State) (tree state.Artifact, seed uint64, err error) {
	const hint = "run `generate` first and hand on its state, or name a directory with --source"
	link, ok := in.Last(phase.Generate)
	if !ok {
		return tree, 0, fault.New(fault.Usage, hint, "the state has no generate entry, so no tree to build")
	}
	if link.Entry.Outcome != state.Passed {
		return tree, 0, fault.New(fault.Finding, hint, "the generate entry %s did not pass", link.Digest.Short())
	}
	tree, ok = link.Entry.Artifact(state.ArtifactTree)
	if !ok || tree.MediaType != state.MediaTypeTree {
		return tree, 0, fault.New(fault.Finding, hint, "the generate entry %s has no artifact %q of type %s", link.Digest.Short(), state.ArtifactTree, state.MediaTypeTree)
	}
	return tree, link.Entry.Generate.Seed, nil
}
