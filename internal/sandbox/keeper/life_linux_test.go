package keeper_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/keeper"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// creatorArg makes the test binary a command that keeps an environment, starts a
// container that stays and one that is its own, says so, and waits to be killed.
const creatorArg = "keeper-creator"

func create(dir, name string) int {
	b := newBackend(&testing.B{}, dir, sandbox.None)
	ctx := context.Background()
	e, err := b.Keep(ctx, sandbox.EnvironmentSpec{Name: name, Limits: long}, keeper.Life{Persistent: true})
	if err == nil {
		_, err = e.Launch(ctx, sleeper("stays", name), "generic", "host", 0)
	}
	var c sandbox.Container
	if err == nil {
		spec := sleeper("own", name)
		spec.Stdin = strings.NewReader(strings.Repeat("what it never reads\n", 1<<16))
		c, err = e.Start(ctx, spec)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready")
	_, err = c.Wait(ctx)
	fmt.Fprintln(os.Stderr, "the container ended:", err)
	return 1
}

// long are limits of an environment in which time does not pass.
var long = sandbox.Limits{Wall: 24 * time.Hour}

// sleeper is a container that ends by a signal alone, and can be found by mark.
func sleeper(name, mark string) sandbox.ContainerSpec {
	return sandbox.ContainerSpec{Name: name, Argv: []string{"sh", "-c", "echo begins; while :; do sleep 1000000; done", name + "-" + mark}, Env: []string{"PATH=/usr/bin:/bin"}}
}

// mark is part of names and arguments of this test alone.
func mark(t *testing.T) string {
	return strings.ToLower(t.Name()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
}

// running reports whether a shell has mark among its arguments.
func running(t *testing.T, mark string) bool {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if b, err := os.ReadFile(l); err == nil && bytes.Contains(b, []byte(mark)) && !bytes.Contains(b, []byte(creatorArg)) {
			return true
		}
	}
	return false
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	late := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-again.C:
		case <-late:
			t.Fatal(what)
		}
	}
}

// keep makes an environment that is removed at the end of the test.
func keep(t *testing.T, b *keeper.Backend, name string, life keeper.Life) *keeper.Environment {
	t.Helper()
	e, err := b.Keep(t.Context(), sandbox.EnvironmentSpec{Name: name, Limits: long}, life)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Remove(context.Background(), name, keeper.Removal{Force: true}); err != nil && fault.KindOf(err) != fault.Finding {
			t.Error(err)
		}
	})
	return e
}

// launch starts a container that stays.
func launch(t *testing.T, e *keeper.Environment, spec sandbox.ContainerSpec) keeper.ContainerInfo {
	t.Helper()
	spec.Env = []string{"PATH=/usr/bin:/bin"}
	i, err := e.Launch(t.Context(), spec, "generic", "host", 0)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// pidOf returns the process that holds the environment in dir.
func pidOf(t *testing.T, dir, name string) int {
	t.Helper()
	d, err := os.Open(filepath.Join(dir, "keepers", name))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/keeper.sock", d.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var cred *syscall.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || cred == nil {
		t.Fatal(err)
	}
	return int(cred.Pid)
}

// TestOutlivesItsCreator: after kill -9 of the command the environment and what was
// launched in it are there for the next; what the command ran itself is not.
func TestOutlivesItsCreator(t *testing.T) {
	t.Parallel()
	dir, name := t.TempDir(), mark(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, creatorArg, dir, name)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, dir, sandbox.None)
	t.Cleanup(func() { _ = b.Remove(context.Background(), name, keeper.Removal{Force: true}) })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the creator says %q, %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "what a killed command ran itself goes on", func() bool { return !running(t, "own-"+name) })
	e, err := b.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var info keeper.Info
	eventually(t, "it is not seen to have ended", func() bool {
		info, err = e.Info(t.Context())
		return err != nil || len(info.Containers) == 2 && info.Containers[1].Status == keeper.Stopped
	})
	if err != nil || info.Containers[0].Name != "stays" || info.Containers[0].Status != keeper.Running || !strings.HasPrefix(info.ID, "env-") || !info.Persistent {
		t.Errorf("%+v, %v", info, err)
	}
	if !running(t, "stays-"+name) {
		t.Error("what was launched ended with the command")
	}
	var said bytes.Buffer
	if err := e.Logs(t.Context(), "stays", false, &said); err != nil || said.String() != "begins\n" {
		t.Errorf("it wrote %q, %v", said.String(), err)
	}
	if removed, err := b.GC(t.Context()); err != nil || len(removed) > 0 {
		t.Errorf("a living environment is taken for a leftover: %q, %v", removed, err)
	}
	if err := b.Remove(t.Context(), name, keeper.Removal{}); err != nil {
		t.Fatal(err)
	}
	nothing(t, dir, name)
}

