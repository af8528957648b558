// Package app is the main that every binary shares: signals, platform, parsing of
// the command line, logging, the state, and the one place where an error is
// reported and becomes an exit code.
//
// It is the only importer of kong. Commands are structs with kong's tags and a
// method Run(ctx context.Context, a *app.App) error; they never print, exit or
// read the environment by themselves.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/platform"
	"github.com/ultrafast-ci/ultrafast/internal/report"
	"github.com/ultrafast-ci/ultrafast/internal/terminal"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// OS is what a process gets from its operating system.
type OS struct {
	Args   []string
	Lookup func(string) (string, bool)
	// Environ lists the environment as "NAME=value"; nil for nothing.
	Environ        func() []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Dir is the working directory, absolute.
	Dir string
	// Now is the clock.
	Now func() time.Time
}

// System returns the real one.
func System() OS {
	dir, err := os.Getwd()
	if err != nil {
		dir = "."
	}
	return OS{
		Args: os.Args[1:], Lookup: os.LookupEnv, Environ: os.Environ, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Dir: dir, Now: time.Now,
	}
}

// Door is one binary: its name, what it is for, and its command line.
type Door struct {
	Name string
	// Description is the first paragraph of the help.
	Description string
	// CLI is a pointer to a struct with kong's tags that embeds [Globals].
	CLI interface{ GlobalFlags() *Globals }
	// KeepRoot is set where the phase needs the privileges that it was started
	// with, in a container action too.
	KeepRoot bool
}

// Globals are the flags that every binary has.
type Globals struct {
	Project   string           `short:"C" type:"path" placeholder:"DIR" help:"Directory of the project; ggen.toml is looked for here and above."`
	Store     string           `placeholder:"URL" help:"State store, layout:DIR or oci://host/repository. Default: the store of --state, else layout:.ggen/state below the project."`
	State     string           `placeholder:"REF" help:"Output of the phase before: <store>@sha256:<digest>."`
	StateOut  string           `type:"path" placeholder:"FILE" help:"Also write the resulting state reference to FILE."`
	ReportDir string           `type:"path" placeholder:"DIR" help:"Write the findings to DIR as SARIF, JUnit XML and GitLab reports. Default: .ggen/reports on GitHub and GitLab, nowhere else."`
	NoCache   bool             `help:"Run every phase, also when its result is in the chain."`
	Output    string           `enum:"text,json,table" default:"text" help:"Form of the result on standard output: ${enum}."`
	Color     string           `enum:"auto,always,never" default:"auto" help:"Colour: ${enum}."`
	Progress  string           `enum:"auto,live,plain,quiet" default:"auto" help:"Progress on standard error: ${enum}; live redraws a line in place, as auto does on a terminal."`
	LogLevel  string           `enum:"debug,info,warn,error" default:"warn" help:"Log to standard error from this level on: ${enum}."`
	Version   kong.VersionFlag `help:"Print the version and exit."`
}

// GlobalFlags returns g, so that a struct which embeds Globals fits [Door].
func (g *Globals) GlobalFlags() *Globals { return g }

// App is what a command works with.
type App struct {
	OS
	*Globals
	// Tool is the name of the binary.
	Tool     string
	Log      *slog.Logger
	Platform platform.Platform
	Terminal *terminal.Terminal
	start    time.Time
	atEnd    []func() error
	// result is how far a run of phases came; nil if none ran.
	result *Result
	// run is what is shown of this run when it has ended.
	run        report.Report
	checked    bool // see Checked
	projectDir string
	// redact holds pairs of a secret and what is shown for it.
	redact []string
}

// AtEnd has f called when the command has ended, last first.
func (a *App) AtEnd(f func() error) { a.atEnd = append(a.atEnd, f) }

func (a *App) end() error {
	var errs []error
	for i := len(a.atEnd) - 1; i >= 0; i-- {
		errs = append(errs, a.atEnd[i]())
	}
	return errors.Join(errs...)
}

// exited carries kong's wish to exit (after --help) to Main.
type exited int

