// Package platform is what a CI system, or none, offers to a run: inputs, outputs,
// masks, annotations. Each system is a subpackage's worth of rules behind one
// interface; a phase never learns which one it runs on.
package platform

import (
	"io"

	"github.com/ultrafast-ci/ultrafast/internal/platform/github"
	"github.com/ultrafast-ci/ultrafast/internal/platform/local"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// Platform is one CI system, or the machine of a person.
type Platform interface {
	// Name is "local" or "github".
	Name() string
	// Input returns the input called name (in kebab case) and whether it was
	// given; an empty input counts as not given.
	Input(name string) (string, bool)
	// Output hands a value to later jobs. It must have no line break.
	Output(name, value string) error
	// Annotate shows a finding where the platform shows such things.
	Annotate(f finding.Finding)
}

// Detect returns the platform that the environment tells of. Commands to it go to w.
func Detect(lookup func(string) (string, bool), w io.Writer) Platform {
	if v, _ := lookup("GITHUB_ACTIONS"); v == "true" {
		return &github.Platform{Lookup: lookup, Commands: w}
	}
	return local.Platform{}
}
