// Package door is the command line of the generate phase and the wiring behind it.
package door

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/generate"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// CLI is the command line of the binary.
type CLI struct {
	app.Globals
	Commands
}

// Commands are the verbs of the phase.
type Commands struct {
	Template Template `cmd:"" help:"Render templates into a source tree."`
	Batch    Batch    `cmd:"" help:"Render several templates with shared variables, all or none."`
	List     List     `cmd:"" help:"List the templates of the project, and of the packages in the chain."`
	Show     Show     `cmd:"" help:"Show what a template writes, reads and needs."`
	Lint     Lint     `cmd:"" help:"Look for mistakes in templates, without rendering."`
	New      Create   `cmd:"" help:"Make a template to start from."`
	Verify   Verify   `cmd:"" help:"Render twice under different circumstances and compare."`
	Query    Query    `cmd:"" help:"Run a SPARQL query over graph files."`
	Shapes   Shapes   `cmd:"" help:"Check graph files against SHACL shapes."`
	Render   Render   `cmd:"" help:"Render the body of one template file, nothing else."`
}

// New returns the door.
func New() app.Door {
	return app.Door{
		Name:        "ultrafast-generate",
		Description: "Render templates over an RDF graph into a source tree, all or nothing and the same on every machine.",
		CLI:         &CLI{},
	}
}

// Options are what a caller may say besides the project file.
type Options struct {
	Templates       []string          `arg:"" optional:"" name:"ref" twin:"template" help:"Templates: <package>:<file>, where the file may be a pattern, or the path of one of the project. Default: [[generate]] of the project."`
	Template        []string          `placeholder:"REF" help:"The same as a flag, for CI inputs."`
	Vars            map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Variable; may be repeated."`
	VarsFile        string            `type:"existingfile" placeholder:"FILE" help:"Variables from a YAML, TOML or JSON file."`
	Graph           []string          `placeholder:"FILE" help:"Graph file of the project, .ttl, .nt, .rdf or .jsonld; may be repeated. Default: as the project says."`
	Package         []string          `type:"existingdir" placeholder:"DIR" help:"Package in a local directory, used when no --state is given; may be repeated."`
	OutputDir       string            `type:"path" placeholder:"DIR" help:"Also write the tree here. Default: output of the project, if it has one."`
	Force           bool              `help:"Overwrite files that were changed by hand."`
	Strict          bool              `help:"Refuse unknown keys in front matter, and given variables that no template reads."`
	AllowShellChars bool              `help:"Permit $$( and backticks in values of --vars."`
	AllowCI         bool              `name:"allow-ci" help:"Permit templates that write pipeline definitions."`
	AllowHooks      bool              `aliases:"allow-sh" help:"Run the commands that templates name (sh_before, sh_after), in a sandbox without a network. Default: as allow_hooks of .ggen/config.toml says, else not."`
	MinIsolation    string            `enum:",full,reduced,none" default:"" placeholder:"LEVEL" help:"Weakest isolation in which commands of templates run: full, reduced or none. Default: as the project says, else full."`
	Seed            uint64            `help:"Seed of everything random."`
	KeepMapOrder    bool              `help:"Visit maps in the order of their keys in the file. By default keys are sorted."`
	Limits
	// TemplateVarsWin lets a template's own variables win over all others, as the
	// reference does. No flag of ours says so.
	TemplateVarsWin bool `kong:"-"`
	// Workers is how many templates are rendered at once; zero means as the project says.
	Workers int `kong:"-"`
}

// Template renders templates.
type Template struct {
	Options
	DryRun bool       `help:"Show a unified diff and the commands that would run, and write and run nothing."`
	Merge  app.Choice `placeholder:"SIDE" help:"Merge what is new into files that were changed by hand. What both changed is marked; with --merge=generated-wins or --merge=manual-wins one side stays."`
	// MergeBase is read from where the tree that was generated last can be found, if the
	// directory does not have it.
	MergeBase string `placeholder:"REF" help:"What --merge takes for the tree that was generated last: a state, <store>@sha256:<digest>, or a directory. Default: what the last run kept below the output directory."`
}

// Help shows how it is called.
func (*Template) Help() string {
	return `The time that templates and their queries see is SOURCE_DATE_EPOCH where that is set, else
1970-01-01T00:00:00Z; what they draw at random follows from --seed.

Examples:
  ultrafast-generate template                          # what the project file names
  ultrafast-generate template go-http-service:main.go.tmpl --vars port=9090 --output-dir out
  ultrafast-generate template --state "$STATE" --dry-run --output-dir out
  ultrafast-generate template --allow-hooks --output-dir out   # commands of templates, in a sandbox`
}

