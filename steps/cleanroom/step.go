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
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/service"
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
	// Policy, beside Limits, bounds what is in force in an environment, which is read
	// back; nil where Backend gives one that is there already, with limits of its own.
	Policy *Policy
	// Toolchain returns the installation of the host for a kind; none is of kind
	// fault.Unavailable, and says what to install.
	Toolchain func(ctx context.Context, kind Kind) (Toolchain, error)
	// Fingerprint changes with every installation of the host that Toolchain may
	// return. It is cheap, and part of the resume key alone. Nil for none.
	Fingerprint func(ctx context.Context) (string, error)
	Imager      Imager
	Package     Package
	// Bases finds the base of the image; may be nil where Package names none.
	Bases Bases
	// Builder builds the Dockerfile that makes the image; may be nil where none does.
	Builder FileBuilder
	// Suites are what is tested; none means what the tree has files of.
	Suites []Suite
	Tests  Tests
	// Network is whom builds and tests reach; empty means NetworkInternal with
	// Services, which NetworkNone excludes, and NetworkNone without.
	Network Network
	// Prepare says how the dependencies of the tree are fetched.
	Prepare Prepare
	// Source, if set, is a directory to build in place of the tree of a state: the
	// first entry of a chain then names its digest.
	Source *Source
	// Shard, if set, is the part of the tests that runs: by Tests.Durations where they
	// are known, else every Count-th unit from the Index-th on, in order. See [Merge].
	Shard *state.Shard
	// Services run beside the tests. They get ready while the code is built.
	Services []service.Spec
	// Templates keeps what services take long to prepare; not needed without Services.
	Templates service.Templates
	// TempDir is where working directories are made; empty means the system's.
	TempDir string
	// Log may be nil.
	Log *slog.Logger
	// Progress receives a line when something takes a while; nil for nobody.
	Progress func(message string)
	// Now is the clock for the dates of the quarantine; nil for the system's.
	Now func() time.Time
}

// Toolchain is an installation of the host, shown to the sandbox read-only.
type Toolchain struct {
	// Root is its directory: GOROOT, the prefix of Python, the sysroot of Rust. What is
	// below /usr every sandbox sees.
	Root string
	// Program is the path of its main program on the host.
	Program string
	// Version is what claims say: "go1.26.0", "node v22.1.0", "python 3.12.1".
	Version  string
	OS, Arch string
	// Target is the platform as a compiler of Rust names it; empty for other kinds.
	Target string
	// Digest names the programs that decide over what a run gives.
	Digest state.Digest
	// Library returns a directory for use as GOCACHE that holds the standard
	// library compiled for env and flags, and whether it was there already. The
	// sandbox sees it through an overlay. Nil for other kinds than Go.
	Library func(ctx context.Context, env, flags []string) (dir string, warm bool, err error)
}

// String names the toolchain in claims: "go1.26.0 linux/amd64".
func (t Toolchain) String() string {
	if t.OS == "" {
		return t.Version
	}
	return t.Version + " " + t.OS + "/" + t.Arch
}

// Imager packages files as an image.
type Imager interface {
	// BuildOn makes an image with a layer for each root, the lowest first, on a base,
	// which is empty if it is zero, and returns its artifacts, the manifest under the
	// name state.ArtifactImage. What cfg leaves empty is as in the base. Equal files
	// and an equal configuration give equal digests.
	BuildOn(ctx context.Context, blobs state.Blobs, base state.BaseImage, roots []fs.FS, cfg state.ImageConfig) ([]state.Artifact, error)
	// Attach keeps content as a referrer of the image, and returns its artifacts.
	Attach(ctx context.Context, blobs state.Blobs, image state.Artifact, name, artifactType string, content []byte) ([]state.Artifact, error)
}

// Phase returns phase.Cleanroom.
func (Step) Phase() phase.Name { return phase.Cleanroom }

