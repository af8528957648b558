package sandboxtest

// Calls that package syscall does not name.
const (
	sysFanotifyInit    = 262
	sysNameToHandleAt  = 264
	sysOpenByHandleAt  = 265
	sysSetns           = 268
	sysProcessVMReadv  = 270
	sysProcessVMWritev = 271
	sysFinitModule     = 273
	sysMemfdCreate     = 279
	sysBPF             = 280
	sysUserfaultfd     = 282
	sysKexecFileLoad   = 294
)

// architectureCalls reach what only this architecture has: nothing.
var architectureCalls []callAttempt
