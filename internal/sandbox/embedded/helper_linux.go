package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start-up: every supervisor and init is one more start of a program, and a program
// that links all of a phase takes several times as long to start as to do what an init
// does. So a released program carries a small one, command helper, whose main only
// calls [Reexec], and starts that from a memory file. It is stored as it is: deflate
// would save 2 MB of 3.6, and take 25 ms at each start where writing takes 1.3.

// self is this program, from the start to the end of it.
const self = "/proc/self/exe"

// minHelperFD keeps the helper's descriptor clear of those that a child is given.
const minHelperFD = 64

// helperPath returns the path of the helper in a memory file, or an empty one if there
// is none or the kernel allows none.
var helperPath = sync.OnceValue(func() string {
	if helperImage == "" {
		return ""
	}
	fd, err := openHelper(helperImage)
	if err != nil {
		return "" // as with vm.memfd_noexec: this program will do
	}
	return memoryPath(fd)
})

func memoryPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// openHelper returns a descriptor of an executable memory file that nobody can change:
// what runs in a container might come upon it as /proc/PID/exe (CVE-2019-5736).
func openHelper(image string) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	low, err := unix.MemfdCreate("helper", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every memory file is executable
		low, err = unix.MemfdCreate("helper", flags)
	}
	if err != nil {
		return -1, fmt.Errorf("make an executable memory file: %w", err)
	}
	f := os.NewFile(uintptr(low), "helper")
	defer f.Close()
	if _, err := f.WriteString(image); err != nil {
		return -1, fmt.Errorf("write the helper: %w", err)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return -1, fmt.Errorf("seal the helper: %w", err)
	}
	// A file that is open to be written cannot be executed.
	fd, err := unix.Open(memoryPath(low), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open the helper: %w", err)
	}
	defer unix.Close(fd)
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, minHelperFD)
}

// startAgain starts cmd as the helper, or as this program where that is refused.
func (b *Backend) startAgain(cmd *exec.Cmd) (*exec.Cmd, error) {
	cmd.Path = cmp.Or(b.options.Helper, helperPath(), self)
	err := cmd.Start()
	if err == nil || b.options.Helper != "" || cmd.Path == self || !refusedExec(err) {
		return cmd, err
	}
	b.log.Debug("the helper cannot be executed", "error", err)
	again := &exec.Cmd{
		Path: self, Args: cmd.Args, Env: cmd.Env, Stderr: cmd.Stderr, ExtraFiles: cmd.ExtraFiles, SysProcAttr: cmd.SysProcAttr,
	}
	return again, again.Start()
}

// refusedExec reports whether err may be a policy's against executing what is not a
// file of the system. The kernel refuses namespaces in the same words.
func refusedExec(err error) bool {
	return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOEXEC)
}
