// Package cleanroom builds a source tree, runs its tests and packages what was
// tested, all in a sandbox without a network.
//
// The tree comes from the state, the sandbox, the toolchain and the image builder
// are handed in. A [Step] claims which tree was built, which tests ran and how
// they ended, and the digest of the image; how long it took, on what back end and
// behind which walls is evidence. It never runs code of the tree outside the
// sandbox, never lowers the isolation that was asked for, and makes no image of a
// tree whose tests failed.
package cleanroom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// DefaultLimits are used for every field of [Step.Limits] that is zero. They fit
// a Go build of a service with a few hundred packages.
var DefaultLimits = sandbox.Limits{
	Memory: 2 << 30, CPUs: 2, PIDs: 512, Disk: 2 << 30, Files: 4096, Wall: 5 * time.Minute, Output: 32 << 20,
}

// DefaultUser owns the service's process in the image: nobody, in numbers, so
// that an image without /etc/passwd has a user too.
const DefaultUser = "65532:65532"

// Step is the cleanroom-test phase.
type Step struct {
	Backend sandbox.Backend
	// MinIsolation is the weakest isolation that is accepted.
	MinIsolation sandbox.Level
	// Limits bound each command of the phase, but Wall all of them together; see
	// [DefaultLimits].
	Limits sandbox.Limits
	// Toolchain returns the Go installation of the host.
	Toolchain func(ctx context.Context) (Toolchain, error)
	Imager    Imager
	Package   Package
	// Shard, if set, is the part of the tests that runs: every Count-th package from
	// the Index-th on, in the order of import paths. See [Merge].
	Shard *state.Shard
	// TempDir is where working directories are made; empty means the system's.
	TempDir string
	// Log may be nil.
	Log *slog.Logger
	// Progress receives a line when something takes a while; nil for nobody.
	Progress func(message string)
}

// Toolchain is a Go installation of the host, shown to the sandbox read-only.
type Toolchain struct {
	// Root is its GOROOT, Version as in `go env GOVERSION`.
	Root, Version string
	OS, Arch      string
	Digest        state.Digest
	// Library returns a directory for use as GOCACHE that holds the standard
	// library compiled for env and flags, and whether it was there already. The
	// sandbox sees it through an overlay.
	Library func(ctx context.Context, env, flags []string) (dir string, warm bool, err error)
}

// String names the toolchain in claims: "go1.26.0 linux/amd64".
func (t Toolchain) String() string { return t.Version + " " + t.OS + "/" + t.Arch }

// Imager packages files as an image.
type Imager interface {
	// Build makes an image with one layer on an empty base and returns its
	// artifacts, the manifest under the name state.ArtifactImage. Equal files
	// and an equal configuration give equal digests.
	Build(ctx context.Context, blobs state.Blobs, root fs.FS, cfg state.ImageConfig) ([]state.Artifact, error)
}

// Phase returns phase.Cleanroom.
func (Step) Phase() phase.Name { return phase.Cleanroom }

// Key returns what the result depends on besides the state: the toolchain, the
// isolation and limits asked for, and how the image is made.
func (s Step) Key(ctx context.Context, _ state.State) (map[string]string, error) {
	if err := s.Package.check(); err != nil {
		return nil, err
	}
	tool, err := s.Toolchain(ctx)
	if err != nil {
		return nil, err
	}
	image, err := json.Marshal(s.Package)
	if err != nil {
		return nil, err
	}
	l := s.limits()
	shard := ""
	if s.Shard != nil {
		shard = fmt.Sprintf("%d/%d", s.Shard.Index, s.Shard.Count)
	}
	return map[string]string{
		"shard":         shard,
		"toolchain":     tool.String() + " " + string(tool.Digest),
		"min-isolation": s.MinIsolation.String(),
		"limits":        fmt.Sprintf("%d %g %d %d %d %s %d", l.Memory, l.CPUs, l.PIDs, l.Disk, l.Files, l.Wall, l.Output),
		"package":       string(image),
	}, nil
}

// Run builds, tests and packages the tree of the latest generate entry. Code that
// does not compile, a failing test and a remark of vet are a fault.Finding beside
// a result whose outcome is Failed and which has no image.
func (s Step) Run(ctx context.Context, in state.State, blobs state.Blobs) (_ state.Result, err error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if err := s.Package.check(); err != nil {
		return state.Result{}, err
	}
	if s.Shard != nil {
		if err := s.Shard.Check(); err != nil {
			return state.Result{}, fault.Wrap(err, fault.Usage, "write INDEX/COUNT, for example 1/3", "part of the tests")
		}
	}
	tree, seed, err := source(in)
	if err != nil {
		return state.Result{}, err
	}
	sandbox.Collect(ctx, s.Backend, s.TempDir, s.Log)
	tool, err := s.Toolchain(ctx)
	if err != nil {
		return state.Result{}, err
	}
	work, err := unpack(ctx, s.TempDir, blobs, tree)
	if err != nil {
		return state.Result{}, err
	}
	defer func() { err = errors.Join(err, work.remove()) }()
	prog, err := findProgram(work.tree, s.Package, tool)
	if err != nil {
		return state.Result{}, err
	}
	room, err := s.enter(ctx, work, tool)
	if err != nil {
		return state.Result{}, err
	}
	defer func() { err = errors.Join(err, room.leave(ctx)) }()

	t := trial{step: s, room: room, program: prog, seed: seed, tree: tree.Digest}
	if err := t.carryOut(ctx); err != nil {
		return state.Result{}, err
	}
	return t.result(ctx, blobs)
}

func (s Step) progress(message string) {
	if s.Progress != nil {
		s.Progress(message)
	}
}

func (s Step) limits() sandbox.Limits {
	l := s.Limits
	for _, field := range []struct {
		unset bool
		set   func()
	}{
		{l.Memory == 0, func() { l.Memory = DefaultLimits.Memory }},
		{l.CPUs == 0, func() { l.CPUs = DefaultLimits.CPUs }},
		{l.PIDs == 0, func() { l.PIDs = DefaultLimits.PIDs }},
		{l.Disk == 0, func() { l.Disk = DefaultLimits.Disk }},
		{l.Files == 0, func() { l.Files = DefaultLimits.Files }},
		{l.Wall == 0, func() { l.Wall = DefaultLimits.Wall }},
		{l.Output == 0, func() { l.Output = DefaultLimits.Output }},
	} {
		if field.unset {
			field.set()
		}
	}
	return l
}

// source returns the tree to build and the seed of its generation.
func source(in state.State) (tree state.Artifact, seed uint64, err error) {
	const hint = "run `generate` first and hand on its state"
	link, ok := in.Last(phase.Generate)
	if !ok {
		return tree, 0, fault.New(fault.Usage, hint, "the state has no generate entry, so no tree to build")
	}
	if link.Entry.Outcome != state.Passed {
		return tree, 0, fault.New(fault.Finding, hint, "the generate entry %s did not pass", link.Digest.Short())
	}
	tree, ok = link.Entry.Artifact(state.ArtifactTree)
	if !ok || tree.MediaType != state.MediaTypeTree {
		return tree, 0, fault.New(fault.Finding, hint, "the generate entry %s has no artifact %q of type %s", link.Digest.Short(), state.ArtifactTree, state.MediaTypeTree)
	}
	return tree, link.Entry.Generate.Seed, nil
}
