package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// Attributes of mounts.
const (
	attrWritable = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	attrReadOnly = attrWritable | unix.MOUNT_ATTR_RDONLY
	attrDevice   = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
	attrProc     = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
)

// piece is a mount that is attached nowhere yet.
type piece struct {
	target string
	fd     int
	isDir  bool
}

// root builds the file system of a container.
//
// Everything from the host is taken first, as mounts that are attached nowhere.
// Then the new root becomes "/" and the host's is gone, and only then are the
// pieces attached: no link in a container's root can lead out of it, for there
// is no outside any more.
type root struct {
	spec   *initSpec
	pieces []piece
	base   int        // becomes "/"
	maps   []*os.File // in the order of spec.Maps
}

// buildRoot gives this process a private root as spec says.
func buildRoot(spec *initSpec, maps []*os.File) error {
	r := &root{spec: spec, base: -1, maps: maps}
	defer r.free()
	if err := fail("make mounts private", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
		return err
	}
	for _, step := range []func() error{r.takeSystem, r.takeMounts, r.enter, r.attach, r.mask} {
		if err := step(); err != nil {
			return err
		}
	}
	return fail("set the host name", unix.Sethostname([]byte(spec.Hostname)))
}

func (r *root) free() {
	for _, p := range r.pieces {
		unix.Close(p.fd)
	}
	if r.base >= 0 {
		unix.Close(r.base)
	}
}

func (r *root) add(target string, fd int, isDir bool) {
	r.pieces = append(r.pieces, piece{target, fd, isDir})
}

// take clones the mount at path, with all below it, and gives it attributes.
func take(path string, attributes uint64) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fail("take "+path, err)
	}
	if err := setAttributes(fd, &unix.MountAttr{Attr_set: attributes}); err != nil {
		unix.Close(fd)
		return -1, fail("protect "+path, err)
	}
	return fd, nil
}

func setAttributes(fd int, a *unix.MountAttr) error {
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, a)
}

// takeSystem takes what every container has: /proc and /dev, and the host's
// programs if it has no root of its own.
func (r *root) takeSystem() error {
	proc, err := r.newProc()
	if err != nil {
		return err
	}
	r.add("/proc", proc, true)
	if r.spec.Root != "" {
		return nil
	}
	for _, path := range []string{"/usr", "/etc/alternatives", "/etc/ld.so.cache"} {
		if err := r.takeHost(path); err != nil {
			return err
		}
	}
	// Where /usr is not merged these are directories; else links that enter makes.
	for _, name := range systemLinks {
		if st, err := os.Lstat("/" + name); err == nil && st.IsDir() {
			if err := r.takeHost("/" + name); err != nil {
				return err
			}
		}
	}
	return nil
}

// systemLinks lead into /usr, or are directories beside it, by distribution.
var systemLinks = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

func (r *root) takeHost(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail("take "+path, err)
	}
	fd, err := take(path, attrReadOnly)
	if err != nil {
		return err
	}
	r.add(path, fd, st.IsDir())
	return nil
}

// newProc makes a /proc of this process namespace, or takes the one around it
// where Probe found that the kernel allows no other.
func (r *root) newProc() (int, error) {
	if r.spec.Variant.OuterProc {
		return take("/proc", attrProc)
	}
	ctx, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fail("open a new /proc", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fail("make a new /proc", err)
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attrProc)
	return fd, fail("mount a new /proc", err)
}

