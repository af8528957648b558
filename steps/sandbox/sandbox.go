// Package sandbox is the contract between a phase that runs code and the back
// end that isolates it.
//
// A [Backend] creates environments; an [Environment] is a private network with
// limits in which containers run; a [Container] is one isolated process tree.
// Back ends report what is in force, read back from the kernel or the engine,
// and never weaken what was asked for in silence. The package declares; it
// isolates nothing itself. Back ends prove themselves with package sandboxtest.
package sandbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Level is a degree of isolation. Higher is stronger.
type Level int

const (
	// None isolates nothing: processes run as the caller, with deadlines only.
	None Level = iota
	// Reduced restricts files by Landlock and resources by rlimits; the network
	// and other processes are visible.
	Reduced
	// Full has private namespaces, a seccomp filter, no capabilities, no new
	// privileges, and limits by cgroup, or by rlimits and deadlines where no
	// cgroup can be written.
	Full
)

// String returns "none", "reduced" or "full".
func (l Level) String() string { return [...]string{"none", "reduced", "full"}[l] }

// ParseLevel returns the level called s.
func ParseLevel(s string) (Level, error) {
	for _, l := range []Level{None, Reduced, Full} {
		if l.String() == s {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unknown isolation level %q: the levels are full, reduced, none", s)
}

// MarshalText returns [Level.String].
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalJSON reads the name of a level, or its number, which the journals of earlier
// versions have.
func (l *Level) UnmarshalJSON(b []byte) error {
	var number int
	if json.Unmarshal(b, &number) == nil {
		if number < int(None) || number > int(Full) {
			return fmt.Errorf("isolation level %d: the levels are 0 to %d", number, Full)
		}
		*l = Level(number)
		return nil
	}
	var name string
	if err := json.Unmarshal(b, &name); err != nil {
		return err
	}
	read, err := ParseLevel(name)
	if err == nil {
		*l = read
	}
	return err
}

// Backend creates, lists and deletes environments.
type Backend interface {
	// Name is "embedded", "docker", …
	Name() string
	// Probe reports what the back end can do here, without creating anything
	// that outlives the call.
	Probe(ctx context.Context) (Capabilities, error)
	// Create makes an environment with at least spec.MinIsolation, or fails with
	// fault.Unavailable naming each thing that was refused and how to go on.
	Create(ctx context.Context, spec EnvironmentSpec) (Environment, error)
	// List returns the environments of this back end that exist, sorted by name.
	List(ctx context.Context) ([]Info, error)
	// Delete removes the environment called name and all it holds, also one
	// whose creator was killed. An unknown name is fault.Finding.
	Delete(ctx context.Context, name string) error
}

// MakerOf names the back end that made an environment in this process: b, or the one that
// b chose, if it has a method Used to tell.
func MakerOf(b Backend, environment string) string {
	if of, ok := b.(interface {
		Used(environment string) string
	}); ok {
		return cmp.Or(of.Used(environment), b.Name())
	}
	return b.Name()
}

// Collector is a back end that can remove what killed creators left behind.
type Collector interface {
	// GC returns the names of the environments that it removed. Living ones it
	// leaves alone.
	GC(ctx context.Context) (removed []string, err error)
}

// WorkPrefixes begin the names of the working directories that phases make, each
// with the name of the environment that it is for.
var WorkPrefixes = []string{"cleanroom-", "validate-"}

// Collect has a back end that is a [Collector] remove what runs that were killed left
// behind, removes the working directories of those runs below temp (empty: the
// system's), and tells the log. What cannot be removed is no reason not to run.
func Collect(ctx context.Context, back Backend, temp string, log *slog.Logger) {
	c, ok := back.(Collector)
	if !ok {
		return
	}
	removed, err := c.GC(ctx)
	if temp == "" {
		temp = os.TempDir()
	}
	for _, name := range removed {
		work := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		if slices.ContainsFunc(WorkPrefixes, work) && name == filepath.Base(name) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(temp, name)))
		}
	}
	if len(removed) == 0 && fault.KindOf(err) == fault.Unavailable {
		log.DebugContext(ctx, "environments of killed runs are not looked for", "error", err)
		return // whoever makes an environment next says that, and what to do
	}
	if err != nil || len(removed) > 0 {
		log.WarnContext(ctx, "environments of killed runs", "removed", removed, "error", err)
	}
}

// Capabilities say what a back end can do on this machine.
type Capabilities struct {
	// Level is the highest level that can be reached.
	Level Level
	// Refused names, for each level above Level, what the kernel or the engine
	// refused, in words that a person can act on.
	Refused []string
	// Notes are facts for the evidence: kernel, cgroup version, user namespace.
	Notes map[string]string
}

// Info describes an existing environment.
type Info struct {
	Name    string
	Backend string
	Level   Level
	Created time.Time
	// Alive reports whether its supervisor answers.
	Alive bool
}

