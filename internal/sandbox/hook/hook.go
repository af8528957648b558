// Package hook runs one command over a tree of files in a sandbox and returns the
// tree that the command left.
//
// The tree goes in and comes back as an archive, through pipes: nothing of the host
// is writable inside, and a run that is killed leaves no directory behind. Inside, the
// tree is in memory of the sandbox, whose limits bound it. The program's own
// executable, started again there by [Runner.Run], unpacks the tree, runs the command
// and packs what is there then; main must call [Reexec] for that.
//
//	r := &hook.Runner{Backend: embedded.New(…), MinIsolation: sandbox.Full}
//	left, facts, err := r.Run(ctx, []string{"gofmt", "-w", "main.go"}, archive)
package hook

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// DefaultLimits bound one command and what it starts together (rows S-06 to S-09 of
// the features). Disk bounds the tree, Output its archive and what is printed.
var DefaultLimits = sandbox.Limits{
	Memory: 256 << 20, CPUs: 1, PIDs: 256, Disk: 100 << 20, Files: 1024, Wall: 30 * time.Second, Output: 128 << 20,
}

const (
	// maxSaid bounds what is quoted of the output of a command that failed, in bytes.
	maxSaid = 2 << 10
	// leaveTimeout bounds how long an environment may take to end.
	leaveTimeout = 30 * time.Second
	// defaultPath is where commands are looked up, of what the sandbox shows of the host.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// Runner runs commands, each in an environment of its own.
type Runner struct {
	Backend sandbox.Backend
	// MinIsolation is the weakest isolation that is accepted.
	MinIsolation sandbox.Level
	// Limits are those of each command; the zero value stands for [DefaultLimits].
	Limits sandbox.Limits
	// Path is where commands are looked up; empty means [usual directories] of the host.
	//
	// [usual directories]: https://refspecs.linuxfoundation.org/FHS_3.0/fhs/ch04.html
	Path string
	// Log may be nil.
	Log *slog.Logger

	collect sync.Once
}

// Run runs argv in the root of a copy of the tree that archive holds, and returns the
// archive of the tree that it left, which was made by a stranger: whoever unpacks it
// checks it. Facts say behind which walls. A command that fails, that takes more
// than its limits, or that leaves what is not a file or a folder is fault.Finding with
// the end of what it printed; a machine that refuses the isolation is
// fault.Unavailable.
func (r *Runner) Run(ctx context.Context, argv []string, archive []byte) (left []byte, facts map[string]string, err error) {
	if !hooked.Load() {
		return nil, nil, fault.New(fault.Internal, "", "main does not call hook.Reexec")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fault.Wrap(err, fault.Unavailable, "", "find this program's file")
	}
	r.collect.Do(func() { sandbox.Collect(ctx, r.Backend, "", r.log()) })
	env, err := r.Backend.Create(ctx, sandbox.EnvironmentSpec{
		Name: "generate-" + strings.ToLower(rand.Text()), MinIsolation: r.MinIsolation, Limits: r.limits(), Network: sandbox.NetworkNone,
	})
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer cancel()
		err = errors.Join(err, env.Close(ctx))
	}()
	effective := env.Effective()
	if effective.Level < r.MinIsolation {
		// A back end that breaks its contract must not decide over the host.
		return nil, nil, fault.New(fault.Internal, "", "back end %s gave isolation %s where %s was asked for", r.Backend.Name(), effective.Level, r.MinIsolation)
	}
	left, err = r.run(ctx, env, self, argv, archive)
	return left, factsOf(effective), err
}

func (r *Runner) run(ctx context.Context, env sandbox.Environment, self string, argv []string, archive []byte) ([]byte, error) {
	const name = "hook"
	limits := r.limits()
	program := sandbox.Mount{Kind: sandbox.ReadOnly, Source: self, Target: "/ultrafast"}
	tree := sandbox.Mount{Kind: sandbox.Scratch, Target: "/tree", Size: limits.Disk}
	temp := sandbox.Mount{Kind: sandbox.Scratch, Target: "/tmp"}
	dir, home := env.Path(name, tree), env.Path(name, temp)
	left := &bounded{most: limits.Output}
	said := &tail{most: maxSaid}
	container, err := env.Start(ctx, sandbox.ContainerSpec{
		Name: name, Argv: append([]string{env.Path(name, program), agentWord, dir}, argv...), Dir: dir,
		Env: []string{
			"PATH=" + r.path(), "HOME=" + home, "TMPDIR=" + home, "XDG_CACHE_HOME=" + path.Join(home, "cache"),
			"TZ=UTC", "LANG=C.UTF-8", "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=0", // what tools print should not differ
		},
		Mounts: []sandbox.Mount{program, tree}, Stdin: bytes.NewReader(archive), Stdout: left, Stderr: said, Limits: limits,
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "start "+argv[0])
	}
	status, err := container.Wait(ctx)
	if err != nil {
		return nil, fault.Wrap(errors.Join(err, container.Kill(context.WithoutCancel(ctx))), fault.Unavailable, "", "wait for "+argv[0])
	}
	if !status.OK() {
		return nil, failed(status, limits, said.String())
	}
	return left.Bytes(), nil
}

func (r *Runner) limits() sandbox.Limits {
	if r.Limits == (sandbox.Limits{}) {
		return DefaultLimits
	}
	return r.Limits
}

func (r *Runner) log() *slog.Logger {
	if r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Log
}

func (r *Runner) path() string {
	if r.Path == "" {
		return defaultPath
	}
	return r.Path
}

// failed says how a command ended and what it printed last.
func failed(status sandbox.ExitStatus, limits sandbox.Limits, said string) error {
	hint := "correct the command, or leave it out"
	switch {
	case status.TimedOut, status.OOM, status.OutputLimit:
		hint = fmt.Sprintf("a command may take %s, %d MB of memory, and %d MB for the tree", limits.Wall, limits.Memory>>20, limits.Disk>>20)
	case status.Code == codeNotFound:
		hint = "install the command below /usr, or leave it out"
	}
	if said = strings.TrimSpace(strings.ToValidUTF8(said, "\uFFFD")); said != "" {
		said = ":\n" + said
	}
	return fault.New(fault.Finding, hint, "%s%s", status, said)
}

// factsOf says what was in force, for the evidence.
func factsOf(e sandbox.Effective) map[string]string {
	facts := map[string]string{"hooks.isolation.level": e.Level.String()}
	if len(e.Why) > 0 {
		facts["hooks.isolation.why"] = strings.Join(e.Why, "; ")
	}
	for _, f := range e.Enforced {
		facts["hooks.enforced."+f.Name] = fmt.Sprintf("%s (%s)", f.Value, f.By)
	}
	return facts
}

// bounded keeps at most most bytes and refuses the rest.
type bounded struct {
	bytes.Buffer
	most int64
}

// Write implements [io.Writer].
func (b *bounded) Write(p []byte) (int, error) {
	if int64(b.Len()+len(p)) > b.most {
		return 0, io.ErrShortWrite
	}
	return b.Buffer.Write(p)
}

// tail keeps the last most bytes.
type tail struct {
	b    []byte
	most int
}

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if extra := len(t.b) - t.most; extra > 0 {
		t.b = append(t.b[:0], t.b[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b) }
