package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// annotationName carries the name of an image in a layout's index.
const annotationName = "org.opencontainers.image.ref.name"

// builder writes the layout dir.
type builder struct {
	dir  string
	log  io.Writer
	debs map[string]deb
	// layers are those that were built, by the name of their packages.
	layers map[string]v1.Layer
}

// made says of what a layout was built. It lies beside it, in "<dir>.json".
type made struct {
	// Recipe is the digest of the table, Packages that of their versions.
	Recipe   state.Digest `json:"recipe"`
	Packages state.Digest `json:"packages"`
	// Lists is when apt's lists of packages last changed: if they did not, no version did.
	Lists time.Time `json:"lists"`
	// Images are "name digest", as they are printed.
	Images []string `json:"images"`
}

const aptLists = "/var/lib/apt/lists"

func (b *builder) make(ctx context.Context) ([]string, error) {
	if err := os.MkdirAll(filepath.Dir(filepath.Clean(b.dir)), 0o755); err != nil {
		return nil, err
	}
	held, err := lock.Acquire(ctx, filepath.Clean(b.dir)+".lock")
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "run it again", "wait for another build")
	}
	defer func() { _ = held.Release() }() // it ends with the process
	now := made{Recipe: state.DigestOf(fmt.Appendf(nil, "%+v %s", table, runtime.GOARCH))}
	if info, err := os.Stat(aptLists); err == nil {
		now.Lists = info.ModTime().UTC()
	}
	last := b.last()
	if last.Recipe == now.Recipe && last.Lists.Equal(now.Lists) && !now.Lists.IsZero() {
		return last.Images, nil
	}
	var names []string
	for _, s := range table {
		for _, l := range s.layers {
			names = append(names, strings.Fields(l.debs)...)
		}
	}
	slices.Sort(names)
	debs, err := find(ctx, slices.Compact(names))
	if err != nil {
		return nil, err
	}
	now.Packages = state.DigestOf(fmt.Appendf(nil, "%+v", debs))
	if last.Recipe == now.Recipe && last.Packages == now.Packages {
		now.Images = last.Images
		return now.Images, b.remember(now)
	}
	b.debs, b.layers = map[string]deb{}, map[string]v1.Layer{}
	for _, d := range debs {
		b.debs[d.name] = d
	}
	if err := download(ctx, b.packages(), debs); err != nil {
		return nil, err
	}
	if now.Images, err = b.build(ctx); err != nil {
		return nil, err
	}
	return now.Images, b.remember(now)
}

// packages is where packages stay for the next build.
func (b *builder) packages() string { return filepath.Clean(b.dir) + "-packages" }

// last returns of what the layout was built, or nothing if it is not there.
func (b *builder) last() (m made) {
	raw, err := os.ReadFile(filepath.Clean(b.dir) + ".json")
	if err != nil || json.Unmarshal(raw, &m) != nil {
		return made{}
	}
	if _, err := os.Stat(filepath.Join(b.dir, "index.json")); err != nil {
		return made{}
	}
	return m
}

func (b *builder) remember(m made) error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Clean(b.dir) + ".json"
	if err := os.WriteFile(file+".new", raw, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// build writes the layout beside its place and puts it there when it is whole.
func (b *builder) build(ctx context.Context) (_ []string, err error) {
	beside, err := filepath.Abs(filepath.Dir(filepath.Clean(b.dir))) // as mounts need it
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(beside, ".services-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	fresh := filepath.Join(work, "layout")
	path, err := layout.Write(fresh, empty.Index)
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, s := range table {
		img, err := b.image(ctx, s, work)
		if err != nil {
			return nil, fmt.Errorf("build %s: %w", s.names[0], err)
		}
		digest, err := img.Digest()
		if err != nil {
			return nil, err
		}
		for _, name := range s.names {
			if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{annotationName: name})); err != nil {
				return nil, err
			}
			lines = append(lines, name+" "+digest.String())
		}
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return nil, err
	}
	return lines, os.Rename(fresh, b.dir)
}

func (b *builder) image(ctx context.Context, s service, work string) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, p := range s.layers {
		l, err := b.layer(ctx, p)
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, l); err != nil {
			return nil, err
		}
	}
	img, err := configure(img, s)
	if err != nil {
		return nil, err
	}
	template, err := b.try(ctx, s, img, work)
	if err != nil || template == nil {
		return img, err
	}
	return mutate.AppendLayers(img, template)
}

