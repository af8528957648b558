package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxPacket bounds one message; what is larger travels in a memory file.
	maxPacket = 32 << 10
	// maxFiles bounds the descriptors of one message; the kernel's bound is 253.
	maxFiles = 128
)

// channel carries JSON messages, with open files, over a SOCK_SEQPACKET socket:
// a message arrives whole or not at all.
type channel struct{ conn *net.UnixConn }

// newChannel takes over f, which is closed.
func newChannel(f *os.File) (*channel, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("descriptor %s is not a unix socket", f.Name())
	}
	return &channel{u}, nil
}

// pair returns a channel and the other end of it, to be given to a child.
func pair() (*channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "socketpair")
	ours, err := newChannel(os.NewFile(uintptr(fds[0]), "socketpair"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// inDir calls f with a path for name in dir that is short enough for a socket
// address, however long dir is.
func inDir[T any](dir, name string, f func(path string) (T, error)) (T, error) {
	var zero T
	d, err := os.Open(dir)
	if err != nil {
		return zero, err
	}
	defer d.Close()
	return f(filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), name))
}

// listen makes the control socket in dir, mode 0600, and returns its descriptor.
func listen(dir string) (*os.File, error) {
	return inDir(dir, controlSocket, func(path string) (*os.File, error) {
		l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			return nil, err
		}
		defer l.Close()
		l.SetUnlinkOnClose(false)
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, err
		}
		return l.File()
	})
}

// connect opens a channel to the supervisor whose control socket is in dir.
func connect(dir string) (*channel, error) {
	return inDir(dir, controlSocket, func(path string) (*channel, error) {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
		if err != nil {
			return nil, err
		}
		return &channel{c}, nil
	})
}

// send sends one message and leaves files open.
func (c *channel) send(v any, files ...*os.File) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxPacket {
		return fmt.Errorf("message of %d bytes is over %d", len(b), maxPacket)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.conn.WriteMsgUnix(b, rights, nil)
	return err
}

// receive waits for one message and returns the files that came with it, which
// the caller closes. The end of the other side is [io.EOF].
func (c *channel) receive(v any) ([]*os.File, error) {
	b, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(b, oob)
	if errors.Is(err, syscall.ECONNRESET) {
		// Said once, and before what is still in the queue, where the other side has
		// ended without having read everything.
		n, oobn, flags, _, err = c.conn.ReadMsgUnix(b, oob)
	}
	files := received(oob[:oobn])
	switch {
	case errors.Is(err, syscall.ECONNRESET):
		err = io.EOF
	case err == nil && n == 0:
		err = io.EOF
	case err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("message is too long")
	case err == nil:
		err = json.Unmarshal(b[:n], v)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func received(oob []byte) []*os.File {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}

// interrupt makes every pending and later call fail at once.
func (c *channel) interrupt() { _ = c.conn.SetDeadline(time.Unix(1, 0)) }

func (c *channel) close() { c.conn.Close() }

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// memoryFile returns a file without a name that holds v as JSON, read from its start.
func memoryFile(v any) (*os.File, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("spec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "spec")
	if _, err = f.Write(b); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
