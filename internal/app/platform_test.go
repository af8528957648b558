package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// door is a command line that does, with what it is given, everything that a door
// may do with outside text.
type doorCLI struct {
	app.Globals
	Echo  echo  `cmd:"" help:"Show a text in every way."`
	Sign  sign  `cmd:"" help:"Sign, with a secret."`
	Lists lists `cmd:"" help:"Show lists."`
	Panic boom  `cmd:"" help:"Panic."`
	Debug debug `cmd:"" help:"Log a detail."`
}

type echo struct {
	Text string `help:"What."`
	Fail bool   `help:"Fail with it."`
}

func (e *echo) Run(_ context.Context, a *app.App) error {
	fmt.Fprintln(a.Stdout, e.Text)
	fmt.Fprint(a.Stderr, e.Text)
	a.Log.Error(e.Text, "key", e.Text)
	a.Terminal.Event(e.Text, "..", e.Text)
	a.Note(finding.Finding{Rule: e.Text, Severity: finding.High, What: e.Text, Where: finding.Place{File: e.Text}, Why: e.Text, Fix: e.Text})
	if e.Fail {
		return fault.New(fault.Finding, e.Text, "%s", e.Text)
	}
	return a.PrintJSON(map[string]string{"text": e.Text})
}

type sign struct {
	Password app.Secret `help:"A secret."`
}

func (s *sign) Run(_ context.Context, a *app.App) error {
	if s.Password == "" {
		if a.WithoutSecret("the signature", "password") {
			return nil
		}
		return fault.New(fault.Usage, "give --password", "no password")
	}
	fmt.Fprintf(a.Stdout, "%v %s %q %d %x %+v\n", s.Password, s.Password, s.Password, s.Password, s.Password, s)
	fmt.Fprintf(a.Stderr, "careless: %s\n", s.Password.Reveal())
	a.Log.Error("x", "password", s.Password)
	a.Note(finding.Finding{Rule: "leak", Severity: finding.Low, What: "it is " + s.Password.Reveal(), Where: finding.Place{File: "x"}})
	return a.PrintJSON(s)
}

type lists struct {
	Package []string          `help:"Packages."`
	Vars    map[string]string `mapsep:"none" help:"Variables."`
}

func (l *lists) Run(_ context.Context, a *app.App) error { return a.PrintJSON(l) }

type boom struct {
	Text string `help:"What."`
}

func (b *boom) Run(context.Context, *app.App) error { panic(b.Text) }

type debug struct{}

func (*debug) Run(_ context.Context, a *app.App) error {
	a.Log.Debug("detail")
	return nil
}

type outcome struct {
	code                   int
	stdout, stderr, output string
	summary                string
	dir                    string
}

func runOn(t *testing.T, platform string, env map[string]string, args ...string) outcome {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"ULTRAFAST_PLATFORM": platform, "GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
		"GITHUB_WORKSPACE": dir, "CI_PROJECT_DIR": dir, "ULTRAFAST_RESULTS_DIR": dir,
	}
	maps.Copy(all, env)
	var stdout, stderr bytes.Buffer
	code := app.Main(app.Door{Name: "tool", CLI: &doorCLI{}, KeepRoot: true}, app.OS{
		Args: args, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Dir: dir, Now: time.Now,
		Lookup: func(k string) (string, bool) { v, ok := all[k]; return v, ok },
		Environ: func() []string {
			var list []string
			for k, v := range env {
				list = append(list, k+"="+v)
			}
			return list
		},
	})
	read := func(name string) string { b, _ := os.ReadFile(filepath.Join(dir, name)); return string(b) }
	return outcome{code, stdout.String(), stderr.String(), read("output"), read("summary"), dir}
}

// understood returns the commands that a runner would find in a log.
func understood(log string) []string {
	var found []string
	for _, line := range strings.FieldsFunc(strings.ToValidUTF8(log, "?"), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "::"); ok && strings.Contains(rest, "::") {
			found = append(found, strings.Fields(rest)[0])
		} else if _, rest, ok := strings.Cut(line, "##["); ok && strings.Contains(rest, "]") {
			found = append(found, "##["+rest)
		}
	}
	return found
}

