package door

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/keeper"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Environment are the verbs for environments that outlive a command.
type Environment struct {
	Create EnvironmentCreate `cmd:"" help:"Make an environment: a private network with limits, in which containers and tests run."`
	Delete EnvironmentDelete `cmd:"" help:"Remove an environment and all that runs in it."`
	List   EnvironmentList   `cmd:"" help:"List environments."`
}

// EnvironmentCreate makes an environment.
type EnvironmentCreate struct {
	Name         string        `required:"" placeholder:"NAME" help:"Name: letters, digits and hyphens."`
	Isolated     *bool         `negatable:"" help:"A network of its own, whose containers reach each other and nothing else. Default: as the project says, else yes; the policy enforces it."`
	Persistent   bool          `help:"Keep it until it is deleted, however long nobody uses it."`
	TTL          time.Duration `name:"ttl" default:"1h" placeholder:"DURATION" help:"Remove it when nobody has used it for so long."`
	Memory       *int          `placeholder:"MB" help:"Memory limit of all that runs in it. Default: as the project says, else 1024."`
	CPUs         *float64      `name:"cpus" placeholder:"N" help:"Processor limit of all that runs in it. Default: as the project says, else 2."`
	PIDs         *int          `name:"pids" placeholder:"N" help:"Limit of processes and threads."`
	MinIsolation string        `enum:",full,reduced,none" default:"" placeholder:"LEVEL" help:"Weakest isolation that is accepted: full, reduced or none. Default: as the project says, else full."`
}

// Help shows how it is called.
func (*EnvironmentCreate) Help() string {
	return `The environment is there for the commands that follow, of this job or another on this
machine and for this user, until it is deleted. One that nobody has used for the time
of --ttl is removed; --persistent lifts that.

Examples:
  ultrafast-cleanroom-test environment create --name test-env --memory 512 --cpus 2
  ultrafast-cleanroom-test environment create --name dev --persistent`
}

