package docker

import (
	"cmp"
	"errors"
	"net/netip"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// names matches the names of environments and containers: both are host names.
var names = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`) })

func checkName(what, name string) error {
	if names().MatchString(name) {
		return nil
	}
	return fault.New(fault.Usage, "use 1 to 63 letters, digits and hyphens", "%s name %q is not a host name", what, name)
}

// checkHosts refuses what would not be one line of a hosts file.
func checkHosts(hosts map[string]string) error {
	for host, address := range hosts {
		if err := checkHost(host); err != nil {
			return err
		}
		if _, err := netip.ParseAddr(address); err != nil {
			return fault.Wrap(err, fault.Usage, "give an address of the environment's own network, such as 127.0.1.1", "resolve host "+host)
		}
	}
	return nil
}

func checkHost(host string) error {
	for label := range strings.SplitSeq(host, ".") {
		if err := checkName("host", label); err != nil {
			return err
		}
	}
	return nil
}

// checkEnvironment finds what is wrong with a specification.
func checkEnvironment(s sandbox.EnvironmentSpec) error {
	if err := errors.Join(checkName("environment", s.Name), checkLimits(s.Limits), checkHosts(s.Hosts)); err != nil {
		return err
	}
	switch s.Network {
	case "", sandbox.NetworkInternal, sandbox.NetworkNone:
		return nil
	}
	return fault.New(fault.Usage, "use internal or none", "environment %s: network %q is unknown", s.Name, s.Network)
}

// minMemory is what engines demand.
const minMemory = 6 << 20

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
	if l.Memory > 0 && l.Memory < minMemory {
		return fault.New(fault.Usage, "raise it", "a memory limit of %d bytes is less than the %d that container engines need", l.Memory, minMemory)
	}
	return nil
}

// orDefault returns asked with every zero replaced by the default.
func orDefault(asked sandbox.Limits, cpus int) sandbox.Limits {
	return sandbox.Limits{
		Memory: cmp.Or(asked.Memory, 2<<30),
		// More than the engine has is refused by it, and is no limit.
		CPUs:   max(min(cmp.Or(asked.CPUs, float64(cpus)), float64(cpus)), 0.01),
		PIDs:   cmp.Or(asked.PIDs, 512),
		Disk:   cmp.Or(asked.Disk, 1<<30),
		Files:  cmp.Or(asked.Files, 4096),
		Wall:   cmp.Or(asked.Wall, 10*time.Minute),
		Output: cmp.Or(asked.Output, 64<<20),
	}
}

// narrow returns, field by field, the smaller of outer and inner; a zero of inner
// means that of outer.
func narrow(outer, inner sandbox.Limits) sandbox.Limits {
	return sandbox.Limits{
		Memory: least(outer.Memory, inner.Memory),
		CPUs:   max(least(outer.CPUs, inner.CPUs), 0.01),
		PIDs:   least(outer.PIDs, inner.PIDs),
		Disk:   least(outer.Disk, inner.Disk),
		Files:  least(outer.Files, inner.Files),
		Wall:   least(outer.Wall, inner.Wall),
		Output: least(outer.Output, inner.Output),
	}
}

func least[T cmp.Ordered](outer, inner T) T {
	var zero T
	if inner == zero {
		return outer
	}
	return min(outer, inner)
}

// reserved are where the back end and the engine mount what they need.
var reserved = []string{"/", "/proc", "/dev", "/sys", insideDir, "/etc", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}

// checkContainer finds what is wrong with a specification before its image is known.
func checkContainer(s sandbox.ContainerSpec) error {
	errs := []error{checkName("container", s.Name), checkLimits(s.Limits)}
	for _, a := range s.Aliases {
		errs = append(errs, checkHost(a))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	usage := func(hint, format string, args ...any) error {
		return fault.New(fault.Usage, hint, "container "+s.Name+": "+format, args...)
	}
	switch {
	case s.Root != "" && s.Image != "":
		return usage("leave one of them out", "both an image and a root")
	case s.Image == "":
		return usage("name an image by its digest, or use the embedded back end", "a container engine does not see the files of this machine")
	case len(s.Args) > 0 && len(s.Argv) > 0:
		return usage("put all of them into Argv", "both a command and arguments for the entrypoint of the image")
	case s.UID < 0 || s.GID < 0:
		return usage("", "negative user %d or group %d", s.UID, s.GID)
	}
	return checkMounts(s, usage)
}

func checkMounts(s sandbox.ContainerSpec, usage func(string, string, ...any) error) error {
	targets := map[string]bool{}
	for _, m := range s.Mounts {
		switch m.Kind {
		case sandbox.ReadOnly, sandbox.ReadWrite, sandbox.Overlay:
			if !filepath.IsAbs(m.Source) {
				return usage("make it absolute", "the source %q of mount %s is not absolute", m.Source, m.Target)
			}
		case sandbox.Scratch:
		default:
			return usage("use ro, rw, overlay or scratch", "mount %s has unknown kind %q", m.Target, m.Kind)
		}
		target := path.Clean(m.Target)
		switch {
		case !path.IsAbs(m.Target), slices.Contains(reserved, target), strings.HasPrefix(target, insideDir+"/"):
			return usage("mount elsewhere", "nothing can be mounted at %q", m.Target)
		case strings.ContainsAny(target, ":,\x00"):
			return usage("mount elsewhere", "container engines do not take the path %q", m.Target)
		case targets[target]:
			return usage("", "two mounts at %s", target)
		case m.Size < 0:
			return usage("leave it out for the default", "mount %s has a negative size", target)
		}
		targets[target] = true
	}
	return nil
}

// checkCommand finds what the kernel could not be asked for.
func checkCommand(where string, argv, env []string) error {
	if len(argv) == 0 || argv[0] == "" {
		return fault.New(fault.Usage, "", "%s: no command", where)
	}
	for _, s := range slices.Concat(argv, env) {
		if strings.ContainsRune(s, 0) {
			return fault.New(fault.Usage, "", "%s: a zero byte in %q", where, s)
		}
	}
	return nil
}
