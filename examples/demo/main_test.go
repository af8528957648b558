package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestWorkspace wants a copy that forgets the change and keeps what runs stored.
func TestWorkspace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	work, err := prepare(dir, "..")
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(work.project, "model", "orders.ttl")
	first := read(t, model)
	stored := filepath.Join(work.project, ".ggen", "state")
	stray := filepath.Join(work.project, "model", "stray.ttl")
	if err := os.MkdirAll(filepath.Dir(stored), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{stored, stray} {
		if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := work.change(); err != nil {
		t.Fatal(err)
	}
	if second := read(t, model); !strings.Contains(second, ":Shipment a") || !strings.Contains(second, `"1.1.0"`) {
		t.Error("the change did not reach the model")
	}
	if err := work.change(); err == nil {
		t.Error("the change was applied twice")
	}
	if _, err := prepare(dir, ".."); err != nil {
		t.Fatal(err)
	}
	if read(t, model) != first {
		t.Error("the model is not that of the first version again")
	}
	if read(t, stored) != "x" {
		t.Error("the stored state was changed")
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("a file that is not in the example stayed")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestLoad wants each failed request to be counted, and no other.
func TestLoad(t *testing.T) {
	t.Parallel()
	var served, refused atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1)%10 == 0 {
			refused.Add(1)
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if r.Method == "POST" {
			w.WriteHeader(http.StatusCreated)
		}
		version := ""
		if r.URL.Path == "/version" {
			version = secondVersion
		}
		fmt.Fprintf(w, `{"version": %q}`, version)
	}))
	defer server.Close()
	load := startLoad(t.Context(), server.URL, 1000)
	if err := load.waitFor(t.Context(), secondVersion, 20, 10*time.Second); err != nil {
		t.Error(err)
	}
	report := load.stop()
	if report.sent != int(served.Load()) || report.failed != int(refused.Load()) || report.failed == 0 {
		t.Errorf("report %q, want %d sent and %d failed", report, served.Load(), refused.Load())
	}
	if len(report.failures) == 0 || !strings.Contains(report.firstFailures(), "502") {
		t.Errorf("failures are %q", report.failures)
	}
}

func TestLoadWaitsNoLonger(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	load := startLoad(t.Context(), server.URL, 100)
	defer load.stop()
	if err := load.waitFor(t.Context(), secondVersion, 1, 50*time.Millisecond); err == nil {
		t.Error("a version that never answers was seen")
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	address := server.Listener.Addr().String()
	if refuses(t.Context(), address) == nil {
		t.Error("a listening server was not noticed")
	}
	server.Close()
	if err := refuses(t.Context(), address); err != nil {
		t.Error(err)
	}
}

// TestNoProcess starts the test program itself below a directory.
func TestNoProcess(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		t.Skip("no /proc on this system")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := noProcess(dir, program); err != nil {
		t.Error(err)
	}
	if err := noProcess(filepath.Dir(program), "none"); err == nil {
		t.Error("this process was not noticed")
	}
}
