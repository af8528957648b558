package keeper

import (
	"os"
	"path/filepath"
	"strconv"
)

// inDir calls f with a path for the socket in dir that is short enough for an
// address, however long dir is.
func inDir[T any](dir string, f func(path string) (T, error)) (T, error) {
	d, err := os.Open(dir)
	if err != nil {
		var zero T
		return zero, err
	}
	defer d.Close()
	return f(filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), socketFile))
}
