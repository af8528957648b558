package embedded

import (
	"context"
	"net"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Listen is described by [sandbox.Environment].
func (e *environment) Listen(context.Context) (net.Listener, error) {
	return nil, fault.New(fault.Unavailable, "", "environment %s cannot listen", e.spec.Name)
}

// Address is described by [sandbox.Container].
func (c *container) Address() string { return "127.0.0.1" }

// Exec is described by [sandbox.Container].
func (c *container) Exec(context.Context, sandbox.ExecSpec) (sandbox.ExitStatus, error) {
	return sandbox.ExitStatus{}, fault.New(fault.Unavailable, "", "container %s cannot run another process", c.Name())
}

// Usage is described by [sandbox.Container].
func (c *container) Usage(context.Context) (sandbox.Usage, error) { return sandbox.Usage{}, nil }