// takeMounts takes the mounts of the specification and makes those that are
// temporary, all on one temporary file system unless they have a size.
func (r *root) takeMounts() error {
	s := r.spec
	if err := fail("mount temporary space", mountTemporary(s.Stage, s.Disk)); err != nil {
		return err
	}
	// Its name goes with the host's root: to unmount it by itself is to wait for the kernel
	// once more. The pieces keep the file system.
	if err := r.takeDevices(); err != nil {
		return err
	}
	if err := r.takeFile("/etc/hosts", s.Hosts); err != nil {
		return err
	}
	for i, m := range append([]sandbox.Mount{{Kind: sandbox.Scratch, Target: "/tmp"}}, s.Mounts...) {
		var err error
		place := filepath.Join(s.Stage, strconv.Itoa(i))
		switch m.Kind {
		case sandbox.ReadOnly:
			err = r.takeSource(m, attrReadOnly)
		case sandbox.ReadWrite:
			err = r.takeSource(m, attrWritable)
		case sandbox.Overlay:
			err = r.takeOverlay(m, place)
		case sandbox.Scratch:
			err = r.takeScratch(m, place)
		default:
			err = fmt.Errorf("unknown kind %q", m.Kind)
		}
		if err != nil {
			return fail("mount "+m.Target, err)
		}
	}
	return r.takeBase(filepath.Join(s.Stage, "root"))
}

func mountTemporary(dir string, size int64) error {
	return unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size="+strconv.FormatInt(size, 10))
}

// takeDevices makes /dev: a few devices of the host that hold nothing, shared
// memory, and terminals of its own.
func (r *root) takeDevices() error {
	dir := filepath.Join(r.spec.Stage, "dev")
	shm := filepath.Join(dir, "shm")
	if err := os.MkdirAll(shm, 0o755); err != nil {
		return fail("make /dev", err)
	}
	if err := os.Chmod(shm, 0o777|fs.ModeSticky); err != nil {
		return fail("make /dev/shm", err)
	}
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return fail("make /dev", err)
		}
	}
	devices := []string{"null", "zero", "full", "random", "urandom", "tty"}
	for _, name := range append(devices, "pts") {
		var err error
		if name == "pts" {
			err = os.Mkdir(filepath.Join(dir, name), 0o755)
		} else {
			err = os.WriteFile(filepath.Join(dir, name), nil, 0o644)
		}
		if err != nil {
			return fail("make /dev", err)
		}
	}
	// Only shared memory is to be written: the rest is closed, the same file
	// system notwithstanding.
	for _, p := range []struct {
		path, target string
		attributes   uint64
	}{{dir, "/dev", attrReadOnly | unix.MOUNT_ATTR_NOEXEC}, {shm, "/dev/shm", attrWritable | unix.MOUNT_ATTR_NOEXEC}} {
		fd, err := take(p.path, p.attributes)
		if err != nil {
			return err
		}
		r.add(p.target, fd, true)
	}
	for _, name := range devices {
		fd, err := take("/dev/"+name, attrDevice)
		if err != nil {
			return err
		}
		r.add("/dev/"+name, fd, false)
	}
	return nil
}

// takeFile takes a read-only file with the given content.
func (r *root) takeFile(target, content string) error {
	path := filepath.Join(r.spec.Stage, filepath.Base(target))
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		return fail("write "+target, err)
	}
	fd, err := take(path, attrReadOnly)
	if err != nil {
		return err
	}
	r.add(target, fd, false)
	return nil
}

// takeSource takes a directory or file of the host.
func (r *root) takeSource(m sandbox.Mount, attributes uint64) error {
	st, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	fd, err := r.takeMapped(m.Source, attributes, m.Kind == sandbox.ReadWrite)
	if err != nil {
		return err
	}
	r.add(m.Target, fd, st.IsDir())
	return nil
}

