package embedded

import "golang.org/x/sys/unix"

const auditArchitecture = unix.AUDIT_ARCH_RISCV64

var (
	allowedHere = []uint32{
		unix.SYS_MAP_SHADOW_STACK, unix.SYS_NEWFSTATAT, unix.SYS_RISCV_FLUSH_ICACHE, unix.SYS_RISCV_HWPROBE,
	}
	refusedHere []uint32
)
