// Package github is GitHub Actions, or act: inputs from INPUT_ variables, outputs and
// the summary through command files, masks, groups and annotations as workflow
// commands on standard error.
//
// It never ends the process, never panics over a missing command file, and lets no
// text from outside begin a workflow command.
package github

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Commands of the runner: "::name …::data" at the start of a line, and the older
// "##[name …]data" anywhere in it (actions/runner, ActionCommand.cs); "##vso[" is how
// that is written for the agent that the runner comes from.
var syntax = runner.Syntax{Start: "::", Anywhere: []string{"##[", "##vso["}}

// Platform talks to the runner.
type Platform struct {
	runner.Base
	mu    sync.Mutex
	shown map[string]int // annotations by type
}

// New returns the platform.
func New(host runner.Host) *Platform {
	return &Platform{Base: runner.NewBase(host, syntax), shown: map[string]int{}}
}

// Name is "github".
func (*Platform) Name() string { return "github" }

// Enter becomes the owner of the workspace, where the process is root in a container
// and another user owns it; see [Drop].
func (p *Platform) Enter(keepRoot bool) error {
	if keepRoot {
		return nil
	}
	return Drop(p.Lookup)
}

// Debug reports whether the run was started with debug logging.
func (p *Platform) Debug() bool { return p.Lookup.Get("RUNNER_DEBUG") == "1" }

// Root is the workspace.
func (p *Platform) Root() string { return p.Lookup.Get("GITHUB_WORKSPACE") }

// containerWorkspace is where the runner mounts the workspace into a container action.
const containerWorkspace = "/github/workspace"

// Here moves a directory from the workspace of a container action to that of the
// runner, or back. The runner tells a container where its own is by RUNNER_WORKSPACE,
// the directory above it, which has the name of the repository.
func (p *Platform) Here(dir string) string {
	root, other := p.Root(), containerWorkspace
	if root == containerWorkspace {
		above := p.Lookup.Get("RUNNER_WORKSPACE")
		if above == "" {
			return dir
		}
		other = path.Join(above, path.Base(p.Lookup.Get("GITHUB_REPOSITORY")))
	}
	rest, ok := strings.CutPrefix(dir, other+"/")
	if root == "" || !ok {
		return dir
	}
	return path.Join(root, rest)
}

// ReportDir is a directory that .ggen already has in the workspace.
func (*Platform) ReportDir() string { return filepath.Join(".ggen", "reports") }

// Input reads INPUT_<NAME>, with dashes or underscores.
func (p *Platform) Input(name string) (string, bool) { return p.Lookup.Input(name) }

// maxOutput is what the runner takes of all outputs of a job.
const maxOutput = 1 << 20

// Output appends to the file named by GITHUB_OUTPUT in its multi-line form, with a
// delimiter that no value can know in advance.
func (p *Platform) Output(name, value string) error {
	if err := runner.CheckOutput(name, value, maxOutput); err != nil {
		return err
	}
	path := p.Lookup.Get("GITHUB_OUTPUT")
	if path == "" {
		return nil
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return err
	}
	delimiter := "end_" + hex.EncodeToString(random[:])
	err := runner.Append(path, fmt.Sprintf("%s<<%s\n%s\n%s\n", name, delimiter, value, delimiter))
	return fault.Wrap(err, fault.Unavailable, "", "output "+name)
}

// The grammar of GITHUB_ARTIFACTS: one subject to a line, and no "=" in it, for which
// the runner fails the step (actions/runner pull request 4527).
var subject = regexp.MustCompile(`^oci://[A-Za-z0-9][A-Za-z0-9._:/-]*@sha256:[0-9a-f]{64}$`)

// Subject appends to the file named by GITHUB_ARTIFACTS, which is there on runners
// that know it. What is not in a registry is left out.
func (p *Platform) Subject(ref string) error {
	path := p.Lookup.Get("GITHUB_ARTIFACTS")
	if path == "" || !subject.MatchString(ref) {
		return nil
	}
	return fault.Wrap(runner.Append(path, ref+"\n"), fault.Unavailable, "", "name the state to the runner")
}

