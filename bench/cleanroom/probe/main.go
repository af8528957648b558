// Command probe prints the time of CLOCK_MONOTONIC, in nanoseconds, as the first thing
// that it does: the moment at which a sandbox has let a program start. Every container of
// a machine reads the same clock.
package main

import (
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

func main() {
	const monotonic = 1
	var now syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&now)), 0); errno != 0 {
		os.Exit(1)
	}
	os.Stdout.WriteString(strconv.FormatInt(now.Nano(), 10) + "\n")
}
