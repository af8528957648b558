package door

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/difference"
	"github.com/ultrafast-ci/ultrafast/internal/pipeline"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	stepcleanroom "github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Replay runs a phase again as it was run, and compares.
type Replay struct {
	Entry        string            `arg:"" optional:"" name:"digest" help:"What to replay: a state, <store>@sha256:<digest>; or the digest of an entry or of something that one made, or its first digits. Default: --state."`
	Phase        string            `placeholder:"PHASE" help:"Replay the latest entry of this phase in the chain. Default: the entry itself."`
	Template     []string          `placeholder:"REF" help:"Templates, if they were named on the command line and not by the project."`
	Vars         map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Variable, as it was given to generate; may be repeated."`
	VarsFile     string            `type:"existingfile" placeholder:"FILE" help:"Variables, as they were given to generate."`
	Graph        []string          `placeholder:"FILE" help:"Graph file, as it was given to generate; may be repeated."`
	Package      []string          `type:"existingdir" placeholder:"DIR" help:"Package in a local directory, as it was given to generate; may be repeated."`
	AllowHooks   bool              `help:"Run the commands of templates, if generate ran them. Default: as allow_hooks of .ggen/config.toml says, else not."`
	MinIsolation string            `enum:",full,reduced,none" default:"" placeholder:"LEVEL" help:"Weakest isolation that is accepted here: full, reduced or none. Default: as the project says, else full."`
	TrustRoot    string            `type:"path" placeholder:"FILE" help:"Policy by which validate judged: a file outside the workspace."`
}

// Help shows how it is called.
func (*Replay) Help() string {
	return `The phase is given the state before it, every artifact verified, and what the
project says now; where an input is not the one that was recorded, that is said. It
works in a temporary store: nothing of the project changes. Of deploy the plan alone
is made again, and nothing is deployed.

The exit code is 0 if the claim is the same, 1 if it differs, 2 for a mistake of the
call, 3 if something that is needed cannot be had here.

Examples:
  ultrafast replay 3f0c9a
  ultrafast replay layout:.ggen/state@sha256:3f0c… --phase generate
  ultrafast replay oci://registry.example.com/shop/state@sha256:3f0c… --phase cleanroom-test --min-isolation reduced
  ultrafast replay 3f0c9a --output json`
}

// Replayed is the result of a replay.
type Replayed struct {
	Phase phase.Name `json:"phase"`
	// Entry is what was recorded, Replayed what came out now.
	Entry    state.Digest `json:"entry"`
	Replayed state.Digest `json:"replayed"`
	Same     bool         `json:"same"`
	// Scope says how much was compared: the "claim", or the "plan" of a deploy.
	Scope           string  `json:"scope"`
	Seconds         float64 `json:"seconds"`
	RecordedSeconds float64 `json:"recordedSeconds,omitempty"`
	// Error is how the phase ended, if it failed.
	Error       string             `json:"error,omitempty"`
	Differences *difference.Report `json:"differences,omitempty"`
	// Circumstances are no part of the claim and were different: likely causes.
	Circumstances []difference.Field `json:"circumstances,omitempty"`
	// Damaged are recorded artifacts whose stored bytes are not those of the claim.
	Damaged []string `json:"damaged,omitempty"`
}

// Run replays and prints how the result differs.
func (r *Replay) Run(ctx context.Context, a *app.App) error {
	chain, err := r.open(ctx, a)
	if err != nil {
		return err
	}
	at, err := r.pick(chain.State)
	if err != nil {
		return err
	}
	recorded := &chain.State[at]
	work, err := newScratch(ctx, a, chain.Store)
	if err != nil {
		return err
	}
	a.Terminal.Event(string(recorded.Entry.Phase), "..", "replay of entry "+recorded.Digest.Short())
	out, failure, err := r.again(ctx, a, chain.State[:at], recorded, work)
	if err != nil {
		return fault.Wrap(err, fault.KindOf(err), fault.HintOf(err), "replay of "+string(recorded.Entry.Phase)+" "+recorded.Digest.Short())
	}
	result, err := compare(ctx, recorded, out, work)
	if err != nil {
		return err
	}
	if failure != nil {
		result.Error = failure.Error()
	}
	return result.show(a, recorded)
}

