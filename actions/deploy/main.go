// Command deploy brings a judged image into an environment and moves the traffic to it.
package main

import (
	"os"

	"github.com/ultrafast-ci/ultrafast/actions/deploy/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
)

func main() {
	os.Exit(app.Main(door.New(), app.System()))
}
