package embedded

import (
	"cmp"
	"runtime"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
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

// narrow returns, field by field, the smaller of outer and inner; a zero of inner
// means that of outer.
func narrow(outer, inner sandbox.Limits) sandbox.Limits {
	return sandbox.Limits{
		Memory: least(outer.Memory, inner.Memory),
		CPUs:   least(outer.CPUs, inner.CPUs),
		PIDs:   least(outer.PIDs, inner.PIDs),
		Disk:   least(outer.Disk, inner.Disk),
		Files:  least(outer.Files, inner.Files),
		Wall:   least(outer.Wall, inner.Wall),
		Output: least(outer.Output, inner.Output),
	}
}

// orDefault returns asked with every zero replaced by the default.
func orDefault(asked sandbox.Limits) sandbox.Limits {
	d := defaults()
	return sandbox.Limits{
		Memory: cmp.Or(asked.Memory, d.Memory),
		CPUs:   cmp.Or(asked.CPUs, d.CPUs),
		PIDs:   cmp.Or(asked.PIDs, d.PIDs),
		Disk:   cmp.Or(asked.Disk, d.Disk),
		Files:  cmp.Or(asked.Files, d.Files),
		Wall:   cmp.Or(asked.Wall, d.Wall),
		Output: cmp.Or(asked.Output, d.Output),
	}
}

func least[T cmp.Ordered](outer, inner T) T {
	var zero T
	if inner == zero {
		return outer
	}
	return min(outer, inner)
}

func checkLimits(l sandbox.Limits) error {
	for _, f := range []struct {
		name     string
		negative bool
	}{
		{"memory", l.Memory < 0}, {"cpus", l.CPUs < 0 || l.CPUs != l.CPUs}, {"pids", l.PIDs < 0},
		{"disk", l.Disk < 0}, {"files", l.Files < 0}, {"wall", l.Wall < 0}, {"output", l.Output < 0},
	} {
		if f.negative {
			return fault.New(fault.Usage, "leave it out for the default", "limit %s is negative", f.name)
		}
	}
	return nil
}