// open returns the chain that the argument names.
func (r *Replay) open(ctx context.Context, a *app.App) (*app.Chain, error) {
	project, err := a.LoadProject()
	if err != nil {
		return nil, err
	}
	if strings.Contains(r.Entry, "@") {
		a.Globals.State = r.Entry
	}
	if r.Entry == "" && a.Globals.State == "" {
		return nil, fault.New(fault.Usage, "give a state as every run prints it, or a digest of one of its entries", "nothing to replay was named")
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil || r.Entry == "" || strings.Contains(r.Entry, "@") {
		return chain, err
	}
	head, err := chain.Store.Find(ctx, r.Entry)
	if err != nil {
		return nil, err
	}
	chain.State, err = chain.Store.Load(ctx, head)
	return chain, err
}

// pick returns the place of the entry in the chain.
func (r *Replay) pick(chain state.State) (int, error) {
	if len(chain) == 0 {
		return 0, fault.New(fault.Usage, "", "the state has no entry")
	}
	if r.Phase == "" {
		return len(chain) - 1, nil
	}
	name, err := parsePhase("--phase", r.Phase)
	if err != nil {
		return 0, err
	}
	var has []string
	for i := len(chain) - 1; i >= 0; i-- {
		if chain[i].Entry.Phase == name {
			return i, nil
		}
		has = append(has, string(chain[i].Entry.Phase))
	}
	slices.Reverse(has)
	return 0, fault.New(fault.Usage, "name one of these, or a later state", "the chain has no entry of phase %s; it has %s", name, strings.Join(has, ", "))
}

// again runs the phase on the state before it. The failure is how a phase ended that
// left an entry all the same.
func (r *Replay) again(ctx context.Context, a *app.App, before state.State, recorded *state.Link, work *scratch) (_ *state.Link, failure, err error) {
	if recorded.Entry.Phase == phase.Deploy {
		link, err := r.plan(ctx, a, before, recorded, work)
		return link, nil, err
	}
	step, err := r.step(ctx, a, before, recorded, work)
	if err != nil {
		return nil, nil, err
	}
	runner := a.NewRunner(work)
	runner.NoCache, runner.Observer = true, silent{}
	_, reports, err := runner.Run(ctx, before, step)
	if len(reports) == 0 || reports[0].Link.Digest == "" {
		return nil, nil, err
	}
	if err != nil && fault.KindOf(err) != fault.Finding {
		return nil, nil, err
	}
	return &reports[0].Link, err, nil
}

// silent hears what happens and says nothing.
type silent struct{}

func (silent) Started(phase.Name)   {}
func (silent) Done(pipeline.Report) {}

func compare(ctx context.Context, recorded, out *state.Link, work *scratch) (*Replayed, error) {
	was, is := recorded.Run(), out.Run()
	result := &Replayed{
		Phase: recorded.Entry.Phase, Entry: recorded.Digest, Replayed: out.Digest, Same: recorded.Digest == out.Digest,
		Scope: "claim", Seconds: is.Duration.Seconds(), RecordedSeconds: was.Duration.Seconds(),
	}
	if result.Phase == phase.Deploy {
		result.Scope = "plan"
	}
	for _, artifact := range recorded.Entry.Artifacts {
		err := work.recorded.Verify(ctx, &state.Entry{Artifacts: []state.Artifact{artifact}})
		if err != nil && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			result.Damaged = append(result.Damaged, err.Error())
		}
	}
	if result.Same {
		return result, nil
	}
	if len(result.Damaged) > 0 {
		// The lines of what is damaged cannot be compared, its digest can.
		return result, fault.New(fault.Finding, "restore the store, or run the phase again with --no-cache",
			"replay of %s %s: the result differs, and what was recorded is damaged: %s", result.Phase, result.Entry.Short(), strings.Join(result.Damaged, "; "))
	}
	var err error
	result.Differences, err = difference.Compare(ctx, difference.Side{Entry: &recorded.Entry, Blobs: work.recorded}, difference.Side{Entry: &out.Entry, Blobs: work})
	result.Circumstances = difference.Facts(circumstances(&recorded.Entry, was), circumstances(&recorded.Entry, is))
	return result, err
}

