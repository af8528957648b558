//go:build !unix

package keeper

import (
	"context"
	"net"
	"runtime"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// errSystem is the answer of every call here.
func errSystem() error {
	return fault.New(fault.Unavailable, "run on Linux or macOS, or use `run` and `exec`, which make an environment of their own",
		"environments that outlive a command need unix sockets with credentials, which %s does not have", runtime.GOOS)
}

func lockDir(string) (*place, error) { return nil, errSystem() }

func listen(string) (net.Listener, error) { return nil, errSystem() }

func connect(context.Context, string) (*net.UnixConn, error) { return nil, errSystem() }

func detached() *syscall.SysProcAttr { return nil }

func kill(*net.UnixConn) error { return errSystem() }

// closeOnExec has nothing to do: no handle is inherited that is not named.
func closeOnExec() {}
