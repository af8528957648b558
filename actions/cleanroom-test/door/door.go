// Package door is the command line of the cleanroom-test phase and the wiring behind it.
package door

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/auto"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/toolchain"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	sidecar "github.com/ultrafast-ci/ultrafast/steps/cleanroom/service"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// CLI is the command line of the binary.
type CLI struct {
	app.Globals
	Commands
}

// Commands are the verbs of the phase.
type Commands struct {
	Run         Run         `cmd:"" help:"Build, test and package the generated tree."`
	Exec        Exec        `cmd:"" help:"Run one command in the clean room."`
	Merge       Merge       `cmd:"" help:"Make one result of the shards of a test run."`
	Environment Environment `cmd:"" help:"Environments that outlive a command."`
	Container   Container   `cmd:"" help:"Containers of an environment."`
	Test        Test        `cmd:"" help:"Results of tests."`
	Metrics     Metrics     `cmd:"" help:"What was measured."`
	GC          GC          `cmd:"" name:"gc" help:"Remove what killed runs left behind."`
}

// New returns the door.
func New() app.Door {
	return app.Door{
		Name:        "ultrafast-cleanroom-test",
		Description: "Build a source tree, run its tests and package what was tested, in a sandbox without a network.",
		CLI:         &CLI{},
		KeepRoot:    true,
	}
}

// Options are what a caller may say besides the project file.
type Options struct {
	MinIsolation string         `enum:",full,reduced,none" default:"" placeholder:"LEVEL" help:"Weakest isolation that is accepted: full, reduced or none. The strongest that the machine allows is used. Default: as the project says, else full."`
	Memory       *int           `placeholder:"MB" help:"Memory limit of one command."`
	CPUs         *float64       `name:"cpus" placeholder:"N" help:"Processor limit of one command."`
	PIDs         *int           `name:"pids" placeholder:"N" help:"Limit of processes and threads."`
	Timeout      *time.Duration `placeholder:"DURATION" help:"Time limit of one command."`
}

// level returns the isolation level that options and project ask for.
func (o Options) level(project *config.Project) (sandbox.Level, error) {
	name := o.MinIsolation
	if name == "" {
		name = project.Cleanroom.MinIsolation
	}
	level, err := sandbox.ParseLevel(name)
	if err != nil {
		return 0, fault.Wrap(err, fault.Usage, "", "minimum isolation")
	}
	return level, nil
}

// check refuses what is out of range, with the ranges of the project file.
func (o Options) check() error {
	for _, flag := range []struct {
		name        string
		value       *float64 // nil for a flag that was not given
		least, most float64
		unit        string
	}{
		{"--memory", number(o.Memory), 16, 1 << 22, "MB"},
		{"--cpus", o.CPUs, 0.01, 4096, "processors"},
		{"--pids", number(o.PIDs), 1, 1 << 22, "processes"},
		{"--timeout", inSeconds(o.Timeout), 0.001, (24 * time.Hour).Seconds(), "seconds"},
	} {
		if v := flag.value; v != nil && !(*v >= flag.least && *v <= flag.most) {
			return fault.New(fault.Usage, "leave it out for the limit of the project", "%s %s: it may be %g to %.0f %s",
				flag.name, strconv.FormatFloat(*flag.value, 'f', -1, 64), flag.least, flag.most, flag.unit)
		}
	}
	return nil
}

// number returns what a flag says, if it was given.
func number(flag *int) *float64 {
	if flag == nil {
		return nil
	}
	return new(float64(*flag))
}

func inSeconds(flag *time.Duration) *float64 {
	if flag == nil {
		return nil
	}
	return new(flag.Seconds())
}

func (o Options) limits(project *config.Project) sandbox.Limits {
	c := project.Cleanroom
	limits := sandbox.Limits{
		Memory: int64(c.MemoryMB) << 20, CPUs: c.CPUs, PIDs: c.PIDs,
		Disk: int64(c.DiskMB) << 20, Wall: time.Duration(c.TimeoutSeconds) * time.Second,
	}
	return o.over(limits)
}

