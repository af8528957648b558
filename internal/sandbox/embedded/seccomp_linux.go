package embedded

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// denied are the system calls that no payload needs and that reach the kernel's
// rarely used or privileged parts: mounting, namespaces, modules, tracing other
// processes, keys, clocks. Those unknown to an architecture are left out there.
var denied = []string{
	"acct", "add_key", "adjtimex", "bpf", "clock_adjtime", "clock_settime", "delete_module",
	"fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module",
	"io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp",
	"kexec_file_load", "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr",
	"move_mount", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree",
	"perf_event_open", "pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev",
	"ptrace", "quotactl", "quotactl_fd", "reboot", "request_key", "setns", "settimeofday", "stime",
	"swapoff", "swapon", "sysfs", "_sysctl", "syslog", "umount", "umount2", "unshare",
	"userfaultfd", "uselib", "ustat", "vhangup", "vm86", "vm86old",
}

// filterCalls loads the system call filters on the calling thread, which needs
// no_new_privs. What it later starts inherits them.
func filterCalls() error {
	info, err := arch.GetInfo("")
	if err != nil {
		return err
	}
	if err := setFilter(argumentFilter(uint32(info.ID))); err != nil {
		return err
	}
	var known []string
	for _, name := range denied {
		if _, ok := info.SyscallNames[name]; ok {
			known = append(known, name)
		}
	}
	newUser := seccomp.NameWithConditions{Name: "clone", Conditions: seccomp.ArgumentConditions{
		{Argument: cloneFlags(), Operation: seccomp.BitsSet, Value: unix.CLONE_NEWUSER},
	}}
	return seccomp.LoadFilter(seccomp.Filter{Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionAllow,
		Syscalls: []seccomp.SyscallGroup{
			{
				Action:             seccomp.ActionErrno | seccomp.Action(unix.EPERM),
				Names:              known,
				NamesWithCondtions: []seccomp.NameWithConditions{newUser},
			},
			// The flags of clone3 are out of a filter's sight; callers fall back to clone.
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
		},
	}})
}

// cloneFlags is the position of clone's flags: clone(2), "C library/kernel differences".
func cloneFlags() uint32 {
	if runtime.GOARCH == "s390x" {
		return 1
	}
	return 0
}

// Offsets in struct seccomp_data, seccomp(2).
const (
	dataNumber       = 0
	dataArchitecture = 4
	dataArguments    = 16
)

// argumentFilter refuses the calls of every other architecture, such as 32-bit
// ones, whose numbers the list of names would misread or let pass. It also
// refuses what depends on a 32-bit argument, of which it looks at the half that
// the kernel looks at: input injected into a terminal, and sockets that no
// network namespace holds back, the kernel's crypto and the hypervisor's.
func argumentFilter(native uint32) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		result = unix.BPF_RET | unix.BPF_K
		refuse = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	)
	return []unix.SockFilter{
		{Code: load, K: dataArchitecture},
		{Code: equal, K: native, Jt: 1},
		{Code: result, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: dataNumber},
		{Code: equal, K: unix.SYS_IOCTL, Jf: 4},
		{Code: load, K: lowHalf(1)},
		{Code: equal, K: unix.TIOCSTI, Jt: 6},
		{Code: equal, K: unix.TIOCLINUX, Jt: 5},
		{Code: result, K: unix.SECCOMP_RET_ALLOW},
		{Code: equal, K: unix.SYS_SOCKET, Jf: 4},
		{Code: load, K: lowHalf(0)},
		{Code: equal, K: unix.AF_ALG, Jt: 1},
		{Code: equal, K: unix.AF_VSOCK, Jf: 1},
		{Code: result, K: refuse},
		{Code: result, K: unix.SECCOMP_RET_ALLOW},
	}
}

// lowHalf is the offset of the lower 32 bits of an argument.
func lowHalf(argument uint32) uint32 {
	offset := dataArguments + 8*argument
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		offset += 4
	}
	return offset
}

func setFilter(program []unix.SockFilter) error {
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(&p)
	if errno != 0 {
		return fmt.Errorf("load a filter: %w", errno)
	}
	return nil
}
