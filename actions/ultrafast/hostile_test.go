package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/platform/runner/runnertest"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// outcome is what a command left behind.
type outcome struct {
	code           int
	stdout, stderr string
	dir            string // where it ran
}

// platforms are those that a command may run on, with the variables of each.
func platformEnv(platform, dir string) map[string]string {
	env := map[string]string{"ULTRAFAST_PLATFORM": platform, "HOME": filepath.Join(dir, "home"), "XDG_CACHE_HOME": filepath.Join(dir, "cache"), "LANG": "C.UTF-8"}
	switch platform {
	case "github":
		maps.Copy(env, map[string]string{
			"GITHUB_OUTPUT": filepath.Join(dir, "ci", "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "ci", "summary.md"),
			"GITHUB_ENV": filepath.Join(dir, "ci", "env"), "GITHUB_PATH": filepath.Join(dir, "ci", "path"), "GITHUB_STATE": filepath.Join(dir, "ci", "state"),
			"GITHUB_WORKSPACE": dir,
		})
	case "gitlab":
		env["CI_PROJECT_DIR"] = dir
	case "tekton":
		env["ULTRAFAST_RESULTS_DIR"] = filepath.Join(dir, "ci")
	}
	return env
}

var platforms = []string{"github", "gitlab", "tekton", "local"}

// runIn runs a command in a directory of its own that is made of files, and checks
// what it leaves there.
func runIn(t *testing.T, newDoor func() app.Door, platform string, data bool, files, env map[string]string, args ...string) (outcome, error) {
	t.Helper()
	outer, err := os.MkdirTemp("", "hostile-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(outer)
	// Paths of flags are relative to the process; none may lead out of outer.
	dir := filepath.Join(outer, "a", "b", "c", "d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, sub := range []string{"home", "cache", "ci"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all := platformEnv(platform, dir)
	maps.Copy(all, env)
	var stdout, stderr bytes.Buffer
	code := app.Main(newDoor(), app.OS{
		Args: args, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Dir: dir, Now: time.Now,
		Lookup: func(k string) (string, bool) { v, ok := all[k]; return v, ok },
		Environ: func() (list []string) {
			for k, v := range all {
				list = append(list, k+"="+v)
			}
			return list
		},
	})
	got := outcome{code, stdout.String(), stderr.String(), dir}
	return got, innocent(platform, got, data)
}

// ownCommands are the commands that a run may give to GitHub's runner.
var ownCommands = []string{"error", "warning", "notice", "group", "endgroup", "add-mask"}

// ownMark is the edge of a section as the GitLab platform writes it.
var ownMark = regexp.MustCompile(`\x1b\[0Ksection_(start|end):[0-9]+:ultrafast_[0-9]+_[0-9]+\r\x1b\[0K`)

// masks name a secret to the runner, byte for byte.
var masks = regexp.MustCompile(`(?m)^::add-mask::.*$`)

// innocent checks that nothing of what a run left was taken from outside for
// something else than text. With data the standard output is a document whose bytes
// are the user's own.
func innocent(platform string, got outcome, data bool) error {
	if got.code == 4 {
		return fmt.Errorf("an internal error: %.600s", got.stderr)
	}
	if platform == "github" {
		for _, log := range []string{got.stdout, got.stderr} {
			for _, c := range runnertest.GitHub(log) {
				if !slices.Contains(ownCommands, c.Name) {
					return fmt.Errorf("the runner understands %.200q", c.Line)
				}
			}
		}
	}
	if platform == "gitlab" {
		for _, name := range runnertest.GitLab(got.stdout + "\n" + got.stderr) {
			if !strings.HasPrefix(name, "ultrafast_") {
				return fmt.Errorf("section %.200q", name)
			}
		}
	}
	if at := runnertest.Terminal(masks.ReplaceAllString(ownMark.ReplaceAllString(got.stderr, ""), "")); at != "" {
		return fmt.Errorf("on standard error: %s", at)
	}
	if at := runnertest.Terminal(got.stdout); at != "" && !data {
		return fmt.Errorf("on standard output: %s", at)
	}
	return left(got.dir)
}

var stateRef = regexp.MustCompile(`^[^\x00-\x1f\x7f]+@sha256:[0-9a-f]{64}$`)

// left checks the files that a run may leave for its platform.
func left(dir string) error {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return ""
		}
		return string(b)
	}
	for _, file := range []string{"env", "path"} {
		if read(filepath.Join("ci", file)) != "" {
			return fmt.Errorf("the file for %s was written", file)
		}
	}
	outputs, err := runnertest.Outputs(read(filepath.Join("ci", "output")))
	if err != nil {
		return fmt.Errorf("outputs: %w", err)
	}
	for line := range strings.Lines(read(filepath.Join(".ggen", "state.env"))) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		outputs[strings.ToLower(name)] = value
	}
	if result := read(filepath.Join("ci", "state")); result != "" {
		outputs["state"] = result
	}
	for name, value := range outputs {
		if name != "state" || !stateRef.MatchString(value) {
			return fmt.Errorf("output %.100q=%.100q", name, value)
		}
	}
	if err := runnertest.Page(read(filepath.Join("ci", "summary.md"))); err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	reports, err := os.ReadDir(filepath.Join(dir, ".ggen", "reports"))
	if err != nil {
		return nil
	}
	for _, r := range reports {
		if err := runnertest.Report(r.Name(), []byte(read(filepath.Join(".ggen", "reports", r.Name())))); err != nil {
			return fmt.Errorf("report %s: %w", r.Name(), err)
		}
	}
	return nil
}

