package door

import (
	"cmp"
	"context"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/toolchain"
	sidecar "github.com/ultrafast-ci/ultrafast/steps/cleanroom/service"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// sidecars returns what the project wants to run beside its tests: images by digest,
// or what is installed here, with passwords and scripts read.
func sidecars(ctx context.Context, a *app.App, project *config.Project, images *rootfs.Images) ([]sidecar.Spec, error) {
	var specs []sidecar.Spec
	for _, s := range project.Cleanroom.Services {
		spec := sidecar.Spec{
			Name: s.Name, Kind: sidecar.Kind(s.Kind), Port: s.Port, Argv: s.Command, Args: s.Args, Env: s.Env,
			Health: s.Health, Check: s.Check, Database: s.Database, User: s.User, Shared: s.Shared,
			Timeout: time.Duration(cmp.Or(s.TimeoutSeconds, project.Containers.StartTimeoutSeconds)) * time.Second,
		}
		spec.Limits.Memory = int64(s.MemoryMB) << 20
		if err := place(ctx, project, &spec, s.Image, images); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "", "service "+s.Name)
		}
		if err := read(a, project, s, &spec); err != nil {
			return nil, fault.Wrap(err, fault.Usage, "", "service "+s.Name)
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// place says where the service's programs are: in an image, or on this machine.
func place(ctx context.Context, project *config.Project, spec *sidecar.Spec, image string, images *rootfs.Images) error {
	if image == "" {
		if spec.Kind == sidecar.Other {
			return nil
		}
		found, err := toolchain.FindService(string(spec.Kind))
		spec.Programs, spec.Version = found.Programs, found.Version
		return err
	}
	ref, err := images.Resolve(ctx, image)
	if kind := serviceOf(image).kind; fault.KindOf(err) == fault.Unavailable && installable(kind) {
		return fault.Also(err, "or leave the image out, and the "+kind+" that this machine has installed runs")
	}
	if err != nil {
		return err
	}
	if spec.Kind == "" {
		spec.Kind = sidecar.KindOf(path.Base(ref.Repository))
	}
	spec.Image, spec.Version = pinned(project, ref), ref.Digest.Hex()
	return nil
}

// installable reports that a service of the kind runs from the programs of this machine too.
func installable(kind string) bool {
	return kind == string(sidecar.Postgres) || kind == string(sidecar.Redis)
}

// pinned writes a resolved reference so that it means the same everywhere on this
// machine.
func pinned(project *config.Project, ref sandbox.Reference) string {
	if ref.Path != "" {
		ref.Path = in(project, ref.Path)
	}
	return ref.String()
}

// read reads what the project file only names.
func read(a *app.App, project *config.Project, s config.Sidecar, spec *sidecar.Spec) error {
	switch {
	case s.PasswordFile != "":
		b, err := a.ReadFile("the password", in(project, s.PasswordFile))
		if err != nil {
			return err
		}
		if spec.Password = strings.TrimRight(string(b), "\r\n"); spec.Password == "" {
			return fault.New(fault.Usage, "write the password into it", "%s is empty", s.PasswordFile)
		}
	case s.PasswordEnv != "":
		if spec.Password, _ = a.Lookup(s.PasswordEnv); spec.Password == "" {
			return fault.New(fault.Usage, "set it, or leave out password_env for a password of each run", "the environment variable %s is not set", s.PasswordEnv)
		}
	}
	if spec.Password != "" {
		a.Mask(spec.Password)
	}
	for _, name := range s.Init {
		b, err := a.ReadFile("an SQL script", in(project, name))
		if err != nil {
			return err
		}
		spec.Init = append(spec.Init, string(b))
	}
	return nil
}

// in returns the path of a file that the project file names.
func in(project *config.Project, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(project.Dir, filepath.FromSlash(name))
}
