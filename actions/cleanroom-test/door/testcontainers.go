//go:build testcontainers

package door

import (
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	library "github.com/ultrafast-ci/ultrafast/internal/sandbox/testcontainers"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// testcontainers is the back end whose containers testcontainers-go creates.
func testcontainers(o docker.Options) sandbox.Backend { return library.New(o) }
