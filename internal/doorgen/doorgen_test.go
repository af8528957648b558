package doorgen

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/document"
)

type globals struct {
	State    string `help:"What came before."`
	StateOut string `help:"Where the state goes."`
	Project  string `type:"path" help:"Where the project is."`
}

type options struct {
	Names    []string          `arg:"" optional:"" name:"ref" twin:"name" help:"What to use, <a>|<b>."`
	Name     []string          `help:"The same as a flag, for CI inputs."`
	Vars     map[string]string `mapsep:"none" help:"Variable; may be repeated."`
	MinLevel string            `enum:",full,none" default:"" help:"Weakest: ${enum}."`
	Form     string            `enum:"text,json" default:"text" help:"Form: ${enum}."`
	NoDeps   bool              `help:"Permit $$( too."`
	MaxCPUs  float64           `name:"cpus" help:"Limit."`
	Timeout  time.Duration     `default:"5s" help:"Time."`
	VarsFile string            `type:"existingfile" required:"" help:"File."`
	JSONFile string            `hidden:"" help:"Nobody sees this."`
}

type cli struct {
	globals
	Use struct{ options } `cmd:"" help:"Use it."`
	Ask struct {
		Text string `arg:"" help:"Words."`
	} `cmd:"" help:"Ask it."`
	Odd struct {
		Channel chan int `help:"No."`
	} `cmd:"" help:"Odd."`
	Dumb struct {
		Flag bool
	} `cmd:"" help:"Dumb."`
	Double struct {
		State string `help:"Also one of the binary."`
	} `cmd:"" help:"Double."`
}

