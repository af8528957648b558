package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/internal/pipeline"
	"github.com/ultrafast-ci/ultrafast/internal/platform"
	"github.com/ultrafast-ci/ultrafast/internal/report"
	"github.com/ultrafast-ci/ultrafast/internal/store"
	"github.com/ultrafast-ci/ultrafast/internal/terminal"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Chain is a state and the store that it lies in.
type Chain struct {
	Store *store.Store
	State state.State
}

// Ref returns the string that the next phase is given.
func (c *Chain) Ref() string { return state.Ref{Store: c.Store.URL(), Head: c.State.Head()}.String() }

// OpenChain opens the store and reads the chain named by --state, or starts an
// empty one. base is where a relative store lies: the project's directory.
func (a *App) OpenChain(ctx context.Context, base string) (*Chain, error) {
	url := a.Globals.Store
	var ref state.Ref
	if a.Globals.State != "" {
		var err error
		if ref, err = state.ParseRef(a.Globals.State); err != nil {
			return nil, err
		}
		if url == "" {
			url = a.here(ref.Store)
		}
	}
	if url == "" {
		url = "layout:" + filepath.Join(".ggen", "state")
	}
	options := []store.Option{store.WithCredentials(registryCredentials(a.Lookup, a.Log))}
	if ref.Head != "" {
		options = append(options, store.Existing())
	}
	s, err := store.Open(ctx, url, base, options...)
	if err != nil {
		return nil, err
	}
	a.AtEnd(s.Close)
	if ref.Head == "" {
		return &Chain{Store: s}, nil
	}
	chain, err := s.Load(ctx, ref.Head)
	return &Chain{Store: s, State: chain}, err
}

// OpenState reads another chain than that of --state. base is where a relative store lies.
func (a *App) OpenState(ctx context.Context, reference, base string) (*Chain, error) {
	ref, err := state.ParseRef(reference)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, a.here(ref.Store), base, store.WithCredentials(registryCredentials(a.Lookup, a.Log)), store.Existing())
	if err != nil {
		return nil, err
	}
	a.AtEnd(s.Close)
	chain, err := s.Load(ctx, ref.Head)
	return &Chain{Store: s, State: chain}, err
}

// here returns the URL of a store that another step of the job has named, as this one
// finds it.
func (a *App) here(url string) string {
	if dir, ok := strings.CutPrefix(url, "layout:"); ok {
		return "layout:" + a.Platform.Here(dir)
	}
	return url
}

// Result is what a command that runs phases prints as JSON.
type Result struct {
	State    string            `json:"state"`
	Outcome  state.Outcome     `json:"outcome"`
	Phases   []PhaseResult     `json:"phases"`
	Findings []finding.Finding `json:"findings,omitempty"`
}

// PhaseResult is one phase in a [Result].
type PhaseResult struct {
	Phase   phase.Name    `json:"phase"`
	Digest  state.Digest  `json:"digest,omitempty"`
	Outcome state.Outcome `json:"outcome"`
	Cached  bool          `json:"cached"`
	Seconds float64       `json:"seconds"`
	Summary string        `json:"summary,omitempty"`
}

// Run says how [App.RunSteps] ends.
type Run struct {
	// Title is what runs, shown first; empty for a single phase, which says so itself.
	Title string
	// Verdict is the headline of a run that passed, Failed that of one that did not.
	Verdict, Failed string
	// From is the first phase that runs whatever the chain holds; empty for none.
	From phase.Name
	// After is called when a phase has passed; see [pipeline.Runner].
	After func(ctx context.Context, chain state.State, name phase.Name) (state.State, error)
	// Below are lines for people under the timeline, read when the run has ended.
	Below func() [][2]string
}

// RunSteps runs steps on the chain, hands on the state and shows the timeline. The
// chain holds the result also when an error is returned.
func (a *App) RunSteps(ctx context.Context, chain *Chain, run Run, steps ...pipeline.Step) error {
	runner := a.NewRunner(chain.Store)
	runner.From, runner.After = run.From, run.After
	if run.Title != "" {
		a.Terminal.Event("run", "", run.Title+", "+a.Platform.Name())
	}
	defer WithoutSIGPIPE()()
	result, reports, err := runner.Run(ctx, chain.State, steps...)
	chain.State = result
	if len(result) > 0 {
		err = errors.Join(err, a.handOn(chain))
	}
	return errors.Join(err, a.show(chain, reports, run, err))
}

// WithoutSIGPIPE lets a reader of our output go, until restore is called, without ending
// us in the middle of what has to be cleaned up: whoever pipes progress into head has seen enough, no more. A signal that is
// caught, unlike one that is ignored, is as usual again in the programs we start.
func WithoutSIGPIPE() (restore func()) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGPIPE)
	return func() { signal.Stop(caught) }
}

// NewRunner returns what runs phases on a store, as every command does.
func (a *App) NewRunner(store pipeline.Store) *pipeline.Runner {
	// The digest takes as long as the start of a sandbox, and is needed first where a
	// phase may be found in the chain, last where it runs.
	code := sync.OnceValues(codeDigest)
	go code()
	return &pipeline.Runner{
		Store: store, Version: Version(), Code: code, Scope: scope(a.Platform),
		Producer: state.Producer{Platform: a.Platform.Name()},
		NoCache:  a.NoCache, Observer: observer{a, new(func())}, Now: a.Now, Log: a.Log,
	}
}

// scope names the runs that may reuse each other's results: those of one system, and
// among them a protected branch never reads what a pull request wrote.
func scope(p platform.Platform) string {
	if p.Protected() {
		return p.Name() + " protected"
	}
	return p.Name()
}

