//go:build !unix

package local

import (
	"io/fs"
	"syscall"
)

// detached gives a process a console group of its own.
func detached() *syscall.SysProcAttr {
	const newProcessGroup, detachedProcess = 0x200, 0x8
	return &syscall.SysProcAttr{CreationFlags: newProcessGroup | detachedProcess}
}

// ours relies on the access control of the user's own directory for temporary files.
func ours(fs.FileInfo) bool { return true }

// syncDir does nothing: a directory cannot be opened for it here, and the file
// system journals renames.
func syncDir(string) error { return nil }
