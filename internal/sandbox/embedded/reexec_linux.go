package embedded

import (
	"math"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// The names under which the executable is started again.
const (
	argvSupervisor = "ultrafast-sandbox-supervisor"
	argvInit       = "ultrafast-sandbox-init"
	argvRestrict   = "ultrafast-sandbox-restrict"
	argvHold       = "ultrafast-sandbox-hold"
)

// hooked reports that main called [Reexec]: without that a second start would run
// the program itself again.
var hooked atomic.Bool

// Reexec does the work of a supervisor or an init if the executable was started
// as one, and then does not return; otherwise it returns false at once. It must
// be the first thing that main does.
func Reexec() bool {
	hooked.Store(true)
	role, ok := map[string]func() int{
		argvSupervisor: supervisorMain,
		argvInit:       initMain,
		argvRestrict:   restrictMain,
		argvHold:       holdMain,
	}[os.Args[0]]
	if !ok {
		return false
	}
	if err := closeOnExec(); err != nil {
		syscall.Exit(1) // a payload must not get what it was not given
	}
	// Not os.Exit: there is nothing to flush, and what waits for the end of this
	// process should not wait for exit hooks.
	syscall.Exit(role())
	return true
}

// closeOnExec keeps from what this process starts every descriptor that it does not
// hand on by name: also those that whoever started the program left open.
func closeOnExec() error {
	const first = 3 // after the standard ones
	err := unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	// Before Linux 5.11, which is enough for the weaker levels.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
