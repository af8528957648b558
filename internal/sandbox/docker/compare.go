package docker

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// tooWeak is the error for an engine that gives less than was asked of it.
func tooWeak(weaker []string) error {
	hint := "mend the engine's configuration, or use another back end"
	if slices.ContainsFunc(weaker, func(w string) bool { return strings.HasPrefix(w, "limit of ") }) {
		hint = "run the engine as root, or, rootless, with cgroup v2 whose controllers systemd delegates to its user; or use the embedded back end"
	}
	return fault.New(fault.Unavailable, hint,
		"the engine isolates less than it was asked to: %s", strings.Join(weaker, "; "))
}

// compare says what of ask is not in force, by the words of the engine and by what a
// process inside read from the kernel. places is nil for what holds a network.
func compare(ask engine.ContainerSpec, p *places, said engine.Detail, facts *inside.Facts) (weaker []string) {
	weak := func(format string, args ...any) { weaker = append(weaker, fmt.Sprintf(format, args...)) }
	if facts.Version != inside.Version {
		weak("the program inside is of another version")
	}
	for _, field := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if strings.Trim(facts.Status[field], "0") != "" || facts.Status[field] == "" {
			weak("capabilities: %s is %q", field, facts.Status[field])
		}
	}
	if facts.Status["NoNewPrivs"] != "1" {
		weak("no_new_privs is %q", facts.Status["NoNewPrivs"])
	}
	if facts.Status["Seccomp"] != "2" {
		weak("seccomp is %q, not 2, a filter", facts.Status["Seccomp"])
	}
	if user := fmt.Sprintf("%d:%d", facts.UID, facts.GID); user != ask.User {
		weak("user is %s, not %s", user, ask.User)
	}
	if !slices.Equal(facts.Interfaces, []string{"lo"}) {
		weak("network interfaces are %q, not the loopback interface alone", facts.Interfaces)
	}
	if ask.ReadOnly && !facts.ReadOnly {
		weak("the root is writable")
	}
	weaker = append(weaker, compareLimits(ask, said, facts)...)
	weaker = append(weaker, compareSaid(ask, said)...)
	if p != nil {
		weaker = append(weaker, compareWritable(ask, p, facts)...)
	}
	return weaker
}

// compareLimits compares limits: what the kernel says counts, and what the engine says
// where the kernel's files are out of sight.
func compareLimits(ask engine.ContainerSpec, said engine.Detail, facts *inside.Facts) (weaker []string) {
	for _, l := range []struct {
		name        string
		asked       float64
		read, heard float64
	}{
		{"memory", float64(ask.Memory), float64(facts.Memory), float64(said.Memory)},
		{"memory and swap", float64(ask.Memory), float64(facts.Swap), float64(said.Swap)},
		{"processes", float64(ask.PIDs), float64(facts.PIDs), float64(said.PIDs)},
		{"processors", ask.CPUs, facts.CPUs, said.CPUs},
		{"open files", float64(ask.Files), float64(facts.Files), 0},
	} {
		got := cmp.Or(l.read, l.heard)
		// Quotas are whole microseconds of a tenth of a second.
		if got <= 0 || got > l.asked*1.0001+0.0001 {
			weaker = append(weaker, fmt.Sprintf("limit of %s is %s, not %s", l.name, limitText(got), limitText(l.asked)))
		}
	}
	return weaker
}

func limitText(v float64) string {
	if v <= 0 {
		return "not set"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// compareSaid compares what only the engine can tell.
func compareSaid(ask engine.ContainerSpec, said engine.Detail) (weaker []string) {
	if !said.Plain {
		weaker = append(weaker, "the container is privileged")
	}
	if len(said.CapAdd) > 0 {
		weaker = append(weaker, fmt.Sprintf("capabilities %q were added", said.CapAdd))
	}
	if said.Network != ask.Network {
		weaker = append(weaker, fmt.Sprintf("network is %q, not %q", said.Network, ask.Network))
	}
	if said.PIDMode != "" && said.PIDMode != "private" {
		weaker = append(weaker, "processes of "+said.PIDMode+" can be seen")
	}
	if said.IPCMode == "host" {
		weaker = append(weaker, "the host's shared memory can be reached")
	}
	for _, s := range said.Security {
		if strings.Contains(s, "unconfined") {
			weaker = append(weaker, "security option "+s)
		}
	}
	return weaker
}

// page is what memory file systems round their sizes up to, on any machine.
const page = 64 << 10

// compareWritable finds places that can be written and were not asked for, or are
// larger.
func compareWritable(ask engine.ContainerSpec, p *places, facts *inside.Facts) (weaker []string) {
	for target, size := range facts.Temporary {
		most, ok := p.temporary[target]
		if _, also := ask.Temporary[target]; !ok && also {
			most, ok = p.disk, true
		}
		if target == "/dev/shm" {
			most, ok = ask.Shared, true
		}
		switch {
		case !ok:
			weaker = append(weaker, target+" can be written")
		case size <= 0:
			weaker = append(weaker, target+" has no size limit")
		case size > most+page:
			weaker = append(weaker, fmt.Sprintf("%s has %d bytes, not %d", target, size, most))
		}
	}
	for _, target := range facts.Writable {
		if !slices.ContainsFunc(p.mounts, func(m engine.Mount) bool { return m.Target == target && !m.ReadOnly }) {
			weaker = append(weaker, target+" can be written")
		}
	}
	slices.Sort(weaker)
	return weaker
}

// Mechanisms.
const (
	byNamespace = "namespace"
)

// enforcement says how everything is enforced, as it was read back in the container
// that holds the network: it has the limits of the environment.
func (e *environment) enforcement(said engine.Detail) []sandbox.Enforcement {
	f, l := e.facts, e.limits
	group := "the engine"
	if f.CGroup > 0 {
		group = "cgroup v" + strconv.Itoa(f.CGroup)
	}
	limit := func(name string, read int64, heard int64, unit string) sandbox.Enforcement {
		return sandbox.Enforcement{Name: name, Value: fmt.Sprintf("%d%s for each container", cmp.Or(read, heard), unit), By: group}
	}
	network := "loopback only, shared by the containers"
	if !e.full() {
		network = "none: each container has its own loopback only"
	}
	list := []sandbox.Enforcement{
		limit("memory", f.Memory, said.Memory, " bytes, swap included,"),
		limit("pids", f.PIDs, said.PIDs, ""),
		{Name: "cpu", Value: strconv.FormatFloat(cmp.Or(f.CPUs, said.CPUs), 'f', -1, 64) + " processors for each container", By: group},
		{Name: "files", Value: strconv.FormatUint(f.Files, 10), By: "rlimit"},
		{Name: "disk", Value: fmt.Sprintf("%d bytes for each temporary directory; not enforceable for what is written into read-write mounts", l.Disk), By: "tmpfs"},
		{Name: "wall", Value: l.Wall.String(), By: "deadline"},
		{Name: "output", Value: fmt.Sprintf("%d bytes", l.Output), By: "reader"},
		{Name: "network", Value: network, By: byNamespace},
		{Name: "processes", Value: "its own", By: byNamespace},
		{Name: "ipc", Value: "its own", By: byNamespace},
		{Name: "filesystem", Value: "image, read-only", By: byNamespace},
		{Name: "user", Value: "not root", By: "setuid"},
		{Name: "capabilities", Value: "none, bounding set empty", By: "capset"},
		{Name: "privileges", Value: "no_new_privs 1", By: "prctl"},
		{Name: "seccomp", Value: "mode 2, the engine's profile and a filter of our own", By: "seccomp"},
	}
	slices.SortFunc(list, func(a, b sandbox.Enforcement) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
