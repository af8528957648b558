package keeper

import (
	"net"

	"golang.org/x/sys/unix"
)

// localPeerPID is LOCAL_PEERPID of sys/un.h.
const localPeerPID = 2

// peer returns the user and the process at the other end of c.
func peer(c *net.UnixConn) (uid, pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var credErr error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Xucred
		if cred, credErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED); credErr == nil {
			uid = int(cred.Uid)
			pid, credErr = unix.GetsockoptInt(int(fd), unix.SOL_LOCAL, localPeerPID)
		}
	})
	if err == nil {
		err = credErr
	}
	return uid, pid, err
}
