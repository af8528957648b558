package embedded

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// The descriptors of a restrict besides the payload's own: the specification, and
// a pipe that ends without a word when the payload was started.
const fdVerdict = 4

// launchRestricted starts the payload by way of [restrictMain] and returns its
// process number; zero if it was only rehearsed.
func launchRestricted(spec *initSpec, streams []uintptr, attributes *syscall.SysProcAttr) (int, error) {
	f, err := memoryFile(spec)
	if err != nil {
		return 0, fail("pass the specification on", err)
	}
	defer f.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fail("make a pipe", err)
	}
	defer r.Close()
	pid, err := syscall.ForkExec("/proc/self/exe", []string{argvRestrict}, &syscall.ProcAttr{
		Env:   []string{"GOMAXPROCS=1", "GOGC=off", "GOTRACEBACK=none"},
		Files: append(slices.Clip(streams), f.Fd(), w.Fd()),
		Sys:   attributes,
	})
	w.Close()
	if err != nil {
		return 0, fail("start this program again", err)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxPacket))
	if err == nil && len(b) == 0 && !spec.Rehearse {
		return pid, nil
	}
	_, _ = unix.Wait4(pid, nil, 0, nil)
	if len(b) == 0 {
		return 0, fail("start this program again", err)
	}
	var said failure
	if err := json.Unmarshal(b, &said); err != nil {
		return 0, fail("start this program again", err)
	}
	return 0, &said
}

// restrictMain gives up what its level takes and becomes the payload.
func restrictMain() int {
	runtime.LockOSThread() // which gives up capabilities, and becomes the payload
	verdict := os.NewFile(fdVerdict, "verdict")
	unix.CloseOnExec(fdVerdict)
	var spec initSpec
	f := os.NewFile(fdSpec, "spec")
	err := fail("read the specification", json.NewDecoder(f).Decode(&spec))
	f.Close()
	if err == nil {
		err = restrict(&spec)
	}
	if err == nil {
		return 0 // rehearsed
	}
	var said *failure
	if !errors.As(err, &said) {
		said = asFailure("restrict a process", err)
	}
	_ = json.NewEncoder(verdict).Encode(said)
	return 1
}

// restrict returns only with an error, or from a rehearsal.
func restrict(spec *initSpec) error {
	path, dir, err := "", "/", error(nil)
	if !spec.Rehearse {
		if path, dir, err = find(spec); err != nil {
			return err
		}
		if err := os.Chdir(dir); err != nil {
			return fail("start "+spec.Argv[0]+" in "+dir, err)
		}
	}
	if spec.Variant.Level == sandbox.Reduced {
		if err := restrictFiles(spec); err != nil {
			return err
		}
		if err := fail("give up capabilities", keepCapabilities(rootsFiles)); err != nil {
			return err
		}
	}
	// Last, and as near to the start as can be: a limit of memory that is enough for
	// the payload may be too little for more work of this runtime.
	if err := limitResources(spec.Rlimits); err != nil {
		return err
	}
	if spec.Rehearse {
		return nil
	}
	return fail("start "+spec.Argv[0]+" in "+dir, syscall.Exec(path, spec.Argv, spec.Env))
}
