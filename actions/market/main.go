// Command market resolves, verifies and installs template packages.
package main

import (
	"os"

	"github.com/ultrafast-ci/ultrafast/actions/market/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
)

func main() {
	os.Exit(app.Main(door.New(), app.System()))
}
