package door

import (
	"os/exec"
	"runtime"
	"syscall"
)

// runBound runs a command that does not outlive this process, however that ends: what
// it would still write has no owner. The signal comes with the end of the thread that
// started the command, so the thread stays with it.
func runBound(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}
