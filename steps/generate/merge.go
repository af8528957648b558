package generate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/ultrafast-ci/ultrafast/internal/difference"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Names of the two sides of a conflict.
const (
	mergeOurs   = "yours"
	mergeTheirs = "generated"
)

// Prefer says what stays of lines that a person and a template both changed.
type Prefer string

// The preferences.
const (
	PreferNone      Prefer = "" // both, between marks
	PreferGenerated Prefer = "generated-wins"
	PreferManual    Prefer = "manual-wins"
)

// Conflict is a place where a person and a template changed the same lines.
type Conflict struct {
	Path string
	// Lines are those of the first marks, from 1. None: the file as a whole could not
	// be merged, and Why says so.
	Lines []int
	Why   string
}

// mergeFile brings what changed since the last generation into a file that a person
// changed too. The base is what was generated last.
func (s *survey) mergeFile(f *File, before, after, last state.Digest) error {
	now, _, err := s.present(f.Path)
	if err != nil {
		return err
	}
	if marked(now.Content) {
		s.unresolved = append(s.unresolved, f.Path)
		return nil
	}
	s.next.Files[f.Path] = after
	if after == last { // the template says nothing new
		s.report.Kept = append(s.report.Kept, f.Path)
		return nil
	}
	base, err := s.baseOf(f.Path)
	if err != nil {
		return err
	}
	if slices.ContainsFunc([][]byte{base, now.Content, f.Content}, func(b []byte) bool { return bytes.IndexByte(b, 0) >= 0 }) {
		return s.mergeBinary(f, before, after)
	}
	out := *f
	var lines []int
	switch s.prefer {
	case PreferGenerated:
		out.Content, lines = difference.Settle(base, now.Content, f.Content, difference.Theirs)
	case PreferManual:
		out.Content, lines = difference.Settle(base, now.Content, f.Content, difference.Ours)
	default:
		out.Content, lines = difference.Merge(base, now.Content, f.Content, mergeOurs, mergeTheirs)
	}
	s.conflicting(Conflict{Path: f.Path, Lines: lines})
	if merged := state.DigestOf(out.Content); merged != before {
		s.report.Merged = append(s.report.Merged, f.Path)
		if err := s.backUpAs(f); err != nil {
			return err
		}
		s.change(&out, before, merged)
		return nil
	}
	s.report.Kept = append(s.report.Kept, f.Path)
	return nil
}

// conflicting notes a conflict, among those that are settled if one side wins.
func (s *survey) conflicting(c Conflict) {
	switch {
	case len(c.Lines) == 0 && c.Why == "":
	case s.prefer == PreferNone:
		s.report.Conflicts = append(s.report.Conflicts, c)
	default:
		s.report.Settled = append(s.report.Settled, c)
	}
}

// mergeBinary decides about a file that has no lines.
func (s *survey) mergeBinary(f *File, before, after state.Digest) error {
	if s.prefer != PreferGenerated {
		s.conflicting(Conflict{Path: f.Path, Why: "it is not text; yours was kept"})
		return nil
	}
	s.conflicting(Conflict{Path: f.Path, Why: "it is not text; the generated one replaced yours"})
	s.report.Updated = append(s.report.Updated, f.Path)
	if err := s.backUpAs(f); err != nil {
		return err
	}
	s.write(f, before, after)
	return nil
}

// deleted decides about a file that a person removed: it stays away unless its
// template has something new to say.
func (s *survey) deleted(f *File, after state.Digest) (stays bool) {
	last := s.lastOf(f.Path)
	if !s.merge || last == "" {
		return false
	}
	if after == last || s.prefer == PreferManual {
		s.next.Files[f.Path] = after
		s.report.Kept = append(s.report.Kept, f.Path)
		if after != last {
			s.conflicting(Conflict{Path: f.Path, Why: "you removed it, and its template changed; it stays away"})
		}
		return true
	}
	s.conflicting(Conflict{Path: f.Path, Why: "you removed it, and its template changed; it is there again"})
	return false
}

func marked(content []byte) bool {
	mark := []byte(difference.MarkOurs + mergeOurs)
	return bytes.HasPrefix(content, mark) || bytes.Contains(content, append([]byte("\n"), mark...))
}

// lastOf returns the digest of what was generated last for a path, empty if that is
// not known.
func (s *survey) lastOf(name string) state.Digest {
	if !s.given {
		return s.last.Files[name]
	}
	if f := s.base.files[name]; f != nil {
		return state.DigestOf(f.content)
	}
	return ""
}

// baseOf returns what was generated last for a path; nothing if that is not known.
func (s *survey) baseOf(name string) ([]byte, error) {
	if s.base == nil {
		t, err := s.readBase()
		if err != nil {
			return nil, err
		}
		s.base = t
	}
	if f := s.base.files[name]; f != nil {
		return f.content, nil
	}
	return nil, nil
}

func (s *survey) readBase() (*tree, error) {
	if s.last.Base == "" {
		return newTree(), nil
	}
	archive, err := readFile(s.root.FS(), baseFile, maxArchive)
	if errors.Is(err, fs.ErrNotExist) {
		return newTree(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", baseFile, err)
	}
	if state.DigestOf(archive) != s.last.Base {
		return nil, fault.New(fault.Finding, "remove the file; what you changed then conflicts with what is generated", "%s is not what the last write left", baseFile)
	}
	t, err := unpack(archive)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", baseFile, err)
	}
	return t, nil
}

// packBase makes the archive of what is generated now, as the base of a later merge.
// It is that of the artifact, unless a slot has given a file another text.
func (s *survey) packBase(ctx context.Context) error {
	if s.plan.packed.archive != nil && !s.thawed {
		s.archive, s.next.Base = s.plan.packed.archive, s.plan.packed.digest
		return nil
	}
	archive, err := packFiles(ctx, s.generated)
	if err != nil {
		return err
	}
	s.archive, s.next.Base = archive, state.DigestOf(archive)
	return nil
}

// unmerged returns the error that names the files whose marks a person left, if any.
func (s *survey) unmerged() error {
	if len(s.unresolved) == 0 {
		return nil
	}
	return fault.New(fault.Finding, "choose what stays between the marks, remove the marks, and run again",
		"write to %s: %s still has conflicts of the last merge", s.dir, listed(s.unresolved))
}

// Unmerged returns the error that names the conflicts of a merge, if there are any.
func (c Changes) Unmerged(dir string) error {
	if len(c.Conflicts) == 0 {
		return nil
	}
	var places []string
	for _, conflict := range c.Conflicts {
		place := conflict.Path
		if len(conflict.Lines) > 0 {
			place = fmt.Sprintf("%s:%d", conflict.Path, conflict.Lines[0])
		}
		places = append(places, place)
	}
	return fault.New(fault.Finding, "look for the marks <<<<<<< and >>>>>>>, and choose what stays",
		"merge into %s: %s in conflict: %s", dir, files(len(c.Conflicts)), listed(places))
}
