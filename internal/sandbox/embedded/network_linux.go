package embedded

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

const (
	localhost = "127.0.0.1"
	// Containers have the addresses 127.0.1.1 to 127.0.1.254: all of 127.0.0.0/8 is
	// the loopback interface. So each can have its ports for itself, without an
	// interface, a bridge or a name server; one that listens on all addresses takes
	// its port from all.
	addressPrefix = "127.0.1."
	lastAddress   = 254
)

// alone reports whether each container has a network of its own.
func (e *environment) alone() bool { return e.full() && e.spec.Network == sandbox.NetworkNone }

// addressFor gives c an address that no running container has. The one that was
// given back last is used again last, so that what still dials it finds nobody. It
// is called with the lock held.
func (e *environment) addressFor(c *container) error {
	switch {
	case e.spec.Network == sandbox.NetworkNone:
		return nil
	case !e.full():
		c.address = localhost
		return nil
	}
	taken := map[string]bool{}
	for _, address := range e.spec.Hosts {
		taken[address] = true
	}
	for _, other := range e.containers {
		taken[other.address] = true
	}
	for range lastAddress {
		e.lastNumber = e.lastNumber%lastAddress + 1
		if address := fmt.Sprint(addressPrefix, e.lastNumber); !taken[address] {
			c.address = address
			return nil
		}
	}
	return fault.New(fault.Unavailable, "wait for the end of one, or use another environment",
		"environment %s has no address left: %d containers run in it", e.spec.Name, len(e.containers))
}

// names returns the addresses of all names that resolve in the environment. Those of
// the specification come before those of containers, and these before aliases; of
// equal aliases that of the container that started first counts. It is called with
// the lock held.
func (e *environment) names() map[string]string {
	all := maps.Clone(e.spec.Hosts)
	if all == nil {
		all = map[string]string{}
	}
	add := func(name, address string) {
		if _, known := all[name]; !known && address != "" {
			all[name] = address
		}
	}
	add("localhost", localhost)
	running := slices.SortedFunc(maps.Values(e.containers), func(a, b *container) int { return cmp.Compare(a.order, b.order) })
	for _, c := range running {
		add(c.name, c.address)
	}
	for _, c := range running {
		for _, a := range c.aliases {
			add(a, c.address)
		}
	}
	return all
}

// hosts is the /etc/hosts of the container called name.
func (e *environment) hosts(name string) string {
	e.mu.Lock()
	all := e.names()
	e.mu.Unlock()
	if _, known := all[name]; !known {
		all[name] = localhost
	}
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	delete(all, "localhost")
	for _, host := range sortedKeys(all) {
		fmt.Fprintf(&b, "%s %s\n", all[host], host)
	}
	return b.String()
}

// Address is described by [sandbox.Container].
func (c *container) Address() string { return c.address }

// Port is described by [sandbox.Environment].
func (e *environment) Port(preferred int) (int, error) {
	if preferred < 0 || preferred > 65535 {
		return 0, fault.New(fault.Usage, "choose 1 to 65535, or 0 for any", "port %d does not exist", preferred)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	a, _, err := ask(ctx, e.place.dir, request{Op: opPort, Port: preferred})
	if err != nil {
		return 0, fault.Wrap(err, fault.Unavailable, "", "find a free port in environment "+e.spec.Name)
	}
	return a.Port, nil
}

// reachable is an error if the environment has no network.
func (e *environment) reachable(doing string) error {
	if e.spec.Network != sandbox.NetworkNone {
		return nil
	}
	return fault.New(fault.Usage, "create the environment with network internal",
		"%s environment %s: its containers have no network", doing, e.spec.Name)
}

// Dial is described by [sandbox.Environment]. A host is an address, "localhost",
// or one of the names of the environment and of its running containers.
func (e *environment) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := e.reachable("dial into"); err != nil {
		return nil, err
	}
	if !strings.HasPrefix(network, "tcp") && !strings.HasPrefix(network, "udp") {
		return nil, fault.New(fault.Usage, "use tcp or udp", "cannot dial network %q of an environment", network)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, "write host:port", "dial in environment "+e.spec.Name)
	}
	if host, err = e.resolve(host); err != nil {
		return nil, err
	}
	r := request{Op: opDial, Network: network, Address: net.JoinHostPort(host, port), Timeout: dialTime}
	if d, ok := ctx.Deadline(); ok {
		r.Timeout = max(time.Until(d), time.Millisecond)
	}
	f, err := e.socket(ctx, r)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", fmt.Sprintf("dial %s in environment %s", address, e.spec.Name))
	}
	defer f.Close()
	return net.FileConn(f)
}

// resolve returns the address of a host.
func (e *environment) resolve(host string) (string, error) {
	if host == "" || net.ParseIP(host) != nil {
		return cmp.Or(host, localhost), nil
	}
	e.mu.Lock()
	all := e.names()
	e.mu.Unlock()
	if address, ok := all[host]; ok {
		return address, nil
	}
	known := sortedKeys(all)
	return "", fault.New(fault.Usage, fault.DidYouMean(host, known), "environment %s knows no host %q", e.spec.Name, host)
}

// socket asks the supervisor for one.
func (e *environment) socket(ctx context.Context, r request) (*os.File, error) {
	_, files, err := ask(ctx, e.place.dir, r)
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		closeAll(files)
		return nil, fmt.Errorf("the supervisor of environment %s sent %d sockets", e.spec.Name, len(files))
	}
	return files[0], nil
}

// listener closes with its environment.
type listener struct {
	net.Listener
	environment *environment
	once        sync.Once
	err         error
}

// Close may be called more than once.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.err = l.Listener.Close()
		l.environment.mu.Lock()
		delete(l.environment.listeners, l)
		l.environment.mu.Unlock()
	})
	return l.err
}

// Listen is described by [sandbox.Environment]. The supervisor opens the port, in
// its network, and hands it over: what accepts has no need to be there.
func (e *environment) Listen(ctx context.Context) (net.Listener, error) {
	if err := e.reachable("listen in"); err != nil {
		return nil, err
	}
	f, err := e.socket(ctx, request{Op: opListen})
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "listen in environment "+e.spec.Name)
	}
	defer f.Close()
	inside, err := net.FileListener(f)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "listen in environment "+e.spec.Name)
	}
	l := &listener{Listener: inside, environment: e}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		inside.Close()
		return nil, fault.New(fault.Unavailable, "", "environment %s is closed", e.spec.Name)
	}
	e.listeners[l] = struct{}{}
	return l, nil
}
