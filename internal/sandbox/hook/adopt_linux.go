package hook

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// adopt makes this process the parent of those whose parents below it end: what a
// command leaves in a session of its own is found by that. Where the kernel refuses it,
// such a process ends with the sandbox.
func adopt() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// endAdopted ends all processes below this one. A process that ends leaves its own to
// this one, so it goes on until there are none; the limits of the sandbox bound it.
func endAdopted() {
	for {
		left := children()
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if _, err := syscall.Wait4(-1, nil, 0, nil); err != nil && err != syscall.EINTR {
			return
		}
	}
}

// children are the processes whose parent this one is.
func children() []int {
	var pids []int
	tasks, _ := filepath.Glob("/proc/self/task/*/children") // the pattern is valid
	for _, at := range tasks {
		b, err := os.ReadFile(at)
		if err != nil {
			continue // a thread that has ended
		}
		for _, field := range bytes.Fields(b) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
