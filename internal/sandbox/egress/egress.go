// Package egress is a forward proxy with an allow-list: the one way out of a sandbox.
//
// It answers CONNECT and requests for absolute http URLs (RFC 9110, sections 7.2 and
// 9.3.6), reaches the hosts that are listed and no other, and notes what was asked for. It
// decides over names first and over the resolved address when it connects, so that a name
// cannot be pointed at an address inside meanwhile. It does not look into TLS, keeps no
// content, and never uses a credential of its own.
package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxConnections bounds the connections of clients at a time.
	maxConnections = 256
	// maxNotes bounds the different requests that are noted.
	maxNotes = 10_000
	// dialTimeout, idleTimeout bound how long a connection may take and be silent.
	dialTimeout = 15 * time.Second
	idleTimeout = 2 * time.Minute
)

// Note says what was asked of a host, and how often.
type Note struct {
	// Host is "host:port".
	Host    string `json:"host"`
	Allowed bool   `json:"allowed"`
	// Why says why it was refused, or failed.
	Why   string `json:"why,omitempty"`
	Count int    `json:"count"`
	// Sent and Received are bytes, as the sandbox sees it.
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

// Proxy is a running proxy.
type Proxy struct {
	rules     Rules
	hosts     map[string]netip.Addr
	server    *http.Server
	transport *http.Transport
	slots     chan struct{}
	served    chan struct{}

	mu    sync.Mutex
	notes map[Note]*Note // by Host, Allowed and Why
	lost  int
	conns map[net.Conn]bool
	ended bool
}

// Serve answers on l until Close. The listener is the proxy's from then on. Hosts are
// addresses of names that are not to be looked up; nil for none.
func Serve(l net.Listener, rules Rules, hosts map[string]netip.Addr) *Proxy {
	p := &Proxy{
		rules: rules, hosts: hosts, slots: make(chan struct{}, maxConnections), served: make(chan struct{}),
		notes: map[Note]*Note{}, conns: map[net.Conn]bool{},
	}
	p.transport = &http.Transport{
		DialContext: p.dial, DisableCompression: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: 10 * time.Second,
		ResponseHeaderTimeout: idleTimeout,
	}
	p.server = &http.Server{
		Handler: p, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: idleTimeout, MaxHeaderBytes: 64 << 10,
		ErrorLog: log.New(io.Discard, "", 0), // what a client does wrong is the client's
	}
	go func() {
		defer close(p.served)
		_ = p.server.Serve(l) // ends with Close, or with the environment whose listener it is
	}()
	return p
}

// Close ends every connection and returns what was asked for, sorted by host.
func (p *Proxy) Close() []Note {
	_ = p.server.Close() // the listener may be gone already
	<-p.served
	p.mu.Lock()
	p.ended = true
	for c := range p.conns {
		_ = c.Close() // it only must end
	}
	p.mu.Unlock()
	for range maxConnections { // until every tunnel has noted what went through it
		p.slots <- struct{}{}
	}
	p.transport.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	var notes []Note
	for _, n := range p.notes {
		notes = append(notes, *n)
	}
	if p.lost > 0 {
		notes = append(notes, Note{Host: "others", Why: fmt.Sprintf("more than %d different requests", maxNotes), Count: p.lost})
	}
	slices.SortFunc(notes, func(a, b Note) int {
		if c := strings.Compare(a.Host, b.Host); c != 0 {
			return c
		}
		return strings.Compare(a.Why, b.Why)
	})
	return notes
}

func (p *Proxy) note(n Note, sent, received int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept, ok := p.notes[n]
	if !ok {
		if len(p.notes) >= maxNotes {
			p.lost++
			return
		}
		copied := n
		kept = &copied
		p.notes[n] = kept
	}
	kept.Count, kept.Sent, kept.Received = kept.Count+1, kept.Sent+sent, kept.Received+received
}

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-r.Context().Done():
		return
	}
	host, port, why := target(r)
	at := net.JoinHostPort(host, strconv.Itoa(int(port)))
	if why == "" && !p.rules.host(host, port) {
		why = "not in the allow-list"
	}
	if why != "" {
		p.note(Note{Host: at, Why: why}, 0, 0)
		http.Error(w, "clean room: "+at+" is refused: "+why+"; see allow in [cleanroom.prepare] of ggen.toml", http.StatusForbidden)
		return
	}
	if r.Method == http.MethodConnect {
		p.tunnel(w, r, at)
		return
	}
	p.forward(w, r, at)
}

