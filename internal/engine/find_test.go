package engine

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestFind(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no sockets to find")
	}
	dir := t.TempDir()
	for _, v := range []string{"DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "CONTAINER_HOST"} {
		t.Setenv(v, "")
	}
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if got := Find("podman"); got != "unix:///run/podman/podman.sock" {
		t.Errorf("podman without a socket: %q", got)
	}
	if err := os.Mkdir(filepath.Join(dir, "podman"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "podman", "podman.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := Find("podman"); got != "unix://"+filepath.Join(dir, "podman", "podman.sock") {
		t.Errorf("podman of the user: %q", got)
	}
	t.Setenv("CONTAINER_HOST", "tcp://one:1")
	if got := Find("podman"); got != "tcp://one:1" {
		t.Errorf("podman of the environment: %q", got)
	}
	// A context as the docker command keeps it: its directory is the digest of its name.
	config := filepath.Join(dir, ".docker")
	meta := filepath.Join(config, "contexts", "meta", contextID("other"))
	if err := os.MkdirAll(meta, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		filepath.Join(config, "config.json"): `{"currentContext":"other"}`,
		filepath.Join(meta, "meta.json"):     `{"Name":"other","Endpoints":{"docker":{"Host":"unix:///other.sock"}}}`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := Find("docker"); got != "unix:///other.sock" {
		t.Errorf("docker of the context: %q", got)
	}
	t.Setenv("DOCKER_CONTEXT", "default")
	if got := Find("docker"); got == "unix:///other.sock" {
		t.Error("the default context is not another one")
	}
	t.Setenv("DOCKER_HOST", "tcp://two:2")
	if got := Find("docker"); got != "" {
		t.Errorf("with DOCKER_HOST: %q, want what the client reads", got)
	}
}
