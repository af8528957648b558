// Package inside is the part of a container engine's back end that runs inside its
// containers: this executable, started there as process 1.
//
// It says what is in force around it, before anything else runs; starts the payload
// and further processes behind one more system call filter; tells how they ended and
// what they used; carries connections into the network of the environment and out of
// it; and ends everything when the program that created the container is gone. It
// speaks with that program over its own standard input and output, see [Mux], and
// needs nothing of the image that it runs in.
//
// The main of a program that uses the package must call [Reexec] first thing.
package inside

import (
	"io/fs"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Program is the name under which the executable is started inside.
const Program = "ultrafast-sandbox-inside"

// Version is that of the protocol: both ends are one executable, and a container
// outlives none.
const Version = 1

// MainProcess is the number of the payload: with it the container ends.
const MainProcess = 1

// Request is a message to the program inside. Exactly one field is set.
type Request struct {
	Start  *Start  `json:",omitempty"`
	Signal *Signal `json:",omitempty"`
	// Hosts replaces the names that a dial resolves, and the lines of /etc/hosts where
	// File asks for it.
	Hosts *Hosts `json:",omitempty"`
	// Dial connects to an address and carries the connection on the stream.
	Dial *Dial `json:",omitempty"`
	// Listen opens a port; every connection to it is announced by an [Accepted].
	Listen *Listen `json:",omitempty"`
	// Port looks for a free TCP port.
	Port *Port `json:",omitempty"`
	// Usage asks what the container has used.
	Usage *Call `json:",omitempty"`
}

// Call numbers a request that is answered.
type Call struct{ Call uint32 }

// Start starts a process.
type Start struct {
	// Process is a number that the caller chose; MainProcess is the payload.
	Process uint32
	// Argv, Env and Dir are as in sandbox.ContainerSpec. An empty Env or Dir of a
	// further process is that of the payload.
	Argv, Env []string
	Dir       string
	// Stdin, Stdout and Stderr are streams; zero is /dev/null.
	Stdin, Stdout, Stderr uint32
	// Wall ends the whole container after that time; zero is no limit. MainProcess only.
	Wall time.Duration
	// Fill are directories to copy before the payload starts. MainProcess only.
	Fill []Copy
}

// Copy copies the content of directory From into directory To.
type Copy struct{ From, To string }

// Signal sends a signal to a process; SIGKILL to MainProcess ends the container.
type Signal struct {
	Process uint32
	Number  int
}

// Hosts are names and their addresses.
type Hosts struct {
	Call
	Names map[string]string
	File  bool
}

// Dial is answered once the connection is there.
type Dial struct {
	Call
	Network, Address string
	Stream           uint32
}

// Listen is answered with the address.
type Listen struct {
	Call
	// Listener is a number that the caller chose.
	Listener uint32
	// Close closes it instead.
	Close bool
}

// Port is answered with a number.
type Port struct {
	Call
	Preferred int
}

// Event is a message from the program inside. Exactly one field is set.
type Event struct {
	// Hello is the first one.
	Hello   *Facts   `json:",omitempty"`
	Started *Started `json:",omitempty"`
	Ended   *Ended   `json:",omitempty"`
	Answer  *Answer  `json:",omitempty"`
	// Accepted is a connection to a listener, on a stream that is even.
	Accepted *Accepted `json:",omitempty"`
}

// Started says that a process runs, or why it does not.
type Started struct {
	Process uint32
	Failure *Failure `json:",omitempty"`
}

// Failure is what could not be done.
type Failure struct {
	// Finding tells that the command or its directory is to blame.
	Finding bool
	// Step is what was being done, Errno the number of the system's error.
	Step    string
	Errno   int
	Message string
}

// Error says what was being done and what went wrong.
func (f *Failure) Error() string {
	if f.Step == "" {
		return f.Message
	}
	return f.Step + ": " + f.Message
}

// Is reports whether the failure is a program or file that is not there; the number is
// that of Linux, whatever this system calls it.
func (f *Failure) Is(target error) bool { return target == fs.ErrNotExist && f.Errno == 2 }

// Ended says how a process ended.
type Ended struct {
	Process uint32
	Code    int
	Signal  int
	// TimedOut says that the wall limit ended it, OOM that the kernel killed something
	// in the container at the memory limit.
	TimedOut, OOM bool
	sandbox.Usage
}

// Answer answers the call of that number.
type Answer struct {
	Call    uint32
	Failure *Failure       `json:",omitempty"`
	Address string         `json:",omitempty"`
	Port    int            `json:",omitempty"`
	Usage   *sandbox.Usage `json:",omitempty"`
}

// Accepted is a connection to a listener.
type Accepted struct {
	Listener, Stream uint32
	// Remote is the address of who connected.
	Remote string
}

// Facts are what the kernel says is in force, read by a process inside. Limits are in
// bytes and numbers; -1 is no limit, and a field that could not be read is zero.
type Facts struct {
	Version int
	// Status are fields of /proc/self/status: CapEff and its like, NoNewPrivs, Seccomp.
	Status   map[string]string
	UID, GID int
	// CGroup is 1 or 2, or 0 if no control group can be seen.
	CGroup int
	Memory int64
	// Swap is the limit of memory and swap together.
	Swap int64
	PIDs int64
	// CPUs is processors' worth of time.
	CPUs  float64
	Files uint64
	// ReadOnly says that the root cannot be written.
	ReadOnly bool
	// Temporary are the sizes of memory file systems whose top this user may write, by
	// path; zero is no size.
	Temporary map[string]int64
	// Writable are all other mounts of that kind, sorted.
	Writable   []string
	Interfaces []string
}
