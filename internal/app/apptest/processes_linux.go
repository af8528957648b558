package apptest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// patience is how long a process that was told to end may take to be gone.
const patience = 5 * time.Second

// processesIn returns the processes that still work in dir when patience is over: by
// their working directory, their program, or a command line that names it.
func processesIn(dir string) []string {
	deadline := time.Now().Add(patience)
	for {
		left := workingIn(dir)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(10 * time.Millisecond) // nothing tells when another's child ends
	}
}

func workingIn(dir string) []string {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	var left []string
	for _, proc := range processes {
		command, err := os.ReadFile(filepath.Join(proc, "cmdline"))
		if err != nil || len(command) == 0 || proc == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue // it has ended, or only waits to be collected
		}
		places := strings.Split(string(command), "\x00")
		for _, link := range []string{"cwd", "exe", "root"} {
			at, _ := os.Readlink(filepath.Join(proc, link)) // another user's cannot be read
			places = append(places, at)
		}
		if slices.ContainsFunc(places, func(at string) bool { return strings.Contains(at+"/", dir+"/") }) {
			left = append(left, filepath.Base(proc)+" "+string(bytes.ReplaceAll(bytes.TrimRight(command, "\x00"), []byte{0}, []byte(" "))))
		}
	}
	return left
}