// EnvironmentSpec asks for an environment.
type EnvironmentSpec struct {
	// Name is unique among the environments of the back end: letters, digits,
	// hyphens, at most 63.
	Name string
	// MinIsolation is the weakest acceptable level.
	MinIsolation Level
	// Limits bound all that runs in the environment together.
	Limits Limits
	// Network says whom containers reach; empty means [NetworkInternal].
	Network Network
	// Hosts are names that resolve inside, to addresses inside; nil for none.
	Hosts map[string]string
}

// Network says whom the containers of an environment reach. No mode reaches the
// host's network: an allow-list of hosts outside is [NetworkInternal] with a
// forward proxy of the caller's, which listens by [Environment.Listen].
type Network string

const (
	// NetworkInternal lets the containers of an environment reach each other, and
	// nothing else.
	NetworkInternal Network = "internal"
	// NetworkNone leaves every container alone with a loopback interface of its own.
	// Dial and Listen are refused with fault.Usage.
	NetworkNone Network = "none"
)

// Limits bound resources. Zero means the back end's default for that field,
// never "unlimited".
type Limits struct {
	Memory int64         // bytes, swap included
	CPUs   float64       // processors' worth of time
	PIDs   int           // processes and threads
	Disk   int64         // bytes of writable temporary space
	Files  int           // open files per process
	Wall   time.Duration // wall-clock time of one container
	Output int64         // bytes of stdout plus stderr kept; more is an error of the container
}

// Enforcement says how one limit or protection is enforced.
type Enforcement struct {
	// Name is "memory", "pids", "network", "seccomp", …
	Name string `json:"name"`
	// Value is the value in force, read back where it can be.
	Value string `json:"value"`
	// By is the mechanism: "cgroup v1", "rlimit", "namespace", "deadline"; or
	// "not enforced", with the reason in Value.
	By string `json:"by"`
}

// Effective is what is in force in an environment.
type Effective struct {
	Level Level `json:"level"`
	// Why says why the level is not Full; empty if it is.
	Why []string `json:"why,omitempty"`
	// Enforced is sorted by name.
	Enforced []Enforcement `json:"enforced"`
}

// Environment is a private place in which containers run.
type Environment interface {
	Name() string
	Effective() Effective
	// Path returns the path at which the process of a container named container
	// sees the mount target: target itself at level Full, a host path below the
	// environment's own directory, or the mount's source, at weaker levels.
	// Argv, Env and Dir of a spec are built with it.
	Path(container string, m Mount) string
	// Port returns a TCP port on which nothing listens inside: preferred where
	// the network is private, a free one of the host where it is shared.
	Port(preferred int) (int, error)
	// Start starts a container and returns once its process runs.
	Start(ctx context.Context, spec ContainerSpec) (Container, error)
	// Dial connects to an address inside the environment's network, as a probe
	// or a load generator does. At level None it is the host's loopback.
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	// Listen opens a TCP port for connections from the containers, as a forward
	// proxy needs it. Addr of the listener is an address that they can dial; the
	// caller accepts, outside. Close of the environment closes it. A back end
	// whose engine is on another machine may answer fault.Unavailable.
	Listen(ctx context.Context) (net.Listener, error)
	// Close stops every container and frees everything. It works after ctx of
	// Create is cancelled and may be called more than once.
	Close(ctx context.Context) error
}

// ContainerSpec asks for one isolated process.
type ContainerSpec struct {
	// Name is unique within the environment, and is the host name inside.
	Name string
	// Root is a directory that becomes the read-only root; empty means a minimal
	// root that holds the host's /usr (and what links into it) read-only. A back end
	// without access to the host's files needs Image instead, and says so.
	Root string
	// Image is an image whose files become the read-only root, in place of Root: a
	// reference by digest, "name@sha256:…", that the back end's image source knows.
	// Its configuration gives what the specification leaves out: command, working
	// directory and user; its environment comes before Env. Every volume that it
	// declares is a [Scratch] mount unless Mounts has that target.
	Image string
	// Argv is the command and its arguments; a name without "/" is looked up in
	// PATH. Empty means the entrypoint of the image, followed by Args or, without
	// any, by the image's command.
	Argv []string
	// Args follow the entrypoint of the image. Not with Argv.
	Args []string
	// Env is the whole environment, "KEY=value"; see Image.
	Env []string
	// Dir is the working directory inside; empty means that of the image, or "/".
	Dir string
	// UID and GID inside; zero means the user of the image if that is not root, and
	// 65534, nobody, otherwise: nothing runs as root inside.
	UID, GID int
	// Aliases are more names by which other containers of the environment reach
	// this one; its own name is one always. They resolve to [Container.Address] in
	// containers that start later.
	Aliases []string
	Mounts  []Mount
	// Stdin may be nil. Stdout and Stderr receive output as it comes; nil discards it.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Limits narrow those of the environment for this container.
	Limits Limits
}