// nothing checks that nothing is left of name, processes included.
func nothing(t *testing.T, dir, name string) {
	t.Helper()
	if left := leftovers(t, dir, name); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	eventually(t, "a process is left", func() bool { return !running(t, name) })
}

// TestKilledKeeper: the kernel ends what it held, and gc removes the rest.
func TestKilledKeeper(t *testing.T) {
	t.Parallel()
	for _, level := range []sandbox.Level{sandbox.None, sandbox.Full} {
		dir, name := t.TempDir(), mark(t)
		b := newBackend(t, dir, level)
		e := keep(t, b, name, keeper.Life{})
		launch(t, e, sleeper("held", name))
		pid := pidOf(t, dir, name)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "what it held outlives it", func() bool { return !running(t, "held-"+name) })
		var kept []keeper.Info
		eventually(t, "it seems to live", func() bool {
			var err error
			kept, err = b.Kept(t.Context())
			return err == nil && len(kept) == 1 && kept[0].Status == keeper.Stopped
		})
		if _, err := e.Launch(t.Context(), sleeper("late", name), "", "", 0); fault.KindOf(err) != fault.Unavailable || fault.HintOf(err) == "" {
			t.Errorf("a start with a killed keeper: %v", err)
		}
		if _, err := b.Open(t.Context(), name); fault.KindOf(err) != fault.Finding {
			t.Errorf("open: %v", err)
		}
		removed, err := b.GC(t.Context())
		if err != nil || len(removed) != 1 || removed[0] != name {
			t.Errorf("gc: %q, %v", removed, err)
		}
		nothing(t, dir, name)
	}
}

// TestSignalledKeeper: told to end, it closes its environment.
func TestSignalledKeeper(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		dir, name := t.TempDir(), mark(t)
		b := newBackend(t, dir, sandbox.None)
		e := keep(t, b, name, keeper.Life{})
		launch(t, e, sleeper("held", name))
		pid := pidOf(t, dir, name)
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil { // a terminal that closes is none of its business
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it does not end", func() bool { return len(leftovers(t, dir, name)) == 0 })
		nothing(t, dir, name)
	}
}

// TestTimeToLive: an environment that nobody uses is removed; one in use is not, nor
// one that is only looked at kept.
func TestTimeToLive(t *testing.T) {
	t.Parallel()
	dir, name := t.TempDir(), mark(t)
	b := newBackend(t, dir, sandbox.None)
	life := keeper.Life{TTL: 1500 * time.Millisecond}
	persistent := keep(t, b, "persistent-"+name, keeper.Life{TTL: time.Millisecond, Persistent: true})
	used := keep(t, b, "used-"+name, life)
	c, err := used.Start(t.Context(), sleeper("held", "used-"+name))
	if err != nil {
		t.Fatal(err)
	}
	unused := keep(t, b, "unused-"+name, life)
	launch(t, unused, sleeper("held", "unused-"+name)) // a container that runs is no use
	eventually(t, "an unused environment stays", func() bool {
		_, _ = unused.Info(t.Context())
		return len(leftovers(t, dir, "unused-"+name)) == 0
	})
	nothing(t, dir, "unused-"+name)
	for _, e := range []*keeper.Environment{persistent, used} {
		if i, err := e.Info(t.Context()); err != nil || i.Status != keeper.Running {
			t.Errorf("%+v, %v", i, err)
		}
	}
	if err := c.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, "it stays after its last use", func() bool { return len(leftovers(t, dir, "used-"+name)) == 0 })
	if removed, err := b.GCUnused(t.Context(), 0); err != nil || len(removed) != 1 || removed[0] != "persistent-"+name {
		t.Errorf("%q, %v", removed, err)
	}
}

