package generate

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// putBare makes a file with the three system calls that it takes. An [os.File] costs
// six more, to find out whether it can be waited for, which a regular file cannot.
func (s *shelf) putBare(name string, content []byte, mode fs.FileMode) (done bool, err error) {
	defer runtime.KeepAlive(s)
	fd, err := again(func() (int, error) {
		return syscall.Openat(int(s.dir.Fd()), name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, uint32(mode.Perm()))
	})
	if err != nil {
		return true, &fs.PathError{Op: "openat", Path: name, Err: err}
	}
	for err == nil && len(content) > 0 {
		var n int
		if n, err = again(func() (int, error) { return syscall.Write(fd, content) }); err == nil && n <= 0 {
			err = io.ErrShortWrite
		}
		content = content[max(n, 0):]
	}
	return true, errors.Join(os.NewSyscallError("write", err), os.NewSyscallError("close", syscall.Close(fd)))
}

// again repeats a call that a signal interrupts.
func again(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return n, err
		}
	}
}
