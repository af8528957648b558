// Package keeper keeps environments alive between commands.
//
// A keeper is a process of its own for each environment: this executable started
// again, in a session without a terminal. It holds an ordinary [sandbox.Environment]
// of any back end, collects the output of containers that nobody reads in files of
// its directory, and serves a small protocol, JSON over HTTP on a unix socket that
// only its user and root may use. [Environment] is the other side of it: a
// [sandbox.Environment] over that socket, so that what runs in an environment does
// not notice who holds it.
//
// An environment ends when it is deleted, when nobody has used it for its time to
// live, or when its keeper is told to end by a signal; each closes it. What a keeper
// that was killed leaves behind, its back end removes as for any killed creator:
// [Backend.GC] asks it to, and removes the directory.
//
// The main of a program that uses the package calls [Reexec] first thing, as it does
// for the embedded back end, with a function that makes the back end of a keeper from
// the settings that [Options] had:
//
//	if keeper.Reexec(open) {
//		return
//	}
//
// The package isolates nothing itself, opens no port, and never serves another user.
// It needs unix sockets and advisory locks: on Windows every call says so.
package keeper

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// DefaultTTL is how long an environment may be unused before it is removed.
const DefaultTTL = time.Hour

const (
	// createTime bounds how long a keeper may take until its environment is there,
	// pulling no image.
	createTime = 2 * time.Minute
	// closeTime bounds how long a keeper may take to end. A CI system that stops a
	// job gives about ten seconds; what is left after that the next gc removes.
	closeTime = 30 * time.Second
	// callTime bounds a call that starts and waits for nothing.
	callTime = 10 * time.Second
)

// Opener makes a back end from the settings that were handed to a keeper.
type Opener func(settings json.RawMessage, log *slog.Logger) (sandbox.Backend, error)

// Options configure a [Backend].
type Options struct {
	// StateDir is where each environment has a directory, mode 0700: its record, its
	// socket, its logs. It is made when the first environment is.
	StateDir string
	// Settings are what Open makes the back end of; they are kept in the record of
	// each environment, so they hold no secret.
	Settings json.RawMessage
	Open     Opener
	// Log receives what is not worth an error; nil discards it.
	Log *slog.Logger
}

// Life says how long an environment is kept.
type Life struct {
	// Persistent lifts the time to live.
	Persistent bool
	// TTL is how long it may be unused; zero means [DefaultTTL].
	TTL time.Duration
	// MaxContainers bounds the containers that run at one time; zero means no bound.
	MaxContainers int
}

func (l Life) ttl() time.Duration { return cmp.Or(l.TTL, DefaultTTL) }

// Status is what an environment or a container does.
type Status string

// The states. An environment is running or stopped; a container is running or ready
// (its service was seen to answer), and stopped or failed when it has ended.
const (
	Running Status = "running"
	Ready   Status = "ready"
	Stopped Status = "stopped"
	Failed  Status = "failed"
)

// Alive reports whether it runs.
func (s Status) Alive() bool { return s == Running || s == Ready }

// Info describes an environment.
type Info struct {
	// ID is "env-" and a UUID, new for every environment.
	ID      string `json:"id"`
	Name    string `json:"name"`
	Status  Status `json:"status"`
	Backend string `json:"backend"`
	// Level is the isolation in force, and Effective all that is.
	Level      string            `json:"isolation"`
	Effective  sandbox.Effective `json:"effective"`
	Persistent bool              `json:"persistent"`
	TTLSeconds int64             `json:"ttl_seconds"`
	Created    time.Time         `json:"created_at"`
	// Used is when it was last used: now, while it is.
	Used       time.Time       `json:"updated_at"`
	Containers []ContainerInfo `json:"containers"`
}

// ContainerInfo describes a container.
type ContainerInfo struct {
	// ID is unique in the environment; a name is free again when its container ended.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Type and Image are what the caller said it is.
	Type   string `json:"type"`
	Image  string `json:"image"`
	Status Status `json:"status"`
	// Address and Port are where it is reached in the environment.
	Address string    `json:"address,omitempty"`
	Port    int       `json:"port,omitempty"`
	Created time.Time `json:"created_at"`
	// Exit is how it ended; nil while it runs.
	Exit *sandbox.ExitStatus `json:"exit,omitempty"`
	// Failure says what the back end could not do; empty if it ended by itself.
	Failure string        `json:"failure,omitempty"`
	Usage   sandbox.Usage `json:"usage"`
}

// checkName refuses what no back end has as the name of an environment.
func checkName(name string) error { return sandbox.CheckName("environment", name) }