// project are files with which most verbs get far enough to use their flags. The
// index is a directory: nothing asks the network.
var project = map[string]string{
	"ggen.toml": "[project]\nname = \"tiny\"\nversion = \"1.0.0\"\n[market]\nindex = \"registry\"\n",
	"registry/index.json": `{"version":"1.0","packages":[{"id":"tiny","name":"Tiny","version":"1.0.0","description":"d","tags":["go"],"quality_score":50,
		"templates":[],"versions":{"1.0.0":{"path":"packages/tiny","sha256":"3c9a8134acac99ff7f9bfb7400c3988c21a1466708fbe75e46e08a87a4001d5a"}}}]}`,
	"pkg/gpack.toml":                "[gpack]\nid = \"pkg\"\nname = \"P\"\nversion = \"1.0.0\"\ndescription = \"d\"\nlicense = \"MIT\"\n",
	"pkg/templates/a.txt.tmpl":      "---\nto: a.txt\n---\nhello {{ who | default(value=\"you\") }}\n",
	"file":                          "<http://example.com/s> <http://example.com/p> \"o\" .\n",
	"data.ttl":                      "<http://example.com/s> <http://example.com/p> \"o\" .\n",
	"query.rq":                      "SELECT ?s WHERE { ?s ?p ?o }\n",
	".ggen/deploy/development/keep": "",
}

// base are the arguments with which a verb does something.
var base = map[string][]string{
	"generate template": {"--template=pkg:*", "--package=pkg"},
	"generate query":    {"--query=query.rq", "--data=data.ttl"},
	"generate shapes":   {"--data=data.ttl", "--shapes=data.ttl"},
	"generate render":   {"--template=file"},
	"generate list":     {"--package=pkg"},
	"generate show":     {"--package=pkg", "pkg:*"},
	"market search":     {"tiny"},
	"market info":       {"tiny"},
	"validate keygen":   {"--output-dir=keys"},
	// What a command prints is its own: it gets nothing to print.
	"cleanroom-test exec": {"true"},
}

// serves are verbs that go on until they are told to stop.
var serves = []string{"router run", "supervise"}

// printsData are verbs whose standard output is a document in the user's own bytes.
var printsData = []string{"query", "render", "shapes"}

func without(args []string, flag string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "--"+flag+"=") })
}

// TestHostileFlags gives every flag and argument of every verb of every door hostile
// values, on the command line, as the CI system's input and as a variable, on every
// platform. Nothing is interpreted, nothing is a bug, nothing hangs. Without
// ULTRAFAST_LONG it makes every eighth of these calls.
func TestHostileFlags(t *testing.T) {
	values := slices.Sorted(maps.Keys(runnertest.Hostile))
	runs := 0
	for name, newDoor := range doors {
		if strings.HasPrefix(name, "ultrafast-") {
			continue // the joined door has the same structs
		}
		verbs, globals := verbsOf(newDoor())
		for n, v := range verbs {
			if slices.ContainsFunc(serves, func(s string) bool { return strings.HasSuffix(v.String(), s) }) {
				continue
			}
			params := slices.Concat(v.flags, v.args)
			if n == 0 {
				params = slices.Concat(params, globals)
			}
			t.Run(name+" "+v.String(), func(t *testing.T) {
				for i, p := range params {
					if p.kind.Kind() == reflect.Bool && p.name == "version" {
						continue
					}
					isArg := i >= len(v.flags) && i < len(v.flags)+len(v.args)
					for j, value := range values {
						// Each value on one platform and by one way: over all flags
						// every value meets every platform and way many times.
						at := i + j
						if os.Getenv("ULTRAFAST_LONG") == "" && at%8 != 0 {
							continue
						}
						args, env := callOf(v, p, isArg, runnertest.Hostile[value], (i+j/len(platforms))%3)
						platform := platforms[(n+j)%len(platforms)]
						data := slices.Contains(printsData, v.words[len(v.words)-1])
						runs++
						if _, err := runIn(t, newDoor, platform, data, project, env, args...); err != nil {
							t.Errorf("%s %s %s, %q on %s: %v", name, v, p.name, value, platform, err)
						}
					}
				}
			})
		}
	}
	t.Logf("%d runs", runs)
}

