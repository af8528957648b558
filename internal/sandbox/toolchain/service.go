package toolchain

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Service is a server that is installed on the host.
type Service struct {
	// Programs is the directory of its programs.
	Programs string
	// Version tells installations apart, by the path, size and time of the server's
	// program: to read it takes as long as the server takes to start.
	Version string
}

// servers are where distributions put the programs of a service: patterns, the first
// that matches counts, and of several matches the one with the highest number. Debian
// and Red Hat keep PostgreSQL out of the PATH, a directory for each version.
var servers = map[string]struct{ places []string }{
	"postgres": {[]string{"/usr/lib/postgresql/*/bin/postgres", "/usr/pgsql-*/bin/postgres", "/usr/bin/postgres", "/usr/local/bin/postgres"}},
	"redis":    {[]string{"/usr/bin/redis-server", "/usr/local/bin/redis-server"}},
}

// FindService returns the host's installation of a service: "postgres" or "redis". None
// is an error of kind fault.Unavailable. Sandboxes see what is below /usr only, so
// nothing else is found.
func FindService(kind string) (Service, error) {
	for _, pattern := range servers[kind].places {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			continue
		}
		slices.SortFunc(found, func(a, b string) int { return number(a) - number(b) })
		program := found[len(found)-1]
		info, err := os.Stat(program)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		sum := state.DigestOf(fmt.Appendf(nil, "%s %d %d", program, info.Size(), info.ModTime().UnixNano()))
		return Service{Programs: filepath.Dir(program), Version: sum.Hex()[:16]}, nil
	}
	return Service{}, fault.New(fault.Unavailable, "install it, or set image in [[cleanroom.service]]", "this machine has no %s", kind)
}

// number returns the first number in a path, 0 for none.
func number(path string) int {
	digits := strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, err := strconv.Atoi(digits[0])
	if err != nil {
		return 0
	}
	return n
}
