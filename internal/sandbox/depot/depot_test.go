package depot_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/depot"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// TestMain lets this binary be another process that is killed while it fills.
func TestMain(m *testing.M) {
	root := os.Getenv("DEPOT_TEST_ROOT")
	if root == "" {
		os.Exit(m.Run())
	}
	_, _, err := depot.Depot{Root: root}.Dir(context.Background(), os.Getenv("DEPOT_TEST_KEY"), func(_ context.Context, dir string) error {
		err := os.WriteFile(filepath.Join(dir, "half"), nil, 0o600)
		fmt.Println("filling", err)
		select {}
	})
	fmt.Println(err)
}

func fill(name string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error { return os.WriteFile(filepath.Join(dir, name), nil, 0o600) }
}

func TestDirIsMadeOnce(t *testing.T) {
	t.Parallel()
	d := depot.Depot{Root: filepath.Join(t.TempDir(), "depot")}
	var made, cold atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			dir, warm, err := d.Dir(t.Context(), "k", func(ctx context.Context, dir string) error {
				made.Add(1)
				return fill("x")(ctx, dir)
			})
			if err != nil {
				t.Error(err)
			}
			if !warm {
				cold.Add(1)
			}
			if _, err := os.Stat(filepath.Join(dir, "x")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if made.Load() != 1 || cold.Load() != 1 {
		t.Errorf("made %d times, %d say it was cold", made.Load(), cold.Load())
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	d := depot.Depot{Root: t.TempDir()}
	oops := errors.New("oops")
	_, _, err := d.Dir(t.Context(), "k", func(ctx context.Context, dir string) error {
		return errors.Join(fill("x")(ctx, dir), oops)
	})
	if !errors.Is(err, oops) {
		t.Errorf("got %v", err)
	}
	dir, warm, err := d.Dir(t.Context(), "k", fill("y"))
	if err != nil || warm {
		t.Fatal(dir, warm, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 || files[0].Name() != "y" {
		t.Errorf("%v, %v", files, err)
	}
	for _, key := range []string{"", "../x", ".x", "a/b"} {
		if _, _, err := d.Dir(t.Context(), key, fill("x")); fault.KindOf(err) != fault.Internal {
			t.Errorf("key %q: %v", key, err)
		}
	}
}

// What a process that was killed had begun is swept by the next that fills, of the same
// key and of another.
func TestKilledWhileFilling(t *testing.T) {
	t.Parallel()
	d := depot.Depot{Root: t.TempDir()}
	for _, key := range []string{"same", "other"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "DEPOT_TEST_ROOT="+d.Root, "DEPOT_TEST_KEY="+key)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "filling <nil>\n" {
			t.Fatalf("%q, %v", line, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed, as it should be
	}
	dir, warm, err := d.Dir(t.Context(), "same", fill("whole"))
	if err != nil || warm {
		t.Fatal(warm, err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 || files[0].Name() != "whole" {
		t.Errorf("%v, %v", files, err)
	}
	if _, err := os.Stat(filepath.Join(d.Root, "other", "work")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a directory is left: %v", err)
	}
}

func TestUnusedGoes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	d := depot.Depot{Root: t.TempDir(), Now: func() time.Time { return now }}
	for _, key := range []string{"old", "used"} {
		if _, _, err := d.Dir(t.Context(), key, fill("x")); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(20 * 24 * time.Hour)
	if _, warm, err := d.Dir(t.Context(), "used", fill("x")); err != nil || !warm {
		t.Fatal(warm, err)
	}
	now = now.Add(20 * 24 * time.Hour)
	if _, _, err := d.Dir(t.Context(), "new", fill("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.Root, "old", "ready")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old one is left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(d.Root, "used", "ready", "x")); err != nil {
		t.Error(err)
	}
}