// takeMapped clones the mount at path and lets the container's user stand for the
// owner of path: always if write, else only if others may not read it. In a user
// namespace the caller's files are the container user's already.
func (r *root) takeMapped(path string, attributes uint64, write bool) (int, error) {
	fd, err := take(path, attributes)
	if err != nil || r.spec.Variant.UserNS {
		return fd, err
	}
	who, needed, err := standsFor(path, owner{r.spec.UID, r.spec.GID}, write)
	if err == nil && needed {
		err = fail(fmt.Sprintf("let user %d stand for the owner of %s, %d", r.spec.UID, path, who.UID), r.mapOwner(fd, who))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// mapOwner uses the user namespace that the creator made for this owner.
func (r *root) mapOwner(fd int, who owner) error {
	i := slices.Index(r.spec.Maps, who)
	if i < 0 {
		return errors.New("the owner changed meanwhile")
	}
	return setAttributes(fd, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(r.maps[i].Fd())})
}

func (r *root) takeScratch(m sandbox.Mount, place string) error {
	if err := os.Mkdir(place, 0o755); err != nil {
		return err
	}
	if m.Size > 0 {
		if err := mountTemporary(place, min(m.Size, r.spec.Disk)); err != nil {
			return err
		}
	}
	if err := os.Chown(place, r.spec.UID, r.spec.GID); err != nil {
		return err
	}
	if m.Target == "/tmp" {
		if err := os.Chmod(place, 0o777|fs.ModeSticky); err != nil {
			return err
		}
	}
	fd, err := take(place, attrWritable)
	if err != nil {
		return err
	}
	r.add(m.Target, fd, true)
	return nil
}

// takeOverlay lays a temporary directory over the source, or copies the source
// where the kernel cannot.
func (r *root) takeOverlay(m sandbox.Mount, place string) error {
	if err := os.Mkdir(place, 0o755); err != nil {
		return err
	}
	if m.Size > 0 {
		if err := mountTemporary(place, min(m.Size, r.spec.Disk)); err != nil {
			return err
		}
	}
	fd, err := r.overlay(m.Source, place, true)
	if err != nil {
		overlayErr := err
		if fd, err = r.copied(m.Source, filepath.Join(place, "copy")); err != nil {
			return errors.Join(overlayErr, err)
		}
	}
	r.add(m.Target, fd, true)
	return nil
}

// overlay mounts an overlay of lower with everything else in place, for the
// container's user to write if write. Its options are relative paths: no character
// of a path can be taken for an option.
func (r *root) overlay(lower, place string, write bool) (int, error) {
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(place, d), 0o755); err != nil {
			return -1, err
		}
	}
	fd, err := r.takeMapped(lower, attrReadOnly, write)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, filepath.Join(place, "lower"), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, err
	}
	if err := os.Chdir(place); err != nil {
		return -1, err
	}
	defer os.Chdir("/")
	if write {
		// The merged directory shows the owner and the mode of the upper one.
		st, err := os.Stat("lower")
		if err != nil {
			return -1, err
		}
		if err := errors.Join(os.Chown("upper", r.spec.UID, r.spec.GID), os.Chmod("upper", st.Mode().Perm())); err != nil {
			return -1, err
		}
	}
	options := "lowerdir=lower,upperdir=upper,workdir=work"
	if r.spec.Variant.UserNS {
		options += ",userxattr"
	}
	if err := unix.Mount("overlay", "merged", "overlay", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return -1, err
	}
	return take("merged", attrWritable)
}

// copied is a copy of a directory, which the container's user owns.
func (r *root) copied(source, place string) (int, error) {
	if err := copyTree(source, place, r.spec.Disk, &owner{r.spec.UID, r.spec.GID}); err != nil {
		return -1, err
	}
	return take(place, attrWritable)
}

// takeBase takes what becomes "/": the root of the specification, under a
// temporary layer if it lacks a place for a mount, or else a new one.
func (r *root) takeBase(place string) (err error) {
	if err := os.Mkdir(place, 0o755); err != nil {
		return fail("make a root", err)
	}
	switch missing, err2 := r.missing(); {
	case err2 != nil:
		return err2
	case r.spec.Root == "":
		if err := r.minimalRoot(place); err != nil {
			return fail("make a root", err)
		}
		r.base, err = take(place, attrWritable)
	case missing == "":
		r.base, err = r.takeMapped(r.spec.Root, attrReadOnly, false)
	default:
		r.base, err = r.overlay(r.spec.Root, place, false)
		err = fail("make a place for "+missing+" in "+r.spec.Root, err)
	}
	return err
}

