package cleanroom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Tests says how tests run. The zero value runs all of them, once.
type Tests struct {
	// Parallel bounds the test processes that run at a time; zero means
	// [DefaultParallel]. A process that tests everything, as the go command does,
	// counts as one and bounds its own.
	Parallel int
	// Timeout bounds one test process with all that it started; zero means
	// [DefaultTestTimeout], for the go command what is left of Limits.Wall.
	Timeout time.Duration
	// Retries is how often what failed runs again. What passes then is flaky: that is
	// recorded, and reported as a finding that does not gate.
	Retries int
	// FailFast ends the run at the first failure.
	FailFast bool
	// Files are patterns, as in [Suite]: only these tests run, of Go the packages that
	// hold them, and no image is made.
	Files []string
	// Quarantine are tests that may fail until a date.
	Quarantine []Quarantined
	// Durations are seconds that a unit took before, by its name in results; shards
	// are cut by them. See [Step.Shard].
	Durations map[string]float64
	// ResultsDir, if set, is a directory of the host for results.json, junit.xml,
	// results.txt, durations.json and logs/, whatever the outcome.
	ResultsDir string
	// ResultsOptional makes a directory that cannot be written a warning. NoLogs leaves
	// the logs out.
	ResultsOptional, NoLogs bool
}

const (
	// DefaultParallel is the default of [Tests.Parallel].
	DefaultParallel = 8
	// DefaultTestTimeout is the default of [Tests.Timeout].
	DefaultTestTimeout = time.Minute
	maxParallel        = 1024
	maxRetries         = 100
)

func (t Tests) selects() bool { return len(t.Files) > 0 }

func (t Tests) check() error {
	switch {
	case t.Parallel < 0 || t.Parallel > maxParallel:
		return fault.New(fault.Usage, fmt.Sprintf("choose 1 to %d", maxParallel), "%d tests at a time", t.Parallel)
	case t.Retries < 0 || t.Retries > maxRetries:
		return fault.New(fault.Usage, fmt.Sprintf("choose 0 to %d", maxRetries), "%d retries", t.Retries)
	case t.Timeout < 0:
		return fault.New(fault.Usage, "leave it out for the default", "test timeout %s", t.Timeout)
	}
	for _, pattern := range t.Files {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fault.New(fault.Usage, `write a file, or a pattern such as "tests/**/*_test.sh"`, "test files %q: not a pattern", pattern)
		}
	}
	for _, q := range t.Quarantine {
		if err := q.check(); err != nil {
			return err
		}
	}
	return nil
}

// task is a test process that is to run, perhaps more than once.
type task struct {
	suite *suite
	units []string
	// number is unique in the run and names the container.
	number int
}

// String names the task in the order that is logged.
func (k task) String() string {
	if k.suite.runner.whole() {
		return k.suite.name
	}
	return k.suite.results.label(k.units[0])
}

// errFailFast is why tests end when another has failed.
var errFailFast = errors.New("another test failed, and the run ends at the first failure")

// runTests runs the tests of all suites, some at a time, in an order that the seed
// decides. What one process does is never lost because of another: an error is
// returned when all have ended.
func (t *trial) runTests(ctx context.Context) error {
	tasks, err := t.tasks(ctx)
	if err != nil {
		return err
	}
	for _, s := range t.suites {
		s.test.ran = true
	}
	// PCG is the same everywhere and in every version of Go (math/rand/v2).
	rand.New(rand.NewPCG(t.seed, 0)).Shuffle(len(tasks), func(i, j int) { tasks[i], tasks[j] = tasks[j], tasks[i] })
	for _, k := range tasks {
		t.order = append(t.order, k.String())
	}
	t.sayTests(tasks)
	if len(tasks) > 1 {
		t.log.add(fmt.Sprintf("# seed %d, order: %s\n\n", t.seed, strings.Join(t.order, " ")))
	}
	t.expectTests(tasks)
	err = t.pool(ctx, tasks)
	for _, s := range t.suites {
		s.judge()
	}
	return err
}

// sayTests tells what is tested, and in what order.
func (t *trial) sayTests(tasks []task) {
	for _, s := range t.suites {
		n := 0
		for _, k := range tasks {
			if k.suite == s {
				n++
			}
		}
		switch {
		case n == 0:
		case s.runner.whole():
			t.step.progress("test " + s.results.module)
		default:
			t.step.progress(testsOf(s.name, n, min(n, t.parallel()), t.seed))
		}
	}
}

func testsOf(suite string, files, parallel int, seed uint64) string {
	if files == 1 {
		return "test " + suite + ": 1 file"
	}
	return fmt.Sprintf("test %s: %d files, %d at a time, in the order of seed %d", suite, files, parallel, seed)
}

