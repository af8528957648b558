package embedded

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// confine takes from the calling thread, and so from what it starts, everything
// that level Full does not leave it, and reads back that it is gone.
func confine(spec *initSpec) error {
	if !spec.staged() {
		if err := limitResources(spec.Rlimits); err != nil {
			return err
		}
	}
	// A group namespace hides where in the host's hierarchy the payload is.
	if err := fail("unshare the control group namespace", unix.Unshare(unix.CLONE_NEWCGROUP)); err != nil {
		return err
	}
	if err := fail("give up capabilities", dropCapabilities(spec.Variant.UserNS)); err != nil {
		return err
	}
	if err := fail("set no_new_privs", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); err != nil {
		return err
	}
	if err := fail("become undumpable", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)); err != nil {
		return err
	}
	if err := fail("load the system call filter", filterCalls()); err != nil {
		return err
	}
	return fail("check what was given up", checkConfined(spec.Variant.UserNS))
}

// limitResources sets limits, a hard one at most as high as it is, and reads them back.
func limitResources(limits []rlimit) error {
	for _, l := range limits {
		var now, got syscall.Rlimit
		if err := syscall.Getrlimit(l.Resource, &now); err != nil {
			return fail("read the limit of "+l.Name, err)
		}
		value := min(l.Value, now.Max)
		// Through package syscall, which else would restore its own idea of the
		// limit of open files in every child.
		if err := syscall.Setrlimit(l.Resource, &syscall.Rlimit{Cur: value, Max: value}); err != nil {
			return fail("limit "+l.Name, err)
		}
		if err := syscall.Getrlimit(l.Resource, &got); err != nil {
			return fail("read the limit of "+l.Name, err)
		}
		if got.Cur > l.Value || got.Max > l.Value {
			return fail("limit "+l.Name, fmt.Errorf("the kernel says %d, weaker than the %d asked for", got.Max, l.Value))
		}
	}
	return nil
}

// dropCapabilities empties the bounding, ambient and inheritable sets. In a user
// namespace the user is the payload's already, so the others are emptied too;
// otherwise the change of user does that.
func dropCapabilities(userNS bool) error {
	last, err := lastCapability()
	if err != nil {
		return err
	}
	for c := range last + 1 {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if !userNS {
		if err := unix.Capget(&header, &sets[0]); err != nil {
			return err
		}
		sets[0].Inheritable, sets[1].Inheritable = 0, 0
	}
	return unix.Capset(&header, &sets[0])
}

// rootsFiles is what root keeps at level Reduced: it can treat the files that Landlock
// leaves it as its own, whoever has them, and start servers as other users. With more
// it could raise its limits and read the kernel's memory.
const rootsFiles uint64 = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE

// keepCapabilities takes all others from the calling thread, and reads back that they
// are gone. That no_new_privs is set keeps them from coming back when root starts a
// program, also where the bounding set cannot be changed.
func keepCapabilities(kept uint64) error {
	if v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || v != 1 {
		return fmt.Errorf("no_new_privs is %d (%v)", v, err)
	}
	last, err := lastCapability()
	if err != nil {
		return err
	}
	for c := range last + 1 {
		if kept&(1<<c) != 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EPERM {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	for i := range sets {
		part := uint32(kept >> (32 * i))
		sets[i] = unix.CapUserData{Effective: sets[i].Effective & part, Permitted: sets[i].Permitted & part}
	}
	if err := unix.Capset(&header, &sets[0]); err != nil {
		return err
	}
	var got [2]unix.CapUserData
	if err := unix.Capget(&header, &got[0]); err != nil {
		return err
	}
	if got != sets {
		return fmt.Errorf("capabilities are left: %+v", got)
	}
	return nil
}

// lastCapability returns the highest capability that the kernel knows.
func lastCapability() (int, error) {
	for c := range 64 {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil {
			if c == 0 {
				return 0, err
			}
			return c - 1, nil
		}
	}
	return 63, nil
}

// checkConfined asks the kernel whether the calling thread is what it should be.
func checkConfined(userNS bool) error {
	if v, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || v != 1 {
		return fmt.Errorf("no_new_privs is %d (%v)", v, err)
	}
	if v, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil || v != 2 {
		return fmt.Errorf("seccomp mode is %d (%v)", v, err)
	}
	last, err := lastCapability()
	if err != nil {
		return err
	}
	for c := range last + 1 {
		if v, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil || v != 0 {
			return fmt.Errorf("capability %d is still in the bounding set (%v)", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	if sets[0].Inheritable|sets[1].Inheritable != 0 || userNS && sets[0].Permitted|sets[1].Permitted != 0 {
		return fmt.Errorf("capabilities are left: %+v", sets)
	}
	return nil
}