// target returns where a request wants to go, or why it cannot.
func target(r *http.Request) (host string, port uint16, why string) {
	authority, standard := r.URL.Host, "80"
	switch {
	case r.Method == http.MethodConnect:
		standard = ""
	case r.URL.Scheme != "http" || authority == "":
		return r.Host, 0, "a proxy takes absolute http URLs, and CONNECT"
	}
	host, text, err := net.SplitHostPort(authority)
	if err != nil {
		host, text = strings.Trim(authority, "[]"), standard
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" {
		return host, 0, "it names no port"
	}
	return host, uint16(n), ""
}

// refusal is why a connection to a resolved address is not made.
type refusal struct{ address netip.Addr }

func (r refusal) Error() string {
	return fmt.Sprintf("it is at %s, which is not public and not in the allow-list", r.address)
}

// dial connects to a host that is allowed, at the addresses that are.
func (p *Proxy) dial(ctx context.Context, network, at string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return nil, err
	}
	_, literal := netip.ParseAddr(host)
	if address, ok := p.hosts[strings.ToLower(host)]; ok {
		at = net.JoinHostPort(address.String(), port)
	}
	d := net.Dialer{
		Timeout: dialTimeout,
		// Called for each resolved address just before the connection is made.
		ControlContext: func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(resolved)
			if err != nil {
				return err
			}
			if !p.rules.address(to.Addr(), to.Port(), literal != nil) {
				return refusal{to.Addr()}
			}
			return nil
		},
	}
	return d.DialContext(ctx, network, at)
}

// failed notes and tells that a host could not be reached, or must not be.
func (p *Proxy) failed(w http.ResponseWriter, at string, err error) {
	status, n := http.StatusBadGateway, Note{Host: at, Allowed: true, Why: "no connection"}
	var r refusal
	if errors.As(err, &r) {
		status, n, err = http.StatusForbidden, Note{Host: at, Why: r.Error()}, r
	}
	p.note(n, 0, 0)
	http.Error(w, "clean room: "+at+": "+err.Error(), status)
}

func (p *Proxy) tunnel(w http.ResponseWriter, r *http.Request, at string) {
	there, err := p.dial(r.Context(), "tcp", at)
	if err != nil {
		p.failed(w, at, err)
		return
	}
	defer there.Close()
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		p.failed(w, at, err)
		return
	}
	defer here.Close()
	if !p.own(here, there) {
		return
	}
	defer p.disown(here, there)
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var sent, received atomic.Int64
	var both sync.WaitGroup
	both.Go(func() {
		relay(there, io.MultiReader(io.LimitReader(buffered, int64(buffered.Reader.Buffered())), here), here, &sent)
	})
	both.Go(func() { relay(here, there, there, &received) })
	both.Wait()
	p.note(Note{Host: at, Allowed: true}, sent.Load(), received.Load())
}

// relay copies until the source ends or both are silent, and then tells the other side.
func relay(to net.Conn, from io.Reader, source net.Conn, count *atomic.Int64) {
	buf := make([]byte, 32<<10)
	for {
		_ = source.SetReadDeadline(time.Now().Add(idleTimeout)) // a closed one says so below
		n, err := from.Read(buf)
		if n > 0 {
			count.Add(int64(n))
			if _, err := to.Write(buf[:n]); err != nil {
				_ = source.Close() // nobody is there to read the rest
				return
			}
		}
		if err != nil {
			if half, ok := to.(interface{ CloseWrite() error }); ok && errors.Is(err, io.EOF) && half.CloseWrite() == nil {
				return
			}
			_ = to.Close() // or the other direction would wait
			return
		}
	}
}

// own remembers connections that Close must end; false if it has been called.
func (p *Proxy) own(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = true
	}
	return !p.ended
}

func (p *Proxy) disown(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// hopByHop are headers of one connection (RFC 9110, section 7.6.1).
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func strip(h http.Header) {
	for _, names := range h.Values("Connection") {
		for name := range strings.SplitSeq(names, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
}

func (p *Proxy) forward(w http.ResponseWriter, r *http.Request, at string) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	strip(out.Header)
	sent := &counter{ReadCloser: r.Body}
	if r.ContentLength != 0 {
		out.Body = sent
	}
	resp, err := p.transport.RoundTrip(out)
	if err != nil {
		p.failed(w, at, err)
		return
	}
	defer resp.Body.Close()
	strip(resp.Header)
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	received, _ := io.Copy(w, resp.Body) // a reader that went, or a sender: the client sees a short answer
	p.note(Note{Host: at, Allowed: true}, sent.n.Load(), received)
}

// counter counts what is read.
type counter struct {
	io.ReadCloser
	n atomic.Int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.n.Add(int64(n))
	return n, err
}
