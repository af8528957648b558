package embedded

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Mechanisms.
const (
	byNamespace = "namespace"
	byRlimit    = "rlimit"
	byDeadline  = "deadline"
	byNothing   = "not enforced"
)

// controlled returns the version of the control groups that enforce controller in
// this environment, or zero.
func (e *environment) controlled(controller string) int {
	for _, p := range e.group.parts {
		if p.has(controller) {
			return p.Version
		}
	}
	return 0
}

// rlimits are the limits that an init sets: those that are for one process
// anyway, and those for which there is no control group.
func (e *environment) rlimits(l sandbox.Limits) []rlimit {
	if e.found.variant.Level == sandbox.None {
		return nil
	}
	list := []rlimit{
		{"core files", unix.RLIMIT_CORE, 0},
		{"open files", unix.RLIMIT_NOFILE, uint64(l.Files)},
	}
	if !e.full() {
		list = append(list, rlimit{"file size", unix.RLIMIT_FSIZE, uint64(l.Disk)})
	}
	if e.controlled(ctlMemory) == 0 {
		list = append(list, rlimit{"memory", unix.RLIMIT_DATA, uint64(l.Memory)})
	}
	if e.controlled(ctlPIDs) == 0 && e.full() && e.countsProcesses() {
		// At a weaker level the number would be of all processes of the caller.
		list = append(list, rlimit{"processes", unix.RLIMIT_NPROC, uint64(l.PIDs)})
	}
	if e.controlled(ctlCPU) == 0 {
		list = append(list, rlimit{"processor time", unix.RLIMIT_CPU, cpuSeconds(l)})
	}
	return list
}

// countsProcesses reports whether the kernel holds the container's user to a number
// of processes: it never does with root, who that user is outside of a user
// namespace that root made.
func (e *environment) countsProcesses() bool {
	return !e.found.variant.UserNS || os.Geteuid() != 0
}

// cpuSeconds is the processor time that the wall time allows at the given share.
func cpuSeconds(l sandbox.Limits) uint64 {
	return uint64(max(math.Ceil(l.CPUs*l.Wall.Seconds()), 1))
}

// Effective is described by [sandbox.Environment]. What is set for each container
// is read back by its init, which refuses to start a payload that is less confined.
func (e *environment) Effective() sandbox.Effective {
	v := e.found.variant
	eff := sandbox.Effective{Level: v.Level, Why: slices.Clone(e.found.refused)}
	if v.Level == sandbox.Full {
		eff.Why = nil
	}
	eff.Enforced = slices.Concat(e.limited(), e.protected())
	slices.SortFunc(eff.Enforced, func(a, b sandbox.Enforcement) int { return cmp.Compare(a.Name, b.Name) })
	return eff
}

// limited says how the limits are enforced.
func (e *environment) limited() []sandbox.Enforcement {
	l := e.limits
	list := []sandbox.Enforcement{
		{Name: "wall", Value: l.Wall.String(), By: byDeadline},
		{Name: "output", Value: fmt.Sprintf("%d bytes", l.Output), By: "reader"},
	}
	for _, c := range []struct {
		name, controller, file1, file2 string
		otherwise                      sandbox.Enforcement
	}{
		{"memory", ctlMemory, "memory.limit_in_bytes", "memory.max",
			sandbox.Enforcement{Value: fmt.Sprintf("%d bytes for each process", l.Memory), By: byRlimit}},
		{"pids", ctlPIDs, "pids.max", "pids.max",
			sandbox.Enforcement{Value: strconv.Itoa(l.PIDs) + " of the user, threads included", By: byRlimit}},
		{"cpu", ctlCPU, "cpu.cfs_quota_us", "cpu.max",
			sandbox.Enforcement{Value: fmt.Sprintf("%d s of processor time for each process", cpuSeconds(l)), By: byRlimit}},
	} {
		en := c.otherwise
		switch {
		case e.controlled(c.controller) != 0:
			en = e.readBack(c.controller, c.file1, c.file2)
		case e.found.variant.Level == sandbox.None:
			en = sandbox.Enforcement{Value: "level none has deadlines only", By: byNothing}
		case c.controller == ctlPIDs && !e.countsProcesses():
			en = sandbox.Enforcement{Value: "the kernel does not count the processes of root, who the user is outside", By: byNothing}
		case c.controller == ctlPIDs && !e.full():
			en = sandbox.Enforcement{Value: "the kernel would count every process of the user", By: byNothing}
		}
		en.Name = c.name
		list = append(list, en)
	}
	switch {
	case e.full():
		list = append(list,
			sandbox.Enforcement{Name: "disk", Value: fmt.Sprintf("%d bytes for each container", l.Disk), By: "tmpfs"},
			sandbox.Enforcement{Name: "files", Value: strconv.Itoa(l.Files), By: byRlimit})
	case e.found.variant.Level == sandbox.Reduced:
		list = append(list,
			sandbox.Enforcement{Name: "disk", Value: fmt.Sprintf("%d bytes for each file", l.Disk), By: byRlimit},
			sandbox.Enforcement{Name: "files", Value: strconv.Itoa(l.Files), By: byRlimit})
	default:
		list = append(list,
			sandbox.Enforcement{Name: "disk", Value: "level none has deadlines only", By: byNothing},
			sandbox.Enforcement{Name: "files", Value: "level none has deadlines only", By: byNothing})
	}
	return list
}

