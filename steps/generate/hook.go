package generate

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/internal/render"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	// maxHooks bounds the commands of one run.
	maxHooks = 1000
	// maxArguments bounds the arguments of one command, maxArgument the bytes of one
	// (Linux has 128 KiB: MAX_ARG_STRLEN of execve(2)).
	maxArguments = 1000
	maxArgument  = 64 << 10
)

const hintArray = "write it as an array, for example sh_after: [gofmt, -w, main.go]"

// Hooks runs the commands of templates, behind walls.
type Hooks interface {
	// Run runs argv in the root of a copy of the tree that archive, made by
	// [state.Pack], holds, and returns an archive of what it left there. It is not
	// trusted: what it names is checked like what a template names. Facts go into the
	// evidence. A command that fails is an error.
	Run(ctx context.Context, argv []string, archive []byte) (left []byte, facts map[string]string, err error)
}

// Hook is a command that a template runs before or after the file that it writes.
type Hook struct {
	// Template is the reference of the template, Key the key of its front matter,
	// sh_before or sh_after, and Where the place of that.
	Template, Key string
	Where         finding.Place
	// Path is the file that the command goes with.
	Path string
	Argv []string
}

// String is "sh_after of main.go: gofmt -w main.go", for people: arguments with
// blanks are in quotes.
func (h *Hook) String() string {
	return h.Key + " of " + h.Path + ": " + line(h.Argv)
}

