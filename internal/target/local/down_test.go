//go:build unix

package local_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// left returns the command lines of the processes that were started with an
// argument below dir and have not ended.
func left(t *testing.T, dir string) (found []string) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(procs) == 0 {
		t.Skip("needs /proc")
	}
	for _, p := range procs {
		if b, err := os.ReadFile(p); err == nil && bytes.Contains(b, []byte(dir)) {
			found = append(found, string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// TestDownLeavesNoProcess: when Down returns, router, supervisor and service have
// ended, not only their sockets.
func TestDownLeavesNoProcess(t *testing.T) {
	for range 3 {
		o := options(t, "127.0.0.1:0")
		lt := open(t, o)
		s, err := lt.Acquire(t.Context(), "test")
		if err != nil {
			t.Fatal(err)
		}
		serve(t, s, "v1")
		err = s.Down(t.Context())
		if found := left(t, o.Dir); err != nil || len(found) != 0 {
			t.Errorf("after down, %v: %q", err, found)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestDownWithoutSockets: a cleaner of temporary files removed the sockets; Down
// still finds router and supervisor and ends them.
func TestDownWithoutSockets(t *testing.T) {
	o := options(t, "127.0.0.1:0")
	lt := open(t, o)
	s, err := lt.Acquire(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, s, "v1")
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sockets, err := os.ReadFile(filepath.Join(o.Dir, "sockets"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(string(bytes.TrimSpace(sockets))); err != nil {
		t.Fatal(err)
	}
	if s, err = lt.Acquire(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if t.Failed() && len(left(t, o.Dir)) > 0 {
			kill(t, o.Dir)
		}
	}()
	err = errors.Join(s.Down(t.Context()))
	if found := left(t, o.Dir); err != nil || len(found) != 0 {
		t.Errorf("after down, %v: %q", err, found)
	}
}