// handOn passes the state reference to whoever comes next.
func (a *App) handOn(chain *Chain) error {
	ref := chain.Ref()
	if len(ref) > state.MaxRef {
		return fault.New(fault.Usage, "use a shorter store path", "state reference has %d bytes; at most %d are allowed", len(ref), state.MaxRef)
	}
	if err := errors.Join(a.Platform.Output("state", ref), a.Platform.Subject(ref)); err != nil {
		return err
	}
	if a.StateOut == "" {
		return nil
	}
	// No line break: Tekton hands it on as part of the value.
	if err := os.WriteFile(a.StateOut, []byte(ref), 0o644); err != nil {
		return fault.Wrap(err, fault.Unavailable, "name a file that can be written", "write --state-out")
	}
	return nil
}

func (a *App) show(chain *Chain, reports []pipeline.Report, run Run, err error) error {
	outcome, verdict := state.Passed, run.Verdict
	if err != nil {
		outcome, verdict = state.Failed, run.Failed
	}
	a.run.Verdict = verdict
	result := Result{Outcome: outcome}
	if len(chain.State) > 0 {
		result.State = chain.Ref()
	}
	var rows []terminal.Row
	for _, r := range reports {
		rows = append(rows, row(r))
		result.Phases = append(result.Phases, PhaseResult{
			Phase: r.Phase, Digest: r.Link.Digest, Outcome: r.Outcome, Cached: r.Cached,
			Seconds: r.Duration.Seconds(), Summary: r.Summary,
		})
		a.run.Phases = append(a.run.Phases, report.Phase{
			Name: r.Phase, Outcome: r.Outcome, Cached: r.Cached, Duration: r.Duration, Summary: r.Summary, Checks: r.Link.Entry.Checks,
		})
		for _, ev := range r.Link.Evidence {
			result.Findings = append(result.Findings, ev.Findings...)
		}
	}
	for _, f := range result.Findings {
		a.Note(f)
	}
	a.result = &result
	var below [][2]string
	if run.Below != nil && err == nil {
		below = run.Below()
	}
	below = append(below, isolation(reports)...)
	a.run.Facts, a.run.State = below, result.State
	if result.State != "" {
		below = append(below, [2]string{"state", result.State})
	}
	a.Terminal.Final(err == nil, verdict, a.Now().Sub(a.start), rows, below)
	switch {
	case err != nil:
		return nil // what failed and how far it came is one document; see [App.report]
	case a.Output == "json":
		return a.PrintJSON(result)
	case result.State != "":
		_, err = fmt.Fprintln(a.Stdout, result.State)
	}
	return unprinted(err)
}

// isolation says in what isolation phases ran code, and why not in full: never
// silently in a weaker one.
func isolation(reports []pipeline.Report) [][2]string {
	var lines [][2]string
	for _, r := range reports {
		// The newest counts: a phase may have run more than once with the same result.
		for _, ev := range slices.Backward(r.Link.Evidence) {
			level := ev.Facts["isolation.level"]
			if ev.Kind != state.KindRun || level == "" {
				continue
			}
			text := fmt.Sprintf("%s for %s", level, r.Phase)
			if why := ev.Facts["isolation.why"]; why != "" {
				text += ": " + why
			}
			lines = append(lines, [2]string{"isolation", text})
			break
		}
	}
	return lines
}

func row(r pipeline.Report) terminal.Row {
	return terminal.Row{
		Name: string(r.Phase), Outcome: r.Outcome, Cached: r.Cached,
		Duration: r.Duration, Saved: r.Saved, Summary: r.Summary,
	}
}

// observer writes a progress line for each phase that ended, and now and then one
// for a phase that is silent.
type observer struct {
	app *App
	end *func() // ends the group of the phase that runs
}

func (o observer) Started(name phase.Name) {
	end := o.app.Platform.Group(string(name))
	stop := o.app.Terminal.Watch(string(name), terminal.MaxSilence)
	*o.end = func() { stop(); end() }
}

// Done closes the group before it says how the phase ended, so that this is seen.
func (o observer) Done(r pipeline.Report) {
	(*o.end)()
	o.app.Terminal.PhaseDone(row(r))
}

// ProgressOf returns a function that writes progress lines for a phase.
func (a *App) ProgressOf(name phase.Name) func(string) {
	return func(message string) { a.Terminal.Event(string(name), "..", message) }
}

// BarOf returns a function that shows how many parts of a phase are done; nil where
// nothing can be redrawn, and lines have to say it.
func (a *App) BarOf(name phase.Name) func(done, total int, last string) {
	if !a.Terminal.Live() {
		return nil
	}
	return func(done, total int, last string) { a.Terminal.Bar(string(name), done, total, last) }
}

// codeDigest returns what tells one build of this program from another: the digest
// of the executable. It is part of resume keys only, never of a claim.
func codeDigest() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's file: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read this program's file: %w", err)
	}
	defer f.Close()
	h := state.NewHasher()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read this program's file: %w", err)
	}
	return string(h.Digest()), nil
}

// PrintJSON writes v to standard output, indented.
func (a *App) PrintJSON(v any) error {
	enc := json.NewEncoder(a.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return unprinted(enc.Encode(v))
}

// unprinted gives a result that could not be written its kind: whoever waits for
// it must not take silence for success.
func unprinted(err error) error {
	return fault.Wrap(err, fault.Unavailable, "check where standard output goes: a full disk, or a reader that ended", "write the result")
}

// HandOn passes the state reference on and prints it.
func (a *App) HandOn(chain *Chain) error {
	if err := a.handOn(chain); err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(Result{State: chain.Ref(), Outcome: state.Passed, Phases: []PhaseResult{}})
	}
	_, err := fmt.Fprintln(a.Stdout, chain.Ref())
	return unprinted(err)
}
