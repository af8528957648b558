package embedded

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/landlock-lsm/go-landlock/landlock"
	abi "github.com/landlock-lsm/go-landlock/landlock/syscall"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// landlockConfig returns the strictest configuration for files, and for signals
// and abstract sockets where the kernel knows them, and the version of its
// interface. It never settles for no restriction: an old kernel is an error.
func landlockConfig() (landlock.Config, int, error) {
	v, err := abi.LandlockGetABIVersion()
	switch {
	case err != nil:
		return landlock.Config{}, 0, fmt.Errorf("the kernel has no Landlock, or it is not among the active modules (lsm=): %w", err)
	case v < 2:
		return landlock.Config{}, v, fmt.Errorf("the kernel's Landlock is version %d, 2 is needed", v)
	case v == 2:
		return landlock.V2, v, nil
	case v < 5:
		return landlock.V3, v, nil
	case v == 5:
		return landlock.V5, v, nil
	default:
		return landlock.V6, v, nil
	}
}

// restrictFiles lets the process read the host's programs and what was mounted,
// and write only what was mounted writable.
func restrictFiles(spec *initSpec) error {
	config, version, err := landlockConfig()
	if err != nil {
		return fail("use Landlock", err)
	}
	rules := []landlock.Rule{
		landlock.RODirs(present("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/etc/alternatives")...),
		landlock.ROFiles(present("/etc/ld.so.cache", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf",
			"/dev/random", "/dev/urandom")...),
		landlock.RWFiles(present("/dev/null", "/dev/zero", "/dev/full", "/dev/tty")...),
	}
	if spec.Root != "" {
		rules = append(rules, landlock.RODirs(spec.Root))
	}
	for _, dir := range spec.Writable {
		rules = append(rules, landlock.RWDirs(dir).WithRefer())
	}
	for _, m := range spec.Mounts {
		rule, err := mountRule(m)
		if err != nil {
			return fail("show "+m.Source, err)
		}
		rules = append(rules, rule)
	}
	if err := config.RestrictPaths(rules...); err != nil {
		return fail("restrict files by Landlock", err)
	}
	if version >= 6 {
		return fail("restrict signals by Landlock", config.RestrictScoped())
	}
	return nil
}

// mountRule is for a mount whose source is the place itself: see Environment.Path.
func mountRule(m sandbox.Mount) (landlock.Rule, error) {
	st, err := os.Stat(m.Source)
	if err != nil {
		return nil, err
	}
	switch {
	case m.Kind == sandbox.ReadOnly && st.IsDir():
		return landlock.RODirs(m.Source), nil
	case m.Kind == sandbox.ReadOnly:
		return landlock.ROFiles(m.Source), nil
	case st.IsDir():
		return landlock.RWDirs(m.Source).WithRefer(), nil
	default:
		return landlock.RWFiles(m.Source), nil
	}
}

// present returns those paths that exist: Landlock refuses a rule for one that
// does not, and then restricts nothing at all.
func present(paths ...string) []string {
	var found []string
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			found = append(found, filepath.Clean(p))
		}
	}
	return found
}
