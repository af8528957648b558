package generate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Step generates a source tree. The zero value with Units is ready to run.
type Step struct {
	// Units are rendered in order.
	Units   []Unit
	Options Options

	// Packages are local packages by id, each a folder with a gpack.toml. They are
	// read only if the state has no market entry; then its artifacts count alone.
	Packages map[string]fs.FS
	// PackageDirs says by id where those lie, as messages are to name it; the id stands
	// for a folder that it lacks.
	PackageDirs map[string]string
	// Files is the project folder, in which templates named by a path are found; it
	// may be nil if there are none. That of an [os.Root] keeps links inside.
	Files fs.FS

	// OutputDir, if set, is where the tree is written too; see [Write].
	OutputDir string
	// Lock keeps two runs that write to OutputDir apart; nil means that the caller does.
	Lock Locker

	// Hooks runs the commands of templates. They run only if it is set; that a
	// template has commands which do not run is a finding.
	Hooks Hooks

	// GraphCache keeps graphs for other runs of the process; nil keeps them for the
	// templates of this run alone.
	GraphCache *GraphCache

	// Log and Progress may be nil. Progress is called by one goroutine at a time.
	Log      *slog.Logger
	Progress func(message string)
	// Advance, if set, is told of every output that is rendered; Progress then is not
	// told how many of the templates are done.
	Advance Advance

	made made // by the last Run
}

// made is a plan with the digests of the artifacts that were made of it.
type made struct {
	plan      *Plan
	artifacts []state.Artifact
}

// Unit is one template, or several named by a pattern, with what it is given.
type Unit struct {
	// Template is "<package>:<file>" below the package's templates, where the file
	// may be a pattern ("*", "handlers/*.tmpl"), or the path of a file of the project.
	Template string
	Vars     map[string]any
	// Output is the folder below the root of the tree; empty or "." is the root.
	Output string
	// Graphs are merged with those that the template names itself.
	Graphs []Graph
}

// Graph is a file of the project with a graph.
type Graph struct {
	// Name is its path relative to the project, with forward slashes. Its end tells
	// the notation: .ttl, .nt, .rdf or .jsonld.
	Name string
	Data []byte
}

// Options hold for all units of a run.
type Options struct {
	// Vars are the project's variables, VarsFile those of a file, Flags those of
	// the command line. The later win, and all win over a template's defaults.
	Vars, VarsFile map[string]any
	Flags          map[string]string
	// TemplateVarsWin lets the defaults of a template override all others, as the
	// reference does (decision record 0001, row B2).
	TemplateVarsWin bool
	// AllowShellChars permits "$(" and backticks in Flags, AllowCI targets that
	// define pipelines.
	AllowShellChars, AllowCI bool
	// Strict makes unknown keys of front matter an error, and variables of the caller
	// that no template reads; those of the project may be for others.
	Strict bool
	Dialect
	// Workers is how many templates are rendered at once; zero means [maxWorkers].
	Workers int
	// Force overwrites files in OutputDir that were changed by hand.
	Force bool
	// Limits bound each query of a template, and its graph.
	Limits Limits
	// Seed fixes what templates draw at random, Now what they take for the present
	// time; the zero time stands for the Unix epoch.
	Seed uint64
	Now  time.Time
}

// Phase returns [phase.Generate].
func (s *Step) Phase() phase.Name { return phase.Generate }

// Key returns the digests of everything the tree depends on, besides the
// packages, which the chain names. With Hooks it returns nil: a command depends on
// the programs of the machine.
func (s *Step) Key(_ context.Context, in state.State) (map[string]string, error) {
	inputs, err := s.inputs(in)
	if err != nil || s.Hooks != nil {
		return nil, err
	}
	key := make(map[string]string, len(inputs))
	for _, input := range inputs {
		key[input.Name] = string(input.Digest)
	}
	return key, nil
}

