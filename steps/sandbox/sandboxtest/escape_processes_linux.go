//go:build amd64 || arm64

package sandboxtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

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
