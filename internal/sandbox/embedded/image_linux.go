package embedded

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// noImage is that of a container without one.
var noImage = sandbox.Image{Release: func() {}}

// unpack returns the image called ref, which the caller releases; none is noImage.
func (b *Backend) unpack(ctx context.Context, ref string) (sandbox.Image, error) {
	if ref == "" {
		return noImage, nil
	}
	if b.options.Images == nil {
		return noImage, fault.New(fault.Usage, "give a root in place of the image", "there is no source of images for %s", ref)
	}
	return b.options.Images.Unpack(ctx, ref)
}

// fromImage fills in what spec leaves to the configuration of its image.
func fromImage(spec sandbox.ContainerSpec, image sandbox.Image) sandbox.ContainerSpec {
	if spec.Image == "" {
		return spec
	}
	c := image.Config
	spec.Root = image.Dir
	if len(spec.Argv) == 0 {
		rest := spec.Args
		if len(rest) == 0 {
			rest = c.Cmd
		}
		spec.Argv = slices.Concat(c.Entrypoint, rest)
	}
	spec.Env = mergeEnv(c.Env, spec.Env)
	spec.Dir = cmp.Or(spec.Dir, c.WorkingDir)
	spec.UID, spec.GID = cmp.Or(spec.UID, c.UID), cmp.Or(spec.GID, c.GID)
	spec.Mounts = slices.Clone(spec.Mounts)
	for _, v := range c.Volumes {
		if !slices.ContainsFunc(spec.Mounts, func(m sandbox.Mount) bool { return filepath.Clean(m.Target) == filepath.Clean(v) }) {
			spec.Mounts = append(spec.Mounts, sandbox.Mount{Kind: sandbox.Scratch, Target: v})
		}
	}
	return spec
}

// mergeEnv puts own after base and leaves out what is set again.
func mergeEnv(base, own []string) []string {
	set := map[string]bool{}
	for _, e := range own {
		name, _, _ := strings.Cut(e, "=")
		set[name] = true
	}
	var merged []string
	for _, e := range base {
		if name, _, _ := strings.Cut(e, "="); !set[name] {
			merged = append(merged, e)
		}
	}
	return append(merged, own...)
}
