package embedded

import (
	"os"
	"sync/atomic"
)

// The names under which the executable is started again.
const (
	argvSupervisor = "ultrafast-sandbox-supervisor"
	argvInit       = "ultrafast-sandbox-init"
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
	switch os.Args[0] {
	case argvSupervisor:
		os.Exit(supervisorMain())
	case argvInit:
		os.Exit(initMain())
	case argvHold:
		holdMain()
		os.Exit(0)
	}
	return false
}
