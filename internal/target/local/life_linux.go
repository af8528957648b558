package local

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// birth returns the boot and the time since boot at which a process started
// (proc_pid_stat(5), field 22).
func birth(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The name in field 2 may contain spaces and parentheses; fields count from
	// its last parenthesis.
	i := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(fields) < 20 {
		return "", fmt.Errorf("process %d: status cannot be read", pid)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(boot)) + " " + fields[19], nil
}