// callOf returns the call of a verb with a hostile value: on the command line, as
// an input, as a variable.
func callOf(v verb, p param, isArg bool, value string, way int) (args []string, env map[string]string) {
	// A flag comes first: what follows an argument of exec is the command's own.
	args = slices.Clone(v.words)
	switch {
	case isArg || way != 0:
	case p.kind.Kind() == reflect.Map:
		args = append(args, "--"+p.name+"=key="+value)
	default:
		args = append(args, "--"+p.name+"="+value)
	}
	args = append(args, without(base[v.String()], p.name)...)
	for _, other := range v.flags {
		if other.required && other.name != p.name && !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--"+other.name+"=") }) {
			args = append(args, "--"+other.name+"=file")
		}
	}
	for _, other := range v.args {
		if other.required && other.name != p.name && len(base[v.String()]) == 0 {
			args = append(args, "file")
		}
	}
	env = map[string]string{}
	upper := strings.ToUpper(strings.ReplaceAll(p.name, "-", "_"))
	switch {
	case isArg:
		args = append(args, "--", value)
	case way == 0:
	case way == 1:
		env["INPUT_"+upper] = value
	default:
		env["GGEN_"+upper] = value
	}
	return args, env
}

// TestHostileWords misspells verbs and flags with hostile texts.
func TestHostileWords(t *testing.T) {
	for _, name := range []string{"ultrafast", "cleanroom"} {
		newDoor := doors[name]
		for key, value := range runnertest.Hostile {
			for i, args := range [][]string{{value}, {"--" + value}, {"-" + value}, {"--" + value + "=" + value}, {"deploy", value}, {"market", "add", "--" + value}} {
				platform := platforms[(i+len(key))%len(platforms)]
				got, err := runIn(t, newDoor, platform, false, nil, nil, args...)
				if got.code != 2 {
					t.Errorf("%s, %q, call %d: exit code %d", name, key, i, got.code)
				}
				if err != nil {
					t.Errorf("%s, %q, call %d on %s: %v", name, key, i, platform, err)
				}
			}
		}
	}
}

