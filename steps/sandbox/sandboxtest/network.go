package sandboxtest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// ask dials an address of the environment and returns all that it is told.
func ask(t *testing.T, e sandbox.Environment, host string, port int) string {
	t.Helper()
	c, err := e.Dial(deadline(t), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("read from %s: %v", host, err)
	}
	return string(b)
}

// listen opens a port outside for containers to dial, as a forward proxy does.
func (s *suite) listen(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	l, err := e.Listen(deadline(t))
	if fault.KindOf(err) == fault.Unavailable {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	other, err := e.Listen(deadline(t))
	if err != nil || other.Addr().String() == l.Addr().String() {
		t.Fatalf("a second listener at %v: %v", other, err)
	}
	served := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				served <- err
				return
			}
			fmt.Fprint(c, "from outside")
			c.Close()
		}
	}()
	for range 2 {
		s.payload(t, e, "dial", l.Addr().String()).want(t, "from outside")
	}
	// Closed by its owner it refuses, and the other one stays.
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-served
	if r := s.payload(t, e, "dial", l.Addr().String()); r.OK() {
		t.Error("a closed listener answers")
	}
	go func() {
		_, err := other.Accept()
		served <- err
	}()
	if err := e.Close(context.Background()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-served:
		if err == nil {
			t.Error("a listener of a closed environment accepts")
		}
	case <-deadline(t).Done():
		t.Error("a listener outlives its environment")
	}
	if _, err := e.Listen(deadline(t)); err == nil {
		t.Error("a closed environment listens")
	}
}

// addresses finds containers by address, name and alias.
func (s *suite) addresses(t *testing.T) {
	e := s.environment(t, sandbox.Limits{})
	port, err := e.Port(8082)
	if err != nil {
		t.Fatal(err)
	}
	serve := func(name, text string, aliases ...string) sandbox.Container {
		host := name // its own name is its address, where there is one of its own
		if s.Level < sandbox.Full {
			host = "127.0.0.1"
		}
		spec := s.spec(e, name, "listen", net.JoinHostPort(host, strconv.Itoa(port)), text)
		spec.Aliases = aliases
		return s.running(t, e, spec)
	}
	first := serve("first", "one", "db", "db.internal")
	for _, host := range []string{first.Address(), "first", "db", "db.internal"} {
		if got := ask(t, e, host, port); got != "one" {
			t.Errorf("%s says %q", host, got)
		}
	}
	if _, err := netip.ParseAddr(first.Address()); err != nil {
		t.Error(err)
	}
	if s.Level < sandbox.Full {
		if first.Address() != "127.0.0.1" {
			t.Errorf("address %s in a shared network", first.Address())
		}
		return
	}
	second := serve("second", "two")
	if second.Address() == first.Address() {
		t.Fatalf("both have address %s", first.Address())
	}
	for host, want := range map[string]string{second.Address(): "two", "second": "two", "first": "one"} {
		if got := ask(t, e, host, port); got != want {
			t.Errorf("%s says %q, want %q", host, got, want)
		}
	}
	// So do the containers that start later.
	for host, want := range map[string]string{"first": "one", "db": "one", "db.internal": "one", "second": "two", second.Address(): "two"} {
		s.payload(t, e, "dial", net.JoinHostPort(host, strconv.Itoa(port))).want(t, want)
	}
	if err := first.Kill(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if c, err := e.Dial(deadline(t), "tcp", net.JoinHostPort("db", strconv.Itoa(port))); err == nil {
		c.Close()
		t.Error("a container that ended is found")
	}
	for _, alias := range []string{"", "a b", "a\n127.0.0.1 b", "-a", strings.Repeat("a", 64)} {
		spec := s.spec(e, "bad", "exit", "0")
		spec.Aliases = []string{alias}
		if _, err := e.Start(deadline(t), spec); fault.KindOf(err) != fault.Usage {
			t.Errorf("alias %q: %v, want a usage error", alias, err)
		}
	}
}

// noNetwork leaves containers alone with themselves.
func (s *suite) noNetwork(t *testing.T) {
	bad := sandbox.EnvironmentSpec{Name: nameOf(t), Network: "bridge"}
	if e, err := s.backend.Create(deadline(t), bad); fault.KindOf(err) != fault.Usage {
		t.Errorf("network %q: %v, want a usage error", bad.Network, err)
		if err == nil {
			_ = e.Close(context.Background())
		}
	}
	e := s.create(t, sandbox.EnvironmentSpec{Name: nameOf(t), MinIsolation: s.Level, Network: sandbox.NetworkNone})
	if c, err := e.Dial(deadline(t), "tcp", "127.0.0.1:80"); fault.KindOf(err) != fault.Usage {
		t.Errorf("dial: %v, want a usage error", err)
		if err == nil {
			c.Close()
		}
	}
	if l, err := e.Listen(deadline(t)); fault.KindOf(err) != fault.Usage {
		t.Errorf("listen: %v, want a usage error", err)
		if err == nil {
			l.Close()
		}
	}
	port, err := e.Port(8083)
	if err != nil {
		t.Fatal(err)
	}
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	c := s.running(t, e, s.spec(e, "alone", "listen", at))
	if c.Address() != "" {
		t.Errorf("address %q without a network", c.Address())
	}
	// Its own loopback interface works.
	s.exec(t, e, c, "dial", at).want(t, "hello")
	var network sandbox.Enforcement
	for _, en := range e.Effective().Enforced {
		if en.Name == "network" {
			network = en
		}
	}
	if (network.By == notEnforced) != (s.Level < sandbox.Full) || s.Level == sandbox.Full && !strings.Contains(network.Value, "none") {
		t.Errorf("network: %+v", network)
	}
	if s.Level < sandbox.Full {
		return
	}
	s.payload(t, e, "interfaces").want(t, "lo")
	if r := s.payload(t, e, "dial", at); r.OK() || !strings.Contains(r.err, "refused") {
		t.Errorf("another container is reached: %s %s", r.ExitStatus, r.err)
	}
}