// TestHostileInput puts hostile texts through an input and from there into output,
// log, findings, error and summary: the runner finds the commands that are meant.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"workflow command": "x\n::set-output name=state::evil\n::stop-commands::t",
		"at the start":     "::add-mask::a",
		"older":            "a ##[error]b",
		"return":           "a\r::error::b",
		"output file":      "x\nstate<<EOF\nevil\nEOF\nstate=evil",
		"ANSI":             "\x1b[2J\x1b]0;evil\x07::error::x",
		"invalid UTF-8":    "\xff\n::error::evil",
		"direction":        "\u202egro.elpmaxe \u200b",
		"1 MB":             strings.Repeat("::error::evil ##[error]evil\n", 1<<20/28),
		"Markdown":         "</details>\n# h\n|a|b|\n```\n[x](http://evil)<script>",
	} {
		for _, fail := range []string{"true", "false"} {
			got := runOn(t, "github", map[string]string{"INPUT_TEXT": text, "INPUT_FAIL": fail}, "echo")
			if want := map[string]int{"true": 1, "false": 0}[fail]; got.code != want {
				t.Errorf("%s: exit code %d: %.300s", name, got.code, got.stderr)
			}
			if found := understood(got.stdout); len(found) > 0 {
				t.Errorf("%s: on standard output %.200q", name, found)
			}
			found := understood(got.stderr)
			if want := map[string]int{"true": 2, "false": 1}[fail]; len(found) != want || slices.ContainsFunc(found, func(s string) bool { return s != "error" }) {
				t.Errorf("%s: on standard error %.200q", name, found)
			}
			if got.output != "" {
				t.Errorf("%s: outputs %.200q", name, got.output)
			}
			if got.summary == "" || len(got.summary) > 900<<10 || strings.Contains(strings.ToLower(got.summary), "<script") || strings.Contains(got.summary, "\n</details>\n#") {
				t.Errorf("%s: summary %.300s", name, got.summary)
			}
			for _, file := range []string{"results.sarif", "gl-code-quality-report.json", "gl-sast-report.json"} {
				b, err := os.ReadFile(filepath.Join(got.dir, ".ggen", "reports", file))
				if err != nil || !json.Valid(b) {
					t.Errorf("%s: %s: %v", name, file, err)
				}
			}
		}
	}
}

// TestMaskFirst: the mask is the first line of all, also when the call is wrong, and
// the secret is in nothing that is written after it.
func TestMaskFirst(t *testing.T) {
	t.Parallel()
	const secret, token = "hunter2%hunter2", "ghs_0123456789"
	for name, c := range map[string]struct {
		env  map[string]string
		args []string
		code int
	}{
		"input":        {map[string]string{"INPUT_PASSWORD": secret}, []string{"sign"}, 0},
		"environment":  {map[string]string{"GGEN_PASSWORD": secret}, []string{"sign"}, 0},
		"flag":         {nil, []string{"sign", "--password", secret}, 0},
		"joined flag":  {nil, []string{"sign", "--password=" + secret}, 0},
		"wrong call":   {nil, []string{"sign", "--password", secret, "--nonsense", secret}, 2},
		"wrong place":  {map[string]string{"INPUT_PASSWORD": secret}, []string{"sign", secret}, 2},
		"no such verb": {map[string]string{"INPUT_PASSWORD": secret}, []string{secret}, 2},
	} {
		env := map[string]string{"GITHUB_TOKEN": token}
		maps.Copy(env, c.env)
		got := runOn(t, "github", env, c.args...)
		if got.code != c.code {
			t.Errorf("%s: exit code %d: %s", name, got.code, got.stderr)
		}
		lines := strings.Split(got.stderr, "\n")[:2]
		slices.Sort(lines)
		if !slices.Equal(lines, []string{"::add-mask::" + token, "::add-mask::hunter2%25hunter2"}) {
			t.Errorf("%s: the first lines are %q", name, lines)
		}
		// What the runner masks is left to it, but no value is in a file.
		if strings.Contains(got.stdout, secret) {
			t.Errorf("%s: %s", name, got.stdout)
		}
		for _, file := range reports(t, got.dir) {
			if strings.Contains(file, secret) {
				t.Errorf("%s: a report has the secret: %s", name, file)
			}
		}
	}
	for _, platform := range []string{"gitlab", "tekton"} { // no mask: nothing may come out at all
		got := runOn(t, platform, map[string]string{"INPUT_PASSWORD": secret}, "sign")
		if all := got.stdout + got.stderr + strings.Join(reports(t, got.dir), ""); strings.Contains(all, secret) || strings.Contains(all, "add-mask") || !strings.Contains(got.stderr, "careless: ***") {
			t.Errorf("%s: %s", platform, all)
		}
	}
}

