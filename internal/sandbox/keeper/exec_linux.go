package keeper

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// closeOnExec keeps files that this process has inherited from a keeper, which would
// hold them open long after everyone who knows of them has gone.
func closeOnExec() {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, f := range open {
		if fd, err := strconv.Atoi(f.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}
