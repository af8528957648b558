package embedded

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// owner is whom a file belongs to.
type owner struct{ UID, GID int }

// holdMain keeps a user namespace alive until its parent has opened it.
func holdMain() int {
	var b [1]byte
	_, _ = os.Stdin.Read(b[:])
	return 0
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
		Path: cmp.Or(helperPath(), self), Args: []string{argvHold}, Env: []string{}, Stdin: r,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER,
			UidMappings: swapped(a.UID, b.UID),
			GidMappings: swapped(a.GID, b.GID),
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

// standsFor returns the owner of path for whom the container's user has to stand
// so that a mount of path does what it promises: to write, always; to read, if
// others than the owner may not, or may not list it if it is a directory.
func standsFor(path string, user owner, write bool) (who owner, needed bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return who, false, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	need := uint32(0o004)
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		need = 0o005
	}
	who = owner{int(st.Uid), int(st.Gid)}
	return who, who != user && (write || st.Mode&need != need), nil
}

// mapsOwners returns an error if the file system of dir, or of what is there of its
// path, cannot show its files as those of another user.
func mapsOwners(dir string) error {
	var fs unix.Statfs_t
	for unix.Statfs(dir, &fs) != nil && dir != "/" {
		dir = filepath.Dir(dir)
	}
	switch fs.Type {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return nil // they can since identity maps are there at all, or soon after
	}
	fd, err := take(dir, attrReadOnly)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	f, err := identityMap(owner{}, owner{nobody, nobody})
	if err != nil {
		return err
	}
	defer f.Close()
	err = setAttributes(fd, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(f.Fd())})
	return fail("show the files of "+dir+" as those of another user", err)
}

// identities are the user namespaces of an environment, made when first needed.
type identities struct {
	mu   sync.Mutex
	made map[[2]owner]*os.File
}

// need returns the namespaces for the mounts of a container, and whom each is for.
// They stay open until close.
func (n *identities) need(s *initSpec) (list []owner, files []*os.File, err error) {
	user := owner{s.UID, s.GID}
	add := func(path string, write bool) error {
		who, needed, err := standsFor(path, user, write)
		if err != nil || !needed || slices.Contains(list, who) {
			return err
		}
		f, err := n.get(who, user)
		if err != nil {
			return fmt.Errorf("let user %d stand for the owner of %s, %d: %w", user.UID, path, who.UID, err)
		}
		list, files = append(list, who), append(files, f)
		return nil
	}
	if s.Root != "" {
		if err := add(s.Root, false); err != nil {
			return nil, nil, err
		}
	}
	for _, m := range s.Mounts {
		if m.Kind == sandbox.Scratch {
			continue
		}
		if err := add(m.Source, m.Kind != sandbox.ReadOnly); err != nil {
			return nil, nil, err
		}
	}
	return list, files, nil
}

func (n *identities) get(who, user owner) (*os.File, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := [2]owner{who, user}
	if f := n.made[key]; f != nil {
		return f, nil
	}
	f, err := identityMap(who, user)
	if err != nil {
		return nil, err
	}
	if n.made == nil {
		n.made = map[[2]owner]*os.File{}
	}
	n.made[key] = f
	return f, nil
}

func (n *identities) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range n.made {
		f.Close()
	}
	n.made = nil
}
