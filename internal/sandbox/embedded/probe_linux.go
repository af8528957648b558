package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// findings are what a probe found out about this machine.
type findings struct {
	variant variant
	// parents are where control groups can be made; noGroups says why, of those
	// controllers that cannot be used.
	parents  []hierarchy
	noGroups string
	refused  []string
	notes    map[string]string
	recalled bool // and not found by this process
}

// Probe starts a throw-away container and takes down what the kernel refused.
func (b *Backend) Probe(ctx context.Context) (sandbox.Capabilities, error) {
	if err := b.check(); err != nil {
		return sandbox.Capabilities{}, err
	}
	f, err := b.probe(ctx)
	if err != nil {
		return sandbox.Capabilities{}, err
	}
	return sandbox.Capabilities{Level: f.variant.Level, Refused: slices.Clone(f.refused), Notes: maps.Clone(f.notes)}, nil
}

// probe finds out once what this machine allows.
func (b *Backend) probe(ctx context.Context) (*findings, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.found != nil {
		return b.found, nil
	}
	f := &findings{notes: notes()}
	if err := b.tryLevels(ctx, f); err != nil {
		return nil, err
	}
	b.settle(ctx, f)
	return f, nil
}

// settle keeps what was found for all that follow.
func (b *Backend) settle(ctx context.Context, f *findings) {
	f.notes["level"] = f.variant.Level.String()
	f.notes["user namespace"] = strconv.FormatBool(f.variant.UserNS)
	f.notes["control groups"] = describeGroups(f)
	b.found = f
	b.log.DebugContext(ctx, "sandbox probed", "level", f.variant.Level, "user_namespace", f.variant.UserNS, "refused", f.refused)
}

// createFirst makes the environment and the findings in one: where the best way to
// isolate works, as nearly everywhere, the first environment is where it is tried. It
// returns neither if that way does not work, or if the findings are there already. Where
// an earlier process did the same it is not tried again before it is used.
func (b *Backend) createFirst(ctx context.Context, spec sandbox.EnvironmentSpec) (*environment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.found != nil || b.maxLevel() < sandbox.Full {
		return nil, nil
	}
	if f := b.recall(); f != nil {
		e, err := b.create(ctx, spec, f)
		if err == nil {
			b.settle(ctx, f)
			return e, nil
		}
		if isUnrecorded(err) || ctx.Err() != nil {
			return nil, err
		}
		b.log.DebugContext(ctx, "what is known of this machine no longer holds", "error", b.forget(f, err))
	}
	all, usable, why := usableGroups()
	f := &findings{notes: notes(), parents: usable, noGroups: why}
	f.variant = b.fullVariants(f)[0]
	e, err := b.create(ctx, spec, f)
	if err != nil && (isUnrecorded(err) || ctx.Err() != nil) {
		return nil, err // the name is taken, or the disk full
	}
	if err == nil {
		if err = e.rehearse(ctx); err == nil {
			b.settle(ctx, f)
			b.remember(ctx, f, all)
			return e, nil
		}
		err = errors.Join(err, e.Close(ctx))
	}
	b.log.DebugContext(ctx, "the best way to isolate does not work", "error", err)
	return nil, nil
}

// tryLevels tries from the strongest way to isolate to the weakest.
func (b *Backend) tryLevels(ctx context.Context, f *findings) error {
	if b.maxLevel() < sandbox.Full {
		f.refused = append(f.refused, "full: not tried: this run allows at most level "+b.maxLevel().String())
	} else {
		all, usable, why := usableGroups()
		var reasons []string
		for _, v := range b.fullVariants(f) {
			err := b.rehearse(ctx, v, usable)
			if err != nil && len(usable) > 0 {
				// What is in the way may be the control groups.
				if b.rehearse(ctx, v, nil) == nil {
					err, usable, why = nil, nil, err.Error()
				}
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if isUnrecorded(err) {
				return err
			}
			if err == nil {
				f.variant, f.parents, f.noGroups = v, usable, why
				b.remember(ctx, f, all)
				return nil
			}
			if text := explain(err, v); !slices.Contains(reasons, text) {
				reasons = append(reasons, text)
			}
		}
		f.refused = append(f.refused, "full: "+strings.Join(reasons, "; "))
	}
	if b.maxLevel() >= sandbox.Reduced {
		v := variant{Level: sandbox.Reduced}
		if err := b.rehearse(ctx, v, nil); err == nil {
			f.variant = v
			return nil
		} else if isUnrecorded(err) {
			return err
		} else {
			f.refused = append(f.refused, "reduced: "+err.Error())
		}
	} else {
		f.refused = append(f.refused, "reduced: not tried: this run allows at most level none")
	}
	f.variant = variant{Level: sandbox.None}
	return ctx.Err()
}

// fullVariants are the ways to level Full, the best first. Without a user namespace
// the container's user stands for the owner of a mount by the mount, where the file
// system can do that; else the namespace is better, which does it everywhere.
func (b *Backend) fullVariants(f *findings) []variant {
	direct := []variant{{Level: sandbox.Full}}
	list := []variant{{Level: sandbox.Full, UserNS: true}, {Level: sandbox.Full, UserNS: true, OuterProc: true}}
	if !privileged() {
		return list
	}
	for _, dir := range []string{b.options.StateDir, os.TempDir()} {
		if err := mapsOwners(dir); err != nil {
			f.notes["users"] = err.Error()
			return append(list, direct...)
		}
	}
	return append(direct, list...)
}

// privileged reports whether this process has what it takes to do without a user
// namespace.
func privileged() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Geteuid() != 0 || unix.Capget(&header, &sets[0]) != nil {
		return false
	}
	for _, c := range []int{unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_NET_ADMIN, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER} {
		if sets[c/32].Effective&(1<<(c%32)) == 0 {
			return false
		}
	}
	return true
}

