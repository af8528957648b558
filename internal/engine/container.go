package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
)

// ContainerSpec describes a container. Limits of zero are those of the engine.
type ContainerSpec struct {
	Name, Image string
	// Hostname is refused by Docker where Network is another container's.
	Hostname   string
	Entrypoint []string
	Env        []string
	// User is "uid:gid" in numbers.
	User   string
	Labels map[string]string
	// Network is "none", "container:<id>" or, with Podman, "ns:<path>".
	Network string
	// Hosts are names and addresses for /etc/hosts.
	Hosts map[string]string
	// ReadOnly is about the root.
	ReadOnly bool
	// Memory is in bytes, swap included.
	Memory int64
	CPUs   float64
	PIDs   int64
	// Shared bounds /dev/shm, in bytes.
	Shared int64
	// Files bounds the open files of a process, UserProcesses the processes of a user
	// of the engine's machine, whatever container they are in.
	Files, UserProcesses int64
	// Temporary are memory file systems: options by path.
	Temporary map[string]string
	Mounts    []Mount
}

// Mount shows a volume, or a directory or file of the engine's machine.
type Mount struct {
	// Volume is a name; Path is absolute, on the engine's machine. One of them is set.
	Volume, Path string
	Target       string
	ReadOnly     bool
}

// ModifyConfig returns what makes the configuration of a container that of s.
func (s ContainerSpec) ModifyConfig() func(*container.Config) {
	return func(c *container.Config) {
		*c = container.Config{
			Image: s.Image, Hostname: s.Hostname, Entrypoint: s.Entrypoint, Cmd: []string{}, Env: s.Env, User: s.User, WorkingDir: "/",
			// What is there already says who made it.
			Labels:    merge(c.Labels, s.Labels),
			OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true,
			Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
		}
	}
}

func merge(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return all
}

// ModifyHost returns what makes the rest of a container's configuration that of s.
func (s ContainerSpec) ModifyHost() func(*container.HostConfig) {
	return func(h *container.HostConfig) { *h = s.host() }
}

func (s ContainerSpec) host() container.HostConfig {
	h := container.HostConfig{
		NetworkMode: container.NetworkMode(s.Network), ReadonlyRootfs: s.ReadOnly, ShmSize: s.Shared, Tmpfs: s.Temporary,
		CapDrop: []string{"ALL"}, SecurityOpt: []string{"no-new-privileges"},
		LogConfig: container.LogConfig{Type: "none"}, IpcMode: container.IPCModePrivate,
		Resources: container.Resources{
			Memory: s.Memory, MemorySwap: s.Memory, NanoCPUs: int64(s.CPUs * 1e9),
			Ulimits: []*container.Ulimit{{Name: "core"}},
		},
	}
	if s.PIDs > 0 {
		h.PidsLimit = &s.PIDs
	}
	if s.Files > 0 {
		h.Ulimits = append(h.Ulimits, &container.Ulimit{Name: "nofile", Soft: s.Files, Hard: s.Files})
	}
	if s.UserProcesses > 0 {
		h.Ulimits = append(h.Ulimits, &container.Ulimit{Name: "nproc", Soft: s.UserProcesses, Hard: s.UserProcesses})
	}
	for _, name := range slices.Sorted(maps.Keys(s.Hosts)) {
		h.ExtraHosts = append(h.ExtraHosts, name+":"+s.Hosts[name])
	}
	for _, m := range s.Mounts {
		one := mount.Mount{Type: mount.TypeVolume, Source: m.Volume, Target: m.Target, ReadOnly: m.ReadOnly, VolumeOptions: &mount.VolumeOptions{NoCopy: true}}
		if m.Path != "" {
			one = mount.Mount{Type: mount.TypeBind, Source: m.Path, Target: m.Target, ReadOnly: m.ReadOnly}
		}
		h.Mounts = append(h.Mounts, one)
	}
	return h
}

// CreateContainer creates a container and returns its id. [ErrConflict] is a name that
// is taken, [ErrNotFound] an image that is not there.
func (c *Client) CreateContainer(ctx context.Context, s ContainerSpec) (string, error) {
	var config container.Config
	s.ModifyConfig()(&config)
	host := s.host()
	r, err := c.api.ContainerCreate(ctx, client.ContainerCreateOptions{Name: s.Name, Config: &config, HostConfig: &host})
	return r.ID, c.wrap(Classify(err), "create container "+s.Name)
}