// MountKind says what is mounted.
type MountKind string

const (
	// ReadOnly shows a host directory or file read-only.
	ReadOnly MountKind = "ro"
	// ReadWrite shows a host directory writable: what is written stays.
	ReadWrite MountKind = "rw"
	// Overlay shows a host directory writable; what is written is discarded.
	Overlay MountKind = "overlay"
	// Scratch is an empty writable directory that is discarded.
	Scratch MountKind = "scratch"
)

// Mount places something in a container.
type Mount struct {
	Kind MountKind
	// Source is a host path; empty for Scratch.
	Source string
	// Target is an absolute path inside. At levels Reduced and None there is no
	// private root: ask [Environment.Path] where a target really is.
	Target string
	// Size bounds Scratch and Overlay, in bytes; zero means Limits.Disk.
	Size int64
}

// Container is one running or ended process tree.
type Container interface {
	Name() string
	// Address is the IP address at which the environment's containers and
	// [Environment.Dial] reach this one: of its own where the back end gives one to
	// each, so that two may use one port if both listen on their address only. It
	// is 127.0.0.1 where the network is shared, and empty with [NetworkNone].
	Address() string
	// Exec runs one more process in the container, with the root, user, network and
	// filter of its first one, and waits for its end. It shares what the kernel limits
	// for a group of processes; Limits.Output is its own, and so is what is limited
	// for each process, see [Enforcement]. It has no deadline but that of the container.
	// The end of ctx kills it, and what it started and has not left its group of
	// processes; what has left it ends with the container at the latest.
	Exec(ctx context.Context, spec ExecSpec) (ExitStatus, error)
	// Usage tells what the container has used until now.
	Usage(ctx context.Context) (Usage, error)
	// Signal sends a signal to the main process.
	Signal(sig os.Signal) error
	// Wait waits for the end. A process that fails is a result, not an error;
	// the error is for what the back end could not do.
	Wait(ctx context.Context) (ExitStatus, error)
	// Kill ends the whole tree at once and waits for it.
	Kill(ctx context.Context) error
}

// ExecSpec asks for a process in a running container.
type ExecSpec struct {
	// Argv, Env, Dir are as in [ContainerSpec]; an empty Env and Dir are the
	// container's own.
	Argv []string
	Env  []string
	Dir  string
	// Stdin may be nil. Stdout and Stderr receive output as it comes; nil discards it.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Usage is what a container used. A field is zero if it could not be measured.
type Usage struct {
	Wall time.Duration `json:"wall_nanoseconds"`
	CPU  time.Duration `json:"cpu_nanoseconds"`
	// Memory and PeakMemory are in bytes.
	Memory     int64 `json:"memory_bytes"`
	PeakMemory int64 `json:"peak_memory_bytes"`
	// ReadBytes and WriteBytes passed block devices.
	ReadBytes  int64 `json:"read_bytes"`
	WriteBytes int64 `json:"write_bytes"`
	// PIDs are the processes and threads of now.
	PIDs int `json:"pids"`
}

// ExitStatus is how a container ended and what it used.
type ExitStatus struct {
	// Code is the exit code, or 128 + the signal's number.
	Code int `json:"code"`
	// Signal is the name of the signal that ended it, or empty.
	Signal string `json:"signal,omitempty"`
	// OOM reports that the memory limit killed it, TimedOut that the wall limit
	// did, OutputLimit that it wrote too much.
	OOM         bool `json:"out_of_memory,omitempty"`
	TimedOut    bool `json:"timed_out,omitempty"`
	OutputLimit bool `json:"output_limit,omitempty"`
	// Left reports that something it had started still ran at its end, and was ended with
	// it. False also where the back end cannot tell.
	Left bool          `json:"left,omitempty"`
	Wall time.Duration `json:"wall_nanoseconds"`
	CPU  time.Duration `json:"cpu_nanoseconds"`
	// PeakMemory is in bytes; zero if it could not be measured.
	PeakMemory int64 `json:"peak_memory_bytes"`
	// ReadBytes and WriteBytes passed block devices; zero if that could not be measured.
	ReadBytes  int64 `json:"read_bytes"`
	WriteBytes int64 `json:"write_bytes"`
}

// OK reports whether the process ended by itself with code 0.
func (s ExitStatus) OK() bool {
	return s.Code == 0 && !s.OOM && !s.TimedOut && !s.OutputLimit
}

// String describes the end in a few words.
func (s ExitStatus) String() string {
	switch {
	case s.OOM:
		return "killed: out of memory"
	case s.TimedOut:
		return fmt.Sprintf("killed: ran longer than its limit (%s)", s.Wall.Round(time.Millisecond))
	case s.OutputLimit:
		return "killed: wrote more output than its limit"
	case s.Signal != "":
		return "ended by signal " + s.Signal
	default:
		return fmt.Sprintf("exit code %d", s.Code)
	}
}
