//go:build unix

package toolchain

import (
	"os/exec"
	"syscall"
)

// ownGroup makes the end of cmd's context kill its children too: a killed go
// command would leave its compilers running.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
