package cleanroom

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// FileBuilder builds Dockerfiles with an engine of the host, outside of the clean room.
type FileBuilder interface {
	// Describe names the program that builds, with its version. Where there is none it
	// is fault.Unavailable.
	Describe(ctx context.Context) (string, error)
	// BuildFile builds a file below dir without a cache of earlier builds, and returns
	// the artifacts of the image as Imager does.
	BuildFile(ctx context.Context, blobs state.Blobs, dir, file string, network bool, out io.Writer) ([]state.Artifact, error)
}

// dockerfile is the file that is built where a builder is named and no file.
const dockerfile = "Dockerfile"

// findDockerfile decides whether a Dockerfile makes the image, and whether something can
// build it, before anything else is done.
func (t *trial) findDockerfile(ctx context.Context) error {
	p := &t.step.Package
	if p.Dockerfile == "" {
		if info, err := t.work.tree.Lstat(dockerfile); p.Builder == "" || err != nil || !info.Mode().IsRegular() {
			return nil
		}
		p.Dockerfile = dockerfile
	}
	if p.Base != "" || len(p.Files) > 0 || p.starts() || len(p.Env) > 0 || p.User != "" {
		return fault.New(fault.Usage, "leave out dockerfile and builder, or base, files, entrypoint, args, env and user", "%s and [cleanroom.package] both say what the image is", p.Dockerfile)
	}
	if _, err := readBounded(t.work.tree, p.Dockerfile, maxSource); err != nil {
		return fault.Wrap(err, fault.Finding, "name a file of the tree", "read the Dockerfile "+p.Dockerfile)
	}
	if t.step.Builder == nil {
		return fault.New(fault.Unavailable, "", "nothing can build %s", p.Dockerfile)
	}
	var err error
	t.builder, err = t.step.Builder.Describe(ctx)
	return err
}

// buildDockerfile builds the file twice and returns the artifacts of the first image.
// Whether both are the same is evidence; nothing is said to be reproducible that was
// not compared.
func (t *trial) buildDockerfile(ctx context.Context, blobs state.Blobs) ([]state.Artifact, error) {
	if err := t.fixTimes(); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "set the times of the tree")
	}
	var built [2][]state.Artifact
	for i, which := range []string{"", ", again to compare"} {
		t.step.progress("build " + t.step.Package.Dockerfile + " with " + t.builder + which)
		t.log.add("$ " + t.builder + ": build " + t.step.Package.Dockerfile + "\n")
		var err error
		if built[i], err = t.buildOnce(ctx, blobs); err != nil {
			return nil, err
		}
	}
	t.reproducible = compare(built[0], built[1])
	return built[0], nil
}

func (t *trial) buildOnce(ctx context.Context, blobs state.Blobs) ([]state.Artifact, error) {
	wall := t.step.limits().Wall
	ctx, cancel := context.WithTimeoutCause(ctx, wall, fault.New(fault.Finding, "make it faster, or raise timeout_seconds in [cleanroom]", "the build of %s ran longer than %s", t.step.Package.Dockerfile, wall))
	defer cancel()
	var said tail
	out := &textWriter{log: &t.log, tail: &said, within: t.work.tree.Name() + "/"}
	return t.step.Builder.BuildFile(ctx, blobs, t.work.tree.Name(), t.step.Package.Dockerfile, t.step.Package.BuildNetwork == "default", out)
}

// fixTimes gives every file of the tree the same time: engines write it into the image.
func (t *trial) fixTimes() error {
	return fs.WalkDir(t.work.tree.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return t.work.tree.Chtimes(name, time.Unix(0, 0), time.Unix(0, 0))
	})
}

// compare says whether two builds have made the same image: "yes", or "no" and what
// differs.
func compare(a, b []state.Artifact) string {
	if slices.Equal(a, b) {
		return "yes: two builds have made the same image"
	}
	var differ []string
	for _, one := range a {
		if one.Name != state.ArtifactImage && !slices.Contains(b, one) {
			differ = append(differ, strings.TrimPrefix(one.Name, state.ArtifactImage+"/"))
		}
	}
	if len(differ) == 0 || len(a) != len(b) {
		differ = append(differ, fmt.Sprintf("%d and %d parts", len(a), len(b)))
	}
	return "no: of two builds these differ: " + strings.Join(differ, ", ")
}
