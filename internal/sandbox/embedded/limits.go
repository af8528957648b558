package embedded

import (
	"runtime"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// defaults are the limits of an environment that asks for none.
func defaults() sandbox.Limits {
	return sandbox.Limits{
		Memory: 2 << 30,
		CPUs:   float64(runtime.NumCPU()),
		PIDs:   512,
		Disk:   1 << 30,
		Files:  4096,
		Wall:   10 * time.Minute,
		Output: 64 << 20,
	}
}
