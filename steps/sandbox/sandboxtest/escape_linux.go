//go:build amd64 || arm64

package sandboxtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// attempt is a way to leave. What try returns is what refused it; nil says that nothing did.
type attempt struct {
	name string
	from sandbox.Level // the weakest level that refuses it
	try  func(w outside) error
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

// refusal is the error of a call that was refused. What says that an argument is wrong
// comes from behind the walls: the call was let through.
func refusal(call string, errno syscall.Errno) error {
	if slices.Contains([]syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSYS}, errno) {
		return fmt.Errorf("%s: %w", call, errno)
	}
	return nil
}

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

const atFDCWD = ^uintptr(99) // -100

// escapes are the attempts that share a container.
var escapes = slices.Concat(fileAttempts, networkAttempts, processAttempts, privilegeAttempts, calls(kernelCalls), calls(architectureCalls))

func calls(list []callAttempt) []attempt {
	var out []attempt
	for _, c := range list {
		out = append(out, attempt{c.name, sandbox.Full, c.try})
	}
	return out
}

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

// fileAttempts reach for files outside.
var fileAttempts = []attempt{
	{"write a file of the host", sandbox.Reduced, func(w outside) error { return try(writeFile(w.Secret)) }},
	{"write into a directory of the host", sandbox.Reduced, func(w outside) error { return try(writeFile(w.Dir + "/escaped")) }},
	{"write into the root", sandbox.Reduced, func(outside) error {
		return all(writeFile("/escaped"), writeFile("/usr/escaped"), writeFile("/etc/passwd"), writeFile("/usr/bin/true"))
	}},
	{"read a file of the host", sandbox.Reduced, func(w outside) error {
		return all(readable(w.Secret), readable("/etc/shadow"), readable("/root/.bashrc"))
	}},
	{"read a file of another environment", sandbox.Reduced, func(w outside) error { return try(readable(w.Other)) }},
	{"leave by /proc/PID/root and cwd", sandbox.Reduced, func(w outside) error {
		return eachProcess(func(dir string) error {
			return all(readable(dir+"/root"+w.Secret), readable(dir+"/cwd/../../../../../../../.."+w.Secret), readable(dir+"/root"+w.Other))
		})
	}},
	{"files that others have open", sandbox.Full, func(outside) error {
		return eachStranger(func(_ int, dir string) error {
			entries, err := os.ReadDir(dir + "/fd")
			for _, e := range entries {
				if f, err := os.Open(dir + "/fd/" + e.Name()); err == nil {
					f.Close()
					return nil
				}
			}
			return errors.Join(err, errors.New("nothing of "+dir+" can be opened"))
		})
	}},
	{"inherited descriptors", sandbox.None, inheritedDescriptors},
	{"overwrite the program of the supervisor", sandbox.Full, func(outside) error {
		var errs []error
		for _, path := range []string{"/proc/self/exe", "/proc/1/exe"} {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				f.Close()
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}},
	{"open_by_handle_at", sandbox.Full, func(outside) error {
		handle := struct {
			size, kind int32
			data       [128]byte
		}{size: 128}
		var mount int32
		_, _, errno := syscall.RawSyscall6(sysNameToHandleAt, atFDCWD, text("/etc"), uintptr(unsafe.Pointer(&handle)), uintptr(unsafe.Pointer(&mount)), 0, 0)
		if errno == 0 { // the name of a file is no file yet
			_, _, errno = syscall.RawSyscall(sysOpenByHandleAt, atFDCWD, uintptr(unsafe.Pointer(&handle)), syscall.O_RDONLY)
		}
		return refusal("open_by_handle_at", errno)
	}},
	{"devices made anew", sandbox.Full, func(outside) error {
		var errs []error
		for name, device := range map[string]int{"disk": 8 << 8, "memory": 1<<8 | 1, "kernel log": 1<<8 | 11} {
			kind := uint32(syscall.S_IFCHR)
			if name == "disk" {
				kind = syscall.S_IFBLK
			}
			path := "/tmp/device"
			err := syscall.Mknod(path, kind|0o600, device)
			if err == nil {
				var f *os.File
				if f, err = os.Open(path); err == nil {
					f.Close()
					return nil
				}
				os.Remove(path)
			}
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return errors.Join(errs...)
	}},
	{"devices of the host", sandbox.Reduced, func(outside) error {
		return all(readable("/dev/mem"), readable("/dev/kmsg"), readable("/dev/sda"), readable("/dev/vda"), readable("/dev/nvme0n1"), readable("/dev/kvm"), readable("/dev/fuse"))
	}},
	{"settings of the kernel", sandbox.Reduced, func(outside) error {
		return all(writable("/proc/sys/kernel/core_pattern"), writable("/proc/sys/kernel/modprobe"), writable("/proc/sys/kernel/hostname"),
			writable("/proc/sysrq-trigger"), writable("/proc/sys/vm/overcommit_memory"), writable("/proc/sys/fs/binfmt_misc/register"),
			writable("/sys/kernel/uevent_helper"), writable("/sys/power/state"), writable("/sys/kernel/mm/transparent_hugepage/enabled"))
	}},
	{"control groups", sandbox.Reduced, func(outside) error {
		found, err := filepath.Glob("/sys/fs/cgroup/*")
		errs := []error{err, writable("/sys/fs/cgroup/cgroup.procs"), writable("/sys/fs/cgroup/release_agent")}
		for _, dir := range found {
			errs = append(errs, writable(dir+"/release_agent"), writable(dir+"/notify_on_release"), writable(dir+"/cgroup.procs"), writable(dir+"/tasks"))
		}
		return all(errs[1:]...)
	}},
	{"memory of the kernel", sandbox.Reduced, func(outside) error { return all(readable("/proc/kcore"), readable("/dev/mem"), readable("/dev/kmem")) }},
}

// networkAttempts reach for others over the network.
var networkAttempts = []attempt{
	{"the metadata service", sandbox.Full, func(outside) error { return dial("tcp", "169.254.169.254:80") }},
	{"the internet", sandbox.Full, func(outside) error {
		// 192.0.2.0/24 and 2001:db8::/32 are for documentation: nobody answers there,
		// but a network that has a way out tries.
		for _, a := range []string{"192.0.2.1:80", "[2001:db8::1]:80"} {
			if err := dial("tcp", a); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
		}
		c, err := net.Dial("udp", "192.0.2.1:53")
		if err == nil {
			_, err = c.Write([]byte("x"))
			c.Close()
		}
		return err
	}},
	{"servers of the host", sandbox.Full, func(w outside) error {
		addresses := slices.Concat(w.Addresses, []string{"127.0.0.1", "::1"})
		// The first address of one's own network is the host's, on a bridge.
		own, err := net.InterfaceAddrs()
		for _, a := range own {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
				first := ip.IP.Mask(ip.Mask).To4()
				first[3]++
				addresses = append(addresses, first.String())
			}
		}
		errs := []error{err}
		for _, a := range addresses {
			if err := dial("tcp", net.JoinHostPort(a, w.Listener)); err == nil {
				return nil
			} else if len(errs) < 3 {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}},
	{"abstract sockets of the host", sandbox.Full, func(w outside) error { return dial("unix", w.Abstract) }},
	{"raw sockets", sandbox.Full, func(outside) error {
		for _, s := range [][3]int{{syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP}, {syscall.AF_INET6, syscall.SOCK_RAW, syscall.IPPROTO_ICMPV6}, {syscall.AF_PACKET, syscall.SOCK_RAW, 0}} {
			if err := socket(s[0], s[1], s[2]); err == nil {
				return nil
			}
		}
		return socket(syscall.AF_PACKET, syscall.SOCK_DGRAM, 0)
	}},
	{"sockets of the hypervisor", sandbox.Full, func(outside) error { return socket(40, syscall.SOCK_STREAM, 0) }},
	{"sockets of the kernel's crypto", sandbox.Full, func(outside) error { return socket(38, syscall.SOCK_SEQPACKET, 0) }},
	{"netlink beyond routes", sandbox.Full, func(outside) error {
		for _, protocol := range []int{2, 4, 6, 9, 11, 12, 15, 16, 18, 21} {
			if err := socket(syscall.AF_NETLINK, syscall.SOCK_RAW, protocol); err == nil {
				return nil
			}
		}
		return socket(syscall.AF_NETLINK, syscall.SOCK_RAW, syscall.NETLINK_KOBJECT_UEVENT)
	}},
	{"change the network", sandbox.Full, func(outside) error {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		request := [40]byte{'l', 'o'} // with no flags: down
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
		return refusal("ioctl", errno)
	}},
}

// processAttempts reach for other processes.
var processAttempts = []attempt{
	{"trace the supervisor", sandbox.Full, func(outside) error {
		const seize = 0x4206
		return eachStranger(func(pid int, _ string) error {
			_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, seize, uintptr(pid), 0, 0, 0, 0)
			return asError("ptrace", errno)
		})
	}},
	{"trace a process of one's own", sandbox.Full, func(outside) error {
		runtime.LockOSThread()
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, syscall.PTRACE_TRACEME, 0, 0, 0, 0, 0)
		return refusal("ptrace", errno)
	}},
	{"read the supervisor's memory", sandbox.Full, func(outside) error {
		return eachStranger(func(pid int, dir string) error {
			from := syscall.Iovec{Base: new(byte), Len: 1}
			_, _, errno := syscall.RawSyscall6(sysProcessVMReadv, uintptr(pid), uintptr(unsafe.Pointer(&from)), 1, uintptr(unsafe.Pointer(&from)), 1, 0)
			return all(asError("process_vm_readv", errno), readable(dir+"/mem"), readable(dir+"/maps"))
		})
	}},
	{"write the supervisor's memory", sandbox.Full, func(outside) error {
		return eachStranger(func(pid int, dir string) error {
			from := syscall.Iovec{Base: new(byte), Len: 1}
			_, _, errno := syscall.RawSyscall6(sysProcessVMWritev, uintptr(pid), uintptr(unsafe.Pointer(&from)), 1, uintptr(unsafe.Pointer(&from)), 1, 0)
			return all(asError("process_vm_writev", errno), writable(dir+"/mem"))
		})
	}},
	{"read the supervisor's environment", sandbox.Full, func(outside) error {
		return eachStranger(func(_ int, dir string) error { return try(readable(dir + "/environ")) })
	}},
	{"take a descriptor of the supervisor", sandbox.Full, func(outside) error {
		return eachStranger(func(pid int, _ string) error {
			fd, _, errno := syscall.RawSyscall(sysPidfdOpen, uintptr(pid), 0, 0)
			if errno == 0 {
				_, _, errno = syscall.RawSyscall(sysPidfdGetfd, fd, 0, 0)
			}
			return asError("pidfd_getfd", errno)
		})
	}},
	{seeProcesses, sandbox.Full, func(w outside) error {
		lines, err := commandLines()
		for _, l := range lines {
			// The test outside runs by its flags, and its witness without a container.
			if strings.Contains(l, "-test.") || strings.HasSuffix(l, payloadArg+" hold") && !strings.Contains(l, executable.Target) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("only %d processes can be seen", len(lines)))
	}},
	{"clone into a user namespace", sandbox.Full, func(outside) error {
		cmd := exec.Command("/proc/self/exe", payloadArg, "exit", "0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		return cmd.Run()
	}},
	{"enter a namespace of the supervisor", sandbox.Full, func(outside) error {
		return eachStranger(func(pid int, dir string) error {
			fd, err := os.Open(dir + "/ns/net")
			if err != nil {
				return err
			}
			defer fd.Close()
			_, _, errno := syscall.RawSyscall(sysSetns, fd.Fd(), 0, 0)
			return asError("setns", errno)
		})
	}},
}

// privilegeAttempts reach for more rights.
var privilegeAttempts = []attempt{
	{"a set-user-ID program", sandbox.Full, func(w outside) error {
		if w.Setuid == "" {
			return errors.New("nobody but root can make one, and root is not here")
		}
		out, err := exec.Command(w.Setuid, payloadArg, "effective").CombinedOutput()
		if err == nil && strings.TrimSpace(string(out)) == "0" {
			return nil
		}
		return errors.Join(err, fmt.Errorf("it runs as user %s", out))
	}},
	{"become root", sandbox.Full, func(outside) error {
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			return nil
		}
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETUID, 0, 0, 0)
		return asError("setuid", errno)
	}},
	{"join other groups", sandbox.Full, func(outside) error {
		groups := []uint32{0}
		_, _, errno := syscall.RawSyscall(syscall.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&groups[0])), 0)
		return asError("setgroups", errno)
	}},
	{"take capabilities", sandbox.Full, func(outside) error {
		header := struct {
			version uint32
			pid     int32
		}{0x20080522, 0}
		sets := [6]uint32{1 << 21, 1 << 21} // effective and permitted: CAP_SYS_ADMIN
		_, _, errno := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0)
		return asError("capset", errno)
	}},
	{"raise a limit", sandbox.Reduced, func(outside) error {
		var l syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			return err
		}
		l.Max++
		return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}},
	{"escape the memory killer", sandbox.Full, func(outside) error {
		return os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0)
	}},
	{"real-time priority", sandbox.Full, func(outside) error {
		priority := int32(1)
		_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, 0, 1, uintptr(unsafe.Pointer(&priority)))
		return asError("sched_setscheduler", errno)
	}},
}

