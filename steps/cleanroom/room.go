package cleanroom

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// exitStatus is that of the contract; a file has one word for it.
type exitStatus = sandbox.ExitStatus

// steady makes what tests see the same everywhere: time zone, language, the time of
// builds (https://reproducible-builds.org/specs/source-date-epoch), and the order of
// sets in Python. A process's own clock is not stopped.
var steady = []string{"TZ=UTC", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=0", "PYTHONHASHSEED=0"}

// leaveTimeout bounds how long an environment may take to end.
const leaveTimeout = 30 * time.Second

// room is the sandbox of one run with what is mounted in it. It has one environment:
// services that tests need are containers of it beside those of the tests, and their
// names resolve in containers that start later.
type room struct {
	env sandbox.Environment
	// effective is what was in force from the beginning.
	effective sandbox.Effective
	// treeRoot and outRoot are the host's side of the tree and of what was built.
	treeRoot, outRoot *os.Root
	limits            sandbox.Limits
	// deadline is when the time of all commands together is over.
	deadline time.Time
	// tree is mounted for every command, out for those that build or use what was
	// built, temp is empty for each.
	tree, out, temp sandbox.Mount

	leaving sync.Once
	closed  error
}

// enter makes the environment in which everything of the tree runs. That comes
// first: a machine that refuses it says so at once, and not after the minute that
// compiling the standard library may take.
func (t *trial) enter(ctx context.Context) error {
	env, err := t.step.Backend.Create(ctx, sandbox.EnvironmentSpec{Name: t.work.name, MinIsolation: t.step.MinIsolation, Limits: t.step.limits(), Network: t.step.network().mode()})
	if err != nil {
		return err
	}
	t.room = t.newRoom(env)
	t.step.Log.DebugContext(ctx, "environment made", "name", env.Name(), "level", env.Effective().Level.String())
	notes, err := t.step.verify(env)
	if err != nil {
		return errors.Join(err, t.room.leave(ctx))
	}
	for _, note := range notes {
		t.step.Log.WarnContext(ctx, "clean room", "note", note)
	}
	return nil
}

// verify refuses an environment in which less is in force than was asked for: a back end
// that breaks its contract must not decide over the host.
func (s Step) verify(env sandbox.Environment) (notes []string, err error) {
	effective := env.Effective()
	if effective.Level < s.MinIsolation {
		return nil, fault.New(fault.Internal, "", "back end %s gave isolation %s where %s was asked for", s.Backend.Name(), effective.Level, s.MinIsolation)
	}
	if s.Policy == nil {
		return nil, nil
	}
	notes, err = s.Policy.Verify(s.MinIsolation, s.limits(), effective)
	return notes, fault.Wrap(err, fault.Unavailable, "", "environment of back end "+s.Backend.Name())
}

// newRoom says what is mounted in an environment.
func (t *trial) newRoom(env sandbox.Environment) *room {
	return &room{
		env: env, effective: env.Effective(), treeRoot: t.work.tree, outRoot: t.work.out, limits: t.step.limits(),
		tree: sandbox.Mount{Kind: sandbox.ReadOnly, Source: t.work.tree.Name(), Target: "/src"},
		out:  sandbox.Mount{Kind: sandbox.ReadWrite, Source: t.work.out.Name(), Target: "/out"},
		temp: sandbox.Mount{Kind: sandbox.Scratch, Target: "/work"},
	}
}

// open starts the time that all commands together have.
func (r *room) open() { r.deadline = time.Now().Add(r.limits.Wall) }

// left returns how long a command that starts now may run. It is never zero, which
// would stand for the back end's default.
func (r *room) left() time.Duration { return max(time.Until(r.deadline), time.Millisecond) }

// leave ends everything in the room, also when ctx was cancelled. Who calls it again
// waits, and gets the same answer.
func (r *room) leave(ctx context.Context) error {
	r.leaving.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		r.closed = r.env.Close(ctx)
	})
	return r.closed
}

// command is one process in the room. The paths in it are those that the container
// called name sees; see [room.at].
type command struct {
	// name is that of the container; what is for people calls the command title.
	name, title string
	argv        []string
	// env comes after steady; HOME and TMPDIR are scratch space.
	env []string
	// dir is below the root of the tree; cwd, if set, is where else it runs.
	dir, cwd string
	mounts   []sandbox.Mount
	// image is used in place of the host's files; empty for none.
	image string
	// wall bounds the time; zero means what is left.
	wall           time.Duration
	stdout, stderr io.Writer
	// secrets are hidden in both.
	secrets [][]byte
}