// Run renders the units and keeps the tree as the artifact "tree". If a graph
// violates the shapes of a template, nothing is rendered, and the result is a
// failed entry with the findings.
func (s *Step) Run(ctx context.Context, in state.State, blobs state.Blobs) (state.Result, error) {
	inputs, err := s.inputs(in)
	if err != nil {
		return state.Result{}, err
	}
	plan, err := s.Plan(ctx, in, blobs)
	if err != nil {
		return s.refusal(inputs, err)
	}
	facts := map[string]string{}
	if len(plan.Hooks) > 0 {
		if facts, err = s.runHooks(ctx, plan); err != nil {
			return state.Result{}, fault.Wrap(err, fault.KindOf(err), "", "nothing was written")
		}
	}
	artifact, report, err := plan.keep(ctx, blobs)
	if err != nil {
		return state.Result{}, err
	}
	artifacts, err := plan.editsArtifact(ctx, blobs, artifact)
	if err != nil {
		return state.Result{}, fmt.Errorf("keep the edits: %w", err)
	}
	s.made = made{plan, artifacts}
	facts["generate.bytes"] = fmt.Sprint(plan.bytes())
	if s.OutputDir != "" {
		changes, err := Write(ctx, s.OutputDir, plan, WriteOptions{Force: s.Options.Force, Lock: s.Lock})
		if err != nil {
			return state.Result{}, err
		}
		maps.Copy(facts, changes.facts())
		s.log().Debug("tree written", "dir", s.OutputDir, "created", len(changes.Created), "updated", len(changes.Updated), "removed", len(changes.Removed))
	}
	return state.Result{
		Entry: state.Entry{
			Outcome:   state.Passed,
			Inputs:    inputs,
			Artifacts: artifacts,
			Generate:  &state.Generate{Templates: plan.Templates, Files: len(plan.Files), Seed: plan.Seed},
		},
		Evidence: state.Evidence{
			Artifacts: []state.Artifact{report},
			Facts:     facts,
			Findings:  plan.Findings,
			Summary:   plan.summary(),
		},
	}, nil
}

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

func (p *Plan) summary() string {
	edits := fmt.Sprintf("%d edits", len(p.Edits))
	if len(p.Edits) == 1 {
		edits = "1 edit"
	}
	switch {
	case len(p.Edits) == 0:
		return files(len(p.Files))
	case len(p.Files) == 0:
		return edits
	default:
		return files(len(p.Files)) + ", " + edits
	}
}

func (s *Step) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

func (s *Step) progress(format string, a ...any) {
	if s.Progress != nil {
		s.Progress(fmt.Sprintf(format, a...))
	}
}

func (p *Plan) bytes() int {
	total := 0
	for _, f := range p.Files {
		total += len(f.Content)
	}
	return total
}

func (c Changes) facts() map[string]string {
	facts := map[string]string{}
	for name, list := range map[string][]string{
		"created": c.Created, "updated": c.Updated, "removed": c.Removed,
		"unchanged": c.Unchanged, "skipped": c.Skipped, "kept": c.Kept, "merged": c.Merged,
	} {
		if len(list) > 0 {
			facts["write."+name] = fmt.Sprint(len(list))
		}
	}
	return facts
}

// ArtifactFiles names the evidence that tells of every file: its path, mode,
// size, digest and template.
const ArtifactFiles = "files"

type fileReport struct {
	Path         string       `json:"path"`
	Mode         string       `json:"mode"`
	Bytes        int          `json:"bytes"`
	Digest       state.Digest `json:"digest"`
	Template     string       `json:"template"`
	Force        bool         `json:"force,omitempty"`
	UnlessExists bool         `json:"unlessExists,omitempty"`
	Backup       bool         `json:"backup,omitempty"`
	Freeze       Freeze       `json:"freeze,omitempty"`
	Regions      []Region     `json:"regions,omitempty"`
}

// ArtifactEdits names the artifact with the edits of files outside of the tree: a
// JSON array of [Edit]. An entry without edits has none.
const ArtifactEdits = "edits"

// editsArtifact adds the edits, if there are any, to the artifacts of the entry.
func (p *Plan) editsArtifact(ctx context.Context, blobs state.Blobs, tree state.Artifact) ([]state.Artifact, error) {
	if len(p.Edits) == 0 {
		return []state.Artifact{tree}, nil
	}
	b, err := json.MarshalIndent(p.Edits, "", "  ")
	if err != nil {
		return nil, err
	}
	edits, err := state.WriteBlob(ctx, blobs, ArtifactEdits, state.MediaTypeJSON, append(b, '\n'))
	return []state.Artifact{edits, tree}, err // sorted by name
}

