package router

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultConnections leaves room below the usual limit of open files, of which
	// a connection in use needs two.
	defaultConnections = 10_000
	defaultBodyTimeout = 30 * time.Second
)

// limited accepts so many connections at once; more wait in the kernel's queue.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func limit(l net.Listener, n int) *limited {
	return &limited{Listener: l, slots: make(chan struct{}, n), closed: make(chan struct{})}
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	leave := sync.OnceFunc(func() { <-l.slots })
	if tcp, ok := c.(*net.TCPConn); ok {
		return &slotTCP{TCPConn: tcp, leave: leave}, nil
	}
	return &slot{Conn: c, leave: leave}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// slot is a connection that gives its place back when it is closed.
type slot struct {
	net.Conn
	leave func()
}

func (s *slot) Close() error {
	defer s.leave()
	return s.Conn.Close()
}

// slotTCP is a slot that keeps what a server does with TCP alone: closing one
// direction, and sending files without copying.
type slotTCP struct {
	*net.TCPConn
	leave func()
}

func (s *slotTCP) Close() error {
	defer s.leave()
	return s.TCPConn.Close()
}

// steady is a request body whose client must go on sending: each read has the
// same time. It bounds a client that stops, not one that sends much.
type steady struct {
	io.ReadCloser
	control *http.ResponseController
	timeout time.Duration

	mu   sync.Mutex
	over bool // the request ended: the deadline is the server's again
	late atomic.Bool
}

func (s *steady) Read(p []byte) (int, error) {
	s.deadline(time.Now().Add(s.timeout))
	n, err := s.ReadCloser.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.late.Store(true)
	}
	if errors.Is(err, io.EOF) {
		s.deadline(time.Time{}) // now only the answer is waited for
	}
	return n, err
}

func (s *steady) deadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.over {
		_ = s.control.SetReadDeadline(t) // a connection without deadlines has no slow client
	}
}

// end lets go of the connection; the transport may still hold the body.
func (s *steady) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}