// Main runs the command named by osys.Args and returns the exit code. It prints
// results to Stdout and everything else to Stderr; neither can hold a command of the
// CI system but those that are meant.
func Main(door Door, osys OS) (status int) {
	ctx, stop := interruptible()
	defer stop()
	a := &App{OS: osys, Globals: door.CLI.GlobalFlags(), Tool: door.Name, start: osys.Now()}
	p, err := platform.Detect(platform.Host{Lookup: osys.Lookup, Stdout: osys.Stdout, Stderr: osys.Stderr, Now: osys.Now})
	a.Platform, a.Stdout, a.Stderr = p, p.Out(), p.Err()
	defer func() {
		if err := p.Flush(); err != nil && status == 0 {
			fmt.Fprintf(osys.Stderr, "%s: %v\n", door.Name, unprinted(err))
			status = fault.Unavailable.ExitCode()
		}
	}()
	a.setUp()
	if err == nil {
		err = p.Enter(door.KeepRoot)
	}
	if err == nil {
		err = a.command(ctx, door)
	}
	var code exited
	if errors.As(err, &code) {
		return int(code)
	}
	err = errors.Join(err, a.end())
	if err != nil && errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = fault.Wrap(context.Cause(ctx), fault.Interrupted, "", "stopped")
	}
	return a.report(err)
}

// Error makes exited an error.
func (e exited) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// command parses the command line and runs what it says. A panic becomes an error: a
// runtime's own message would bypass the streams, and could quote anything.
func (a *App) command(ctx context.Context, door Door) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exited: // kong ends help by calling Exit and expects not to come back
			err = r
		default:
			fmt.Fprintf(a.Stderr, "%s", debug.Stack())
			err = fault.New(fault.Internal, "", "panic: %v", r)
		}
	}()
	run, err := a.parse(door)
	a.setUp()
	if err != nil {
		return err
	}
	return run(ctx)
}

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = fault.New(fault.Interrupted, "", "interrupted by a signal")

// lastGrace is what is left for cleaning up when a SIGTERM follows a SIGINT: a CI
// system that stops a job kills what is there two and a half seconds later.
const lastGrace = 2 * time.Second

// sameSignal is how soon after the first a signal of the same kind is that one again:
// timeout(1) signals its child and then the group that the child is in.
const sameSignal = 300 * time.Millisecond

// interruptible returns a context that SIGINT, SIGTERM or the end of the terminal
// cancels, unless nohup(1) keeps the last away. A second signal ends the process at
// once, but for the SIGTERM that CI systems send seconds after SIGINT: what is being
// cleaned up then has a moment more.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	done := make(chan struct{})
	go obey(signals, done, cancel, os.Exit)
	return ctx, func() { signal.Stop(signals); close(done); cancel(nil) }
}

// obey is the rest of [interruptible], until done is closed or it has called exit.
func obey(signals <-chan os.Signal, done <-chan struct{}, cancel context.CancelCauseFunc, exit func(code int)) {
	var first os.Signal
	var at time.Time
	select {
	case first = <-signals:
		at = time.Now()
		cancel(errInterrupted)
	case <-done:
		return
	}
	var late <-chan time.Time // nil until the signal that follows
	for {
		select {
		case s := <-signals:
			if s == first && time.Since(at) < sameSignal {
				continue
			}
			if s == syscall.SIGTERM && first == os.Interrupt {
				first, late = s, time.After(lastGrace)
				continue
			}
		case <-late:
		case <-done:
			return
		}
		exit(fault.Interrupted.ExitCode())
		return
	}
}

func (a *App) parse(door Door) (func(context.Context) error, error) {
	parser, err := kong.New(door.CLI,
		kong.Name(door.Name),
		kong.Description(door.Description),
		kong.Vars{"version": fmt.Sprintf("%s %s", door.Name, Version())},
		kong.Writers(a.Stdout, a.Stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.Resolvers(kong.ResolverFunc(a.resolve)),
	)
	if err != nil {
		return nil, err
	}
	a.maskAll(parser.Model.Node)
	if err := checkArguments(a.Args); err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(a.Args)
	if err != nil {
		hint := fmt.Sprintf("%s --help shows what can be written", commandOf(err, door.Name))
		if missing := (*fs.PathError)(nil); errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist) {
			hint = "check the path; a relative one begins at " + a.Dir
		}
		return nil, fault.Wrap(spelled(err), fault.Usage, hint, "command line")
	}
	return func(ctx context.Context) error {
		parsed.BindTo(ctx, (*context.Context)(nil))
		return parsed.Run(a)
	}, nil
}