// circumstances are the facts of a run that may have made it come out otherwise and
// are not in the claim.
func circumstances(e *state.Entry, ev *state.Evidence) map[string]string {
	out := map[string]string{}
	for name, value := range ev.Facts {
		for _, prefix := range []string{"run.", pipeline.FactKey, "tool.", "isolation.", "enforced."} {
			if strings.HasPrefix(name, prefix) && !strings.HasSuffix(name, ".seconds") {
				out[name] = value
			}
		}
	}
	for _, in := range e.Inputs {
		delete(out, pipeline.FactKey+in.Name) // which the claim tells
	}
	if ev.Backend != "" {
		out["backend"] = ev.Backend
	}
	return out
}

func (r *Replayed) show(a *app.App, recorded *state.Link) error {
	failed := !r.Same || len(r.Damaged) > 0
	if a.Output == "json" {
		if err := a.PrintJSON(r); err != nil || !failed {
			return err
		}
		return app.ExitError{Code: fault.Finding.ExitCode()}
	}
	took := seconds(r.Seconds)
	if r.RecordedSeconds > 0 {
		took += ", recorded " + seconds(r.RecordedSeconds)
	}
	if r.Same && !failed {
		note := ""
		if r.Scope == "plan" {
			note = "; the plan was made again, nothing was deployed"
		}
		_, err := fmt.Fprintf(a.Stdout, "same: %s %s (%s%s)\n", r.Phase, r.Entry, took, note)
		return err
	}
	if r.Same {
		return fault.New(fault.Finding, "restore the store, or run the phase again with --no-cache",
			"replay of %s %s gives the same claim, but what was recorded is damaged: %s", r.Phase, r.Entry.Short(), strings.Join(r.Damaged, "; "))
	}
	if err := r.write(a, took); err != nil {
		return err
	}
	return fault.New(fault.Finding, r.hint(recorded), "replay of %s %s differs: %s", r.Phase, r.Entry.Short(), r.count())
}

func seconds(s float64) string { return fmt.Sprintf("%.3f s", s) }

func (r *Replayed) write(a *app.App, took string) error {
	if _, err := fmt.Fprintf(a.Stdout, "differs: %s %s -> %s (%s)\n", r.Phase, r.Entry, r.Replayed, took); err != nil {
		return err
	}
	if r.Error != "" {
		for line := range strings.Lines(r.Error) {
			if _, err := fmt.Fprintf(a.Stdout, "failed: %s\n", difference.Visible(strings.TrimRight(line, "\r\n"))); err != nil {
				return err
			}
		}
	}
	if err := r.Differences.WriteText(a.Stdout); err != nil {
		return err
	}
	if len(r.Circumstances) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(a.Stdout, "\nnot in the claim, and different:"); err != nil {
		return err
	}
	return difference.WriteFields(a.Stdout, r.Circumstances)
}

func (r *Replayed) count() string {
	n := func(n int, noun string) string {
		if n == 1 {
			return "1 " + noun
		}
		return fmt.Sprintf("%d %ss", n, noun)
	}
	return n(len(r.Differences.Fields), "field") + " and " + n(len(r.Differences.Artifacts), "artifact")
}

