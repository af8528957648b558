package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

const probeTimeout = 5 * time.Second

// Probe sends a request to a release or, if release is empty, to the router.
func (t *Target) Probe(ctx context.Context, release string, r target.Request) (target.Response, error) {
	if release == "" {
		traffic, ok, err := t.traffic(ctx)
		if err != nil {
			return target.Response{}, err
		}
		if !ok {
			return target.Response{}, fault.New(fault.Finding, "run `deploy run`", "no router runs for this environment")
		}
		return t.probe(ctx, dialable(traffic.Address), r)
	}
	p, err := t.mustKnow(release)
	if err != nil {
		return target.Response{}, err
	}
	return t.probe(ctx, p.Address, r)
}

// dialable replaces the address of all interfaces by this host's own.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

// sameAddress compares the address of a router with the one that was asked for,
// in which the port may be 0 (any) and the host a name.
func sameAddress(serving, asked string) bool {
	sHost, sPort, _ := net.SplitHostPort(serving)
	aHost, aPort, err := net.SplitHostPort(asked)
	if err != nil {
		return false
	}
	if aPort != "0" && aPort != sPort {
		return false
	}
	sIP, aIP := net.ParseIP(sHost), net.ParseIP(aHost)
	switch {
	case aHost == "" || aIP != nil && aIP.IsUnspecified():
		return sIP != nil && sIP.IsUnspecified()
	case aIP != nil:
		return aIP.Equal(sIP)
	default:
		return sIP != nil && !sIP.IsUnspecified()
	}
}

// probe makes one exchange on a connection of its own; a redirect is an answer.
func (t *Target) probe(ctx context.Context, address string, r target.Request) (_ target.Response, err error) {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = probeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	if !strings.HasPrefix(r.Path, "/") {
		return target.Response{}, fault.New(fault.Usage, `begin it with "/"`, "probe path %q", r.Path)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return target.Response{}, fault.New(fault.Usage, "", "probe: %w", err)
	}
	for name, values := range r.Header {
		req.Header[name] = values
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return target.Response{}, fault.New(fault.Finding, "", "%s %s has no answer: %w", method, r.Path, err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(res.Body, target.MaxProbeBody))
	if err != nil {
		return target.Response{}, fault.New(fault.Finding, "", "%s %s: the answer breaks off: %w", method, r.Path, err)
	}
	return target.Response{Status: res.StatusCode, Header: res.Header, Body: body}, nil
}
