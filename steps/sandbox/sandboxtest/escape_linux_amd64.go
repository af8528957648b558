package sandboxtest

import "syscall"

// Calls that package syscall does not name.
const (
	sysFanotifyInit    = 300
	sysNameToHandleAt  = 303
	sysOpenByHandleAt  = 304
	sysSetns           = 308
	sysProcessVMReadv  = 310
	sysProcessVMWritev = 311
	sysFinitModule     = 313
	sysMemfdCreate     = 319
	sysKexecFileLoad   = 320
	sysBPF             = 321
	sysUserfaultfd     = 323
)

// architectureCalls reach what only this architecture has.
var architectureCalls = []callAttempt{
	{"iopl", "iopl", syscall.SYS_IOPL, [6]uintptr{3}},
	{"ioperm", "ioperm", syscall.SYS_IOPERM, [6]uintptr{0x80, 1, 1}},
	{"modify_ldt", "modify_ldt", syscall.SYS_MODIFY_LDT, [6]uintptr{0, 0, 0}},
}