// Run makes it and prints what is in force.
func (e *EnvironmentCreate) Run(ctx context.Context, a *app.App) error {
	o := Options{MinIsolation: e.MinIsolation, Memory: e.Memory, CPUs: e.CPUs, PIDs: e.PIDs}
	if err := o.check(); err != nil {
		return err
	}
	if e.TTL < time.Second || e.TTL > 365*24*time.Hour {
		return fault.New(fault.Usage, "choose one second to a year, or --persistent", "--ttl %s", e.TTL)
	}
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	level, err := o.level(r.project)
	if err != nil {
		return err
	}
	isolated := r.isolated()
	if e.Isolated != nil {
		isolated = *e.Isolated
	}
	made, err := r.create(ctx, e.Name, level, o.limits(r.project), isolated, keeper.Life{Persistent: e.Persistent, TTL: e.TTL})
	if err != nil {
		return err
	}
	// It is made: a signal that comes now is too late to say that it is not.
	info, err := made.Info(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	if a.Output == "json" {
		return a.PrintJSON(info)
	}
	rows := [][]any{{"environment", info.Name}, {"id", info.ID}, {"isolation", info.Level}, {"back end", info.Backend}}
	for _, en := range info.Effective.Enforced {
		switch en.Name {
		case "memory", "cpu", "pids", "disk", "network":
			rows = append(rows, []any{en.Name, en.Value + " (" + en.By + ")"})
		}
	}
	return a.Table(append(rows, []any{"until", until(info)})...)
}

// until says how long an environment lives.
func until(i keeper.Info) string {
	if i.Persistent {
		return "it is deleted"
	}
	ttl := (time.Duration(i.TTLSeconds) * time.Second).String()
	for _, zero := range []string{"m0s", "h0m"} {
		if short, ok := strings.CutSuffix(ttl, zero); ok {
			ttl = short + zero[:1]
		}
	}
	return "unused for " + ttl
}

// EnvironmentDelete removes an environment.
type EnvironmentDelete struct {
	Name  string `required:"" placeholder:"NAME" help:"Name."`
	Force bool   `help:"End containers at once, and a keeper that does not answer; that there is no such environment is no mistake."`
	Prune bool   `help:"Also remove what killed runs left behind."`
}

// Help shows how it is called.
func (*EnvironmentDelete) Help() string {
	return `Containers get SIGTERM and ten seconds, the last that was started first. --force in a
step that always runs cleans up after any failure.

Examples:
  ultrafast-cleanroom-test environment delete --name test-env
  ultrafast-cleanroom-test environment delete --name test-env --force --prune`
}

// Run removes it.
func (e *EnvironmentDelete) Run(ctx context.Context, a *app.App) error {
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	if left, err := r.keeper.Open(ctx, e.Name); err == nil {
		if err := r.keepMetrics(ctx, left); err != nil {
			a.Log.WarnContext(ctx, "metrics", "error", err)
		}
	}
	removed := []string{e.Name}
	if err := r.keeper.Remove(ctx, e.Name, keeper.Removal{Force: e.Force}); err != nil {
		if !e.Force || fault.KindOf(err) != fault.Finding {
			return err
		}
		removed = nil
	}
	if e.Prune {
		more, perr := r.collect(ctx)
		removed, err = append(removed, more...), perr
	}
	return errors.Join(err, showRemoved(a, removed))
}

// collect removes what killed runs and keepers left behind, and images beyond the bound
// of their cache.
func (r *rooms) collect(ctx context.Context) (removed []string, err error) {
	removed, err = r.keeper.GC(ctx)
	cache, cerr := r.app.CacheDir()
	if cerr != nil {
		return removed, errors.Join(err, cerr)
	}
	back, berr := Backend(r.app, nil, cache)
	if all, ok := back.(interface {
		CollectAll(ctx context.Context) (removed []string, err error)
	}); ok {
		more, cerr := all.CollectAll(ctx)
		removed, berr = append(removed, more...), errors.Join(berr, cerr)
	}
	err = errors.Join(err, berr)
	pruned, perr := rootfs.New(rootfs.Options{Dir: choose(nil, cache).ImagesDir, Log: r.app.Log}).Prune(ctx, rootfs.DefaultMaxBytes, false)
	return append(removed, pruned.Images...), errors.Join(err, perr)
}

func showRemoved(a *app.App, removed []string) error {
	if a.Output == "json" {
		return a.PrintJSON(append([]string{}, removed...))
	}
	rows := make([][]any, 0, len(removed))
	for _, name := range removed {
		rows = append(rows, []any{"removed", name})
	}
	return a.Table(rows...)
}

// EnvironmentList lists environments.
type EnvironmentList struct {
	Status string `enum:"running,stopped,all" default:"all" placeholder:"STATUS" help:"Only those of this status: ${enum}. One is stopped if its keeper was killed."`
}

// Help shows how it is called.
func (*EnvironmentList) Help() string {
	return `Examples:
  ultrafast-cleanroom-test environment list
  ultrafast-cleanroom-test environment list --status running --output json`
}

// Run lists them.
func (e *EnvironmentList) Run(ctx context.Context, a *app.App) error {
	r, err := openRooms(a)
	if err != nil {
		return err
	}
	kept, err := r.keeper.Kept(ctx)
	if err != nil {
		return err
	}
	shown := []keeper.Info{}
	for _, k := range kept {
		if e.Status == "all" || (e.Status == "running") == k.Status.Alive() {
			shown = append(shown, k)
		}
	}
	if a.Output == "json" {
		return a.PrintJSON(struct {
			Environments []keeper.Info `json:"environments"`
			Count        int           `json:"count"`
		}{shown, len(shown)})
	}
	if len(shown) == 0 {
		return a.Table([]any{"No environments."})
	}
	rows := [][]any{{"NAME", "STATUS", "ISOLATION", "BACK END", "CONTAINERS", "CREATED", "UNTIL"}}
	for _, k := range shown {
		alive := 0
		for _, c := range k.Containers {
			if c.Status.Alive() {
				alive++
			}
		}
		rows = append(rows, []any{k.Name, k.Status, orDash(k.Level), k.Backend, alive, ago(a.Now(), k.Created), until(k)})
	}
	return a.Table(rows...)
}
