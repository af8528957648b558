package router

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// checkPeer refuses a connection whose other end is neither our user nor root.
// The socket's mode says the same; this also holds for one that was passed on.
func checkPeer(c net.Conn) error {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("connection is %T, not a unix socket", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	return allowed(cred.Uid, uint32(os.Geteuid()))
}

func allowed(peer, owner uint32) error {
	if peer != 0 && peer != owner {
		return fmt.Errorf("user %d may not administer the router of user %d", peer, owner)
	}
	return nil
}
