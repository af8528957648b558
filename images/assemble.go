package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

const (
	licence = "Apache-2.0"
	home    = "https://github.com/ultrafast-ci/ultrafast"
)

// built is an index, one image per platform, ready to be published.
type built struct {
	// Name is the repository below the prefix, Suffix what its tag ends with.
	Name    string `json:"name"`
	Phase   string `json:"phase"`
	Flavour string `json:"flavour"`
	// Digest is that of the index.
	Digest string `json:"digest"`
	// Sizes are compressed bytes by platform, what a machine pulls.
	Sizes  map[string]int64 `json:"sizes"`
	suffix string
	index  v1.ImageIndex
}

// build makes everything in s. A flavour whose parts this machine does not have is
// left out with a message, unless it was asked for by name.
func (b *builder) build(ctx context.Context, s selection, named bool) ([]built, error) {
	out := []built{}
	if len(s.platforms) == 0 {
		return out, nil
	}
	var programs []string
	for _, i := range s.images {
		programs = append(programs, i.programs...)
	}
	for _, platform := range s.platforms {
		if err := b.compile(ctx, programs, platform); err != nil {
			return nil, err
		}
	}
	for _, f := range s.flavours {
		for _, i := range s.images {
			if !i.has(f) {
				continue
			}
			one, err := b.index(ctx, i, f, s.platforms)
			if errors.Is(err, errNoBusybox) {
				if named {
					return nil, fault.Wrap(err, fault.Unavailable, "run images/busybox.sh", "build flavour "+f.name)
				}
				fmt.Fprintf(b.log, "images: flavour %s is left out: %v\n", f.name, err)
				break
			}
			if err != nil {
				return nil, fmt.Errorf("build %s, flavour %s: %w", i.name, f.name, err)
			}
			out = append(out, one)
		}
	}
	return out, nil
}

func archOf(platform string) string { return strings.TrimPrefix(platform, "linux/") }

func (b *builder) index(ctx context.Context, i image, f flavour, platforms []string) (built, error) {
	out := built{Name: i.name, Phase: i.phase, Flavour: f.name, Sizes: map[string]int64{}, suffix: f.suffix}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range platforms {
		arch := archOf(platform)
		layers, err := b.stack(ctx, i, f, arch)
		if err != nil {
			return built{}, err
		}
		img, err := assemble(i, f, arch, layers)
		if err != nil {
			return built{}, err
		}
		for _, l := range layers {
			out.Sizes[platform] += l.size
		}
		if f.name == scratch.name && out.Sizes[platform] > i.limit {
			return built{}, fault.New(fault.Finding, "find out what it links now that it did not before",
				"the image for %s has %d compressed bytes; at most %d are allowed", platform, out.Sizes[platform], i.limit)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	index, ok := mutate.Annotations(index, labels(i)).(v1.ImageIndex)
	if !ok {
		return built{}, errors.New("an annotated index is no index")
	}
	digest, err := index.Digest()
	out.Digest, out.index = digest.String(), index
	return out, err
}

func labels(i image) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":       i.name,
		"org.opencontainers.image.description": i.about,
		"org.opencontainers.image.licenses":    licence,
		"org.opencontainers.image.source":      home,
	}
}

// assemble returns the image of one platform. It sets no user, no working directory:
// GitHub mounts the workspace of whoever the runner is, and asks for neither.
func assemble(i image, f flavour, arch string, layers []*layer) (v1.Image, error) {
	epoch := v1.Time{Time: time.Unix(0, 0).UTC()}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, l := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: l, History: v1.History{Created: epoch, CreatedBy: "images: " + l.what}})
		if err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", arch, epoch
	file.Config = v1.Config{Entrypoint: []string{"/" + i.programs[0]}, Labels: labels(i)}
	if f.path != "" {
		file.Config.Env = []string{"PATH=" + f.path}
	}
	if slices.Contains(f.layers, toolchainLayer) {
		file.Config.Env = append(file.Config.Env, "GOTOOLCHAIN=local")
	}
	return mutate.ConfigFile(img, file)
}
