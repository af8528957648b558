package cleanroom

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/service"
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
	// maxRequests bounds the requests to registries that are facts; the log has all.
	maxRequests = 200
)

// trial is one tree on trial: what is done with it and what came out.
type trial struct {
	step   Step
	room   *room
	suites []*suite
	// packaged is the suite whose program is the image; program is what it builds.
	packaged *suite
	program  program
	// baseRef is the image on which the image is built, pinned; zero for none.
	baseRef sandbox.Reference
	// builder builds the Dockerfile that makes the image; empty if none does.
	// reproducible says whether two builds of it were the same.
	builder, reproducible string
	seed                  uint64
	tree                  state.Digest
	// work holds the tree on the host, and logs a log of each test.
	work *workspace
	logs *os.Root
	// results is the directory of the host for results; nil for none.
	results *os.Root

	log logBuffer
	// source is the tree that was made of a directory, leftOut the files that are not in
	// it; empty for a tree of a state.
	source  state.Artifact
	leftOut []leftOut
	order   []string // of the jobs, as they were started
	notRun  []string // of the jobs, those that never began or were ended with the run
	// requests are what was asked of registries.
	requests []string
	// gate is the way out of the tests at proxy, where they have one.
	gate  Gate
	proxy string
	// services run beside the tests, nil for none; dead tells those that ended too early.
	services *service.Set
	dead     error
	// quarantine are tests that may fail, expired those that may not any more.
	quarantine, expired []Quarantined
	// plan is how a shard was cut; empty unless by durations.
	plan state.Digest
}

// carryOut prepares, builds, tests and checks. Only what the sandbox could not do is
// an error.
//
// Services that tests need start beside the builds, in the room's environment, and
// are waited for before the first test: see [trial.environment] for what a test then
// is told of them.
func (t *trial) carryOut(ctx context.Context) error {
	defer t.releaseServices(ctx)
	if err := t.startServices(ctx); err != nil {
		return err
	}
	for _, s := range t.suites {
		if err := t.buildSuite(ctx, s); err != nil || !s.build.ok {
			return err
		}
	}
	if err := t.servicesReady(ctx); err != nil {
		return err
	}
	if err := t.runTests(ctx); err != nil {
		return err
	}
	for _, s := range t.suites {
		if err := s.runner.check(ctx, t, s); err != nil {
			return err
		}
	}
	return nil
}

// buildSuite builds; what needs no build is built.
func (t *trial) buildSuite(ctx context.Context, s *suite) error {
	if err := s.runner.build(ctx, t, s); err != nil {
		return err
	}
	s.build.ok = s.build.ok || !s.build.ran
	return nil
}

// stage runs a command with its output in the log. Standard output goes to c.stdout
// if that is not nil; what is for people also goes to the stage's text.
func (t *trial) stage(ctx context.Context, st *stage, c command) error {
	return t.stageIn(ctx, t.room, st, c)
}

// stageIn is [trial.stage] in another room.
func (t *trial) stageIn(ctx context.Context, r *room, st *stage, c command) (err error) {
	st.ran, st.command = true, c.title
	t.log.add("$ " + commandLine(c) + "\n")
	people := &textWriter{log: &t.log, tail: &st.text, within: r.within(c.name)}
	c.stderr = people
	if c.stdout == nil {
		c.stdout = people
	}
	if st.status, err = r.run(ctx, c); err != nil {
		return err
	}
	t.log.add("# " + st.status.String() + "\n\n")
	t.step.Log.DebugContext(ctx, "command ended", "command", c.title, "status", st.status.String(), "wall", st.status.Wall)
	st.ok = st.status.OK()
	return nil
}

// commandLine writes a command as the log has it: a program by its name alone.
func commandLine(c command) string {
	return strings.Join(append([]string{path.Base(c.argv[0])}, c.argv[1:]...), " ")
}

// result packages the program if all went well and returns what is claimed.
func (t *trial) result(ctx context.Context, blobs state.Blobs) (state.Result, error) {
	res := state.Result{
		Entry: state.Entry{
			Phase: phase.Cleanroom, Outcome: state.Failed, Checks: t.checks(),
			Cleanroom: &state.Cleanroom{Tree: t.tree, Toolchain: t.toolchains()},
			Inputs:    t.step.serviceInputs(),
		},
		Evidence: state.Evidence{Backend: sandbox.MakerOf(t.step.Backend, t.work.name), Facts: t.facts(), Findings: t.findings()},
	}
	var verdict error
	switch failures := gating(res.Evidence.Findings); {
	case len(failures) > 0:
		verdict = t.verdict(failures)
	case t.step.Tests.selects():
		// What some tests say is no reason for an image.
		res.Entry.Outcome = state.Passed
	default:
		if err := t.pack(ctx, blobs, &res.Entry); err != nil {
			return state.Result{}, err
		}
		t.packageFacts(res.Evidence.Facts) // what packaging has told
		res.Entry.Outcome = state.Passed
	}
	t.markShard(&res.Entry)
	t.markSelection(&res.Entry)
	t.markSource(&res.Entry)
	res.Evidence.Summary = t.summary()
	var err error
	if res.Evidence.Artifacts, err = t.reports(ctx, blobs); err != nil {
		return state.Result{}, err
	}
	return res, verdict
}