// Run renders, and adds the entry to the chain.
func (t *Template) Run(ctx context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil {
		return err
	}
	step, err := NewStep(a, project, t.Options)
	if err != nil {
		return err
	}
	step.Progress, step.Advance = a.ProgressOf(phase.Generate), a.BarOf(phase.Generate)
	if err := ask(ctx, a, chain, step); err != nil {
		return err
	}
	out := NewTree(a, project, t.Options)
	if err := t.merging(ctx, a, project, &out); err != nil {
		return err
	}
	out.step = step
	if t.DryRun {
		return out.diff(ctx, a.Stdout, chain, step)
	}
	tidy(ctx, a)
	failed := "generate: nothing was written"
	if out.merge {
		failed = "generate: the tree is not finished" // it may have marks of conflicts
	}
	return a.RunSteps(ctx, chain, app.Run{
		Verdict: "generated", Failed: failed,
		After: func(ctx context.Context, s state.State, _ phase.Name) (state.State, error) {
			return s, out.Write(ctx, s, chain.Store)
		},
	}, step)
}

// Tree is the directory into which a generated tree is also written.
type Tree struct {
	// Dir is absolute; empty for none.
	Dir   string
	Force bool

	merge   bool
	prefer  generate.Prefer
	base    fs.FS
	step    *generate.Step // that made the tree, if this process did
	project string
	note    func(finding.Finding)
	advance generate.Advance

	progress func(message string)
}

// NewTree returns the directory that the options or the project name.
func NewTree(a *app.App, project *config.Project, o Options) Tree {
	t := Tree{Force: o.Force, project: project.Dir, note: a.Note, advance: a.BarOf(phase.Generate), progress: a.ProgressOf(phase.Generate)}
	switch {
	case o.OutputDir != "":
		t.Dir = a.Abs(o.OutputDir)
	case project.Output != "":
		t.Dir = filepath.Join(project.Dir, filepath.FromSlash(project.Output))
	}
	return t
}

// Write writes the tree of the chain, whether it was generated now or earlier.
func (t Tree) Write(ctx context.Context, s state.State, blobs state.Blobs) error {
	link, ok := s.Last(phase.Generate)
	if t.Dir == "" || !ok {
		return nil
	}
	planOf := generate.PlanOf
	if t.step != nil {
		planOf = t.step.PlanOf
	}
	plan, err := planOf(ctx, link, blobs)
	if err != nil {
		return err
	}
	options := t.options()
	options.Lock, options.Advance = locker, t.advance
	changes, err := generate.Write(ctx, t.Dir, plan, options)
	if err != nil {
		return err
	}
	t.progress(below(t.project, t.Dir) + ": " + changes.String())
	for _, c := range changes.Conflicts {
		t.tell(c)
	}
	for _, c := range changes.Settled {
		t.settled(c)
	}
	return changes.Unmerged(t.Dir)
}

func (t Tree) options() generate.WriteOptions {
	return generate.WriteOptions{Force: t.Force, Merge: t.merge, Prefer: t.prefer, Base: t.base, Within: t.project}
}

// tell makes findings of the conflicts in one file.
func (t Tree) tell(c generate.Conflict) {
	f := finding.Finding{
		Rule: "generate-conflict", Severity: finding.High, Where: finding.Place{File: below(t.project, filepath.Join(t.Dir, filepath.FromSlash(c.Path)))},
		What: c.Path + " cannot be merged: " + c.Why, Fix: "look at the file",
	}
	if len(c.Lines) == 0 {
		t.note(f)
	}
	for _, line := range c.Lines {
		f.Where.Line = line
		f.What = "you and the template changed the same lines of " + c.Path
		f.Fix = "choose what stays between the marks, and remove the marks"
		t.note(f)
	}
}

// settled tells of conflicts that --merge decided: nothing to do, but to know.
func (t Tree) settled(c generate.Conflict) {
	f := finding.Finding{
		Rule: "generate-conflict-settled", Severity: finding.Info, Where: finding.Place{File: below(t.project, filepath.Join(t.Dir, filepath.FromSlash(c.Path)))},
		What: c.Path + ": " + c.Why,
	}
	if len(c.Lines) == 0 {
		t.note(f)
	}
	for _, line := range c.Lines {
		f.Where.Line = line
		f.What = fmt.Sprintf("you and the template changed the same lines of %s: %s", c.Path, t.prefer)
		t.note(f)
	}
}

func (t Tree) diff(ctx context.Context, w io.Writer, chain *app.Chain, step *generate.Step) error {
	if t.Dir == "" {
		return fault.New(fault.Usage, "give --output-dir", "a dry run compares with a directory, and none is named")
	}
	plan, err := step.Plan(ctx, chain.State, chain.Store)
	if err != nil {
		return err
	}
	for i := range plan.Hooks {
		if _, err := fmt.Fprintf(w, "would run %s\n", &plan.Hooks[i]); err != nil {
			return err
		}
	}
	return generate.Diff(ctx, w, t.Dir, plan, t.options())
}

func locker(ctx context.Context, path string) (func() error, error) {
	held, err := lock.Acquire(ctx, path)
	if err != nil {
		return nil, err
	}
	return held.Release, nil
}