// rehearse makes an environment and a container in it, up to the point where the
// payload would start, and removes both.
func (b *Backend) rehearse(ctx context.Context, v variant, groups []hierarchy) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	b.log.DebugContext(ctx, "rehearse", "variant", v)
	name := fmt.Sprintf("probe-%d-%d", os.Getpid(), time.Now().UnixNano())
	spec := sandbox.EnvironmentSpec{Name: name}
	e, err := b.create(ctx, spec, &findings{variant: v, parents: groups})
	if err != nil {
		return err
	}
	err = e.rehearse(ctx)
	return errors.Join(err, e.Close(ctx))
}

// usableGroups returns all hierarchies, those in which a group with limits can be made,
// and what was in the way of the others.
func usableGroups() (all, usable []hierarchy, why string) {
	all, why, err := parents()
	if err != nil {
		return nil, nil, err.Error()
	}
	name := fmt.Sprintf("%sprobe-%d-%d", groupPrefix, os.Getpid(), time.Now().UnixNano())
	for _, h := range all {
		g := planGroup([]hierarchy{h}, name)
		err := g.create(defaults(), false)
		if err == nil {
			err = g.remove(context.Background())
		}
		if err != nil {
			why = err.Error()
			continue
		}
		usable = append(usable, h)
	}
	return all, usable, why
}

func describeGroups(f *findings) string {
	var list []string
	for _, h := range f.parents {
		list = append(list, fmt.Sprintf("v%d %s", h.Version, strings.Join(h.Controllers, ",")))
	}
	if f.noGroups != "" {
		list = append(list, f.noGroups)
	}
	return strings.Join(list, "; ")
}

// notes are facts about the machine.
func notes() map[string]string {
	n := map[string]string{}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		n["kernel"] = unix.ByteSliceToString(u.Release[:])
	}
	if _, v, err := landlockConfig(); err == nil {
		n["landlock"] = "version " + strconv.Itoa(v)
	} else {
		n["landlock"] = err.Error()
	}
	n["user"] = strconv.Itoa(os.Getuid())
	return n
}

// explain says what the kernel refused and, where a file tells, why.
func explain(err error, v variant) string {
	var f *failure
	text := err.Error()
	if !errors.As(err, &f) {
		return text
	}
	who := "without a user namespace"
	if v.UserNS {
		who = "in a user namespace"
	}
	text = fmt.Sprintf("the kernel refused to %s (%s) %s", f.Step, f.Text, who)
	var because []string
	if v.UserNS {
		because = userNamespaceReasons(f)
	}
	if status, err := os.ReadFile("/proc/self/status"); err == nil && secondField(string(status), "Seccomp:") == "2" {
		because = append(because, "a system call filter is in force, as in a container with its default seccomp profile")
	}
	if errors.Is(f, syscall.ENOSYS) {
		because = append(because, "Linux 5.12 or newer is needed")
	}
	if len(because) > 0 {
		text += ": " + strings.Join(because, ", ")
	}
	return text
}

// userNamespaceReasons are the settings that keep a user from user namespaces.
func userNamespaceReasons(f *failure) []string {
	var list []string
	if sysctl("kernel/unprivileged_userns_clone") == "0" {
		list = append(list, "kernel.unprivileged_userns_clone is 0")
	}
	if sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1" {
		list = append(list, "AppArmor restricts user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)")
	}
	if sysctl("user/max_user_namespaces") == "0" || errors.Is(f, syscall.ENOSPC) {
		list = append(list, "user.max_user_namespaces is "+sysctl("user/max_user_namespaces"))
	}
	return list
}

func sysctl(name string) string {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// secondField returns the second field of the line whose first is key.
func secondField(text, key string) string {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == key {
			return f[1]
		}
	}
	return ""
}

// refuse is the error of a level that cannot be reached.
func (f *findings) refuse(asked sandbox.Level) error {
	hint := "run as root, or in a container with --security-opt seccomp=unconfined, or install Docker, or accept less with --min-isolation " + f.variant.Level.String()
	return fault.New(fault.Unavailable, hint, "isolation level %s cannot be reached here, only %s: %s",
		asked, f.variant.Level, strings.Join(f.refused, "; "))
}