func (t *trial) reports(ctx context.Context, blobs state.Blobs) ([]state.Artifact, error) {
	asJSON, err := t.json()
	if err != nil {
		return nil, err
	}
	asXML, err := t.junit()
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
	passed, total := t.count(state.Passed)
	failed, _ := t.count(state.Failed)
	waived, _ := t.count(state.Waived)
	skipped := total - passed - failed - waived
	switch {
	case !t.all(func(s *suite) bool { return s.build.ok }):
		return "does not build"
	case failed > 0:
		return fmt.Sprintf("%d of %d tests failed", failed, total)
	case !t.all(func(s *suite) bool { return s.test.ok && s.results.incomplete() == "" }):
		return "test run failed"
	case !t.all(func(s *suite) bool { return s.vet.ok || !s.vet.ran }):
		return "go vet has remarks"
	}
	return fmt.Sprintf("%d of %d tests passed", passed, total) + besides(skipped, waived, t.flaky())
}

// besides says what else there is to know of tests of which none failed.
func besides(skipped, waived, flaky int) (text string) {
	for _, part := range []struct {
		n    int
		what string
	}{{skipped, "skipped"}, {waived, "in quarantine"}, {flaky, "flaky"}} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	return text
}

func (t *trial) all(holds func(*suite) bool) bool {
	return !slices.ContainsFunc(t.suites, func(s *suite) bool { return !holds(s) })
}

// count returns how many tests there are and how many of them have the outcome.
func (t *trial) count(o state.Outcome) (n, total int) {
	for _, s := range t.suites {
		ofSuite, all := s.results.count(o)
		n, total = n+ofSuite, total+all
	}
	return n, total
}

// flaky returns how many tests passed after they had failed.
func (t *trial) flaky() (n int) {
	for _, s := range t.suites {
		for _, test := range s.results.tests {
			if test.flaky {
				n++
			}
		}
	}
	return n
}

// checks returns the tests of all suites by name.
func (t *trial) checks() []state.Check {
	var checks []state.Check
	seen := map[string]bool{}
	for _, s := range t.suites {
		for _, c := range s.results.checks() {
			if seen[c.Name] { // two suites test one file
				c.Name += " (" + s.name + ")"
			}
			seen[c.Name] = true
			checks = append(checks, c)
		}
	}
	return checks
}

// toolchains names the toolchains for the claim, each once.
func (t *trial) toolchains() string {
	var names []string
	for _, s := range t.suites {
		names = append(names, s.tool.String())
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// Facts of the evidence by which a run is repeated and shards are merged.
const (
	// FactRetries is how often what failed ran again at most.
	FactRetries = "test.retries"
	// FactFlaky is how many tests passed by that; absent for none.
	FactFlaky = "test.flaky"
)

func (t *trial) facts() map[string]string {
	facts := t.room.facts()
	for _, s := range t.suites {
		s.facts(facts)
	}
	if t.services != nil {
		maps.Copy(facts, t.services.Facts())
	}
	facts["test.seed"] = shuffle(t.seed)
	facts[FactRetries] = strconv.Itoa(t.step.Tests.Retries)
	if n := t.flaky(); n > 0 {
		facts[FactFlaky] = strconv.Itoa(n)
	}
	t.packageFacts(facts)
	for i, text := range t.requests[:min(len(t.requests), maxRequests)] {
		facts[fmt.Sprintf("prepare.request.%03d", i+1)] = text
	}
	n := 0
	for _, s := range t.suites {
		for _, id := range s.results.ids() {
			if n++; n > maxDurations {
				return facts
			}
			facts["test."+s.results.name(id)+".seconds"] = seconds(s.results.tests[id].seconds)
		}
	}
	return facts
}

// facts adds what is known of the suite. With several suites each has its name
// before its own.
func (s *suite) facts(facts map[string]string) {
	for name, st := range map[string]*stage{"build": &s.build, "vet": &s.vet, "test": &s.test} {
		if !st.ran {
			continue
		}
		name = s.prefix + name
		facts[name+".seconds"] = seconds(st.status.Wall.Seconds())
		facts[name+".cpu-seconds"] = seconds(st.status.CPU.Seconds())
		facts[name+".status"] = st.status.String()
		if st.status.PeakMemory > 0 {
			facts[name+".peak-memory-bytes"] = strconv.FormatInt(st.status.PeakMemory, 10)
		}
	}
	facts["tool."+string(s.kind())] = s.tool.Version
	facts[s.prefix+"toolchain.digest"] = string(s.tool.Digest)
	if s.library != "" {
		facts["cache.std"] = temperature(s.warm)
	}
	if s.deps != nil {
		facts[s.prefix+"dependencies.key"] = string(s.deps.key)
		facts[s.prefix+"dependencies.cache"] = temperature(s.deps.warm)
	}
}

func temperature(warm bool) string {
	if warm {
		return "warm"
	}
	return "cold"
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

// logBuffer keeps the first bytes of a log, [maxLog] or most if that is set. It may be
// used by several goroutines.
type logBuffer struct {
	most int
	mu   sync.Mutex
	kept bytes.Buffer
	left int64
}

func (l *logBuffer) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := maxLog
	if l.most > 0 {
		most = l.most
	}
	room := most - l.kept.Len()
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