// hint names the likeliest cause: an input, then the tool, then the circumstances.
func (r *Replayed) hint(recorded *state.Link) string {
	var inputs []string
	tool, policy, checks := false, false, false
	for _, f := range r.Differences.Fields {
		if name, ok := strings.CutPrefix(f.Path, "inputs["); ok {
			inputs = append(inputs, strings.TrimSuffix(name, "]"))
		}
		tool = tool || strings.HasPrefix(f.Path, "tool.")
		policy = policy || f.Path == "validate.policy"
		checks = checks || strings.HasPrefix(f.Path, "checks[")
	}
	switch {
	case len(inputs) > 0:
		return "other inputs than were recorded: " + strings.Join(inputs, ", ") + "; check out the commit that made the state, and give the flags that generate was given"
	case policy:
		return "another policy than was recorded: give the same --trust-root"
	case tool:
		return fmt.Sprintf("another version of the program: version %s made the entry", recorded.Entry.Tool.Version)
	case checks && recorded.Run().Facts[stepcleanroom.FactFlaky] != "":
		facts := recorded.Run().Facts
		return fmt.Sprintf("the inputs are the same, but the recorded run was flaky: %s of its tests passed within %s retries, as many as there were here; mend them",
			difference.Visible(facts[stepcleanroom.FactFlaky]), difference.Visible(facts[stepcleanroom.FactRetries]))
	case len(r.Circumstances) > 0:
		names := make([]string, 0, len(r.Circumstances))
		for _, f := range r.Circumstances {
			names = append(names, f.Path)
		}
		return "the inputs are the same; these circumstances are not: " + strings.Join(names, ", ")
	default:
		return "inputs, tool and circumstances are the same: the phase is not reproducible here"
	}
}

// scratch reads from the store of the chain and writes to a temporary one.
type scratch struct {
	*store.Store
	recorded *store.Store
	// dir is removed when the command ends; packages below it is where market installs.
	dir, packages string

	mu   sync.Mutex
	made map[state.Digest]bool
}

// newScratch returns a scratch that is removed when the command ends.
func newScratch(ctx context.Context, a *app.App, recorded *store.Store) (_ *scratch, err error) {
	dir, err := os.MkdirTemp("", "ultrafast-replay-*")
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "set TMPDIR to a directory that can be written", "make a temporary store")
	}
	a.AtEnd(func() error { return os.RemoveAll(dir) })
	temporary, err := store.Open(ctx, "layout:"+filepath.Join(dir, "state"), dir)
	if err != nil {
		return nil, err
	}
	a.AtEnd(temporary.Close)
	return &scratch{Store: temporary, recorded: recorded, dir: dir, packages: filepath.Join(dir, "packages"), made: map[state.Digest]bool{}}, nil
}

// Open reads what was made here from here, all else from the chain.
func (s *scratch) Open(ctx context.Context, artifact state.Artifact) (io.ReadCloser, error) {
	s.mu.Lock()
	here := s.made[artifact.Digest]
	s.mu.Unlock()
	if here {
		return s.Store.Open(ctx, artifact)
	}
	return s.recorded.Open(ctx, artifact)
}

// Create writes here.
func (s *scratch) Create(ctx context.Context, mediaType string) (state.BlobWriter, error) {
	w, err := s.Store.Create(ctx, mediaType)
	if err != nil {
		return nil, err
	}
	return &scratchWriter{w, s}, nil
}

// Verify reads what the chain holds.
func (s *scratch) Verify(ctx context.Context, e *state.Entry) error { return s.recorded.Verify(ctx, e) }

// Lookup finds nothing: what is replayed runs.
func (s *scratch) Lookup(context.Context, state.Digest) (state.Link, bool, error) {
	return state.Link{}, false, nil
}

// Remember does nothing.
func (s *scratch) Remember(context.Context, state.Digest, state.Digest) error { return nil }

type scratchWriter struct {
	state.BlobWriter
	scratch *scratch
}

// Commit keeps what was written, and that it was written here.
func (w *scratchWriter) Commit(name string) (state.Artifact, error) {
	artifact, err := w.BlobWriter.Commit(name)
	if err == nil {
		w.scratch.mu.Lock()
		w.scratch.made[artifact.Digest] = true
		w.scratch.mu.Unlock()
	}
	return artifact, err
}
