package embedded

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// owner is whom a file belongs to.
type owner struct{ uid, gid int }

// holdMain keeps a user namespace alive until its parent has opened it.
func holdMain() {
	var b [1]byte
	_, _ = os.Stdin.Read(b[:])
}

// identityMap returns a user namespace in which a and b have changed places and
// everybody else is who they are. A mount with it shows what belongs to a as
// belonging to b, and what b writes is written as a.
func identityMap(a, b owner) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{argvHold}, Env: []string{}, Stdin: r,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: swapped(a.uid, b.uid),
			GidMappings: swapped(a.gid, b.gid),
		},
	}
	err = cmd.Start()
	r.Close()
	if err != nil {
		return nil, fmt.Errorf("map users: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	return os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/user")
}

// swapped maps every identity to itself but a and b to each other.
func swapped(a, b int) []syscall.SysProcIDMap {
	lo, hi := min(a, b), max(a, b)
	var list []syscall.SysProcIDMap
	add := func(from, to, size int) {
		if size > 0 {
			list = append(list, syscall.SysProcIDMap{ContainerID: from, HostID: to, Size: size})
		}
	}
	if lo == hi {
		add(0, 0, math.MaxUint32)
		return list
	}
	add(0, 0, lo)
	add(lo, hi, 1)
	add(lo+1, lo+1, hi-lo-1)
	add(hi, lo, 1)
	// The last identity, 4294967295, means "none" and cannot be mapped.
	add(hi+1, hi+1, math.MaxUint32-hi-1)
	return list
}

// ownerOf returns the owner of path and whether everybody may read it, and list
// it if it is a directory.
func ownerOf(path string) (o owner, open bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return o, false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	need := uint32(0o004)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		need = 0o005
	}
	return owner{int(st.Uid), int(st.Gid)}, st.Mode&need == need, nil
}
