package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"sync/atomic"
	"time"
)

const (
	// maxBuffered is the largest request body that is held in memory, so that a
	// slow client does not hold a release and the request can be sent again.
	maxBuffered = 64 << 10
	dialTimeout = time.Second
	// headerTimeout bounds the wait for the head of an answer.
	headerTimeout = time.Minute
	// idleTimeout is below the 5 s after which common servers (Node.js) close an
	// idle connection, so that a request is not sent into one that is closing.
	idleTimeout = 4 * time.Second
)

var errNoRelease = errors.New("no release is routed")

// proxy is the users' side of the router.
type proxy struct {
	table     *table
	log       *slog.Logger
	transport *http.Transport
	reverse   *httputil.ReverseProxy
	// bodyTimeout bounds the wait for a client's body.
	bodyTimeout time.Duration
}

func newProxy(t *table, bodyTimeout time.Duration, log *slog.Logger) *proxy {
	dialer := &net.Dialer{Timeout: dialTimeout}
	p := &proxy{table: t, log: log, bodyTimeout: bodyTimeout, transport: &http.Transport{
		DialContext:           dialer.DialContext,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       idleTimeout,
		ResponseHeaderTimeout: headerTimeout,
		DisableCompression:    true, // the answer passes through as it is
	}}
	p.reverse = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "release" // the host is chosen per attempt
			r.Out.Host = r.In.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery // also what net/url cannot parse
			r.SetXForwarded()
		},
		Transport:    p,
		ErrorHandler: p.answerError,
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return p
}

// ServeHTTP sends one request to a release.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{}
	defer x.finish()
	control := http.NewResponseController(w)
	switch n := r.ContentLength; {
	case n > 0 && n <= maxBuffered:
		_ = control.SetReadDeadline(time.Now().Add(p.bodyTimeout)) // see steady
		x.body = make([]byte, n)
		if _, err := io.ReadFull(r.Body, x.body); err != nil {
			w.Header().Set("Connection", "close")
			if errors.Is(err, os.ErrDeadlineExceeded) {
				http.Error(w, "request body did not come in time", http.StatusRequestTimeout)
				return
			}
			http.Error(w, "request body ended early", http.StatusBadRequest)
			return
		}
		_ = control.SetReadDeadline(time.Time{})
	case n != 0:
		x.stream = &steady{ReadCloser: r.Body, control: control, timeout: p.bodyTimeout}
		defer x.stream.end()
		r.Body = x.stream
	}
	p.reverse.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, x)))
}

// exchange follows one request over its attempts. Only the goroutine that serves
// the request uses it.
type exchange struct {
	// body is the whole request body, or nil if there is none or it is streamed.
	body []byte
	// stream is the body that is not held, or nil.
	stream *steady
	at     member
	start  time.Time
	open   bool
	bad    bool
}

// slow reports whether the client stopped sending its body.
func (x *exchange) slow() bool { return x.stream != nil && x.stream.late.Load() }

type exchangeKey struct{}

func (x *exchange) begin(m member) { x.at, x.start, x.open, x.bad = m, time.Now(), true, false }

// finish ends the attempt and charges it to its release.
func (x *exchange) finish() {
	if !x.open {
		return
	}
	x.open = false
	x.at.requests.Add(1)
	if x.bad {
		x.at.errors.Add(1)
	}
	x.at.latency.add(time.Since(x.start))
	x.at.leave()
}

// abandon ends an attempt whose client went away: nobody's fault.
func (x *exchange) abandon() {
	x.open = false
	x.at.requests.Add(1)
	x.at.leave()
}

// RoundTrip makes one attempt, and a second one when the first could not reach
// its release, or when a GET or HEAD got no answer. Each attempt that fails is
// charged to the release that failed.
func (p *proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	x, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("request did not come through ServeHTTP")
	}
	stream := &once{ReadCloser: r.Body}
	var avoid *endpoint
	for attempt := 1; ; attempt++ {
		m, e, ok := p.table.pick(avoid)
		if !ok {
			return nil, errNoRelease
		}
		x.begin(m)
		res, err := p.transport.RoundTrip(p.attempt(r, x, stream, e))
		if err == nil && x.slow() { // an answer to half a body is none
			err = errors.Join(os.ErrDeadlineExceeded, res.Body.Close())
		}
		if err == nil {
			x.bad = res.StatusCode >= 500
			if res.StatusCode != http.StatusSwitchingProtocols { // then the body is the connection
				res.Body = &watched{ReadCloser: res.Body, ctx: r.Context(), x: x}
			}
			return res, nil
		}
		if r.Context().Err() != nil || x.slow() {
			x.abandon()
			return nil, err
		}
		x.bad = true
		e.ejected.Store(time.Now().Add(eject).UnixNano())
		again := attempt == 1 && repeatable(r, x, stream, err)
		p.log.Debug("attempt failed", "release", m.name, "method", r.Method, "again", again, "error", err)
		if again {
			m.retried.Add(1)
		}
		x.finish()
		if !again {
			return nil, err
		}
		avoid = e
	}
}

// attempt returns the request for one endpoint.
func (p *proxy) attempt(r *http.Request, x *exchange, stream *once, e *endpoint) *http.Request {
	out := *r
	u := *r.URL
	u.Host = e.address
	out.URL = &u
	switch {
	case x.body != nil:
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.body)), nil }
		out.Body, _ = out.GetBody()
		out.ContentLength = int64(len(x.body))
	case r.Body != nil && r.Body != http.NoBody:
		out.Body = stream
	}
	return &out
}

// repeatable reports whether a request that failed with err may be sent again:
// it was not sent at all, or it is safe (RFC 9110 section 9.2.1) and whole.
func repeatable(r *http.Request, x *exchange, stream *once, err error) bool {
	if stream.used.Load() && x.body == nil {
		return false
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return false // another minute helps nobody
	}
	upgrade := r.Header.Get("Upgrade") != ""
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && !upgrade
}

// once is a request body that survives an attempt which did not read it.
type once struct {
	io.ReadCloser
	used atomic.Bool // the transport reads in a goroutine of its own
}

func (o *once) Read(p []byte) (int, error) {
	o.used.Store(true)
	return o.ReadCloser.Read(p)
}

// Close does nothing: the server closes the body when the request ends.
func (o *once) Close() error { return nil }

// watched notices an answer that breaks off.
type watched struct {
	io.ReadCloser
	ctx context.Context
	x   *exchange
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && w.ctx.Err() == nil {
		w.x.bad = true
	}
	return n, err
}

// answerError tells the user that there is no answer.
func (p *proxy) answerError(w http.ResponseWriter, r *http.Request, err error) {
	var timeout net.Error
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	switch {
	case x != nil && x.slow(): // which ended the request's context too
		w.Header().Set("Connection", "close")
		http.Error(w, "request body did not come in time", http.StatusRequestTimeout)
	case r.Context().Err() != nil: // nobody listens
	case errors.Is(err, errNoRelease):
		w.Header().Set("Retry-After", "1")
		http.Error(w, "no release is serving", http.StatusServiceUnavailable)
	case errors.As(err, &timeout) && timeout.Timeout():
		http.Error(w, "the release did not answer in time", http.StatusGatewayTimeout)
	default:
		http.Error(w, "the release did not answer", http.StatusBadGateway)
	}
}
