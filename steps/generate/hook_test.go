package generate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"gofmt -w main.go":         {"gofmt", "-w", "main.go"},
		"  a\t b  ":                {"a", "b"},
		`a 'b c' "d e" f\ g`:       {"a", "b c", "d e", "f g"},
		`a "" ''`:                  {"a", "", ""},
		`a'b'"c"d`:                 {"abcd"},
		`a "q\"q \\ \n" '\'`:       {"a", `q"q \ \n`, `\`},
		`a '$(x) | ; *' "|;<>*~#"`: {"a", "$(x) | ; *", "|;<>*~#"},
		`a \$x \| \*`:              {"a", "$x", "|", "*"},
		"a \\\n b":                 {"a", "b"},
		`fmt {{ name | replace(from=" ", to="") }}.go`: {"fmt", `{{ name | replace(from=" ", to="") }}.go`},
		`a "{{ b["c"] }} d"`:                           {"a", `{{ b["c"] }} d`},
		`{% if x > 1 %}a{% endif %} b#c d~e f=g`:       {`{% if x > 1 %}a{% endif %}`, "b#c", "d~e", "f=g"},
		"a\n":                                          {"a"},
		`"X=1" a`:                                      {"X=1", "a"},
	} {
		words, err := splitWords(in)
		var got []string
		for _, w := range words {
			got = append(got, w.text)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"a $(b)": `"$("`, "a `b`": "\"`\"", "a $HOME": `"$"`, `a "$(b)"`: `"$("`, "a \"`b`\"": "\"`\"",
		"a | b": `"|"`, "a || b": `"||"`, "a && b": `"&&"`, "a & b": `"&"`, "a; b": `";"`, "a > b": `">"`, "a >> b": `">>"`, "a 2>&1": `">&"`, "a < b": `"<"`,
		"(a)": `"("`, "a *.go": "'*'", "a ?": "'?'", "a [b]": "'['", "ls ~/x": "'~'", "a # b": "'#'",
		"a\nb": "more than one line", `a "b`: "not closed", "a 'b": "not closed", `a \`: "last backslash", "a {{ b": "{{ is not closed",
		"": "empty", " \n": "empty", "X=1 a": "env",
	} {
		if words, err := splitWords(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v %v, want an error with %s", in, words, err, want)
		}
	}
}

func FuzzSplitWords(f *testing.F) {
	for _, seed := range []string{"a 'b' \"c\" \\d", "{{ x }} $(", "a\nb", `"\"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words, err := splitWords(s)
		total := 0
		for _, w := range words {
			total += len(w.text)
		}
		if err == nil && (len(words) == 0 || total > len(s)) {
			t.Errorf("%q: %v", s, words)
		}
	})
}

// hookFunc is a Hooks that does what a test says over the files, and knows chmod.
type hookFunc func(argv []string, files map[string]string) error

func (f hookFunc) Run(ctx context.Context, argv []string, archive []byte) ([]byte, map[string]string, error) {
	t, err := unpack(archive)
	if err != nil {
		return nil, nil, err
	}
	files, modes := map[string]string{}, map[string]fs.FileMode{}
	for name, file := range t.files {
		files[name], modes[name] = string(file.content), file.mode
	}
	if argv[0] == "chmod" {
		modes[argv[2]] = map[string]fs.FileMode{"+x": 0o755, "-x": 0o644}[argv[1]]
	} else if err := f(argv, files); err != nil {
		return nil, nil, err
	}
	fsys := fstest.MapFS{}
	for name, content := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(content), Mode: cmp.Or(modes[name], 0o644)}
	}
	var left bytes.Buffer
	err = state.Pack(ctx, &left, fsys, nil)
	return left.Bytes(), map[string]string{"hooks.by": "test"}, err
}

