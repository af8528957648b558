package runner_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/internal/platform/runner/runnertest"
)

var github = runner.Syntax{Start: "::", Anywhere: []string{"##[", "##vso["}}

func TestStreamHostile(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(runnertest.Hostile)) {
		text := runnertest.Hostile[name]
		for _, size := range []int{1, 2, 7, 4096, len(text)} {
			if size == 1 && len(text) > 1<<16 {
				continue
			}
			var out bytes.Buffer
			s := runner.NewStream(&out, github)
			for chunk := range slices.Chunk([]byte(text), size) {
				if n, err := s.Write(chunk); err != nil || n != len(chunk) {
					t.Fatal(n, err)
				}
			}
			if found := runnertest.GitHub(out.String()); len(found) > 0 {
				t.Errorf("%s, %d bytes at a time: the runner understands %.200v", name, size, found)
			}
			// Only spaces are added: nothing is lost.
			if got, want := strings.ReplaceAll(out.String(), " ", ""), strings.ReplaceAll(text, " ", ""); got != want {
				t.Errorf("%s: text changed to %.200q", name, got)
			}
		}
	}
	if len(runnertest.GitHub(runnertest.Hostile["workflow command"])) != 1 || len(runnertest.GitHub(runnertest.Hostile["older, weightless"])) != 1 {
		t.Error("the reader of this test understands nothing")
	}
}

func TestStreamSections(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := runner.NewStream(&out, runner.Syntax{Anywhere: []string{"section_start:", "section_end:"}})
	for _, text := range runnertest.Hostile {
		if _, err := s.Write([]byte(text + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if found := regexp.MustCompile(`section_(start|end):`).FindString(out.String()); found != "" {
		t.Errorf("a section marker came through")
	}
	if !strings.Contains(out.String(), "section_start :1:evil") {
		t.Error("the text of a marker was lost")
	}
}

func TestStreamLeavesOrdinaryTextAlone(t *testing.T) {
	t.Parallel()
	const text = "std::vector a::b\n  key: :value\n# heading\n## [link](x)\nC:\\x:: y\n[::1]:80\n✓ ok\n"
	var out bytes.Buffer
	if _, err := runner.NewStream(&out, github).Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if out.String() != text {
		t.Errorf("%q", out.String())
	}
}

func TestStreamCommandHasItsOwnLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := runner.NewStream(&out, github)
	for _, step := range []func() error{
		func() error { return s.Command("::group::a") },
		func() error { _, err := s.Write([]byte("half a line")); return err },
		func() error { return s.Command("::endgroup::") },
		func() error { _, err := s.Write([]byte("::error::no\n")); return err },
		func() error { return s.Command("::notice::b") },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	want := "::group::a\nhalf a line\n::endgroup::\n: :error::no\n::notice::b\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestStreamHidesSecrets(t *testing.T) {
	t.Parallel()
	secrets := []string{"hunter2hunter2", "hunter2", "multi\nline-secret\n", "ab"}
	cases := map[string]string{
		"a hunter2 b":                  "a *** b",
		"hunter2hunter2 hunter2hunter": "*** ***hunter",
		"line-secret here":             "*** here",
		"hunt":                         "hunt", // came to nothing
		"ab is too short":              "ab is too short",
		"hunter2hunter3":               "***hunter3",
	}
	for text, want := range cases {
		for size := 1; size <= len(text); size++ {
			var out bytes.Buffer
			s := runner.NewStream(&out, github)
			for _, secret := range secrets {
				s.Hide(secret)
			}
			for chunk := range slices.Chunk([]byte(text), size) {
				if _, err := s.Write(chunk); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			if out.String() != want {
				t.Errorf("%q, %d bytes at a time: %q, want %q", text, size, out.String(), want)
			}
		}
	}
}

func TestFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, c := range []struct {
		what string
		w    any
		want bool
	}{{"file", f, false}, {"null device", null, false}, {"pipe", w, true}, {"buffer", &bytes.Buffer{}, true}} {
		if got := runner.Visible(c.w); got != c.want {
			t.Errorf("%s: visible %t", c.what, got)
		}
	}
	var commands bytes.Buffer
	b := runner.NewBase(runner.Host{Stdout: f, Stderr: &commands}, github)
	if _, err := b.Out().Write([]byte("::error::x ##[y]")); err != nil {
		t.Fatal(err)
	}
	b.Command("::group::a")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "::error::x ##[y]" {
		t.Errorf("%q, %v: a file is written byte for byte", got, err)
	}
	if commands.String() != "::group::a\n" {
		t.Errorf("%q", commands.String())
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	got := runner.Secrets([]string{
		"GITHUB_TOKEN=ghs_0123456789", "MY_API_KEY=0123456789", "DB_PASSWORD=longenough", "npm-token=abcdefgh",
		"TOKEN_URL=https://example.com", "SHORT_TOKEN=abc", "KEY_FILE=/a/b", "SIGNING_KEY=/run/secrets/key", "PATH=/usr/bin:/bin", "MONKEY=bananabanana", "EMPTY_TOKEN=",
	})
	want := []string{"ghs_0123456789", "0123456789", "longenough", "abcdefgh"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzStream(f *testing.F) {
	for _, text := range runnertest.Hostile {
		f.Add([]byte(text[:min(len(text), 1000)]), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, size int) {
		var out bytes.Buffer
		s := runner.NewStream(&out, github)
		s.Hide("secret:")
		for chunk := range slices.Chunk(text, 1+(size&0xff)) {
			if _, err := s.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		if found := runnertest.GitHub(out.String()); len(found) > 0 {
			t.Errorf("%q: the runner understands %v", text, found)
		}
		if strings.Contains(strings.ReplaceAll(out.String(), " ", ""), "secret:") && !strings.Contains(string(text), " ") {
			t.Errorf("%q: the secret came through: %q", text, out.String())
		}
	})
}
