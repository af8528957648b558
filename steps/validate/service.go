package validate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

const (
	// loopback is where a service listens inside its environment.
	loopback = "127.0.0.1"
	// probeEvery is the time between two probes of a service that starts: a
	// service may be ready in a few milliseconds, and a probe is cheap.
	probeEvery = 5 * time.Millisecond
	// probeTimeout bounds one probe.
	probeTimeout = 2 * time.Second
	// maxBody bounds what is read of an answer, in bytes.
	maxBody = 16 << 20
	// maxSaid bounds what is kept of what a service prints, in bytes.
	maxSaid = 4 << 10
)

// instance is a service that was started from the image.
type instance struct {
	container sandbox.Container
	env       sandbox.Environment
	// address is where it listens, inside.
	address string
	started time.Time
	said    *recent

	// done is closed when it has ended; then status and err tell how.
	done   chan struct{}
	status sandbox.ExitStatus
	err    error
}

// start starts the service of the image as a container called name. A nil
// instance means that there is no image.
func (s *subject) start(ctx context.Context, name string) (*instance, error) {
	image, err := s.openedImage(ctx)
	if err != nil || image == nil {
		return nil, err
	}
	env, err := s.environment(ctx)
	if err != nil {
		return nil, err
	}
	port, err := env.Port(s.port(image.config.Ports))
	if err != nil {
		return nil, err
	}
	in := &instance{env: env, address: net.JoinHostPort(loopback, strconv.Itoa(port)), said: &recent{}, done: make(chan struct{})}
	spec, err := s.spec(ctx, name, image, env, port)
	if err != nil {
		return nil, err
	}
	spec.Stdout, spec.Stderr = in.said, in.said
	in.started = time.Now()
	if in.container, err = env.Start(ctx, spec); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "start the service")
	}
	go func() {
		defer close(in.done)
		// The end of the environment ends the container, and so this wait.
		in.status, in.err = in.container.Wait(context.WithoutCancel(ctx))
	}()
	return in, nil
}

// port returns the port that the service would listen on by itself.
func (s *subject) port(exposed []string) int {
	if s.step.Service.Port != 0 {
		return s.step.Service.Port
	}
	for _, p := range exposed {
		number, protocol, _ := strings.Cut(p, "/")
		if n, err := strconv.Atoi(number); err == nil && (protocol == "" || protocol == "tcp") {
			return n
		}
	}
	return defaultPort
}

// spec places the image in a container.
func (s *subject) spec(ctx context.Context, name string, image *openImage, env sandbox.Environment, port int) (sandbox.ContainerSpec, error) {
	cfg := image.config
	argv := s.step.Service.Command
	if len(argv) == 0 {
		argv = append(append([]string{}, cfg.Entrypoint...), cfg.Cmd...)
	}
	spec := sandbox.ContainerSpec{Name: name, Argv: argv, Dir: cfg.WorkingDir, Limits: s.step.Limits}
	spec.UID, spec.GID = userIDs(cfg.User)
	spec.Env = append(append([]string{}, cfg.Env...), s.step.Service.Env...)
	spec.Env = append(spec.Env, "PORT="+strconv.Itoa(port), "LISTEN="+loopback)
	if env.Effective().Level == sandbox.Full {
		spec.Root = image.root
		return spec, nil
	}
	return s.withoutRoot(ctx, spec, image, env)
}

// ended reports whether the service has ended.
func (in *instance) ended() bool {
	select {
	case <-in.done:
		return true
	default:
		return false
	}
}

// stop ends the service by force and waits for it.
func (in *instance) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := in.container.Kill(ctx); err != nil {
		return fault.Wrap(err, fault.Unavailable, "", "end the service")
	}
	select {
	case <-in.done:
		return nil
	case <-ctx.Done():
		return fault.New(fault.Unavailable, "", "the service did not end when it was killed")
	}
}

