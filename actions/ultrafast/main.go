// Command ultrafast runs all phases in one process.
package main

import (
	"os"

	"github.com/ultrafast-ci/ultrafast/actions/ultrafast/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
)

func main() {
	if embedded.Reexec() {
		return
	}
	os.Exit(app.Main(door.New(), app.System()))
}
