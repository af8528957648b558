package door

import (
	"context"
	"errors"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/router"
	"github.com/ultrafast-ci/ultrafast/internal/supervisor"
	"github.com/ultrafast-ci/ultrafast/internal/target/local"
)

// Router is the router of a local environment.
type Router struct {
	Run RouterRun `cmd:"" help:"Serve until told to stop. Deploy starts it by itself."`
}

// RouterRun is the router's process.
type RouterRun struct {
	Listen      string `required:"" placeholder:"ADDRESS" help:"Address for users, host:port."`
	AdminSocket string `required:"" type:"path" placeholder:"PATH" help:"Unix socket for deploys."`
	StateDir    string `required:"" type:"path" placeholder:"DIR" help:"Where epoch and committed weights are kept."`
}

// Help shows how it is called.
func (*RouterRun) Help() string {
	return "Example:\n  ultrafast-deploy router run --listen 127.0.0.1:18080 --admin-socket /run/shop/router.sock --state-dir /var/lib/shop/router"
}

// Run serves. It reports on standard output when it is ready.
func (r *RouterRun) Run(ctx context.Context, a *app.App) error {
	signal.Ignore(syscall.SIGPIPE) // whoever started it may be gone
	ready := local.Report(a.Stdout)
	if err := local.Live(ctx, r.StateDir); err != nil {
		return errors.Join(err, ready(err))
	}
	return router.Run(ctx, router.Options{
		Listen: r.Listen, AdminSocket: r.AdminSocket, StateDir: r.StateDir, Log: a.Log, Ready: ready,
	})
}

// Supervise keeps one service running.
type Supervise struct {
	Spec string `arg:"" type:"path" help:"File with the specification."`
}

// Run supervises. It reports on standard output when it is ready.
func (s *Supervise) Run(ctx context.Context, a *app.App) error {
	signal.Ignore(syscall.SIGPIPE)
	spec, err := supervisor.ReadSpec(s.Spec)
	if err != nil {
		return err
	}
	ready := local.Report(a.Stdout)
	if err := local.Live(ctx, filepath.Dir(spec.Record)); err != nil {
		return errors.Join(err, ready(err))
	}
	return supervisor.Run(ctx, supervisor.Options{Spec: spec, Log: a.Log, Ready: ready})
}
