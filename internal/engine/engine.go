// Package engine speaks with a container engine, Docker or Podman, through its API.
// It is the only importer of the client library.
//
// Every container that it creates has no capabilities, no new privileges, no log on
// the engine's disk and an open standard input: it is for the sandbox. The package
// decides nothing else.
package engine

import (
	"context"
	"errors"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// What an engine may answer.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict")
)

// Client is a connection to one engine. Its methods may be called from many
// goroutines at once.
type Client struct {
	api  *client.Client
	host string
}

// Open returns a client of the engine at host, "unix:///path" or "tcp://name:port", the
// latter with TLS if DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say so; an empty host is that
// of DOCKER_HOST. One behind ssh is fault.Usage. Version pins the version of
// the API; an empty one is negotiated. Nothing is sent yet.
func Open(host, version string) (*Client, error) {
	options := []client.Opt{client.FromEnv}
	if host != "" {
		options = append(options, client.WithHost(host))
	}
	if version != "" {
		options = append(options, client.WithAPIVersion(version))
	}
	api, err := client.New(options...)
	if err != nil {
		return nil, fault.Wrap(err, fault.Usage, "write unix:///path/of/the.sock or tcp://host:port", "use the container engine at "+host)
	}
	if host := api.DaemonHost(); strings.HasPrefix(host, "ssh://") {
		return nil, errors.Join(fault.New(fault.Usage,
			"forward its socket, ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock "+strings.TrimPrefix(host, "ssh://")+", and name unix:///tmp/engine.sock",
			"the container engine at %s: no connection is made by ssh", host), api.Close())
	}
	return &Client{api: api, host: api.DaemonHost()}, nil
}

// Host is where the engine listens.
func (c *Client) Host() string { return c.host }

// Close frees idle connections.
func (c *Client) Close() error { return c.api.Close() }

// wrap describes an error of the engine: what was asked of it, whose turn it is.
func (c *Client) wrap(err error, doing string) error {
	switch {
	case err == nil:
		return nil
	case client.IsErrConnectionFailed(err):
		return fault.Wrap(err, fault.Unavailable, "start the engine, or name another one", doing)
	case strings.Contains(err.Error(), "HTTP request to an HTTPS server"):
		return fault.Wrap(err, fault.Unavailable, "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem", doing)
	case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrConflict):
		err = Classify(err)
	}
	return &answer{err, doing}
}

// answer is an error of the engine on one line, with what it wraps.
type answer struct {
	err   error
	doing string
}

func (a *answer) Error() string {
	text := a.err.Error()
	for _, prefix := range []string{ErrNotFound.Error() + "\n", ErrConflict.Error() + "\n", "Error response from daemon: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return a.doing + ": " + text
}

func (a *answer) Unwrap() error { return a.err }

// Info describes an engine.
type Info struct {
	// Name is "docker" or "podman".
	Name string
	// Version is the engine's, API that of its interface as it was negotiated.
	Version, API string
	OS, Arch     string
	Kernel       string
	CPUs         int
	Rootless     bool
	// Security are the engine's own words: "name=seccomp,profile=default", "name=selinux".
	Security []string
}

// Info asks the engine what it is.
func (c *Client) Info(ctx context.Context) (Info, error) {
	v, err := c.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return Info{}, c.wrap(err, "ask the container engine at "+c.host+" for its version")
	}
	i, err := c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Info{}, c.wrap(err, "ask the container engine at "+c.host+" what it is")
	}
	info := Info{
		Name: "docker", Version: v.Version, API: c.api.ClientVersion(), OS: v.Os, Arch: v.Arch,
		Kernel: i.Info.KernelVersion, CPUs: i.Info.NCPU, Security: i.Info.SecurityOptions,
	}
	for _, part := range v.Components {
		if strings.HasPrefix(part.Name, "Podman") {
			info.Name = "podman"
		}
	}
	for _, s := range info.Security {
		info.Rootless = info.Rootless || strings.Contains(s, "name=rootless")
	}
	return info, nil
}

// Ping reports whether the engine answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.api.Ping(ctx, client.PingOptions{})
	return c.wrap(err, "reach the container engine at "+c.host)
}

// Volume is a directory that the engine keeps.
type Volume struct {
	Name   string
	Labels map[string]string
}

// CreateVolume makes a volume; one of that name that exists is taken as it is.
func (c *Client) CreateVolume(ctx context.Context, v Volume) error {
	_, err := c.api.VolumeCreate(ctx, client.VolumeCreateOptions{Name: v.Name, Labels: v.Labels})
	return c.wrap(err, "create volume "+v.Name)
}

// HasVolume reports whether a volume exists.
func (c *Client) HasVolume(ctx context.Context, name string) (bool, error) {
	_, err := c.api.VolumeInspect(ctx, name, client.VolumeInspectOptions{})
	if errdefs.IsNotFound(err) {
		return false, nil
	}
	return err == nil, c.wrap(err, "look for volume "+name)
}

// Volumes returns the volumes that have all labels, "key" or "key=value".
func (c *Client) Volumes(ctx context.Context, labels ...string) ([]Volume, error) {
	r, err := c.api.VolumeList(ctx, client.VolumeListOptions{Filters: client.Filters{}.Add("label", labels...)})
	if err != nil {
		return nil, c.wrap(err, "list volumes")
	}
	var list []Volume
	for _, v := range r.Items {
		list = append(list, Volume{v.Name, v.Labels})
	}
	return list, nil
}

// RemoveVolume removes a volume that no container uses. One that is gone is no error.
// What keeps it only for a moment is waited for, half a minute at most.
func (c *Client) RemoveVolume(ctx context.Context, name string) error {
	err := removed(ctx, func(ctx context.Context) error {
		_, err := c.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{Force: true})
		return err
	})
	return c.wrap(err, "remove volume "+name)
}
