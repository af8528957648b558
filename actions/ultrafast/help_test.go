package main

import (
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/app"
)

// secretName is what a flag is called that holds a secret itself.
var secretName = regexp.MustCompile(`(^|-)(password|passphrase|token|secret|credentials?)$`)

// hiddenVerbs are for this program alone.
var hiddenVerbs = []string{"deploy supervise", "supervise"}

// TestEveryVerbIsExplained: each verb has an example that begins with a command which
// is there, each flag and argument a help, and what holds a secret is a secret.
func TestEveryVerbIsExplained(t *testing.T) {
	for name, newDoor := range doors {
		verbs, _ := verbsOf(newDoor())
		for _, v := range verbs {
			if strings.Contains(strings.Join(hiddenVerbs, "|"), v.String()) {
				continue
			}
			got, err := runIn(t, newDoor, "local", false, nil, nil, append(v.words, "--help")...)
			if err != nil || got.code != 0 {
				t.Fatalf("%s %s --help: exit code %d, %v", name, v, got.code, err)
			}
			if v.help == "" {
				t.Errorf("%s %s has no help", name, v)
			}
			example := regexp.MustCompile(`(?m)^ +(?:[A-Z]+=\S*\$\()?(?:ultrafast(?:-| )?|ggen |cleanroom )[a-z-]*.*\b` + regexp.QuoteMeta(v.words[len(v.words)-1]) + `\b`)
			if !strings.Contains(got.stdout, "Example") || !example.MatchString(got.stdout) {
				t.Errorf("%s %s --help shows no example of it:\n%.400s", name, v, got.stdout)
			}
			for _, p := range v.flags {
				if secretName.MatchString(p.name) && p.kind != reflect.TypeFor[app.Secret]() {
					t.Errorf("%s %s --%s is a %s and would be printed", name, v, p.name, p.kind)
				}
			}
		}
	}
}

// slip leaves out a letter in the middle.
func slip(word string) string { return word[:len(word)/2] + word[len(word)/2+1:] }

// suggests reports whether the error names the word. Of two short words that are as
// near, list and lint for lit, either will do.
func suggests(got outcome, word string) bool {
	if got.code != 2 || !strings.Contains(got.stderr, "did you mean") {
		return false
	}
	return strings.Contains(got.stderr, `"`+word+`"`) || len(strings.TrimPrefix(word, "--")) == 4
}

// TestSpelling misspells every verb and every flag by one letter: the error names the
// right one.
func TestSpelling(t *testing.T) {
	for name, newDoor := range doors {
		verbs, globals := verbsOf(newDoor())
		for n, v := range verbs {
			for i, word := range v.words {
				if len(word) < 4 || strings.Contains(strings.Join(hiddenVerbs, "|"), v.String()) {
					continue
				}
				args := append(append([]string{}, v.words[:i]...), slip(word))
				got, _ := runIn(t, newDoor, "local", false, nil, nil, args...)
				if !suggests(got, word) {
					t.Errorf("%s %s: exit code %d: %s", name, strings.Join(args, " "), got.code, got.stderr)
				}
			}
			params := v.flags
			if n == 0 {
				params = append(params, globals...)
			}
			for _, p := range params {
				if len(p.name) < 4 {
					continue
				}
				args := append(append([]string{}, v.words...), "--"+slip(p.name)+"=x")
				got, _ := runIn(t, newDoor, "local", false, nil, nil, args...)
				if !suggests(got, "--"+p.name) {
					t.Errorf("%s %s: exit code %d: %s", name, strings.Join(args, " "), got.code, got.stderr)
				}
			}
		}
	}
}
