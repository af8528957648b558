// Command cleanroom-test builds, tests and packages a source tree in a sandbox.
package main

import (
	"os"

	"github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
)

func main() {
	if door.Reexec() {
		return
	}
	os.Exit(app.Main(door.New(), app.System()))
}
