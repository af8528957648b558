package docker

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// sameMounts reports whether who listens at a socket is in the mount namespace of this
// process, with the same root. Where that cannot be seen it is not.
func sameMounts(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) { peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || peerErr != nil || peer.Pid <= 0 {
		return false
	}
	for _, what := range []string{"ns/mnt", "root"} {
		own, err := os.Readlink("/proc/self/" + what)
		if err != nil {
			return false
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/%s", peer.Pid, what))
		if err != nil || own != theirs {
			return false
		}
	}
	return true
}

// userProcesses is the highest limit of processes of a user that this machine grants.
func userProcesses() int64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &l); err != nil || l.Max > manyProcesses {
		return manyProcesses
	}
	return int64(l.Max)
}
