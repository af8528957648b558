package github_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/platform/github"
	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// command is one that the runner understood, with its data unescaped.
type command struct {
	name, data string
	properties map[string]string
}

// replay reads a log as the runner does (actions/runner, ActionCommand.cs).
func replay(log string) []command {
	var out []command
	for _, line := range strings.FieldsFunc(log, func(r rune) bool { return r == '\n' || r == '\r' }) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "::")
		if !ok {
			continue
		}
		head, data, ok := strings.Cut(rest, "::")
		if !ok {
			continue
		}
		name, list, _ := strings.Cut(head, " ")
		c := command{name: name, data: unescape(data), properties: map[string]string{}}
		for _, p := range strings.Split(list, ",") {
			if k, v, ok := strings.Cut(strings.TrimSpace(p), "="); ok {
				c.properties[k] = unescape(v)
			}
		}
		out = append(out, c)
	}
	return out
}

func unescape(s string) string {
	for _, pair := range [][2]string{{"%0D", "\r"}, {"%0A", "\n"}, {"%3A", ":"}, {"%2C", ","}, {"%25", "%"}} {
		s = strings.ReplaceAll(s, pair[0], pair[1])
	}
	return s
}

// outputs reads GITHUB_OUTPUT as the runner does (actions/runner, FileCommandManager.cs).
func outputs(t *testing.T, file string) map[string]string {
	t.Helper()
	out := map[string]string{}
	lines := strings.Split(file, "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] == "" {
			continue
		}
		equals, heredoc := strings.Index(lines[i], "="), strings.Index(lines[i], "<<")
		switch {
		case equals >= 0 && (heredoc < 0 || equals < heredoc):
			k, v, _ := strings.Cut(lines[i], "=")
			out[k] = v
		case heredoc >= 0:
			k, delimiter, _ := strings.Cut(lines[i], "<<")
			var value []string
			for i++; i < len(lines) && lines[i] != delimiter; i++ {
				value = append(value, lines[i])
			}
			if i == len(lines) {
				t.Fatalf("no delimiter %q", delimiter)
			}
			out[k] = strings.Join(value, "\n")
		default:
			t.Fatalf("line %q", lines[i])
		}
	}
	return out
}

// hostile are texts that would do something if they were interpreted.
func hostile() map[string]string {
	return map[string]string{
		"new line":        "x\nstate=evil",
		"carriage return": "x\r::error::evil",
		"set-output":      "::set-output name=state::evil",
		"stop-commands":   "x\n::stop-commands::t\n::add-mask::a",
		"older command":   "##[error]evil",
		"properties":      "a,file=/etc/passwd,line=1::evil",
		"percent":         "%0A::error::evil%0D%25%3A%2C",
		"delimiter":       "x\nend_0123\nstate<<end_0123\nevil\nend_0123",
		"heredoc":         "state<<EOF",
		"equals":          "a=b",
		"ANSI":            "\x1b[31mred\x1b]8;;http://evil\x07",
		"direction":       "\u202eabc\u2066\u200b",
		"weightless":      ":\u200b:error::evil",
		"separators":      "a\u2028::error::evil\u2029\u0085::error::evil",
		"NUL":             "a\x00b",
		"invalid UTF-8":   "\xff\xc0::error::evil",
		"1 MB":            strings.Repeat("::error::evil\n", 1<<20/14),
		"long word":       strings.Repeat("A", 1<<20+1),
	}
}

type rig struct {
	*github.Platform
	dir            string
	env            map[string]string
	stdout, stderr bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), env: map[string]string{}}
	for _, name := range []string{"GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ARTIFACTS"} {
		r.env[name] = filepath.Join(r.dir, name)
	}
	r.Platform = github.New(runner.Host{
		Lookup: func(k string) (string, bool) { v, ok := r.env[k]; return v, ok }, Stdout: &r.stdout, Stderr: &r.stderr,
	})
	return r
}

func (r *rig) read(name string) string {
	b, _ := os.ReadFile(filepath.Join(r.dir, name))
	return string(b)
}

