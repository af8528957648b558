package docker_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
)

// BenchmarkStart compares one container, from its creation to the removal, through the
// engine's client alone and through the back end:
//
//	go test ./internal/sandbox/docker -run '^$' -bench Start -benchtime 20x
func BenchmarkStart(b *testing.B) {
	for _, name := range []string{docker.Docker, docker.Podman} {
		r, err := rigs()[name]()
		if err != nil {
			b.Logf("no %s: %v", name, err)
			continue
		}
		ref, back := benchRig(b, r)
		b.Run(name+"/raw", func(b *testing.B) { raw(b, r, back, ref) })
		b.Run(name+"/backend", func(b *testing.B) { started(b, back, ref) })
	}
}

func benchRig(b *testing.B, r rig) (string, *docker.Backend) {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	source := sandboxtest.NewImages(b, exe)
	o := options(b, r, "bench")
	o.Images = source
	return source.Ref, docker.New(o)
}

// raw is what is the least: create, attach, start, wait, remove.
func raw(b *testing.B, r rig, back *docker.Backend, ref string) {
	warm(b, back, ref)
	c, err := engine.Open(r.host, "")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	_, digest, _ := strings.Cut(ref, "sha256:")
	for b.Loop() {
		id, err := c.CreateContainer(b.Context(), engine.ContainerSpec{
			Image: "localhost/ultrafast-image:" + digest, Entrypoint: []string{"/bin/true"}, Network: "none", ReadOnly: true, User: "65534:65534",
			Memory: 256 << 20, CPUs: 1, PIDs: 64, Files: 1024, UserProcesses: 1024,
		})
		if err != nil {
			b.Fatal(err)
		}
		exit := c.NextExit(b.Context(), id)
		if err := c.StartContainer(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		if e := <-exit; e.Err != nil || e.Code != 0 {
			b.Fatal(e)
		}
		if err := c.RemoveContainer(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

// started is the same in an environment, with all that is read back. What the back end
// removes in the background is waited for at the end.
func started(b *testing.B, back *docker.Backend, ref string) {
	e, err := back.Create(b.Context(), sandbox.EnvironmentSpec{Name: "bench", Limits: sandbox.Limits{Memory: 256 << 20, CPUs: 1, PIDs: 64}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		runTrue(b, e, ref)
	}
	if err := e.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}

func runTrue(b *testing.B, e sandbox.Environment, ref string) {
	c, err := e.Start(b.Context(), sandbox.ContainerSpec{Name: "true", Image: ref, Argv: []string{"/bin/true"}})
	if err != nil {
		b.Fatal(err)
	}
	if st, err := c.Wait(b.Context()); err != nil || !st.OK() {
		b.Fatal(st, err)
	}
}

// warm brings the image and the program to the engine.
func warm(b *testing.B, back *docker.Backend, ref string) {
	e, err := back.Create(b.Context(), sandbox.EnvironmentSpec{Name: "warm"})
	if err != nil {
		b.Fatal(err)
	}
	runTrue(b, e, ref)
	if err := e.Close(context.Background()); err != nil {
		b.Fatal(err)
	}
}
