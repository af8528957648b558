package generate

import (
	"errors"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

func TestCleanPathAccepts(t *testing.T) {
	t.Parallel()
	for to, want := range map[string]string{
		"main.go":                  "main.go",
		"a/b/c.txt":                "a/b/c.txt",
		"./a//b/./c":               "a/b/c",
		"Straße/日本語.md":            "Straße/日本語.md",
		"with space/file name.txt": "with space/file name.txt",
		".gitignore":               ".gitignore",
		".github/dependabot.yml":   ".github/dependabot.yml",
		"git/config":               "git/config",
		"git~":                     "git~",
		"console.log":              "console.log",
		"com/lpt/x":                "com/lpt/x",
		"COM10":                    "COM10",
		"...hidden":                "...hidden",
		"Dockerfile":               "Dockerfile",
		"\u00e9.txt":               "\u00e9.txt",
	} {
		got, err := cleanPath(to, false)
		if err != nil || got != want {
			t.Errorf("cleanPath(%q) = %q, %v; want %q", to, got, err, want)
		}
	}
}

func TestCleanPathRefuses(t *testing.T) {
	t.Parallel()
	for to, why := range map[string]string{
		"":                              "empty",
		"  \t":                          "empty",
		"/etc/passwd":                   "absolute",
		"//server/share":                "absolute",
		".":                             "itself",
		"./.":                           "itself",
		"a/":                            "directory",
		"..":                            `".."`,
		"../x":                          `".."`,
		"a/../../x":                     `".."`,
		"a/../b":                        `".."`,
		`a\b`:                           "backslash",
		`..\x`:                          "backslash",
		"a\x00b":                        "control",
		"a\nb":                          "control",
		"a\x7f":                         "control",
		"a\u0085":                       "control",
		".g\u200cit/hooks/x":            "invisible",
		"x\u202egpj.exe":                "invisible",
		"\xff":                          "UTF-8",
		"a/e\u0301.txt":                 `it is "a/e\u0301.txt" where that has "a/\u00e9.txt"`,
		"\u212b":                        "NFC", // the sign of the angstrom is the letter
		".git\ufe0f/config":             ".git",
		"C:/x":                          "Windows",
		"a:stream":                      "Windows",
		"what?":                         "Windows",
		"a/*/b":                         "Windows",
		"<a>":                           "Windows",
		"con":                           "device",
		"a/NUL.txt":                     "device",
		"lpt1":                          "device",
		"COM¹.log":                      "device",
		"aux .txt":                      "device",
		"CONIN$":                        "device",
		"x/ y":                          "blank",
		"x/y ":                          "blank",
		"dot.":                          "dot",
		".git.":                         "dot",
		".../x":                         "dot",
		".git":                          ".git",
		".GIT/config":                   ".git",
		"sub/.Git/hooks/post-commit":    ".git",
		"GIT~1/config":                  "short name",
		"a/.ggen/state":                 ".ggen",
		".cleanroom":                    ".cleanroom",
		".CLEANROOM/x":                  ".cleanroom",
		".cleanroo\u0212m":              "", // accepted: another letter, not another case
		strings.Repeat("a/", 512) + "a": "1025 bytes",
		strings.Repeat("x", 256):        "256 bytes",
	} {
		got, err := cleanPath(to, true)
		if why == "" {
			if err != nil {
				t.Errorf("cleanPath(%q): %v", to, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("cleanPath(%q) = %q, %v; want an error about %q", to, got, err, why)
		}
	}
}

func TestCleanPathNeedsCI(t *testing.T) {
	t.Parallel()
	for _, to := range []string{".github/workflows/ci.yml", ".GitHub/Workflows/x", "sub/.github/workflows/x", ".gitlab-ci.yml", ".tekton/run.yaml", "a/.Tekton/x"} {
		if _, err := cleanPath(to, false); !errors.Is(err, errNeedsCI) {
			t.Errorf("cleanPath(%q) = %v; want errNeedsCI", to, err)
		}
		if _, err := cleanPath(to, true); err != nil {
			t.Errorf("cleanPath(%q, allowed) = %v", to, err)
		}
	}
}

func TestPlanCollisions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{"a", "b", "c/d", "c/e", "c/f/g"}, ""},
		{[]string{"x/a", "x/a"}, "two templates write x/a"},
		{[]string{"README.md", "Readme.md"}, "differ only in case"},
		{[]string{"ſ", "S"}, "differ only in case"}, // U+017F folds to s
		{[]string{"Lib/a", "lib/b"}, "Lib differ only in case"},
		{[]string{"Stra\u00dfe", "STRASSE"}, "differ only in case"},
		{[]string{"\u00c9", "\u00e9"}, "differ only in case"},
		{[]string{"a", "a/b"}, "a is both a file and a folder"},
		{[]string{"a/b/c", "a/B"}, "differ only in case"},
		{[]string{"../a"}, `".."`},
		{[]string{"kept", "kept.backup"}, "kept would be kept as kept.backup"},
		{[]string{"kept", "KEPT.Backup/x"}, "kept would be kept as KEPT.Backup"},
		{[]string{".git/x"}, "never a target"},
	} {
		p := &Plan{}
		for i, name := range c.paths {
			p.Files = append(p.Files, File{Path: name, Backup: name == "kept", Template: "pkg:" + string(rune('a'+i)) + ".tmpl"})
		}
		err := p.finish()
		switch {
		case c.want == "" && err != nil, c.want != "" && err == nil, err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%v: %v; want %q", c.paths, err, c.want)
		case err != nil && len(c.paths) == 2 && (!strings.Contains(err.Error(), "pkg:a.tmpl") || !strings.Contains(err.Error(), "pkg:b.tmpl")):
			t.Errorf("%v: %v; want both templates named", c.paths, err)
		}
	}
}

// TestFold holds fold against the foldings of Unicode, rune by rune.
func TestFold(t *testing.T) {
	t.Parallel()
	full := cases.Fold()
	for r := range rune(0x20000) { // no letter above has a case
		s := string(r)
		for _, same := range []string{full.String(s), norm.NFC.String(s), norm.NFD.String(s)} {
			if r != utf8.RuneError && fold(s) != fold(same) {
				t.Errorf("%+q folds to %+q, and %+q to %+q", s, fold(s), same, fold(same))
			}
		}
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, seed := range []string{"a/b", "../x", ".git/x", "a/./b", "con.txt", ".g\u200cit", "a\\b", "GIT~1", "..0", "/", "x/", "", ".GitHub/workflows/x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, to string) {
		clean, err := cleanPath(to, false)
		if err != nil {
			return
		}
		if clean != path.Clean(clean) || path.IsAbs(clean) || clean == "." || strings.HasPrefix(clean, "../") {
			t.Fatalf("cleanPath(%q) = %q, which is not clean", to, clean)
		}
		for component := range strings.SplitSeq(strings.ToLower(clean), "/") {
			if component == ".git" || component == ".ggen" || component == ".cleanroom" || component == ".." {
				t.Fatalf("cleanPath(%q) = %q", to, clean)
			}
		}
		if again, err := cleanPath(clean, false); err != nil || again != clean {
			t.Fatalf("cleanPath(%q) = %q, and of that %q, %v", to, clean, again, err)
		}
	})
}
