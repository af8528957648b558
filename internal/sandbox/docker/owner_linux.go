package docker

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"sync"
)

// process names a process for good, on any machine.
type process struct {
	// Boot is the kernel's random number of this boot, Space the namespace of PID.
	Boot, Space string
	PID         int
	// Start is in clock ticks since boot.
	Start string
}

// owner is this process, for a label.
var owner = sync.OnceValue(func() string {
	p, err := processOf(os.Getpid())
	if err != nil {
		return ""
	}
	b, _ := json.Marshal(p) // it has strings and a number
	return string(b)
})

func processOf(pid int) (process, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}, err
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return process{}, err
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	// The name in parentheses may hold anything: proc_pid_stat(5). Field 22 is the start.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 {
		return process{}, os.ErrInvalid
	}
	return process{strings.TrimSpace(string(boot)), space, pid, fields[19]}, nil
}

// ownerGone reports whether the process of a label has ended, if that can be known
// here.
func ownerGone(label string) (gone, known bool) {
	var p process
	if json.Unmarshal([]byte(label), &p) != nil || p.PID <= 0 {
		return false, false
	}
	me, err := processOf(os.Getpid())
	if err != nil || me.Boot != p.Boot || me.Space != p.Space {
		return false, false
	}
	now, err := processOf(p.PID)
	return err != nil || now != p, true
}
