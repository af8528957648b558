package docker_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
)

func TestGC(t *testing.T) {
	for _, name := range []string{docker.Docker, docker.Podman} {
		t.Run(name, func(t *testing.T) { onEngine(t, name, gc) })
	}
}

// gc kills creators of environments: all that is theirs goes, and nothing else.
func gc(t *testing.T, r rig) {
	source := images(t)
	scope := fmt.Sprintf("gc-%d", time.Now().UnixNano())
	o := options(t, r, scope)
	o.Images = source
	b := docker.New(o)
	c, err := engine.Open(r.host, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	living, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "living"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := living.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	// Somebody else's, with a name like ours and an end like ours.
	foreign, err := c.CreateContainer(t.Context(), engine.ContainerSpec{
		Name: "ultrafast-foreign-" + scope, Image: "localhost/ultrafast-empty:1", Entrypoint: []string{"/none"}, Network: "none",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.RemoveContainer(context.Background(), foreign); err != nil {
			t.Error(err)
		}
	}()
	kills := 1
	if long() {
		kills = 10
	}
	var want []string
	for i := range kills {
		mark := fmt.Sprintf("%d-%d", time.Now().UnixNano(), i)
		kill(t, exec.Command(self(t), creatorArg, r.name, r.host, o.Helper, scope, source.Ref, source.Dir, mark))
		want = append(want, "killed-"+mark)
	}
	// What a creator leaves that was killed before its first start has an owner that is
	// gone; what may be about to start has not.
	for name, owner := range map[string]string{"early-dead": `{"Boot":"%s","Space":"%s","PID":%d,"Start":"1"}`, "early-other": ""} {
		labels := map[string]string{
			"dev.ultrafast.scope": scope, "dev.ultrafast.environment": name, "dev.ultrafast.role": "network",
			"dev.ultrafast.created": time.Now().UTC().Format(time.RFC3339Nano),
		}
		if owner != "" {
			boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
			if err != nil {
				t.Fatal(err)
			}
			space, err := os.Readlink("/proc/self/ns/pid")
			if err != nil {
				t.Fatal(err)
			}
			labels["dev.ultrafast.owner"] = fmt.Sprintf(owner, strings.TrimSpace(string(boot)), space, os.Getpid())
			want = append(want, name)
		}
		id, err := c.CreateContainer(t.Context(), engine.ContainerSpec{
			Name: "ultrafast-" + scope + "-" + name, Image: "localhost/ultrafast-empty:1", Entrypoint: []string{"/none"}, Network: "none", Labels: labels,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.RemoveContainer(context.Background(), id) }()
	}
	// A volume that outlived its containers.
	err = c.CreateVolume(t.Context(), engine.Volume{Name: "ultrafast-" + scope + "-volume", Labels: map[string]string{
		"dev.ultrafast.scope": scope, "dev.ultrafast.environment": "only-volume", "dev.ultrafast.role": "volume",
		"dev.ultrafast.created": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano),
	}})
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, "only-volume")

	// The engine notices the end of a creator, and ends the container, a little later.
	var removed []string
	for ctx := deadline(t); len(removed) < len(want); {
		if ctx.Err() != nil {
			t.Fatalf("removed %q, want %q", removed, want)
		}
		names, err := b.GC(ctx)
		if err != nil {
			t.Fatal(err)
		}
		removed = append(removed, names...)
	}
	slices.Sort(want)
	slices.Sort(removed)
	if !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q", removed, want)
	}
	left, err := c.Containers(t.Context(), "dev.ultrafast.scope="+scope)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range left {
		if n := one.Labels["dev.ultrafast.environment"]; n != "living" && n != "early-other" {
			t.Errorf("%s is left", n)
		}
	}
	if volumes, err := c.Volumes(t.Context(), "dev.ultrafast.scope="+scope); err != nil || len(volumes) > 0 {
		t.Errorf("volumes are left: %v, %v", volumes, err)
	}
	if _, err := c.Inspect(t.Context(), foreign); err != nil {
		t.Errorf("somebody else's container: %v", err)
	}
	if port, err := living.Port(0); err != nil || port == 0 {
		t.Errorf("the living environment: %v", err)
	}
	if err := b.Delete(t.Context(), "foreign-"+scope); fault.KindOf(err) != fault.Finding {
		t.Errorf("delete of somebody else's: %v", err)
	}
}

// TestKilledRuns kills runs at random moments and collects; with ULTRAFAST_LONG a hundred
// on each engine.
func TestKilledRuns(t *testing.T) {
	runs := 3
	if long() {
		runs = 100
	}
	for _, name := range []string{docker.Docker, docker.Podman} {
		t.Run(name, func(t *testing.T) {
			onEngine(t, name, func(t *testing.T, r rig) {
				source := images(t)
				o := options(t, r, fmt.Sprintf("churn-%d", time.Now().UnixNano()))
				o.Images = source
				t.Cleanup(func() { forget(t, r.host, source.Ref) })
				sandboxtest.KilledRuns(t, sandboxtest.Killed{
					Runs: runs, Backend: docker.New(o), Later: true,
					Leftovers: func(t *testing.T, mark string) []string { return leftovers(t, r.host, mark) },
					Creator: func(t *testing.T, mark string) *exec.Cmd {
						return exec.Command(self(t), churnArg, r.name, r.host, o.Helper, o.Scope, source.Ref, source.Dir, mark)
					},
				})
			})
		})
	}
}

// kill starts a creator and kills it once its payload runs.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatalf("the creator ended by itself: %v", err)
	}
}

func self(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// deadline is a context that fails a test that hangs.
func deadline(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	return ctx
}
