package cleanroom

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Policy bounds what may be asked of a clean room (K-40 to K-44). It is checked before
// anything starts, and what came of it is read back with [Policy.Verify].
type Policy struct {
	// EnforceIsolation refuses an environment without a network of its own.
	EnforceIsolation bool
	// AllowHostNetwork and AllowPrivileged allow to ask for these. No back end offers
	// them: what is in a clean room reaches its environment and nothing else, and
	// nothing runs there as root.
	AllowHostNetwork, AllowPrivileged bool
	// MaxMemory is in bytes, MaxCPUs in processors' worth of time; zero is no bound.
	MaxMemory int64
	MaxCPUs   float64
	// MaxContainers bounds those that run at a time; zero is no bound.
	MaxContainers int
}

// DefaultPolicy is the policy of a project that has none.
func DefaultPolicy() Policy {
	return Policy{EnforceIsolation: true, MaxMemory: 4096 << 20, MaxCPUs: 8, MaxContainers: 20}
}

// Demand is what somebody asks of a clean room.
type Demand struct {
	Limits sandbox.Limits
	// HostNetwork asks for the network of the host, Privileged for root with all
	// capabilities.
	HostNetwork, Privileged bool
}

// Check returns, as one fault.Usage, everything in d that the policy does not allow.
func (p Policy) Check(d Demand) error {
	var errs []error
	refuse := func(hint, format string, args ...any) {
		errs = append(errs, fault.New(fault.Usage, hint, format, args...))
	}
	const file = "[policy] of .cleanroom/config.toml"
	if p.MaxMemory > 0 && d.Limits.Memory > p.MaxMemory {
		refuse("ask for less, or raise max_memory_mb in "+file, "memory of %d MB: the policy allows %d MB", d.Limits.Memory>>20, p.MaxMemory>>20)
	}
	if p.MaxCPUs > 0 && d.Limits.CPUs > p.MaxCPUs {
		refuse("ask for less, or raise max_cpus in "+file, "%s processors: the policy allows %s", plain(d.Limits.CPUs), plain(p.MaxCPUs))
	}
	const instead = "leave it out: containers of an environment reach each other"
	switch {
	case !d.HostNetwork:
	case p.EnforceIsolation:
		refuse(instead, "a network that is not isolated: the policy enforces isolation")
	case !p.AllowHostNetwork:
		refuse(instead, "the network of the host: the policy does not allow it")
	default:
		refuse(instead, "the network of the host: the policy allows it, but no back end offers it")
	}
	switch {
	case !d.Privileged:
	case !p.AllowPrivileged:
		refuse("leave it out", "a privileged container: the policy does not allow it")
	default:
		refuse("leave it out", "a privileged container: the policy allows it, but no back end offers it")
	}
	return errors.Join(errs...)
}

// Verify compares what is in force with what was asked for; where nothing was, with
// what the policy allows. Weaker isolation than least, and a limit that was read back
// and is higher, or none, are a fault.Unavailable; the notes name what is not enforced at
// the level that is in force.
func (p Policy) Verify(least sandbox.Level, asked sandbox.Limits, got sandbox.Effective) (notes []string, err error) {
	var errs []error
	weaker := func(format string, args ...any) {
		errs = append(errs, fault.New(fault.Unavailable, "run on a machine that allows it, or accept less with --min-isolation", format, args...))
	}
	if got.Level < least {
		weaker("isolation %s is in force where %s was asked for", got.Level, least)
	}
	wanted := map[string]float64{
		"memory": float64(cmp.Or(asked.Memory, p.MaxMemory)), "pids": float64(asked.PIDs), "cpu": cmp.Or(asked.CPUs, p.MaxCPUs),
	}
	for _, e := range got.Enforced {
		switch most := wanted[e.Name]; {
		case e.By == notEnforced && e.Name == "network" && least == sandbox.Full:
			weaker("the network is not isolated: %s", e.Value)
		case e.By == notEnforced:
			notes = append(notes, fmt.Sprintf("%s is not enforced: %s", e.Name, e.Value))
		case most > 0:
			switch n, ok := inForce(e); {
			case ok && math.IsInf(n, 1):
				weaker("%s is not limited where %s was asked for", e.Name, plain(most))
			case ok && n > most:
				weaker("%s of %s is in force where %s was asked for", e.Name, plain(n), plain(most))
			}
		}
	}
	return notes, errors.Join(errs...)
}

// notEnforced is what back ends write in [sandbox.Enforcement] for nothing.
const notEnforced = "not enforced"

// Control groups give processor time as a quota in microseconds of a period.
const (
	cpuQuota      = "cpu.cfs_quota_us"
	cpuMax        = "cpu.max"
	defaultPeriod = 100_000
)

// inForce returns the number of a limit that was read back, infinity for one that is not
// set, as in "memory.max 268435456", "pids.max max", "cpu.max 150000 100000" and "1.5
// processors for each container". Processor time of a process is no share of processors.
func inForce(e sandbox.Enforcement) (float64, bool) {
	if e.Name == "cpu" && e.By == "rlimit" {
		return 0, false
	}
	var file string
	var numbers []float64
	for word := range strings.FieldsSeq(e.Value) {
		n, err := strconv.ParseFloat(word, 64)
		switch {
		case word == "max" || err == nil && n < 0:
			return math.Inf(1), true
		case err == nil:
			numbers = append(numbers, n)
		case len(numbers) == 0:
			file = word
		}
	}
	switch {
	case len(numbers) == 0:
		return 0, false
	case file == cpuQuota:
		return numbers[0] / defaultPeriod, true
	case file == cpuMax && len(numbers) > 1 && numbers[1] > 0:
		return numbers[0] / numbers[1], true
	}
	return numbers[0], true
}

// plain writes a number without an exponent.
func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
