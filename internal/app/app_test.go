package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

type cli struct {
	app.Globals
	Greet greet `cmd:"" help:"Greet somebody."`
	Fail  fail  `cmd:"" help:"Fail in some way."`
}

type greet struct {
	Name       string            `help:"Whom."`
	MaxResults int               `default:"3" help:"How many."`
	Vars       map[string]string `mapsep:"none" help:"Variables."`
}

func (g *greet) Run(_ context.Context, a *app.App) error {
	return a.PrintJSON(map[string]any{"name": g.Name, "max": g.MaxResults, "vars": g.Vars})
}

type fail struct {
	Kind string `arg:""`
}

func (f *fail) Run(context.Context, *app.App) error {
	switch f.Kind {
	case "finding":
		return fault.New(fault.Finding, "mend it", "it is broken")
	case "unavailable":
		return fault.New(fault.Unavailable, "try later", "not there")
	case "full":
		return fault.Wrap(&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, fault.Unavailable, "", "keep it")
	case "forbidden":
		return fault.Wrap(&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}, fault.Unavailable, "", "keep it")
	case "bare-unavailable":
		return fault.New(fault.Unavailable, "", "not there")
	case "interrupted":
		return fault.Wrap(fault.New(fault.Interrupted, "", "a signal"), fault.Unavailable, "install Go", "ask Go")
	case "bare-usage":
		return fault.New(fault.Usage, "", "not so")
	case "code":
		return app.ExitError{Code: 42}
	default:
		return errors.New("boom")
	}
}

func run(t *testing.T, env map[string]string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = app.Main(app.Door{Name: "tool", Description: "A tool.", CLI: &cli{}}, app.OS{
		Args: args, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &err, Dir: t.TempDir(), Now: time.Now,
		Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	})
	return code, out.String(), err.String()
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"greet", "--name", "x"}, 0, `"name": "x"`, ""},
		{[]string{"--help"}, 0, "A tool.", ""},
		{[]string{"--version"}, 0, "tool ", ""},
		{[]string{"greet", "--help"}, 0, "Greet somebody.", ""},
		{[]string{"fail", "finding"}, 1, "", "tool: it is broken\n  fix        mend it"},
		{[]string{"fail", "unavailable"}, 3, "", "not there"},
		{[]string{"fail", "bug"}, 4, "", "this is a bug in tool"},
		{[]string{"fail", "code"}, 42, "", ""},
		{nil, 2, "", "expected one of"},
		{[]string{"gret"}, 2, "", `did you mean "greet"?`},
		{[]string{"greet", "--nmae", "x"}, 2, "", "did you mean"},
		{[]string{"greet", "--max-results", "many"}, 2, "", "--max-results"},
		{[]string{"greet", "--output", "yaml"}, 2, "", "text"},
	}
	for _, c := range cases {
		code, stdout, stderr := run(t, nil, c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%q: code %d, want %d\nstdout %s\nstderr %s", c.args, code, c.code, stdout, stderr)
		}
		if c.code == 42 && stderr != "" {
			t.Errorf("a command's own exit code is not reported: %s", stderr)
		}
	}
}

func TestJSONError(t *testing.T) {
	t.Parallel()
	code, stdout, _ := run(t, nil, "--output", "json", "fail", "unavailable")
	var got struct {
		Error struct {
			Kind, Message, Hint string
			Code                int
			Retryable           bool
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	if e := got.Error; code != 3 || e.Code != 3 || e.Kind != "unavailable" || !e.Retryable || e.Hint != "try later" {
		t.Errorf("%d %+v", code, got)
	}
}

// full is a stream that takes nothing, like a full disk.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// An error that brings no hint gets one from what went wrong or from its kind.
func TestHint(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{
		"finding": "mend it", "full": "free some space", "forbidden": "give this user the right",
		"bare-unavailable": "run it again", "bare-usage": "tool --help", "other": "this is a bug",
	} {
		if _, _, stderr := run(t, nil, "fail", kind); !strings.Contains(stderr, "  fix        "+want) {
			t.Errorf("%s: %q has no hint %q", kind, stderr, want)
		}
	}
	if code, _, stderr := run(t, nil, "fail", "interrupted"); code != 130 || strings.Contains(stderr, "fix") {
		t.Errorf("interrupted: exit code %d, %q", code, stderr)
	}
}

func TestUnprintedResult(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	code := app.Main(app.Door{Name: "tool", Description: "A tool.", CLI: &cli{}}, app.OS{
		Args: []string{"greet"}, Stdin: strings.NewReader(""), Stdout: full{}, Stderr: &stderr, Dir: t.TempDir(), Now: time.Now,
		Lookup: func(string) (string, bool) { return "", false },
	})
	if code != 3 || !strings.Contains(stderr.String(), "write the result") {
		t.Errorf("code %d, %s", code, stderr.String())
	}
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	github := func(more map[string]string) map[string]string {
		more["GITHUB_ACTIONS"] = "true"
		return more
	}
	cases := []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"default", nil, nil, `"max": 3`},
		{"environment over default", map[string]string{"GGEN_MAX_RESULTS": "4"}, nil, `"max": 4`},
		{"input over environment", github(map[string]string{"GGEN_MAX_RESULTS": "4", "INPUT_MAX-RESULTS": "5"}), nil, `"max": 5`},
		{"input with underscore", github(map[string]string{"INPUT_MAX_RESULTS": "5"}), nil, `"max": 5`},
		{"empty input is unset", github(map[string]string{"INPUT_MAX-RESULTS": ""}), nil, `"max": 3`},
		{"flag over input", github(map[string]string{"INPUT_MAX-RESULTS": "5"}), []string{"--max-results", "6"}, `"max": 6`},
		{"inputs are not read elsewhere", map[string]string{"INPUT_MAX-RESULTS": "5"}, nil, `"max": 3`},
		{"a value with a semicolon is one", nil, []string{"--vars", "note=a;b=c"}, `"note": "a;b=c"`},
	}
	for _, c := range cases {
		code, stdout, stderr := run(t, c.env, append([]string{"greet"}, c.args...)...)
		if code != 0 || !strings.Contains(stdout, c.want) {
			t.Errorf("%s: code %d %s %s, want %s", c.name, code, stdout, stderr, c.want)
		}
	}
}

func TestAnnotation(t *testing.T) {
	t.Parallel()
	output := filepath.Join(t.TempDir(), "output")
	if err := os.WriteFile(output, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, stdout, stderr := run(t, map[string]string{"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": output}, "fail", "finding")
	if !strings.Contains(stderr, "::error title=tool::it is broken%0Amend it\n") || stdout != "" {
		t.Errorf("stdout %s\nstderr %s", stdout, stderr)
	}
}