// maxValue bounds an argument and a value of a list, in bytes: what is longer belongs
// into a file. Kong takes quadratic time to divide a list.
const maxValue = 64 << 10

// checkArguments refuses values that are too long, and private keys. What comes after
// "--" is for another program.
func checkArguments(args []string) error {
	for i, arg := range args {
		if arg == "--" {
			return nil
		}
		what, value := fmt.Sprintf("argument %d", i+1), arg
		if _, joined, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "--") && !isPrivateKey(arg) {
			value = joined
		}
		if err := errors.Join(checkPrivateKey(what, value), checkLength(what, arg)); err != nil {
			return err
		}
	}
	return nil
}

// checkPrivateKey refuses a key that is written where the name of its file belongs, as
// by a CI variable that is not of type file. It must be called before anything is
// parsed: a message about a wrong path would quote the key.
func checkPrivateKey(what, value string) error {
	if isPrivateKey(value) {
		return fault.New(fault.Usage, "write it into a file that only the job can read, and name that; in GitLab, make the variable of type file",
			"%s is a private key itself, not the name of a file", what)
	}
	return nil
}

func isPrivateKey(value string) bool {
	value = strings.TrimSpace(value)
	return strings.HasPrefix(value, "-----BEGIN ") && strings.Contains(value, "PRIVATE KEY-----")
}

func checkLength(what, value string) error {
	if len(value) > maxValue {
		return fault.New(fault.Usage, "write it into a file, if there is a flag that takes one", "%s has %d bytes; at most %d are read", what, len(value), maxValue)
	}
	return nil
}

// commandOf returns the command up to where parsing stopped.
func commandOf(err error, name string) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Command() != "" {
		return name + " " + strings.TrimSpace(parse.Context.Command())
	}
	return name
}

// resolve finds the value of a flag that is not on the command line. A list or a map
// has one value to a line there.
func (a *App) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := a.given(flag.Name)
	switch {
	case !ok:
		return nil, nil
	case isPrivateKey(v):
		return nil, checkPrivateKey("the value", v)
	case !flag.IsSlice() && !flag.IsMap():
		return v, nil
	case !strings.ContainsAny(v, "\r\n"):
		return v, checkLength("the value", v)
	}
	list, pairs := []any{}, map[string]any{}
	for line := range strings.Lines(v) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if len(list) == maxValue {
			return nil, fault.New(fault.Usage, "", "the value has more than %d lines", maxValue)
		}
		if err := checkLength("a line of the value", line); err != nil {
			return nil, err
		}
		list = append(list, line)
		key, value, found := strings.Cut(line, "=")
		if flag.IsMap() && !found {
			return nil, fmt.Errorf("%q is not KEY=VALUE", line)
		}
		pairs[key] = value
	}
	if flag.IsMap() {
		return pairs, nil
	}
	return list, nil
}

// given returns the value of a flag that is not on the command line: the CI system's
// input, then the environment. An empty value is no value.
func (a *App) given(name string) (string, bool) {
	if v, ok := a.Platform.Input(name); ok {
		return v, true
	}
	upper := strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	for _, prefix := range []string{"GGEN_", "CLEANROOM_"} {
		if v, ok := a.Lookup(prefix + upper); ok && v != "" {
			return v, true
		}
	}
	return "", false
}

func (a *App) setUp() {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.LogLevel)); err != nil {
		level = slog.LevelWarn // the command line was wrong; the error is on its way
	}
	if a.Platform.Debug() {
		level = slog.LevelDebug
	}
	a.Terminal = terminal.New(a.Stderr, terminal.Options{
		Color: a.Color, Quiet: a.Progress == "quiet", Progress: a.Progress, Lookup: a.Lookup, Start: a.start, Now: a.Now,
	})
	a.Log = slog.New(slog.NewTextHandler(a.Terminal, &slog.HandlerOptions{Level: level}))
}

