package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// killDescendants kills and reaps every process below this one, which must be a
// reaper of orphans, until there is none.
func killDescendants() {
	for {
		for _, pid := range descendants(os.Getpid()) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		// Whatever was killed comes here to be waited for; who forked meanwhile is
		// found in the next round.
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// descendants returns the processes below root, found by their parents in /proc.
func descendants(root int) (pids []int) {
	for _, m := range familyOf(root) {
		pids = append(pids, m.pid)
	}
	return pids
}

// killTree kills an init below level full with all below it, which are stopped first
// until no new one appears: what is stopped starts no others. All have ended then.
func (p process) killTree(ctx context.Context) error {
	if p.PID <= 1 || !p.lives() {
		return nil
	}
	_ = unix.Kill(p.PID, unix.SIGSTOP)
	// By number and start: once they are killed, a number may be another's.
	stopped := map[process]bool{}
	for found := true; found; {
		found = false
		for _, pid := range descendants(p.PID) {
			if q, err := processOf(pid); err == nil && !stopped[q] {
				_ = unix.Kill(pid, unix.SIGSTOP)
				stopped[q], found = true, true
			}
		}
	}
	for q := range stopped {
		_ = unix.Kill(q.PID, unix.SIGKILL)
	}
	err := p.kill(ctx, 0)
	for q := range stopped {
		err = errors.Join(err, q.kill(ctx, 0)) // which waits
	}
	return err
}

// member is a process of a family.
type member struct {
	processStat
	pid int
	// outer is its number in /proc, which may be that of a namespace around ours.
	outer int
}

// familyOf returns the processes below root, as /proc has them.
func familyOf(root int) []member {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]member{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if st, err := readStat(pid); err == nil {
			children[st.parent] = append(children[st.parent], member{st, pid, pid})
		}
	}
	family := children[root]
	// A number that was given again while we looked must not lead in a circle.
	delete(children, root)
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i].pid]...)
		delete(children, family[i].pid)
	}
	return family
}

// family returns the processes of the container but its init, by the numbers that
// they have for it.
func (p *payload) family() []member {
	if !p.spec.Variant.OuterProc {
		return familyOf(os.Getpid())
	}
	me, err := os.Readlink("/proc/self")
	if err != nil {
		return nil
	}
	root, err := strconv.Atoi(me)
	if err != nil {
		return nil
	}
	family := familyOf(root)
	inner := map[int]int{root: os.Getpid()}
	for _, m := range family {
		inner[m.outer] = innerNumber(m.outer)
	}
	for i := range family {
		m := &family[i]
		m.pid, m.parent, m.session = inner[m.outer], inner[m.parent], inner[m.session]
	}
	// Zero is one that ended while we looked; as a number it would mean many.
	var living []member
	for _, m := range family {
		if m.pid > 0 {
			living = append(living, m)
		}
	}
	return living
}

// innerNumber is the number of a process in its own namespace, by that in /proc.
func innerNumber(outer int) int {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(outer) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "NSpid:" {
			return int(number(f[len(f)-1])) // from the outermost to its own
		}
	}
	return 0
}

// peakOf is the most memory that a process ever had, in bytes.
func peakOf(pid int) int64 {
	status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return number(secondField(string(status), "VmHWM:")) << 10
}

// bytesOf is what a process read from and wrote to block devices: proc_pid_io(5).
func bytesOf(pid int) (read, written int64) {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/io")
	return number(field(string(b), "read_bytes:")), number(field(string(b), "write_bytes:"))
}

// processStat is what this package reads of /proc/PID/stat.
type processStat struct {
	parent, session int
	// cpu is of the process and of the children that it waited for.
	cpu     time.Duration
	threads int
	// memory is what is resident, in bytes.
	memory int64
	// start is in clock ticks since boot; with the number it names a process for good.
	start uint64
}

func readStat(pid int) (processStat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processStat{}, err
	}
	return parseStat(string(b))
}

// tick is the unit of times in /proc: USER_HZ is 100 on every architecture of Linux
// that Go knows.
const tick = 10 * time.Millisecond

// parseStat reads a line of proc_pid_stat(5). The command, in parentheses, may
// hold anything, a parenthesis too.
func parseStat(line string) (processStat, error) {
	bad := fmt.Errorf("unreadable process status %.80q", line)
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return processStat{}, bad
	}
	// The fields are numbered from 1, and the third is the first after the command.
	fields := strings.Fields(line[end+1:])
	if len(fields) < 22 {
		return processStat{}, bad
	}
	wrong := false
	at := func(n int) int64 {
		v, err := strconv.ParseInt(fields[n-3], 10, 64)
		wrong = wrong || err != nil
		return v
	}
	st := processStat{
		parent: int(at(4)), session: int(at(6)), threads: int(at(20)), start: uint64(at(22)),
		cpu:    time.Duration(at(14)+at(15)+at(16)+at(17)) * tick,
		memory: at(24) * int64(os.Getpagesize()),
	}
	if wrong {
		return processStat{}, bad
	}
	return st, nil
}
