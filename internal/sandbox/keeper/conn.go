package keeper

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is a connection that travels in the frames of a link.
type conn struct {
	*link
	// datagrams keeps what is written in one call one frame.
	datagrams     bool
	local, remote net.Addr
	deadline      atomic.Pointer[time.Time] // of reading

	readMu sync.Mutex
	left   int // bytes of the current frame
	end    error

	closing sync.Once
	closed  error
}

// address is one end of a connection inside of an environment.
type address struct{ network, text string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.text }

// Read is described by [net.Conn]. Of a datagram it returns what fits in p and
// discards the rest, as sockets do.
func (c *conn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.late() {
		return 0, os.ErrDeadlineExceeded
	}
	for c.left == 0 {
		if c.end != nil {
			return 0, c.end
		}
		kind, n, err := c.head()
		if errors.Is(err, io.EOF) { // not its own end: that has a frame
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		if kind == frameEOF {
			c.end = io.EOF
			continue
		}
		if c.left = n; c.left == 0 && c.datagrams {
			return 0, nil
		}
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	if c.datagrams && err == nil && (n == len(p) || c.left == 0) {
		_, err = c.r.Discard(c.left)
		c.left = 0
	}
	return n, err
}

// Write is described by [net.Conn].
func (c *conn) Write(p []byte) (int, error) {
	if c.datagrams && len(p) > maxFrame {
		return 0, errors.New("datagram is too long")
	}
	if len(p) == 0 && !c.datagrams {
		return 0, nil
	}
	if err := c.send(frameOut, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite tells the other side that no more comes.
func (c *conn) CloseWrite() error { return c.send(frameEOF, nil) }

// Close is described by [net.Conn].
func (c *conn) Close() error {
	c.closing.Do(func() { c.closed = c.conn.Close() })
	return c.closed
}

// LocalAddr is described by [net.Conn].
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is described by [net.Conn].
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is described by [net.Conn].
func (c *conn) SetDeadline(t time.Time) error {
	c.deadline.Store(&t)
	return c.conn.SetDeadline(t)
}

// SetReadDeadline is described by [net.Conn].
func (c *conn) SetReadDeadline(t time.Time) error {
	c.deadline.Store(&t)
	return c.conn.SetReadDeadline(t)
}

// SetWriteDeadline is described by [net.Conn].
func (c *conn) SetWriteDeadline(t time.Time) error { return c.conn.SetWriteDeadline(t) }

// late reports whether the deadline of reading is over: it counts for bytes, too, that
// have arrived already.
func (c *conn) late() bool {
	d := c.deadline.Load()
	return d != nil && !d.IsZero() && !time.Now().Before(*d)
}

// halfCloser is a connection one direction of which can end alone.
type halfCloser interface{ CloseWrite() error }

// relay carries bytes between a connection of frames and an ordinary one until both
// directions have ended and the side of the frames closes, or either side is gone. It
// reads no frame before ready is closed; nil is at once.
func relay(c *conn, other net.Conn, ready <-chan struct{}) {
	var both sync.WaitGroup
	carry := func(to, from net.Conn) {
		_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 32<<10))
		if half, ok := to.(halfCloser); ok && err == nil {
			_ = half.CloseWrite()
			return
		}
		_ = to.Close()
		_ = from.Close()
	}
	both.Go(func() {
		if ready != nil {
			<-ready
		}
		carry(other, c)
		for { // nothing comes any more but the end of the whole
			if _, _, err := c.receive(); err != nil {
				_ = other.Close()
				return
			}
		}
	})
	both.Go(func() { carry(c, other) })
	both.Wait()
	_ = c.Close()
	_ = other.Close()
}
