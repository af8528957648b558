package embedded

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hierarchy is one mounted tree of control groups.
type hierarchy struct {
	Version     int
	Controllers []string
	// Dir is the group of this process, as a directory; Mount is the tree's root.
	Dir, Mount string
}

// hierarchies finds the trees by proc_pid_mountinfo(5) and the groups of this
// process in them by cgroups(7), "/proc files".
func hierarchies(mountinfo, cgroup string) []hierarchy {
	own := map[string]string{} // by controller; "" is version 2
	for line := range strings.Lines(cgroup) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(f) != 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			own[c] = f[2]
		}
	}
	var found []hierarchy
	s := bufio.NewScanner(strings.NewReader(mountinfo))
	for s.Scan() {
		before, after, ok := strings.Cut(s.Text(), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 3 {
			continue
		}
		h := hierarchy{Mount: unescapeMount(f[4])}
		root, path := unescapeMount(f[3]), ""
		switch g[0] {
		case "cgroup2":
			h.Version, path, ok = 2, own[""], true
		case "cgroup":
			h.Version, ok = 1, false
			for option := range strings.SplitSeq(g[2], ",") {
				if slices.Contains(controllers1, option) {
					h.Controllers = append(h.Controllers, option)
					path, ok = own[option], true
				}
			}
		default:
			continue
		}
		// One tree may be mounted in several places, or be read twice.
		if !ok || slices.ContainsFunc(found, h.sameTree) {
			continue
		}
		// In a container the mount may show only the part of the tree below root.
		if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
			h.Dir = filepath.Join(h.Mount, rel)
		} else {
			h.Dir = h.Mount
		}
		found = append(found, h)
	}
	return found
}

func (h hierarchy) sameTree(other hierarchy) bool {
	return h.Version == other.Version && (h.Version == 2 ||
		slices.ContainsFunc(h.Controllers, func(c string) bool { return slices.Contains(other.Controllers, c) }))
}

// unescapeMount undoes the octal escapes of proc_pid_mountinfo(5).
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// processGroups reads where this process is in which trees.
func processGroups() (mountinfo, own string, err error) {
	if mountinfo, err = readSteady("/proc/self/mountinfo"); err != nil {
		return "", "", err
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	return mountinfo, string(b), err
}

// readSteady reads a file that the kernel makes up piece by piece: while others
// mount, a line can be missing from one reading, or be there twice. Two equal
// readings are believed, and after a few the last one.
func readSteady(path string) (string, error) {
	last, err := os.ReadFile(path)
	for range 5 {
		if err != nil {
			return "", err
		}
		var again []byte
		if again, err = os.ReadFile(path); err == nil && bytes.Equal(last, again) {
			break
		}
		last = again
	}
	return string(last), err
}

// parents returns where groups of our own can be made, and what is in the way
// where that is nowhere.
func parents() (usable []hierarchy, why string, err error) {
	mountinfo, own, err := processGroups()
	if err != nil {
		return nil, "", err
	}
	usable, why = parentsIn(hierarchies(mountinfo, own))
	return usable, why, nil
}

// parentsIn finds places for groups: for version 1 below our own, for version 2,
// where a group with members has no children with controllers, below our own or
// beside it, wherever controllers are handed down.
func parentsIn(all []hierarchy) (usable []hierarchy, why string) {
	why = "no control group hierarchy with the controllers memory, pids and cpu is mounted here"
	for _, h := range all {
		if h.Version == 1 {
			usable = append(usable, h)
			continue
		}
		from := h.handsDown()
		if from.Dir == "" && (delegated(h.Dir) || h.top()) {
			if err := handDown(h.Dir, controllers2); err != nil {
				why = err.Error()
				continue
			}
			from = h.handsDown()
		}
		if from.Dir == "" {
			why = h.Dir + " hands none of the controllers memory, pids and cpu down: start this program in a group of its own, as by systemd-run --user --scope --property Delegate=yes"
			continue
		}
		usable = append(usable, from)
	}
	if len(usable) > 0 {
		why = ""
	}
	return usable, why
}

// handsDown returns the first group, h's own or the one around it, that hands
// controllers down which limit something.
func (h hierarchy) handsDown() hierarchy {
	for _, dir := range []string{h.Dir, filepath.Dir(h.Dir)} {
		if dir != h.Mount && !strings.HasPrefix(dir, h.Mount+"/") {
			continue
		}
		down := controllersIn(dir, "cgroup.subtree_control", controllers2)
		if slices.ContainsFunc(down, func(c string) bool { return c != ctlIO }) {
			h.Dir, h.Controllers = dir, down
			return h
		}
	}
	return hierarchy{}
}

// controllersIn returns those of wanted that a file of a group names.
func controllersIn(dir, file string, wanted []string) (list []string) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	named := strings.Fields(string(b))
	for _, c := range wanted {
		if slices.Contains(named, c) {
			list = append(list, c)
		}
	}
	return list
}

// delegated reports whether a group was given to this user to do with as it likes:
// systemd says so by an attribute, older ones by the owner only.
func delegated(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		b := make([]byte, 8)
		if n, err := unix.Getxattr(dir, name, b); err == nil && string(b[:n]) == "1" {
			return true
		}
	}
	var own, around unix.Stat_t
	if unix.Stat(dir, &own) != nil || unix.Stat(filepath.Dir(dir), &around) != nil {
		return false
	}
	me := uint32(os.Geteuid())
	return me != 0 && own.Uid == me && around.Uid != me
}

// top reports whether this process is root in the topmost group that it can see: of
// the machine where nothing manages groups, or of a container with a namespace of its
// own. Engines hand controllers down from there too.
func (h hierarchy) top() bool {
	return os.Geteuid() == 0 && h.Dir == h.Mount && unix.Access(filepath.Join(h.Dir, "cgroup.subtree_control"), unix.W_OK) == nil
}

// membersGroup takes the members of a delegated group.
const membersGroup = groupPrefix + "members"

// handDown has a group that is ours hand controllers down. Its members, this process
// among them, move into a group below it, for a group with members cannot; only the
// root of the machine's tree can, which has no type.
func handDown(dir string, wanted []string) error {
	wanted = controllersIn(dir, "cgroup.controllers", wanted)
	if len(wanted) == 0 {
		return fmt.Errorf("%s was delegated without the controllers memory, pids and cpu", dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "cgroup.type")); errors.Is(err, fs.ErrNotExist) {
		if err := writeGroup(dir, "cgroup.subtree_control", "+"+strings.Join(wanted, " +")); err != nil {
			return fmt.Errorf("use the root of control groups %s: %w", dir, err)
		}
		return nil
	}
	members := filepath.Join(dir, membersGroup)
	if err := os.Mkdir(members, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("use the delegated group %s: %w", dir, err)
	}
	var err error
	for range 10 { // members may start others meanwhile
		if err = moveMembers(dir, members); err != nil {
			break
		}
		if err = writeGroup(dir, "cgroup.subtree_control", "+"+strings.Join(wanted, " +")); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		err = errors.Join(err, moveMembers(members, dir), unix.Rmdir(members))
		return fmt.Errorf("use the delegated group %s: %w", dir, err)
	}
	return nil
}

func moveMembers(from, to string) error {
	b, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return err
	}
	for pid := range strings.FieldsSeq(string(b)) {
		if err := writeGroup(to, "cgroup.procs", pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// writeGroup writes to a file of a group. It is not os.WriteFile, which would create
// what a kernel does not have.
func writeGroup(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %q: %w", value, err)
	}
	return nil
}