// missing returns the first target that does not exist in the specification's
// root, or the working directory if it has to be there and is not.
func (r *root) missing() (string, error) {
	if r.spec.Root == "" {
		return "", nil
	}
	dir, err := unix.Open(r.spec.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fail("open the root "+r.spec.Root, err)
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	var places []string
	for _, p := range r.pieces {
		places = append(places, p.target)
	}
	if r.spec.MakeDir {
		places = append(places, filepath.Join("/", r.spec.Dir))
	}
	for _, place := range places {
		if r.within(place) {
			continue
		}
		fd, err := unix.Openat2(dir, place, &how)
		if err != nil {
			return place, nil
		}
		unix.Close(fd)
	}
	return "", nil
}

// within reports whether target lies in what is mounted at another target.
func (r *root) within(target string) bool {
	for _, p := range r.pieces {
		if p.target != target && strings.HasPrefix(target, p.target+"/") {
			return true
		}
	}
	return false
}

// minimalRoot makes what a program expects to find beside /usr.
func (r *root) minimalRoot(dir string) error {
	for _, name := range systemLinks {
		if to, err := os.Readlink("/" + name); err == nil {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "var"), 0o755); err != nil {
		return err
	}
	if err := os.Symlink("/tmp", filepath.Join(dir, "var/tmp")); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		return err
	}
	passwd := "root:x:0:0::/:/usr/sbin/nologin\nnobody:x:65534:65534::/tmp:/bin/sh\n"
	group := "root:x:0:\nnogroup:x:65534:\n"
	if r.spec.UID != nobody {
		passwd += fmt.Sprintf("user:x:%d:%d::/tmp:/bin/sh\n", r.spec.UID, r.spec.GID)
	}
	if r.spec.GID != nobody {
		group += fmt.Sprintf("user:x:%d:\n", r.spec.GID)
	}
	for name, content := range map[string]string{
		"passwd": passwd, "group": group, "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// enter makes the base "/" and lets go of the host's root.
func (r *root) enter() error {
	stage := r.spec.Stage
	if err := fail("attach the root", unix.MoveMount(r.base, "", unix.AT_FDCWD, stage, unix.MOVE_MOUNT_F_EMPTY_PATH)); err != nil {
		return err
	}
	if err := fail("enter the root", os.Chdir(stage)); err != nil {
		return err
	}
	if err := fail("pivot to the root", unix.PivotRoot(".", ".")); err != nil {
		return err
	}
	// The old root lies over the new one at ".".
	if err := fail("leave the host's root", unix.Unmount(".", unix.MNT_DETACH)); err != nil {
		return err
	}
	return fail("enter the root", os.Chdir("/"))
}

// attach puts every piece in its place and makes the root read-only.
func (r *root) attach() error {
	for _, p := range r.pieces {
		if !exists(p.target) {
			if err := makePlace(p); err != nil {
				return fail("make a place for "+p.target, err)
			}
		}
		flags := unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_SYMLINKS
		if err := unix.MoveMount(p.fd, "", unix.AT_FDCWD, p.target, flags); err != nil {
			return fail("mount "+p.target, err)
		}
	}
	if r.spec.MakeDir && !exists(r.spec.Dir) {
		if err := os.MkdirAll(r.spec.Dir, 0o755); err != nil {
			return fail("make the working directory", err)
		}
	}
	// Terminals are for the few programs that want one: not every kernel lets a
	// user namespace have them.
	_ = unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
	err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: attrReadOnly})
	return fail("make the root read-only", err)
}

func makePlace(p piece) error {
	if p.isDir {
		return os.MkdirAll(p.target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(p.target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(p.target, nil, 0o644)
}

// mask closes the parts of /proc that belong to the whole machine.
func (r *root) mask() error {
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
		if err := cover(path, path, attrReadOnly|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/latency_stats", "/proc/kmsg", "/proc/kallsyms"} {
		if err := cover(path, "/dev/null", attrDevice|unix.MOUNT_ATTR_RDONLY); err != nil {
			return err
		}
	}
	return nil
}

// cover mounts with over path, if path exists.
func cover(path, with string, attributes uint64) error {
	if !exists(path) {
		return nil
	}
	fd, err := take(with, attributes)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return fail("mask "+path, unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH))
}
