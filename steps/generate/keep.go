package generate

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// keep reads what is said about files that are there already.
func (s *settings) keep(h *header, expand expander) error {
	var err error
	if s.backup, err = boolean(h.backup, expand); err != nil {
		return err
	}
	policy, err := text(h.freezePolicy, expand, strings.Join(freezes, ", "))
	if err != nil {
		return err
	}
	if policy != "" && !slices.Contains(freezes, policy) {
		return wrong(h.freezePolicy, strings.Join(freezes, ", "))
	}
	s.freeze = Freeze(policy)
	if s.slots, err = text(h.freezeSlots, expand, "a folder of the tree"); err != nil {
		return err
	}
	if s.slots == "" {
		s.slots = defaultSlots
	}
	s.slots = strings.TrimSuffix(s.slots, "/")
	if _, err := cleanPath(s.slots+"/x", false); err != nil {
		return fault.New(fault.Finding, "name a folder below the output directory", "%s: freeze_slots_dir %q: %w", h.freezeSlots.Place, clip(s.slots), err)
	}
	return nil
}

// isEdit reports whether the template edits a file instead of making one: inject,
// or without that one of the modes.
func (h *header) isEdit(expand expander) (bool, error) {
	if h.inject != nil {
		return boolean(h.inject, expand)
	}
	for _, n := range []*document.Node{h.prepend, h.appendTo} {
		if is, err := boolean(n, expand); is || err != nil {
			return is, err
		}
	}
	return h.before != nil || h.after != nil || h.atLine != nil, nil
}

// edit renders what front matter says of the place of an edit.
func (j *job) edit(ctx context.Context, engine render.Engine, vars *render.Map, path, text string, where finding.Place) (Edit, error) {
	h := &j.template.header
	expand := func(n *document.Node) (string, error) { return j.expand(ctx, engine, n, n.Text, vars) }
	e := Edit{Path: path, Text: text, Mode: Append, Backup: j.set.backup, Template: j.template.name, Where: where}
	var err error
	if e.Mode, e.Anchor, e.Line, err = h.mode(expand); err != nil {
		return e, err
	}
	if h.skipIf != nil {
		if e.SkipIf, err = textOf(h.skipIf, expand, "a regular expression"); err != nil {
			return e, err
		}
		if _, err := regexp.Compile(e.SkipIf); err != nil {
			return e, fault.New(fault.Finding, "", "%s: skip_if: %w", h.skipIf.Place, err)
		}
	}
	if e.Idempotent, err = boolean(h.idempotent, expand); err != nil {
		return e, err
	}
	if h.eof != nil {
		last, err := boolean(h.eof, expand)
		if err != nil {
			return e, err
		}
		e.OpenEnd = !last
	}
	return e, nil
}

// mode returns the first mode that front matter has.
func (h *header) mode(expand expander) (mode Mode, anchor string, line int, err error) {
	if is, err := boolean(h.prepend, expand); is || err != nil {
		return Prepend, "", 0, err
	}
	if is, err := boolean(h.appendTo, expand); is || err != nil {
		return Append, "", 0, err
	}
	if h.before != nil {
		anchor, err = textOf(h.before, expand, "a part of a line")
		return Before, anchor, 0, err
	}
	if h.after != nil {
		anchor, err = textOf(h.after, expand, "a part of a line")
		return After, anchor, 0, err
	}
	if n := h.atLine; n != nil {
		number := n.Int
		if n.Kind == document.String {
			rendered, err := expand(n)
			if err != nil {
				return AtLine, "", 0, err
			}
			if number, err = strconv.ParseInt(strings.TrimSpace(rendered), 10, 32); err != nil {
				return AtLine, "", 0, wrong(n, "the number of a line")
			}
		} else if n.Kind != document.Int {
			return AtLine, "", 0, wrong(n, "the number of a line")
		}
		if number < 1 || number > maxSourceSize {
			return AtLine, "", 0, wrong(n, "the number of a line, from 1")
		}
		return AtLine, "", int(number), nil
	}
	return Append, "", 0, nil
}

// textOf is text, for what may not be empty.
func textOf(n *document.Node, expand expander, what string) (string, error) {
	value, err := text(n, expand, what)
	if err == nil && value == "" {
		err = wrong(n, what)
	}
	return value, err
}
