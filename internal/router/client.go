package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// Client is an administrator of a router. It holds no connection between calls.
type Client struct {
	socket string
	http   *http.Client
}

// callTimeout bounds a call, besides the time that a drain may take.
const callTimeout = 10 * time.Second

// NewClient returns a client of the router whose administrator's socket is given.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status returns what is routed and what each release did.
func (c *Client) Status(ctx context.Context) (target.Traffic, error) {
	a, err := c.call(ctx, "status", command{}, callTimeout)
	if err == nil && a.Traffic == nil {
		err = fmt.Errorf("router answered without its traffic")
	}
	if err != nil {
		return target.Traffic{}, err
	}
	return *a.Traffic, nil
}

// Acquire takes the lease and returns its epoch. Without takeover a lease in
// force is [ErrTaken].
func (c *Client) Acquire(ctx context.Context, holder string, ttl time.Duration, takeover bool) (uint64, error) {
	a, err := c.call(ctx, "acquire", command{Holder: holder, TTL: ttl, Takeover: takeover}, callTimeout)
	return a.Epoch, err
}

// Renew prolongs the lease by its TTL. This and every other command with an
// epoch fails with [ErrStale] when that lease is no longer in force.
func (c *Client) Renew(ctx context.Context, epoch uint64) error {
	_, err := c.call(ctx, "renew", command{Epoch: epoch}, callTimeout)
	return err
}

// Release gives the lease back; what was not committed is undone.
func (c *Client) Release(ctx context.Context, epoch uint64) error {
	_, err := c.call(ctx, "release", command{Epoch: epoch}, callTimeout)
	return err
}

// Set replaces the route.
func (c *Client) Set(ctx context.Context, epoch uint64, backends []target.Backend) error {
	_, err := c.call(ctx, "set", command{Epoch: epoch, Backends: backends}, callTimeout)
	return err
}

// Commit makes the present route the one that is restored.
func (c *Client) Commit(ctx context.Context, epoch uint64) error {
	_, err := c.call(ctx, "commit", command{Epoch: epoch}, callTimeout)
	return err
}

// Drain waits until the release has no request in flight and returns how many
// are left when timeout ends.
func (c *Client) Drain(ctx context.Context, release string, timeout time.Duration) (int64, error) {
	a, err := c.call(ctx, "drain", command{Release: release, Timeout: timeout}, timeout+callTimeout)
	return a.Left, err
}

// Shutdown ends the router and returns when it takes no more connections; its
// process is about to end then.
func (c *Client) Shutdown(ctx context.Context, epoch uint64) error {
	if _, err := c.call(ctx, "shutdown", command{Epoch: epoch}, callTimeout); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, grace+callTimeout)
	defer cancel()
	probe := time.NewTicker(5 * time.Millisecond)
	defer probe.Stop()
	for {
		conn, err := net.DialTimeout("unix", c.socket, time.Second)
		if err != nil {
			return nil
		}
		_ = conn.Close() // it was opened only to see whether it can be
		select {
		case <-ctx.Done():
			return fmt.Errorf("router did not end: %w", context.Cause(ctx))
		case <-probe.C:
		}
	}
}

func (c *Client) call(ctx context.Context, verb string, cmd command, timeout time.Duration) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := json.Marshal(cmd)
	if err != nil {
		return answer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://router/v1/"+verb, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, fault.New(fault.Unavailable, "", "router on %s does not answer: %w", c.socket, cause(err))
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxCommand)).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("router's answer to %s: %w", verb, err)
	}
	if a.API != apiVersion {
		return answer{}, fault.New(fault.Unavailable, "run `deploy down` with the program that started it, then deploy again",
			"router speaks version %d of its protocol, not %d", a.API, apiVersion)
	}
	return a, refusal(verb, a)
}

// refusal turns a refused command into an error that [errors.Is] recognises.
func refusal(verb string, a answer) error {
	if a.Code == "" {
		return nil
	}
	kind := fault.Unavailable
	if a.Code == "invalid" {
		kind = fault.Internal
	}
	return &fault.Error{Kind: kind, Err: &refused{verb: verb, message: a.Message, is: codes[a.Code]}}
}

type refused struct {
	verb, message string
	is            error
}

func (r *refused) Error() string { return r.verb + ": " + r.message }

func (r *refused) Unwrap() error { return r.is }
