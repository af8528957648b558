package testcontainers_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/docker"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/testcontainers"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox/sandboxtest"
)

func TestMain(m *testing.M) {
	if code, ok := sandboxtest.Main(os.Args, os.Stdin, os.Stdout, os.Stderr); ok {
		syscall.Exit(code)
	}
	os.Exit(m.Run())
}

func TestContract(t *testing.T) {
	host := engine.Find(docker.Docker)
	if err := answers(host); err != nil {
		t.Skipf("no Docker to test with: %v", err)
	}
	if _, err := os.Stat("/bin/busybox"); errors.Is(err, os.ErrNotExist) {
		t.Skip("no busybox to make an image of: install busybox-static")
	}
	helper := filepath.Join(t.TempDir(), "helper")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", helper, "../docker/testdata/helper")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	source := sandboxtest.NewImages(t, exe)
	o := sandboxtest.Options{
		Level: sandbox.Full, Executable: exe, Image: source.Ref, OnlyImages: true,
		Measured: []string{"cpu", "memory", "pids"}, Limited: []string{"memory", "pids"},
	}
	if os.Getenv("ULTRAFAST_LONG") == "" {
		o.Only = []string{"privileges", "close leaves nothing"}
	}
	sandboxtest.Run(t, func(*testing.T) sandbox.Backend {
		return testcontainers.New(docker.Options{Host: host, Helper: helper, Scope: "testcontainers", Images: source})
	}, o)
}

func answers(host string) error {
	c, err := engine.Open(host, "")
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c.Ping(ctx)
}
