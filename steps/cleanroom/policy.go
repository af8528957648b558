package cleanroom

import (
	"errors"
	"fmt"
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

// Verify compares what is in force with what was asked for. Weaker isolation than
// least, and a limit that was read back and is higher than asked for, are a
// fault.Unavailable; the notes name what is not enforced at the level that is in force.
func (p Policy) Verify(least sandbox.Level, asked sandbox.Limits, got sandbox.Effective) (notes []string, err error) {
	var errs []error
	weaker := func(format string, args ...any) {
		errs = append(errs, fault.New(fault.Unavailable, "run on a machine that allows it, or accept less with --min-isolation", format, args...))
	}
	if got.Level < least {
		weaker("isolation %s is in force where %s was asked for", got.Level, least)
	}
	wanted := map[string]int64{"memory": asked.Memory, "pids": int64(asked.PIDs)}
	for _, e := range got.Enforced {
		switch {
		case e.By == "not enforced" && e.Name == "network" && least == sandbox.Full:
			weaker("the network is not isolated: %s", e.Value)
		case e.By == "not enforced":
			notes = append(notes, fmt.Sprintf("%s is not enforced: %s", e.Name, e.Value))
		case wanted[e.Name] > 0:
			if n, ok := firstNumber(e.Value); ok && n > wanted[e.Name] {
				weaker("%s of %d is in force where %d was asked for", e.Name, n, wanted[e.Name])
			}
		}
	}
	return notes, errors.Join(errs...)
}

// firstNumber returns the first number of a text, such as "memory.max 268435456".
func firstNumber(text string) (int64, bool) {
	for word := range strings.FieldsSeq(text) {
		if n, err := strconv.ParseInt(word, 10, 64); err == nil {
			return n, true
		}
	}
	return 0, false
}

// plain writes a number without an exponent.
func plain(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
