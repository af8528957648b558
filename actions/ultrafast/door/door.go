// Package door joins the five doors in one command line and one process.
package door

import (
	deploy "github.com/ultrafast-ci/ultrafast/actions/deploy/door"
	generate "github.com/ultrafast-ci/ultrafast/actions/generate/door"
	market "github.com/ultrafast-ci/ultrafast/actions/market/door"
	validate "github.com/ultrafast-ci/ultrafast/actions/validate/door"

	cleanroom "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"

	"github.com/ultrafast-ci/ultrafast/internal/app"
)

// CLI is the command line of the binary.
type CLI struct {
	app.Globals
	Run       Run                `cmd:"" help:"Run all phases: what did not change comes from the chain."`
	Market    market.Commands    `cmd:"" help:"Find, verify and install template packages."`
	Generate  generate.Commands  `cmd:"" help:"Render templates into a source tree."`
	Cleanroom cleanroom.Commands `cmd:"" name:"cleanroom-test" help:"Build, test and package in a sandbox."`
	Validate  validate.Commands  `cmd:"" help:"Judge an image by what it does, and sign the verdict."`
	Deploy    deploy.Commands    `cmd:"" help:"Bring a judged image into an environment."`
	State     State              `cmd:"" help:"Look into a chain."`
	Replay    Replay             `cmd:"" help:"Run a phase of a chain again, and say what differs."`
}

// New returns the door.
func New() app.Door {
	return app.Door{
		Name: "ultrafast",
		Description: "Take a template package, or the code you already have, to a running, proven release: " +
			"market, generate, cleanroom-test, validate, deploy.",
		CLI: &CLI{}, KeepRoot: true,
	}
}
