package inside

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// unlimited is what control groups of version 1 say without a limit, or nearly.
const unlimited = math.MaxInt64 / 2

// readFacts reads what is in force from the kernel.
func readFacts() (*Facts, error) {
	f := &Facts{Version: Version, UID: os.Getuid(), GID: os.Getgid(), Temporary: map[string]int64{}}
	var err error
	if f.Status, err = readStatus(); err != nil {
		return nil, err
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	f.Files = files.Max
	if err := f.readMounts(); err != nil {
		return nil, err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	for _, i := range interfaces {
		f.Interfaces = append(f.Interfaces, i.Name)
	}
	f.readLimits()
	return f, nil
}

// statusFields are those of /proc/self/status that matter.
var statusFields = []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"}

func readStatus() (map[string]string, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && slices.Contains(statusFields, key) {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// harmless are file systems whose files are the kernel's.
var harmless = []string{"proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"}

// readMounts reads proc_pid_mountinfo(5).
func (f *Facts) readMounts() error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	writable := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		left, right, _ := strings.Cut(strings.TrimSpace(line), " - ")
		mount, super := strings.Fields(left), strings.Fields(right)
		if len(mount) < 6 || len(super) < 3 {
			return fmt.Errorf("a line of mountinfo is not understood: %q", line)
		}
		path := unescape(mount[4])
		options, superOptions := strings.Split(mount[5], ","), strings.Split(super[2], ",")
		readOnly := slices.Contains(options, "ro") || slices.Contains(superOptions, "ro")
		delete(f.Temporary, path) // a later mount hides an earlier one
		delete(writable, path)
		switch {
		case path == "/":
			f.ReadOnly = readOnly
		case readOnly || slices.Contains(harmless, super[0]):
		case super[0] == "tmpfs":
			if st, err := os.Stat(path); err == nil && st.IsDir() && unix.Access(path, unix.W_OK) == nil {
				f.Temporary[path] = sizeOption(superOptions)
			}
		case unix.Access(path, unix.W_OK) == nil:
			writable[path] = true
		}
	}
	f.Writable = slices.Sorted(maps.Keys(writable))
	return nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// sizeOption returns the size of a memory file system, zero for half the memory.
func sizeOption(options []string) int64 {
	for _, o := range options {
		size, ok := strings.CutPrefix(o, "size=")
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(size, "k"), 10, 64)
		if err == nil && strings.HasSuffix(size, "k") {
			n <<= 10
		}
		return n
	}
	return 0
}

// groupFile reads a file of this container's control group: under the controller's
// directory in version 1.
func groupFile(controllers []string, names ...string) (string, bool) {
	for _, name := range names {
		dirs := []string{""}
		if strings.Contains(name, ":") { // version 1
			name, dirs = strings.TrimPrefix(name, ":"), controllers
		}
		for _, d := range dirs {
			if b, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", d, name)); err == nil {
				return strings.TrimSpace(string(b)), true
			}
		}
	}
	return "", false
}

var (
	memoryDirs = []string{"memory"}
	cpuDirs    = []string{"cpu", "cpu,cpuacct", "cpuacct,cpu"}
	cpuacct    = []string{"cpuacct", "cpu,cpuacct", "cpuacct,cpu"}
	blockDirs  = []string{"blkio"}
	pidsDirs   = []string{"pids"}
)

// number reads a limit or a count; -1 is no limit, zero unknown.
func number(controllers []string, names ...string) int64 {
	text, ok := groupFile(controllers, names...)
	if !ok {
		return 0
	}
	if text == "max" {
		return -1
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return 0
	case n >= unlimited:
		return -1
	}
	return n
}

func (f *Facts) readLimits() {
	switch {
	case exists("/sys/fs/cgroup/cgroup.controllers"):
		f.CGroup = 2
	case exists("/sys/fs/cgroup/memory/memory.limit_in_bytes"):
		f.CGroup = 1
	default:
		return
	}
	f.Memory = number(memoryDirs, "memory.max", ":memory.limit_in_bytes")
	f.PIDs = number(pidsDirs, "pids.max", ":pids.max")
	if f.CGroup == 1 {
		f.Swap = number(memoryDirs, ":memory.memsw.limit_in_bytes")
		quota, period := number(cpuDirs, ":cpu.cfs_quota_us"), number(cpuDirs, ":cpu.cfs_period_us")
		f.CPUs = share(quota, period)
		return
	}
	// Version 2 counts swap by itself.
	if swap, ok := groupFile(nil, "memory.swap.max"); ok {
		switch n, err := strconv.ParseInt(swap, 10, 64); {
		case err != nil || f.Memory < 0:
			f.Swap = -1
		default:
			f.Swap = f.Memory + n
		}
	}
	if text, ok := groupFile(nil, "cpu.max"); ok {
		quota, period, _ := strings.Cut(text, " ")
		q, err := strconv.ParseInt(quota, 10, 64)
		if err != nil {
			q = -1
		}
		p, _ := strconv.ParseInt(period, 10, 64)
		f.CPUs = share(q, p)
	}
}

func share(quota, period int64) float64 {
	switch {
	case quota < 0:
		return -1
	case period <= 0:
		return 0
	}
	return float64(quota) / float64(period)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// readUsage reads what the control group has used.
func readUsage() sandbox.Usage {
	u := sandbox.Usage{
		Memory:     max(number(memoryDirs, "memory.current", ":memory.usage_in_bytes"), 0),
		PeakMemory: max(number(memoryDirs, "memory.peak", ":memory.max_usage_in_bytes"), 0),
		PIDs:       int(max(number(pidsDirs, "pids.current", ":pids.current"), 0)),
	}
	if own, err := os.ReadDir("/proc/self/task"); err == nil {
		u.PIDs = max(u.PIDs-len(own), 0) // without this program
	}
	u.CPU = time.Duration(max(number(cpuacct, ":cpuacct.usage"), 0))
	if text, ok := groupFile(nil, "cpu.stat"); ok {
		u.CPU = time.Duration(field(text, "usage_usec")) * time.Microsecond
	}
	if text, ok := groupFile(blockDirs, ":blkio.throttle.io_service_bytes"); ok {
		u.ReadBytes, u.WriteBytes = sum(text, "Read "), sum(text, "Write ")
	} else if text, ok := groupFile(nil, "io.stat"); ok {
		u.ReadBytes, u.WriteBytes = sum(text, "rbytes="), sum(text, "wbytes=")
	}
	return u
}

// oomKills counts what the kernel killed at the memory limit.
func oomKills() int64 {
	text, _ := groupFile(memoryDirs, "memory.events", ":memory.oom_control")
	return field(text, "oom_kill")
}

// field returns the number of a line "name number".
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}

// sum adds the numbers that follow mark, one a line.
func sum(text, mark string) (total int64) {
	for line := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(line, mark); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				n, _ := strconv.ParseInt(f[0], 10, 64)
				total += n
			}
		}
	}
	return total
}

