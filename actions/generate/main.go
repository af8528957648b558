// Command generate renders templates over a graph into a source tree.
package main

import (
	"os"

	"github.com/ultrafast-ci/ultrafast/actions/generate/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/hook"
)

func main() {
	if embedded.Reexec() || hook.Reexec() {
		return
	}
	os.Exit(app.Main(door.New(), app.System()))
}