// readBack reads a limit of the environment's group from the kernel.
func (e *environment) readBack(controller, file1, file2 string) sandbox.Enforcement {
	for _, p := range e.group.parts {
		if !p.has(controller) {
			continue
		}
		file := file1
		if p.Version == 2 {
			file = file2
		}
		return sandbox.Enforcement{Value: file + " " + p.read(file), By: "cgroup v" + strconv.Itoa(p.Version)}
	}
	return sandbox.Enforcement{By: byNothing}
}

// protected says what keeps a payload away from everything else.
func (e *environment) protected() []sandbox.Enforcement {
	v := e.found.variant
	none := func(name, why string) sandbox.Enforcement {
		return sandbox.Enforcement{Name: name, Value: why, By: byNothing}
	}
	network := string(cmp.Or(e.spec.Network, sandbox.NetworkInternal))
	if v.Level != sandbox.Full {
		user := fmt.Sprintf("user %d, the caller", os.Geteuid())
		list := []sandbox.Enforcement{
			none("network", network+" was asked for; there is that of the host"), none("processes", "those of the host are visible"),
			none("user", user), none("capabilities", "those of the caller"), none("seccomp", "no filter"),
		}
		if v.Level == sandbox.None {
			return append(list, none("filesystem", "that of the host"), none("privileges", "as the caller has them"))
		}
		return append(list,
			sandbox.Enforcement{Name: "filesystem", Value: "programs and mounts; " + e.found.notes["landlock"], By: "landlock"},
			sandbox.Enforcement{Name: "privileges", Value: "no_new_privs 1", By: "prctl"})
	}
	processes := sandbox.Enforcement{Name: "processes", Value: "its own", By: byNamespace}
	if v.OuterProc {
		processes = none("processes", "the kernel refuses a new /proc: names of processes around the environment are visible, they cannot be reached")
	}
	user := "not root; a user of the host without rights"
	if v.UserNS {
		user = fmt.Sprintf("not root; user %d outside, with its groups", os.Geteuid())
	}
	return []sandbox.Enforcement{
		{Name: "network", Value: network + ", loopback only", By: byNamespace},
		{Name: "filesystem", Value: "private root, read-only", By: byNamespace},
		{Name: "ipc", Value: "its own", By: byNamespace},
		processes,
		{Name: "user", Value: user, By: strings.Join(userMechanisms(v), ", ")},
		{Name: "capabilities", Value: "none, bounding set empty", By: "capset"},
		{Name: "privileges", Value: "no_new_privs 1", By: "prctl"},
		{Name: "seccomp", Value: "mode 2, " + describeFilter(), By: "seccomp"},
	}
}

func userMechanisms(v variant) []string {
	if v.UserNS {
		return []string{byNamespace}
	}
	return []string{"setuid"}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
