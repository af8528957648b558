package engine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"

	"crypto/sha256"
	"encoding/hex"
)

// Find returns where the engine called name, "docker" or "podman", listens: what the
// environment says, the current context of the docker command, or a socket that
// exists at a usual place. Empty means the default of the client.
func Find(name string) string {
	if name == "podman" {
		return findPodman()
	}
	if os.Getenv("DOCKER_HOST") != "" {
		return ""
	}
	if host := contextHost(); host != "" {
		return host
	}
	return firstSocket("/var/run/docker.sock", below("XDG_RUNTIME_DIR", "docker.sock"), home(".docker", "run", "docker.sock"))
}

func findPodman() string {
	if host := os.Getenv("CONTAINER_HOST"); host != "" {
		return host
	}
	const system = "/run/podman/podman.sock"
	if host := firstSocket(below("XDG_RUNTIME_DIR", "podman", "podman.sock"), system); host != "" || runtime.GOOS == "windows" {
		return host
	}
	return "unix://" + system // to be missed there, and not at Docker's
}

// contextHost returns the host of the context that `docker context use` chose.
func contextHost() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		dir = home(".docker")
	}
	name := os.Getenv("DOCKER_CONTEXT")
	if name == "" {
		var config struct{ CurrentContext string }
		if readJSON(filepath.Join(dir, "config.json"), &config) != nil {
			return ""
		}
		name = config.CurrentContext
	}
	if name == "" || name == "default" {
		return ""
	}
	var meta struct {
		Endpoints map[string]struct{ Host string }
	}
	if readJSON(filepath.Join(dir, "contexts", "meta", contextID(name), "meta.json"), &meta) != nil {
		return ""
	}
	return meta.Endpoints["docker"].Host
}

// contextID is the directory of a context: the digest of its name.
func contextID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

func firstSocket(paths ...string) string {
	if runtime.GOOS == "windows" {
		return ""
	}
	for _, p := range paths {
		if st, err := os.Stat(p); p != "" && err == nil && st.Mode()&os.ModeSocket != 0 {
			return "unix://" + p
		}
	}
	return ""
}

func below(variable string, parts ...string) string {
	dir := os.Getenv(variable)
	if dir == "" {
		return ""
	}
	return filepath.Join(append([]string{dir}, parts...)...)
}

func home(parts ...string) string {
	dir, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(append([]string{dir}, parts...)...)
}