// line writes argv as one line.
func line(argv []string) string {
	words := make([]string, len(argv))
	for i, a := range argv {
		if words[i] = a; a == "" || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`"'\`, r) }) {
			words[i] = strconv.Quote(a)
		}
	}
	return strings.Join(words, " ")
}

// around are the commands of one output.
type around struct{ before, after []Hook }

// hooks renders the commands that go with the output at target.
func (j *job) hooks(ctx context.Context, engine render.Engine, vars *render.Map, target string) (around, error) {
	var a around
	h := &j.template.header
	if !j.allowHooks {
		return a, nil
	}
	expand := func(n *document.Node, text string) (string, error) { return j.expand(ctx, engine, n, text, vars) }
	for _, of := range []struct {
		key  string
		node *document.Node
		into *[]Hook
	}{{"sh_before", h.shBefore, &a.before}, {"sh_after", h.shAfter, &a.after}} {
		commands, err := commandsOf(of.node, expand)
		if err != nil {
			return a, err
		}
		for _, argv := range commands {
			*of.into = append(*of.into, Hook{Template: j.template.name, Key: of.key, Where: of.node.Place, Path: target, Argv: argv})
		}
	}
	return a, nil
}

// commandsOf reads one command, a text or an array of its arguments, or an array of
// such arrays.
func commandsOf(n *document.Node, expand func(n *document.Node, text string) (string, error)) ([][]string, error) {
	const what = "a command, or an array of its arguments"
	switch {
	case n == nil:
		return nil, nil
	case n.Kind == document.String:
		argv, err := commandOfText(n, expand)
		return [][]string{argv}, err
	case n.Kind != document.Seq || len(n.Items) == 0:
		return nil, wrong(n, what)
	}
	if n.Items[0].Kind != document.Seq {
		argv, err := commandOfArray(n, expand)
		return [][]string{argv}, err
	}
	var out [][]string
	for _, item := range n.Items {
		if item.Kind != document.Seq || len(item.Items) == 0 {
			return nil, wrong(item, "an array of arguments")
		}
		argv, err := commandOfArray(item, expand)
		if err != nil {
			return nil, err
		}
		out = append(out, argv)
	}
	return out, nil
}

func commandOfText(n *document.Node, expand func(*document.Node, string) (string, error)) ([]string, error) {
	words, err := splitWords(n.Text)
	if err != nil {
		return nil, fault.New(fault.Finding, hintArray, "%s: command %q: %w", n.Place, clip(n.Text), err)
	}
	var argv []string
	for _, w := range words {
		text, err := expand(n, w.text)
		if err != nil {
			return nil, err
		}
		if text != "" || w.quoted {
			argv = append(argv, text)
		}
	}
	return argv, checkArgv(n, argv)
}

func commandOfArray(n *document.Node, expand func(*document.Node, string) (string, error)) ([]string, error) {
	argv := make([]string, 0, len(n.Items))
	for _, item := range n.Items {
		switch item.Kind {
		case document.String, document.Int, document.Float, document.Bool:
		default:
			return nil, wrong(item, "an argument")
		}
		text, err := expand(item, item.Text)
		if err != nil {
			return nil, err
		}
		argv = append(argv, text)
	}
	return argv, checkArgv(n, argv)
}

func checkArgv(n *document.Node, argv []string) error {
	refuse := func(format string, a ...any) error {
		return fault.New(fault.Finding, "", "%s: "+format, append([]any{n.Place}, a...)...)
	}
	switch {
	case len(argv) == 0 || argv[0] == "":
		return refuse("the command has no name")
	case len(argv) > maxArguments:
		return refuse("the command has %d arguments; at most %d are passed", len(argv), maxArguments)
	}
	for _, a := range argv {
		if len(a) > maxArgument || strings.ContainsRune(a, 0) {
			return refuse("an argument of the command has a zero byte, or more than %d bytes", maxArgument)
		}
	}
	return nil
}

// hooksOff tells of commands that are not run.
func (h *header) hooksOff() []finding.Finding {
	var out []finding.Finding
	for _, n := range []*document.Node{h.shBefore, h.shAfter} {
		if n != nil {
			out = append(out, finding.Finding{
				Rule: "template-hook-off", Severity: finding.Low, Where: n.Place,
				What: "the template names a command; it is not run", Fix: "pass --allow-hooks if you trust the package",
			})
		}
	}
	return out
}

// noteHooks takes down the commands of the plan in the order in which they run.
func (p *Plan) noteHooks(outputs []output) error {
	for i := range outputs {
		for _, a := range outputs[i].around {
			p.Hooks = append(p.Hooks, slices.Concat(a.before, a.after)...)
		}
	}
	if len(p.Hooks) > maxHooks {
		return fault.New(fault.Finding, hintLess, "the templates have %d commands; at most %d are run", len(p.Hooks), maxHooks)
	}
	if len(p.Hooks) > 0 {
		p.outputs = outputs
	}
	return nil
}

// runHooks builds the tree of the plan again, output by output in the order of the
// templates, and runs the commands at their places; the plan is then of what they
// left. Nothing is written: a command sees a copy of the tree that is made until
// then, and when one fails there is no plan to write. See decision record 0005.
func (s *Step) runHooks(ctx context.Context, p *Plan) (facts map[string]string, err error) {
	w := &workbench{ctx: ctx, step: s, total: len(p.Hooks), files: map[string]*File{}, facts: map[string]string{}}
	for i := range p.outputs {
		if err := w.template(&p.outputs[i]); err != nil {
			return nil, err
		}
	}
	p.Files = nil
	for _, name := range slices.Sorted(maps.Keys(w.files)) {
		p.Files = append(p.Files, *w.files[name])
	}
	p.Edits = w.edits
	slices.SortStableFunc(p.Edits, func(a, b Edit) int { return strings.Compare(a.Path, b.Path) })
	w.facts["hooks.run"] = fmt.Sprint(w.done)
	return w.facts, p.check()
}

// workbench is the tree while commands change it.
type workbench struct {
	ctx         context.Context
	step        *Step
	done, total int
	files       map[string]*File
	// edits are those whose file is not there, until it is.
	edits []Edit
	facts map[string]string
}

func (w *workbench) template(m *output) error {
	for i := range max(len(m.files), len(m.edits)) {
		var a around
		if m.around != nil {
			a = m.around[i]
		}
		if err := w.run(a.before); err != nil {
			return err
		}
		put := func() error { return w.edit(&m.edits[i]) }
		if i < len(m.files) {
			put = func() error { return w.put(m.files[i]) }
		}
		if err := put(); err != nil {
			return err
		}
		if err := w.run(a.after); err != nil {
			return err
		}
	}
	return nil
}

// put adds a file, and makes the edits of it that came before.
func (w *workbench) put(f File) error {
	if other := w.files[f.Path]; other != nil {
		return collision(&f, occupant{path: f.Path, file: other}, "a command has made %s, which a template writes", f.Path)
	}
	w.files[f.Path] = &f
	var left []Edit
	for i := range w.edits {
		if w.edits[i].Path != f.Path {
			left = append(left, w.edits[i])
			continue
		}
		content, err := w.edits[i].apply(f.Content, true, false)
		if err != nil {
			return err
		}
		f.Content = content
	}
	w.edits = left
	return nil
}

// edit makes an edit, or keeps it if its file is not there.
func (w *workbench) edit(e *Edit) error {
	f := w.files[e.Path]
	if f == nil {
		w.edits = append(w.edits, *e)
		return nil
	}
	content, err := e.apply(f.Content, true, false)
	f.Content = content
	return err
}

// run runs commands over what is there.
func (w *workbench) run(hooks []Hook) error {
	for i := range hooks {
		h := &hooks[i]
		doing := fmt.Sprintf("%s: %s of template %s: %s", h.Where, h.Key, h.Template, clip(line(h.Argv)))
		var archive bytes.Buffer
		if err := state.Pack(w.ctx, &archive, w.tree(), nil); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		w.step.progress("command %d/%d, %s of %s: %s", w.done+1, w.total, h.Key, h.Path, clip(line(h.Argv)))
		left, facts, err := w.step.Hooks.Run(w.ctx, h.Argv, archive.Bytes())
		if err == nil {
			err = w.take(h, left)
		}
		if err != nil {
			return fault.Wrap(err, fault.KindOf(err), "", doing)
		}
		maps.Copy(w.facts, facts)
		w.done++
	}
	return nil
}

func (w *workbench) tree() *tree {
	t := newTree()
	for name, f := range w.files {
		t.add(name, f.Content, f.Mode)
	}
	t.index()
	return t
}

// take makes what a command left the tree. The file that the command goes with must be
// among it: the template promises it. Other files may have been there for the command alone.
func (w *workbench) take(h *Hook, archive []byte) error {
	left, err := unpack(archive)
	if err != nil {
		return err
	}
	if w.files[h.Path] != nil && left.files[h.Path] == nil {
		return fault.New(fault.Finding, "name under `to` where the file ends up, or leave it out by `when`", "the command removed %s, the output of its template", h.Path)
	}
	for name := range w.files {
		if left.files[name] == nil {
			delete(w.files, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(left.files)) {
		content := left.files[name].content
		f := w.files[name]
		if f == nil {
			if _, err := cleanPath(name, w.step.Options.AllowCI); err != nil {
				return fault.New(fault.Finding, pathHint(err, "keep the command from making it, or remove it there"), "the command made %.200q: %w", name, err)
			}
			f = &File{Path: name, Template: h.Template, Where: h.Where, hook: h}
			w.files[name] = f
		}
		if err := f.moveRegions(content); err != nil {
			return err
		}
		f.Mode = modeAfter(f.Content, left.files[name])
		f.Content = content
	}
	return nil
}

// modeAfter is the mode that a command left. What it made a script is executable, as
// a script that a template writes is.
func modeAfter(before []byte, after *treeFile) fs.FileMode {
	if mode := modeOf(after.content); mode != modeOf(before) && mode&0o100 != 0 {
		return mode
	}
	return after.mode
}

// moveRegions finds the frozen regions of f in its new content: their texts, each
// once behind the one before.
func (f *File) moveRegions(content []byte) error {
	if bytes.Equal(f.Content, content) {
		return nil
	}
	regions := slices.Clone(f.Regions)
	last := 0
	for i := range regions {
		r := &regions[i]
		text := f.Content[r.From:r.To]
		if bytes.Count(content[last:], text) != 1 {
			return fault.New(fault.Finding, "leave the regions of the file as they are, or freeze the whole file",
				"the command changed the frozen region %s of %s", path.Base(r.Slot), f.Path)
		}
		r.From = last + bytes.Index(content[last:], text)
		r.To = r.From + len(text)
		last = r.To
	}
	f.Regions = regions
	return nil
}
