//go:build amd64 || arm64 || riscv64

package embedded

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Results of the filter.
const (
	callAllowed = unix.SECCOMP_RET_ALLOW
	callRefused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	// callUnknown is what a kernel answers that does not have the call: programs then
	// do without, as the C libraries do with clone for clone3, whose flags are out of
	// a filter's sight.
	callUnknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// filterCalls loads the system call filter on the calling thread, which needs
// no_new_privs. What it later starts inherits it.
func filterCalls() error {
	program := buildFilter()
	p := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&p)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("load a filter: %w", errno)
	}
	return nil
}

// describeFilter says what the filter lets through.
func describeFilter() string {
	return fmt.Sprintf("%d calls allowed, all others refused", len(allowedCalls)+len(allowedHere)+len(conditional()))
}

// Offsets in struct seccomp_data, seccomp(2).
const (
	dataNumber       = 0
	dataArchitecture = 4
	dataArguments    = 16
)

// newNamespaces are the flags of clone(2) that make one.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Personalities that change how a program sees the kernel's name, not how its memory
// is laid out; the last one asks only.
var personalities = []uint32{0, perLinux32, uname26, perLinux32 | uname26, 0xffffffff}

const (
	perLinux32 = 0x0008
	uname26    = 0x0020000
)

// An assembler of classic BPF, bpf(4) of the BSDs; only what the filter needs.

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// skipIf skips so many instructions where the loaded word compares to k, and others else.
func skipIf(comparison uint16, k uint32, yes, no int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
}

func result(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// buildFilter returns the program: it ends a process that makes a call of another
// architecture, whose numbers the lists would misread; decides the calls that depend
// on an argument, and looks up all others.
func buildFilter() []unix.SockFilter {
	program := []unix.SockFilter{
		load(dataArchitecture),
		skipIf(unix.BPF_JEQ, auditArchitecture, 1, 0),
		result(unix.SECCOMP_RET_KILL_PROCESS),
		load(dataNumber),
	}
	for _, c := range conditional() {
		program = append(program, skipIf(unix.BPF_JEQ, c.call, 0, len(c.check)))
		program = append(program, c.check...)
	}
	return append(program, lookup(segments())...)
}

// condition decides a call by its arguments.
type condition struct {
	call  uint32
	check []unix.SockFilter
}

// conditional are the calls that depend on a 32-bit argument, of which they look at
// the half that the kernel looks at.
func conditional() []condition {
	return []condition{
		// Input injected into a terminal is input to the host's shell.
		{unix.SYS_IOCTL, slices.Concat(
			[]unix.SockFilter{load(lowHalf(1))},
			among(callRefused, unix.TIOCSTI, unix.TIOCLINUX),
			[]unix.SockFilter{result(callAllowed)})},
		// No network namespace holds back the kernel's crypto, the hypervisor's sockets
		// and others; of netlink, resolvers and libraries ask for routes and addresses.
		{unix.SYS_SOCKET, slices.Concat(
			[]unix.SockFilter{load(lowHalf(0))},
			among(callAllowed, unix.AF_UNIX, unix.AF_INET, unix.AF_INET6),
			[]unix.SockFilter{skipIf(unix.BPF_JEQ, unix.AF_NETLINK, 1, 0), result(callRefused), load(lowHalf(2))},
			among(callAllowed, unix.NETLINK_ROUTE),
			[]unix.SockFilter{result(callRefused)})},
		{unix.SYS_CLONE, []unix.SockFilter{
			load(lowHalf(0)), skipIf(unix.BPF_JSET, newNamespaces, 0, 1), result(callRefused), result(callAllowed),
		}},
		{unix.SYS_PERSONALITY, slices.Concat(
			[]unix.SockFilter{load(lowHalf(0))},
			among(callAllowed, personalities...),
			[]unix.SockFilter{result(callRefused)})},
	}
}

// among returns action if the loaded word is one of values, and goes on otherwise.
func among(action uint32, values ...uint32) []unix.SockFilter {
	var program []unix.SockFilter
	for i, v := range values {
		yes, no := len(values)-1-i, 0
		if i == len(values)-1 {
			no = 1
		}
		program = append(program, skipIf(unix.BPF_JEQ, v, yes, no))
	}
	return append(program, result(action))
}

// lowHalf is the offset of the lower 32 bits of an argument.
func lowHalf(argument uint32) uint32 {
	offset := dataArguments + 8*argument
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		offset += 4
	}
	return offset
}

// segment is a run of calls with one result: from start up to the next segment's.
type segment struct{ start, action uint32 }

// segments are the lists as runs, sorted; they begin at zero, and the last never ends.
func segments() []segment {
	actions := map[uint32]uint32{}
	last := uint32(0)
	for _, list := range []struct {
		calls  []uint32
		action uint32
	}{{allowedCalls, callAllowed}, {allowedHere, callAllowed}, {refusedCalls, callRefused}, {refusedHere, callRefused}} {
		for _, call := range list.calls {
			actions[call] = list.action
			last = max(last, call)
		}
	}
	var runs []segment
	for call := range last + 2 {
		action, known := actions[call]
		if !known {
			action = callUnknown
		}
		if len(runs) == 0 || runs[len(runs)-1].action != action {
			runs = append(runs, segment{call, action})
		}
	}
	return runs
}

// lookup finds the segment of the loaded word by halving: each step is one
// instruction, so that a call costs some seven of them, and not hundreds.
func lookup(runs []segment) []unix.SockFilter {
	leaves := []uint32{callAllowed, callRefused, callUnknown}
	steps := len(runs) - 1
	var program []unix.SockFilter
	var halve func(runs []segment)
	// to is how many instructions to skip, after the next one, to where runs are decided.
	to := func(runs []segment, at int) int {
		if len(runs) > 1 {
			return at - len(program) - 1
		}
		return steps + slices.Index(leaves, runs[0].action) - len(program) - 1
	}
	halve = func(runs []segment) {
		if len(runs) == 1 {
			return
		}
		middle := len(runs) / 2
		low, high := runs[:middle], runs[middle:]
		// What is below comes next, what is above after the steps of that.
		program = append(program, skipIf(unix.BPF_JGE, high[0].start,
			to(high, len(program)+len(low)), to(low, len(program)+1)))
		halve(low)
		halve(high)
	}
	halve(runs)
	for _, action := range leaves {
		program = append(program, result(action))
	}
	return program
}