// TestStoppedKeeper: one that does not answer is ended by force, and only by that.
func TestStoppedKeeper(t *testing.T) {
	t.Parallel()
	dir, name := t.TempDir(), mark(t)
	b := newBackend(t, dir, sandbox.None)
	launch(t, keep(t, b, name, keeper.Life{}), sleeper("held", name))
	pid := pidOf(t, dir, name)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.Remove(ctx, name, keeper.Removal{}); fault.KindOf(err) != fault.Unavailable || !strings.Contains(fault.HintOf(err), "--force") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	if err := b.Remove(t.Context(), name, keeper.Removal{Force: true, Answer: 200 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	nothing(t, dir, name)
}

// TestCancelledCreate: whenever it is cancelled, nothing is left.
func TestCancelledCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBackend(t, dir, sandbox.Full)
	for i := range 12 {
		name := mark(t) + strconv.Itoa(i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*4*time.Millisecond)
		_, err := b.Keep(ctx, sandbox.EnvironmentSpec{Name: name}, keeper.Life{Persistent: true})
		cancel()
		if err == nil {
			if err := b.Remove(t.Context(), name, keeper.Removal{}); err != nil {
				t.Error(err)
			}
		}
		nothing(t, dir, name)
	}
}

// TestRemovedDirectory: a keeper that nobody can reach any more ends.
func TestRemovedDirectory(t *testing.T) {
	t.Parallel()
	dir, name := t.TempDir(), mark(t)
	b := newBackend(t, dir, sandbox.None)
	launch(t, keep(t, b, name, keeper.Life{Persistent: true}), sleeper("held", name))
	if err := os.RemoveAll(filepath.Join(dir, "keepers")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it goes on", func() bool { return len(leftovers(t, dir, name)) == 0 })
	nothing(t, dir, name)
}

// TestNames: one of a kind, and what is unknown is said with a suggestion.
func TestNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBackend(t, dir, sandbox.None)
	keep(t, b, "first", keeper.Life{})
	if _, err := b.Keep(t.Context(), sandbox.EnvironmentSpec{Name: "first"}, keeper.Life{}); fault.KindOf(err) != fault.Finding {
		t.Errorf("a second of one name: %v", err)
	}
	if _, err := b.Keep(t.Context(), sandbox.EnvironmentSpec{Name: "../x"}, keeper.Life{}); fault.KindOf(err) != fault.Usage {
		t.Errorf("a name that is a path: %v", err)
	}
	for _, name := range []string{"frist", "../first", ""} {
		_, err := b.Open(t.Context(), name)
		if fault.KindOf(err) != fault.Finding {
			t.Errorf("open %q: %v", name, err)
		}
		if err := b.Remove(t.Context(), name, keeper.Removal{}); fault.KindOf(err) != fault.Finding {
			t.Errorf("remove %q: %v", name, err)
		}
	}
	if _, err := b.Open(t.Context(), "frist"); !strings.Contains(fault.HintOf(err), "first") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
}

// TestOwnUserAlone: the files of an environment are its user's.
func TestOwnUserAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := newBackend(t, dir, sandbox.None)
	launch(t, keep(t, b, "mine", keeper.Life{}), sleeper("held", mark(t)))
	err := filepath.WalkDir(filepath.Join(dir, "keepers"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLaunch: a container that stays is listed, bounded in number, followed to its
// end, stopped politely and then not.
func TestLaunch(t *testing.T) {
	t.Parallel()
	b := newBackend(t, t.TempDir(), sandbox.None)
	e := keep(t, b, "launch", keeper.Life{MaxContainers: 2})
	polite := launch(t, e, sandbox.ContainerSpec{Name: "polite", Argv: []string{"sh", "-c", `trap 'echo bye; exit 0' TERM; echo begins; while :; do read -r _ </dev/zero || :; done & wait`}})
	if polite.Status != keeper.Running || polite.Image != "host" || polite.ID == "" {
		t.Errorf("%+v", polite)
	}
	launch(t, e, sandbox.ContainerSpec{Name: "deaf", Argv: []string{"sh", "-c", `trap '' TERM; echo begins; sleep 1000000`}})
	if _, err := e.Launch(t.Context(), sleeper("third", "x"), "", "", 0); fault.KindOf(err) != fault.Finding || !strings.Contains(fault.HintOf(err), "max_containers") {
		t.Errorf("a third container: %v, hint %q", err, fault.HintOf(err))
	}
	var said lockedBuffer
	followed := make(chan error, 1)
	go func() { followed <- e.Logs(context.Background(), "polite", true, &said) }()
	for _, name := range []string{"polite", "deaf"} {
		eventually(t, name+" does not begin", func() bool {
			var b bytes.Buffer
			return e.Logs(t.Context(), name, false, &b) == nil && strings.Contains(b.String(), "begins")
		})
	}
	if err := e.MarkReady(t.Context(), "polite"); err != nil {
		t.Error(err)
	}
	if i, err := e.Info(t.Context()); err != nil || i.Containers[0].Status != keeper.Ready {
		t.Errorf("%+v, %v", i, err)
	}
	i, err := e.Stop(t.Context(), "polite", 20*time.Second)
	if err != nil || i.Status != keeper.Stopped || i.Exit == nil || i.Exit.Code != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	if err := <-followed; err != nil || said.String() != "begins\nbye\n" {
		t.Errorf("followed %q, %v", said.String(), err)
	}
	i, err = e.Stop(t.Context(), "deaf", 50*time.Millisecond)
	if err != nil || i.Exit == nil || i.Exit.Signal != "SIGKILL" {
		t.Errorf("%+v, %v", i, err)
	}
	if _, err := e.Stop(t.Context(), "deaf", 0); fault.KindOf(err) != fault.Finding {
		t.Errorf("stop of what ended: %v", err)
	}
	if _, err := e.Stop(t.Context(), "daef", 0); !strings.Contains(fault.HintOf(err), "deaf") {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
	// A name is free again, and the new one's output is its own.
	launch(t, e, sandbox.ContainerSpec{Name: "polite", Argv: []string{"sh", "-c", "echo again; exit 3"}})
	st, err := e.Wait(t.Context(), "polite")
	if err != nil || st.Code != 3 {
		t.Errorf("%+v, %v", st, err)
	}
	var b2 bytes.Buffer
	if err := e.Logs(t.Context(), "polite", true, &b2); err != nil || b2.String() != "again\n" {
		t.Errorf("%q, %v", b2.String(), err)
	}
	if i, err := e.Info(t.Context()); err != nil || len(i.Containers) != 2 || i.Containers[1].Status != keeper.Failed {
		t.Errorf("%+v, %v", i, err)
	}
}

// TestCloseOfASession: who opens an environment and closes it ends what he ran, and
// nothing else.
func TestCloseOfASession(t *testing.T) {
	t.Parallel()
	dir, name := t.TempDir(), mark(t)
	b := newBackend(t, dir, sandbox.None)
	launch(t, keep(t, b, name, keeper.Life{}), sleeper("stays", name))
	e, err := b.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.Start(t.Context(), sleeper("own", name))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if st, err := c.Wait(t.Context()); err != nil || st.OK() {
		t.Errorf("%+v, %v", st, err)
	}
	if running(t, "own-"+name) || !running(t, "stays-"+name) {
		t.Error("the wrong one ended")
	}
	if _, err := e.Start(t.Context(), sleeper("late", name)); err == nil {
		t.Error("a container starts in a closed session")
	}
}

// TestStandardInput carries more than the window, to one that reads late.
func TestStandardInput(t *testing.T) {
	t.Parallel()
	b := newBackend(t, t.TempDir(), sandbox.None)
	e := keep(t, b, "input", keeper.Life{})
	const size = 3 << 20
	var out bytes.Buffer
	c, err := e.Start(t.Context(), sandbox.ContainerSpec{
		Name: "count", Argv: []string{"wc", "-c"}, Env: []string{"PATH=/usr/bin:/bin"}, Stdin: io.LimitReader(zeros{}, size), Stdout: &out,
	})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(t.Context()); err != nil || !st.OK() || strings.TrimSpace(out.String()) != strconv.Itoa(size) {
		t.Errorf("%+v, %v, %q", st, err, out.String())
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestDatagrams keeps them apart.
func TestDatagrams(t *testing.T) {
	t.Parallel()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := newBackend(t, t.TempDir(), sandbox.None) // its network is the host's
	c, err := keep(t, b, "datagrams", keeper.Life{}).Dial(t.Context(), "udp", l.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buffer := make([]byte, 100)
	for _, m := range []string{"one", "two words", strings.Repeat("x", 99)} {
		if _, err := io.WriteString(c, m); err != nil {
			t.Fatal(err)
		}
		n, from, err := l.ReadFrom(buffer)
		if err != nil || string(buffer[:n]) != m {
			t.Fatalf("%q, %v", buffer[:n], err)
		}
		if _, err := l.WriteTo(buffer[:n], from); err != nil {
			t.Fatal(err)
		}
	}
	small := make([]byte, 2)
	for _, want := range []string{"on", "tw"} { // the rest of a datagram is lost, as ever
		if n, err := c.Read(small); err != nil || string(small[:n]) != want {
			t.Errorf("%q, %v", small[:n], err)
		}
	}
	if err := c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(buffer); !os.IsTimeout(err) {
		t.Errorf("%v, want a timeout", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(buffer); err != nil || n != 99 {
		t.Errorf("%d, %v", n, err)
	}
}

// lockedBuffer is a buffer for writers in other goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