func asError(call string, errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", call, errno)
}

// try is for one of [writeFile] and its like, all for several: each of them must fail.
func try(err error) error { return err }

func all(errs ...error) error {
	for _, err := range errs {
		if err == nil {
			return nil
		}
	}
	return errors.Join(errs[:min(len(errs), 3)]...)
}

func writeFile(path string) error { return os.WriteFile(path, []byte("escaped"), 0o644) }

// writable only opens: had it a way to the kernel's settings, a test must not use it.
func writable(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		f.Close()
	}
	return err
}

// readable wants a byte: some files open and give nothing.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.ReadFull(f, make([]byte, 1))
	return err
}

func dial(network, address string) error {
	c, err := net.DialTimeout(network, address, 2*time.Second)
	if err == nil {
		c.Close()
	}
	return err
}

func socket(family, kind, protocol int) error {
	fd, err := syscall.Socket(family, kind, protocol)
	if err == nil {
		syscall.Close(fd)
		return nil
	}
	return fmt.Errorf("socket family %d: %w", family, err)
}

// eachProcess tries f with the directory of every process in /proc, until one lets it.
func eachProcess(f func(dir string) error) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	err = errors.New("no process can be seen")
	for _, dir := range slices.Concat(dirs, []string{"/proc/self", "/proc/thread-self"}) {
		if err = f(dir); err == nil {
			return nil
		}
	}
	return err
}

