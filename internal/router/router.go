// Package router is the embedded HTTP reverse proxy of the local target: it
// divides requests among releases by weight, counts what each release did, and
// outlives the command that started it.
//
// [Run] is the router's process. It serves users on a TCP address and one
// administrator, whoever holds the lease, on a unix socket that only its owner
// can open. Weights that were set but not committed are taken back by the router
// alone when the lease lapses, so a deploy that dies leaves traffic where the
// last good one put it. A restarted router begins at the committed weights.
//
// It never starts, stops or judges a release.
package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Options configure a router process.
type Options struct {
	// Listen is the address for users, "host:port".
	Listen string
	// AdminSocket is the path of the unix socket, at most 103 bytes, in a
	// directory that only the owner can enter.
	AdminSocket string
	// StateDir holds the epoch and the committed weights. It is made if need be.
	StateDir string
	// MaxConnections bounds the users' connections at once; zero means 10,000. More
	// wait until one ends.
	MaxConnections int
	// BodyTimeout bounds the wait for the next bytes of a request's body, and for
	// the whole of a small one; zero means 30 s.
	BodyTimeout time.Duration
	// Log may be nil.
	Log *slog.Logger
	// Ready, if not nil, is called once: with nil when both addresses are open, or
	// with the error that Run is about to return. An error from it ends the router:
	// whoever started it is gone.
	Ready func(error) error
}

// grace is how long requests in flight may take after the router was told to end.
const grace = 5 * time.Second

// Run serves until ctx ends or the administrator asks it to shut down. A taken
// address is fault.Unavailable and names it.
func Run(ctx context.Context, o Options) error {
	r, err := open(o)
	if o.Ready != nil {
		if readyErr := o.Ready(err); readyErr != nil && err == nil {
			return errors.Join(fmt.Errorf("report that the router is ready: %w", readyErr), r.close())
		}
	}
	if err != nil {
		return err
	}
	return r.serve(ctx)
}

// process is a router with its addresses open.
type process struct {
	control *control
	users   net.Listener
	admin   net.Listener
	log     *slog.Logger
	// bodyTimeout is that of the options.
	bodyTimeout time.Duration
}

func open(o Options) (*process, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	o.MaxConnections = cmp.Or(o.MaxConnections, defaultConnections)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, defaultBodyTimeout)
	if o.MaxConnections < 0 || o.BodyTimeout < 0 {
		return nil, fault.New(fault.Usage, "", "router cannot have %d connections or wait %s for a body", o.MaxConnections, o.BodyTimeout)
	}
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return nil, fault.New(fault.Usage, `write it as "127.0.0.1:18080"`, "router address %q: %w", o.Listen, err)
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return nil, fault.New(fault.Unavailable, "", "router state: %w", err)
	}
	saved, err := load(filepath.Join(o.StateDir, stateFile))
	if err != nil {
		return nil, err
	}
	admin, err := listenAdmin(o.AdminSocket)
	if err != nil {
		return nil, err
	}
	users, err := net.Listen("tcp", o.Listen)
	if err != nil {
		hint := "stop what listens there, or choose another address: [deploy] listen, or --listen"
		return nil, errors.Join(fault.New(fault.Unavailable, hint, "router cannot listen on %s: %w", o.Listen, cause(err)), admin.Close())
	}
	return &process{
		control: newControl(saved, filepath.Join(o.StateDir, stateFile), log),
		users:   limit(users, o.MaxConnections), admin: admin, log: log, bodyTimeout: o.BodyTimeout,
	}, nil
}

// cause drops the address that a net error repeats.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// listenAdmin opens the administrator's socket. One left by a router that was
// killed is replaced; one that answers means that a router runs already.
func listenAdmin(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return nil, errors.Join(fault.New(fault.Unavailable, "run `deploy down` to stop it", "a router already answers on %s", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Unavailable, "", "router socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "", "router socket %s: %w", path, cause(err))
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fault.New(fault.Unavailable, "", "router socket: %w", err), l.Close())
	}
	return ownerOnly{l}, nil
}

func (p *process) close() error {
	p.control.stop()
	return errors.Join(p.users.Close(), p.admin.Close())
}

// serve runs both servers and ends them together.
func (p *process) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer p.control.stop()
	front := &http.Server{
		Handler:           newProxy(p.control.table, p.bodyTimeout, p.log),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
	api := &http.Server{
		Handler:           newAdmin(p.control, p.users.Addr().String(), cancel),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second, // commands are small
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          front.ErrorLog,
	}
	p.log.Info("router serves", "address", p.users.Addr().String(), "epoch", p.control.epochNow())
	ended := make(chan error, 2)
	go func() { ended <- front.Serve(p.users) }()
	go func() { ended <- api.Serve(p.admin) }()
	var failed error
	left := 2
	select {
	case <-ctx.Done():
	case failed = <-ended:
		left--
	}
	bounded, stop := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer stop()
	// The administrator's answer to "shut down" must still go out, so its server
	// ends gracefully too. After the grace time connections are cut.
	for _, s := range []*http.Server{front, api} {
		if err := s.Shutdown(bounded); err != nil {
			_ = s.Close() // the listener is closed already; this cuts connections
		}
	}
	for ; left > 0; left-- {
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			failed = errors.Join(failed, err)
		}
	}
	p.log.Info("router ended")
	return failed
}