// hooked runs templates, by name, with hooks, and writes the tree to a directory.
func hooked(t *testing.T, templates map[string]string, hooks Hooks) (state.Result, string, error) {
	t.Helper()
	files := fstest.MapFS{}
	var units []Unit
	for _, name := range slices.Sorted(maps.Keys(templates)) {
		files["templates/"+name] = &fstest.MapFile{Data: []byte(templates[name])}
		units = append(units, Unit{Template: "templates/" + name})
	}
	s := &Step{Units: units, Files: files, OutputDir: filepath.Join(t.TempDir(), "out"), Hooks: hooks, Options: Options{Flags: map[string]string{"name": "two words"}}}
	result, err := s.Run(t.Context(), nil, newMemory())
	return result, s.OutputDir, err
}

// TestHooksOrder: each command sees what was made before it, and the tree is of what
// they left.
func TestHooksOrder(t *testing.T) {
	var log []string
	hooks := hookFunc(func(argv []string, files map[string]string) error {
		log = append(log, fmt.Sprintf("%q %v", argv, slices.Sorted(maps.Keys(files))))
		for name := range files {
			files[name] += argv[0] + "\n"
		}
		files["by-"+argv[0]] = ""
		return nil
	})
	result, dir, err := hooked(t, map[string]string{
		"1": "---\nto: a\nsh_before: b1 {{ name }}\nsh_after: [[c1, 644, \"\"], [d1, '{{ name }}']]\n---\nA\n",
		"2": "---\nto: b\nsh: b2 {% if false %}x{% endif %} \"\"\n---\nB\n",
		"3": "---\nto: a\ninject: true\nappend: true\nsh_after: c3\n---\nmore\n",
	}, hooks)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`["b1" "two words"] []`, `["c1" "644" ""] [a by-b1]`, `["d1" "two words"] [a by-b1 by-c1]`,
		`["b2" ""] [a by-b1 by-c1 by-d1]`, `["c3"] [a b by-b1 by-b2 by-c1 by-d1]`,
	}
	if !slices.Equal(log, want) {
		t.Errorf("commands ran as\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
	for name, want := range map[string]string{"a": "A\nc1\nd1\nb2\nmore\nc3\n", "b": "B\nc3\n", "by-d1": "b2\nc3\n"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != want {
			t.Errorf("%s has %q %v, want %q", name, b, err, want)
		}
	}
	if result.Entry.Generate.Files != 7 || result.Evidence.Facts["hooks.run"] != "5" || result.Evidence.Facts["hooks.by"] != "test" {
		t.Errorf("%d files, facts %v", result.Entry.Generate.Files, result.Evidence.Facts)
	}
}

// TestHooksFail: whatever is wrong with a command, nothing is written, and the
// message says which command it was.
func TestHooksFail(t *testing.T) {
	makes := func(name, content string) hookFunc {
		return func(_ []string, files map[string]string) error { files[name] = content; return nil }
	}
	for name, c := range map[string]struct {
		front string
		hooks hookFunc
		want  string
	}{
		"failing":        {"sh: x", func([]string, map[string]string) error { return errors.New("exit code 1") }, "templates/2:3:5: sh_before of template templates/2: x: exit code 1"},
		"makes .git":     {"sh: x", makes("sub/.git/config", ""), "the command made \"sub/.git/config\""},
		"removes":        {"sh_after: x", func(_ []string, files map[string]string) error { delete(files, "second"); return nil }, "sh_after of template templates/2: x: the command removed second"},
		"not composed":   {"sh: x", makes("e\u0301", ""), "NFC"},
		"makes .ggen":    {"sh: x", makes(".ggen/config.toml", ""), ".ggen"},
		"makes pipeline": {"sh: x", makes(".gitlab-ci.yml", ""), "CI pipeline"},
		"case":           {"sh: x", makes("First", ""), "differ only in case, which some file systems take for one name: templates/1 (templates/1:2:5) and sh_before of templates/2 (templates/2:3:5)"},
		"in the way":     {"sh: x", makes("second", ""), "a command has made second"},
		"region":         {"sh_after: x", makes("second", "other\n"), "changed the frozen region"},
		"pipe":           {"sh: a | b", nil, `"|" is for a shell`},
		"no command":     {"sh: '{{ empty }}'\nvars: {empty: ''}", nil, "has no name"},
		"a map":          {"sh: {a: b}", nil, "a command, or an array"},
		"mixed":          {"sh: [[a], b]", nil, "an array of arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir, err := hooked(t, map[string]string{
				"1": "---\nto: first\n---\n1\n",
				"2": "---\nto: second\n" + c.front + "\n---\n{% startfreeze id=\"r\" %}kept{% endfreeze %}\n",
			}, c.hooks)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %s", err, c.want)
			}
			if strings.Contains(c.want, "has made") && !strings.Contains(fault.HintOf(err), "what the command makes") {
				t.Errorf("hint %q", fault.HintOf(err))
			}
			if strings.Contains(c.want, "shell") && !strings.Contains(fault.HintOf(err), "array") {
				t.Errorf("hint %q", fault.HintOf(err))
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("something was written: %v", err)
			}
		})
	}
}

