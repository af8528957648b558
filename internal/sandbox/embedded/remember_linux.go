package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// memoryFileName is below StateDir.
const memoryFileName = "machine.json"

// memory is what an environment of this machine proved: that the best way to isolate
// works, with every control group hierarchy that there is. Whoever trusts it leaves out
// the rehearsal only. An init does each of its steps or fails, so what no longer holds
// ends in an error and is forgotten; it never makes a container weaker.
type memory struct {
	Schema  int     `json:"schema_version"`
	Machine machine `json:"machine"`
	UserNS  bool    `json:"user_namespace"`
	// Trees are the control group hierarchies, as [treesOf] names them.
	Trees string `json:"control_groups"`
	// Users is the note of why owners cannot be mapped, if there is one.
	Users string `json:"users,omitempty"`
}

const memorySchema = 1

// machine is what the proof depends on: while none of it changes it is worth something.
type machine struct {
	Boot, Kernel string
	User         int
	// Program is the file that inits are started from.
	Program string
	// Namespaces, Privileges and Profile are of this process: a container has others,
	// and may share the directory.
	Namespaces, Privileges, Profile string
	// Settings are those of the kernel by which users are kept from namespaces.
	Settings string
	// Temp is where files are shown as those of another user, beside StateDir.
	Temp string
}

// thisMachine describes what there is now.
func (b *Backend) thisMachine() (machine, error) {
	m := machine{Boot: sysctl("kernel/random/boot_id"), User: os.Geteuid(), Temp: os.TempDir()}
	if m.Boot == "" {
		return m, errors.New("the kernel tells no boot id")
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, fmt.Errorf("read the version of the kernel: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
	for _, path := range []string{self, b.options.Helper} {
		if path == "" {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return m, &os.PathError{Op: "stat", Path: path, Err: err}
		}
		m.Program += fmt.Sprintf("%d:%d:%d:%d ", st.Dev, st.Ino, st.Size, st.Mtim.Nano())
	}
	for _, name := range []string{"user", "mnt", "pid", "net", "ipc", "cgroup"} {
		link, err := os.Readlink("/proc/self/ns/" + name)
		if err != nil {
			return m, err
		}
		m.Namespaces += link + " "
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, err
	}
	for _, key := range []string{"CapEff:", "CapPrm:", "CapBnd:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:"} {
		m.Privileges += key + secondField(string(status), key) + " "
	}
	profile, _ := os.ReadFile("/proc/self/attr/current") // where there is a security module
	m.Profile = strings.TrimRight(string(profile), "\x00\n")
	for _, name := range []string{"kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns", "user/max_user_namespaces", "vm/memfd_noexec"} {
		m.Settings += name + "=" + sysctl(name) + " "
	}
	return m, nil
}

// treesOf names hierarchies but for where in them this process is: that is another place
// in each session, and a group that cannot be made there is an error.
func treesOf(list []hierarchy) string {
	var names []string
	for _, h := range list {
		names = append(names, fmt.Sprintf("v%d %s %s", h.Version, h.Mount, strings.Join(h.Controllers, ",")))
	}
	slices.Sort(names)
	return strings.Join(names, "; ")
}

func (b *Backend) memoryPath() string { return filepath.Join(b.options.StateDir, memoryFileName) }

// recall returns the findings of an earlier process, or nil if there are none that hold.
func (b *Backend) recall() *findings {
	text, err := os.ReadFile(b.memoryPath())
	if err != nil {
		return nil
	}
	var m memory
	if json.Unmarshal(text, &m) != nil || m.Schema != memorySchema || !m.UserNS && !privileged() {
		return nil
	}
	now, err := b.thisMachine()
	if err != nil || now != m.Machine {
		return nil
	}
	all, why, err := parents()
	if err != nil || treesOf(all) != m.Trees {
		return nil
	}
	f := &findings{
		variant: variant{Level: sandbox.Full, UserNS: m.UserNS}, parents: all, noGroups: why, notes: notes(), recalled: true,
	}
	if m.Users != "" {
		f.notes["users"] = m.Users
	}
	return f
}

// Remembers reports that level full works here: as this process found out, or an earlier
// one whose findings still hold. It tries nothing.
func (b *Backend) Remembers() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.check() != nil || b.maxLevel() < sandbox.Full:
		return false
	case b.found != nil:
		return b.found.variant.Level == sandbox.Full
	}
	return b.recall() != nil
}

// remember keeps what the first environment proved, for the processes that follow. all
// are the hierarchies there are: findings that had to do without one are not kept, since
// it might be there the next time. That nothing can be kept costs time only.
func (b *Backend) remember(ctx context.Context, f *findings, all []hierarchy) {
	if f.variant.OuterProc || len(f.parents) != len(all) {
		return
	}
	now, err := b.thisMachine()
	if err == nil {
		err = b.write(memory{Schema: memorySchema, Machine: now, UserNS: f.variant.UserNS, Trees: treesOf(all), Users: f.notes["users"]})
	}
	if err != nil {
		b.log.DebugContext(ctx, "what was found out about this machine is not kept", "error", err)
	}
}

// write replaces the memory: others, who read or write it too, see one or the other.
func (b *Backend) write(m memory) error {
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(b.options.StateDir, memoryFileName+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), b.memoryPath())
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// forget removes the memory after a failure that may mean that it no longer holds, and
// says so in the error.
func (b *Backend) forget(f *findings, err error) error {
	if !f.recalled || fault.KindOf(err) != fault.Unavailable {
		return err
	}
	if os.Remove(b.memoryPath()) != nil || fault.HintOf(err) != "" {
		return err
	}
	return fault.Wrap(err, fault.Unavailable, "run it again: what was known of this machine was forgotten, and will be found out anew", "use what an earlier run found out")
}