// Key returns what the result depends on besides the state: the toolchains, the
// isolation and limits asked for, what is tested how, and how the image is made.
func (s Step) Key(ctx context.Context, _ state.State) (map[string]string, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Source != nil {
		return nil, nil // to read the directory is most of the work of looking
	}
	key := map[string]string{"toolchain": "none", "min-isolation": s.MinIsolation.String()}
	tool, err := s.Toolchain(ctx, Go)
	switch {
	case err == nil:
		key["toolchain"] = tool.String() + " " + string(tool.Digest)
	case fault.KindOf(err) != fault.Unavailable:
		return nil, err
	}
	if s.Fingerprint != nil {
		if key["toolchains"], err = s.Fingerprint(ctx); err != nil {
			return nil, err
		}
	}
	if s.Package.Base != "" && s.Bases != nil {
		ref, err := s.Bases.Resolve(ctx, s.Package.Base)
		if err != nil {
			return nil, err
		}
		key["base"] = string(ref.Digest)
	}
	l := s.limits()
	key["limits"] = fmt.Sprintf("%d %g %d %d %d %s %d", l.Memory, l.CPUs, l.PIDs, l.Disk, l.Files, l.Wall, l.Output)
	if s.Shard != nil {
		key["shard"] = fmt.Sprintf("%d/%d", s.Shard.Index, s.Shard.Count)
	}
	key["registries"] = strings.Join([]string{s.Prepare.GoProxy, s.Prepare.NPMRegistry, s.Prepare.PyPIIndex, s.Prepare.CargoIndex}, " ")
	key["network"] = string(s.Network)
	key["allow"] = strings.Join(s.Prepare.Allow, " ")
	tests := s.Tests
	tests.ResultsDir = ""
	tests.Quarantine, _ = tests.active(s.now())
	for name, v := range map[string]any{"package": s.Package, "suites": s.Suites, "tests": tests} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		key[name] = string(b)
	}
	services, err := s.servicesKey()
	if services != "" {
		key["services"] = services
	}
	return key, err
}

// network returns whom builds and tests reach.
func (s Step) network() Network {
	if s.Network == "" && len(s.Services) > 0 {
		return NetworkInternal
	}
	return s.Network
}

func (s Step) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// check refuses settings that cannot be.
func (s Step) check() error {
	if err := s.Package.check(); err != nil {
		return err
	}
	if err := s.Tests.check(); err != nil {
		return err
	}
	for _, one := range s.Suites {
		if err := one.check(); err != nil {
			return err
		}
	}
	switch {
	case s.Network == NetworkNone && len(s.Services) > 0:
		return fault.New(fault.Usage, "leave out the network mode, or write internal", "tests have services, and network mode none keeps them apart")
	case !slices.Contains([]Network{"", NetworkNone, NetworkInternal, NetworkAllowList}, s.Network):
		return fault.New(fault.Usage, "the modes are none, internal and allow-list", "network %q", s.Network)
	case s.Shard == nil:
		return nil
	case s.Tests.selects():
		return fault.New(fault.Usage, "choose one of the two", "a part of the tests by name and a shard of them")
	}
	return fault.Wrap(s.Shard.Check(), fault.Usage, "write INDEX/COUNT, for example 1/3", "part of the tests")
}

// Run builds, tests and packages the tree of the latest generate entry, or Source.
// Code that does not compile, a failing test and a remark of vet are a fault.Finding
// beside a result whose outcome is Failed and which has no image.
func (s Step) Run(ctx context.Context, in state.State, blobs state.Blobs) (_ state.Result, err error) {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if err := s.check(); err != nil {
		return state.Result{}, err
	}
	t := trial{step: s}
	tree, err := t.findTree(ctx, in, blobs)
	if err != nil {
		return state.Result{}, err
	}
	sandbox.Collect(ctx, s.Backend, s.TempDir, s.Log)
	work, err := unpack(ctx, s.TempDir, blobs, tree)
	if err != nil {
		return state.Result{}, err
	}
	defer func() { err = errors.Join(err, work.remove()) }()
	t.tree, t.work, t.logs = tree.Digest, work, work.logs
	if err := t.equip(ctx, work.tree); err != nil {
		return state.Result{}, err
	}
	if err := t.openResults(); err != nil {
		return state.Result{}, err
	}
	defer t.closeResults()
	if err := t.enter(ctx); err != nil {
		return state.Result{}, err
	}
	defer func() { err = errors.Join(err, t.room.leave(ctx)) }()
	defer t.closeGate()
	if err := t.furnish(ctx); err != nil {
		return state.Result{}, err
	}
	err = t.carryOut(ctx)
	t.closeGate()
	// What ran has ended: the room goes while the results are written.
	go t.room.leave(ctx)
	if kept := t.keepResults(); err != nil || kept != nil {
		return state.Result{}, errors.Join(err, kept)
	}
	return t.result(ctx, blobs)
}

