package keeper

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// version begins every path. A keeper that lives on from another version of this
// program answers 404 to one that it does not know.
const version = "/v2/"

// maxRequest bounds a request, maxAnswer an answer, in bytes.
const (
	maxRequest = 8 << 20
	maxAnswer  = 32 << 20
)

// config is the line that a keeper reads when it starts.
type config struct {
	Dir      string                  `json:"dir"`
	ID       string                  `json:"id"`
	Spec     sandbox.EnvironmentSpec `json:"spec"`
	Life     Life                    `json:"life"`
	Settings json.RawMessage         `json:"settings"`
}

// ready is the line that it answers.
type ready struct {
	Info    Info     `json:"info"`
	Failure *failure `json:"failure,omitempty"`
}

// failure is an error on its way to another process.
type failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	// Is names the cause that callers look for, of those in causes.
	Is string `json:"is,omitempty"`
}

// causes are what callers ask [errors.Is] for.
var causes = map[string]error{"not-exist": fs.ErrNotExist, "permission": fs.ErrPermission, "exist": fs.ErrExist}

func failureOf(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Kind: fault.KindOf(err).String(), Message: err.Error(), Hint: fault.HintOf(err)}
	for name, cause := range causes {
		if errors.Is(err, cause) {
			f.Is = name
		}
	}
	return f
}

// err is the error that it was.
func (f *failure) err() error {
	if f == nil {
		return nil
	}
	kind := fault.Internal
	for _, k := range []fault.Kind{fault.Finding, fault.Usage, fault.Unavailable, fault.Interrupted} {
		if k.String() == f.Kind {
			kind = k
		}
	}
	return &fault.Error{Kind: kind, Hint: f.Hint, Err: &carried{f.Message, causes[f.Is]}}
}

// carried is an error of another process: its message, and the cause it had.
type carried struct {
	message string
	cause   error
}

func (c *carried) Error() string { return c.message }
func (c *carried) Unwrap() error { return c.cause }

// Requests and answers of the calls. What has no type of its own here is empty.
type (
	// startRequest asks for a container. Its streams, and those of an exec, are
	// carried by frames; which there are, streams says.
	startRequest struct {
		Spec    sandbox.ContainerSpec `json:"spec"`
		Streams streams               `json:"streams"`
		Type    string                `json:"type"`
		Image   string                `json:"image"`
		Port    int                   `json:"port"`
	}
	execRequest struct {
		ID      string           `json:"id"`
		Spec    sandbox.ExecSpec `json:"spec"`
		Streams streams          `json:"streams"`
	}
	streams struct{ In, Out, Err bool }
	// target names a container, by id or, of those that run, by name.
	target struct {
		ID     string        `json:"id"`
		Signal int           `json:"signal,omitempty"`
		Grace  time.Duration `json:"grace,omitempty"`
		Follow bool          `json:"follow,omitempty"`
	}
	pathRequest struct {
		Container string        `json:"container"`
		Mount     sandbox.Mount `json:"mount"`
	}
	portRequest   struct{ Preferred int }
	dialRequest   struct{ Network, Address string }
	acceptRequest struct{ ID string }
	deleteRequest struct {
		Grace time.Duration `json:"grace"`
	}
	pathAnswer struct{ Path string }
	portAnswer struct{ Port int }
	// listening is where a listener listens.
	listening struct{ Network, Address string }
)

// ended is the last frame of a stream: how a process or a call ended.
type ended struct {
	Status  sandbox.ExitStatus `json:"status"`
	Failure *failure           `json:"failure,omitempty"`
}

// The kinds of frames.
const (
	frameStarted = iota + 1 // JSON: it runs, or is connected
	frameOut                // bytes of standard output, or of a connection
	frameErr                // bytes of standard error
	frameIn                 // bytes for standard input
	frameEOF                // the sender sends no more bytes
	frameTaken              // one frameIn was taken by the process
	frameKill               // end the process, and say when it has
	frameEnded              // JSON of ended, and nothing after it
)

// window bounds the frames of standard input that are on their way.
const window = 8

// maxFrame bounds the bytes of one frame.
const maxFrame = 64 << 10

// link is a connection that carries frames: a byte for the kind, four for the length,
// big-endian, and the bytes. Frames make an end of one direction differ from the end
// of the whole, and keep datagrams apart.
type link struct {
	conn net.Conn
	r    *bufio.Reader
	mu   sync.Mutex // of writing
}

func newLink(c net.Conn, r *bufio.Reader) *link {
	if r == nil {
		r = bufio.NewReader(c)
	}
	return &link{conn: c, r: r}
}

// send sends b, in more frames than one if it is long.
func (l *link) send(kind byte, b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		part := b[:min(len(b), maxFrame)]
		frame := make([]byte, 5, 5+len(part))
		frame[0] = kind
		binary.BigEndian.PutUint32(frame[1:], uint32(len(part)))
		if _, err := l.conn.Write(append(frame, part...)); err != nil {
			return err
		}
		if b = b[len(part):]; len(b) == 0 {
			return nil
		}
	}
}

func (l *link) sendJSON(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxFrame {
		return fmt.Errorf("message of %d bytes is over %d", len(b), maxFrame)
	}
	return l.send(kind, b)
}

// head waits for the next frame and returns its kind and length. After an error
// that is a deadline it may be called again.
func (l *link) head() (kind byte, n int, err error) {
	h, err := l.r.Peek(5)
	if err != nil {
		if errors.Is(err, io.EOF) && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, err
	}
	kind, size := h[0], binary.BigEndian.Uint32(h[1:])
	if size > maxFrame {
		return 0, 0, fmt.Errorf("frame of %d bytes is over %d", size, maxFrame)
	}
	_, _ = l.r.Discard(5)
	return kind, int(size), nil
}

// receive waits for the next frame.
func (l *link) receive() (kind byte, b []byte, err error) {
	kind, n, err := l.head()
	if err != nil {
		return 0, nil, err
	}
	b = make([]byte, n)
	_, err = io.ReadFull(l.r, b)
	return kind, b, err
}

// writer sends what is written to it as frames of one kind.
type writer struct {
	link *link
	kind byte
}

func (w writer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := w.link.send(w.kind, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
