//go:build amd64 || arm64 || riscv64

package embedded

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// decide runs the filter on a call as the kernel does.
func decide(t *testing.T, program []unix.SockFilter, architecture, call uint32, arguments ...uint64) uint32 {
	t.Helper()
	data := make([]byte, dataArguments+6*8)
	binary.NativeEndian.PutUint32(data[dataNumber:], call)
	binary.NativeEndian.PutUint32(data[dataArchitecture:], architecture)
	for i, a := range arguments {
		binary.NativeEndian.PutUint64(data[dataArguments+8*i:], a)
	}
	var word uint32
	for at := 0; at < len(program); at++ {
		i := program[at]
		var is bool
		switch i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			word = binary.NativeEndian.Uint32(data[i.K:])
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			is = word == i.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			is = word >= i.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			is = word&i.K != 0
		default:
			t.Fatalf("instruction %d is %+v", at, i)
		}
		if is {
			at += int(i.Jt)
		} else {
			at += int(i.Jf)
		}
	}
	t.Fatal("the filter ends without a result")
	return 0
}

// TestFilterLists asks for every number that there is.
func TestFilterLists(t *testing.T) {
	t.Parallel()
	program := buildFilter()
	for _, list := range [][]uint32{allowedCalls, allowedHere} {
		for _, call := range list {
			if slices.Contains(refusedCalls, call) || slices.Contains(refusedHere, call) {
				t.Errorf("call %d is in both lists", call)
			}
		}
	}
	var byArgument []uint32
	for _, c := range conditional() {
		byArgument = append(byArgument, c.call)
	}
	const x32 = 0x40000000
	for call := range uint32(2000) {
		want := uint32(callUnknown)
		switch {
		case slices.Contains(byArgument, call):
			continue
		case slices.Contains(allowedCalls, call), slices.Contains(allowedHere, call):
			want = callAllowed
		case slices.Contains(refusedCalls, call), slices.Contains(refusedHere, call):
			want = callRefused
		}
		if got := decide(t, program, auditArchitecture, call); got != want {
			t.Errorf("call %d: %#x, want %#x", call, got, want)
		}
		if got := decide(t, program, auditArchitecture, call|x32); got != callUnknown {
			t.Errorf("call %d of x32: %#x, want unknown", call, got)
		}
		if got := decide(t, program, unix.AUDIT_ARCH_I386, call); got != unix.SECCOMP_RET_KILL_PROCESS {
			t.Errorf("call %d of another architecture: %#x", call, got)
		}
	}
	if got := decide(t, program, auditArchitecture, 1<<32-1); got != callUnknown {
		t.Errorf("the highest call: %#x", got)
	}
}

// TestFilterArguments tries the calls that depend on one; more bits than the kernel
// looks at must change nothing.
func TestFilterArguments(t *testing.T) {
	t.Parallel()
	program := buildFilter()
	for _, c := range []struct {
		call      uint32
		arguments []uint64
		want      uint32
	}{
		{unix.SYS_IOCTL, []uint64{0, unix.TIOCSTI}, callRefused},
		{unix.SYS_IOCTL, []uint64{0, unix.TIOCLINUX}, callRefused},
		{unix.SYS_IOCTL, []uint64{0, unix.TIOCGWINSZ}, callAllowed},
		{unix.SYS_SOCKET, []uint64{unix.AF_UNIX, unix.SOCK_STREAM, 0}, callAllowed},
		{unix.SYS_SOCKET, []uint64{unix.AF_INET, unix.SOCK_DGRAM, 0}, callAllowed},
		{unix.SYS_SOCKET, []uint64{unix.AF_INET6, unix.SOCK_STREAM, 0}, callAllowed},
		{unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}, callAllowed},
		{unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER}, callRefused},
		{unix.SYS_SOCKET, []uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT}, callRefused},
		{unix.SYS_SOCKET, []uint64{unix.AF_PACKET, unix.SOCK_RAW, 0}, callRefused},
		{unix.SYS_SOCKET, []uint64{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, callRefused},
		{unix.SYS_SOCKET, []uint64{unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, callRefused},
		{unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND | uint64(unix.SIGCHLD)}, callAllowed},
		{unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER}, callRefused},
		{unix.SYS_CLONE, []uint64{unix.CLONE_NEWNS | uint64(unix.SIGCHLD)}, callRefused},
		{unix.SYS_CLONE, []uint64{unix.CLONE_NEWCGROUP}, callRefused},
		{unix.SYS_PERSONALITY, []uint64{0}, callAllowed},
		{unix.SYS_PERSONALITY, []uint64{0xffffffff}, callAllowed},
		{unix.SYS_PERSONALITY, []uint64{0x20008}, callAllowed},
		{unix.SYS_PERSONALITY, []uint64{0x40000}, callRefused},  // ADDR_NO_RANDOMIZE
		{unix.SYS_PERSONALITY, []uint64{0x400000}, callRefused}, // READ_IMPLIES_EXEC
		{unix.SYS_CLONE3, nil, callUnknown},
	} {
		wide := slices.Clone(c.arguments)
		for i := range wide {
			wide[i] |= 1 << 32
		}
		for _, arguments := range [][]uint64{c.arguments, wide} {
			if got := decide(t, program, auditArchitecture, c.call, arguments...); got != c.want {
				t.Errorf("call %d %#x: %#x, want %#x", c.call, arguments, got, c.want)
			}
		}
	}
}