// equip finds the suites of the tree, their toolchains and the program that is built.
func (t *trial) equip(ctx context.Context, tree *os.Root) (err error) {
	if t.suites, err = t.step.suites(tree); err != nil {
		return err
	}
	t.quarantine, t.expired = t.step.Tests.active(t.step.now())
	for _, s := range t.suites {
		if s.tool, err = t.step.toolchain(ctx, s); err != nil {
			return err
		}
		s.results = newResults(s.kind(), "", t.log.add)
	}
	t.packaged = t.suites[0]
	t.program, err = t.packaged.runner.program(tree, t.step.Package, t.packaged.tool)
	if err != nil && t.packaged.kind() == Go && t.step.Tests.selects() {
		t.program, err = program{name: treeName, library: true}, nil // no image is made
	}
	if err != nil {
		return err
	}
	if err := t.findDockerfile(ctx); err != nil {
		return err
	}
	if err := t.checkBase(); err != nil {
		return err
	}
	if t.step.Package.Base != "" {
		if t.baseRef, err = t.step.Bases.Resolve(ctx, t.step.Package.Base); err != nil {
			return fault.Wrap(err, fault.Unavailable, "", "base of the image")
		}
	}
	for _, s := range t.suites {
		if s.kind() == Go && s.dir() == "." {
			if s.results.module, err = modulePath(tree); err != nil {
				return err
			}
		}
	}
	return nil
}

// toolchain returns the installation that a suite uses: an image is one, named by its
// digest.
func (s Step) toolchain(ctx context.Context, one *suite) (Toolchain, error) {
	if one.Image == "" {
		return s.Toolchain(ctx, one.kind())
	}
	_, digest, _ := strings.Cut(one.Image, "@")
	return Toolchain{Version: one.Image, Digest: state.Digest(digest)}, nil
}

// commands are the names of the programs of the kinds in the PATH of an image.
var commands = map[Kind]string{Go: "go", Rust: "cargo", TypeScript: "node", JavaScript: "node", Python: "python3", Bats: "bats", Shell: "sh"}

// furnish brings into the room what is made once for each machine, and starts the
// time that the commands have.
func (t *trial) furnish(ctx context.Context) (err error) {
	for _, s := range t.suites {
		if s.tool.Library == nil {
			continue
		}
		said := t.step.progressLater("standard library of " + s.tool.Version + ", compiled once for each machine")
		s.library, s.warm, err = s.tool.Library(ctx, buildEnv(s.tool), buildFlags)
		if said(); err != nil {
			return err
		}
	}
	if err := t.prepare(ctx); err != nil {
		return err
	}
	if err := t.makeLinks(); err != nil {
		return err
	}
	if err := t.openGate(ctx); err != nil {
		return err
	}
	t.room.open()
	return nil
}

func (s Step) progress(message string) {
	if s.Progress != nil {
		s.Progress(message)
	}
}

// late is when something takes a while.
const late = 300 * time.Millisecond

// progressLater tells a message if what it is about takes a while: until done is called.
func (s Step) progressLater(message string) (done func()) {
	ended, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		select {
		case <-ended:
		case <-time.After(late):
			s.progress(message)
		}
	}()
	return func() {
		close(ended)
		<-told
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
