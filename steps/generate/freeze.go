package generate

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Freeze says what stays as it is when a file is generated again.
type Freeze string

// The policies of freeze_policy.
const (
	// FreezeAlways keeps what was generated once.
	FreezeAlways Freeze = "always"
	// FreezeChecksum keeps what was changed by hand since it was generated.
	FreezeChecksum Freeze = "checksum"
	// FreezeNever keeps nothing.
	FreezeNever Freeze = "never"
)

var freezes = []string{string(FreezeAlways), string(FreezeChecksum), string(FreezeNever)}

// defaultSlots is where frozen regions are kept without freeze_slots_dir.
const defaultSlots = "frozen"

// Region is a part of a file that is frozen by itself: its text is kept in a file
// of its own, the slot, which is there for people to change.
type Region struct {
	// Slot is the path of that file in the tree.
	Slot string `json:"slot"`
	// From and To are bytes of the content as it was rendered.
	From int `json:"from"`
	To   int `json:"to"`
	// Checksum, if set, is the SHA-256 that the slot has to have, in hexadecimal.
	Checksum string `json:"checksum,omitempty"`
}

var (
	freezeTag  = regexp.MustCompile(`\{%-?\s*(startfreeze\b((?:[^%"]|"[^"]*")*?)|endfreeze)\s*-?%\}`)
	freezeName = regexp.MustCompile(`(\w+)\s*=\s*"([^"]*)"`)
	freezeMark = regexp.MustCompile("\x00(freeze|endfreeze)\x01([^\x01\x00]*)\x01([^\x01\x00]*)\x01(\\d{1,8})\x00")
)

// markRegions replaces the tags of frozen regions, which no engine knows, by marks
// that pass through an engine and tell their lines. What stands in an id is still
// rendered.
func markRegions(body string) string {
	if !strings.Contains(body, "freeze") {
		return body
	}
	var out strings.Builder
	last, line := 0, 1
	for _, m := range freezeTag.FindAllStringSubmatchIndex(body, -1) {
		line += strings.Count(body[last:m[0]], "\n")
		out.WriteString(body[last:m[0]])
		attributes := map[string]string{}
		begins := m[4] >= 0 // what stands behind startfreeze
		if begins {
			for _, a := range freezeName.FindAllStringSubmatch(body[m[4]:m[5]], -1) {
				attributes[a[1]] = a[2]
			}
		}
		word := map[bool]string{true: "freeze", false: "endfreeze"}[begins]
		fmt.Fprintf(&out, "\x00%s\x01%s\x01%s\x01%d\x00", word, attributes["id"], attributes["checksum"], line)
		line += strings.Count(body[m[0]:m[1]], "\n")
		last = m[1]
	}
	out.WriteString(body[last:])
	return out.String()
}

// regions takes the marks out of a rendered text.
func (j *job) regions(text, slots string) (string, []Region, error) {
	marks := freezeMark.FindAllStringSubmatchIndex(text, -1)
	if marks == nil {
		return text, nil, nil
	}
	where := finding.Place{File: j.body.name}
	refuse := func(format string, a ...any) (string, []Region, error) {
		return "", nil, fault.New(fault.Finding, `write {% startfreeze id="name" %} … {% endfreeze %}`, "%s: "+format, append([]any{where}, a...)...)
	}
	var out strings.Builder
	var all []Region
	last, open := 0, false
	for _, m := range marks {
		out.WriteString(text[last:m[0]])
		last = m[1]
		line, _ := strconv.Atoi(text[m[8]:m[9]]) // digits, and few
		where.Line = j.body.shift + line
		begins := text[m[2]:m[3]] == "freeze"
		if begins == open {
			return refuse("regions that are frozen are not opened and closed in turn")
		}
		if open = begins; !begins {
			all[len(all)-1].To = out.Len()
			continue
		}
		id := text[m[4]:m[5]]
		slot, err := cleanPath(slots+"/"+id, false)
		if id == "" || err != nil {
			return refuse("a frozen region has the id %q, which names no file below %s", id, slots)
		}
		all = append(all, Region{Slot: slot, From: out.Len(), Checksum: text[m[6]:m[7]]})
	}
	if open {
		return refuse("region %s is not closed", all[len(all)-1].Slot)
	}
	out.WriteString(text[last:])
	return out.String(), all, nil
}

