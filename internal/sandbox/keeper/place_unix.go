//go:build unix

package keeper

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// lockDir locks dir. It returns nil if somebody else holds it, or it is gone.
func lockDir(dir string) (*place, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "open an environment's directory")
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Between the two calls its last holder may have removed it.
		var held, named unix.Stat_t
		if unix.Fstat(int(f.Fd()), &held) == nil && unix.Stat(dir, &named) == nil && held.Ino == named.Ino {
			return &place{dir, f}, nil
		}
	}
	f.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fault.Wrap(err, fault.Unavailable, "keep the state directory on a local file system", "lock "+dir)
	}
	return nil, nil
}

// listen makes the socket in dir, mode 0600, and takes connections of this user and
// root alone.
func listen(dir string) (net.Listener, error) {
	return inDir(dir, func(path string) (net.Listener, error) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return nil, err
		}
		l.SetUnlinkOnClose(false) // it goes with its directory
		if err := os.Chmod(path, 0o600); err != nil {
			l.Close()
			return nil, err
		}
		return &ownListener{l}, nil
	})
}

// connect connects to the keeper in dir.
func connect(ctx context.Context, dir string) (*net.UnixConn, error) {
	return inDir(dir, func(path string) (*net.UnixConn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		return c.(*net.UnixConn), nil
	})
}

// ownListener takes connections of this user and root alone.
type ownListener struct{ *net.UnixListener }

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, _, err := peer(c)
		if err == nil && allowed(uid, os.Geteuid()) {
			return c, nil
		}
		c.Close()
	}
}

// allowed reports whether a user may use the environments of owner. The mode of the
// socket says the same; this also holds where that is not looked at.
func allowed(uid, owner int) bool { return uid == 0 || uid == owner }

// detached has a process outlive this one: in a session of its own no terminal and no
// signal to our group reaches it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// kill ends the process at the other end of c, which is a keeper that listens: while
// it does, its number is its own.
func kill(c *net.UnixConn) error {
	_, pid, err := peer(c)
	if err != nil {
		return err
	}
	if pid <= 1 || pid == os.Getpid() {
		return errors.ErrUnsupported
	}
	return unix.Kill(pid, unix.SIGKILL)
}