// at returns the path of a mount as the container called name sees it.
func (r *room) at(name string, m sandbox.Mount) string { return r.env.Path(name, m) }

// run runs a command with the tree and scratch space mounted, and waits for its end.
// The end of ctx ends its whole tree of processes.
func (r *room) run(ctx context.Context, c command) (exitStatus, error) {
	temp := r.at(c.name, r.temp)
	limits := r.limits
	if limits.Wall = r.left(); c.wall > 0 {
		limits.Wall = min(limits.Wall, c.wall)
	}
	c, flush := c.redacted()
	defer flush()
	env := append(append([]string{}, steady...), "HOME="+temp, "TMPDIR="+temp)
	container, err := r.env.Start(ctx, sandbox.ContainerSpec{
		Name: c.name, Argv: c.argv, Env: lastOfEach(append(env, c.env...)), Image: c.image,
		Dir:    cmp.Or(c.cwd, path.Join(r.at(c.name, r.tree), c.dir)),
		Mounts: append([]sandbox.Mount{r.tree, r.temp}, c.mounts...),
		Stdout: c.stdout, Stderr: c.stderr, Limits: limits,
	})
	if err != nil {
		return exitStatus{}, fault.Wrap(err, fault.Unavailable, "", "start "+c.title)
	}
	status, err := container.Wait(ctx)
	if err != nil {
		return status, fault.Wrap(errors.Join(err, container.Kill(context.WithoutCancel(ctx))), fault.Unavailable, "", "wait for "+c.title)
	}
	return status, nil
}

// redacted returns the command with its secrets hidden in its output, and what is to be
// called when it has ended. The writers of this package do not fail.
func (c command) redacted() (_ command, flush func()) {
	if len(c.secrets) == 0 {
		return c, func() {}
	}
	out, errs := &redactor{to: c.stdout, secrets: c.secrets}, &redactor{to: c.stderr, secrets: c.secrets}
	c.stdout, c.stderr = out, errs
	return c, func() {
		_, _ = out.flush(), errs.flush()
	}
}

// lastOfEach returns the variables, of those with one name the last: of two, programs
// take the first or the last, as they like.
func lastOfEach(env []string) []string {
	seen := map[string]bool{}
	var kept []string
	for _, v := range slices.Backward(env) {
		name, _, _ := strings.Cut(v, "=")
		if !seen[name] {
			seen[name] = true
			kept = append(kept, v)
		}
	}
	slices.Reverse(kept)
	return kept
}

// within returns the path of the tree as the container called name sees it, with
// a slash at its end.
func (r *room) within(name string) string {
	return strings.TrimSuffix(r.env.Path(name, r.tree), "/") + "/"
}

// hostMount shows the installation to the sandbox; ok is false where the minimal root
// shows it already, since it is a part of the host's /usr.
func (t Toolchain) hostMount() (m sandbox.Mount, ok bool) {
	root := filepath.ToSlash(t.Root)
	if root == "" || root == "/usr" || strings.HasPrefix(root, "/usr/") && t.Library == nil {
		return sandbox.Mount{}, false
	}
	return sandbox.Mount{Kind: sandbox.ReadOnly, Source: t.Root, Target: root}, true
}

// program returns the path of the suite's program, and the mounts that it needs, as
// the container called name sees them. In an image it is a name in its PATH.
func (r *room) program(name string, s *suite) (string, []sandbox.Mount) {
	if s.Image != "" {
		return commands[s.kind()], nil
	}
	m, ok := s.tool.hostMount()
	if !ok {
		return filepath.ToSlash(s.tool.Program), nil
	}
	rel, err := filepath.Rel(s.tool.Root, s.tool.Program)
	if err != nil {
		return filepath.ToSlash(s.tool.Program), []sandbox.Mount{m}
	}
	return path.Join(r.at(name, m), filepath.ToSlash(rel)), []sandbox.Mount{m}
}

// facts returns what is in force in the room, for the evidence.
func (r *room) facts() map[string]string {
	facts := map[string]string{"isolation.level": r.effective.Level.String()}
	if len(r.effective.Why) > 0 {
		facts["isolation.why"] = strings.Join(r.effective.Why, "; ")
	}
	for _, e := range r.effective.Enforced {
		facts["enforced."+e.Name] = fmt.Sprintf("%s (%s)", e.Value, e.By)
	}
	return facts
}
