// Package readiness asks from the client's side whether a service can be used.
//
// A text in a log or an open socket of a server that still starts says too little:
// a [Probe] speaks the first words of the service's own protocol over a connection
// into the environment. [Wait] repeats it, without a fixed rhythm, until it
// succeeds several times in a row, the deadline is over, or the service is dead.
// The package opens no connection by itself and starts nothing.
package readiness

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Dial connects into the environment of the service, as [sandbox.Environment] does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Probe is one question to a service.
type Probe interface {
	// Try asks once. An error says why the service cannot be used yet. It ends with ctx.
	Try(ctx context.Context, dial Dial) error
	// String says what is asked, for people: "PING on 127.0.1.2:6379".
	String() string
}

// TCP is ready when address accepts a connection.
func TCP(address string) Probe {
	return probe{address, "a connection to " + address, func(net.Conn) error { return nil }}
}

// Redis is ready when address answers PING, or asks for a password first
// (https://redis.io/docs/latest/develop/reference/protocol-spec).
func Redis(address string) Probe { return probe{address, "PING on " + address, ping} }

// Postgres is ready when address answers a start-up message with a request to
// authenticate (https://www.postgresql.org/docs/current/protocol-flow.html,
// section 55.2.1). While it starts or shuts down it answers with an error.
func Postgres(address string) Probe {
	return probe{address, "a session on " + address, greetPostgres}
}

// HTTP is ready when GET of path on address is answered with a status from 200 to 399.
func HTTP(address, path string) Probe {
	get := func(c net.Conn) error { return getHTTP(c, address, path) }
	return probe{address, "GET http://" + address + path, get}
}

// Command is ready when argv, run in the container, ends with code 0.
func Command(c sandbox.Container, argv ...string) Probe { return command{c, argv} }

// probe asks over one connection of its own.
type probe struct {
	address, what string
	ask           func(net.Conn) error
}

func (p probe) String() string { return p.what }

func (p probe) Try(ctx context.Context, dial Dial) error {
	c, err := dial(ctx, "tcp", p.address)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	return p.ask(c)
}

func ping(c net.Conn) error {
	if _, err := io.WriteString(c, "*1\r\n$4\r\nPING\r\n"); err != nil {
		return err
	}
	line, err := firstLine(c)
	if err != nil {
		return err
	}
	if line == "+PONG" || strings.HasPrefix(line, "-NOAUTH") {
		return nil
	}
	return fmt.Errorf("redis answers %q", line)
}

func firstLine(r io.Reader) (string, error) {
	const most = 4 << 10
	line, err := bufio.NewReader(io.LimitReader(r, most)).ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func greetPostgres(c net.Conn) error {
	const protocol3 = 3 << 16
	var m []byte
	m = binary.BigEndian.AppendUint32(m, 0) // the length, known below
	m = binary.BigEndian.AppendUint32(m, protocol3)
	m = append(m, "user\x00readiness\x00database\x00postgres\x00\x00"...)
	binary.BigEndian.PutUint32(m, uint32(len(m)))
	if _, err := c.Write(m); err != nil {
		return err
	}
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return err
	}
	switch head[0] {
	case 'R':
		return nil
	case 'E':
		return refusal(c, binary.BigEndian.Uint32(head[1:]))
	}
	return fmt.Errorf("what answers is not PostgreSQL: it says %q", head)
}

// refusal reads an ErrorResponse. Only a server that is on its way up or down is
// not ready: one that knows no such user has opened for business.
func refusal(r io.Reader, length uint32) error {
	const most = 64 << 10
	if length < 4 || length > most {
		return fmt.Errorf("PostgreSQL answers with an error of %d bytes", length)
	}
	body := make([]byte, length-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	var code, message string
	for field := range strings.SplitSeq(string(body), "\x00") {
		switch {
		case strings.HasPrefix(field, "C"):
			code = field[1:]
		case strings.HasPrefix(field, "M"):
			message = field[1:]
		}
	}
	// Class 28, invalid authorization, and 3D, invalid catalog name: appendix A.
	if strings.HasPrefix(code, "28") || strings.HasPrefix(code, "3D") {
		return nil
	}
	return fmt.Errorf("PostgreSQL answers %s (%s)", message, code)
}

func getHTTP(c net.Conn, address, path string) error {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return err
	}
	request.Close = true
	if err := request.Write(c); err != nil {
		return err
	}
	const most = 1 << 20
	response, err := http.ReadResponse(bufio.NewReader(io.LimitReader(c, most)), request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("the answer is %s", response.Status)
	}
	return nil
}