// TestHooksModes: a file is as executable as the last command left it, in the
// directory and in the plan that is read from the chain.
func TestHooksModes(t *testing.T) {
	if !keepsModes {
		t.Skip("this system has no such bit")
	}
	made := hookFunc(func(argv []string, files map[string]string) error {
		files[argv[0]] = "#!/bin/sh\n"
		return nil
	})
	templates := map[string]string{
		"1": "---\nto: plain\nsh_after: chmod +x plain\n---\nx\n",
		"2": "---\nto: script\nsh_after: chmod -x script\n---\n#!/bin/sh\n",
		"3": "---\nto: late\nsh_after: [[late], [made]]\n---\nx\n",
		"4": "---\nto: off\nsh_after: [[off], [chmod, -x, off]]\n---\nx\n",
	}
	files := fstest.MapFS{}
	s := &Step{Files: files, OutputDir: filepath.Join(t.TempDir(), "out"), Hooks: made}
	for _, name := range slices.Sorted(maps.Keys(templates)) {
		files["templates/"+name] = &fstest.MapFile{Data: []byte(templates[name])}
		s.Units = append(s.Units, Unit{Template: "templates/" + name})
	}
	blobs := newMemory()
	result, err := s.Run(t.Context(), nil, blobs)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := PlanOf(t.Context(), &state.Link{Entry: result.Entry, Evidence: []state.Evidence{result.Evidence}}, blobs)
	if err != nil {
		t.Fatal(err)
	}
	planned := map[string]fs.FileMode{}
	for _, f := range plan.Files {
		planned[f.Path] = f.Mode
	}
	for name, want := range map[string]fs.FileMode{"plain": 0o755, "script": 0o644, "late": 0o755, "made": 0o755, "off": 0o644} {
		info, err := os.Stat(filepath.Join(s.OutputDir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want || planned[name] != want {
			t.Errorf("%s has mode %s, planned %s; want %s", name, info.Mode(), planned[name], want)
		}
	}
}

// TestHooksMoveRegions: a frozen region stays one, wherever a command moves it.
func TestHooksMoveRegions(t *testing.T) {
	templates := map[string]string{"1": "---\nto: f\nsh_after: x\n---\na\n{% startfreeze id=\"one\" %}1{% endfreeze %}\nb\n{% startfreeze id=\"two\" %}2{% endfreeze %}\n"}
	_, dir, err := hooked(t, templates, hookFunc(func(_ []string, files map[string]string) error {
		files["f"] = "header\n" + strings.ReplaceAll(files["f"], "b\n", "")
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"f": "header\na\n1\n2\n", "frozen/one": "1", "frozen/two": "2"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); string(b) != want {
			t.Errorf("%s has %q %v, want %q", name, b, err, want)
		}
	}
}

// TestHooksOff: without leave no command runs, and a finding says so.
func TestHooksOff(t *testing.T) {
	templates := map[string]string{"1": "---\nto: f\nsh: a | b\nsh_after: c\n---\nx\n"}
	result, _, err := hooked(t, templates, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f := result.Evidence.Findings; len(f) != 2 || f[0].Rule != "template-hook-off" || result.Evidence.Facts["hooks.run"] != "" {
		t.Errorf("findings %v, facts %v", f, result.Evidence.Facts)
	}
}
