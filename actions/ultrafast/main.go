// Command ultrafast runs all phases in one process. Called ggen or cleanroom it
// understands the command lines of the reference.
package main

import (
	"os"

	cleanroom "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	"github.com/ultrafast-ci/ultrafast/actions/ultrafast/door"
	"github.com/ultrafast-ci/ultrafast/actions/ultrafast/reference"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/hook"
)

func main() {
	if cleanroom.Reexec() || hook.Reexec() {
		return
	}
	d, ok := reference.Named(os.Args[0])
	if !ok {
		d = door.New()
	}
	os.Exit(app.Main(d, app.System()))
}
