//go:build !linux

package supervisor

import (
	"os"
	"os/exec"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// isolate refuses what only Linux offers here.
func isolate(_ *exec.Cmd, s Spec) error {
	if s.Root != "" || s.UID != 0 || s.GID != 0 {
		return fault.New(fault.Unavailable, "", "a root directory or user of its own for a service needs Linux")
	}
	return nil
}

// terminate asks a process to end; Windows knows no such request, so there it is forced.
func terminate(p *os.Process) error {
	if err := p.Signal(os.Interrupt); err == nil {
		return nil
	}
	return p.Kill()
}

// awaitEnd and killGroup do nothing: there is no group of its own here.
func awaitEnd(int) {}

func killGroup(int) {}

// birth cannot tell processes apart here, so nothing is ever proven, and no
// process that a killed supervisor left is touched.
func birth(int) (string, error) { return "", nil }
