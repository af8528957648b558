package gitlab_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/platform/gitlab"
	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

func newPlatform(env map[string]string) (p *gitlab.Platform, log *bytes.Buffer) {
	log = new(bytes.Buffer)
	return gitlab.New(runner.Host{
		Lookup: func(k string) (string, bool) { v, ok := env[k]; return v, ok }, Stderr: log,
		Now: func() time.Time { return time.Unix(1700000000, 0) },
	}), log
}

func TestOutput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, _ := newPlatform(map[string]string{"CI_PROJECT_DIR": dir})
	for _, o := range [][2]string{{"state", "old"}, {"dry-run", "a=b"}, {"state", "layout:.ggen/state@sha256:1"}} {
		if err := p.Output(o[0], o[1]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(dir, ".ggen", "state.env"))
	if want := "DRY_RUN=a=b\nSTATE=layout:.ggen/state@sha256:1\n"; err != nil || string(got) != want {
		t.Errorf("%v %q, want %q", err, got, want)
	}
	for what, value := range map[string]string{
		"new line": "x\nEVIL=1", "return": "x\rEVIL=1", "separator": "x\u2028EVIL=1", "NUL": "a\x00", "ANSI": "\x1b[0K",
		"invalid UTF-8": "\xff", "long": strings.Repeat("x", 5<<10+1), "long with the rest": strings.Repeat("x", 5<<10-20),
	} {
		if err := p.Output("more", value); fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, ".ggen", "state.env")); err != nil || !bytes.Equal(got, after) {
		t.Errorf("a refused value left a trace: %q", after)
	}
}

func TestOutputFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p, _ := newPlatform(map[string]string{"CI_PROJECT_DIR": dir, "ULTRAFAST_DOTENV": filepath.Join(dir, "own.env")})
	if err := p.Output("state", "x"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "own.env")); err != nil || string(got) != "STATE=x\n" {
		t.Errorf("%v %q", err, got)
	}
	for _, bad := range []string{dir, filepath.Join(dir, "missing", "file")} {
		p, _ := newPlatform(map[string]string{"ULTRAFAST_DOTENV": bad})
		if err := p.Output("state", "x"); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", bad, err)
		}
	}
	p, _ = newPlatform(nil)
	if err := p.Output("state", "x"); err != nil {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	p, log := newPlatform(nil)
	end := p.Group("market\r\x1b[0Ksection_end:1:x\r\x1b[0K")
	if _, err := p.Err().Write([]byte("a section_end:1:ultrafast\r\x1b[0K b\n")); err != nil {
		t.Fatal(err)
	}
	end()
	p.Group("next")()
	if got := strings.Count(log.String(), "section_start:") + strings.Count(log.String(), "section_end:"); got != 4 {
		t.Errorf("%d markers, want 4: %q", got, log.String())
	}
	lines := strings.Split(strings.TrimRight(log.String(), "\n"), "\n")
	if !strings.HasPrefix(lines[0], "\x1b[0Ksection_start:1700000000:ultrafast_") || !strings.HasPrefix(lines[2], "\x1b[0Ksection_end:1700000000:ultrafast_") {
		t.Errorf("%q", lines)
	}
	name := func(line string) string {
		return strings.FieldsFunc(line, func(r rune) bool { return r == ':' || r == '\r' })[2]
	}
	if name(lines[0]) != name(lines[2]) || name(lines[0]) == name(lines[3]) {
		t.Errorf("sections are mixed up: %q", lines)
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	p, log := newPlatform(nil)
	p.Mask("hunter2")
	if _, err := p.Err().Write([]byte("password hunter2\n")); err != nil {
		t.Fatal(err)
	}
	if got := log.String(); got != "password ***\n" {
		t.Errorf("%q", got)
	}
}

func TestNoSecrets(t *testing.T) {
	t.Parallel()
	p, _ := newPlatform(map[string]string{"CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "b/x", "CI_MERGE_REQUEST_PROJECT_PATH": "a/x"})
	if got := p.NoSecrets(); got != "a merge request from a fork" {
		t.Errorf("%q", got)
	}
	p, _ = newPlatform(map[string]string{"CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "a/x", "CI_MERGE_REQUEST_PROJECT_PATH": "a/x"})
	if got := p.NoSecrets(); got != "" {
		t.Errorf("%q", got)
	}
}
