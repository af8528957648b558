package generate

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Mode says where an edit puts its text.
type Mode string

// The modes, in the order in which front matter that has several is read (spec B4).
const (
	Prepend Mode = "prepend"
	Append  Mode = "append"
	Before  Mode = "before"
	After   Mode = "after"
	AtLine  Mode = "at_line"
)

// Edit puts whole lines into a file that the plan does not make. A file that is not
// there is made by Prepend, Append and AtLine 1.
type Edit struct {
	Path string `json:"path"`
	Mode Mode   `json:"mode"`
	// Anchor is part of the line before or after which the text goes: the first that
	// contains it. Line counts from 1.
	Anchor string `json:"anchor,omitempty"`
	Line   int    `json:"line,omitempty"`
	Text   string `json:"text"`
	// SkipIf is a regular expression (RE2): a file that it matches is left alone.
	SkipIf string `json:"skipIf,omitempty"`
	// Idempotent leaves alone a file that has the text anywhere. Without it only an
	// edit that the last write made, and that is still there, is not made again.
	Idempotent bool `json:"idempotent,omitempty"`
	// Backup keeps the file as it was under its name with .backup behind.
	Backup bool `json:"backup,omitempty"`
	// OpenEnd leaves a text that ends the file without its last newline.
	OpenEnd  bool          `json:"openEnd,omitempty"`
	Template string        `json:"template"`
	Where    finding.Place `json:"where,omitzero"`
}

// digest tells one edit from another; who asked for it does not count.
func (e Edit) digest() state.Digest {
	e.Template, e.Where, e.Backup = "", finding.Place{}, false
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings, numbers and bools are always encoded
	}
	return state.DigestOf(b)
}

// apply returns content with the text in it. made tells that an earlier write made
// this very edit.
func (e *Edit) apply(content []byte, exists, made bool) ([]byte, error) {
	text := e.lines(content)
	if len(text) == 0 || e.Idempotent || made {
		if bytes.Contains(content, bytes.TrimRight(text, "\r\n")) {
			return content, nil
		}
	}
	if e.SkipIf != "" {
		re, err := regexp.Compile(e.SkipIf)
		if err != nil {
			return nil, fault.New(fault.Finding, "", "%s: skip_if: %w", e.Where, err)
		}
		if re.Match(content) {
			return content, nil
		}
	}
	all := lines(content)
	at, err := e.position(all, exists)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, line := range all[:at] {
		out.Write(line)
	}
	if at > 0 && at == len(all) && !bytes.HasSuffix(all[at-1], []byte("\n")) {
		out.WriteString(ending(content))
	}
	out.Write(text)
	for _, line := range all[at:] {
		out.Write(line)
	}
	if e.OpenEnd && at == len(all) {
		return bytes.TrimRight(out.Bytes(), "\r\n"), nil
	}
	return out.Bytes(), nil
}