// TestHostileOutput hands every hostile text on as a value: it arrives unchanged, or
// is refused and leaves no trace.
func TestHostileOutput(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(hostile())) {
		value := hostile()[name]
		r := newRig(t)
		if err := r.Output("before", "1"); err != nil {
			t.Fatal(err)
		}
		err := r.Output("value", value)
		if err := r.Output("after", "2"); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"before": "1", "after": "2"}
		if err == nil {
			want["value"] = value
		} else if fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
		if got := outputs(t, r.read("GITHUB_OUTPUT")); !maps.Equal(got, want) {
			t.Errorf("%s: the runner reads %.300q", name, got)
		}
	}
	r := newRig(t)
	for _, name := range []string{"", "a b", "a=b", "a\nb", "a<<b", "é", strings.Repeat("a", 200)} {
		if err := r.Output(name, "x"); err == nil {
			t.Errorf("output name %.20q was taken", name)
		}
	}
	if r.read("GITHUB_OUTPUT") != "" {
		t.Error("a refused name left something")
	}
}

func TestDelimiterIsRandom(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 20 {
		r := newRig(t)
		if err := r.Output("state", "x"); err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(r.read("GITHUB_OUTPUT"), "\n")
		seen[first] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d delimiters in 20 outputs", len(seen))
	}
}

// TestHostileAnnotation puts every hostile text into every field: the runner sees one
// annotation, and no property that was not given.
func TestHostileAnnotation(t *testing.T) {
	t.Parallel()
	for name, text := range hostile() {
		r := newRig(t)
		if !r.Annotate(finding.Finding{Rule: text, Severity: finding.High, What: text, Where: finding.Place{File: text, Line: 3, Column: 4}, Fix: text}) {
			t.Errorf("%s: not shown", name)
		}
		got := replay(r.stderr.String())
		if len(got) != 1 || got[0].name != "error" || len(got[0].properties) != 4 || got[0].properties["line"] != "3" || got[0].properties["col"] != "4" {
			t.Errorf("%s: the runner understands %.300q", name, got)
			continue
		}
		for _, s := range []string{got[0].data, got[0].properties["title"], got[0].properties["file"]} {
			if strings.ContainsAny(s, "\x1b\r\x00\u202e\u200b\u2028\u0085") || len(s) > 200<<10 {
				t.Errorf("%s: %.200q", name, s)
			}
		}
		if strings.Contains(r.stderr.String(), "##[") && strings.Index(r.stderr.String(), "::error") != 0 {
			t.Errorf("%s: an older command", name)
		}
	}
}