// pool runs the tasks, so many at a time, and joins their errors.
func (t *trial) pool(ctx context.Context, tasks []task) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	queue := make(chan int)
	var workers sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	done := map[int]bool{} // by index
	for range min(t.parallel(), len(tasks)) {
		workers.Go(func() {
			for i := range queue {
				failed, err := t.carry(ctx, tasks[i])
				mu.Lock()
				done[i] = err == nil
				if err != nil && !errors.Is(context.Cause(ctx), errFailFast) {
					errs = append(errs, err)
				}
				mu.Unlock()
				if failed && t.step.Tests.FailFast {
					stop(errFailFast)
				}
			}
		})
	}
	for i := range tasks {
		select {
		case queue <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(queue)
	workers.Wait()
	for i, k := range tasks {
		if !done[i] {
			t.notRun = append(t.notRun, k.String())
		}
	}
	slices.Sort(t.notRun)
	if err := context.Cause(ctx); err != nil && !errors.Is(err, errFailFast) {
		return err
	}
	const named = 5 // a back end that is gone says the same for each
	return errors.Join(errs[:min(len(errs), named)]...)
}

func (t *trial) parallel() int {
	if t.step.Tests.Parallel > 0 {
		return t.step.Tests.Parallel
	}
	return DefaultParallel
}

// carry runs a task, and what failed of it again as often as is allowed.
func (t *trial) carry(ctx context.Context, k task) (failed bool, err error) {
	got, err := t.attempt(ctx, k, 0, nil)
	if err != nil {
		k.suite.results.merge(got.ended())
		return false, err
	}
	for n := 1; n <= t.step.Tests.Retries && got.gates(); n++ {
		units, tests := got.again(k)
		if len(units) == 0 {
			break
		}
		again, err := t.attempt(ctx, task{suite: k.suite, units: units, number: k.number}, n, tests)
		if err != nil {
			return false, err
		}
		got.absorb(again)
	}
	t.waive(got)
	failed = got.gates()
	k.suite.results.merge(got)
	return failed, nil
}

// ended returns what of the results is sure where a process was ended with the run: the
// tests and units that had ended by themselves.
func (r *results) ended() *results {
	r.mu.Lock()
	defer r.mu.Unlock()
	sure := newResults(r.kind, r.module, nil)
	for id, test := range r.tests {
		if test.outcome != "" {
			copied := *test
			sure.tests[id] = &copied
		}
	}
	for name, u := range r.units {
		if u.outcome != "" {
			copied := *u
			sure.units[name] = &copied
		}
	}
	return sure
}

// gates reports that something failed.
func (r *results) gates() bool { return len(r.failed()) > 0 || len(r.broken()) > 0 }

// again returns what of the task is worth another run: the units with something that
// failed, and the tests, or none where a unit failed as a whole.
func (r *results) again(k task) (units []string, tests []testID) {
	bad := map[string]bool{}
	for _, id := range r.failed() {
		bad[id.unit] = true
	}
	tests = r.failed()
	if slices.ContainsFunc(tests, func(id testID) bool { u := r.units[id.unit]; return u == nil || u.cut() }) {
		tests = nil // those after it have not run
	}
	for _, name := range r.broken() {
		if r.units[name].failedBuild != "" {
			continue // it would not compile the next time either
		}
		bad[name], tests = true, nil
	}
	if !k.suite.runner.whole() && len(bad) > 0 {
		return k.units, tests
	}
	for name := range bad {
		units = append(units, name)
	}
	slices.Sort(units)
	return units, tests
}

// attempt runs one process and returns what it said.
func (t *trial) attempt(ctx context.Context, k task, number int, retry []testID) (*results, error) {
	s := k.suite
	got := newResults(s.kind(), s.results.module, s.results.log)
	name := s.container("test")
	if !s.runner.whole() {
		name = fmt.Sprintf("%s-%d", name, k.number)
	}
	if number > 0 {
		name = fmt.Sprintf("%s-again-%d", name, number)
	}
	j := s.runner.job(t, s, got, name, k.units, retry)
	env, done, err := t.environment(ctx, s, &j.command)
	if err != nil {
		return got, err
	}
	j.command.env, j.command.secrets = append(j.command.env, env...), append(j.command.secrets, secretsOf(env)...)
	if s.runner.whole() {
		return got, errors.Join(t.runWhole(ctx, s, got, j), done())
	}
	return got, errors.Join(t.runOne(ctx, k, got, j), done())
}

// runWhole runs the process that tests all units of a suite.
func (t *trial) runWhole(ctx context.Context, s *suite, got *results, j job) error {
	var st stage
	j.command.stdout = j.read
	if err := t.stage(ctx, &st, j.command); err != nil {
		return err
	}
	j.read.end(st.status)
	if !s.test.ok && s.test.command == "" { // the first attempt is the suite's
		st.ran = true
		s.test = st
	}
	return nil
}

// runOne runs the process that tests one unit, with a log of its own.
func (t *trial) runOne(ctx context.Context, k task, got *results, j job) error {
	log := &unitLog{logBuffer: logBuffer{most: maxUnitLog}}
	out := &textWriter{log: &log.logBuffer, tail: &log.ends, within: t.room.within(j.command.name)}
	got.log = func(text string) { _, _ = io.WriteString(out, text) } // never fails
	j.command.stderr, j.command.stdout = out, io.Writer(out)
	if j.read != nil {
		j.command.stdout = j.read
	}
	if j.command.wall = t.step.Tests.Timeout; j.command.wall == 0 {
		j.command.wall = DefaultTestTimeout
	}
	status, err := t.room.run(ctx, j.command)
	if err != nil {
		return err
	}
	if j.read != nil {
		j.read.end(status)
	}
	unit := k.units[0]
	t.step.Log.DebugContext(ctx, "test process ended", "unit", unit, "command", commandLine(j.command), "status", status.String(), "wall", status.Wall)
	if j.read == nil {
		got.endTest(testID{unit: unit}, verdictOf(status), status.Wall.Seconds(), log.ends.String())
	}
	if test := got.tests[testID{unit: unit}]; test != nil && test.end() == state.Failed {
		test.output = log.ends // the file itself failed: all that it printed says why
	}
	got.endUnit(unit, status, &log.ends, "")
	t.keepLog(k, got.units[unit], j.command, status, log)
	return nil
}

// verdictOf is the outcome of a test that is a process.
func verdictOf(status exitStatus) state.Outcome {
	if status.OK() {
		return state.Passed
	}
	return state.Failed
}

// keepLog writes the log of a unit beside those of the others and to the run's.
func (t *trial) keepLog(k task, u *unitResult, c command, status exitStatus, log *unitLog) {
	text := fmt.Sprintf("$ %s\n%s# %s in %s\n\n", commandLine(c), log.text(), status, status.Wall.Round(time.Millisecond))
	t.log.add(text)
	if u != nil {
		u.log = t.writeLog(logName(k.suite, k.units[0], k.number), text)
	}
}

// writeLog keeps a log, after what an earlier attempt has written, and returns its path
// below the directory of the results; empty if it is lost.
func (t *trial) writeLog(name, text string) string {
	if t.logs == nil {
		return ""
	}
	f, err := t.logs.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.step.Log.Warn("the log of a test is lost", "log", name, "error", err)
		return ""
	}
	return DirLogs + "/" + name
}

