package embedded

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// TestSupervisorKilled kills the supervisor below level full, where nothing but the inits
// can end what it had started, while its creator lives.
func TestSupervisorKilled(t *testing.T) {
	for _, c := range []struct {
		name    string
		level   sandbox.Level
		stopped bool // the init does not end by itself
	}{
		{"reduced", sandbox.Reduced, false}, {"none", sandbox.None, false}, {"stopped init", sandbox.None, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := New(Options{StateDir: t.TempDir(), MaxLevel: &c.level})
			made, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "orphans"})
			if err != nil {
				t.Fatal(err)
			}
			e := made.(*environment)
			started, err := e.Start(t.Context(), sandbox.ContainerSpec{
				Name: "sleeper", Argv: []string{"/bin/sh", "-c", "setsid sleep 1000 & exec sleep 1000"},
			})
			if err != nil {
				t.Fatal(err)
			}
			init := started.(*container).init
			var tree []process
			for len(tree) < 2 && t.Context().Err() == nil {
				tree = tree[:0]
				for _, pid := range descendants(init.PID) {
					if p, err := processOf(pid); err == nil {
						tree = append(tree, p)
					}
				}
			}
			tree = append(tree, init)
			if c.stopped {
				if err := unix.Kill(init.PID, unix.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-e.gone
			if !c.stopped {
				if st, err := started.Wait(t.Context()); err != nil || st.OK() {
					t.Errorf("the container ended by %+v, %v", st, err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), closeTime)
			defer cancel()
			closed := make(chan error)
			go func() { closed <- e.Close(ctx) }()
			select {
			case err := <-closed:
				if err != nil {
					t.Error(err)
				}
			case <-ctx.Done():
				for _, p := range tree {
					_ = p.kill(context.Background(), 0)
				}
				t.Fatal("close waits forever")
			}
			for _, p := range tree {
				ended(t, p)
			}
		})
	}
}

// ended waits for the end of a process that was killed already; a zombie has ended.
func ended(t *testing.T, p process) {
	t.Helper()
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil || !p.lives() {
		return
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int((2 * time.Second).Milliseconds()))
	if n == 0 {
		t.Errorf("process %d lives on, %v", p.PID, err)
		_ = p.kill(context.Background(), 0)
	}
}

// TestGroupOfAnother fails to make a control group that is there already, and leaves it.
func TestGroupOfAnother(t *testing.T) {
	t.Parallel()
	_, usable, why := usableGroups()
	if len(usable) == 0 {
		t.Skipf("no control groups here: %s", why)
	}
	name := groupPrefix + "another-" + t.Name() + "-" + time.Now().Format("150405.000000000")
	first, second := planGroup(usable, name), planGroup(usable, name)
	if err := first.create(defaults(), false); err != nil {
		t.Fatal(err)
	}
	if err := second.create(defaults(), false); err == nil {
		t.Error("one group was made twice")
	}
	for _, path := range first.paths() {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("the other's failure took the group: %v", err)
		}
	}
	if err := first.remove(t.Context()); err != nil {
		t.Error(err)
	}
	for _, path := range first.paths() {
		if exists(path) {
			t.Errorf("%s is left", path)
		}
	}
}

// TestSameName has two environments of one name at once, of different state directories.
func TestSameName(t *testing.T) {
	t.Parallel()
	var both []sandbox.Environment
	for range 2 {
		e, err := New(Options{StateDir: t.TempDir()}).Create(t.Context(), sandbox.EnvironmentSpec{Name: "namesake"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close(context.Background()) })
		both = append(both, e)
	}
	for _, e := range both { // the second goes on when the first is closed
		c, err := e.Start(t.Context(), sandbox.ContainerSpec{Name: "true", Argv: []string{"/usr/bin/true"}})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := c.Wait(t.Context()); err != nil || !st.OK() {
			t.Error(st, err)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