// Run is the phase.
type Run struct {
	Options
	TestOptions
	Source string `type:"path" placeholder:"DIR" help:"Build and test this directory, and start a chain with it. Default: the generated tree of --state."`
	Shard  string `placeholder:"I/N" help:"Run part I of N of the tests, from 1. Merge the states of all parts with merge. Default: all tests."`
}

// Help shows how it is called.
func (*Run) Help() string {
	return `Tests are found by the files of the tree: go, rs, ts, js, py, bats and sh. What else
is tested, and how, says [[cleanroom.suite]] in ggen.toml.

The image holds the compiled program alone, or the tested tree below /app, and is the
same for the same inputs. [cleanroom.package] in ggen.toml puts it on a base image and
says how it starts; dockerfile = "Dockerfile" has docker or buildah build it instead,
twice, outside of the clean room, and the evidence says whether both were the same.
Its list of contents (SPDX) and its provenance (SLSA) are referrers of the image.

Examples:
  ultrafast-cleanroom-test run --state "$STATE"
  ultrafast-cleanroom-test run --source .
  ultrafast-cleanroom-test run --source . --file tests/test_till.py --retries 2
  ultrafast-cleanroom-test run --source . --files "tests/**/*_test.sh" --fail-fast
  ultrafast-cleanroom-test run --state "$STATE" --min-isolation reduced
  ultrafast-cleanroom-test run --state "$STATE" --shard 1/3 --durations durations.json`
}

// Run builds, tests and packages.
func (r *Run) Run(ctx context.Context, a *app.App) error {
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	chain, err := a.OpenChain(ctx, project.Dir)
	if err != nil {
		return err
	}
	step, err := NewStep(ctx, a, project, r.Options)
	if err != nil {
		return err
	}
	if step.Shard, err = parseShard(r.Shard); err != nil {
		return err
	}
	if err := r.TestOptions.apply(a, project, &step.Tests); err != nil {
		return err
	}
	if r.Source != "" {
		if len(chain.State) > 0 {
			return fault.New(fault.Usage, "leave one of the two out", "both --source and --state say what is built")
		}
		step.Source = &cleanroom.Source{Dir: a.Abs(r.Source)}
	}
	verdict := "built, tested and packaged"
	if len(step.Tests.Files) > 0 {
		verdict = "built and tested in part: no image is made of that"
	}
	start := a.Now()
	err = a.RunSteps(ctx, chain, app.Run{Verdict: verdict, Failed: "cleanroom-test: no image was made"}, step)
	rooms, rerr := newRooms(a, project)
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	rooms.keepTestMetrics(ctx, nil, step.Tests.ResultsDir, start)
	return err
}

// NewStep returns the phase as project and options ask for it.
func NewStep(ctx context.Context, a *app.App, project *config.Project, o Options) (*cleanroom.Step, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	level, err := o.level(project)
	if err != nil {
		return nil, err
	}
	policy := policyOf(project)
	if err := policy.Check(cleanroom.Demand{Limits: o.limits(project)}); err != nil {
		return nil, err
	}
	cache, err := a.CacheDir()
	if err != nil {
		return nil, err
	}
	images := Images(a, project, cache, "")
	beside, err := sidecars(ctx, a, project, images)
	if err != nil {
		return nil, err
	}
	tests, err := suites(ctx, project, images)
	if err != nil {
		return nil, err
	}
	back, err := Backend(a, project, cache)
	if err != nil {
		return nil, err
	}
	step := &cleanroom.Step{
		Backend: back, MinIsolation: level, Limits: o.limits(project), Policy: &policy,
		Toolchain: findToolchain(cache), Fingerprint: func(context.Context) (string, error) { return toolchain.Fingerprint(), nil },
		Imager: oci.Client{}, Suites: tests, Network: cleanroom.Network(project.Cleanroom.Network), Prepare: prepare(a, project, cache),
		Package: imageOf(project), Bases: Images(a, project, cache, project.Deploy.Environment), Builder: builderOf(project),
		Services: beside, Templates: sidecar.Templates{Dir: filepath.Join(cache, "services")},
		Log: a.Log, Progress: a.ProgressOf(phase.Cleanroom),
	}
	return step, TestOptions{}.apply(a, project, &step.Tests)
}

