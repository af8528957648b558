package cleanroom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// buildFlags shape what is compiled. With them and buildEnv the compiled standard
// library fits whatever is built later, so both are used for it too.
var buildFlags = []string{"-trimpath", "-buildvcs=false"}

// buildEnv is what the go command takes its settings from. It is complete: no
// setting of the host gets in, and nothing can be downloaded.
func buildEnv(tool Toolchain) []string {
	return []string{
		"CGO_ENABLED=0", "GOOS=" + tool.OS, "GOARCH=" + tool.Arch, "GOENV=off", "GOFLAGS=", "GOWORK=off",
		"GOTOOLCHAIN=local", "GOPROXY=off", "GOSUMDB=off", "GOVCS=*:off",
	}
}

// steady makes what tests see the same everywhere (https://reproducible-builds.org/specs/source-date-epoch).
var steady = []string{"TZ=UTC", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=0"}

// leaveTimeout bounds how long an environment may take to end.
const leaveTimeout = 30 * time.Second

// room is the sandbox of one run with what is mounted in it.
type room struct {
	env  sandbox.Environment
	tool Toolchain
	// treeRoot and outRoot are the host's side of the tree and of what was built.
	treeRoot, outRoot *os.Root
	limits            sandbox.Limits
	// deadline is when the time of all commands together is over.
	deadline time.Time
	// warm reports that the standard library was compiled before this run.
	warm                           bool
	tree, goroot, cache, out, temp sandbox.Mount
}

// enter makes the environment in which everything of the tree runs. That comes
// first: a machine that refuses it says so at once, and not after the minute that
// compiling the standard library may take.
func (s Step) enter(ctx context.Context, work *workspace, tool Toolchain) (*room, error) {
	env, err := s.Backend.Create(ctx, sandbox.EnvironmentSpec{Name: work.name, MinIsolation: s.MinIsolation, Limits: s.limits()})
	if err != nil {
		return nil, err
	}
	r := &room{env: env, tool: tool, treeRoot: work.tree, outRoot: work.out, limits: s.limits()}
	if err := s.furnish(ctx, r, work); err != nil {
		return nil, errors.Join(err, r.leave(ctx))
	}
	return r, nil
}

// furnish checks what the back end gave and says what is mounted in it.
func (s Step) furnish(ctx context.Context, r *room, work *workspace) error {
	if got := r.env.Effective().Level; got < s.MinIsolation {
		// A back end that breaks its contract must not decide over the host.
		return fault.New(fault.Internal, "", "back end %s gave isolation %s where %s was asked for", s.Backend.Name(), got, s.MinIsolation)
	}
	s.progress("standard library of " + r.tool.Version + ", compiled once for each machine")
	library, warm, err := r.tool.Library(ctx, buildEnv(r.tool), buildFlags)
	if err != nil {
		return err
	}
	r.warm = warm
	r.tree = sandbox.Mount{Kind: sandbox.ReadOnly, Source: work.tree.Name(), Target: "/src"}
	r.goroot = sandbox.Mount{Kind: sandbox.ReadOnly, Source: r.tool.Root, Target: filepath.ToSlash(r.tool.Root)}
	r.cache = sandbox.Mount{Kind: sandbox.Overlay, Source: library, Target: "/gocache"}
	r.out = sandbox.Mount{Kind: sandbox.ReadWrite, Source: work.out.Name(), Target: "/out"}
	r.temp = sandbox.Mount{Kind: sandbox.Scratch, Target: "/work"}
	r.deadline = time.Now().Add(r.limits.Wall)
	return nil
}

// left returns how long a command that starts now may run. It is never zero, which
// would stand for the back end's default.
func (r *room) left() time.Duration { return max(time.Until(r.deadline), time.Millisecond) }

// leave ends everything in the room, also when ctx was cancelled.
func (r *room) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	return r.env.Close(ctx)
}

// goCommand runs the go command with args in the tree and waits for its end.
// Extra mounts come beside the tree, the toolchain, the cache and scratch space.
func (r *room) goCommand(ctx context.Context, name string, stdout, stderr io.Writer, extra []sandbox.Mount, args ...string) (sandbox.ExitStatus, error) {
	at := func(m sandbox.Mount) string { return r.env.Path(name, m) }
	goroot, temp := at(r.goroot), at(r.temp)
	env := append(buildEnv(r.tool), steady...)
	env = append(env,
		"GOROOT="+goroot, "GOCACHE="+at(r.cache), "GOPATH="+path.Join(temp, "gopath"),
		"HOME="+temp, "TMPDIR="+temp, "GOTMPDIR="+temp, "PATH="+path.Join(goroot, "bin")+":/usr/bin:/bin",
	)
	limits := r.limits
	limits.Wall = r.left()
	container, err := r.env.Start(ctx, sandbox.ContainerSpec{
		Name: name, Argv: append([]string{path.Join(goroot, "bin", "go")}, args...), Env: env, Dir: at(r.tree),
		Mounts: append([]sandbox.Mount{r.tree, r.goroot, r.cache, r.temp}, extra...),
		Stdout: stdout, Stderr: stderr, Limits: limits,
	})
	if err != nil {
		return sandbox.ExitStatus{}, fault.Wrap(err, fault.Unavailable, "", "start go "+args[0])
	}
	status, err := container.Wait(ctx)
	if err != nil {
		return status, fault.Wrap(errors.Join(err, container.Kill(context.WithoutCancel(ctx))), fault.Unavailable, "", "wait for go "+args[0])
	}
	return status, nil
}

// within returns the path of the tree as the container called name sees it, with
// a slash at its end.
func (r *room) within(name string) string {
	return strings.TrimSuffix(r.env.Path(name, r.tree), "/") + "/"
}

// facts returns what is in force in the room, for the evidence.
func (r *room) facts() map[string]string {
	effective := r.env.Effective()
	facts := map[string]string{
		"isolation.level":  effective.Level.String(),
		"tool.go":          r.tool.Version,
		"toolchain.digest": string(r.tool.Digest),
		"cache.std":        map[bool]string{true: "warm", false: "cold"}[r.warm],
	}
	if len(effective.Why) > 0 {
		facts["isolation.why"] = strings.Join(effective.Why, "; ")
	}
	for _, e := range effective.Enforced {
		facts["enforced."+e.Name] = fmt.Sprintf("%s (%s)", e.Value, e.By)
	}
	return facts
}