// eachStranger tries f with every process that can be seen and is no payload of ours.
func eachStranger(f func(pid int, dir string) error) error {
	refused := errors.New("no other process can be seen")
	dirs, err := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		line, _ := os.ReadFile(dir + "/cmdline")
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || strings.Contains(string(line), payloadArg) {
			continue
		}
		if refused = f(pid, dir); refused == nil {
			return nil
		}
	}
	return errors.Join(err, refused)
}

// inheritedDescriptors looks for what the back end forgot to close. What this process
// opened itself is closed by the next exec; what it inherited is not.
func inheritedDescriptors(outside) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			to, _ := os.Readlink("/proc/self/fd/" + e.Name())
			fmt.Fprintf(os.Stderr, "descriptor %d is %s\n", fd, to)
			return nil
		}
	}
	return errors.New("none beyond standard input, output and error")
}

// escapePayloads are the payloads of the attempts.
func (p payload) escapePayloads() map[string]func([]string) error {
	return map[string]func([]string) error{
		"attempts": p.attempts, "attempt": p.attempt, "effective": p.effective, "keep": p.keep,
		"signals": p.signals, "type": p.typeAhead, "bomb": p.bomb, "hoard": p.hoard, "fill-all": p.fillAll,
	}
}

// attempts runs each of the named in a process of its own: some cannot be undone.
func (p payload) attempts(args []string) error {
	for _, name := range args[1:] {
		cmd := exec.Command("/proc/self/exe", payloadArg, "attempt", args[0], name)
		var got strings.Builder
		cmd.Stderr = &got
		out, err := cmd.Output()
		o := outcome{Name: name}
		switch refused := strings.TrimSpace(string(out)); {
		case err == nil && refused != "":
			o.Refused = refused
		case err == nil:
			o.Got = "it was let through " + got.String()
		default: // the process was ended for it
			o.Refused = err.Error()
			if cmd.ProcessState != nil && cmd.ProcessState.Exited() {
				o.Refused, o.Got = "", got.String()
			}
		}
		if err := json.NewEncoder(p.stdout).Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// attempt tries to leave in one way and prints what refused it.
func (p payload) attempt(args []string) error {
	var w outside
	if err := json.Unmarshal([]byte(args[0]), &w); err != nil {
		return err
	}
	for _, a := range escapes {
		if a.name != args[1] {
			continue
		}
		if err := a.try(w); err != nil {
			fmt.Fprintln(p.stdout, strings.Join(slices.Compact(strings.Split(err.Error(), "\n")), "; "))
		}
		return nil
	}
	return fmt.Errorf("unknown attempt %q", args[1])
}

// effective prints the effective user.
func (p payload) effective([]string) error {
	fmt.Fprintln(p.stdout, os.Geteuid())
	return nil
}

// keep writes a file and holds.
func (p payload) keep(args []string) error {
	if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
		return err
	}
	return p.hold(nil)
}

// signals sends what kills and stops to everyone: those named, process 1, all.
func (p payload) signals(args []string) error {
	p.ready()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGSTOP, syscall.SIGKILL} {
		for _, arg := range args {
			pid, err := strconv.Atoi(arg)
			if err != nil {
				return err
			}
			fmt.Fprintln(p.stderr, pid, sig, syscall.Kill(pid, sig))
		}
		fmt.Fprintln(p.stderr, 1, sig, syscall.Kill(1, sig))
	}
	return syscall.Kill(-1, syscall.SIGKILL)
}

