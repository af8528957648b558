//go:build !linux

package embedded

import (
	"context"
	"runtime"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Backend is the embedded back end. It needs a Linux kernel; here every method
// says so.
type Backend struct{}

// New returns a back end that can do nothing on this system.
func New(Options) *Backend { return &Backend{} }

// Reexec reports false: nothing is started again on this system.
func Reexec() bool { return false }

// Name is "embedded".
func (*Backend) Name() string { return Name }

// Probe returns fault.Unavailable.
func (*Backend) Probe(context.Context) (sandbox.Capabilities, error) {
	return sandbox.Capabilities{}, errSystem()
}

// Create returns fault.Unavailable.
func (*Backend) Create(context.Context, sandbox.EnvironmentSpec) (sandbox.Environment, error) {
	return nil, errSystem()
}

// List returns no environments: there can be none.
func (*Backend) List(context.Context) ([]sandbox.Info, error) { return nil, nil }

// Delete returns fault.Finding: there is no environment of any name.
func (*Backend) Delete(_ context.Context, name string) error {
	return fault.New(fault.Finding, "", "no environment is called %q", name)
}

// GC finds nothing to remove.
func (*Backend) GC(context.Context) ([]string, error) { return nil, nil }

func errSystem() error {
	return fault.New(fault.Unavailable, "install Docker or Podman and use that back end, or run on Linux",
		"the embedded sandbox needs a Linux kernel, this is %s", runtime.GOOS)
}
