package cleanroom

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Names of the artifacts of the evidence.
const (
	ArtifactLog     = "log"
	ArtifactResults = "results"
	ArtifactJUnit   = "junit"
)

const (
	// maxLog bounds the log artifact in bytes.
	maxLog = 4 << 20
	// maxDurations bounds the tests whose duration is a fact; the report has all.
	maxDurations = 500
)

// trial is one tree on trial: what is done with it and what came out.
type trial struct {
	step    Step
	room    *room
	program program
	seed    uint64
	tree    state.Digest

	log                  logBuffer
	results              *results
	build, vet, test     sandbox.ExitStatus
	buildText, vetText   tail
	testText             tail
	built, vetted, tried bool
}

// carryOut builds, tests and vets. Only what the sandbox could not do is an error.
func (t *trial) carryOut(ctx context.Context) error {
	t.results = newResults(t.program.module, t.log.add)
	if err := t.buildProgram(ctx); err != nil || !t.built {
		return err
	}
	if err := t.runTests(ctx); err != nil {
		return err
	}
	return t.runVet(ctx)
}

func (t *trial) buildProgram(ctx context.Context) (err error) {
	t.step.progress("build " + t.program.name)
	const name = "build"
	out := path.Join(t.room.env.Path(name, t.room.out), t.program.name)
	// Without build id, symbols and paths the same tree gives the same bytes.
	args := append([]string{"build"}, buildFlags...)
	args = append(args, "-ldflags=-s -w -buildid=", "-o", out, "./"+t.program.dir)
	t.build, err = t.run(ctx, name, nil, &t.buildText, []sandbox.Mount{t.room.out}, args)
	t.built = t.build.OK()
	return err
}

func (t *trial) runTests(ctx context.Context) (err error) {
	t.step.progress("test " + t.program.module)
	packages, err := t.packages(ctx)
	if err != nil || len(packages) == 0 {
		t.tried = err == nil // a shard may have no package at all
		return err
	}
	// The go command ends a hanging test before the wall limit does, because it
	// can say where the test hangs. The rest of the time is for compiling.
	deadline := max((t.room.left() / 4 * 3).Round(time.Millisecond), time.Millisecond)
	args := append([]string{"test"}, buildFlags...)
	t.results.within = t.room.within("test")
	args = append(args, "-json", "-vet=off", "-count=1", "-shuffle="+shuffle(t.seed), "-timeout="+deadline.String())
	args = append(args, packages...)
	t.test, err = t.run(ctx, "test", t.results, &t.testText, nil, args)
	t.results.finish()
	t.tried = t.test.OK()
	return err
}

func (t *trial) runVet(ctx context.Context) (err error) {
	t.step.progress("vet " + t.program.module)
	t.vet, err = t.run(ctx, "vet", nil, &t.vetText, nil, append(append([]string{"vet"}, buildFlags...), "./..."))
	t.vetted = t.vet.OK()
	return err
}

// shuffle returns the seed as the go command takes it, a number that is not negative.
func shuffle(seed uint64) string { return strconv.FormatUint(seed&math.MaxInt64, 10) }

// run runs the go command with its output in the log. Standard output goes to
// stdout if that is not nil; what is for people also goes to text.
func (t *trial) run(ctx context.Context, name string, stdout io.Writer, text *tail, mounts []sandbox.Mount, args []string) (sandbox.ExitStatus, error) {
	t.log.add("$ go " + strings.Join(args, " ") + "\n")
	people := &textWriter{log: &t.log, tail: text, within: t.room.within(name)}
	if stdout == nil {
		stdout = people
	}
	status, err := t.room.goCommand(ctx, name, stdout, people, mounts, args...)
	if err == nil {
		t.log.add("# " + status.String() + "\n\n")
		t.step.Log.DebugContext(ctx, "command ended", "command", "go "+args[0], "status", status.String(), "wall", status.Wall)
	}
	return status, err
}

// result packages the program if all went well and returns what is claimed.
func (t *trial) result(ctx context.Context, blobs state.Blobs) (state.Result, error) {
	res := state.Result{
		Entry: state.Entry{
			Phase: phase.Cleanroom, Outcome: state.Failed, Checks: t.results.checks(),
			Cleanroom: &state.Cleanroom{Tree: t.tree, Toolchain: t.room.tool.String()},
		},
		Evidence: state.Evidence{Backend: t.step.Backend.Name(), Facts: t.facts(), Findings: t.findings()},
	}
	var verdict error
	if failures := gating(res.Evidence.Findings); len(failures) > 0 {
		verdict = t.verdict(failures)
	} else {
		artifacts, err := t.pack(ctx, blobs)
		if err != nil {
			return state.Result{}, err
		}
		res.Entry.Outcome, res.Entry.Artifacts = state.Passed, artifacts
		image, ok := res.Entry.Artifact(state.ArtifactImage)
		if !ok {
			return state.Result{}, fault.New(fault.Internal, "", "the image builder returned no artifact %q", state.ArtifactImage)
		}
		res.Entry.Cleanroom.Image = image.Digest
	}
	t.step.markShard(&res.Entry)
	res.Evidence.Summary = t.summary()
	var err error
	if res.Evidence.Artifacts, err = t.reports(ctx, blobs); err != nil {
		return state.Result{}, err
	}
	return res, verdict
}