// TestHostileLog writes, groups and masks every hostile text.
func TestHostileLog(t *testing.T) {
	t.Parallel()
	for name, text := range hostile() {
		r := newRig(t)
		end := r.Group(text)
		for _, w := range []interface{ Write([]byte) (int, error) }{r.Out(), r.Err()} {
			if _, err := w.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		end()
		end()
		if err := r.Flush(); err != nil {
			t.Fatal(err)
		}
		if got := replay(r.stdout.String()); len(got) != 0 {
			t.Errorf("%s: on standard output the runner understands %.200q", name, got)
		}
		got := replay(r.stderr.String())
		if len(got) != 2 || got[0].name != "group" || got[1].name != "endgroup" {
			t.Errorf("%s: the runner understands %.200q", name, got)
		}
		if _, older, ok := strings.Cut(r.stdout.String(), "##["); ok {
			t.Errorf("%s: an older command %.40q", name, older)
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.Mask("s3cr%et\n::error::evil")
	r.Mask(" \n ")
	var masked []string
	for _, c := range replay(r.stderr.String()) {
		if c.name != "add-mask" {
			t.Errorf("%+v", c)
		}
		masked = append(masked, c.data)
	}
	if want := []string{"s3cr%et\n::error::evil", "s3cr%et", "::error::evil"}; !slices.Equal(masked, want) {
		t.Errorf("masked %q, want %q", masked, want)
	}
	if r.stdout.Len() > 0 {
		t.Error("commands on standard output spoil results")
	}
}

func TestTenAnnotationsOfAType(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	shown := map[finding.Severity]int{}
	for _, s := range []finding.Severity{finding.Critical, finding.High, finding.Medium, finding.Low, finding.Info} {
		for range 8 {
			if r.Annotate(finding.Finding{Rule: "x", Severity: s, What: "y"}) {
				shown[s]++
			}
		}
	}
	byName := map[string]int{}
	for _, c := range replay(r.stderr.String()) {
		byName[c.name]++
	}
	if want := map[string]int{"error": 10, "warning": 8, "notice": 10}; !maps.Equal(byName, want) {
		t.Errorf("%v, want %v (told: %v)", byName, want, shown)
	}
}

// TestCommandFiles: a file that is missing is made, one that nobody named is no
// error, one that cannot be written is an error that says why.
func TestCommandFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := filepath.Join(r.dir, "missing", "file")
	blocked := r.dir // a directory
	ref := "oci://host/repo@sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		variable string
		write    func() error
	}{
		{"GITHUB_OUTPUT", func() error { return r.Output("state", "x") }},
		{"GITHUB_STEP_SUMMARY", func() error { return r.Summary("x") }},
		{"GITHUB_ARTIFACTS", func() error { return r.Subject(ref) }},
	} {
		good := r.env[c.variable]
		for path, want := range map[string]fault.Kind{bad: fault.Unavailable, blocked: fault.Unavailable} {
			r.env[c.variable] = path
			if err := c.write(); fault.KindOf(err) != want || fault.HintOf(err) == "" {
				t.Errorf("%s=%s: %v", c.variable, path, err)
			}
		}
		for _, unset := range []func(){func() { r.env[c.variable] = "" }, func() { delete(r.env, c.variable) }} {
			unset()
			if err := c.write(); err != nil {
				t.Errorf("%s unset: %v", c.variable, err)
			}
		}
		r.env[c.variable] = good
		if err := c.write(); err != nil || r.read(c.variable) == "" {
			t.Errorf("%s: %v %q", c.variable, err, r.read(c.variable))
		}
	}
	if got := r.read("GITHUB_ARTIFACTS"); got != ref+"\n" {
		t.Errorf("%q", got)
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	digest := "@sha256:" + strings.Repeat("a", 64)
	for _, ref := range []string{"layout:/a" + digest, "oci://h/r", "oci://h/r?a=b" + digest, "oci://h/r\noci://h/s" + digest, "oci://h/r" + digest + "\n"} {
		r := newRig(t)
		if err := r.Subject(ref); err != nil || r.read("GITHUB_ARTIFACTS") != "" {
			t.Errorf("%q: %v %q", ref, err, r.read("GITHUB_ARTIFACTS"))
		}
	}
}

func TestSummaryLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if got := r.SummaryLimit(); got != 900<<10 {
		t.Errorf("limit %d", got)
	}
	if err := r.Summary(strings.Repeat("x", 900<<10-1)); err != nil {
		t.Fatal(err)
	}
	if got := r.SummaryLimit(); got != 1 {
		t.Errorf("left %d", got)
	}
	if err := r.Summary("xy"); err == nil {
		t.Error("more than the limit was written")
	}
	delete(r.env, "GITHUB_STEP_SUMMARY")
	if got := r.SummaryLimit(); got != 0 {
		t.Errorf("without a page: %d", got)
	}
}

func TestInput(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	maps.Copy(r.env, map[string]string{"INPUT_DRY-RUN": "1", "INPUT_MIN_QUALITY": "2", "INPUT_EMPTY": "", "INPUT_BOTH-WAYS": "", "INPUT_BOTH_WAYS": "3"})
	for name, want := range map[string]string{"dry-run": "1", "min-quality": "2", "empty": "", "both-ways": "3", "none": ""} {
		if got, ok := r.Input(name); got != want || ok != (want != "") {
			t.Errorf("%s: %q %t", name, got, ok)
		}
	}
}

func TestNoSecrets(t *testing.T) {
	t.Parallel()
	cases := []struct {
		event, actor, payload string
		want                  string
	}{
		{"push", "", `{}`, ""},
		{"pull_request", "", `{"pull_request":{"head":{"repo":{"full_name":"a/x"}},"base":{"repo":{"full_name":"a/x"}}}}`, ""},
		{"pull_request", "", `{"pull_request":{"head":{"repo":{"full_name":"b/x"}},"base":{"repo":{"full_name":"a/x"}}}}`, "a pull request from a fork"},
		{"pull_request", "", `{"pull_request":{"head":{"repo":null},"base":{"repo":{"full_name":"a/x"}}}}`, "a pull request from a fork"},
		{"pull_request_target", "", `{"pull_request":{"head":{"repo":{"full_name":"b/x"}},"base":{"repo":{"full_name":"a/x"}}}}`, ""},
		{"pull_request", "dependabot[bot]", `{}`, "a pull request of Dependabot"},
		{"pull_request", "", `not json`, ""},
		{"pull_request", "", `{"pull_request":7}`, ""},
	}
	for _, c := range cases {
		r := newRig(t)
		path := filepath.Join(r.dir, "event.json")
		if err := os.WriteFile(path, []byte(c.payload), 0o600); err != nil {
			t.Fatal(err)
		}
		maps.Copy(r.env, map[string]string{"GITHUB_EVENT_NAME": c.event, "GITHUB_ACTOR": c.actor, "GITHUB_EVENT_PATH": path})
		if got := r.NoSecrets(); got != c.want {
			t.Errorf("%s %s %s: %q, want %q", c.event, c.actor, c.payload, got, c.want)
		}
	}
	r := newRig(t)
	r.env["GITHUB_EVENT_NAME"] = "pull_request"
	if got := r.NoSecrets(); got != "" {
		t.Errorf("without an event file: %q", got)
	}
}

func FuzzAnnotate(f *testing.F) {
	for _, text := range hostile() {
		f.Add(text[:min(len(text), 500)], text[:min(len(text), 500)])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		var out bytes.Buffer
		p := github.New(runner.Host{Lookup: func(string) (string, bool) { return "", false }, Stderr: &out})
		p.Annotate(finding.Finding{Rule: a, Severity: finding.Medium, What: b, Where: finding.Place{File: a}, Fix: a})
		got := replay(out.String())
		if len(got) != 1 || got[0].name != "warning" || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("%q %q: %q", a, b, out.String())
		}
		for k := range got[0].properties {
			if k != "title" && k != "file" {
				t.Errorf("%q %q: property %q", a, b, k)
			}
		}
	})
}