// logName returns a file name for the log of a unit: readable, and with the number of
// its task, since two units may read alike.
func logName(s *suite, unit string, number int) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '-'
	}, unit)
	const most = 100
	name := s.name + "-" + strings.Trim(safe[max(0, len(safe)-most):], "-.")
	if number > 0 {
		name += "-" + strconv.Itoa(number)
	}
	return name + ".log"
}

// judge says how the tests of the suite went, when all have ended.
func (s *suite) judge() {
	excused, peak, cpu, wall := false, int64(0), time.Duration(0), time.Duration(0)
	for _, test := range s.results.tests {
		excused = excused || test.waived != nil || test.flaky
	}
	for _, u := range s.results.units {
		excused = excused || u.flaky
		if u.status != nil {
			cpu, peak, wall = cpu+u.status.CPU, max(peak, u.status.PeakMemory), wall+u.status.Wall
		}
	}
	if !s.runner.whole() {
		s.test.status = exitStatus{CPU: cpu, PeakMemory: peak, Wall: wall}
		s.test.command = string(s.kind()) + " tests"
		if s.results.gates() {
			s.test.status.Code = 1
		}
	}
	st := s.test.status
	limit := st.OOM || st.TimedOut || st.OutputLimit || st.Signal != ""
	s.test.ok = !s.results.gates() && (st.OK() || excused && !limit)
}

// merge takes the results of one task.
func (r *results) merge(got *results) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, u := range got.units {
		if _, ok := r.units[name]; !ok && len(r.units) >= maxUnits {
			r.dropped++
			continue
		}
		r.units[name] = u
	}
	for id, test := range got.tests {
		if _, ok := r.tests[id]; !ok && len(r.tests) >= maxTests {
			r.dropped++
			continue
		}
		r.tests[id] = test
	}
	for name, b := range got.builds {
		r.builds[name] = b
	}
	r.strange, r.dropped = r.strange+got.strange, r.dropped+got.dropped
}

// maxUnitLog bounds the log of one unit in bytes.
const maxUnitLog = 256 << 10

// unitLog keeps what a unit's process printed: the first bytes whole, and the ends.
type unitLog struct {
	logBuffer
	ends tail
}

func (l *unitLog) text() string {
	text := string(l.bytes())
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}