// command asks by a process in the container.
type command struct {
	container sandbox.Container
	argv      []string
}

func (p command) String() string {
	return strings.Join(p.argv, " ") + " in " + p.container.Name()
}

func (p command) Try(ctx context.Context, _ Dial) error {
	var said tail
	status, err := p.container.Exec(ctx, sandbox.ExecSpec{Argv: p.argv, Stdout: &said, Stderr: &said})
	if err != nil {
		return err
	}
	if !status.OK() {
		return fmt.Errorf("%s: %s", status, strings.TrimSpace(said.text))
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct{ text string }

func (t *tail) Write(p []byte) (int, error) {
	const most = 1 << 10
	t.text += string(p)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(p), nil
}

// Wait says how long and how often to ask. The zero value of a field means its default.
type Wait struct {
	// Timeout bounds the whole wait; default [DefaultTimeout].
	Timeout time.Duration
	// InARow is how many times the probe must succeed one after the other; default 2.
	// A server that restarts during its initialisation answers once in between.
	InARow int
	// Ended is closed when the service is dead, whom nobody needs to wait for.
	Ended <-chan struct{}
	// Stirred receives when the service did something that may mean that it is ready, as
	// to say so: it is asked at once, and not only after a pause. Nil for never.
	Stirred <-chan struct{}
}

// DefaultTimeout is how long a service may take to get ready (K-35).
const DefaultTimeout = 60 * time.Second

// The pause between two questions grows from firstPause to lastPause: a service
// that starts in a moment is noticed in that moment, one that takes a minute is
// not asked a thousand times.
const (
	firstPause = 2 * time.Millisecond
	lastPause  = 250 * time.Millisecond
	// stirPause is the first where the service says by itself that it may be ready.
	stirPause = 20 * time.Millisecond
	// askTime bounds one question, also that of a server which accepts and is silent.
	askTime = 5 * time.Second
)

// ErrEnded is why a wait for a dead service ends.
var ErrEnded = errors.New("it ended before it was ready")

// For asks until p succeeds. The error names the probe, how often it was asked and
// its last answer; it wraps [ErrEnded], or the cause of the end of ctx.
func (w Wait) For(ctx context.Context, p Probe, dial Dial) error {
	timeout, inARow := w.Timeout, w.InARow
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	if inARow == 0 {
		inARow = 2
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not ready after %s", timeout))
	defer cancel()
	begin, next := time.Duration(0), firstPause
	if w.Stirred != nil {
		begin, next = stirPause, stirPause
	}
	pause := time.NewTimer(begin)
	defer pause.Stop()
	var last error
	good := 0
	for asked := 0; ; asked++ {
		select {
		case <-pause.C:
		case <-w.Stirred:
		case <-w.Ended:
			return because(p, asked, last, ErrEnded)
		case <-ctx.Done():
			return because(p, asked, last, context.Cause(ctx))
		}
		if last = ask(ctx, p, dial); last == nil {
			if good++; good == inARow {
				return nil
			}
			pause.Reset(firstPause)
			continue
		}
		good = 0
		pause.Reset(next)
		next = min(next*3/2, lastPause)
	}
}

func ask(ctx context.Context, p Probe, dial Dial) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return p.Try(ctx, dial)
}

func because(p Probe, asked int, last, why error) error {
	times := "asked once"
	if asked != 1 {
		times = "asked " + strconv.Itoa(asked) + " times"
	}
	if last == nil {
		return fmt.Errorf("%w (%s, %s)", why, p, times)
	}
	return fmt.Errorf("%w (%s, %s, the last time: %w)", why, p, times, last)
}
