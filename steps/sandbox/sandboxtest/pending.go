package sandboxtest

import (
	"context"
	"errors"
	"net"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Listen listens on the host's loopback interface.
func (e *directEnv) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", "127.0.0.1:0")
}

// Address is the host's loopback interface.
func (r *directRun) Address() string { return "127.0.0.1" }

// Exec is not offered.
func (r *directRun) Exec(context.Context, sandbox.ExecSpec) (sandbox.ExitStatus, error) {
	return sandbox.ExitStatus{}, errors.ErrUnsupported
}

// Usage measures nothing.
func (r *directRun) Usage(context.Context) (sandbox.Usage, error) { return sandbox.Usage{}, nil }