func (b *builder) layer(ctx context.Context, p packages) (v1.Layer, error) {
	if l, ok := b.layers[p.name]; ok {
		return l, nil
	}
	c := content{}
	for name := range strings.FieldsSeq(p.debs) {
		if err := b.debs[name].extract(ctx, b.packages(), c); err != nil {
			return nil, err
		}
	}
	if err := p.add(c); err != nil {
		return nil, err
	}
	l, err := c.layer()
	b.layers[p.name] = l
	return l, err
}

func configure(img v1.Image, s service) (v1.Image, error) {
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", runtime.GOARCH, v1.Time{Time: time.Unix(0, 0).UTC()}
	file.History = nil
	file.Config = v1.Config{Entrypoint: s.entrypoint, Cmd: s.cmd, Env: s.env, User: s.user, WorkingDir: s.workDir, Volumes: set(s.volumes), ExposedPorts: set(s.ports)}
	return mutate.ConfigFile(img, file)
}

func set(names []string) map[string]struct{} {
	out := map[string]struct{}{}
	for _, n := range names {
		out[n] = struct{}{}
	}
	return out
}

// try runs the programs of an image in the sandbox, and returns the layer with the
// template if the service has one. Where there is no sandbox, neither is done, and said.
func (b *builder) try(ctx context.Context, s service, img v1.Image, work string) (_ v1.Layer, err error) {
	name := strings.NewReplacer(":", "-").Replace(s.names[0])
	trial := filepath.Join(work, name)
	path, err := layout.Write(trial, empty.Index)
	if err == nil {
		err = path.AppendImage(img)
	}
	if err != nil {
		return nil, err
	}
	images := rootfs.New(rootfs.Options{Dir: filepath.Join(work, "cache")})
	ref, err := images.Resolve(ctx, "layout:"+trial)
	if err != nil {
		return nil, err
	}
	image, err := images.Unpack(ctx, ref.String())
	if err != nil {
		return nil, err
	}
	defer image.Release()
	env, err := embedded.New(embedded.Options{StateDir: filepath.Join(work, "environments")}).Create(ctx, sandbox.EnvironmentSpec{Name: "image-" + name, MinIsolation: sandbox.Full})
	if fault.KindOf(err) == fault.Unavailable {
		fmt.Fprintf(b.log, "services: %s is not tried, and has no database template: %v\n", s.names[0], err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, env.Close(context.WithoutCancel(ctx))) }()
	t := trialRun{env, image}
	for _, argv := range s.programs {
		if err := t.run(ctx, argv); err != nil {
			return nil, err
		}
	}
	if !s.template {
		return nil, nil
	}
	return t.template(ctx, filepath.Join(work, "template"))
}

// trialRun runs programs of an image.
type trialRun struct {
	env   sandbox.Environment
	image sandbox.Image
}

const maxOutput = 1 << 20

func (t trialRun) run(ctx context.Context, argv []string, mounts ...sandbox.Mount) error {
	var out bytes.Buffer
	c, err := t.env.Start(ctx, sandbox.ContainerSpec{
		Name: "try", Root: t.image.Dir, Argv: argv, Env: t.image.Config.Env,
		UID: cmp.Or(t.image.Config.UID, 65534), GID: cmp.Or(t.image.Config.GID, 65534),
		Mounts: mounts, Stdout: &out, Stderr: &out, Limits: sandbox.Limits{Output: maxOutput, Wall: time.Minute},
	})
	if err != nil {
		return err
	}
	status, err := c.Wait(ctx)
	if err != nil {
		return errors.Join(err, c.Kill(context.WithoutCancel(ctx)))
	}
	if !status.OK() {
		return fault.New(fault.Finding, "add the packages that it needs to the table", "%s: %s: %s", strings.Join(argv, " "), status, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// template makes a database cluster, owned by the image's user.
func (t trialRun) template(ctx context.Context, dir string) (v1.Layer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	err := t.run(ctx, []string{"initdb", "-D", "/template/data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C.UTF-8", "--wal-segsize=1", "--no-instructions"},
		sandbox.Mount{Kind: sandbox.ReadWrite, Source: dir, Target: "/template"})
	if err != nil {
		return nil, err
	}
	c := content{}
	if err := c.addTree(filepath.Join(dir, "data"), "var/lib/postgresql/template", t.image.Config.UID); err != nil {
		return nil, err
	}
	return c.layer()
}
