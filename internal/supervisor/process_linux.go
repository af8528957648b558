package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// isolate gives the service a process group of its own, ends it with the
// supervisor, and applies the root directory and user of the spec.
func isolate(cmd *exec.Cmd, s Spec) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Chroot: s.Root}
	if s.Root != "" || s.UID != 0 || s.GID != 0 {
		who := &syscall.Credential{Uid: uint32(s.UID), Gid: uint32(s.GID)}
		for _, g := range s.Groups {
			who.Groups = append(who.Groups, uint32(g))
		}
		cmd.SysProcAttr.Credential = who
	}
	return nil
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// awaitEnd returns when the child has ended, without waiting for it in the sense
// of wait(2): it stays a zombie and keeps its number.
func awaitEnd(pid int) {
	const pPID, wExited, wNoWait = 1, 0x4, 0x1000000 // waitid(2)
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), 0, wExited|wNoWait, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

// killGroup ends what is left of the group of a child that has ended and was not
// yet waited for.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// birth returns the boot and the time since boot at which a process started
// (proc_pid_stat(5), field 22). A zombie has ended.
func birth(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", errNoProcess
	}
	// The name in field 2 may contain spaces and parentheses; fields count from
	// its last parenthesis.
	i := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(fields) < 20 {
		return "", fmt.Errorf("process %d: status cannot be read", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", errNoProcess
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(boot)) + " " + fields[19], nil
}