// pack makes an image that holds the program, and nothing else.
func (t *trial) pack(ctx context.Context, blobs state.Blobs) ([]state.Artifact, error) {
	t.step.progress("package " + t.program.name)
	files, err := onlyFile(t.room.outRoot, t.program.name)
	if err != nil {
		return nil, err
	}
	artifacts, err := t.step.Imager.Build(ctx, blobs, files, t.step.Package.config(t.program, t.room.tool))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "package "+t.program.name)
	}
	return artifacts, nil
}

func (t *trial) reports(ctx context.Context, blobs state.Blobs) ([]state.Artifact, error) {
	asJSON, err := t.results.json(t.seed)
	if err != nil {
		return nil, err
	}
	asXML, err := t.results.junit()
	if err != nil {
		return nil, err
	}
	var artifacts []state.Artifact
	for _, item := range []struct {
		name, mediaType string
		content         []byte
	}{
		{ArtifactJUnit, state.MediaTypeJUnit, asXML},
		{ArtifactLog, state.MediaTypeLog, t.log.bytes()},
		{ArtifactResults, state.MediaTypeJSON, asJSON},
	} {
		a, err := state.WriteBlob(ctx, blobs, item.name, item.mediaType, item.content)
		if err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "", "keep the "+item.name)
		}
		artifacts = append(artifacts, a)
	}
	return artifacts, nil
}

func (t *trial) summary() string {
	passed, total := t.results.count(state.Passed)
	failed, _ := t.results.count(state.Failed)
	skipped := total - passed - failed
	switch {
	case !t.built:
		return "does not build"
	case failed > 0:
		return fmt.Sprintf("%d of %d tests failed", failed, total)
	case !t.tried || t.results.incomplete() != "":
		return "test run failed"
	case !t.vetted:
		return "go vet has remarks"
	case skipped > 0:
		return fmt.Sprintf("%d of %d tests passed, %d skipped", passed, total, skipped)
	default:
		return fmt.Sprintf("%d of %d tests passed", passed, total)
	}
}

func (t *trial) facts() map[string]string {
	facts := t.room.facts()
	for name, status := range map[string]sandbox.ExitStatus{"build": t.build, "vet": t.vet, "test": t.test} {
		facts[name+".seconds"] = seconds(status.Wall.Seconds())
		facts[name+".cpu-seconds"] = seconds(status.CPU.Seconds())
		facts[name+".status"] = status.String()
		if status.PeakMemory > 0 {
			facts[name+".peak-memory-bytes"] = strconv.FormatInt(status.PeakMemory, 10)
		}
	}
	if !t.built { // then nothing else ran
		maps.DeleteFunc(facts, func(name, _ string) bool { return strings.HasPrefix(name, "vet.") || strings.HasPrefix(name, "test.") })
	}
	facts["test.seed"] = shuffle(t.seed)
	for i, id := range t.results.ids() {
		if i == maxDurations {
			break
		}
		facts["test."+t.results.name(id)+".seconds"] = seconds(t.results.tests[id].seconds)
	}
	return facts
}

// verdict is the error that goes with a failed result.
func (t *trial) verdict(failures []finding.Finding) error {
	const named = 5
	var names []string
	for _, f := range failures[:min(len(failures), named)] {
		text := f.What
		if where := f.Where.String(); where != "" {
			text = where + ": " + text
		}
		if f.Why != "" {
			text += "\n" + indent(f.Why)
		}
		names = append(names, text)
	}
	if more := len(failures) - named; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fault.New(fault.Finding, failures[0].Fix, "%s: %s", t.summary(), strings.Join(names, "\n"))
}

// gating returns the findings that stop the phase.
func gating(all []finding.Finding) []finding.Finding {
	var out []finding.Finding
	for _, f := range all {
		if f.Severity.Gates() {
			out = append(out, f)
		}
	}
	return out
}

// indent returns the lines of output that say most, for an error message: those
// from a panic on, else the last ones. The log has all.
func indent(text string) string {
	const lines = 6
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	from := max(0, len(all)-lines)
	if i := slices.IndexFunc(all, func(line string) bool { return strings.HasPrefix(line, "panic: ") }); i >= 0 {
		from = i
	}
	return "    " + strings.Join(all[from:min(len(all), from+lines)], "\n    ")
}

// logBuffer keeps the first maxLog bytes of the log. It may be used by several
// goroutines.
type logBuffer struct {
	mu   sync.Mutex
	kept bytes.Buffer
	left int64
}

func (l *logBuffer) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := maxLog - l.kept.Len()
	kept := text[:min(len(text), room)]
	l.kept.WriteString(kept)
	l.left += int64(len(text) - len(kept))
}

func (l *logBuffer) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left == 0 {
		return l.kept.Bytes()
	}
	return fmt.Appendf(bytes.Clone(l.kept.Bytes()), "\n# %d more bytes are left out\n", l.left)
}

// textWriter takes output meant for people: all of it to the log, its ends to a tail.
type textWriter struct {
	mu   sync.Mutex
	log  *logBuffer
	tail *tail
	// within is as in results. A path that two writes share is not cut, which
	// does no harm: it is for the eye only.
	within string
}

func (w *textWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.ReplaceAll(string(p), w.within, "")
	w.log.add(text)
	w.tail.add(text)
	return len(p), nil
}