// typeAhead puts a command into the terminal that is standard input.
func (p payload) typeAhead([]string) error {
	for _, c := range []byte("id\n") {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCSTI, uintptr(unsafe.Pointer(&c))); errno != 0 {
			return fmt.Errorf("ioctl: %w", errno)
		}
	}
	return nil
}

// bomb starts two of itself, each of which does so, until no process can be started;
// then it says so, and holds.
func (p payload) bomb(args []string) error {
	for range 2 {
		cmd := exec.Command("/proc/self/exe", payloadArg, "bomb", args[0])
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			break
		}
	}
	p.ready()
	select {}
}

// hoard takes so many bytes of memory in the given way.
func (p payload) hoard(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	const piece = 1 << 20
	data := make([]byte, piece)
	for i := range data {
		data[i] = byte(i)
	}
	var kept [][]byte
	for i := range n / piece {
		switch args[0] {
		case "heap":
			kept = append(kept, slices.Clone(data))
		case "shared memory":
			err = appendTo("/dev/shm/hoard", data)
		case "memory files":
			err = memoryFile(data)
		case "pipes":
			err = fillPipe(data)
		}
		if err != nil {
			return fmt.Errorf("after %d MiB: %w", i, err)
		}
	}
	runtime.KeepAlive(kept)
	return nil
}

