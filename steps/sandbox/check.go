package sandbox

import (
	"cmp"
	"errors"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// CheckName refuses, as fault.Usage, what cannot name an environment or a container:
// both are host names, of letters, digits and inner hyphens, at most 63. What says which
// of them it is.
func CheckName(what, name string) error {
	if isLabel(name) {
		return nil
	}
	return fault.New(fault.Usage, "use 1 to 63 letters, digits and hyphens", "%s name %q is not a host name", what, name)
}

func isLabel(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-'
}

// checkHost refuses what is not a name of labels between dots.
func checkHost(host string) error {
	for label := range strings.SplitSeq(host, ".") {
		if err := CheckName("host", label); err != nil {
			return err
		}
	}
	return nil
}

// Check returns, as fault.Usage, what of s no back end can do.
func (s EnvironmentSpec) Check() error {
	errs := []error{CheckName("environment", s.Name), s.Limits.Check()}
	for host, address := range s.Hosts {
		errs = append(errs, checkHost(host))
		if _, err := netip.ParseAddr(address); err != nil {
			errs = append(errs, fault.Wrap(err, fault.Usage, "give an address of the environment's own network, such as 127.0.1.1", "resolve host "+host))
		}
	}
	switch s.Network {
	case "", NetworkInternal, NetworkNone:
	default:
		errs = append(errs, fault.New(fault.Usage, "use internal or none", "environment %s: network %q is unknown", s.Name, s.Network))
	}
	return errors.Join(errs...)
}

// Check returns, as fault.Usage, which limit no kernel knows.
func (l Limits) Check() error {
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

// Or returns l with every zero replaced by what defaults have.
func (l Limits) Or(defaults Limits) Limits {
	return Limits{
		Memory: cmp.Or(l.Memory, defaults.Memory), CPUs: cmp.Or(l.CPUs, defaults.CPUs), PIDs: cmp.Or(l.PIDs, defaults.PIDs),
		Disk: cmp.Or(l.Disk, defaults.Disk), Files: cmp.Or(l.Files, defaults.Files), Wall: cmp.Or(l.Wall, defaults.Wall),
		Output: cmp.Or(l.Output, defaults.Output),
	}
}

// Narrow returns, field by field, the smaller of l and inner; a zero of inner means that
// of l.
func (l Limits) Narrow(inner Limits) Limits {
	return Limits{
		Memory: least(l.Memory, inner.Memory), CPUs: least(l.CPUs, inner.CPUs), PIDs: least(l.PIDs, inner.PIDs),
		Disk: least(l.Disk, inner.Disk), Files: least(l.Files, inner.Files), Wall: least(l.Wall, inner.Wall),
		Output: least(l.Output, inner.Output),
	}
}

func least[T cmp.Ordered](outer, inner T) T {
	var zero T
	if inner == zero {
		return outer
	}
	return min(outer, inner)
}

// Check returns, as fault.Usage, what of s no back end can do, whatever is in its image.
func (s ContainerSpec) Check() error {
	errs := []error{CheckName("container", s.Name), s.Limits.Check()}
	for _, a := range s.Aliases {
		errs = append(errs, checkHost(a))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	switch {
	case s.Root != "" && s.Image != "":
		return s.usage("leave one of them out", "both an image and a root")
	case s.Root != "" && !filepath.IsAbs(s.Root):
		return s.usage("make it absolute", "root %q is relative", s.Root)
	case len(s.Args) > 0 && len(s.Argv) > 0:
		return s.usage("put all of them into Argv", "both a command and arguments for the entrypoint of the image")
	case len(s.Args) > 0 && s.Image == "":
		return s.usage("put them into Argv", "arguments for the entrypoint of an image, and no image")
	case s.UID < 0 || s.GID < 0:
		return s.usage("", "negative user %d or group %d", s.UID, s.GID)
	}
	return nil
}

func (s ContainerSpec) usage(hint, format string, args ...any) error {
	return fault.New(fault.Usage, hint, "container "+s.Name+": "+format, args...)
}

// From fills in what s leaves to the configuration of its image.
func (s ContainerSpec) From(c ImageConfig) ContainerSpec {
	if len(s.Argv) == 0 {
		rest := s.Args
		if len(rest) == 0 {
			rest = c.Cmd
		}
		s.Argv = slices.Concat(c.Entrypoint, rest)
	}
	s.Args = nil
	s.Env = mergeEnv(c.Env, s.Env)
	s.Dir = cmp.Or(s.Dir, c.WorkingDir)
	s.UID, s.GID = cmp.Or(s.UID, c.UID), cmp.Or(s.GID, c.GID)
	s.Mounts = slices.Clone(s.Mounts)
	for _, v := range c.Volumes {
		if !slices.ContainsFunc(s.Mounts, func(m Mount) bool { return path.Clean(m.Target) == path.Clean(v) }) {
			s.Mounts = append(s.Mounts, Mount{Kind: Scratch, Target: v})
		}
	}
	return s
}

// mergeEnv puts own after what the image says, and leaves out what is set again.
func mergeEnv(image, own []string) []string {
	set := map[string]bool{}
	for _, e := range own {
		name, _, _ := strings.Cut(e, "=")
		set[name] = true
	}
	var merged []string
	for _, e := range image {
		if name, _, _ := strings.Cut(e, "="); !set[name] {
			merged = append(merged, e)
		}
	}
	return append(merged, own...)
}

// CheckInside returns, as fault.Usage, what of a specification that is complete could not
// be asked of a kernel. Nothing can be mounted where taken says that something is.
func (s ContainerSpec) CheckInside(taken func(target string) bool) error {
	if err := CheckCommand("container "+s.Name, s.Argv, s.Env); err != nil {
		return err
	}
	targets := map[string]bool{}
	for _, m := range s.Mounts {
		switch m.Kind {
		case ReadOnly, ReadWrite, Overlay:
			if !filepath.IsAbs(m.Source) {
				return s.usage("make it absolute", "the source %q of mount %s is not absolute", m.Source, m.Target)
			}
		case Scratch:
		default:
			return s.usage("use ro, rw, overlay or scratch", "mount %s has unknown kind %q", m.Target, m.Kind)
		}
		target := path.Clean(m.Target)
		switch {
		case !path.IsAbs(m.Target), target == "/", target == "/proc", target == "/dev", taken(target):
			return s.usage("mount elsewhere, below /", "nothing can be mounted at %q", m.Target)
		case strings.ContainsRune(target, 0):
			return s.usage("mount elsewhere", "a zero byte in the path %q", m.Target)
		case targets[target]:
			return s.usage("", "two mounts at %s", target)
		case m.Size < 0:
			return s.usage("leave it out for the default", "mount %s has a negative size", target)
		}
		targets[target] = true
	}
	return nil
}

// CheckCommand refuses, as fault.Usage, what the kernel could not be asked to run. Where
// begins the error.
func CheckCommand(where string, argv, env []string) error {
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
