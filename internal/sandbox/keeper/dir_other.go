//go:build unix && !linux

package keeper

import (
	"path/filepath"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// maxSocket is how long the path of a socket may be, in bytes.
const maxSocket = 103

// inDir calls f with the path of the socket in dir.
func inDir[T any](dir string, f func(path string) (T, error)) (T, error) {
	path := filepath.Join(dir, socketFile)
	if len(path) > maxSocket {
		var zero T
		return zero, fault.New(fault.Unavailable, "set XDG_CACHE_HOME to a directory with a shorter path", "socket %s: its path is longer than %d bytes", path, maxSocket)
	}
	return f(path)
}
