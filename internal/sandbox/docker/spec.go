package docker

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// minMemory is what engines demand.
const minMemory = 6 << 20

// checkLimits refuses what engines refuse, besides what nobody can do.
func checkLimits(l sandbox.Limits) error {
	if l.Memory > 0 && l.Memory < minMemory {
		return fault.New(fault.Usage, "raise it", "a memory limit of %d bytes is less than the %d that container engines need", l.Memory, minMemory)
	}
	return nil
}

// leastCPUs is the smallest share that engines know.
const leastCPUs = 0.01

// orDefault returns asked with every zero replaced by the default. More processors than
// the engine has are refused by it, and are no limit.
func orDefault(asked sandbox.Limits, cpus int) sandbox.Limits {
	l := asked.Or(sandbox.Limits{
		Memory: 2 << 30, CPUs: float64(cpus), PIDs: 512, Disk: 1 << 30, Files: 4096, Wall: 10 * time.Minute, Output: 64 << 20,
	})
	l.CPUs = max(min(l.CPUs, float64(cpus)), leastCPUs)
	return l
}

// narrow returns the limits of a container.
func narrow(outer, inner sandbox.Limits) sandbox.Limits {
	l := outer.Narrow(inner)
	l.CPUs = max(l.CPUs, leastCPUs)
	return l
}

// reserved are where the back end and the engine mount what they need.
var reserved = []string{"/sys", insideDir, "/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

// checkContainer finds what is wrong with a specification before its image is known.
func checkContainer(s sandbox.ContainerSpec) error {
	err := errors.Join(s.Check(), checkLimits(s.Limits))
	if err == nil && s.Image == "" {
		err = fault.New(fault.Usage, "name an image by its digest, or use the embedded back end", "container %s: a container engine does not see the files of this machine", s.Name)
	}
	return err
}

// checkInside finds what is wrong with a specification that is complete.
func checkInside(s sandbox.ContainerSpec) error {
	return s.CheckInside(func(target string) bool {
		return slices.Contains(reserved, target) || strings.HasPrefix(target, insideDir+"/") || strings.ContainsAny(target, ":,")
	})
}
