// Package testcontainers is the back end of container engines, see package docker, whose
// containers are created through testcontainers-go: for those whose machines, policies
// or settings (.testcontainers.properties, TESTCONTAINERS_*) are made for it.
//
// Its reaper is not used: it is a container with the socket of the engine. What it
// would remove has labels, and is removed as package docker does.
package testcontainers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"

	"github.com/testcontainers/testcontainers-go"
	library "github.com/testcontainers/testcontainers-go/log"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Name is the name of the back end.
const Name = "testcontainers"

// New returns a back end. o is as for package docker; its name and its way to create
// containers are replaced.
func New(o docker.Options) *docker.Backend {
	o.Name, o.Create = Name, create
	return docker.New(o)
}

// settings tells testcontainers-go what it reads from the environment when it is first
// used: which engine, and no reaper.
var settings sync.Once

// silent takes what the library would write to standard error.
var silent = log.New(io.Discard, "", 0)

// create has testcontainers-go create a container, not started.
func create(ctx context.Context, c *engine.Client, s engine.ContainerSpec) (string, error) {
	var err error
	settings.Do(func() {
		library.SetDefault(silent)
		err = errors.Join(os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"), os.Setenv("DOCKER_HOST", c.Host()))
	})
	if err != nil {
		return "", err
	}
	made, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ContainerRequest: testcontainers.ContainerRequest{
			Name: s.Name, Image: s.Image, Entrypoint: s.Entrypoint, Labels: s.Labels,
			ConfigModifier: s.ModifyConfig(), HostConfigModifier: s.ModifyHost(),
		},
		Logger: silent,
	})
	if err != nil {
		return "", fault.Wrap(engine.Classify(err), fault.Unavailable, "", fmt.Sprintf("create container %s by testcontainers-go", s.Name))
	}
	return made.GetContainerID(), nil
}
