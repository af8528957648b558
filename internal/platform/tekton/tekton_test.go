package tekton_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/internal/platform/tekton"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func newPlatform(env map[string]string) (p *tekton.Platform, log *bytes.Buffer) {
	log = new(bytes.Buffer)
	return tekton.New(runner.Host{Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }, Stderr: log}), log
}

func TestOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, _ := newPlatform(map[string]string{tekton.ResultsVariable: dir})
	const ref = "oci://host/repo@sha256:1"
	for range 3 { // the last counts
		if err := p.Output("state", ref); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "state")); err != nil || string(got) != ref {
		t.Errorf("%v %q: no line break may follow the value", err, got)
	}
	for what, value := range map[string]string{"new line": "a\nb", "end of line": "a\n", "invalid UTF-8": "\xff", "long": strings.Repeat("x", 3841)} {
		if err := p.Output("other", value); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, name := range []string{"../state", "a/b", "..", ""} {
		if err := p.Output(name, "x"); err == nil {
			t.Errorf("result %q was taken", name)
		}
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v %v: a refused result left a trace", files, err)
	}
}

// TestLimitIsShared: all results of a step travel in one message.
func TestLimitIsShared(t *testing.T) {
	t.Parallel()
	p, _ := newPlatform(map[string]string{tekton.ResultsVariable: t.TempDir()})
	for i, want := range []bool{true, true, false} {
		if err := p.Output("r"+string(rune('a'+i)), strings.Repeat("x", 1880)); (err == nil) != want {
			t.Errorf("result %d: %v", i, err)
		}
	}
}

func TestUnwritable(t *testing.T) {
	t.Parallel()
	p, _ := newPlatform(map[string]string{tekton.ResultsVariable: filepath.Join(t.TempDir(), "missing")})
	if err := p.Output("state", "x"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("%v", err)
	}
	p, _ = newPlatform(nil)
	if err := p.Output("state", "x"); err != nil {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestHome(t *testing.T) {
	t.Parallel()
	for home, want := range map[string]bool{"/tekton/home": true, "/tekton": true, "/tektonic": false, "/root": false, "": false} {
		lookup := func(k string) (string, bool) { return map[string]string{"HOME": home}[k], true }
		if got := tekton.Home(lookup); got != want {
			t.Errorf("HOME=%s: %t", home, got)
		}
	}
}