// writeHosts replaces the lines of a hosts file in place: the engine has mounted it.
func writeHosts(path string, names map[string]string) error {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	for _, name := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(&b, "%s\t%s\n", names[name], name)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	return errors.Join(err, f.Truncate(int64(b.Len())), f.Close())
}

// fill copies a directory, with modes and times. Owner is who runs this.
func fill(c Copy) error {
	type made struct {
		path string
		info fs.FileInfo
	}
	var dirs []made
	err := filepath.WalkDir(c.From, func(from string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		to := filepath.Join(c.To, strings.TrimPrefix(from, c.From))
		switch {
		case d.IsDir():
			if from != c.From {
				err = os.Mkdir(to, 0o700)
				dirs = append(dirs, made{to, info})
			}
			return err
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(from)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		case d.Type().IsRegular():
			return copyFile(from, to, info)
		}
		return nil // sockets, pipes and devices carry nothing
	})
	for _, d := range slices.Backward(dirs) {
		err = errors.Join(err, os.Chmod(d.path, d.info.Mode().Perm()|0o700), os.Chtimes(d.path, time.Time{}, d.info.ModTime()))
	}
	return err
}

func copyFile(from, to string, info fs.FileInfo) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Chmod(info.Mode().Perm()|0o600), out.Close(), os.Chtimes(to, time.Time{}, info.ModTime()))
}
