// Package local is the deploy target of one host: releases are supervised
// processes behind the embedded router.
//
// Both outlive the command: each is a process of its own, started by running
// this program again, and controlled through a unix socket. A session is a
// kernel lock on the environment's directory plus, once traffic is touched, the
// router's lease; the lock ends with the process that took it, the lease lapses.
//
// The package never decides what serves; it carries out commands. It is for
// hosts that stay, not for a CI runner that is thrown away after the job.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
	"github.com/ultrafast-ci/ultrafast/steps/target"
)

// Router is what is needed of the router's administrator. After a lease is lost
// every command with its epoch fails.
type Router interface {
	Status(ctx context.Context) (target.Traffic, error)
	Acquire(ctx context.Context, holder string, ttl time.Duration, takeover bool) (epoch uint64, err error)
	Renew(ctx context.Context, epoch uint64) error
	Release(ctx context.Context, epoch uint64) error
	Set(ctx context.Context, epoch uint64, backends []target.Backend) error
	Commit(ctx context.Context, epoch uint64) error
	Drain(ctx context.Context, release string, timeout time.Duration) (left int64, err error)
	Shutdown(ctx context.Context, epoch uint64) error
}

// Supervisor is what is needed of the supervisor of one release.
type Supervisor interface {
	// State returns running false, and no error, if no supervisor answers.
	State(ctx context.Context) (pid, ends int, lastEnd string, running bool, err error)
	// Stop also ends what a killed supervisor left behind.
	Stop(ctx context.Context, timeout time.Duration) error
}

// Launch is what a supervisor is told about its service.
type Launch struct {
	Argv        []string
	Env         []string
	Dir         string
	Root        string
	UID, GID    int
	Groups      []int
	Log         string
	LogLimit    int64
	Socket      string
	Record      string
	StopTimeout time.Duration
}

// RouterLaunch is what a router is told.
type RouterLaunch struct {
	Listen, AdminSocket, StateDir string
}

// Installer writes the root file system of the image of an entry into dir, which
// is empty, for a service to run in: modes and, as root, owners are the image's, and
// its working directory, /tmp and /run exist. It returns the image's configuration.
type Installer interface {
	Install(ctx context.Context, blobs state.Blobs, entry *state.Entry, dir string) (state.ImageConfig, error)
}

// Options configure a target. All fields but the last three are needed.
type Options struct {
	// Dir keeps everything of one environment, for example ".ggen/deploy/staging".
	Dir string
	// Listen is the address for users, "host:port".
	Listen string
	Images Installer
	// RouterArgv and SupervisorArgv are the commands whose processes run the router
	// and the supervisor of the specification in a file. They report on their
	// standard output by [Report], and begin with [Live].
	RouterArgv     func(RouterLaunch) []string
	SupervisorArgv func(spec string) []string
	// EncodeSpec returns the specification for a supervisor.
	EncodeSpec func(Launch) ([]byte, error)
	// Router and Supervisor return clients.
	Router     func(socket string) Router
	Supervisor func(socket, record string) Supervisor

	// LeaseTTL is how long the router keeps uncommitted weights after this process
	// was killed; zero means 15 s. It is renewed three times as often.
	LeaseTTL time.Duration
	// Env is added to the environment of started processes, "KEY=value".
	Env []string
	// Log may be nil.
	Log *slog.Logger
}

const defaultTTL = 15 * time.Second

// Target is one environment on this host.
type Target struct {
	o    Options
	dir  string
	runs string // directory of the sockets
}

// New returns the environment kept in o.Dir. It makes and starts nothing.
func New(o Options) (*Target, error) {
	if o.LeaseTTL == 0 {
		o.LeaseTTL = defaultTTL
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkListen(o.Listen); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fault.New(fault.Usage, "", "deploy directory %s: %w", o.Dir, err)
	}
	runs, err := socketDir(dir)
	if err != nil {
		return nil, err
	}
	return &Target{o: o, dir: dir, runs: runs}, nil
}

// checkListen reports an address that no router can have.
func checkListen(address string) error {
	const hint = `write it as "127.0.0.1:18080": [deploy] listen, or --listen`
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fault.New(fault.Usage, hint, "router address %q is not host:port: %w", address, err)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fault.New(fault.Usage, hint, "router address %q: port %q is not a number from 0 to 65535", address, port)
	}
	return nil
}

// Name is "local".
func (t *Target) Name() string { return "local" }

func (t *Target) routerSocket() string { return filepath.Join(t.runs, "router.sock") }

func (t *Target) routerDir() string { return filepath.Join(t.dir, "router") }

func (t *Target) router() Router { return t.o.Router(t.routerSocket()) }

func (t *Target) supervisor(release string) Supervisor {
	return t.o.Supervisor(t.socketOf(release), filepath.Join(t.releaseDir(release), "process.json"))
}

func (t *Target) socketOf(release string) string {
	return filepath.Join(t.runs, state.DigestOf([]byte(release)).Hex()[:12]+".sock")
}

func (t *Target) releaseDir(release string) string { return filepath.Join(t.dir, "releases", release) }

func (t *Target) imageDir(image state.Digest) string {
	return filepath.Join(t.dir, "images", image.Hex())
}

// releases returns what was prepared and not pruned, sorted.
func (t *Target) releases() ([]prepared, error) {
	entries, err := os.ReadDir(filepath.Join(t.dir, "releases"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Unavailable, "", "releases: %w", err)
	}
	var out []prepared
	for _, e := range entries {
		p, err := t.known(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // the run ended while it was being prepared or deleted
		}
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// Live reads the releases on disk, their supervisors and the router.
func (t *Target) Live(ctx context.Context) (target.Live, error) {
	releases, err := t.releases()
	if err != nil {
		return target.Live{}, err
	}
	live := target.Live{Instances: []target.Instance{}}
	for _, p := range releases {
		pid, ends, lastEnd, running, err := t.supervisor(p.ID).State(ctx)
		if err != nil {
			return target.Live{}, err
		}
		live.Instances = append(live.Instances, target.Instance{
			Release: p.ID, Image: p.Image, Config: p.Config, Running: running && pid != 0,
			PID: pid, Address: p.Address, Restarts: ends, LastExit: lastEnd,
		})
	}
	if traffic, ok, err := t.traffic(ctx); err != nil {
		return target.Live{}, err
	} else if ok {
		live.Traffic = &traffic
	}
	return live, nil
}

// traffic asks the router; false if there is none.
func (t *Target) traffic(ctx context.Context) (target.Traffic, bool, error) {
	if !answers(t.routerSocket()) {
		return target.Traffic{}, false, nil
	}
	traffic, err := t.router().Status(ctx)
	if err != nil && !answers(t.routerSocket()) {
		return target.Traffic{}, false, nil // it ended between the two
	}
	return traffic, err == nil, err
}

// Acquire takes the kernel lock of the environment.
func (t *Target) Acquire(ctx context.Context, holder string) (target.Session, error) {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return nil, fault.New(fault.Unavailable, "", "deploy directory: %w", err)
	}
	held, err := lock.Try(ctx, filepath.Join(t.dir, "lock"))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "wait until that run is over, then run again",
			fmt.Sprintf("environment in %s is being changed by another run", t.dir))
	}
	if err := held.Note(holder); err != nil {
		return nil, errors.Join(fault.New(fault.Unavailable, "", "deploy directory: %w", err), held.Release())
	}
	return &session{t: t, holder: holder, unlock: held.Release, lost: make(chan struct{})}, nil
}