// readEdits returns the edits of an entry.
func readEdits(ctx context.Context, entry *state.Entry, blobs state.Blobs) ([]Edit, error) {
	artifact, ok := entry.Artifact(ArtifactEdits)
	if !ok {
		return nil, nil
	}
	b, err := state.ReadBlob(ctx, blobs, artifact)
	if err != nil {
		return nil, err
	}
	var edits []Edit
	if err := json.Unmarshal(b, &edits); err != nil {
		return nil, fault.New(fault.Finding, "run generate again", "edits of the generate entry: %w", err)
	}
	for i := range edits {
		if err := edits[i].check(); err != nil {
			return nil, err
		}
	}
	return edits, nil
}

// keep makes the tree and the report of its files artifacts, side by side: each of them
// waits for a disk.
func (p *Plan) keep(ctx context.Context, blobs state.Blobs) (tree, report state.Artifact, err error) {
	err = inParallel(ctx, 2, 2, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			if tree, err = p.pack(ctx, blobs); err != nil {
				return fmt.Errorf("keep the generated tree: %w", err)
			}
			return nil
		}
		if report, err = p.report(ctx, blobs); err != nil {
			return fmt.Errorf("keep the report of the generated files: %w", err)
		}
		return nil
	})
	return tree, report, err
}

func (p *Plan) report(ctx context.Context, blobs state.Blobs) (state.Artifact, error) {
	rows := make([]fileReport, 0, len(p.Files))
	for _, f := range p.Files {
		rows = append(rows, fileReport{
			Path: f.Path, Mode: fmt.Sprintf("%04o", f.Mode.Perm()), Bytes: len(f.Content), Digest: state.DigestOf(f.Content),
			Template: f.Template, Force: f.Force, UnlessExists: f.UnlessExists, Backup: f.Backup, Freeze: f.Freeze, Regions: f.Regions,
		})
	}
	b, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return state.Artifact{}, err
	}
	return state.WriteBlob(ctx, blobs, ArtifactFiles, state.MediaTypeJSON, append(b, '\n'))
}

// PlanOf is [PlanOf], without reading again what the last Run of the step kept.
func (s *Step) PlanOf(ctx context.Context, link *state.Link, blobs state.Blobs) (*Plan, error) {
	if s.made.plan != nil && slices.Equal(s.made.artifacts, link.Entry.Artifacts) {
		return s.made.plan, nil
	}
	return PlanOf(ctx, link, blobs)
}

// PlanOf returns the plan of a run from its link, so that a tree which came from
// the chain instead of being generated again can be written or compared too.
func PlanOf(ctx context.Context, link *state.Link, blobs state.Blobs) (*Plan, error) {
	artifact, ok := link.Entry.Artifact(state.ArtifactTree)
	if !ok || link.Entry.Generate == nil {
		return nil, fault.New(fault.Finding, "run generate", "the %s entry %s has no generated tree", link.Entry.Phase, link.Digest.Short())
	}
	archive, err := state.ReadBlob(ctx, blobs, artifact)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Templates: link.Entry.Generate.Templates, Seed: link.Entry.Generate.Seed, packed: packed{archive, artifact.Digest}}
	t, err := unpack(archive)
	if err != nil {
		return nil, fmt.Errorf("tree of the generate entry %s: %w", link.Digest.Short(), err)
	}
	rows, err := fileReports(ctx, link, blobs)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(t.files)) {
		content := t.files[name].content
		row := rows[name]
		plan.Files = append(plan.Files, File{
			Path: name, Mode: t.files[name].mode, Content: content,
			Template: row.Template, Force: row.Force, UnlessExists: row.UnlessExists, Backup: row.Backup, Freeze: row.Freeze, Regions: row.Regions,
		})
	}
	if plan.Edits, err = readEdits(ctx, &link.Entry, blobs); err != nil {
		return nil, err
	}
	return plan, plan.check()
}

