package embedded

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// A variant is one way to isolate. It is found by trying: see Probe.
type variant struct {
	Level sandbox.Level
	// UserNS: the caller has no privileges, so a user namespace gives them over
	// what is new only.
	UserNS bool
	// OuterProc: the kernel refuses a new /proc, as in a container that masks its
	// own, so that one is shown inside.
	OuterProc bool
}

// supervisorConfig is the first message to a supervisor.
type supervisorConfig struct {
	Variant variant
	// Alone gives every container a network namespace of its own.
	Alone bool
}

// What may be asked of a supervisor, one request for each connection.
const (
	opPing   = "ping"
	opPort   = "port"
	opDial   = "dial"
	opListen = "listen"
	opStart  = "start"
	// opKill is sent on the connection of a start.
	opKill = "kill"
)

type request struct {
	Op string
	// Port is the preferred one, or zero.
	Port int `json:",omitempty"`
	// Network, Address and Timeout are for a dial; Address has no name in it.
	Network string        `json:",omitempty"`
	Address string        `json:",omitempty"`
	Timeout time.Duration `json:",omitempty"`
	// Start comes with files: the specification, the init's end of the link,
	// standard input, output and error, then those of initSpec.Maps and Groups.
	Start *startRequest `json:",omitempty"`
}

type startRequest struct {
	UID, GID int
	Wall     time.Duration
}

// streams is how many files of a start come first.
const streams = 5

// reply answers a request; that of a dial or a listen comes with the socket.
type reply struct {
	Failure *failure `json:",omitempty"`
	Port    int      `json:",omitempty"`
	// PID is of a started init, as the supervisor sees it.
	PID int `json:",omitempty"`
	// Reaped is the second reply to a start: the whole tree is gone.
	Reaped *reaped `json:",omitempty"`
}

// reaped is what a supervisor knows of a container that ended.
type reaped struct {
	TimedOut bool
	Signal   int
}

// linkMessage goes over the link between the creator and an init: signals and
// questions down, the others up. A question comes with one end of a link of its
// own, over which it is answered. That of an exec is used as the first one: a
// signal down ends the process, and all below it.
type linkMessage struct {
	Signal int `json:",omitempty"`
	// Exec comes with files: the link, the [command], standard input, output and
	// error, then those of the groups.
	Exec *execRequest `json:",omitempty"`
	// Measure comes with the link only, and is answered by Used.
	Measure bool `json:",omitempty"`

	Failure *failure       `json:",omitempty"`
	Started bool           `json:",omitempty"`
	Exited  *exited        `json:",omitempty"`
	Used    *sandbox.Usage `json:",omitempty"`
}

// execRequest asks an init for one more process.
type execRequest struct{ Groups []groupFile }

// execStreams is how many files of an exec come first.
const execStreams = 5

// exited is what an init knows of a process that it started.
type exited struct {
	Code, Signal int
	// Left is set for the payload if something that it started still runs.
	Left bool `json:",omitempty"`
	// The rest is of the process and what it waited for.
	CPU                               time.Duration
	PeakMemory, ReadBytes, WriteBytes int64
}

// command is what to start in a container: it is read from a memory file.
type command struct {
	Argv []string
	Env  []string
	Dir  string
}

// initSpec tells an init what to do; it is read from a memory file.
type initSpec struct {
	Variant  variant
	Hostname string
	Hosts    string
	// Stage is an existing directory on which the new root is built.
	Stage string
	Root  string
	command
	UID int
	GID int
	// MakeDir makes the working directory if the root has none: an image's may be
	// no more than a name.
	MakeDir bool
	// Alone: the network namespace is this container's only.
	Alone bool
	// Mounts are sorted by target. At weaker levels they say what Landlock allows.
	Mounts []sandbox.Mount
	// Writable are further host directories that Landlock lets be written.
	Writable []string
	// Disk bounds the temporary file system, in bytes.
	Disk    int64
	Rlimits []rlimit
	// Maps are the owners for whom the user stands by a user namespace each.
	Maps   []owner
	Groups []groupFile
	// Rehearse stops short of starting the payload: it is what Probe does.
	Rehearse bool
}

// staged reports whether the payload is started by way of [restrictMain].
func (s *initSpec) staged() bool {
	return s.Variant.Level != sandbox.Full ||
		slices.ContainsFunc(s.Rlimits, func(l rlimit) bool { return l.Resource == unix.RLIMIT_DATA })
}

type rlimit struct {
	Name     string
	Resource int
	Value    uint64
}

// groupFile says how the payload joins one control group hierarchy. In version 1
// the one file is that group's tasks: the thread that starts the payload joins.
// In version 2 the whole init joins by the first file and returns by the second,
// which leads to the group it came from.
type groupFile struct{ Version int }

func (g groupFile) files() int { return g.Version }

// failure is an error that keeps its step and number across a process boundary.
type failure struct {
	Step  string
	Text  string
	Errno int `json:",omitempty"`
}

func (f *failure) Error() string { return f.Step + ": " + f.Text }

// Unwrap returns the kernel's error, if it was one.
func (f *failure) Unwrap() error {
	if f.Errno == 0 {
		return nil
	}
	return syscall.Errno(f.Errno)
}

// fail returns the failure of step, or nil.
func fail(step string, err error) error {
	if err == nil {
		return nil
	}
	return asFailure(step, err)
}

func asFailure(step string, err error) *failure {
	var inner *failure
	if errors.As(err, &inner) {
		return inner
	}
	const most = 4 << 10
	f := &failure{Step: step, Text: err.Error()}
	f.Text = f.Text[:min(len(f.Text), most)]
	var errno syscall.Errno
	if errors.As(err, &errno) {
		f.Errno = int(errno)
	}
	return f
}