// thaw returns f with the text of every slot in place of what was rendered, and
// plans the slots that are to be written.
func (s *survey) thaw(f *File) (*File, error) {
	if len(f.Regions) == 0 || f.Freeze == FreezeNever {
		return f, nil
	}
	out := *f
	var content bytes.Buffer
	last := 0
	for i := range f.Regions {
		r := &f.Regions[i]
		if r.From < last || r.To < r.From || r.To > len(f.Content) {
			return nil, fault.New(fault.Finding, "generate again", "region %s of %s is not in the file", r.Slot, f.Path)
		}
		content.Write(f.Content[last:r.From])
		kept, err := s.slot(f, r)
		if err != nil {
			return nil, err
		}
		content.Write(kept)
		last = r.To
	}
	content.Write(f.Content[last:])
	out.Content = content.Bytes()
	return &out, nil
}

// slot returns the text of a region: that of its slot, if that is frozen.
func (s *survey) slot(f *File, r *Region) ([]byte, error) {
	rendered := f.Content[r.From:r.To]
	now, exists, err := s.present(r.Slot)
	if err != nil {
		return nil, err
	}
	before, generated := state.DigestOf(now.Content), s.last.Files[r.Slot]
	if exists && r.Checksum != "" && before != state.Digest("sha256:"+r.Checksum) {
		return nil, fault.New(fault.Finding, "approve the change by changing the checksum, or take it back",
			"%s: the frozen region %s has the checksum %s, its template wants %s", f.Template, r.Slot, strings.TrimPrefix(string(before), "sha256:"), r.Checksum)
	}
	frozen := exists && (f.Freeze != FreezeChecksum || r.Checksum != "" || before != generated)
	if frozen {
		if generated != "" {
			s.next.Files[r.Slot] = generated
		}
		return now.Content, nil
	}
	after := state.DigestOf(rendered)
	s.next.Files[r.Slot] = after
	switch {
	case !exists:
		s.report.Created = append(s.report.Created, r.Slot)
		s.change(&File{Path: r.Slot, Mode: 0o644, Content: rendered}, "", after)
	case before != after:
		s.report.Updated = append(s.report.Updated, r.Slot)
		s.change(&File{Path: r.Slot, Mode: now.Mode, Content: rendered}, before, after)
	}
	return rendered, nil
}

// slots are the paths of the slots of the plan.
func (p *Plan) slots() []string {
	var all []string
	for i := range p.Files {
		if p.Files[i].Freeze == FreezeNever {
			continue
		}
		for _, r := range p.Files[i].Regions {
			all = append(all, r.Slot)
		}
	}
	slices.Sort(all)
	return all
}

// checkSlots refuses two regions of one slot, and a slot that is a file of the tree.
func (p *Plan) checkSlots(taken map[string]occupant) error {
	for i := range p.Files {
		f := &p.Files[i]
		for _, r := range f.Regions {
			if clean, err := cleanPath(r.Slot, true); err != nil || clean != r.Slot {
				return refused(f.Where, f.Template, r.Slot, err)
			}
			if f.Freeze == FreezeNever {
				continue
			}
			if other, ok := taken[fold(r.Slot)]; ok {
				return fault.New(fault.Finding, "give every region an id of its own, or another freeze_slots_dir",
					"the text of two frozen regions, or of one and a file, is to be in %s: %s and %s", path.Clean(r.Slot), f.origin(), other.file.origin())
			}
			taken[fold(r.Slot)] = occupant{r.Slot, false, f}
		}
	}
	return nil
}