// fileReports returns what the evidence tells of the files; an entry without
// evidence tells nothing, which loses no safety: its files overwrite no change.
func fileReports(ctx context.Context, link *state.Link, blobs state.Blobs) (map[string]fileReport, error) {
	byPath := map[string]fileReport{}
	for i := range link.Evidence {
		artifact, ok := link.Evidence[i].Artifact(ArtifactFiles)
		if !ok {
			continue
		}
		b, err := state.ReadBlob(ctx, blobs, artifact)
		if err != nil {
			return nil, err
		}
		var rows []fileReport
		if err := json.Unmarshal(b, &rows); err != nil {
			return nil, fault.New(fault.Finding, "run generate again", "report of the generated files: %w", err)
		}
		for _, row := range rows {
			byPath[row.Path] = row
		}
	}
	return byPath, nil
}

// inputs returns everything the tree depends on by digest, sorted by name.
func (s *Step) inputs(in state.State) ([]state.Input, error) {
	digests := map[string]state.Digest{}
	add := func(name string, digest state.Digest) error {
		if known, ok := digests[name]; ok && known != digest {
			return fault.New(fault.Usage, "give each file one name", "two different files are called %s", name)
		}
		digests[name] = digest
		return nil
	}
	type unit struct {
		Template, Output string
		Vars             map[string]any
		Graphs           []string
	}
	units := make([]unit, 0, len(s.Units))
	var errs []error
	for i := range s.Units {
		u := unit{Template: s.Units[i].Template, Output: s.Units[i].Output, Vars: s.Units[i].Vars}
		for _, g := range s.Units[i].Graphs {
			u.Graphs = append(u.Graphs, g.Name)
			errs = append(errs, add("graph/"+g.Name, state.DigestOf(g.Data)))
		}
		units = append(units, u)
		errs = append(errs, s.localTemplate(s.Units[i].Template, add))
	}
	if _, fromMarket := in.Last(phase.Market); !fromMarket {
		for _, id := range slices.Sorted(maps.Keys(s.Packages)) {
			errs = append(errs, addFolder("package/"+id, "package "+id, s.Packages[id], false, add))
		}
	}
	o := s.Options // Force is left out: it decides about the output directory, not about the tree
	options := []any{o.TemplateVarsWin, o.AllowCI, o.Strict, o.Dialect, o.Seed, o.now().Format(time.RFC3339Nano)}
	if s.Hooks != nil {
		options = append(options, "hooks")
	}
	for name, value := range map[string]any{"units": units, "vars": []any{o.Vars, o.VarsFile, o.Flags}, "options": options} {
		b, err := json.Marshal(value) // sorts map keys
		if err != nil {
			return nil, fault.New(fault.Usage, "", "%s: %w", name, err)
		}
		errs = append(errs, add(name, state.DigestOf(b)))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	inputs := make([]state.Input, 0, len(digests))
	for _, name := range slices.SortedFunc(maps.Keys(digests), strings.Compare) {
		inputs = append(inputs, state.Input{Name: name, Digest: digests[name]})
	}
	return inputs, nil
}

// localTemplate adds the folder that a template by path is read from.
func (s *Step) localTemplate(template string, add func(string, state.Digest) error) error {
	ref, err := parseReference(template)
	if err != nil || ref.pack != "" {
		return err
	}
	folder, err := s.localFolder(ref)
	if err != nil {
		return err
	}
	return addFolder("templates/"+folder.root, "templates in "+folder.root, folder.fsys, folder.flat, add)
}

// addFolder adds the digest of all that is in a folder, by name; what says what it is,
// for people.
func addFolder(name, what string, fsys fs.FS, flat bool, add func(string, state.Digest) error) error {
	hasher := state.NewHasher()
	skip := func(name string, d fs.DirEntry) bool {
		switch name {
		case ".git", ".ggen", ".cleanroom": // no template is read from these
			return true
		default:
			return flat && !d.Type().IsRegular()
		}
	}
	if err := state.Pack(context.Background(), hasher, fsys, skip); err != nil {
		kind, hint := fault.Unavailable, "name a folder of the project that can be read"
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
			kind = fault.Finding
		case errors.Is(err, fs.ErrPermission):
			hint = "give this user the right to read it, or move it elsewhere: all files there count"
		}
		return fault.Wrap(err, kind, hint, "read "+what)
	}
	return add(name, hasher.Digest())
}

// now is the time that templates see.
func (o *Options) now() time.Time {
	if o.Now.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return o.Now.UTC()
}
