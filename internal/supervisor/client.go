package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Client talks to one supervisor. It holds no connection between calls.
type Client struct {
	socket, record string
	http           *http.Client
}

// NewClient returns a client of the supervisor with that socket and record.
func NewClient(socket, record string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, record: record, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// State returns the service's process, zero while none runs, how often it ended
// by itself and how it did the last time. Without a supervisor, running is false.
func (c *Client) State(ctx context.Context) (pid, ends int, lastEnd string, running bool, err error) {
	res, err := c.call(ctx, "state", 5*time.Second)
	if gone(err) {
		return 0, 0, "", false, nil
	}
	if err != nil {
		return 0, 0, "", false, err
	}
	var s State
	if err := json.Unmarshal(res, &s); err != nil {
		return 0, 0, "", false, fmt.Errorf("supervisor's answer: %w", err)
	}
	return s.PID, s.Ends, s.LastEnd, true, nil
}

// Stop stops the service and its supervisor and returns when the service has
// ended and the supervisor answers no more; its process is about to end then. The service has timeout to end by itself, as its spec says. What a killed
// supervisor left behind is ended too.
func (c *Client) Stop(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout+10*time.Second)
	defer cancel()
	probe := time.NewTicker(2 * time.Millisecond)
	defer probe.Stop()
	for {
		_, err := c.call(ctx, "stop", timeout+10*time.Second)
		if gone(err) {
			return Reap(c.record)
		}
		if err != nil {
			return err
		}
		select { // it stopped the service and is about to go
		case <-probe.C:
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "", "supervisor on %s does not end", c.socket)
		}
	}
}

func (c *Client) call(ctx context.Context, verb string, timeout time.Duration) (_ []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://supervisor/v1/"+verb, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "", "supervisor on %s: %w", c.socket, err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	return io.ReadAll(io.LimitReader(res.Body, maxSpec))
}

// gone reports whether err means that no supervisor is there, or that it ended
// during the call.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}
