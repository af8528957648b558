//go:build !testcontainers

package door

import (
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// testcontainers is the docker back end, which does the same on the same engine. The
// library itself lists all processes of the machine whenever a program that links it
// starts: it is left to builds with -tags testcontainers.
func testcontainers(o docker.Options) sandbox.Backend {
	o.Log.Info("containers are created by the engine's own client; build with -tags testcontainers for testcontainers-go")
	return docker.New(o)
}
