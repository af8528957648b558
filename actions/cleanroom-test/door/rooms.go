package door

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/auto"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/keeper"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Reexec does the work of a part of the clean room if the executable was started as
// that, and then does not return; otherwise it returns false at once. It must be the
// first thing that main does.
func Reexec() bool { return embedded.Reexec() || inside.Reexec() || keeper.Reexec(openBackend) }

// choice is which back end to use, and all it needs to be made: by this process or by
// the keeper of an environment. It lies in the records of environments: no secrets.
type choice struct {
	Type     string `json:"type"`
	StateDir string `json:"state_dir"`
	// ImagesDir is the cache of unpacked images.
	ImagesDir string `json:"images_dir"`
	// Host and Version are of a container engine; empty is what its own command uses.
	Host    string `json:"host,omitempty"`
	Version string `json:"version,omitempty"`
}

// What the configuration says of an engine unless it is set: the engine's own command
// may know another socket, and another version of the interface is negotiated.
const (
	defaultDockerHost    = "unix:///var/run/docker.sock"
	defaultDockerVersion = "1.41"
)

// choose returns the back end that the project asks for; nil asks for that of this
// machine.
func choose(project *config.Project, cache string) choice {
	c := choice{Type: auto.Name, StateDir: filepath.Join(cache, "environments"), ImagesDir: filepath.Join(cache, "images")}
	if project == nil {
		return c
	}
	c.Type = project.Backend.Type
	if host := project.Backend.DockerHost; host != defaultDockerHost {
		c.Host = host
	}
	if version := project.Backend.DockerAPIVersion; version != defaultDockerVersion {
		c.Version = version
	}
	return c
}

// open makes the back end. Nothing is asked of an engine before it is used.
func (c choice) open(log *slog.Logger) (sandbox.Backend, error) {
	images := rootfs.New(rootfs.Options{Dir: c.ImagesDir, Log: log})
	local := func() sandbox.Backend {
		return embedded.New(embedded.Options{StateDir: c.StateDir, Log: log, Images: images})
	}
	engine := func(name string) docker.Options {
		return docker.Options{Name: name, Host: c.Host, APIVersion: c.Version, Log: log, Images: images}
	}
	switch c.Type {
	case auto.Name:
		return auto.New(local(), docker.New(engine(docker.Docker)), docker.New(engine(docker.Podman))), nil
	case embedded.Name:
		return local(), nil
	case docker.Docker, docker.Podman:
		return docker.New(engine(c.Type)), nil
	case "testcontainers":
		return testcontainers(engine(docker.Docker)), nil
	}
	return nil, fault.New(fault.Usage, "use auto, embedded, docker, podman or testcontainers", "backend.type %q is not a clean room that this program has", c.Type)
}

// openBackend is [choice.open] for what [keeper.Options] had.
func openBackend(settings json.RawMessage, log *slog.Logger) (sandbox.Backend, error) {
	var c choice
	if err := json.Unmarshal(settings, &c); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "read the settings of a back end")
	}
	return c.open(log)
}

// policyOf returns the policy of the project.
func policyOf(p *config.Project) cleanroom.Policy {
	return cleanroom.Policy{
		EnforceIsolation: p.Policy.EnforceIsolation, AllowHostNetwork: p.Policy.AllowHostNetwork, AllowPrivileged: p.Policy.AllowPrivileged,
		MaxMemory: int64(p.Policy.MaxMemoryMB) << 20, MaxCPUs: p.Policy.MaxCPUs, MaxContainers: p.Policy.MaxContainers,
	}
}

// rooms are the environments that outlive commands.
type rooms struct {
	app     *app.App
	project *config.Project
	keeper  *keeper.Backend
}

// openRooms finds them, for the project that the command is in. Nothing is made.
func openRooms(a *app.App) (*rooms, error) {
	project, err := a.LoadProject()
	if err != nil {
		return nil, err
	}
	return newRooms(a, project)
}

// newRooms finds them. What only looks and removes needs no project.
func newRooms(a *app.App, project *config.Project) (*rooms, error) {
	cache, err := a.CacheDir()
	if err != nil {
		return nil, err
	}
	settings, err := json.Marshal(choose(project, cache))
	if err != nil {
		return nil, err
	}
	return &rooms{a, project, keeper.New(keeper.Options{
		StateDir: filepath.Join(cache, "keepers"), Settings: settings, Open: openBackend, Log: a.Log,
	})}, nil
}