// Backend returns the clean room that the project asks for; nil asks for that of this
// machine.
func Backend(a *app.App, project *config.Project, cache string) (sandbox.Backend, error) {
	c := choose(project, cache)
	if c.Type == auto.Name || c.Type == embedded.Name {
		if err := writable(c.StateDir); err != nil {
			// An engine would be tried in its place, whose refusal says nothing of this.
			return nil, fault.Wrap(err, fault.Unavailable, "set XDG_CACHE_HOME to a directory that can be written", "keep a record of environments")
		}
	}
	return c.open(a.Log)
}

// writable makes a directory in which others can be made.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	trace, err := os.MkdirTemp(dir, ".writable-")
	if err != nil {
		return err
	}
	return os.Remove(trace)
}

// Images returns the images that containers of the project may name. Environment is
// what the run is for, such as "production".
func Images(a *app.App, project *config.Project, cache, environment string) *rootfs.Images {
	c := project.Containers
	return rootfs.New(rootfs.Options{
		Dir: filepath.Join(cache, "images"), Project: project.Dir, LockFile: filepath.Join(project.Dir, rootfs.LockName),
		Registry: c.Registry, AlwaysPull: c.AlwaysPullLatest, PullTimeout: time.Duration(c.PullTimeoutSeconds) * time.Second,
		Environment: environment, Log: a.Log,
	})
}

// findToolchain returns what finds the host's installations.
func findToolchain(cache string) func(context.Context, cleanroom.Kind) (cleanroom.Toolchain, error) {
	return func(ctx context.Context, kind cleanroom.Kind) (cleanroom.Toolchain, error) {
		if kind != cleanroom.Go {
			t, err := toolchain.FindLanguage(ctx, string(kind))
			return cleanroom.Toolchain{Root: t.Root, Program: t.Program, Version: t.Version, OS: t.OS, Arch: t.Arch, Target: t.Target, Digest: t.Digest}, err
		}
		t, err := toolchain.Find(ctx)
		if err != nil {
			return cleanroom.Toolchain{}, err
		}
		return cleanroom.Toolchain{
			Root: t.Root, Program: t.Go(t.Root), Version: t.Version, OS: t.OS, Arch: t.Arch, Digest: t.Digest,
			Library: func(ctx context.Context, env, flags []string) (string, bool, error) {
				return t.Library(ctx, filepath.Join(cache, "go"), env, flags)
			},
		}, nil
	}
}

// GC removes environments whose runs are gone.
type GC struct {
	OlderThan *time.Duration `placeholder:"DURATION" help:"Also remove environments, persistent ones too, that nobody has used for so long."`
}

// Help shows how it is called.
func (*GC) Help() string {
	return `Environments of runs that were killed are found by their journals: no state and no
project is needed. Those of runs that go on are left alone. Every run does the same
before it begins. Images that were not used for longest go too, while those that are
cached have more than 20 GiB.

Examples:
  ultrafast-cleanroom-test gc
  ultrafast-cleanroom-test gc --older-than 24h`
}

