package docker

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Backend is the back end of one container engine. Its methods may be called from
// many goroutines at once.
type Backend struct {
	options Options
	log     *slog.Logger

	mu     sync.Mutex
	found  *found // once the engine has answered
	images map[string]*sync.Mutex
	users  map[string][2]int // of images, by their id

	helper  shared
	visible shared

	live sync.Map // name to *environment: those of this process
}

// found is an engine that answers.
type found struct {
	*engine.Client
	engine.Info
}

// New returns a back end. It touches nothing until it is used.
func New(o Options) *Backend {
	o.Name = cmp.Or(o.Name, Docker)
	return &Backend{
		options: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		images: map[string]*sync.Mutex{}, users: map[string][2]int{},
	}
}

// Name is what the options say, "docker" or "podman".
func (b *Backend) Name() string { return b.options.Name }

// connect returns the engine. What it answered once is kept; a failure is not.
func (b *Backend) connect(ctx context.Context) (*found, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.found != nil {
		return b.found, nil
	}
	host := b.options.Host
	if host == "" {
		host = engine.Find(b.options.Name)
	}
	c, err := engine.Open(host, b.options.APIVersion)
	if err != nil {
		return nil, err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	b.found = &found{c, info}
	return b.found, nil
}

// Probe asks the engine what it is. What is really in force is read back in every
// container.
func (b *Backend) Probe(ctx context.Context) (sandbox.Capabilities, error) {
	f, err := b.connect(ctx)
	if err != nil {
		return sandbox.Capabilities{}, err
	}
	c := sandbox.Capabilities{Level: sandbox.Full, Notes: map[string]string{
		"engine": f.Info.Name + " " + f.Version, "api": f.API, "kernel": f.Kernel, "system": f.OS + "/" + f.Arch,
		"security": strings.Join(f.Security, " "),
	}}
	refuse := func(why string) {
		c.Level = sandbox.None
		c.Refused = append(c.Refused, why)
	}
	if f.OS != "linux" {
		refuse("the engine runs " + f.OS + " containers: switch it to Linux containers")
	}
	if !slices.ContainsFunc(f.Security, func(s string) bool { return strings.Contains(s, "seccomp") && !strings.Contains(s, "unconfined") }) {
		refuse("the engine has no seccomp filter: give it its default profile")
	}
	if _, err := b.program(f); err != nil {
		refuse(err.Error())
	}
	return c, nil
}

// List returns the environments of this scope on the engine, sorted by name.
func (b *Backend) List(ctx context.Context) ([]sandbox.Info, error) {
	f, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	all, err := f.Containers(ctx, b.scope(), labelRole+"="+roleNetwork)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "list environments")
	}
	var list []sandbox.Info
	for _, c := range all {
		list = append(list, sandbox.Info{
			Name: c.Labels[labelEnvironment], Backend: b.Name(), Level: sandbox.Full, Created: created(c.Labels), Alive: c.State == "running",
		})
	}
	slices.SortFunc(list, func(x, y sandbox.Info) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

func created(labels map[string]string) time.Time {
	t, _ := time.Parse(time.RFC3339Nano, labels[labelCreated]) // the zero time is long ago
	return t
}

// Delete removes the environment called name, also one of another process.
func (b *Backend) Delete(ctx context.Context, name string) error {
	if e, ok := b.live.Load(name); ok {
		return e.(*environment).Close(ctx)
	}
	known, err := b.List(ctx)
	if err != nil {
		return err
	}
	var all []string
	for _, i := range known {
		all = append(all, i.Name)
	}
	if !slices.Contains(all, name) {
		return fault.New(fault.Finding, fault.DidYouMean(name, all), "no environment is called %q", name)
	}
	f, err := b.connect(ctx)
	if err != nil {
		return err
	}
	return fault.Wrap(b.remove(ctx, f, name, time.Now()), fault.Unavailable, "", "delete environment "+name)
}

// remove removes all that has the labels of an environment and is not newer than
// before, when it was looked at: what holds its network last, so that what a kill
// leaves is found again.
func (b *Backend) remove(ctx context.Context, f *found, name string, before time.Time) error {
	of := labelEnvironment + "=" + name
	containers, err := f.Containers(ctx, b.scope(), of)
	if err != nil {
		return err
	}
	var networks, others []string
	for _, c := range containers {
		if created(c.Labels).After(before) {
			continue
		}
		if c.Labels[labelRole] == roleNetwork {
			networks = append(networks, c.ID)
		} else {
			others = append(others, c.ID)
		}
	}
	err = each(others, func(id string) error { return f.RemoveContainer(ctx, id) })
	volumes, listErr := f.Volumes(ctx, b.scope(), of)
	err = errors.Join(err, listErr)
	for _, v := range volumes {
		if created(v.Labels).After(before) {
			continue
		}
		err = errors.Join(err, f.RemoveVolume(ctx, v.Name))
	}
	if err != nil {
		return err
	}
	return each(networks, func(id string) error { return f.RemoveContainer(ctx, id) })
}

// each calls do for all of list, eight at a time.
func each[T any](list []T, do func(T) error) error {
	errs := make([]error, len(list))
	var all sync.WaitGroup
	limit := make(chan struct{}, 8)
	for i, one := range list {
		limit <- struct{}{}
		all.Go(func() {
			errs[i] = do(one)
			<-limit
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// GC removes what killed creators left behind and returns the names of those
// environments, sorted. Living ones it leaves alone, and what has other labels.
func (b *Backend) GC(ctx context.Context) (removed []string, err error) {
	f, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	looked := time.Now()
	containers, err := f.Containers(ctx, b.scope(), labelEnvironment)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "collect environments")
	}
	volumes, err := f.Volumes(ctx, b.scope(), labelEnvironment)
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "collect environments")
	}
	dead := map[string]bool{}
	for _, c := range containers {
		// A container is as old as its environment, or younger.
		name := c.Labels[labelEnvironment]
		if _, seen := dead[name]; !seen || c.Labels[labelRole] == roleNetwork {
			dead[name] = isDead(c)
		}
	}
	for _, v := range volumes {
		if name := v.Labels[labelEnvironment]; !slices.ContainsFunc(containers, func(c engine.Container) bool { return c.Labels[labelEnvironment] == name }) {
			dead[name] = abandoned(v.Labels)
		}
	}
	var errs []error
	for name, is := range dead {
		if !is {
			continue
		}
		if err := b.remove(ctx, f, name, looked); err != nil {
			errs = append(errs, fault.Wrap(err, fault.Unavailable, "", "remove environment "+name))
			continue
		}
		removed = append(removed, name)
	}
	slices.Sort(removed)
	return removed, errors.Join(errs...)
}

// isDead reports whether the environment of c has lost its creator. What holds the
// network runs exactly as long as its creator is connected to it.
func isDead(c engine.Container) bool {
	switch {
	case c.Labels[labelRole] == roleNetwork && c.State == "running":
		return false
	case c.Labels[labelRole] == roleNetwork && c.State != "created" && c.State != "initialized" && c.State != "configured":
		return true
	}
	return abandoned(c.Labels)
}

// abandoned reports whether the creator of something is known to have ended, or has
// had more than enough time to start it.
func abandoned(labels map[string]string) bool {
	if gone, known := ownerGone(labels[labelOwner]); known {
		return gone
	}
	return time.Since(created(labels)) > orphanTime
}

// scope is the label that all of this back end has.
func (b *Backend) scope() string { return labelScope + "=" + cmp.Or(b.options.Scope, "default") }

// labels are those of something that belongs to an environment.
func (b *Backend) labels(name, role string) map[string]string {
	return map[string]string{
		labelScope: cmp.Or(b.options.Scope, "default"), labelEnvironment: name, labelRole: role,
		labelOwner: owner(), labelCreated: time.Now().UTC().Format(time.RFC3339Nano),
	}
}

// engineName is the name of a container or volume on the engine.
func (b *Backend) engineName(parts ...string) string {
	all := []string{"ultrafast"}
	if b.options.Scope != "" {
		all = append(all, b.options.Scope)
	}
	return strings.Join(append(all, parts...), "-")
}

// create creates a container.
func (b *Backend) create(ctx context.Context, f *found, spec engine.ContainerSpec) (string, error) {
	if b.options.Create != nil {
		return b.options.Create(ctx, f.Client, spec)
	}
	return f.CreateContainer(ctx, spec)
}

// shared is work that is done once for all; a failure is not kept.
type shared struct {
	mu    sync.Mutex
	done  bool
	value any
}

func (s *shared) do(work func() (any, error)) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return s.value, nil
	}
	v, err := work()
	if err == nil {
		s.done, s.value = true, v
	}
	return v, err
}