var (
	escapeData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	escapeProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// Mask has the runner replace the secret, and each of its lines, in all its logs.
func (p *Platform) Mask(secret string) {
	for _, line := range runner.Lines(secret) {
		p.Command("::add-mask::" + escapeData.Replace(line))
	}
}

// Group folds lines of the log.
func (p *Platform) Group(title string) (end func()) {
	p.Command("::group::" + escapeData.Replace(finding.Clean(title, maxTitle)))
	return sync.OnceFunc(func() { p.Command("::endgroup::") })
}

const (
	// maxShown is how many annotations of one type the runner keeps of a step.
	maxShown = 10
	maxTitle = 200  // bytes
	maxText  = 4000 // bytes of a line of an annotation
	maxLines = 20
)

// Annotate writes a workflow command, of each type at most ten.
func (p *Platform) Annotate(f finding.Finding) bool {
	kind := "notice"
	switch {
	case f.Severity.Gates():
		kind = "error"
	case f.Severity == finding.Medium:
		kind = "warning"
	}
	p.mu.Lock()
	p.shown[kind]++
	full := p.shown[kind] > maxShown
	p.mu.Unlock()
	if full {
		return false
	}
	properties := "title=" + property(f.Rule)
	if f.Where.File != "" {
		properties += ",file=" + property(f.Where.File)
	}
	if f.Where.Line > 0 {
		properties += fmt.Sprintf(",line=%d", f.Where.Line)
	}
	if f.Where.Column > 0 {
		properties += fmt.Sprintf(",col=%d", f.Where.Column)
	}
	lines := finding.CleanLines(f.What, maxLines, maxText)
	if f.Fix != "" {
		lines = append(lines, finding.CleanLines(f.Fix, maxLines, maxText)...)
	}
	p.Command("::" + kind + " " + properties + "::" + escapeData.Replace(strings.Join(lines, "\n")))
	return true
}

func property(s string) string { return escapeProperty.Replace(finding.Clean(s, maxTitle)) }

// maxSummary leaves room below the 1 MiB of a step: GitHub drops a larger one whole.
const maxSummary = 900 << 10

// SummaryLimit is what is left of 900 KiB.
func (p *Platform) SummaryLimit() int {
	return runner.Limit(p.Lookup.Get("GITHUB_STEP_SUMMARY"), maxSummary)
}

// Summary appends to the file named by GITHUB_STEP_SUMMARY.
func (p *Platform) Summary(markdown string) error {
	path := p.Lookup.Get("GITHUB_STEP_SUMMARY")
	if path == "" {
		return nil
	}
	if left := p.SummaryLimit(); len(markdown) > left {
		return fault.New(fault.Internal, "", "summary has %d bytes; %d are left", len(markdown), left)
	}
	return fault.Wrap(runner.Append(path, markdown), fault.Unavailable, "", "step summary")
}

// maxEvent bounds the event that is read, in bytes.
const maxEvent = 32 << 20

// Protected goes by the rules for the ref, save where an event runs it for somebody
// else's code.
func (p *Platform) Protected() bool {
	event := p.Lookup.Get("GITHUB_EVENT_NAME")
	return p.Lookup.Get("GITHUB_REF_PROTECTED") == "true" && !strings.HasPrefix(event, "pull_request") && event != "workflow_run"
}

// NoSecrets tells of pull requests from forks and of Dependabot's: both get no secrets.
func (p *Platform) NoSecrets() string {
	if p.Lookup.Get("GITHUB_EVENT_NAME") != "pull_request" {
		return ""
	}
	if p.Lookup.Get("GITHUB_ACTOR") == "dependabot[bot]" {
		return "a pull request of Dependabot"
	}
	f, err := os.Open(p.Lookup.Get("GITHUB_EVENT_PATH"))
	if err != nil {
		return ""
	}
	defer f.Close()
	var event struct {
		PullRequest struct {
			Head, Base struct {
				Repo *struct {
					FullName string `json:"full_name"`
				} `json:"repo"`
			}
		} `json:"pull_request"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxEvent)).Decode(&event); err != nil || event.PullRequest.Base.Repo == nil {
		return ""
	}
	head := event.PullRequest.Head.Repo // null when the fork was deleted
	if head == nil || head.FullName != event.PullRequest.Base.Repo.FullName {
		return "a pull request from a fork"
	}
	return ""
}
