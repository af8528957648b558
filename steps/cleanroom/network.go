package cleanroom

import (
	"context"
	"errors"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Network says whom the builds and tests of a tree reach.
type Network string

const (
	// NetworkNone leaves every process alone with a loopback interface.
	NetworkNone Network = "none"
	// NetworkInternal lets processes of the run reach each other: services beside tests.
	NetworkInternal Network = "internal"
	// NetworkAllowList is internal, with a proxy to the hosts of [Prepare.Allow] and of
	// the public registries of the suites.
	NetworkAllowList Network = "allow-list"
)

// mode is how the sandbox calls it: the way out is ours.
func (n Network) mode() sandbox.Network {
	if n == NetworkInternal || n == NetworkAllowList {
		return sandbox.NetworkInternal
	}
	return sandbox.NetworkNone
}

// openGate opens the way out of builds and tests, if they have one.
func (t *trial) openGate(ctx context.Context) error {
	if t.step.Network != NetworkAllowList {
		return nil
	}
	if t.step.Prepare.Gateway == nil {
		return fault.New(fault.Internal, "", "no proxy was handed in for the network mode %s", t.step.Network)
	}
	var allow []string
	for _, s := range t.suites {
		allow = append(allow, t.step.Prepare.allowed(s)...)
	}
	l, err := t.room.env.Listen(ctx)
	if err != nil {
		return fault.Wrap(err, fault.Unavailable, "choose another network mode, or another back end", "open the way out of the tests")
	}
	if t.gate, err = t.step.Prepare.Gateway(l, allow); err != nil {
		return errors.Join(err, l.Close())
	}
	t.proxy = "http://" + l.Addr().String()
	return nil
}

// closeGate ends the way out and notes what was asked for. It may be called again.
func (t *trial) closeGate() {
	if t.gate == nil {
		return
	}
	asked := t.gate.Close()
	t.gate = nil
	for _, s := range t.suites[:1] { // whose process asked is not known
		t.noteRequests(s, asked)
	}
}