func testDoor() Door {
	return Door{
		Name: "try", Description: "Try: it.", Command: "try", Binary: "ultrafast-try", Verb: "use",
		CLI: &cli{}, Globals: []string{"state", "state-out", "project"},
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	got, err := Inputs(&cli{}, "use", []string{"state"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Input{
		{Name: "name", Help: "What to use, <a>|<b>.", Kind: Text, List: true},
		{Name: "vars", Help: "Variable; may be repeated.", Kind: Text, List: true, Map: true},
		{Name: "min-level", Help: "Weakest: , full, none.", Kind: Text, Enum: []string{"", "full", "none"}},
		{Name: "form", Help: "Form: text, json.", Kind: Text, Enum: []string{"text", "json"}, Default: "text"},
		{Name: "no-deps", Help: "Permit $( too.", Kind: Flag},
		{Name: "cpus", Help: "Limit.", Kind: Number},
		{Name: "timeout", Help: "Time.", Kind: Duration, Default: "5s"},
		{Name: "vars-file", Help: "File.", Kind: Path, Required: true},
		{Name: "state", Help: "What came before.", Kind: Text},
	}
	same := func(a, b Input) bool {
		enums := slices.Equal(a.Enum, b.Enum)
		a.Enum, b.Enum = nil, nil
		return enums && a.describe() == b.describe() && a.Name == b.Name && a.Help == b.Help && a.Kind == b.Kind &&
			a.List == b.List && a.Map == b.Map && a.Required == b.Required && a.Default == b.Default
	}
	if !slices.EqualFunc(got, want, same) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestInputsRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cli     any
		verb    string
		globals []string
		says    string
	}{
		"no pointer":       {cli{}, "use", nil, "not a pointer"},
		"nothing":          {nil, "use", nil, "not a pointer"},
		"no such verb":     {&cli{}, "sell", nil, `no verb "sell"`},
		"no such global":   {&cli{}, "use", []string{"price"}, "no flag --price"},
		"no twin":          {&cli{}, "ask", nil, "no flag --text"},
		"odd type":         {&cli{}, "odd", nil, "--channel is a chan int"},
		"no help":          {&cli{}, "dumb", nil, "--flag has no help"},
		"global and local": {&cli{}, "double", []string{"state"}, "also one of the binary"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Inputs(test.cli, test.verb, test.globals)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want one with %q", err, test.says)
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	// As kong has them: words begin at capitals, and an abbreviation is one word.
	names := map[string]string{
		"Force": "force", "MinIsolation": "min-isolation", "NoDeps": "no-deps", "JSONFile": "json-file",
		"AllowCI": "allow-ci", "URL": "url", "StateOut": "state-out",
	}
	for field, want := range names {
		if got := dashed(field); got != want {
			t.Errorf("%s: got %s, want %s", field, got, want)
		}
	}
}

// TestFilesParse reads what was written with a YAML parser.
func TestFilesParse(t *testing.T) {
	t.Parallel()
	door := testDoor()
	door.Protected, door.JUnit, door.CodeQuality, door.Sandbox = true, true, true, true
	door.Workspaces = []Workspace{{Name: "keys", Description: "Keys.", Optional: true}}
	for _, composite := range []bool{false, true} {
		door.Composite, door.Toolchain = composite, composite
		files, err := Files(door)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			for part := range strings.SplitSeq(string(text), "---\n") {
				if _, err := document.ParseYAML(name, []byte(part)); err != nil {
					t.Errorf("%v\n%s", err, part)
				}
			}
		}
	}
}

func TestAction(t *testing.T) {
	t.Parallel()
	door := testDoor()
	files, err := Files(door)
	if err != nil {
		t.Fatal(err)
	}
	action := read(t, files["actions/try/action.yml"])
	for path, want := range map[string]any{
		"inputs.vars-file.required": true,
		"inputs.form.description":   "Form: text, json. Default: text.",
		"inputs.vars.description":   "Variable; one per line.",
		"inputs.name.description":   "What to use, <a>|<b>. One per line.",
		"runs.using":                "docker",
		"runs.image":                "../../Dockerfile",
		"runs.entrypoint":           "/try",
		"outputs.state.description": outputs[0].Help,
		"description":               "Try: it.",
	} {
		if got := at(action, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if at(action, "inputs.form.default") != nil {
		t.Error("an input has a default, which hides the environment")
	}
	door.Composite = true
	if files, err = Files(door); err != nil {
		t.Fatal(err)
	}
	text := string(files["actions/try/action.yml"])
	if strings.Count(text, "run: ") != 2 || strings.Contains(text, "run: \"ultrafast-try use ${{") {
		t.Errorf("an expression in the text of a script:\n%s", text)
	}
}

func read(t *testing.T, text []byte) any {
	t.Helper()
	n, err := document.ParseYAML("generated", text)
	if err != nil {
		t.Fatal(err)
	}
	return n.Any()
}

func at(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func TestOwnNames(t *testing.T) {
	t.Parallel()
	door := testDoor()
	door.CLI = &struct {
		Use struct {
			Image string `help:"Taken."`
		} `cmd:""`
	}{}
	door.Globals = nil
	if _, err := Files(door); err == nil || !strings.Contains(err.Error(), "--image") {
		t.Errorf("got %v", err)
	}
}

func TestReadme(t *testing.T) {
	t.Parallel()
	old := "# try\n\n" + begin + "\nold\n" + end + "\n\nafter\n"
	got, err := README(testDoor(), []byte(old))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# try\n", "\n\nafter\n", `| \<a>\|\<b>. One`, "`vars-file` (required)", "| `full`, `none` |", "lines of KEY=VALUE"} {
		if !strings.Contains(strings.ReplaceAll(string(got), `What to use, `, "| "), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if again, err := README(testDoor(), got); err != nil || string(again) != string(got) {
		t.Errorf("written twice it differs, %v", err)
	}
	for _, bad := range []string{"", begin, end + begin} {
		if _, err := README(testDoor(), []byte(bad)); err == nil {
			t.Errorf("%q was taken for a README with tables", bad)
		}
	}
}

// FuzzScalar checks that any text comes back from YAML as it was.
func FuzzScalar(f *testing.F) {
	for _, s := range []string{"", "a", "no", "1.0", "a: b", "# c", "- x", "\n", "\"", "$[[ inputs.x ]]", " a", "a ", "~", ".", ".0", "0x1", "a\u2028b", "\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ToValidUTF8(s, "") != s {
			t.Skip()
		}
		n, err := document.ParseYAML("x", []byte(emit(mapping{{"k", s}})))
		if err != nil {
			t.Skipf("the parser refuses such characters: %v", err)
		}
		if got := n.Any().(map[string]any)["k"]; got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}