// defaultRoom is the name of the environment that is made where none is named and
// none is there.
const defaultRoom = "default"

// keptWall bounds the wall-clock time of a container in an environment that is kept:
// its life is bounded by that of the environment.
const keptWall = 30 * 24 * time.Hour

// keptOutput bounds what such a container may write in all, in bytes. What is kept of
// it the keeper bounds: a service is not ended for what it logs.
const keptOutput = 1 << 50

// create makes an environment within the policy and checks what came of it.
func (r *rooms) create(ctx context.Context, name string, level sandbox.Level, limits sandbox.Limits, isolated bool, life keeper.Life) (*keeper.Environment, error) {
	policy := policyOf(r.project)
	if err := policy.Check(cleanroom.Demand{Limits: limits, HostNetwork: !isolated}); err != nil {
		return nil, err
	}
	limits.Wall, limits.Output = keptWall, keptOutput
	life.MaxContainers = policy.MaxContainers
	e, err := r.keeper.Keep(ctx, sandbox.EnvironmentSpec{Name: name, MinIsolation: level, Limits: limits}, life)
	if err != nil {
		return nil, err
	}
	notes, err := policy.Verify(level, limits, e.Effective())
	if err != nil {
		return nil, fmt.Errorf("environment %s: %w", name, joinRemoval(err, r.keeper.Remove(context.WithoutCancel(ctx), name, keeper.Removal{Force: true})))
	}
	for _, note := range notes {
		r.app.Log.WarnContext(ctx, "policy", "environment", name, "note", note)
	}
	return e, nil
}

// joinRemoval keeps the kind of err first.
func joinRemoval(err, removal error) error {
	if removal != nil {
		return fmt.Errorf("%w; %w", err, removal)
	}
	return err
}

// find returns the environment called name; without a name the only one there is, or
// nil if there is none.
func (r *rooms) find(ctx context.Context, name string) (*keeper.Environment, error) {
	if name != "" {
		return r.keeper.Open(ctx, name)
	}
	kept, err := r.keeper.Kept(ctx)
	if err != nil {
		return nil, err
	}
	kept = slices.DeleteFunc(kept, func(i keeper.Info) bool { return !i.Status.Alive() })
	switch len(kept) {
	case 0:
		return nil, nil
	case 1:
		return r.keeper.Open(ctx, kept[0].Name)
	}
	all := make([]string, len(kept))
	for i, k := range kept {
		all[i] = k.Name
	}
	return nil, fault.New(fault.Usage, "name one of them with --environment", "several environments exist: %s", strings.Join(all, ", "))
}

// need is [rooms.find] where there has to be one.
func (r *rooms) need(ctx context.Context, name string) (*keeper.Environment, error) {
	e, err := r.find(ctx, name)
	if err == nil && e == nil {
		err = fault.New(fault.Finding, "make one with `environment create`, or `container start`", "no environment exists")
	}
	return e, err
}

// findOrMake returns the environment called name, the only one, or a new one called
// default; made reports that it is new.
func (r *rooms) findOrMake(ctx context.Context, name string) (e *keeper.Environment, made bool, err error) {
	if e, err = r.find(ctx, name); err != nil || e != nil {
		return e, false, err
	}
	level, err := Options{}.level(r.project)
	if err != nil {
		return nil, false, err
	}
	r.app.Log.InfoContext(ctx, "no environment exists: one is made", "environment", defaultRoom)
	e, err = r.create(ctx, defaultRoom, level, Options{}.limits(r.project), r.isolated(), keeper.Life{})
	return e, err == nil, err
}

// isolated reports whether the project wants a network that is isolated.
func (r *rooms) isolated() bool {
	return r.project.Environment.DefaultIsolated && r.project.Environment.DefaultNetwork != "host"
}

// Selector chooses an environment.
type Selector struct {
	Environment string `placeholder:"NAME" help:"Environment. Default: the only one that exists."`
}

// ago says how long ago a time was, in words as people say it.
func ago(now, then time.Time) string {
	d := max(now.Sub(then), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// orDash shows that there is nothing.
func orDash(s string) string { return cmp.Or(s, "-") }