// reports returns the content of every file below dir.
func reports(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWithoutSecret(t *testing.T) {
	t.Parallel()
	event := filepath.Join(t.TempDir(), "event.json")
	if err := os.WriteFile(event, []byte(`{"pull_request":{"head":{"repo":{"full_name":"b/x"}},"base":{"repo":{"full_name":"a/x"}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	fork := map[string]string{"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": event, "INPUT_PASSWORD": ""}
	got := runOn(t, "github", fork, "sign")
	if got.code != 0 || !strings.Contains(got.stderr, "::notice title=no-secrets::the signature is skipped: a pull request from a fork gets no secrets") || !strings.Contains(got.summary, "no-secrets") {
		t.Errorf("exit code %d\n%s\n%s", got.code, got.stderr, got.summary)
	}
	if got := runOn(t, "github", map[string]string{"GITHUB_EVENT_NAME": "push"}, "sign"); got.code != 2 {
		t.Errorf("on a push a missing secret is a mistake: exit code %d", got.code)
	}
}

func TestPanicIsReported(t *testing.T) {
	t.Parallel()
	got := runOn(t, "github", map[string]string{"INPUT_TEXT": "x\n::set-output name=a::b"}, "panic")
	if found := understood(got.stderr); got.code != 4 || len(found) != 1 || found[0] != "error" || !strings.Contains(got.stderr, "platform_test.go") {
		t.Errorf("exit code %d, commands %q\n%s", got.code, found, got.stderr)
	}
}

func TestLinesOfAList(t *testing.T) {
	t.Parallel()
	got := runOn(t, "github", map[string]string{"INPUT_PACKAGE": "a\n  b@^1 \r\n\nc\n", "INPUT_VARS": "k=v=w\nnote=a;b,c\n"}, "lists")
	var l lists
	if err := json.Unmarshal([]byte(got.stdout), &l); err != nil {
		t.Fatal(err, got.stderr)
	}
	if !slices.Equal(l.Package, []string{"a", "b@^1", "c"}) || !maps.Equal(l.Vars, map[string]string{"k": "v=w", "note": "a;b,c"}) {
		t.Errorf("%+v", l)
	}
	got = runOn(t, "tekton", map[string]string{"GGEN_PACKAGE": "a,b"}, "lists")
	if !strings.Contains(got.stdout, `"a",`) {
		t.Errorf("on one line commas divide: %s", got.stdout)
	}
	if got := runOn(t, "github", map[string]string{"INPUT_VARS": "k=v\nnonsense"}, "lists"); got.code != 2 || !strings.Contains(got.stderr, `"nonsense" is not KEY=VALUE`) {
		t.Errorf("%d %s", got.code, got.stderr)
	}
}

func TestNothingToReport(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"github", "gitlab", "tekton", "local"} {
		got := runOn(t, platform, nil, "lists")
		if got.code != 0 || got.stderr != "" || got.summary != "" || len(reports(t, got.dir)) != 0 {
			t.Errorf("%s: a listing left %q %q %q", platform, got.stderr, got.summary, reports(t, got.dir))
		}
	}
}

// TestUnwritableReports: what cannot be shown changes no exit code.
func TestUnwritableReports(t *testing.T) {
	t.Parallel()
	got := runOn(t, "github", map[string]string{"GITHUB_STEP_SUMMARY": "/missing/dir/file", "INPUT_TEXT": "x", "INPUT_REPORT-DIR": "/dev/null/x"}, "echo")
	if got.code != 0 || !strings.Contains(got.stderr, "no summary") || !strings.Contains(got.stderr, "no reports") {
		t.Errorf("%d %s", got.code, got.stderr)
	}
}

func TestUnknownPlatform(t *testing.T) {
	t.Parallel()
	if got := runOn(t, "githbu", nil, "lists"); got.code != 2 || !strings.Contains(got.stderr, `did you mean "github"?`) {
		t.Errorf("%d %s", got.code, got.stderr)
	}
}

func TestDebug(t *testing.T) {
	t.Parallel()
	for variable, want := range map[string]bool{"RUNNER_DEBUG": true, "OTHER": false} {
		got := runOn(t, "github", map[string]string{variable: "1"}, "debug")
		if strings.Contains(got.stderr, "level=DEBUG msg=detail") != want {
			t.Errorf("%s: %s", variable, got.stderr)
		}
	}
}
