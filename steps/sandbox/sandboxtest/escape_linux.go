//go:build amd64 || arm64

package sandboxtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// attempt is a way to leave. What try returns is what refused it; nil says that nothing did.
type attempt struct {
	name string
	from sandbox.Level // the weakest level that refuses it
	try  func(w outside) error
}

// escapes are the attempts that share a container.
var escapes = slices.Concat(fileAttempts, networkAttempts, processAttempts, privilegeAttempts, calls(kernelCalls), calls(architectureCalls))

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

// refusal is the error of a call that was refused. What says that an argument is wrong
// comes from behind the walls: the call was let through.
func refusal(call string, errno syscall.Errno) error {
	if slices.Contains([]syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSYS}, errno) {
		return fmt.Errorf("%s: %w", call, errno)
	}
	return nil
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
