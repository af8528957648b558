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
	"github.com/ultrafast-ci/ultrafast/internal/terminal"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// OS is what a process gets from its operating system.
type OS struct {
	Args           []string
	Lookup         func(string) (string, bool)
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
		Args: os.Args[1:], Lookup: os.LookupEnv, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
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
}

// Globals are the flags that every binary has.
type Globals struct {
	Project  string           `short:"C" type:"path" placeholder:"DIR" help:"Directory of the project; ggen.toml is looked for here and above."`
	Store    string           `placeholder:"URL" help:"State store, layout:DIR. Default: the store of --state, else layout:.ggen/state below the project."`
	State    string           `placeholder:"REF" help:"Output of the phase before: <store>@sha256:<digest>."`
	StateOut string           `type:"path" placeholder:"FILE" help:"Also write the resulting state reference to FILE."`
	NoCache  bool             `help:"Run every phase, also when its result is in the chain."`
	Output   string           `enum:"text,json,table" default:"text" help:"Form of the result on standard output: ${enum}."`
	Color    string           `enum:"auto,always,never" default:"auto" help:"Colour: ${enum}."`
	Progress string           `enum:"auto,plain,quiet" default:"auto" help:"Progress on standard error: ${enum}."`
	LogLevel string           `enum:"debug,info,warn,error" default:"warn" help:"Log to standard error from this level on: ${enum}."`
	Version  kong.VersionFlag `help:"Print the version and exit."`
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
// results to Stdout and everything else to Stderr.
func Main(door Door, osys OS) (code int) {
	defer func() {
		// kong ends help by calling Exit and expects not to come back.
		if r := recover(); r != nil {
			e, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	ctx, stop := interruptible()
	defer stop()

	a := &App{OS: osys, Globals: door.CLI.GlobalFlags(), Tool: door.Name, start: osys.Now()}
	a.Platform = platform.Detect(osys.Lookup, osys.Stdout)
	command, err := a.parse(door)
	a.setUp()
	if err == nil {
		err = command(ctx)
	}
	err = errors.Join(err, a.end())
	if err != nil && errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = fault.Wrap(context.Cause(ctx), fault.Interrupted, "", "stopped")
	}
	return a.report(err)
}

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = fault.New(fault.Interrupted, "", "interrupted by a signal")

// interruptible returns a context that SIGINT or SIGTERM cancels. A second signal
// ends the process at once.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-done:
			return
		}
		select {
		case <-signals:
			os.Exit(fault.Interrupted.ExitCode())
		case <-done:
		}
	}()
	return ctx, func() { signal.Stop(signals); close(done); cancel(nil) }
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
	parsed, err := parser.Parse(a.Args)
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, fmt.Sprintf("%s --help shows what can be written", commandOf(err, door.Name)), "command line")
	}
	return func(ctx context.Context) error {
		parsed.BindTo(ctx, (*context.Context)(nil))
		return parsed.Run(a)
	}, nil
}

// commandOf returns the command up to where parsing stopped.
func commandOf(err error, name string) string {
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil && parse.Context.Command() != "" {
		return name + " " + strings.TrimSpace(parse.Context.Command())
	}
	return name
}

// resolve finds the value of a flag that is not on the command line: the CI
// system's input, then the environment. An empty value is no value.
func (a *App) resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if v, ok := a.Platform.Input(flag.Name); ok {
		return v, nil
	}
	upper := strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
	for _, prefix := range []string{"GGEN_", "CLEANROOM_"} {
		if v, ok := a.Lookup(prefix + upper); ok && v != "" {
			return v, nil
		}
	}
	return nil, nil
}

func (a *App) setUp() {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.LogLevel)); err != nil {
		level = slog.LevelWarn // the command line was wrong; the error is on its way
	}
	if v, _ := a.Lookup("RUNNER_DEBUG"); v == "1" {
		level = slog.LevelDebug
	}
	a.Log = slog.New(slog.NewTextHandler(a.Stderr, &slog.HandlerOptions{Level: level}))
	a.Terminal = terminal.New(a.Stderr, terminal.Options{
		Color: a.Color, Quiet: a.Progress == "quiet", Lookup: a.Lookup, Start: a.start, Now: a.Now,
	})
}

// report shows err, if there is one, and returns the exit code.
func (a *App) report(err error) int {
	if err == nil {
		return 0
	}
	var exit ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	kind, hint := fault.KindOf(err), fault.HintOf(err)
	if kind == fault.Internal && hint == "" {
		hint = "this is a bug in " + a.Tool + ": please report it with the command and this message"
	}
	if a.Output == "json" {
		a.printJSON(map[string]any{"error": map[string]any{
			"kind": kind.String(), "code": kind.ExitCode(), "tool": a.Tool, "message": err.Error(),
			"hint": hint, "retryable": kind == fault.Unavailable,
		}})
	}
	a.Terminal.Failure(a.Tool+": "+err.Error(), hint)
	if a.Platform.Name() != "local" {
		a.Platform.Annotate(finding.Finding{Rule: a.Tool, Severity: finding.High, What: err.Error(), Fix: hint})
	}
	return kind.ExitCode()
}

// ExitError ends the process with a code of another process, silently.
type ExitError struct{ Code int }

// Error returns the code in words.
func (e ExitError) Error() string { return fmt.Sprintf("exit code %d", e.Code) }

// LoadProject returns the project that the command is in, or the defaults where
// there is no project file.
func (a *App) LoadProject() (*config.Project, error) {
	dir := a.Dir
	if a.Project != "" {
		dir = a.Project
	}
	return config.LoadOrDefault(dir, config.Lookup(a.Lookup))
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

// Version returns the module version of this program, "(devel)" for one that was
// built from a work tree.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// maxFile bounds the files that [App.ReadFile] reads, in bytes.
const maxFile = 256 << 20

// ReadFile reads a file that the user named; a missing one is a mistake of the call.
func (a *App) ReadFile(what, path string) (_ []byte, err error) {
	doing := "read " + what
	f, err := os.Open(a.Abs(path))
	if err != nil {
		kind := fault.Unavailable
		if errors.Is(err, fs.ErrNotExist) {
			kind = fault.Usage
		}
		return nil, fault.Wrap(err, kind, "name a file that can be read", doing)
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
