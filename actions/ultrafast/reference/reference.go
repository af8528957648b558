// Package reference holds the command lines of the reference, word for word: what
// the binary understands when it is called ggen or cleanroom.
//
// Each verb is one of our own under another spelling. There, --env, --profile and
// --output mean what they mean in the reference, which differs from verb to verb; in
// our own tree each has one meaning. A verb that is not built yet says so and what to
// use instead; it does no half of its work.
package reference

import (
	"path/filepath"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Named returns the door that answers to the name of a program, or false if it is
// none of the reference's.
func Named(program string) (app.Door, bool) {
	switch strings.TrimSuffix(filepath.Base(program), ".exe") {
	case "ggen":
		return app.Door{
			Name:        "ggen",
			Description: "Find template packages and generate from them: the command lines of ggen, for which `ultrafast` has more verbs.",
			CLI:         &Ggen{}, KeepRoot: true,
		}, true
	case "cleanroom":
		return app.Door{
			Name:        "cleanroom",
			Description: "Test in environments of their own: the command lines of cleanroom, for which `ultrafast cleanroom-test` has more verbs.",
			CLI:         &Cleanroom{}, KeepRoot: true,
		}, true
	default:
		return app.Door{}, false
	}
}

// Globals are the flags of every verb. --output and --version are not among them:
// some verbs have these names for something else.
type Globals struct {
	Project  string `short:"C" type:"path" placeholder:"DIR" help:"Directory of the project; ggen.toml is looked for here and above."`
	Store    string `placeholder:"URL" help:"State store, layout:DIR or oci://host/repository. Default: layout:.ggen/state below the project."`
	State    string `placeholder:"REF" help:"State to go on from, <store>@sha256:<digest>."`
	Color    string `enum:"auto,always,never" default:"auto" help:"Colour: ${enum}."`
	Progress string `enum:"auto,plain,quiet" default:"auto" help:"Progress on standard error: ${enum}."`
	LogLevel string `enum:"debug,info,warn,error" default:"warn" help:"Log to standard error from this level on: ${enum}."`

	ours app.Globals
}

// GlobalFlags returns the flags that commands of our own read.
func (g *Globals) GlobalFlags() *app.Globals { return &g.ours }

// AfterApply hands the flags on when they are parsed.
func (g *Globals) AfterApply() error {
	g.ours = app.Globals{
		Project: g.Project, Store: g.Store, State: g.State, Output: "text", Color: g.Color, Progress: g.Progress, LogLevel: g.LogLevel,
	}
	return nil
}

// Format is the flag that chooses the form of a result.
type Format struct {
	Output string `enum:"text,json,table" default:"text" placeholder:"FORMAT" help:"Form of the result: ${enum}."`
}

// apply has the commands of our own print in that form.
func (f Format) apply(a *app.App) { a.Output = f.Output }

// unbuilt is the answer of a verb that is not there yet.
func unbuilt(verb, instead string) error {
	return fault.New(fault.Usage, instead, "%s is not built yet", verb)
}
