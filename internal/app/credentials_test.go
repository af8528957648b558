package app

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"
)

func TestRegistryCredentials(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"CI_REGISTRY": "registry.example.com:5050", "CI_JOB_TOKEN": "job", "GITHUB_ACTOR": "mona", "GITHUB_TOKEN": "hub",
		"DOCKER_AUTH_CONFIG": `{"auths": {
			"quay.example.com": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("robot:s3:cret")) + `"},
			"https://plain.example.com/": {"username": "who", "password": "what"},
			"broken.example.com": {"auth": "%"}
		}}`,
	}
	cases := []struct {
		registry, user, password string
		without                  string // the variable that is not set
	}{
		{registry: "registry.example.com:5050", user: "gitlab-ci-token", password: "job"},
		{registry: "ghcr.io", user: "mona", password: "hub"},
		{registry: "registry.example.com:5050", without: "CI_JOB_TOKEN"},
		{registry: "ghcr.io", without: "GITHUB_TOKEN"},
		{registry: "registry.example.com"},
		{registry: "evil.ghcr.io"},
		{registry: "", without: "CI_REGISTRY"},
		{registry: "quay.example.com", user: "robot", password: "s3:cret"},
		{registry: "QUAY.example.com", user: "robot", password: "s3:cret"},
		{registry: "plain.example.com", user: "who", password: "what"},
		{registry: "quay.example.com:5000"},
		{registry: "quay.example.com", without: "DOCKER_AUTH_CONFIG"},
		{registry: "broken.example.com"},
	}
	for _, c := range cases {
		lookup := func(name string) (string, bool) {
			if name == c.without {
				return "", false
			}
			v, ok := env[name]
			return v, ok
		}
		user, password, ok := registryCredentials(lookup, slog.New(slog.DiscardHandler))(c.registry)
		if ok != (c.user != "") || ok && (user != c.user || password != c.password) {
			t.Errorf("%q without %q: %q %q %v", c.registry, c.without, user, password, ok)
		}
	}
}

// TestDockerAuthConfig: what cannot be read is said, not shown, and hides no other
// credentials.
func TestDockerAuthConfig(t *testing.T) {
	t.Parallel()
	env := map[string]string{"DOCKER_AUTH_CONFIG": "hunter2", "GITHUB_ACTOR": "mona", "GITHUB_TOKEN": "hub"}
	var log bytes.Buffer
	credentials := registryCredentials(func(name string) (string, bool) { v, ok := env[name]; return v, ok }, slog.New(slog.NewTextHandler(&log, nil)))
	if user, _, ok := credentials("ghcr.io"); !ok || user != "mona" {
		t.Errorf("got %q %v", user, ok)
	}
	if !strings.Contains(log.String(), "DOCKER_AUTH_CONFIG is left out") || strings.Contains(log.String(), "hunter2") {
		t.Errorf("the log is %q", &log)
	}
}
