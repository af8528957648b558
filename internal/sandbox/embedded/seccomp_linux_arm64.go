package embedded

import "golang.org/x/sys/unix"

const auditArchitecture = unix.AUDIT_ARCH_AARCH64

var (
	allowedHere = []uint32{unix.SYS_MAP_SHADOW_STACK, unix.SYS_NEWFSTATAT, unix.SYS_RENAMEAT}
	refusedHere []uint32
)
