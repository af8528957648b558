package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Builder builds Dockerfiles with a program of the host: "docker", "buildah" or, with
// the name "auto", the first of buildah and docker that is installed and answers. It
// needs a container engine, as no other part of this package does, and speaks to it by
// the program's command line alone.
type Builder struct {
	Name string
	// TempDir is where archives lie between the engine and the store; empty means the
	// system's.
	TempDir string
}

// buildWait is how long a program that was told to end may take to close its output.
const buildWait = 5 * time.Second

// Describe returns name and version of the program, "docker 20.10.24", if it is
// installed and its engine answers; else it is fault.Unavailable.
func (b Builder) Describe(ctx context.Context) (string, error) {
	names := []string{b.Name}
	if b.Name == "auto" {
		names = []string{"buildah", "docker"}
	}
	var errs []error
	for _, name := range names {
		version := []string{"version", "--format", "{{.Server.Version}}"}
		if name == "buildah" {
			version = []string{"version", "--json"}
		}
		out, err := run(ctx, nil, name, version...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if name == "buildah" {
			out = jsonVersion(out)
		}
		return name + " " + strings.TrimSpace(out), nil
	}
	return "", fault.Wrap(errors.Join(errs...), fault.Unavailable, "install buildah, or docker and start its engine", "build a Dockerfile")
}

// jsonVersion returns what buildah calls its version.
func jsonVersion(out string) string {
	_, rest, _ := strings.Cut(out, `"version":`)
	parts := strings.SplitN(rest, `"`, 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[1]
}

// BuildFile builds the Dockerfile called file, a path below dir, with dir as context and
// without the cache of earlier builds, and returns the artifacts of the image, layers
// and configuration byte for byte as the engine gives them. The image leaves the engine
// again. Commands of the file have no network unless network; its base images may be
// pulled in both cases, by the engine. What the program says goes to out. A file that
// does not build is fault.Finding.
func (b Builder) BuildFile(ctx context.Context, blobs state.Blobs, dir, file string, network bool, out io.Writer) (_ []state.Artifact, err error) {
	described, err := b.Describe(ctx)
	if err != nil {
		return nil, err
	}
	program, _, _ := strings.Cut(described, " ")
	temp, err := os.MkdirTemp(b.TempDir, "dockerfile-")
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "make a working directory")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	name := "localhost/ultrafast-build:" + strings.ToLower(filepath.Base(temp))
	archive := filepath.Join(temp, "image.tar")
	build, export := commands(program, name, dir, file, archive, network)
	// Whatever happens: a build that was cancelled may have made its image.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if _, gone := run(ctx, nil, program, "rmi", name); gone != nil && err == nil {
			err = fault.Wrap(gone, fault.Unavailable, "", "remove the image from the engine")
		}
	}()
	if _, err := run(ctx, out, program, build...); err != nil {
		return nil, fault.Wrap(err, fault.Finding, "build it by hand to see more", "build "+file)
	}
	if _, err := run(ctx, out, program, export...); err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "take the image from "+program)
	}
	return keepArchive(ctx, blobs, archive)
}

// commands returns the arguments that build and export. Of the two programs buildah can
// set all times to the Unix epoch.
func commands(program, name, dir, file, archive string, network bool) (build, export []string) {
	at := filepath.Join(dir, filepath.FromSlash(file))
	if program == "buildah" {
		build = []string{"build", "--no-cache", "--layers=false", "--timestamp", "0", "--tag", name, "--file", at}
		export = []string{"push", "--quiet", name, "oci-archive:" + archive}
	} else {
		build = []string{"build", "--no-cache", "--force-rm", "--tag", name, "--file", at}
		export = []string{"save", "--output", archive, name}
	}
	if !network {
		build = append(build, "--network", "none")
	}
	return append(build, "--build-arg", "SOURCE_DATE_EPOCH=0", dir), export
}

// run runs a program and returns its standard output. Its end says what it wrote last.
func run(ctx context.Context, out io.Writer, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout bytes.Buffer
	said := &lastBytes{most: 2000}
	cmd.Stdout, cmd.Stderr = &stdout, said
	if out != nil {
		both := io.MultiWriter(out, said)
		cmd.Stdout, cmd.Stderr = both, both // one writer: exec writes to it from one goroutine
	}
	cmd.WaitDelay = buildWait
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		return "", fmt.Errorf("%s %s: %w\n%s", program, args[0], err, strings.TrimSpace(string(said.kept)))
	}
	return stdout.String(), nil
}

// lastBytes keeps the last bytes that are written to it.
type lastBytes struct {
	most int
	kept []byte
}

func (l *lastBytes) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p...)
	if over := len(l.kept) - l.most; over > 0 {
		l.kept = append(l.kept[:0], l.kept[over:]...)
	}
	return len(p), nil
}

// keepArchive keeps the only image of an archive.
func keepArchive(ctx context.Context, blobs state.Blobs, file string) (_ []state.Artifact, err error) {
	a, err := OpenArchive(ctx, file)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	m, err := Find(ctx, a, "", Platform{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		return nil, err
	}
	image, err := state.WriteBlob(ctx, blobs, state.ArtifactImage, state.MediaTypeImageManifest, m.Raw)
	if err != nil {
		return nil, err
	}
	config, err := state.WriteBlob(ctx, blobs, state.ArtifactImageConfig, state.MediaTypeImageConfig, m.RawConfig)
	if err != nil {
		return nil, err
	}
	artifacts := []state.Artifact{image, config}
	for n, l := range m.Layers {
		layer, err := keepLayer(ctx, blobs, a, n, l)
		if err != nil {
			return nil, err
		}
		artifacts = append(artifacts, layer)
	}
	return artifacts, nil
}

func keepLayer(ctx context.Context, blobs state.Blobs, from Source, n int, l Layer) (_ state.Artifact, err error) {
	r, err := from.Blob(ctx, l.Digest)
	if err != nil {
		return state.Artifact{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := blobs.Create(ctx, l.MediaType)
	if err != nil {
		return state.Artifact{}, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := Verify(ctx, w, r, l.Digest, l.Size); err != nil {
		return state.Artifact{}, err
	}
	return w.Commit(state.ArtifactImageLayer(n))
}