// lines returns the text as whole lines that end as those of content do.
func (e *Edit) lines(content []byte) []byte {
	text := strings.ReplaceAll(e.Text, "\r\n", "\n")
	if strings.TrimSpace(text) == "" {
		return nil
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return []byte(strings.ReplaceAll(text, "\n", ending(content)))
}

// ending is how the first line of content ends.
func ending(content []byte) string {
	if first, _, ok := bytes.Cut(content, []byte("\n")); ok && bytes.HasSuffix(first, []byte("\r")) {
		return "\r\n"
	}
	return "\n"
}

// position returns how many lines stay before the text.
func (e *Edit) position(all [][]byte, exists bool) (int, error) {
	refuse := func(hint, format string, a ...any) (int, error) {
		return 0, fault.New(fault.Finding, hint, "%s: template %s edits %s: "+format, append([]any{e.Where, e.Template, e.Path}, a...)...)
	}
	switch e.Mode {
	case Prepend:
		return 0, nil
	case AtLine:
		if e.Line > len(all)+1 {
			return refuse("change at_line", "there is no line %d: it has %d", e.Line, len(all))
		}
		return e.Line - 1, nil
	case Before, After:
		at := slices.IndexFunc(all, func(line []byte) bool { return bytes.Contains(line, []byte(e.Anchor)) })
		if at < 0 && !exists {
			return refuse("generate the file first, or write it", "the file is not there, so no line of it contains %.200q", e.Anchor)
		}
		if at < 0 {
			return refuse("put the line back, or change the anchor", "no line contains %.200q", e.Anchor)
		}
		if e.Mode == After {
			at++
		}
		return at, nil
	default:
		return len(all), nil
	}
}

// lines splits b after every newline; the last line may lack one.
func lines(b []byte) [][]byte {
	if len(b) == 0 {
		return nil
	}
	split := bytes.SplitAfter(b, []byte("\n"))
	if last := len(split) - 1; len(split[last]) == 0 {
		split = split[:last]
	}
	return split
}

// check refuses an edit that no run of this program wrote.
func (e *Edit) check() error {
	known := e.Mode == Prepend || e.Mode == Append || (e.Mode == Before || e.Mode == After) && e.Anchor != "" || e.Mode == AtLine && e.Line > 0
	if !known {
		return fault.New(fault.Finding, "run generate again", "edit of %.200q has the unknown mode %.40q, or no anchor", e.Path, e.Mode)
	}
	return nil
}

// settle makes the edits of files that the plan itself makes, and leaves the others
// sorted by path.
func (p *Plan) settle() error {
	byPath := make(map[string]*File, len(p.Files))
	for i := range p.Files {
		byPath[p.Files[i].Path] = &p.Files[i]
	}
	var left []Edit
	for i := range p.Edits {
		e := &p.Edits[i]
		f := byPath[e.Path]
		if f == nil {
			left = append(left, *e)
			continue
		}
		content, err := e.apply(f.Content, true, false)
		if err != nil {
			return err
		}
		f.Content = content
	}
	slices.SortStableFunc(left, func(a, b Edit) int { return strings.Compare(a.Path, b.Path) })
	p.Edits = left
	return nil
}

// fresh makes the edits where none of the files is there.
func (p *Plan) fresh() ([]File, error) {
	var out []File
	for i := range p.Edits {
		e := &p.Edits[i]
		last := len(out) - 1
		again := last >= 0 && out[last].Path == e.Path
		if !again {
			out = append(out, File{Path: e.Path})
			last++
		}
		content, err := e.apply(out[last].Content, again, false)
		if err != nil {
			return nil, err
		}
		out[last].Content = content
	}
	return out, nil
}

// edits carries out the plan's edits of one file.
func (s *survey) edits(all []Edit) error {
	name := all[0].Path
	f, exists, err := s.present(name)
	if err != nil {
		return err
	}
	before := f.Content
	for i := range all {
		digest := all[i].digest()
		if f.Content, err = all[i].apply(f.Content, exists || i > 0, slices.Contains(s.last.Edits[name], digest)); err != nil {
			return err
		}
		f.Backup = f.Backup || all[i].Backup
		s.next.Edits[name] = append(s.next.Edits[name], digest)
	}
	switch {
	case !exists && len(f.Content) == 0:
	case !exists:
		s.report.Created = append(s.report.Created, name)
		s.change(f, "", state.DigestOf(f.Content))
	case bytes.Equal(before, f.Content):
		s.report.Unchanged = append(s.report.Unchanged, name)
	default:
		s.report.Updated, s.report.Edited = append(s.report.Updated, name), append(s.report.Edited, name)
		if err := s.backUpAs(f); err != nil {
			return err
		}
		s.change(f, state.DigestOf(before), state.DigestOf(f.Content))
	}
	return nil
}

// present returns the file at name as it is; one whose name only looks like it is not it.
func (s *survey) present(name string) (f *File, exists bool, err error) {
	if err := s.parents(name); err != nil {
		return nil, false, err
	}
	f = &File{Path: name, Mode: 0o644}
	info, err := s.root.Lstat(name)
	switch {
	case isAbsent(err):
		return f, false, s.twin(name)
	case err != nil:
		return nil, false, unreadable(s.dir, err)
	case !info.Mode().IsRegular():
		return nil, false, s.inTheWay(name, info.Mode())
	case info.Size() > maxSourceSize:
		return nil, false, fault.New(fault.Finding, "", "edit %s in %s: it has more than %d bytes", name, s.dir, maxSourceSize)
	}
	f.Mode = info.Mode().Perm()
	if f.Content, err = s.root.ReadFile(name); err != nil {
		return nil, false, unreadable(s.dir, err)
	}
	return f, true, nil
}

// backUpAs keeps the file as it is under its name with [backupEnd] behind, if f asks so.
func (s *survey) backUpAs(f *File) error {
	if !f.Backup {
		return nil
	}
	now, _, err := s.present(f.Path)
	if err != nil {
		return err
	}
	old, _, err := s.present(f.Path + backupEnd)
	if err != nil {
		return err
	}
	before, err := digestAt(s.root, old.Path)
	if err != nil {
		return unreadable(s.dir, err)
	}
	if after := state.DigestOf(now.Content); after != before {
		now.Path = old.Path
		s.change(now, before, after)
	}
	return nil
}
