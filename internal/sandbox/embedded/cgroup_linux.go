package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// The controllers that are used; the last two only measure.
const (
	ctlMemory = "memory"
	ctlPIDs   = "pids"
	ctlCPU    = "cpu"
	ctlUsage  = "cpuacct"
	ctlIO     = "io"
)

// Those of each version. In version 2 every group measures processor time.
var (
	controllers1 = []string{ctlMemory, ctlPIDs, ctlCPU, ctlUsage}
	controllers2 = []string{ctlMemory, ctlPIDs, ctlCPU, ctlIO}
)

// group is a control group in every hierarchy that is used.
type group struct {
	parts []groupPart
}

type groupPart struct {
	hierarchy
	path string
	made bool // by this environment: nothing else is removed
}

// paths returns the directories, for the journal.
func (g *group) paths() []string {
	var list []string
	for _, p := range g.parts {
		list = append(list, p.path)
	}
	return list
}

// planGroup says which directories a group called name will have.
func planGroup(in []hierarchy, name string) *group {
	g := &group{}
	for _, h := range in {
		g.parts = append(g.parts, groupPart{hierarchy: h, path: filepath.Join(h.Dir, name)})
	}
	return g
}

// child plans a group below g.
func (g *group) child(name string) *group {
	c := &group{}
	for _, p := range g.parts {
		c.parts = append(c.parts, groupPart{hierarchy: p.hierarchy, path: filepath.Join(p.path, name)})
	}
	return c
}

// create makes the group and sets limits. On an error nothing is left.
func (g *group) create(l sandbox.Limits, inner bool) error {
	for i := range g.parts {
		if err := g.parts[i].create(l, inner); err != nil {
			return errors.Join(err, g.remove(context.Background()))
		}
	}
	return nil
}

func (p *groupPart) create(l sandbox.Limits, inner bool) error {
	if err := os.Mkdir(p.path, 0o755); err != nil {
		return fmt.Errorf("make a control group: %w", err)
	}
	p.made = true
	if err := p.limit(l); err != nil {
		return err
	}
	if p.Version == 2 && !inner {
		down := "+" + strings.Join(p.Controllers, " +")
		return p.write("cgroup.subtree_control", down)
	}
	return nil
}

func (p groupPart) has(controller string) bool { return slices.Contains(p.Controllers, controller) }

func (p groupPart) write(file, value string) error { return writeGroup(p.path, file, value) }