func TestHere(t *testing.T) {
	t.Parallel()
	const onRunner, container = "/home/runner/work/orders/orders", "/github/workspace"
	host := map[string]string{"GITHUB_WORKSPACE": onRunner}
	inside := map[string]string{"GITHUB_WORKSPACE": container, "RUNNER_WORKSPACE": "/home/runner/work/orders", "GITHUB_REPOSITORY": "example/orders"}
	for _, c := range []struct {
		env       map[string]string
		dir, want string
	}{
		{host, container + "/a/.ggen/state", onRunner + "/a/.ggen/state"},
		{host, onRunner + "/.ggen/state", onRunner + "/.ggen/state"},
		{host, container + "s/.ggen/state", container + "s/.ggen/state"},
		{host, ".ggen/state", ".ggen/state"},
		{inside, onRunner + "/a/.ggen/state", container + "/a/.ggen/state"},
		{inside, container + "/.ggen/state", container + "/.ggen/state"},
		{inside, "/srv/state", "/srv/state"},
		{map[string]string{"GITHUB_WORKSPACE": container}, onRunner + "/.ggen/state", onRunner + "/.ggen/state"},
		{map[string]string{}, container + "/.ggen/state", container + "/.ggen/state"},
	} {
		p := github.New(runner.Host{Lookup: func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }})
		if got := p.Here(c.dir); got != c.want {
			t.Errorf("%v: %s is %s, want %s", c.env, c.dir, got, c.want)
		}
	}
}
