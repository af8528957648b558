// Command validate judges an image and the tree it was built from, and signs the verdict.
package main

import (
	"os"

	"github.com/ultrafast-ci/ultrafast/actions/validate/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
)

func main() {
	if embedded.Reexec() {
		return
	}
	os.Exit(app.Main(door.New(), app.System()))
}
