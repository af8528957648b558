package lock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/lock"
)

// TestMain lets this binary be the other process: it takes the lock named by the
// environment, says so, and holds it until its input ends.
func TestMain(m *testing.M) {
	path := os.Getenv("LOCK_TEST_HOLD")
	if path == "" {
		os.Exit(m.Run())
	}
	held, err := lock.Acquire(context.Background(), path)
	if err == nil {
		err = held.Note("the other process")
	}
	fmt.Println("held", err)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // ends when the test closes it
	os.Exit(0)
}

// hold starts a process that holds the lock, and returns what kills it.
func hold(t *testing.T, path string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LOCK_TEST_HOLD="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "held <nil>\n" {
		t.Fatalf("%q %v", line, err)
	}
	return kill
}

func TestTaken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "lock")
	kill := hold(t, path)
	if _, err := lock.Try(t.Context(), path); !errors.Is(err, lock.ErrTaken) || !strings.Contains(err.Error(), "the other process") {
		t.Errorf("taken lock: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock.Acquire(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait for a taken lock: %v", err)
	}

	got := make(chan error, 1)
	go func() {
		held, err := lock.Acquire(t.Context(), path)
		if err == nil {
			err = held.Release()
		}
		got <- err
	}()
	kill() // a lock ends with its process, however it ends
	if err := <-got; err != nil {
		t.Errorf("after the holder was killed: %v", err)
	}
}

func TestReleaseTwice(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	for range 2 {
		held, err := lock.Try(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(held.Release(), held.Release()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestShared(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := lock.Share(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	second, err := lock.Share(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := lock.TryNow(path); !errors.Is(err, lock.ErrTaken) {
		t.Errorf("alone, while one still shares it: %v", err)
	}
	if err := second.Release(); err != nil {
		t.Fatal(err)
	}
	alone, err := lock.TryNow(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock.Share(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shared with one who has it alone: %v", err)
	}
	if err := alone.Release(); err != nil {
		t.Fatal(err)
	}
}
