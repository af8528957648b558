package generate

import (
	"os"
	"runtime"
	"syscall"
)

// syncfsNumber is the number of the system call syncfs(2), which package syscall does
// not name; 0 where it is not known here.
var syncfsNumber = map[string]uintptr{"amd64": 306, "arm64": 267, "riscv64": 267, "loong64": 267}[runtime.GOARCH]

// flush makes everything that was written to the file system of dir last, in one go.
// It reports whether it did.
func flush(dir *os.File) (bool, error) {
	if syncfsNumber == 0 {
		return false, nil
	}
	for {
		_, _, errno := syscall.Syscall(syncfsNumber, dir.Fd(), 0, 0)
		switch errno {
		case 0:
			return true, nil
		case syscall.EINTR:
		case syscall.ENOSYS, syscall.EPERM, syscall.EINVAL:
			return false, nil // an old kernel, or a sandbox that does not let it through
		default:
			return true, os.NewSyscallError("syncfs", errno)
		}
	}
}