func appendTo(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(data)
	return err
}

// memoryFile makes one that stays open until the end.
func memoryFile(data []byte) error {
	fd, _, errno := syscall.Syscall(sysMemfdCreate, text("hoard"), 0, 0)
	if errno != 0 {
		return fmt.Errorf("memfd_create: %w", errno)
	}
	n, err := syscall.Write(int(fd), data)
	if err == nil && n < len(data) {
		err = io.ErrShortWrite
	}
	return err
}

// fillPipe leaves as many full pipes behind as hold data.
func fillPipe(data []byte) error {
	for len(data) > 0 {
		var fds [2]int
		if err := syscall.Pipe2(fds[:], syscall.O_NONBLOCK); err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		filled := 0
		for len(data) > 0 {
			n, err := syscall.Write(fds[1], data[:min(len(data), 4096)])
			if err != nil {
				break
			}
			filled += n
			data = data[n:]
		}
		if filled == 0 {
			return errors.New("a pipe takes nothing")
		}
	}
	return nil
}

// fillAll writes so many bytes into every mount that takes a file, and prints what
// refused it; that one takes them all is an error.
func (p payload) fillAll(args []string) error {
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var refused []string
	for line := range strings.Lines(string(mounts)) {
		target := strings.Fields(line)[1]
		if st, err := os.Stat(target); err != nil || !st.IsDir() {
			continue
		}
		path := filepath.Join(target, "escape-fill")
		f, err := os.Create(path)
		if err != nil {
			continue
		}
		wrote, err := io.CopyN(f, zeros{}, n)
		f.Close()
		os.Remove(path)
		if err == nil {
			return fmt.Errorf("%s took %d bytes", target, wrote)
		}
		refused = append(refused, fmt.Sprintf("%s: %v after %d MiB", target, errors.Unwrap(err), wrote>>20))
	}
	slices.Sort(refused)
	fmt.Fprintln(p.stdout, strings.Join(slices.Compact(refused), "; "))
	return nil
}

// openTerminal returns a terminal that nobody has, as a shell's is, and its other side,
// without which it would be hung up.
func openTerminal() (terminal, master *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	var unlock, number int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), syscall.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlock)))
	if errno == 0 {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), syscall.TIOCGPTN, uintptr(unsafe.Pointer(&number)))
	}
	if err = asError("ioctl", errno); err == nil {
		terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
	}
	return terminal, master, err
}
