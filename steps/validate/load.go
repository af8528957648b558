package validate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// The load. It is small on purpose: what is asked is whether requests are lost,
// not how many the service can serve.
const (
	// loadWorkers send requests one after the other; every other one keeps its
	// connection, as proxies do, and the rest make a new one for each request, as
	// clients do.
	loadWorkers = 8
	// loadEvery is the least time between two requests of one worker.
	loadEvery = 2 * time.Millisecond
	// loadFirst is how many requests must be answered before the stop, loadWarm
	// how long that may take.
	loadFirst = 100
	loadWarm  = 5 * time.Second
	// heldRequests are begun before the stop and finished after it, every other
	// one on a connection that has served a request already.
	heldRequests = 8
	// heldMost bounds how long after the stop a held request is finished, if the
	// listener does not close before: servers cut off clients that take seconds.
	heldMost = time.Second
	// maxRequests bounds the requests of one worker.
	maxRequests = 20_000
	// maxFailures bounds the failures that are described.
	maxFailures = 5
)

// load sends requests to a service that is going to stop, and keeps account. A
// request is lost, and none may be, when the service had accepted it and gave no
// full answer:
//
//   - A request that was begun before SIGTERM is lost if anything is amiss with it;
//     an answer other than 200 is, for the path answered 200 until then.
//     To have such requests at the very moment of the stop, some are held: their
//     header is sent, and later requests were answered, so the service has taken
//     them; one byte of the body is kept back until after the stop, so it cannot
//     be done with them. At that moment nothing else is under way, see gate.
//   - A request that was begun after SIGTERM is lost if an answer was begun and
//     not finished.
//
// A request that was begun after SIGTERM and got not one byte was turned away. That
// is expected, and not counted, in each of its three shapes. A refused connection:
// a service that stops is meant to stop listening. A connection that is reset: it
// lay in the kernel's queue when the listener closed, and the service never saw it.
// A connection that is closed: Go's own Server.Shutdown, for one, drops a connection
// whose first header comes after it was called. From outside the three are one: the
// service did nothing for the request, so whoever routes to it may send it to
// another instance, as RFC 9110 section 9.2.2 allows for what is idempotent. The
// time in which requests are still sent to a service that stops is for the router
// to avoid, and deploy does: it drains before it stops.
type load struct {
	in   *instance
	path string

	// gate is held for reading during a request and for writing during the stop,
	// so that every request is either before it or after it.
	gate    sync.RWMutex
	stopped bool

	answered, notOK, turnedAway atomic.Int64
	// enough is closed when loadFirst requests were answered, closed when a
	// request was turned away.
	enough, closed chan struct{}
	onceClosed     sync.Once

	mu       sync.Mutex
	failures []string
	failed   int
}

func newLoad(in *instance, path string) *load {
	return &load{in: in, path: path, enough: make(chan struct{}), closed: make(chan struct{})}
}

// work sends requests until a connection is refused, ctx ends or there were enough.
func (l *load) work(ctx context.Context, keepAlive bool) {
	client := l.in.client(l.in.env.Dial, keepAlive)
	defer client.CloseIdleConnections()
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for range maxRequests {
		if goOn := l.request(ctx, client); !goOn {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// request sends one request and reports whether to send more.
func (l *load) request(ctx context.Context, client *http.Client) bool {
	l.gate.RLock()
	defer l.gate.RUnlock()
	var connected, begun bool
	trace := &httptrace.ClientTrace{
		// net/http sends a request again when a kept connection was closed before
		// the first byte of the answer (RFC 9112 section 9.3.1): the last attempt counts.
		GetConn:              func(string) { connected, begun = false, false },
		GotConn:              func(httptrace.GotConnInfo) { connected = true },
		GotFirstResponseByte: func() { begun = true },
	}
	timed, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(httptrace.WithClientTrace(timed, trace), http.MethodGet, "http://"+l.in.address+l.path, nil)
	if err != nil {
		l.lose(err.Error())
		return false
	}
	response, err := client.Do(request)
	if err == nil {
		if err = drain(response); err == nil {
			if !l.stopped {
				return l.answerAccepted(response.StatusCode)
			}
			l.answer(response.StatusCode)
			return true
		}
	}
	switch {
	case ctx.Err() != nil:
		return false
	case !l.stopped:
		l.lose("before the stop: " + rootCause(err))
		return false
	case begun:
		l.lose("answer cut off: " + rootCause(err))
	case timed.Err() != nil:
		l.lose(fmt.Sprintf("connection held without an answer for %s", probeTimeout))
	default:
		l.turnedAway.Add(1)
		l.onceClosed.Do(func() { close(l.closed) })
	}
	return connected
}

// drain reads an answer to its end.
func drain(response *http.Response) error {
	n, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxBody+1))
	if err == nil && n > maxBody {
		err = fmt.Errorf("answer has more than %d bytes", maxBody)
	}
	return errors.Join(err, response.Body.Close())
}

func (l *load) answer(status int) {
	if status != http.StatusOK {
		l.notOK.Add(1)
	}
	if l.answered.Add(1) == loadFirst {
		close(l.enough)
	}
}

// answerAccepted takes the answer to a request that was begun before the stop and
// reports whether it is one.
func (l *load) answerAccepted(status int) bool {
	if status != http.StatusOK {
		l.lose(fmt.Sprintf("request begun before the stop: answered %d, not 200", status))
		return false
	}
	l.answer(status)
	return true
}

func (l *load) lose(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed++; len(l.failures) < maxFailures {
		l.failures = append(l.failures, why)
	}
}

// held is a request whose last byte is kept back.
type held struct {
	net.Conn
	answers *bufio.Reader
}

// hold opens a connection, sends a whole request on it first if used is set, and
// then all of a request but the last byte of its body.
func (l *load) hold(ctx context.Context, used bool) (_ held, err error) {
	c, err := l.in.env.Dial(ctx, "tcp", l.in.address)
	if err != nil {
		return held{}, err
	}
	h := held{Conn: c, answers: bufio.NewReader(c)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return held{}, err
		}
	}
	if used {
		if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", l.path, l.in.address); err != nil {
			return held{}, err
		}
		status, err := h.answer()
		if err != nil {
			return held{}, err
		}
		if status != http.StatusOK {
			return held{}, fmt.Errorf("answered %d, not 200", status)
		}
	}
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\n.", l.path, l.in.address)
	return h, err
}

// answer reads one whole answer and returns its status.
func (h held) answer() (int, error) {
	response, err := http.ReadResponse(h.answers, nil)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, drain(response)
}

// finish sends the last byte and takes the answer. A service that did not wait
// for the body has answered already; then it may have closed the connection too.
func (l *load) finish(h held) {
	defer h.Close()
	_, _ = io.WriteString(h, ".") // if this fails, so does the answer, unless it was given before
	status, err := h.answer()
	if err != nil {
		l.lose("request begun before the stop: " + rootCause(err))
		return
	}
	l.answerAccepted(status)
}