// client returns an HTTP client whose every connection goes into the environment.
func (in *instance) client(dial func(ctx context.Context, network, address string) (net.Conn, error), keepAlive bool) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: !keepAlive, DisableCompression: true, MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// health is what the probes of a starting service saw.
type health struct {
	ok       bool
	attempts int
	after    time.Duration
	// last is what the last probe saw: "200 OK", "connection refused".
	last string
}

// healthy probes the health path until it answers 200, the service ends, or the
// time is over.
func (in *instance) healthy(ctx context.Context, path string, budget time.Duration) (h health) {
	ctx, cancel := context.WithDeadline(ctx, in.started.Add(budget))
	defer cancel()
	client := in.client(in.env.Dial, false)
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		h.attempts++
		seen := in.probe(ctx, client, path)
		if ctx.Err() == nil || h.last == "" { // the end of the time says less than what was seen before
			h.last = seen
		}
		h.after = time.Since(in.started)
		if h.ok = strings.HasPrefix(h.last, "200 "); h.ok || in.ended() {
			return h
		}
		select {
		case <-ctx.Done():
			return h
		case <-in.done: // one more probe would only be refused
			return h
		case <-tick.C:
		}
	}
}

func (in *instance) probe(ctx context.Context, client *http.Client, path string) string {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.address+path, nil)
	if err != nil {
		return err.Error()
	}
	response, err := client.Do(request)
	if err != nil {
		return rootCause(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxBody)); err != nil {
		return "answer ends early: " + rootCause(err)
	}
	return response.Status
}

// rootCause returns the innermost message of a network error, which does not name
// ports and addresses that differ from run to run.
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// healthEndpoint starts the service and asks its health path.
func healthEndpoint(ctx context.Context, s *subject) (_ opinion, err error) {
	service := s.step.Service
	in, err := s.start(ctx, "health")
	if err != nil {
		return opinion{}, err
	}
	if in == nil {
		return unknown("there is no image"), nil
	}
	defer func() { err = errors.Join(err, in.stop(ctx)) }()
	h := in.healthy(ctx, service.Health, service.StartTimeout)
	facts := map[string]string{"seconds": fmt.Sprintf("%.3f", h.after.Seconds()), "attempts": strconv.Itoa(h.attempts)}
	if h.ok {
		o := pass(fmt.Sprintf("GET %s on the started image answered %s after %s", service.Health, h.last, h.after.Round(time.Millisecond)))
		o.facts = facts
		return o, nil
	}
	o := fail(in.sick(h, service))
	o.facts = facts
	if in.ended() && in.err != nil {
		return opinion{}, fault.Wrap(in.err, fault.Unavailable, "", "wait for the service")
	}
	return o, nil
}

// sick says why a service did not get healthy.
func (in *instance) sick(h health, service Service) finding.Finding {
	f := finding.Finding{
		What: fmt.Sprintf("GET %s did not answer 200 within %s; the last of %d probes saw: %s", service.Health, service.StartTimeout, h.attempts, h.last),
		Why:  in.said.String(),
		Fix:  "make the service listen on the address in LISTEN and the port in PORT, and answer its health path; or set [service] health and port",
	}
	if in.ended() {
		f.What = fmt.Sprintf("the service ended before it answered GET %s: %s", service.Health, in.status)
		f.Fix = "make the service start without what the clean room does not have: a network, other services, writable files"
	}
	return f
}

// recent keeps the last maxSaid bytes that a service printed. It may be used by
// several goroutines.
type recent struct {
	mu   sync.Mutex
	kept []byte
}

// Write takes p.
func (r *recent) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, p[max(0, len(p)-maxSaid):]...)
	if extra := len(r.kept) - maxSaid; extra > 0 {
		r.kept = append(r.kept[:0], r.kept[extra:]...)
	}
	return len(p), nil
}

// String returns what was kept, as valid UTF-8.
func (r *recent) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.ToValidUTF8(string(r.kept), "\ufffd")
}
