//go:build !testcontainers

package door

import (
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// testcontainersDoor is the program that may link the library.
const testcontainersDoor = "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test@latest"

// testcontainers is the docker back end, which does the same on the same engine. The
// library itself lists all processes of the machine whenever a program that links it
// starts: it is left to builds with -tags testcontainers.
func testcontainers(o docker.Options) sandbox.Backend {
	o.Log.Warn("containers are created by the docker back end, which asks the same of the same engine; this program does not link testcontainers-go",
		"fix", "make install TAGS=testcontainers, or CGO_ENABLED=0 go install -tags testcontainers "+testcontainersDoor+"; or write type = \"docker\"")
	return docker.New(o)
}
