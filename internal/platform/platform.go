// Package platform is what a CI system, or none, offers to a run: inputs, outputs,
// masks, groups, annotations, a summary page. Each system is a subpackage's worth of
// rules behind one interface; a phase never learns which one it runs on.
//
// No text from outside becomes a command of the system: everything that a run
// prints passes through a stream that breaks what would be one.
package platform

import (
	"io"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/platform/github"
	"github.com/ultrafast-ci/ultrafast/internal/platform/gitlab"
	"github.com/ultrafast-ci/ultrafast/internal/platform/local"
	"github.com/ultrafast-ci/ultrafast/internal/platform/runner"
	"github.com/ultrafast-ci/ultrafast/internal/platform/tekton"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Host is what a platform gets from the process that it is in.
type Host = runner.Host

// Platform is one CI system, or the machine of a person.
type Platform interface {
	// Name is "local", "github", "gitlab" or "tekton".
	Name() string
	// Enter prepares the process, before any input is read: in a container action
	// it becomes the owner of the workspace, unless keepRoot says that the phase
	// needs its privileges.
	Enter(keepRoot bool) error
	// Out and Err are where results and progress are written.
	Out() io.Writer
	Err() io.Writer
	// Flush writes what the two kept back. It is called when all is written.
	Flush() error
	// Debug reports whether the system was asked for debug logs.
	Debug() bool
	// Root is the directory of the repository, absolute; empty where not known.
	// Paths of annotations and reports are relative to it.
	Root() string
	// Here returns a directory that another step of the job has named, as this one sees
	// it: a container may have the workspace at a path of its own.
	Here(dir string) string

	// Input returns the input called name (in kebab case) and whether it was
	// given; an empty input counts as not given.
	Input(name string) (string, bool)
	// NoSecrets says why this run was given no secrets, in a few words such as
	// "a pull request from a fork"; empty where it may have got them.
	NoSecrets() string

	// Protected reports whether the system vouches for the code of this run: a
	// branch or tag on which not everybody may write. Such a run reuses no result of
	// one that is not.
	Protected() bool

	// Output hands a value to later jobs. A value with a line break, another
	// control character or invalid UTF-8 is refused on every platform, since
	// some cannot carry it. A file that cannot be written is an error of kind
	// fault.Unavailable; no file at all means that nobody listens, and is none.
	Output(name, value string) error
	// Subject names a result by "oci://…@sha256:…" to systems that keep track of
	// what a job made; others ignore it.
	Subject(ref string) error
	// Mask hides a secret in every log that follows.
	Mask(secret string)
	// Group folds what is written up to the call of end, which must come before
	// the next Group.
	Group(title string) (end func())
	// Annotate shows a finding beside the code and reports whether it did: systems
	// take so many and no more.
	Annotate(f finding.Finding) bool
	// SummaryLimit is how many bytes Summary takes now; zero where there is no
	// summary page. Summary adds Markdown to it.
	SummaryLimit() int
	Summary(markdown string) error
	// ReportDir is where report files are written if nobody names a directory,
	// relative to the working directory; empty for nowhere.
	ReportDir() string
}

// Variable overrides what the environment tells of the platform.
const Variable = "ULTRAFAST_PLATFORM"

// Detect returns the platform that the environment tells of. An unknown name in
// [Variable] is an error of kind fault.Usage, and the platform is local.
func Detect(host Host) (Platform, error) {
	name := host.Lookup.Get(Variable)
	switch {
	case name != "":
	case host.Lookup.Get("GITHUB_ACTIONS") == "true":
		name = "github"
	case gitlab.Job(host.Lookup):
		name = "gitlab"
	case tekton.Home(host.Lookup):
		name = "tekton"
	}
	switch name {
	case "github":
		return github.New(host), nil
	case "gitlab":
		return gitlab.New(host), nil
	case "tekton":
		return tekton.New(host), nil
	case "", "local":
		return local.New(host), nil
	}
	known := []string{"local", "github", "gitlab", "tekton"}
	hint := fault.DidYouMean(name, known)
	if hint == "" {
		hint = "write one of " + strings.Join(known, ", ")
	}
	return local.New(host), fault.New(fault.Usage, hint, "%s: unknown platform %q", Variable, name)
}