// Run removes them and names them.
func (g *GC) Run(ctx context.Context, a *app.App) error {
	if g.OlderThan != nil && *g.OlderThan < 0 {
		return fault.New(fault.Usage, "", "--older-than %s is in the future", *g.OlderThan)
	}
	r, err := newRooms(a, nil)
	if err != nil {
		return err
	}
	removed, err := r.collect(ctx)
	if g.OlderThan != nil {
		unused, uerr := r.keeper.GCUnused(ctx, *g.OlderThan)
		removed, err = append(removed, unused...), errors.Join(err, uerr)
	}
	if err == nil && len(removed) == 0 && a.Output != "json" {
		return a.Table([]any{"nothing was left behind"})
	}
	return errors.Join(err, showRemoved(a, removed))
}

// Exec runs a command.
type Exec struct {
	Options
	Environment string   `placeholder:"NAME" help:"Environment in which it runs, beside what runs there. Default: one of its own."`
	Image       string   `placeholder:"IMAGE" help:"Image whose files the command sees, in place of this machine's: name:tag, name@sha256:…, layout:DIR or tarball:FILE. Container engines need one. Its digest is kept in .cleanroom/images.lock."`
	Sandbox     bool     `help:"Run code that nobody trusts: 256 MB, 1 processor, 100 MB of disk, 30 s, unless flags say otherwise; isolation full."`
	Code        string   `placeholder:"CODE" help:"With --sandbox: what bash -c runs, in place of a command."`
	Argv        []string `arg:"" optional:"" passthrough:"partial" name:"command" help:"Command and arguments, after --."`
}

// Help shows how it is called.
func (*Exec) Help() string {
	return `The exit code is the command's own; 125 to 127 are the clean room's, as docker
run has them: 127 if the command is not found, 126 if it cannot be run, 125 if the
clean room failed or ended the command at a limit. 2 is a mistake of the call.

With --image a command stands for the image's entrypoint and command; without one those
run. User, working directory and variables are the image's; root becomes nobody.

The command sees /usr of this machine, or the image, and no other file: not the
project either, but for what it reads from its input. What its tests need comes with
test run.

Examples:
  ultrafast-cleanroom-test exec -- cat /proc/self/status
  ultrafast-cleanroom-test exec --memory 256 --timeout 30s -- python3 -c 'print(6 * 7)'
  ultrafast-cleanroom-test exec -- sh -s <script.sh
  ultrafast-cleanroom-test exec --image debian:12 -- cat /etc/os-release
  ultrafast-cleanroom-test exec --sandbox --code 'echo hello'
  ultrafast-cleanroom-test exec --environment test-env -- redis-cli -h cache ping`
}

// Run runs the command in an environment of its own.
func (e *Exec) Run(ctx context.Context, a *app.App) error {
	if err := e.check(); err != nil {
		return err
	}
	argv, err := e.command()
	if err != nil {
		return err
	}
	project, err := a.LoadProject()
	if err != nil {
		return err
	}
	code := exitOurs
	job, err := e.job(ctx, a, project)
	switch {
	case err == nil:
		job.argv = argv
		code, err = job.run(ctx, a)
	case fault.KindOf(err) != fault.Unavailable:
		return err // a mistake of the call
	}
	if err != nil && ctx.Err() != nil {
		return err // interrupted, which is not the clean room's failure
	}
	if err != nil {
		a.Terminal.Failure(a.Tool+": "+err.Error(), a.Hint(err))
	}
	if code != 0 {
		return app.ExitError{Code: code}
	}
	return nil
}

// Exit codes of the clean room, as docker run has them.
const (
	exitOurs      = 125 // the clean room failed, or ended the command
	exitCannotRun = 126
	exitNotFound  = 127
	exitPipe      = 141 // the reader of the output has gone: 128 and SIGPIPE
)

// notStarted returns the exit code for a command that did not start.
func notStarted(err error) int {
	switch {
	case fault.KindOf(err) != fault.Finding: // the clean room could not be set up
		return exitOurs
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	default:
		return exitCannotRun
	}
}

// trimDashes removes the "--" that kong passes through.
func trimDashes(argv []string) []string {
	if len(argv) > 0 && argv[0] == "--" {
		return argv[1:]
	}
	return argv
}