// Classify adds [ErrConflict] or [ErrNotFound] to an error of the engine that is one,
// whoever asked.
func Classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err):
		return errors.Join(ErrNotFound, err)
	case errdefs.IsConflict(err), strings.Contains(err.Error(), "already in use"): // Podman calls it an internal error
		return errors.Join(ErrConflict, err)
	}
	return err
}

// StartContainer starts a container that was created.
func (c *Client) StartContainer(ctx context.Context, id string) error {
	_, err := c.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
	return c.wrap(err, "start container "+short(id))
}

// Kill ends a container. One that has ended or is gone is no error.
func (c *Client) Kill(ctx context.Context, id string) error {
	_, err := c.api.ContainerKill(ctx, id, client.ContainerKillOptions{})
	if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
		return nil
	}
	return c.wrap(err, "kill container "+short(id))
}

// removalTime bounds how long a removal is tried again that needs nothing but time.
const removalTime = 30 * time.Second

// passing are the words of engines for what keeps a container or volume from being
// removed for a moment. What they are said of is still there, or half: Podman may have
// forgotten a container whose files it could not remove, and lists it no more. So
// whoever asked has to ask again.
var passing = []string{
	"state improper",                // Podman: it is just starting or ending
	"already in progress",           // Docker: somebody else removes it
	"already been removed",          // Podman: the same
	"did not receive an exit event", // Docker: it was killed, and its end is not there yet
	// Both: another container that is just starting, or ending, has seen its mounts.
	"device or resource busy",
	"directory not empty",
}

// removed calls remove until what it removes is gone, it fails for good, or ctx or
// removalTime ends.
func removed(ctx context.Context, remove func(context.Context) error) error {
	const first, longest = 10 * time.Millisecond, 500 * time.Millisecond
	late := time.Now().Add(removalTime)
	var why error // of the try before
	for pause := first; ; pause = min(2*pause, longest) {
		err := remove(ctx)
		switch {
		case err == nil, errdefs.IsNotFound(err):
			return nil
		case ctx.Err() != nil && why != nil:
			return fmt.Errorf("%w (given up: %w)", why, context.Cause(ctx))
		case time.Now().After(late), !slices.ContainsFunc(passing, func(words string) bool { return strings.Contains(err.Error(), words) }):
			return err
		}
		why = err
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// RemoveContainer ends and removes a container with its unnamed volumes. One that is
// gone is no error. What keeps it only for a moment is waited for, half a minute at most.
func (c *Client) RemoveContainer(ctx context.Context, id string) error {
	err := removed(ctx, func(ctx context.Context) error {
		_, err := c.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
		return err
	})
	return c.wrap(err, "remove container "+short(id))
}

func short(id string) string { return id[:min(12, len(id))] }

// Container is what the engine says of one.
type Container struct {
	ID, Name string
	Labels   map[string]string
	// State is "created", "running", "exited", …
	State string
}

// Containers returns the containers, running or not, that have all labels, "key" or
// "key=value".
func (c *Client) Containers(ctx context.Context, labels ...string) ([]Container, error) {
	r, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", labels...)})
	if err != nil {
		return nil, c.wrap(err, "list containers")
	}
	var list []Container
	for _, item := range r.Items {
		one := Container{ID: item.ID, Labels: item.Labels, State: string(item.State)}
		if len(item.Names) > 0 {
			one.Name = strings.TrimPrefix(item.Names[0], "/")
		}
		list = append(list, one)
	}
	return list, nil
}

// Detail is what the engine says is in force of a container.
type Detail struct {
	Container
	// PID is that of process 1 on the engine's machine.
	PID       int
	ExitCode  int
	OOM       bool
	Memory    int64
	Swap      int64 // memory included
	CPUs      float64
	PIDs      int64
	ReadOnly  bool
	Security  []string
	CapAdd    []string
	Network   string
	PIDMode   string
	IPCMode   string
	Plain     bool // not privileged
	Temporary map[string]string
}

// Inspect returns what the engine says of a container, or [ErrNotFound].
func (c *Client) Inspect(ctx context.Context, id string) (Detail, error) {
	r, err := c.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return Detail{}, c.wrap(err, "inspect container "+short(id))
	}
	d := Detail{Container: Container{ID: r.Container.ID, Name: strings.TrimPrefix(r.Container.Name, "/")}}
	if cf := r.Container.Config; cf != nil {
		d.Labels = cf.Labels
	}
	if st := r.Container.State; st != nil {
		d.State, d.PID, d.ExitCode, d.OOM = string(st.Status), st.Pid, st.ExitCode, st.OOMKilled
	}
	if h := r.Container.HostConfig; h != nil {
		d.Memory, d.Swap, d.CPUs = h.Memory, h.MemorySwap, float64(h.NanoCPUs)/1e9
		if h.PidsLimit != nil {
			d.PIDs = *h.PidsLimit
		}
		d.ReadOnly, d.Security, d.CapAdd, d.Plain, d.Temporary = h.ReadonlyRootfs, h.SecurityOpt, h.CapAdd, !h.Privileged, h.Tmpfs
		d.Network, d.PIDMode, d.IPCMode = string(h.NetworkMode), string(h.PidMode), string(h.IpcMode)
	}
	return d, nil
}

// Exit is the end of a container.
type Exit struct {
	Code int
	Err  error
}

// NextExit returns the channel on which the next end of a container is told, and which
// then is closed. It is subscribed to before this returns, so that no end is missed.
func (c *Client) NextExit(ctx context.Context, id string) <-chan Exit {
	told := make(chan Exit, 1)
	w := c.api.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	go func() {
		defer close(told)
		select {
		case r := <-w.Result:
			told <- Exit{Code: int(r.StatusCode)}
		case err := <-w.Error:
			told <- Exit{Err: c.wrap(err, "wait for container "+short(id))}
		}
	}()
	return told
}

// Attachment is the standard input and output of a container. What it reads is the
// output; errors are kept apart.
type Attachment struct {
	hijacked client.HijackedResponse
	output   *io.PipeReader
	once     sync.Once

	mu     sync.Mutex
	errors []byte
}

// Attach connects to a container, before it is started so that nothing is missed.
func (c *Client) Attach(ctx context.Context, id string) (*Attachment, error) {
	r, err := c.api.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		// Podman prepares a container when it is attached to, and the client drops the
		// reason why it cannot. A start has the same one.
		if startErr := c.StartContainer(ctx, id); startErr != nil {
			return nil, startErr
		}
		return nil, c.wrap(err, "attach to container "+short(id))
	}
	a := &Attachment{hijacked: r.HijackedResponse}
	var w *io.PipeWriter
	a.output, w = io.Pipe()
	go func() {
		_, err := stdcopy.StdCopy(w, (*errorTail)(a), r.Reader)
		w.CloseWithError(err) // nil is io.EOF
	}()
	return a, nil
}

