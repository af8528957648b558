package inside

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Frames are one byte of kind, four of stream and four of length, big endian, and
// the content.
const (
	frameHead    = 9
	frameData    = 1
	frameEnd     = 2 // the sender writes no more
	frameReset   = 3 // the sender neither writes nor reads any more
	frameCredit  = 4 // the content is a number of bytes that were read
	frameControl = 5 // a message, on stream 0
)

const (
	// window is how much of a stream may be under way: no stream stops another.
	window = 256 << 10
	// chunk is the most that one data frame carries.
	chunk = 32 << 10
	// maxControl bounds a message: a specification may hold all the arguments and
	// variables that execve takes, 2 MiB, and JSON quotes them.
	maxControl = 16 << 20
	// maxStreams bounds the streams that are open at once.
	maxStreams = 4096
)

// Mux carries messages and byte streams over one connection: the standard input and
// output of the program inside.
type Mux struct {
	writing sync.Mutex // one frame at a time
	w       io.Writer

	mu      sync.Mutex
	streams map[uint32]*Stream
	err     error // why the connection ended
	done    chan struct{}
}

// NewMux writes to w. Nothing is read before [Mux.Serve].
func NewMux(w io.Writer) *Mux {
	return &Mux{w: w, streams: map[uint32]*Stream{}, done: make(chan struct{})}
}

// Done is closed when the connection has ended.
func (m *Mux) Done() <-chan struct{} { return m.done }

// Err says why the connection ended; nil while it has not.
func (m *Mux) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Serve reads from r until it ends and calls control with every message, in order.
// The error is never nil; io.EOF is the regular end.
func (m *Mux) Serve(r io.Reader, control func([]byte)) error {
	err := m.serve(r, control)
	m.mu.Lock()
	m.err = err
	for _, s := range m.streams {
		s.fail(io.ErrUnexpectedEOF)
	}
	clear(m.streams)
	m.mu.Unlock()
	close(m.done)
	return err
}

func (m *Mux) serve(r io.Reader, control func([]byte)) error {
	head := make([]byte, frameHead)
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		kind, id, size := head[0], binary.BigEndian.Uint32(head[1:]), binary.BigEndian.Uint32(head[5:])
		most := uint32(chunk)
		if kind == frameControl {
			most = maxControl
		}
		if size > most {
			return fmt.Errorf("a frame of kind %d has %d bytes, more than %d", kind, size, most)
		}
		content := make([]byte, size)
		if _, err := io.ReadFull(r, content); err != nil {
			return err
		}
		if kind == frameControl {
			control(content)
			continue
		}
		if err := m.deliver(kind, id, content); err != nil {
			return err
		}
	}
}

// deliver hands a frame to its stream. One for a stream that is gone is late, and
// dropped.
func (m *Mux) deliver(kind byte, id uint32, content []byte) error {
	m.mu.Lock()
	s := m.streams[id]
	m.mu.Unlock()
	if s == nil {
		return nil
	}
	switch kind {
	case frameData:
		return s.arrive(content)
	case frameEnd:
		s.end()
	case frameReset:
		s.fail(io.ErrClosedPipe)
		m.forget(s)
	case frameCredit:
		if len(content) != 4 {
			return errors.New("a credit is not a number")
		}
		s.credit(int(binary.BigEndian.Uint32(content)))
	default:
		return fmt.Errorf("a frame has the unknown kind %d", kind)
	}
	return nil
}

func (m *Mux) write(kind byte, id uint32, content []byte) error {
	frame := make([]byte, frameHead, frameHead+len(content))
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], id)
	binary.BigEndian.PutUint32(frame[5:], uint32(len(content)))
	frame = append(frame, content...)
	m.writing.Lock()
	defer m.writing.Unlock()
	_, err := m.w.Write(frame)
	return err
}

// Send sends a message.
func (m *Mux) Send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxControl {
		return fmt.Errorf("a message has %d bytes, more than %d", len(b), maxControl)
	}
	return m.write(frameControl, 0, b)
}

// Open returns the stream of that number, which both ends open before one of them
// writes.
func (m *Mux) Open(id uint32) (*Stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.err != nil:
		return nil, io.ErrUnexpectedEOF
	case m.streams[id] != nil:
		return nil, fmt.Errorf("stream %d is open", id)
	case len(m.streams) >= maxStreams:
		return nil, fmt.Errorf("%d streams are open", maxStreams)
	}
	s := &Stream{mux: m, id: id, room: window}
	s.changed.L = &s.mu
	m.streams[id] = s
	return s, nil
}