func (p groupPart) read(file string) string {
	b, err := os.ReadFile(filepath.Join(p.path, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// period is the length of a scheduling period, in microseconds: a share of
// processors is a quota of it.
const period = 100_000

func quota(cpus float64) int64 { return max(int64(cpus*period), 1000) }

// limit sets the limits of the controllers of this hierarchy and reads them back.
func (p groupPart) limit(l sandbox.Limits) error {
	type setting struct {
		file  string
		value int64
	}
	var set []setting
	optional := func(file string, value int64) {
		if _, err := os.Stat(filepath.Join(p.path, file)); err == nil {
			set = append(set, setting{file, value})
		}
	}
	v1 := p.Version == 1
	if p.has(ctlMemory) && v1 {
		optional("memory.use_hierarchy", 1)
		set = append(set, setting{"memory.limit_in_bytes", l.Memory})
		optional("memory.memsw.limit_in_bytes", l.Memory)
	} else if p.has(ctlMemory) {
		set = append(set, setting{"memory.max", l.Memory})
		optional("memory.swap.max", 0)
		optional("memory.oom.group", 1)
	}
	if p.has(ctlPIDs) {
		set = append(set, setting{"pids.max", int64(l.PIDs)})
	}
	if p.has(ctlCPU) && v1 {
		set = append(set, setting{"cpu.cfs_period_us", period}, setting{"cpu.cfs_quota_us", quota(l.CPUs)})
	}
	for _, s := range set {
		if s.file == "memory.use_hierarchy" && p.read(s.file) == "1" {
			continue
		}
		err := p.write(s.file, strconv.FormatInt(s.value, 10))
		if s.file == "cpu.cfs_quota_us" && errors.Is(err, unix.EINVAL) {
			// A group around this one has less already, which holds here too.
			continue
		}
		if err != nil {
			return err
		}
		if err := p.check(s.file, s.value); err != nil {
			return err
		}
	}
	if p.has(ctlCPU) && !v1 {
		want := fmt.Sprintf("%d %d", quota(l.CPUs), period)
		if err := p.write("cpu.max", want); err != nil {
			return err
		}
		if got := p.read("cpu.max"); got != want {
			return fmt.Errorf("%s is %q after %q was written", filepath.Join(p.path, "cpu.max"), got, want)
		}
	}
	return nil
}

// check reads a limit back. The kernel rounds memory down to whole pages.
func (p groupPart) check(file string, want int64) error {
	got, err := strconv.ParseInt(p.read(file), 10, 64)
	if err != nil || got > want || want-got >= int64(os.Getpagesize()) {
		return fmt.Errorf("%s is %q after %d was written", filepath.Join(p.path, file), p.read(file), want)
	}
	return nil
}

// open opens what a process needs to join, in the order of [initSpec].
func (g *group) open() (list []groupFile, files []*os.File, err error) {
	for _, p := range g.parts {
		names := []string{filepath.Join(p.path, "tasks")}
		if p.Version == 2 {
			names = []string{filepath.Join(p.path, "cgroup.procs"), filepath.Join(p.ownDir(), "cgroup.procs")}
		}
		for _, name := range names {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				closeAll(files)
				return nil, nil, fmt.Errorf("open a control group: %w", err)
			}
			files = append(files, f)
		}
		list = append(list, groupFile{p.Version})
	}
	return list, files, nil
}

// ownDir is the group of this process, which an init returns to.
func (p groupPart) ownDir() string {
	mountinfo, own, _ := processGroups()
	for _, h := range hierarchies(mountinfo, own) {
		if h.Version == 2 && h.Mount == p.Mount {
			return h.Dir
		}
	}
	return p.Dir
}

// usage is what a group has used; what no controller measures is zero. Version 1
// measures no bytes: its blkio counts nothing that passes the page cache, and since
// Linux 6.10 nothing at all unless it throttles.
func (g *group) usage() sandbox.Usage {
	var u sandbox.Usage
	for _, p := range g.parts {
		v1 := p.Version == 1
		switch {
		case p.has(ctlMemory) && v1:
			u.Memory, u.PeakMemory = number(p.read("memory.usage_in_bytes")), number(p.read("memory.max_usage_in_bytes"))
		case p.has(ctlMemory):
			u.Memory, u.PeakMemory = number(p.read("memory.current")), number(p.read("memory.peak"))
		}
		if p.has(ctlPIDs) {
			u.PIDs = int(number(p.read("pids.current")))
		}
		switch {
		case p.has(ctlUsage):
			u.CPU = time.Duration(number(p.read("cpuacct.usage")))
		case !v1 && u.CPU == 0:
			u.CPU = time.Duration(number(field(p.read("cpu.stat"), "usage_usec"))) * time.Microsecond
		}
		if p.has(ctlIO) {
			u.ReadBytes, u.WriteBytes = parseIO(p.read("io.stat"))
		}
	}
	return u
}

// parseIO sums an io.stat over all devices: lines of "8:0 rbytes=1 wbytes=2 …".
func parseIO(text string) (read, written int64) {
	for f := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(f, "rbytes="); ok {
			read += number(v)
		} else if v, ok := strings.CutPrefix(f, "wbytes="); ok {
			written += number(v)
		}
	}
	return read, written
}

// outOfMemory is how many processes the memory limit has killed.
func (g *group) outOfMemory() int64 {
	for _, p := range g.parts {
		switch {
		case p.has(ctlMemory) && p.Version == 1:
			return number(field(p.read("memory.oom_control"), "oom_kill"))
		case p.has(ctlMemory):
			return number(field(p.read("memory.events"), "oom_kill"))
		}
	}
	return 0
}

// field returns the value of key in lines of "key value".
func field(text, key string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, key+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// remove removes the group, as far as it was made, and those below it.
func (g *group) remove(ctx context.Context) error {
	var made []string
	for _, p := range g.parts {
		if p.made {
			made = append(made, p.path)
		}
	}
	return removeGroups(ctx, made)
}

// removeTime bounds how long the kernel may take to let go of ended processes.
const removeTime = 20 * time.Second

// removeGroups kills what is left in groups and removes them, with those below.
// A group stays busy for a moment after its last process was waited for, and
// version 1 has no event for that.
func removeGroups(ctx context.Context, paths []string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	var errs []error
	for _, path := range paths {
		err := removeGroup(path)
		for errors.Is(err, unix.EBUSY) && ctx.Err() == nil {
			select {
			case <-again.C:
				err = removeGroup(path)
			case <-ctx.Done():
			}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove a control group: %w", err))
		}
	}
	return errors.Join(errs...)
}

func removeGroup(path string) error {
	if err := unix.Rmdir(path); err == nil || gone(err) {
		return nil
	}
	if _, err := os.Stat(path); gone(err) {
		return nil // on a read-only file system rmdir(2) does not say that
	}
	killGroup(path)
	below, err := os.ReadDir(path)
	if err != nil && !gone(err) {
		return err
	}
	for _, d := range below {
		if d.IsDir() {
			if err := removeGroup(filepath.Join(path, d.Name())); err != nil {
				return err
			}
		}
	}
	if err := unix.Rmdir(path); err != nil && !gone(err) {
		return &os.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}

// gone reports whether err says that somebody else removed the group: the kernel
// answers ENODEV for one that is removed while it is looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV)
}

// killGroup kills the members of one group.
func killGroup(path string) {
	b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	if err != nil {
		return
	}
	for f := range strings.FieldsSeq(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