// TestHostileContent puts hostile texts into the files that verbs read. What a
// verb says of them, and prints of them, is text.
func TestHostileContent(t *testing.T) {
	quoted := func(s string) string {
		b, err := json.Marshal(strings.ToValidUTF8(s, "?"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	index := func(field string) func(string) map[string]string {
		return func(s string) map[string]string {
			entry := map[string]string{"id": `"tiny"`, "name": `"N"`, "description": `"D"`, "category": `"C"`, "license": `"L"`, "author": `"A"`}
			entry[field] = quoted(s)
			var fields []string
			for _, key := range slices.Sorted(maps.Keys(entry)) {
				fields = append(fields, fmt.Sprintf("%q: %s", key, entry[key]))
			}
			return map[string]string{"registry/index.json": `{"version":"1.0","packages":[{` + strings.Join(fields, ",") + `,"version":"1.0.0","tags":[` + quoted(s) + `],"quality_score":50,"templates":[{"name":` + quoted(s) + `,"path":"t","description":` + quoted(s) + `}],
				"versions":{"1.0.0":{"path":` + quoted(s) + `,"sha256":"3c9a8134acac99ff7f9bfb7400c3988c21a1466708fbe75e46e08a87a4001d5a"}}}]}`}
		}
	}
	one := func(name, format string) func(string) map[string]string {
		return func(s string) map[string]string {
			return map[string]string{name: strings.NewReplacer("RAW", s, "QUOTED", quoted(s)).Replace(format)}
		}
	}
	const head = "[project]\nname = \"tiny\"\nversion = \"1.0.0\"\n"
	template := []string{"generate", "template", "--package=pkg", "--template=pkg:*", "--output-dir=out"}
	for _, c := range []struct {
		name  string
		files func(string) map[string]string
		data  bool
		args  []string
	}{
		{"project, raw", one("ggen.toml", "RAW"), false, []string{"run", "--until", "generate"}},
		{"project, a key", one("ggen.toml", head+"QUOTED = 1\n"), false, []string{"run", "--until", "generate"}},
		{"project, a name", one("ggen.toml", "[project]\nname = QUOTED\nversion = QUOTED\n[market]\nindex = \"registry\"\n"), false, []string{"run", "--until", "market"}},
		{"project, a package", one("ggen.toml", head+"[market]\nindex = \"registry\"\n[packages]\nQUOTED = QUOTED\n"), false, []string{"market", "add"}},
		{"project, an index", one("ggen.toml", head+"[market]\nindex = QUOTED\n[packages]\ntiny = \"*\"\n"), false, []string{"validate", "checks"}},
		{"project, an environment", one("ggen.toml", head+"[deploy]\nenvironment = QUOTED\nstrategy = QUOTED\n"), false, []string{"deploy", "status"}},
		{"project, a listen address", one("ggen.toml", head+"[deploy]\nlisten = QUOTED\n"), false, []string{"deploy", "status"}},
		{"reference file", one(".ggen/config.toml", "[lifecycle]\ndefault_env = QUOTED\nRAW"), false, []string{"deploy", "status"}},
		{"lock", one("ggen.lock", "version = 1\n[[package]]\nid = QUOTED\nversion = QUOTED\nsha256 = QUOTED\n"), false, []string{"market", "add", "--locked", "tiny"}},
		{"lock, raw", one("ggen.lock", "RAW"), false, []string{"market", "list"}},
		{"index, raw", one("registry/index.json", "RAW"), false, []string{"market", "list"}},
		{"index, an id", index("id"), false, []string{"market", "search", "N"}},
		{"index, a name", index("name"), false, []string{"market", "search", "tiny"}},
		{"index, a description", index("description"), false, []string{"market", "search", "tiny"}},
		{"index, all of a package", index("license"), false, []string{"market", "info", "tiny"}},
		{"index, a category", index("category"), false, []string{"market", "categories"}},
		{"index, a location", index("author"), false, []string{"market", "add", "tiny"}},
		{"template, front matter", one("pkg/templates/a.txt.tmpl", "---\nto: a\nRAW\n---\nx\n"), false, template},
		{"template, a key", one("pkg/templates/a.txt.tmpl", "---\nto: a\nQUOTED: 1\n---\nx\n"), false, template},
		{"template, a target", one("pkg/templates/a.txt.tmpl", "---\nto: QUOTED\n---\nx\n"), false, template},
		{"template, a tag", one("pkg/templates/a.txt.tmpl", "---\nto: a\n---\n{{ RAW }}\n"), false, template},
		{"template, a variable", one("pkg/templates/a.txt.tmpl", "---\nto: a\n---\n{{ nosuch[QUOTED] }}{% RAW %}\n"), false, template},
		{"template, thrown", one("pkg/templates/a.txt.tmpl", "---\nto: a\n---\n{{ throw(message=QUOTED) }}\n"), false, template},
		{"template, a query", one("pkg/templates/a.txt.tmpl", "---\nto: a\nrdf_inline: [QUOTED]\nsparql:\n  q: QUOTED\n---\nx\n"), false, template},
		{"template, listed", one("pkg/templates/a.txt.tmpl", "---\nto: QUOTED\nsparql:\n  QUOTED: \"SELECT * {}\"\n---\n{{ x }}\n"), false, []string{"generate", "show", "--package=pkg", "pkg:*"}},
		{"package, raw", one("pkg/gpack.toml", "RAW"), false, template},
		{"package, an id", one("pkg/gpack.toml", "[gpack]\nid = QUOTED\nQUOTED = 1\n"), false, template},
		{"body", one("file", "{{ RAW }}"), true, []string{"generate", "render", "--template=file"}},
		{"variables", one("vars.yaml", "RAW: QUOTED\n QUOTED"), false, append(slices.Clone(template), "--vars-file=vars.yaml")},
		{"graph, raw", one("data.ttl", "RAW"), true, []string{"generate", "query", "--query=query.rq", "--data=data.ttl"}},
		{"graph, an IRI", one("data.ttl", "<RAW> a <http://example.com/C> ."), true, []string{"generate", "query", "--query=query.rq", "--data=data.ttl"}},
		{"query, raw", one("query.rq", "RAW"), true, []string{"generate", "query", "--query=query.rq", "--data=data.ttl"}},
		{"shapes", one("shapes.ttl", "@prefix sh: <http://www.w3.org/ns/shacl#> .\n<http://example.com/S> a sh:NodeShape ; sh:targetNode <http://example.com/s> ; sh:message QUOTED ; sh:property [ sh:path <http://example.com/p> ; sh:maxCount 0 ; sh:message QUOTED ] ."),
			true, []string{"generate", "shapes", "--data=data.ttl", "--shapes=shapes.ttl"}},
		{"trust root, raw", one("trust.toml", "RAW"), false, []string{"validate", "run", "--trust-root=../trust.toml"}},
		{"trust root, a key", one("trust.toml", "version = 1\n[[key]]\nname = QUOTED\npublic = QUOTED\n"), false, []string{"deploy", "run", "--trust-root=../trust.toml"}},
		{"signing key", one("key.pem", "-----BEGIN QUOTED-----\nRAW\n"), false, []string{"validate", "sign", "--key=../key.pem", "--state=layout:.ggen/state@sha256:0000000000000000000000000000000000000000000000000000000000000000"}},
		{"state, its index", one(".ggen/state/index.json", "RAW"), false, []string{"state", "show", "--state=layout:.ggen/state@sha256:0000000000000000000000000000000000000000000000000000000000000000"}},
		{"state, a manifest", func(s string) map[string]string {
			d := state.DigestOf([]byte(s))
			return map[string]string{".ggen/state/blobs/sha256/" + d.Hex(): s, "reference": string(d)}
		}, false, []string{"replay", "layout:.ggen/state@REFERENCE"}},
		{"history", one(".ggen/deploy/development/history.jsonl", "RAW"), false, []string{"deploy", "history"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for j, name := range slices.Sorted(maps.Keys(runnertest.Hostile)) {
				files := maps.Clone(project)
				args := slices.Clone(c.args)
				for file, content := range c.files(runnertest.Hostile[name]) {
					switch file {
					case "trust.toml", "key.pem":
						file = "../" + file
					case "reference":
						args[len(args)-1] = strings.ReplaceAll(args[len(args)-1], "REFERENCE", content)
						continue
					}
					files[file] = content
				}
				for k, platform := range platforms {
					if os.Getenv("ULTRAFAST_LONG") == "" && (j+k)%len(platforms) != 0 {
						continue
					}
					if got, err := runIn(t, doors["ultrafast"], platform, c.data, files, nil, args...); err != nil {
						t.Errorf("%q on %s, exit code %d: %v", name, platform, got.code, err)
					}
				}
			}
		})
	}
}

// TestHostileTests has the clean room run tests whose names, output and failures are
// hostile, with the real tools.
func TestHostileTests(t *testing.T) {
	var texts strings.Builder
	for _, name := range slices.Sorted(maps.Keys(runnertest.Hostile)) {
		if text := runnertest.Hostile[name]; len(text) < 1000 {
			fmt.Fprintf(&texts, "\t\t%q,\n", text)
		}
	}
	raw := func(to, text string) string {
		return "---\nto: " + to + "\n---\n{% raw %}" + text + "{% endraw %}\n"
	}
	files := maps.Clone(project)
	delete(files, "pkg/templates/a.txt.tmpl")
	files["pkg/templates/go.mod.tmpl"] = raw("go.mod", "module example.com/evil\n\ngo 1.26")
	files["pkg/templates/main.go.tmpl"] = raw("main.go", "package main\n\nfunc main() {}")
	files["pkg/templates/main_test.go.tmpl"] = raw("main_test.go", `package main

import (
	"fmt"
	"os"
	"testing"
)

func TestEvil(t *testing.T) {
	for _, text := range []string{
`+"`+texts.String()+`"+`	} {
		t.Run(text, func(t *testing.T) {
			fmt.Println(text)
			fmt.Fprintln(os.Stderr, text)
			t.Error(text)
		})
	}
}`)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	shared := map[string]string{"XDG_CACHE_HOME": cache} // the compiled standard library
	for _, platform := range []string{"github", "gitlab"} {
		store := "--store=layout:" + t.TempDir()
		got, err := runIn(t, doors["ultrafast"], platform, false, files, nil, "generate", "template", "--package=pkg", "--template=pkg:*", store)
		if err != nil || got.code != 0 {
			t.Fatalf("%v %s", err, got.stderr)
		}
		ref := strings.TrimSpace(got.stdout)
		got, err = runIn(t, doors["ultrafast"], platform, false, project, shared, "cleanroom-test", "run", "--min-isolation=none", "--state="+ref)
		if err != nil {
			t.Errorf("%s: %v", platform, err)
		}
		if got.code != 1 || !strings.Contains(got.stderr, "TestEvil") {
			t.Errorf("%s: exit code %d: %.2000s", platform, got.code, got.stderr)
		}
	}
}
