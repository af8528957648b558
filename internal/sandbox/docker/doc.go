// Package docker is the sandbox back end of container engines: Docker and Podman,
// through one client.
//
// An environment is a container that does nothing but hold a network namespace with
// a loopback interface and nothing else: no bridge, so no way to the services of the
// engine's machine, which an internal network of Docker leaves open. Its containers
// share that namespace. Each has an address of its own, 127.0.1.N, and names in
// /etc/hosts. Process 1 of each is package inside: this executable, which a volume
// that is read-only brings in. It reads back from the kernel what is in force, and
// nothing starts that is less confined than was asked for. The executable must be
// linked statically and be for the engine's system and processor.
//
// The engine may be on another machine: files are copied into volumes by its API, and
// connections are carried over the standard streams of process 1. Where the engine
// shares this machine's view of its files, which is tried and not guessed, files that
// everybody may read are mounted as they are. The socket of the engine is never
// mounted. What the engine does not offer, the package does not claim: limits hold for
// each container and not for the environment as a whole, what is written into
// read-write mounts is not bounded, and with Docker the host name inside is that of
// the environment, though every container is reached by its own.
//
// Containers end with the program that created them, however it ends, since their
// standard input does. What is left then, stopped containers and volumes, has labels
// that say whose it was, from the moment it exists; [Backend.GC] removes it.
//
// The main of a program that uses the package must call inside.Reexec first thing.
package docker

import (
	"log/slog"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"

	"context"
)

// The names of back ends.
const (
	Docker = "docker"
	Podman = "podman"
)

// Options configure a [Backend].
type Options struct {
	// Name is what the back end is called; empty means "docker".
	Name string
	// Host is where the engine listens; empty means [engine.Find].
	Host string
	// APIVersion pins the version of the engine's API; empty means to negotiate it.
	APIVersion string
	// Images brings images that the engine does not have; nil means that the engine
	// pulls them.
	Images sandbox.Images
	// Helper is an executable for the engine's system whose main calls inside.Reexec;
	// empty means this one.
	Helper string
	// Scope keeps environments apart from those of other back ends on one engine, whose
	// List and GC do not see them. Letters, digits and hyphens; empty is one of its own.
	Scope string
	// Copy never mounts files of the engine's machine.
	Copy bool
	// Log receives what is not worth an error; nil discards it.
	Log *slog.Logger
	// Create creates containers in place of the engine's client.
	Create func(ctx context.Context, c *engine.Client, spec engine.ContainerSpec) (id string, err error)
}

// Labels of all that is made.
const (
	labelScope       = "dev.ultrafast.scope"
	labelEnvironment = "dev.ultrafast.environment"
	labelRole        = "dev.ultrafast.role"
	labelOwner       = "dev.ultrafast.owner"
	labelCreated     = "dev.ultrafast.created"
	labelProgram     = "dev.ultrafast.program" // the digest of a program for containers
)

// Roles, in labels.
const (
	roleNetwork   = "network" // holds the network namespace; the environment lives as long
	roleContainer = "container"
	roleFiller    = "filler" // never starts: volumes are filled through it
	roleVolume    = "volume"
)

const (
	// closeTime bounds how long the engine may take to remove an environment.
	closeTime = time.Minute
	// startTime bounds how long it may take to start a container, on a machine however
	// busy, its image apart.
	startTime = 2 * time.Minute
	// graceTime is how long process 1 may take to end what it was told to end.
	graceTime = 5 * time.Second
	// orphanTime is how old something must be to be removed whose creator cannot be
	// asked: it may be about to start.
	orphanTime = 10 * time.Minute
)

// nobody is the user and group of a container that asks for none.
const nobody = 65534