// forget drops a stream whose both directions have ended.
func (m *Mux) forget(s *Stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.streams[s.id] == s {
		delete(m.streams, s.id)
	}
}

// Stream is a connection inside a [Mux].
type Stream struct {
	mux *Mux
	id  uint32

	mu      sync.Mutex
	changed sync.Cond
	buffer  []byte
	taken   int // bytes read since the last credit was sent
	room    int // bytes that may be written
	ended   bool
	closed  bool // for writing
	err     error
	readBy  deadline
	writeBy deadline
}

// deadline is a point in time at which a wait gives up.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) set(at time.Time, wake func()) {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at, d.timer = at, nil
	if !at.IsZero() {
		d.timer = time.AfterFunc(time.Until(at), wake)
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// arrive takes content; the other end keeps to the window.
func (s *Stream) arrive(content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buffer)+len(content) > window {
		return fmt.Errorf("stream %d has more than its window", s.id)
	}
	if s.err == nil {
		s.buffer = append(s.buffer, content...)
		s.changed.Broadcast()
	}
	return nil
}

func (s *Stream) end() {
	s.mu.Lock()
	s.ended = true
	gone := s.closed
	s.changed.Broadcast()
	s.mu.Unlock()
	if gone {
		s.mux.forget(s)
	}
}

func (s *Stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.changed.Broadcast()
}

func (s *Stream) credit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = min(s.room+n, window)
	s.changed.Broadcast()
}

// Read reads what the other end wrote. What arrived before a failure can be read.
func (s *Stream) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.mu.Lock()
	for len(s.buffer) == 0 && !s.ended && s.err == nil && !s.readBy.passed() {
		s.changed.Wait()
	}
	n := copy(b, s.buffer)
	s.buffer = s.buffer[n:]
	s.taken += n
	give := 0
	if s.taken >= window/2 {
		give, s.taken = s.taken, 0
	}
	var err error
	switch {
	case n > 0:
	case s.ended:
		err = io.EOF
	case s.err != nil:
		err = s.err
	default:
		err = os.ErrDeadlineExceeded
	}
	s.mu.Unlock()
	if give > 0 {
		// A connection that ended has told the stream.
		_ = s.mux.write(frameCredit, s.id, binary.BigEndian.AppendUint32(nil, uint32(give)))
	}
	return n, err
}

// Write writes all of b, as far as the other end reads.
func (s *Stream) Write(b []byte) (written int, err error) {
	for len(b) > 0 {
		s.mu.Lock()
		for s.room == 0 && !s.closed && s.err == nil && !s.writeBy.passed() {
			s.changed.Wait()
		}
		switch {
		case s.closed:
			err = io.ErrClosedPipe
		case s.err != nil:
			err = s.err
		case s.writeBy.passed():
			err = os.ErrDeadlineExceeded
		}
		n := min(len(b), s.room, chunk)
		if err == nil {
			s.room -= n
		}
		s.mu.Unlock()
		if err == nil {
			err = s.mux.write(frameData, s.id, b[:n])
		}
		if err != nil {
			return written, err
		}
		written += n
		b = b[n:]
	}
	return written, nil
}

// CloseWrite tells the other end that nothing more comes.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	gone := s.ended
	s.changed.Broadcast()
	s.mu.Unlock()
	err := s.mux.write(frameEnd, s.id, nil)
	if gone {
		s.mux.forget(s)
	}
	return err
}

// Close ends both directions.
func (s *Stream) Close() error {
	s.mu.Lock()
	over := s.err != nil || s.closed && s.ended
	s.closed = true
	if s.err == nil {
		s.err = net.ErrClosed
	}
	s.changed.Broadcast()
	s.readBy.set(time.Time{}, nil)
	s.writeBy.set(time.Time{}, nil)
	s.mu.Unlock()
	s.mux.forget(s)
	if over {
		return nil
	}
	return s.mux.write(frameReset, s.id, nil)
}

// LocalAddr and RemoteAddr have no address to tell.
func (s *Stream) LocalAddr() net.Addr  { return address("inside") }
func (s *Stream) RemoteAddr() net.Addr { return address("inside") }

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// SetDeadline is described by [net.Conn].
func (s *Stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline is described by [net.Conn].
func (s *Stream) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.readBy, t) }

// SetWriteDeadline is described by [net.Conn].
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.writeBy, t) }

func (s *Stream) setDeadline(d *deadline, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.set(t, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	s.changed.Broadcast()
	return nil
}