// report shows err, if there is one, and the run where the platform shows such
// things, and returns the exit code.
func (a *App) report(err error) int {
	var exit ExitError
	if errors.As(err, &exit) {
		if exit.Why != nil {
			a.publish(exit.Why, fault.KindOf(exit.Why), fault.HintOf(exit.Why))
		}
		return exit.Code
	}
	if err == nil {
		a.publish(nil, 0, "")
		return 0
	}
	kind, hint := fault.KindOf(err), a.Hint(err)
	if kind == fault.Interrupted {
		hint = "" // whoever was interrupted has nothing to mend
	}
	if a.Output == "json" {
		document := failure{Result: a.result, Error: failureError{
			Kind: kind.String(), Code: kind.ExitCode(), Tool: a.Tool, Message: err.Error(), Hint: hint, Retryable: kind == fault.Unavailable,
		}}
		if err := a.PrintJSON(document); err != nil {
			a.Log.Error("write result", "error", err)
		}
	}
	a.publish(err, kind, hint)
	message := err.Error()
	if a.result != nil && len(a.result.Findings) > 0 {
		message, _, _ = strings.Cut(message, "\n") // the findings have told the rest
	}
	a.Terminal.Failure(a.Tool+": "+message, hint)
	return kind.ExitCode()
}

// Hint returns what to do about an error: what it says itself, or else what helps
// against what the operating system refused, or what its kind always means.
func (a *App) Hint(err error) string {
	if hint := fault.HintOf(err); hint != "" {
		return hint
	}
	switch kind := fault.KindOf(err); {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space on that disk, then run it again"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "give this user the right to it, or name another place"
	case kind == fault.Unavailable:
		return "run it again, or elsewhere; --log-level debug says more"
	case kind == fault.Usage:
		return a.Tool + " --help shows what can be written"
	case kind == fault.Internal:
		return "this is a bug in " + a.Tool + ": please report it with the command and this message"
	}
	return ""
}

// failure is what a command that failed prints as JSON: the error, and how far a
// run of phases came.
type failure struct {
	Error failureError `json:"error"`
	*Result
}

type failureError struct {
	Kind      string `json:"kind"`
	Code      int    `json:"code"`
	Tool      string `json:"tool"`
	Message   string `json:"message"`
	Hint      string `json:"hint"`
	Retryable bool   `json:"retryable"`
}

// ExitError ends the process with a code of another process, silently. Why, if set, is
// what reports and annotations give as the reason.
type ExitError struct {
	Code int
	Why  error
}

// Error returns the code in words.
func (e ExitError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// LoadProject returns the project that the command is in, or the defaults where
// there is no project file.
func (a *App) LoadProject() (*config.Project, error) {
	dir := a.Dir
	if a.Project != "" {
		dir = a.Project
	}
	project, err := config.LoadOrDefault(dir, config.Lookup(a.Lookup))
	if err == nil {
		a.projectDir = project.Dir
	}
	return project, err
}

// Abs returns path made absolute from the working directory.
func (a *App) Abs(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(a.Dir, path)
}

// CacheDir returns the directory for what can be made again: XDG_CACHE_HOME or
// ~/.cache, and below it "ultrafast".
func (a *App) CacheDir() (string, error) {
	if dir, _ := a.Lookup("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "ultrafast"), nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fault.Wrap(err, fault.Usage, "set XDG_CACHE_HOME to a directory that can be written", "find the cache directory")
	}
	return filepath.Join(dir, "ultrafast"), nil
}

// released is the version that a release is built with: what is built from a checkout
// has no module version, and must claim what an installation of the module claims.
var released string

// Version returns the module version of this program, "(devel)" for one that was
// built from a work tree.
func Version() string {
	if released != "" {
		return released
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// maxFile bounds the files that [App.ReadFile] reads, in bytes.
const maxFile = 256 << 20

// OpenFile opens a file that the user named, to be closed by the caller; a missing
// one is a mistake of the call.
func (a *App) OpenFile(what, path string) (*os.File, error) {
	f, err := os.Open(a.Abs(path))
	if err != nil {
		kind := fault.Unavailable
		if errors.Is(err, fs.ErrNotExist) {
			kind = fault.Usage
		}
		return nil, fault.Wrap(err, kind, "name a file that can be read", "read "+what)
	}
	return f, nil
}

// ReadFile reads a file that the user named, as [App.OpenFile] does.
func (a *App) ReadFile(what, path string) (_ []byte, err error) {
	doing := "read " + what
	f, err := a.OpenFile(what, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", doing)
	}
	if len(b) > maxFile {
		return nil, fault.New(fault.Usage, "", "%s: %s has more than %d bytes", doing, path, maxFile)
	}
	return b, nil
}
