//go:build amd64 || arm64

package sandboxtest

import (
	"syscall"
	"unsafe"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// kernelCalls reach the kernel's privileged and rarely used parts.
var kernelCalls = []callAttempt{
	{"mount a file system", "mount", syscall.SYS_MOUNT, [6]uintptr{text("none"), text("/tmp"), text("tmpfs"), 0, 0}},
	{"make the root writable", "mount", syscall.SYS_MOUNT, [6]uintptr{0, text("/"), 0, syscall.MS_REMOUNT | syscall.MS_BIND, 0}},
	{"make mounts shared", "mount", syscall.SYS_MOUNT, [6]uintptr{0, text("/"), 0, syscall.MS_SHARED | syscall.MS_REC, 0}},
	{"uncover what a mount hides", "umount2", syscall.SYS_UMOUNT2, [6]uintptr{text("/proc"), syscall.MNT_DETACH}},
	{"fsopen", "fsopen", sysFsopen, [6]uintptr{text("tmpfs"), 0}},
	{"open_tree", "open_tree", sysOpenTree, [6]uintptr{atFDCWD, text("/"), 1}},
	{"mount_setattr", "mount_setattr", sysMountSetattr, [6]uintptr{atFDCWD, text("/"), 0, room(), 32}},
	{"pivot_root", "pivot_root", syscall.SYS_PIVOT_ROOT, [6]uintptr{text("/tmp"), text("/tmp")}},
	{"init_module", "init_module", syscall.SYS_INIT_MODULE, [6]uintptr{room(), 512, text("")}},
	{"finit_module", "finit_module", sysFinitModule, [6]uintptr{0, text(""), 0}},
	{"delete_module", "delete_module", syscall.SYS_DELETE_MODULE, [6]uintptr{text("dummy"), 0}},
	{"kexec_load", "kexec_load", syscall.SYS_KEXEC_LOAD, [6]uintptr{0, 0, 0, 0}},
	{"kexec_file_load", "kexec_file_load", sysKexecFileLoad, [6]uintptr{0, 0, 0, 0, 0}},
	{"bpf", "bpf", sysBPF, [6]uintptr{0, room(), 72}},
	{"perf_event_open", "perf_event_open", syscall.SYS_PERF_EVENT_OPEN, [6]uintptr{room(), 0, ^uintptr(0), ^uintptr(0), 0}},
	{"io_uring_setup", "io_uring_setup", sysIOUringSetup, [6]uintptr{8, room()}},
	{"userfaultfd", "userfaultfd", sysUserfaultfd, [6]uintptr{1}},
	{"fanotify_init", "fanotify_init", sysFanotifyInit, [6]uintptr{0, 0}},
	{"add_key", "add_key", syscall.SYS_ADD_KEY, [6]uintptr{text("user"), text("name"), text("x"), 1, ^uintptr(3)}},
	{"keyctl", "keyctl", syscall.SYS_KEYCTL, [6]uintptr{0, ^uintptr(3), 1}},
	{"request_key", "request_key", syscall.SYS_REQUEST_KEY, [6]uintptr{text("user"), text("name"), 0, ^uintptr(3)}},
	{"quotactl", "quotactl", syscall.SYS_QUOTACTL, [6]uintptr{0x800001 << 8, 0, 0, 0}},
	{"quotactl_fd", "quotactl_fd", sysQuotactlFD, [6]uintptr{0, 0x800001 << 8, 0, 0}},
	{"reboot", "reboot", syscall.SYS_REBOOT, [6]uintptr{syscall.LINUX_REBOOT_MAGIC1, syscall.LINUX_REBOOT_MAGIC2, syscall.LINUX_REBOOT_CMD_CAD_OFF, 0}},
	{"swapon", "swapon", syscall.SYS_SWAPON, [6]uintptr{text("/tmp/swap"), 0}},
	{"swapoff", "swapoff", syscall.SYS_SWAPOFF, [6]uintptr{text("/tmp/swap")}},
	{"settimeofday", "settimeofday", syscall.SYS_SETTIMEOFDAY, [6]uintptr{0, room()}},
	{"acct", "acct", syscall.SYS_ACCT, [6]uintptr{text("/tmp/acct")}},
	{"syslog", "syslog", syscall.SYS_SYSLOG, [6]uintptr{3, room(), 512}},
	{"sethostname", "sethostname", syscall.SYS_SETHOSTNAME, [6]uintptr{text("escaped"), 7}},
	{"personality without address randomisation", "personality", syscall.SYS_PERSONALITY, [6]uintptr{0x0040000}},
	{"chroot", "chroot", syscall.SYS_CHROOT, [6]uintptr{text("/tmp")}},
	{"unshare user namespace", "unshare", syscall.SYS_UNSHARE, [6]uintptr{syscall.CLONE_NEWUSER}},
	{"unshare mount namespace", "unshare", syscall.SYS_UNSHARE, [6]uintptr{syscall.CLONE_NEWNS}},
	{"unshare network namespace", "unshare", syscall.SYS_UNSHARE, [6]uintptr{syscall.CLONE_NEWNET}},
	{"unshare process namespace", "unshare", syscall.SYS_UNSHARE, [6]uintptr{syscall.CLONE_NEWPID}},
	{"setns", "setns", sysSetns, [6]uintptr{0, 0}},
	{"clone3", "clone3", sysClone3, [6]uintptr{0, 0}},
}

// callAttempt is a system call with arguments that would do, or begin to do, what it is for.
type callAttempt struct {
	name, call string
	number     uintptr
	arguments  [6]uintptr
}

func (c callAttempt) try(outside) error {
	_, _, errno := syscall.RawSyscall6(c.number, c.arguments[0], c.arguments[1], c.arguments[2], c.arguments[3], c.arguments[4], c.arguments[5])
	return refusal(c.call, errno)
}

func calls(list []callAttempt) []attempt {
	var out []attempt
	for _, c := range list {
		out = append(out, attempt{c.name, sandbox.Full, c.try})
	}
	return out
}

// Calls whose numbers are the same on every architecture.
const (
	sysPidfdSendSignal = 424
	sysIOUringSetup    = 425
	sysOpenTree        = 428
	sysFsopen          = 430
	sysPidfdOpen       = 434
	sysClone3          = 435
	sysPidfdGetfd      = 438
	sysMountSetattr    = 442
	sysQuotactlFD      = 443
)

const atFDCWD = ^uintptr(99) // -100

// text is the address of a string for a system call; it lives as long as the process.
func text(s string) uintptr {
	p, err := syscall.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	texts = append(texts, p)
	return uintptr(unsafe.Pointer(p))
}

// room is zeroed memory for a system call.
func room() uintptr {
	b := new([512]byte)
	texts = append(texts, &b[0])
	return uintptr(unsafe.Pointer(b))
}

// texts keeps what only numbers point to.
var texts []*byte
