// Package embedded is the sandbox back end that needs nothing installed: no
// daemon, no image, no cgo, only a Linux kernel.
//
// An environment is a supervisor process, this executable started again, in
// network, process, mount and IPC namespaces of its own. Each container is one
// more start of this executable, the init, which builds a private root, gives up
// every privilege and starts the payload as its child. Killing the supervisor
// ends all of it. What each level means is said by [sandbox.Level]; how a level
// was reached, and why not a higher one, by Environment.Effective.
//
// Each container has an address of its own, 127.0.1.N in the environment's network,
// and its hosts file has the names of those that ran before it. A server that
// listens on its own address or name leaves the port to others; one that listens on
// 0.0.0.0 takes it from all. With network none each container has a network
// namespace of its own instead.
//
// The main of a program that uses the package must call [Reexec] first thing:
//
//	func main() {
//		if embedded.Reexec() {
//			return
//		}
//		…
//	}
//
// The package never runs a payload at a level weaker than was asked for, never
// runs one as root at level Full, never follows a path of a container's root
// outside that root, and opens no port. At levels Reduced and None there is no
// private root: a payload sees the files of the host, [ContainerSpec.Root] only
// says where Argv[0] and Dir are looked up, and the user is the caller.
//
// An environment lives as long as the process that created it. What a killed
// creator leaves, control groups and directories, is journalled below StateDir
// before it is made, and [Backend.GC] removes it.
//
// [ContainerSpec.Root]: https://pkg.go.dev/github.com/ultrafast-ci/ultrafast/steps/sandbox#ContainerSpec
package embedded

import (
	"log/slog"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Name is the name of the back end.
const Name = "embedded"

// Options configure a [Backend].
type Options struct {
	// StateDir is where environments are journalled and keep their directories.
	// It is made, with mode 0700, when the first environment is created.
	StateDir string
	// Log receives what is not worth an error; nil discards it.
	Log *slog.Logger
	// MaxLevel is the highest level to use; nil means Full. It lets tests, and
	// people who distrust a kernel, choose a weaker one.
	MaxLevel *sandbox.Level
	// Helper is an executable whose main calls [Reexec], started in place of this
	// one for the supervisor and the inits: a small one starts faster. Empty
	// means this executable.
	Helper string
	// Images has the images that specifications name; nil if there are none.
	Images sandbox.Images
}
