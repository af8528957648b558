// Package gitlab is GitLab CI/CD, or gitlab-ci-local: outputs as a dotenv report,
// foldable sections in the log.
//
// GitLab takes findings from report files (JUnit, code quality, SAST), which are
// written by the caller; it has no command that masks a value, so secrets are
// replaced before they are written.
package gitlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Markers that GitLab's log view takes for the edges of a section.
var syntax = runner.Syntax{Anywhere: []string{"section_start:", "section_end:"}}

// Dotenv is the file with the outputs of a job, relative to the project: the value
// of artifacts:reports:dotenv. The variable ULTRAFAST_DOTENV names another.
var Dotenv = filepath.Join(".ggen", "state.env")

// Job reports whether the environment is that of a job. gitlab-ci-local sets
// GITLAB_CI to "false", so that scripts can tell it from GitLab; everything else is
// the same.
func Job(lookup runner.Lookup) bool {
	return lookup.Get("GITLAB_CI") == "true" || lookup.Get("GITLAB_CI") != "" && lookup.Get("CI_PROJECT_DIR") != ""
}

// Platform talks to the runner.
type Platform struct {
	runner.Base
	sections int
}

// New returns the platform.
func New(host runner.Host) *Platform {
	return &Platform{Base: runner.NewBase(host, syntax)}
}

// Name is "gitlab".
func (*Platform) Name() string { return "gitlab" }

// Debug reports whether the job traces.
func (p *Platform) Debug() bool { return p.Lookup.Get("CI_DEBUG_TRACE") == "true" }

// Root is the directory of the repository.
func (p *Platform) Root() string { return p.Lookup.Get("CI_PROJECT_DIR") }

// ReportDir holds junit.xml, gl-code-quality-report.json and gl-sast-report.json.
func (*Platform) ReportDir() string { return filepath.Join(".ggen", "reports") }

// Input reads INPUT_<NAME>.
func (p *Platform) Input(name string) (string, bool) { return p.Lookup.Input(name) }

// maxDotenv is GitLab's default limit of a dotenv report, in bytes.
const maxDotenv = 5 << 10

// Output writes NAME=value to the dotenv report, in place of an older value.
func (p *Platform) Output(name, value string) error {
	if err := runner.CheckOutput(name, value, maxDotenv); err != nil {
		return err
	}
	path := p.Lookup.Get("ULTRAFAST_DOTENV")
	if path == "" {
		root := p.Root()
		if root == "" {
			return nil
		}
		path = filepath.Join(root, Dotenv)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "output "+name)
		}
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(err, fault.Unavailable, "", "output "+name)
	}
	key := strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "="
	var b strings.Builder
	for line := range strings.Lines(string(old)) {
		if !strings.HasPrefix(line, key) {
			b.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		}
	}
	b.WriteString(key + value + "\n")
	if b.Len() > maxDotenv {
		return fault.New(fault.Usage, "shorten it, for example by a shorter store path", "output %s: the dotenv report has %d bytes; at most %d are allowed", name, b.Len(), maxDotenv)
	}
	return fault.Wrap(runner.WriteFile(path, b.String()), fault.Unavailable, "", "output "+name)
}

// Group folds lines of the log. A section has a name of its own in its job.
func (p *Platform) Group(title string) (end func()) {
	p.sections++
	name := fmt.Sprintf("ultrafast_%d_%d", os.Getpid(), p.sections)
	mark := func(edge, options string) string {
		return fmt.Sprintf("\x1b[0Ksection_%s:%d:%s%s\r\x1b[0K", edge, p.Now().Unix(), name, options)
	}
	p.Command(mark("start", "") + plain(title))
	return sync.OnceFunc(func() { p.Command(mark("end", "")) })
}

// plain returns s without what could mark a section.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == ':' {
			return ' '
		}
		return r
	}, s)
}

// Protected goes by the rules for the ref; a merge request is never one.
func (p *Platform) Protected() bool {
	return p.Lookup.Get("CI_COMMIT_REF_PROTECTED") == "true" && p.Lookup.Get("CI_MERGE_REQUEST_IID") == ""
}

// NoSecrets tells of merge requests from forks, which get no protected variables.
func (p *Platform) NoSecrets() string {
	source, target := p.Lookup.Get("CI_MERGE_REQUEST_SOURCE_PROJECT_PATH"), p.Lookup.Get("CI_MERGE_REQUEST_PROJECT_PATH")
	if source != "" && target != "" && source != target {
		return "a merge request from a fork"
	}
	return ""
}