// maxErrors is how much is kept of what a container writes to standard error.
const maxErrors = 16 << 10

type errorTail Attachment

func (t *errorTail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errors = append(t.errors, b...)
	t.errors = t.errors[max(0, len(t.errors)-maxErrors):]
	return len(b), nil
}

// Read reads standard output.
func (a *Attachment) Read(b []byte) (int, error) { return a.output.Read(b) }

// Write writes to standard input.
func (a *Attachment) Write(b []byte) (int, error) { return a.hijacked.Conn.Write(b) }

// Errors returns the end of what was written to standard error until now.
func (a *Attachment) Errors() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.TrimSpace(string(a.errors))
}

// Close ends the connection, and with it the container's standard input.
func (a *Attachment) Close() error {
	a.once.Do(func() {
		a.hijacked.Close()
		a.output.Close()
	})
	return nil
}

// CopyTo unpacks a tar archive below a directory of a container, which need not run.
func (c *Client) CopyTo(ctx context.Context, id, dir string, archive io.Reader) error {
	_, err := c.api.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: dir, Content: archive})
	return c.wrap(err, "copy into container "+short(id))
}

// CopyFrom returns a directory or file of a container as a tar archive, whose names
// begin with the last part of path. The caller closes it.
func (c *Client) CopyFrom(ctx context.Context, id, path string) (io.ReadCloser, error) {
	r, err := c.api.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: path})
	if err != nil {
		return nil, c.wrap(err, "copy from container "+short(id))
	}
	return r.Content, nil
}

// Stats are what the engine measured of a running container.
type Stats struct {
	CPU        int64 // nanoseconds
	Memory     int64
	PeakMemory int64 // zero where the engine does not say
	PIDs       int
}

// Stats asks for what a container has used until now.
func (c *Client) Stats(ctx context.Context, id string) (Stats, error) {
	doing := "measure container " + short(id)
	r, err := c.api.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return Stats{}, c.wrap(err, doing)
	}
	defer r.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&s); err != nil {
		return Stats{}, c.wrap(err, doing)
	}
	return Stats{
		CPU: int64(s.CPUStats.CPUUsage.TotalUsage), Memory: int64(s.MemoryStats.Usage),
		PeakMemory: int64(s.MemoryStats.MaxUsage), PIDs: int(s.PidsStats.Current),
	}, nil
}
