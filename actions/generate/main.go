// Command generate renders templates over a graph into a source tree.
package main

import (
	"os"

	"github.com/ultrafast-ci/ultrafast/actions/generate/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
)

func main() {
	os.Exit(app.Main(door.New(), app.System()))
}
