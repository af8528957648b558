package door

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/keeper"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Test are the verbs for tests.
type Test struct {
	Run     TestRun     `cmd:"" help:"Run the tests of a directory, in an environment that exists or one of their own."`
	Results TestResults `cmd:"" help:"Show the results of the last tests."`
}

// TestRun runs tests and nothing else: it makes no image.
type TestRun struct {
	Selector
	TestOptions
	Parallel     *bool  `negatable:"" help:"Run several test processes at a time. Default: as the project says, else yes."`
	Source       string `type:"path" placeholder:"DIR" help:"Directory with the tests. Default: the project."`
	MinIsolation string `enum:",full,reduced,none" default:"" placeholder:"LEVEL" help:"Weakest isolation that is accepted: full, reduced or none. Default: as the project says, else full."`
	Debug        bool   `help:"Log all that is done to standard error."`
	Profile      bool   `help:"Write a processor profile of this program to cpu.pprof beside the results."`
}

// Help shows how it is called.
func (*TestRun) Help() string {
	return `Tests run in the environment that is named, or the only one that exists, and reach the
containers there; without one they get an environment of their own, which is removed.
Results and metrics are kept in .cleanroom, whatever the outcome.

Examples:
  ultrafast-cleanroom-test test run
  ultrafast-cleanroom-test test run --file tests/till_test.py --environment test-env
  ultrafast-cleanroom-test test run --files "tests/**/*_test.sh" --max-parallel 4 --test-timeout 30s`
}

// allFiles selects every test, and thereby says that no image is wanted.
const allFiles = "**"

// Run runs them.
func (t *TestRun) Run(ctx context.Context, a *app.App) (err error) {
	if t.Debug {
		a.Log = slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	step, err := NewStep(ctx, a, r.project, Options{MinIsolation: t.MinIsolation})
	if err != nil {
		return err
	}
	if t.Parallel != nil && !*t.Parallel {
		t.MaxParallel = new(1)
	}
	if err := t.TestOptions.apply(a, r.project, &step.Tests); err != nil {
		return err
	}
	step.Tests.ResultsDir = cmp.Or(step.Tests.ResultsDir, r.resultsDir())
	if len(step.Tests.Files) == 0 {
		step.Tests.Files = []string{allFiles}
	}
	step.Source = &cleanroom.Source{Dir: cmp.Or(a.Abs(t.Source), r.project.Dir)}
	e, err := r.find(ctx, t.Environment)
	if err != nil {
		return err
	}
	if e != nil {
		step.Backend, step.Policy = r.keeper.In(e.Name()), nil
	}
	if t.Profile {
		stop, err := profile(filepath.Join(step.Tests.ResultsDir, cleanroom.FileProfile))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	a.NoCache = true // whoever asks for tests wants them to run
	chain, err := a.OpenChain(ctx, r.project.Dir)
	if err != nil {
		return err
	}
	if len(chain.State) > 0 {
		return fault.New(fault.Usage, "use `run`, which tests the generated tree of a state", "`test run` tests a directory and takes no --state")
	}
	start := a.Now()
	err = a.RunSteps(ctx, chain, app.Run{Verdict: "tested", Failed: "cleanroom-test: tests failed"}, step)
	r.keepTestMetrics(ctx, e, step.Tests.ResultsDir, start)
	return err
}

// profile writes a processor profile of this program until the function that it
// returns is called.
func profile(path string) (stop func() error, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "write a profile")
	}
	f, err := os.Create(path)
	if err == nil {
		if err = pprof.StartCPUProfile(f); err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "write a profile")
	}
	return func() error {
		pprof.StopCPUProfile()
		return fault.Wrap(f.Close(), fault.Unavailable, "", "write a profile")
	}, nil
}

// keepTestMetrics keeps what a test run used, if the project wants that: its results,
// and the containers of the environment it ran in, if that was there before.
func (r *rooms) keepTestMetrics(ctx context.Context, e *keeper.Environment, results string, start time.Time) {
	if !r.project.Metrics.Enabled || !r.project.Testing.CollectMetrics {
		return
	}
	if err := r.writeTestMetrics(ctx, e, results, start); err != nil {
		r.app.Log.WarnContext(ctx, "metrics", "error", err)
	}
}

func (r *rooms) writeTestMetrics(ctx context.Context, e *keeper.Environment, results string, start time.Time) error {
	f, err := os.Open(filepath.Join(results, cleanroom.FileResults))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing ran
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.ModTime().Before(start.Add(-2*time.Second)) {
		return err // they are of an earlier run: the clocks of file systems are coarse
	}
	m := cleanroom.NewMetrics("run-"+uuid(), start)
	if e != nil {
		// Even after an interruption, which is when somebody wants to know.
		if m, err = r.measure(context.WithoutCancel(ctx), e); err != nil {
			return err
		}
		m.Tests, m.TestsExecuted, m.TestsPassed, m.TestsFailed, m.Performance = nil, 0, 0, 0, cleanroom.Performance{}
	}
	if err := m.AddResults(f, e == nil); err != nil {
		return err
	}
	m.Finish(r.app.Now())
	return writeMetrics(r.metricsFile(), m)
}

// TestResults shows results.
type TestResults struct {
	Format string `enum:",text,json,junit" default:"" placeholder:"FORMAT" help:"Form of the results: text, json or junit. Default: as --output."`
	File   string `type:"path" placeholder:"FILE" help:"Write them to FILE."`
}

// Help shows how it is called.
func (*TestResults) Help() string {
	return `They are read from the results directory of the project, .cleanroom/test-results unless
it says otherwise.

Examples:
  ultrafast-cleanroom-test test results
  ultrafast-cleanroom-test test results --format junit --file results.xml`
}

// resultFiles are the files of the results directory, by format.
var resultFiles = map[string]string{"text": cleanroom.FileText, "json": cleanroom.FileResults, "junit": cleanroom.FileJUnit}

// Run copies them.
func (t *TestResults) Run(_ context.Context, a *app.App) error {
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	format := t.Format
	if format == "" {
		format = "text"
		if a.Output == "json" {
			format = "json"
		}
	}
	path := filepath.Join(r.resultsDir(), resultFiles[format])
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Finding, "run tests first", "no test results are in %s", r.resultsDir())
	}
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "read test results")
	}
	defer f.Close()
	if t.File == "" {
		_, err = io.Copy(a.Stdout, f)
		return fault.Wrap(err, fault.Unavailable, "", "print test results")
	}
	return writeFile(a.Abs(t.File), "test results", f)
}

// resultsDir is where test results are kept (K-39).
func (r *rooms) resultsDir() string {
	dir := cmp.Or(r.project.Testing.ResultsDir, filepath.Join(".cleanroom", "test-results"))
	if filepath.IsAbs(dir) {
		return dir
	}
	return filepath.Join(r.project.Dir, dir)
}

// writeFile writes a file whole or not at all, and the directories above it.
func writeFile(path, what string, from io.Reader) error {
	doing, hint := "write "+what, "name a file that can be written, on a disk with space"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fault.Wrap(err, fault.Unavailable, hint, doing)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, hint, doing)
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return fault.Wrap(err, fault.Unavailable, hint, doing)
}
