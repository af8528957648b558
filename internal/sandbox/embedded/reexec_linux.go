package embedded

import (
	"os"
	"sync/atomic"
	"syscall"
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
	// Not os.Exit: there is nothing to flush, and what waits for the end of this
	// process should not wait for exit hooks.
	syscall.Exit(role())
	return true
}
